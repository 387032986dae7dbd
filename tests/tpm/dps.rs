//! The provisioning service, both sides: the station's code with a real TPM against the emulator's own
//! cryptography over real TLS.

use std::sync::Arc;
use std::time::Duration;

use hub_emulator::Registry;
use hub_emulator::dps::{Dps, DpsFault, DpsOptions};
use tokio::sync::watch;
use weather_station::clock::{SystemClock, Timekeeper};
use weather_station::cloud::tls::Tls;
use weather_station::cloud::{self, visit_provisioning_service};
use weather_station::config;
use weather_station::identity::dps::{Enrollment, Limits, Service, enrollment};
use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{Identity, Signer, provision};

use crate::apart;
use crate::layout::{hmac_by_tools, name_by_tools};
use crate::support::station::binary;
use crate::swtpm::Swtpm;
use crate::{KEY_A, hmac, request};

/// A TPM, a service, and the registry of the hub that it assigns to.
pub struct Scene {
    pub tpm: Swtpm,
    pub dps: Dps,
    hub: Registry,
    _folder: tempfile::TempDir,
}

impl Scene {
    pub fn new(tpm: Swtpm) -> Self {
        Self::with(tpm, DpsOptions { steps: 1, retry_after: 0, ..DpsOptions::default() })
    }

    fn with(tpm: Swtpm, options: DpsOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let dps = Dps::start(DpsOptions { dir: folder.path().into(), ..options }).unwrap();
        let hub = Registry::default();
        dps.link("first-hub", hub.clone());
        Self { tpm, dps, hub, _folder: folder }
    }

    /// Enrolled as a person does it: with what `--show-enrollment` prints.
    pub fn enrolled(self) -> Self {
        let Enrollment { registration_id, endorsement_key } = self.enrollment();
        self.dps.enroll(&registration_id, &endorsement_key, "station-7").unwrap();
        self
    }

    fn enrollment(&self) -> Enrollment {
        let service = service(&self.tpm.tcti(), &self.dps.endpoint(), self.dps.ca_file());
        enrollment(&service.identity, &service.provisioning).unwrap()
    }

    async fn provision(&self) -> Result<Identity, String> {
        let service = service(&self.tpm.tcti(), &self.dps.endpoint(), self.dps.ca_file());
        service.provision().await.map_err(|error| error.to_string())
    }

    /// The hub that the service assigned knows the key that is in the TPM now, seen with tpm2-tools.
    fn assert_at(&self, host: &str, hub: &Registry) {
        assert_eq!(name_by_tools(&self.tpm, 0), format!("{host}/station-7"));
        let key = hub.get("station-7").expect("the device is known").primary;
        assert_eq!(hmac_by_tools(&self.tpm, 0, b"x"), hmac(&key, b"x"));
        let mut signer = TpmSigner::new(&self.tpm.tcti(), 0);
        assert_eq!(signer.identity().unwrap().host, host);
        assert_eq!(signer.sign(b"x").unwrap(), hmac(&key, b"x"));
    }

    fn assert_empty(&self) {
        let shown = provision::show(&self.tpm.tcti(), 0).unwrap();
        assert_eq!((shown.identity, shown.key), (None, None));
    }
}

pub fn service(tcti: &str, endpoint: &str, ca_file: &std::path::Path) -> Service {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
    let identity = config::Identity { tcti: tcti.into(), ..config::Identity::default() };
    let provisioning = config::Provisioning {
        id_scope: DpsOptions::default().id_scope,
        endpoint: endpoint.into(),
        ..config::Provisioning::default()
    };
    let tls = Tls::load(Some(ca_file), timekeeper.clone()).unwrap();
    let limits = Limits {
        request: Duration::from_secs(5),
        visit: Duration::from_secs(60),
        pause: Duration::from_millis(10),
        failures: 3,
    };
    Service { identity, provisioning, tls, timekeeper, limits, trouble: watch::Sender::default() }
}

