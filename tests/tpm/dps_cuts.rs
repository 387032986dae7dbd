//! A visit to the provisioning service is killed after every TPM command that could spoil something, and a
//! provisioning by hand that was cut is left alone by the service.

use std::path::Path;

use hub_emulator::Registry;
use hub_emulator::dps::{Dps, DpsOptions};
use weather_station::identity::dps::{Enrollment, enrollment};
use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{Signer, provision};

use crate::cuts::{exists, run_child_and_cut, staged};
use crate::dps::service;
use crate::layout::{hmac_by_tools, name_by_tools};
use crate::swtpm::Swtpm;
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, hmac, is_slow, request};

const TCTI: &str = "WEATHER_STATION_TEST_REGISTER_THROUGH";
const ENDPOINT: &str = "WEATHER_STATION_TEST_ENDPOINT";
const CA_FILE: &str = "WEATHER_STATION_TEST_CA_FILE";
/// The commands before the last so many only read, load and sign: they are cut here and there.
const INSTALLING: usize = 53;

/// The process that is killed. Without the variables it is an ordinary test that has nothing to do.
#[tokio::test]
async fn child_that_registers() {
    let variable = |name: &str| std::env::var(name).ok();
    let (Some(tcti), Some(endpoint), Some(ca)) = (variable(TCTI), variable(ENDPOINT), variable(CA_FILE))
    else {
        return;
    };
    service(&tcti, &endpoint, Path::new(&ca)).provision().await.unwrap();
}

struct Scene {
    dps: Dps,
    first: Registry,
    second: Registry,
    /// Off, with its keys in it, and assigned to the first hub if that is wanted.
    start: Swtpm,
    _folder: tempfile::TempDir,
}

impl Scene {
    async fn new(assigned: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options =
            DpsOptions { dir: folder.path().into(), steps: 0, retry_after: 0, ..DpsOptions::default() };
        let dps = Dps::start(options).unwrap();
        let (first, second) = (Registry::default(), Registry::default());
        dps.link("first-hub", first.clone());
        let mut start = Swtpm::new();
        let visit = service(&start.tcti(), &dps.endpoint(), dps.ca_file());
        let Enrollment { registration_id, endorsement_key } =
            enrollment(&visit.identity, &visit.provisioning).unwrap();
        dps.enroll(&registration_id, &endorsement_key, "station-7").unwrap();
        if assigned {
            visit.provision().await.unwrap();
        }
        dps.link("second-hub", second.clone());
        start.stop();
        Self { dps, first, second, start, _folder: folder }
    }

    fn register_and_cut(&self, tap: &TpmTap, commands: usize) -> bool {
        let ca = self.dps.ca_file().to_str().unwrap();
        let variables = [(TCTI, &*tap.tcti()), (ENDPOINT, &*self.dps.endpoint()), (CA_FILE, ca)];
        run_child_and_cut(tap, commands, "dps_cuts::child_that_registers", &variables)
    }
}

#[tokio::test]
async fn a_first_visit_can_be_cut_anywhere() {
    cut_everywhere(false).await;
}

#[tokio::test]
async fn a_reassignment_can_be_cut_anywhere() {
    cut_everywhere(true).await;
}

