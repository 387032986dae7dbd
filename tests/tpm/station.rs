//! The real program and its TPM: the commands that put an identity in, and the running station that meets a
//! new one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hub_emulator::dps::{Dps, DpsOptions};
use hub_emulator::{Emulator, Options, Registry};

use crate::layout::{hmac_by_tools, name_by_tools};
use crate::support::station::{self, Station, binary, free_port, wait_for};
use crate::swtpm::Swtpm;
use crate::{KEY_A, KEY_B, hmac, left_out};

fn config(folder: &Path, tcti: &str, hub: &Emulator) -> String {
    station::config(folder, tcti, hub.port(), hub.ca_file())
}

/// Runs a command with this on its standard input.
fn command(folder: &Path, config: &str, arguments: &[&str], input: &str) -> Output {
    let file = folder.join("command.toml");
    std::fs::write(&file, config).unwrap();
    let mut child = binary()
        // What the program itself does about libtss2's chatter.
        .env_remove("TSS2_LOG")
        .arg("--config")
        .arg(&file)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The program may end without reading: then nobody takes the rest.
    let _unread = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn connection_string(host: &str, device: &str, key: &[u8]) -> String {
    format!("HostName={host};DeviceId={device};SharedAccessKey={}\n", STANDARD.encode(key))
}

#[test]
fn provision_by_the_command_line_and_nothing_shows_the_key() {
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let settings = format!("[identity]\ntcti = \"{}\"\nslot = 4\n", tpm.tcti());
    let from_stdin = ["provision", "--connection-string-file", "-"];
    let mut outputs = Vec::new();
    let mut run = |arguments: &[&str], input: &str, status: i32, says: &str| {
        let output = command(folder.path(), &settings, arguments, input);
        let text =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{arguments:?}: {text}");
        assert!(text.contains(says), "{arguments:?}: {text}");
        // libtss2 writes nothing of its own, whatever happens.
        assert!(!text.contains("esys:") && !text.contains("tcti:"), "{arguments:?}: {text}");
        outputs.push(text);
    };
    run(&["token"], "", 1, "the device key in slot 4 is not there: run `weather-station provision`");
    run(&from_stdin, "HostName=h;DeviceId=d\n", 1, "it has no `SharedAccessKey`");
    run(
        &from_stdin,
        "HostName=h;DeviceId=d;SharedAccessKey=!\n",
        1,
        "expected base64, as the portal shows it",
    );
    run(&from_stdin, &connection_string("h", "d", &[b'K'; 65]), 1, "but it is 65 bytes long");
    run(&from_stdin, &connection_string("h", "a b", &KEY_A), 1, "checking the device id \"a b\"");
    run(&from_stdin, &connection_string("hub-a", "roof", &KEY_A), 0, "roof");
    run(&["provision", "--show"], "", 0, "can the key leave no: it is fixed to this TPM");
    run(&from_stdin, &connection_string("hub-b", "roof", &KEY_B), 1, "add --force to replace it for good");
    assert_eq!(hmac_by_tools(&tpm, 4, b"x"), hmac(&KEY_A, b"x"));
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, STANDARD.encode(KEY_B)).unwrap();
    let path = key_file.to_str().unwrap();
    let parts = ["provision", "--host", "hub-b", "--device-id", "cellar", "--key-file", path, "--force"];
    run(&parts, "", 0, "cellar");
    assert_eq!(name_by_tools(&tpm, 4), "hub-b/cellar");
    assert_eq!(hmac_by_tools(&tpm, 4, b"x"), hmac(&KEY_B, b"x"));
    run(&["token"], "", 0, "SharedAccessSignature sr=hub-b%2Fdevices%2Fcellar&sig=");
    run(&["provision", "--clear"], "", 0, "");
    run(&["provision", "--show"], "", 0, "is not there: run `weather-station provision`");
    for secret in [STANDARD.encode(KEY_A), STANDARD.encode(KEY_B), STANDARD.encode([b'K'; 65])] {
        assert!(outputs.iter().all(|text| !text.contains(&secret[..12])), "a key was shown");
    }
}