#[tokio::test]
async fn an_empty_tpm_is_assigned_a_hub_and_keeps_the_hubs_key() {
    for second_key in [true, false] {
        let options = DpsOptions { second_key, steps: 3, retry_after: 0, ..DpsOptions::default() };
        let scene = Scene::with(Swtpm::new(), options).enrolled();
        let identity = scene.provision().await.unwrap();
        assert_eq!(identity, Identity { host: "first-hub".into(), device_id: "station-7".into() });
        scene.assert_at("first-hub", &scene.hub);
        let kinds: Vec<_> = scene.dps.seen().iter().map(|seen| (seen.kind, seen.status)).collect();
        assert_eq!(
            kinds,
            [
                ("register", 401),
                ("register-signed", 202),
                ("operation", 202),
                ("operation", 202),
                ("operation", 202),
                ("operation", 200)
            ]
        );
        let shown = provision::show(&scene.tpm.tcti(), 0).unwrap();
        assert_eq!(shown.provisioned, Some("by the provisioning service"));
        assert!(shown.endorsement_key.is_some());
    }
}

#[tokio::test]
async fn keys_that_are_in_the_tpm_are_used_and_never_made_anew() {
    let tpm = Swtpm::new();
    let folder = tempfile::tempdir().unwrap();
    // By another tool, the endorsement key with the same template, the SRK with another one.
    tpm.tool_ok(folder.path(), "tpm2_createek", &["-Q", "-G", "rsa", "-c", "0x81010001", "-u", "ek"]);
    tpm.tool_ok(
        folder.path(),
        "tpm2_createprimary",
        &["-Q", "-C", "o", "-G", "rsa2048:aes128cfb", "-c", "srk"],
    );
    tpm.tool_ok(folder.path(), "tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "srk", "0x81000001"]);
    tpm.tool_ok(folder.path(), "tpm2_flushcontext", &["-t"]);
    let scene = Scene::new(tpm);
    let before = provision::show(&scene.tpm.tcti(), 0).unwrap();
    let shown = scene.enrollment();
    // tpm2_createek wrote the same TPM2B_PUBLIC; the registration id is what sha256sum and base32 make of it.
    use base64::Engine as _;
    let ek = std::fs::read(folder.path().join("ek")).unwrap();
    assert_eq!(base64::engine::general_purpose::STANDARD.decode(&shown.endorsement_key).unwrap(), ek);
    let by_shell = apart::command("sh")
        .args(["-c", "openssl dgst -sha256 -binary ek | base32 | tr -d '=\\n' | tr A-Z a-z"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(shown.registration_id.as_bytes(), by_shell.stdout);
    scene.dps.enroll(&shown.registration_id, &shown.endorsement_key, "station-7").unwrap();
    scene.provision().await.unwrap();
    scene.assert_at("first-hub", &scene.hub);
    let after = provision::show(&scene.tpm.tcti(), 0).unwrap();
    assert_eq!(after.storage_root_key, before.storage_root_key);
    assert_eq!(after.endorsement_key, before.endorsement_key);
}

#[tokio::test]
async fn reassignment_moves_to_the_other_hub_with_another_key() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    scene.provision().await.unwrap();
    let second = Registry::default();
    scene.dps.link("second-hub", second.clone());
    scene.provision().await.unwrap();
    scene.assert_at("second-hub", &second);
    assert!(scene.hub.get("station-7").is_none());
    let handles = scene.tpm.tool_ok(scene.tpm.state(), "tpm2_getcap", &["handles-persistent"]);
    assert_eq!(String::from_utf8(handles).unwrap().lines().count(), 3, "SRK, EK and one key");
}

#[tokio::test]
async fn a_busy_broken_slow_or_dropping_service_is_asked_again() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    for fault in [DpsFault::Throttle { after: 0 }, DpsFault::ServerError, DpsFault::Drop] {
        for times in [1, 2] {
            scene.dps.fault(fault, times);
            scene.provision().await.unwrap();
        }
        scene.dps.fault(fault, 3);
        let text = scene.provision().await.unwrap_err();
        assert!(text.starts_with("asking the provisioning service localhost:"), "{text}");
        assert!(text.contains("is provisioning.endpoint right, and does a firewall let port"), "{text}");
        // It may have been a person who asked: only the daemon adds that it tries again.
        assert!(!text.contains("by itself"), "{text}");
        scene.assert_at("first-hub", &scene.hub);
    }
    // Slower than the limit of a request, then slower than that of the visit.
    let mut service = service(&scene.tpm.tcti(), &scene.dps.endpoint(), scene.dps.ca_file());
    service.limits.request = Duration::from_millis(300);
    scene.dps.fault(DpsFault::Slow { milliseconds: 1_000 }, 1);
    service.provision().await.unwrap();
    scene.dps.fault(DpsFault::Slow { milliseconds: 1_000 }, 3);
    let text = service.provision().await.unwrap_err().to_string();
    assert!(text.contains("no answer within 0.3 s"), "{text}");
    service.limits =
        Limits { request: Duration::from_secs(5), visit: Duration::from_millis(300), ..service.limits };
    scene.dps.fault(DpsFault::Slow { milliseconds: 5_000 }, 1);
    let text = service.provision().await.unwrap_err().to_string();
    assert!(text.contains("it came to no end within") && !text.contains("by itself"), "{text}");
}

#[tokio::test]
async fn retry_after_is_kept() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    scene.dps.fault(DpsFault::Throttle { after: 1 }, 2);
    let begin = tokio::time::Instant::now();
    scene.provision().await.unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
}