async fn cut_everywhere(assigned: bool) {
    let scene = Scene::new(assigned).await;
    let old = scene.first.get("station-7").map(|device| hmac(&device.primary, b"x"));
    assert_eq!(old.is_some(), assigned);
    let tap = TpmTap::new(&Swtpm::new());
    let tpm = Swtpm::copy_of(&scene.start);
    tap.reset(&tpm);
    assert!(scene.register_and_cut(&tap, usize::MAX));
    let all = tap.commands().len();
    assert!(all > INSTALLING, "only {all} commands: the tap does not count");
    // Everywhere with WEATHER_STATION_SLOW=1. A reassignment goes through every step of a first visit.
    let step = match (is_slow(), assigned) {
        (true, _) => 1,
        (false, true) => 5,
        (false, false) => 7,
    };
    for commands in (0..all - INSTALLING).step_by(9).chain((all - INSTALLING..all).step_by(step)) {
        let mut tpm = Swtpm::copy_of(&scene.start);
        tap.reset(&tpm);
        assert!(!scene.register_and_cut(&tap, commands), "it ended before the cut");
        if commands % 2 == 0 {
            tpm.stop();
            tpm.start();
        }
        let what = format!("cut after {commands} of {all}");
        let new = scene.second.get("station-7").map(|device| hmac(&device.primary, b"x"));
        check(&tpm, old, new, &what);
        let visit = service(&tpm.tcti(), &scene.dps.endpoint(), scene.dps.ca_file());
        visit.provision().await.unwrap_or_else(|error| panic!("{what}, again: {error}"));
        let new = scene.second.get("station-7").unwrap().primary;
        assert_eq!(name_by_tools(&tpm, 0), "second-hub/station-7", "{what}");
        assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&new, b"x"), "{what}");
        assert_eq!(staged(&tpm), None, "{what}: a leftover");
        let shown = provision::show(&tpm.tcti(), 0).unwrap();
        assert_eq!(shown.provisioned, Some("by the provisioning service"), "{what}");
    }
}

/// `old` and `new` are what the two keys answer.
fn check(tpm: &Swtpm, old: Option<[u8; 32]>, new: Option<[u8; 32]>, what: &str) {
    let key = exists(tpm, "handles-persistent", "0x81000100").then(|| hmac_by_tools(tpm, 0, b"x"));
    let holds =
        |answer: Option<[u8; 32]>| answer.is_some() && key.as_deref() == answer.as_ref().map(|a| &a[..]);
    if old.is_some() {
        let new_is_in = holds(new) || new.is_some() && staged(tpm).as_deref() == new.as_ref().map(|a| &a[..]);
        assert!(holds(old) || new_is_in, "{what}: the old key is gone, and the new one is not in");
    }
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    match signer.identity() {
        Ok(identity) if identity.host == "first-hub" => {
            assert!(holds(old), "{what}: the old name, another key")
        }
        Ok(identity) => {
            assert_eq!(identity.host, "second-hub", "{what}");
            assert!(holds(new), "{what}: the new name, another key");
        }
        Err(error) => {
            assert!(error.to_string().contains("run `weather-station provision`"), "{what}: {error}")
        }
    }
}

#[tokio::test]
async fn a_provisioning_by_hand_that_was_cut_is_not_touched_by_the_service() {
    let scene = Scene::new(false).await;
    let tap = TpmTap::new(&Swtpm::new());
    let by_hand = request("hand-hub", "hand", &KEY_A);
    let mut refusals = 0;
    // Every second cut with WEATHER_STATION_SLOW=1.
    for commands in (0..).step_by(if is_slow() { 2 } else { 4 }) {
        let mut tpm = Swtpm::copy_of(&scene.start);
        tap.reset(&tpm);
        tap.cut_after(commands, || ());
        let finished = provision::provision(&tap.tcti(), 0, &by_hand, false).is_ok();
        tpm.stop();
        tpm.start();
        let began = staged(&tpm).is_some() || exists(&tpm, "handles-persistent", "0x81000100");
        let visit = service(&tpm.tcti(), &scene.dps.endpoint(), scene.dps.ca_file());
        match visit.provision().await {
            Ok(_) => assert!(!began, "cut after {commands}: the service took the slot of a person"),
            Err(error) => {
                let text = error.to_string();
                assert!(began && text.contains("by hand"), "cut after {commands}: {text}");
                refusals += 1;
                provision::provision(&tpm.tcti(), 0, &by_hand, false).unwrap();
                assert_eq!(name_by_tools(&tpm, 0), "hand-hub/hand");
            }
        }
        if finished {
            break;
        }
    }
    assert!(refusals > 5, "{refusals}");
}