#[test]
fn the_service_is_asked_from_the_command_line_too_and_never_replaces_what_a_person_put_there() {
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let authority = tempfile::tempdir().unwrap();
    let dps =
        Dps::start(DpsOptions { dir: authority.path().into(), steps: 1, ..DpsOptions::default() }).unwrap();
    dps.link("assigned-hub", Registry::default());
    let settings = format!(
        "[identity]\ntcti = \"{}\"\n[provisioning]\nid_scope = \"{}\"\nendpoint = \"{}\"\n[hub]\nca_file = \"{}\"\n",
        tpm.tcti(),
        dps.id_scope(),
        dps.endpoint(),
        dps.ca_file().display(),
    );
    let run = |arguments: &[&str], input: &str| {
        let output = command(folder.path(), &settings, arguments, input);
        let (out, err) =
            (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        (output.status.code(), out, err)
    };
    let (status, _, error) = run(&["provision", "--dps"], "");
    assert_eq!(status, Some(1));
    assert_eq!(error.matches("it does not know registration").count(), 1, "{error}");
    let (status, shown, _) = run(&["provision", "--show-enrollment"], "");
    assert_eq!(status, Some(0));
    let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
    assert_eq!(value("registration id").len(), 52);
    dps.enroll(value("registration id"), value("endorsement key"), "roof").unwrap();
    let (status, said, error) = run(&["provision", "--dps"], "");
    assert_eq!((status, said.as_str()), (Some(0), "slot 0 of the TPM is roof at assigned-hub\n"), "{error}");
    let (_, shown, _) = run(&["provision", "--show"], "");
    assert!(shown.contains("provisioned       by the provisioning service"), "{shown}");
    let by_hand = ["provision", "--connection-string-file", "-", "--force"];
    assert_eq!(run(&by_hand, &connection_string("hub", "cellar", &KEY_A)).0, Some(0));
    let (status, _, error) = run(&["provision", "--dps"], "");
    assert_eq!(status, Some(1));
    assert!(error.contains("put there by hand, which the service never replaces"), "{error}");
    assert_eq!(name_by_tools(&tpm, 0), "hub/cellar");
}

/// Recorded while the hub was away, sent under the identity that the station has when it comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_station_takes_a_new_identity_up_and_sends_what_waits_under_it() {
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device_with_keys("roof", &STANDARD.encode(KEY_A), None).unwrap();
    hub.add_device_with_keys("cellar", &STANDARD.encode(KEY_B), None).unwrap();
    let settings = config(folder.path(), &tpm.tcti(), &hub);
    let provision = |device: &str, key: &[u8]| {
        let text = connection_string("localhost", device, key);
        let arguments = ["provision", "--connection-string-file", "-", "--force"];
        assert!(command(folder.path(), &settings, &arguments, &text).status.success());
    };
    provision("roof", &KEY_A);
    let mut station = Station::start(folder.path(), &settings);
    let some = |device: &'static str, n: u64| {
        let hub = &hub;
        wait_for("readings at the hub", Duration::from_secs(60), move || async move {
            (hub.count_of(device) >= n).then_some(())
        })
    };
    some("roof", 2).await;
    hub.stop();
    station
        .until("readings to wait", Duration::from_secs(60), |s| s["store"]["pending"].as_u64() >= Some(3))
        .await;
    provision("cellar", &KEY_B);
    hub.start_again().unwrap();
    some("cellar", 3).await;
    let status = station
        .until("the new identity to show", Duration::from_secs(20), |s| s["identity"]["deviceId"] == "cellar")
        .await;
    assert_eq!(status["identity"]["host"], "localhost");
    station.terminate();
    assert!(station.wait(Duration::from_secs(20)).await.success());
    // Nothing is missing between the two, and each body names the device that sent it.
    let mut sequences = Vec::new();
    for device in ["roof", "cellar"] {
        for message in hub.messages_of(device) {
            let body = message.json();
            assert_eq!(body["deviceId"], device);
            sequences.push(body["sequence"].as_u64().unwrap());
        }
    }
    sequences.dedup();
    assert_eq!(sequences, (1..=sequences.len() as u64).collect::<Vec<_>>());
    for secret in [&KEY_A[..], &KEY_B] {
        assert!(!station.log_text().contains(&STANDARD.encode(secret)[..12]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_without_its_tpm_records_and_goes_online_when_it_is_back() {
    let (mut tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device_with_keys("roof", &STANDARD.encode(KEY_A), None).unwrap();
    let settings = config(folder.path(), &tpm.tcti(), &hub);
    let text = connection_string("localhost", "roof", &KEY_A);
    let arguments = ["provision", "--connection-string-file", "-"];
    assert!(command(folder.path(), &settings, &arguments, &text).status.success());
    tpm.stop();
    let mut station = Station::start(folder.path(), &settings);
    let status = station
        .until("readings to wait", Duration::from_secs(60), |s| s["store"]["pending"].as_u64() >= Some(2))
        .await;
    let reason = status["identity"]["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no swtpm answers at 127.0.0.1 port"), "{status}");
    tpm.start();
    wait_for("readings at the hub", Duration::from_secs(60), || async {
        (hub.count_of("roof") >= 3).then_some(())
    })
    .await;
    // And away again, and back, while the connection stands: nothing is lost, nothing breaks.
    tpm.stop();
    let before = hub.count_of("roof");
    wait_for("more readings while the token holds", Duration::from_secs(30), || async {
        (hub.count_of("roof") >= before + 2).then_some(())
    })
    .await;
    station.terminate();
    assert!(station.wait(Duration::from_secs(20)).await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_waits_for_the_provisioning_service_says_what_it_waits_for() {
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let hub = Emulator::start(Options::default()).unwrap();
    let endpoint = format!("127.0.0.1:{}", free_port());
    let settings = config(folder.path(), &tpm.tcti(), &hub)
        + &format!("[provisioning]\nid_scope = \"0ne00000000\"\nendpoint = \"{endpoint}\"\n");
    let station = Station::start(folder.path(), &settings);
    let status = station
        .until("the reason to show", Duration::from_secs(30), |status| status["cloud"]["reason"].is_string())
        .await;
    // The first visit has not ended: it asks again for minutes.
    assert_eq!(status["cloud"]["state"], "connecting", "{status}");
    let reason = status["cloud"]["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("asking the provisioning service {endpoint}: ")), "{reason}");
    assert!(reason.ends_with("; it is asked again"), "{reason}");
    assert_eq!(status["identity"]["source"], "tpm");
    let reason = status["identity"]["reason"].as_str().unwrap();
    assert!(reason.contains("the device key in slot 0 is not there"), "{reason}");
}

#[test]
fn provision_by_the_service_says_at_once_what_it_waits_for() {
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let endpoint = format!("127.0.0.1:{}", free_port());
    let config = folder.path().join("station.toml");
    let text = format!(
        "[identity]\ntcti = \"{}\"\n[provisioning]\nid_scope = \"0ne00000000\"\nendpoint = \"{endpoint}\"\n",
        tpm.tcti()
    );
    std::fs::write(&config, text).unwrap();
    let mut child = binary()
        .arg("--config")
        .arg(&config)
        .args(["provision", "--dps"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It goes on for minutes.
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        said.starts_with(&format!("weather-station: asking the provisioning service {endpoint}: ")),
        "{said}"
    );
    assert!(
        said.contains("no connection: ") && said.ends_with("; it is asked again, Ctrl-C ends it\n"),
        "{said}"
    );
}

/// A hub that knows `roof` by [`KEY_A`], and the configuration of a station that is to send to it.
fn hub_and_settings(folder: &Path, tpm: &Swtpm) -> (Emulator, String) {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device_with_keys("roof", &STANDARD.encode(KEY_A), None).unwrap();
    let settings = config(folder, &tpm.tcti(), &hub);
    (hub, settings)
}

/// The README promises it. It takes what it says: the station looks each 15 s. At another pace it is a test of faults.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_the_hub_refused_is_online_within_a_minute_of_the_right_key() {
    if left_out("a refused station and the right key, at the field's own pace (20 s)") {
        return;
    }
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let (_hub, settings) = hub_and_settings(folder.path(), &tpm);
    let provision = |key: &[u8]| {
        let text = connection_string("localhost", "roof", key);
        let arguments = ["provision", "--connection-string-file", "-", "--force"];
        assert!(command(folder.path(), &settings, &arguments, &text).status.success());
    };
    provision(&KEY_B);
    let station = Station::start(folder.path(), &settings);
    // After the second refusal it waits for up to a minute, after the next ones for up to five.
    station
        .until("it waits for a human", Duration::from_secs(30), |status| {
            status["cloud"]["reason"].as_str().is_some_and(|reason| reason.contains("or provision it again"))
        })
        .await;
    provision(&KEY_A);
    station
        .until("it is online", Duration::from_secs(60), |status| status["cloud"]["state"] == "online")
        .await;
}

/// The README promises it, too: the station looks each minute, and again 15 s later where it finds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_station_whose_identity_was_taken_away_says_so_and_sends_no_more() {
    if left_out("a running station and `provision --clear`, at the field's own pace (80 s)") {
        return;
    }
    let (tpm, folder) = (Swtpm::new(), tempfile::tempdir().unwrap());
    let (hub, settings) = hub_and_settings(folder.path(), &tpm);
    let text = connection_string("localhost", "roof", &KEY_A);
    let arguments = ["provision", "--connection-string-file", "-"];
    assert!(command(folder.path(), &settings, &arguments, &text).status.success());
    let station = Station::start(folder.path(), &settings);
    station
        .until("it is online", Duration::from_secs(30), |status| status["cloud"]["state"] == "online")
        .await;
    assert!(command(folder.path(), &settings, &["provision", "--clear"], "").status.success());
    let says = "the device key in slot 0 is not there: run `weather-station provision`";
    let says_so = |reason: &serde_json::Value| reason.as_str().is_some_and(|reason| reason.contains(says));
    let status = station
        .until("it says so", Duration::from_secs(90), |status| says_so(&status["identity"]["reason"]))
        .await;
    assert!(status["cloud"]["state"] != "online" && says_so(&status["cloud"]["reason"]), "{status}");
    assert!(station.log_text().contains(says), "{}", station.log_text());
    let sent = hub.count_of("roof");
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(hub.count_of("roof"), sent);
}