#[tokio::test]
async fn retry_after_outlives_the_visit() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let mut service = service(&scene.tpm.tcti(), &scene.dps.endpoint(), scene.dps.ca_file());
    let about_ten_seconds = Duration::from_secs(5)..=Duration::from_secs(10);
    service.limits.failures = 1;
    scene.dps.fault(DpsFault::Throttle { after: 10 }, 1);
    let error = visit_provisioning_service(&service, &cloud::Limits::default()).await.unwrap_err();
    assert!(error.retry_after().is_some_and(|wait| about_ten_seconds.contains(&wait)), "{error}");
    // The visit's time ends while it waits.
    service.limits = Limits { failures: 3, visit: Duration::from_secs(1), ..service.limits };
    scene.dps.fault(DpsFault::Throttle { after: 10 }, 1);
    let error = visit_provisioning_service(&service, &cloud::Limits::default()).await.unwrap_err();
    assert!(error.retry_after().is_some_and(|wait| about_ten_seconds.contains(&wait)), "{error}");
    // What was waited for is over.
    service.limits = Limits { failures: 1, visit: Duration::from_secs(60), ..service.limits };
    scene.dps.fault(DpsFault::Drop, 1);
    let error = visit_provisioning_service(&service, &cloud::Limits::default()).await.unwrap_err();
    assert_eq!(error.retry_after(), None, "{error}");
}

#[tokio::test]
async fn a_service_that_says_retry_after_0_is_not_asked_without_a_pause() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let mut service = service(&scene.tpm.tcti(), &scene.dps.endpoint(), scene.dps.ca_file());
    service.limits.pause = Duration::from_secs(1);
    scene.dps.fault(DpsFault::Throttle { after: 0 }, 1);
    let begin = tokio::time::Instant::now();
    service.provision().await.unwrap();
    // Once throttled, twice told to come back for the assignment.
    assert!(begin.elapsed() >= Duration::from_secs(3), "{:?}", begin.elapsed());
}

#[test]
fn the_program_asks_through_the_proxy_of_its_environment() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let proxy = hub_emulator::Proxy::start(hub_emulator::ProxyOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("station.toml");
    let endpoint = scene.dps.endpoint();
    let text = format!(
        "[identity]\ntcti = \"{}\"\n[provisioning]\nid_scope = \"{}\"\nendpoint = \"{endpoint}\"\n[hub]\nca_file = \"{}\"\n",
        scene.tpm.tcti(),
        scene.dps.id_scope(),
        scene.dps.ca_file().display()
    );
    std::fs::write(&config, text).unwrap();
    let output = binary()
        .env("https_proxy", format!("http://127.0.0.1:{}", proxy.port()))
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .arg("--config")
        .arg(&config)
        .args(["provision", "--dps"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(proxy.requests().contains(&format!("CONNECT {endpoint} 200")), "{:?}", proxy.requests());
    scene.assert_at("first-hub", &scene.hub);
}

#[tokio::test]
async fn unknown_disabled_wrong_key_and_no_hub_are_named_and_change_nothing() {
    let scene = Scene::new(Swtpm::new());
    let Enrollment { registration_id, endorsement_key } = scene.enrollment();
    let says = |text: String, parts: &[&str]| {
        for part in parts {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        scene.assert_empty();
    };
    says(
        scene.provision().await.unwrap_err(),
        &["it does not know registration", &registration_id, "weather-station provision --show-enrollment"],
    );
    // Another TPM's key under this id.
    let other = Scene::new(Swtpm::new()).enrollment();
    assert_ne!(other, scene.enrollment());
    scene.dps.enroll(&registration_id, &other.endorsement_key, "station-7").unwrap();
    says(
        scene.provision().await.unwrap_err(),
        &["it does not know registration", "401002", "endorsement key"],
    );
    scene.dps.enroll(&registration_id, &endorsement_key, "station-7").unwrap();
    scene.dps.set_enabled(&registration_id, false);
    says(scene.provision().await.unwrap_err(), &["is disabled", "enable it in the portal"]);
    scene.dps.set_enabled(&registration_id, true);
    assert!(scene.provision().await.is_ok());
    scene.dps.remove(&registration_id);
    let text = scene.provision().await.unwrap_err();
    assert!(text.contains("it does not know registration"), "{text}");
    scene.assert_at("first-hub", &scene.hub);

    let folder = tempfile::tempdir().unwrap();
    let dps = Dps::start(DpsOptions { dir: folder.path().into(), retry_after: 0, ..DpsOptions::default() })
        .unwrap();
    dps.enroll(&registration_id, &endorsement_key, "station-7").unwrap();
    let service = service(&scene.tpm.tcti(), &dps.endpoint(), dps.ca_file());
    let text = service.provision().await.unwrap_err().to_string();
    assert!(text.contains("it failed: 400208 no hub is linked; look at the enrollment"), "{text}");
}

#[tokio::test]
async fn a_damaged_blob_leaves_the_old_identity_in_force() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    scene.dps.fault(DpsFault::ForAnotherTpm, 1);
    let text = scene.provision().await.unwrap_err();
    assert!(text.contains("activating the key that the provisioning service made for this TPM"), "{text}");
    scene.assert_empty();
    scene.provision().await.unwrap();
    let known = scene.hub.get("station-7").unwrap();
    // Sizes, credential, its secret, duplicate, its seed, public area; not the unused end.
    for byte in [0, 1, 10, 40, 54, 60, 200, 312, 320, 340, 400, 456, 470, 600, 714, 716, 730, 790] {
        scene.dps.fault(DpsFault::CorruptBlob { byte }, 1);
        let text = scene.provision().await.unwrap_err();
        assert!(text.contains("activating the key"), "byte {byte}: {text}");
        assert_eq!(name_by_tools(&scene.tpm, 0), "first-hub/station-7");
        assert_eq!(hmac_by_tools(&scene.tpm, 0, b"x"), hmac(&known.primary, b"x"), "byte {byte}");
    }
    // Nothing was left in the TPM's memory, or it would be full by now.
    scene.provision().await.unwrap();
    scene.assert_at("first-hub", &scene.hub);
}

#[tokio::test]
async fn a_slot_that_was_filled_by_hand_is_never_touched() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    provision::provision(&scene.tpm.tcti(), 0, &request("hand-hub", "hand", &KEY_A), false).unwrap();
    let text = scene.provision().await.unwrap_err();
    assert_eq!(
        text,
        "provisioning slot 0 of the TPM by the provisioning service: the slot holds the identity of device \
         \"hand\" at hand-hub, put there by hand, which the service never replaces; run `weather-station \
         provision --clear` first if it may go, or choose another identity.slot"
    );
    assert_eq!(scene.dps.seen(), [], "nothing was sent");
    assert_eq!(hmac_by_tools(&scene.tpm, 0, b"x"), hmac(&KEY_A, b"x"));
    // Cleared, it is the service's; then by hand again, and the mark is gone.
    provision::clear(&scene.tpm.tcti(), 0).unwrap();
    scene.provision().await.unwrap();
    let by_hand = request("hand-hub", "hand", &KEY_A);
    assert!(provision::provision(&scene.tpm.tcti(), 0, &by_hand, false).is_err());
    provision::provision(&scene.tpm.tcti(), 0, &by_hand, true).unwrap();
    assert_eq!(provision::show(&scene.tpm.tcti(), 0).unwrap().provisioned, Some("by hand"));
    assert!(scene.provision().await.unwrap_err().contains("put there by hand"));
}

#[tokio::test]
async fn a_service_with_another_certificate_is_not_trusted() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let stranger = tempfile::tempdir().unwrap();
    let other = Dps::start(DpsOptions { dir: stranger.path().into(), ..DpsOptions::default() }).unwrap();
    let service = service(&scene.tpm.tcti(), &scene.dps.endpoint(), other.ca_file());
    let text = service.provision().await.unwrap_err().to_string();
    assert!(text.contains("no connection: invalid peer certificate"), "{text}");
    assert_eq!(scene.dps.seen(), []);
}
