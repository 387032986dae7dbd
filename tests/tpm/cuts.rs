//! Provisioning is killed after every single TPM command, and must leave nothing wrong behind.
//!
//! A real process (this test program, started anew) provisions through a tap. After the n-th command the
//! answer is withheld and the process killed with SIGKILL, for every n; every other time the TPM loses
//! power as well. Then it is looked at, and the same provisioning is run again.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{Signer, provision};

use crate::apart;
use crate::layout::{hmac_by_tools, name_by_tools};
use crate::swtpm::{Swtpm, wait_until};
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, KEY_B, hmac, is_slow, request};

const CHILD: &str = "WEATHER_STATION_TEST_PROVISION_THROUGH";

/// The process that is killed. Without the variable it is an ordinary test that has nothing to do.
#[test]
fn child_that_provisions() {
    let Ok(tcti) = std::env::var(CHILD) else { return };
    provision::provision(&tcti, 0, &request("new-hub", "new-station", &KEY_B), true).unwrap();
}

#[test]
fn a_first_provision_can_be_cut_anywhere() {
    let mut blank = Swtpm::new();
    blank.stop();
    cut_everywhere(&blank, None);
}

#[test]
fn a_replacing_provision_can_be_cut_anywhere() {
    let mut provisioned = Swtpm::new();
    let old = request("old-hub", "old-station", &KEY_A);
    provision::provision(&provisioned.tcti(), 0, &old, false).unwrap();
    provisioned.stop();
    cut_everywhere(&provisioned, Some(("old-hub/old-station", &KEY_A[..])));
}

#[test]
fn an_unfinished_provision_can_be_cut_again_and_taken_over_by_a_third_identity() {
    let mut provisioned = Swtpm::new();
    provision::provision(&provisioned.tcti(), 0, &request("old-hub", "old-station", &KEY_A), false).unwrap();
    provisioned.stop();
    let third = request("third-hub", "third-station", b"a third key");
    // With WEATHER_STATION_SLOW=1 every fifth cut, then every ninth of the rerun: each step is met several times.
    let (step, step_again) = if is_slow() { (5, 9) } else { (11, 13) };
    for first in (0..).step_by(step) {
        let mut tpm = Swtpm::copy_of(&provisioned);
        let tap = TpmTap::new(&tpm);
        if run_and_cut(&tap, first) {
            break;
        }
        tpm.stop();
        for second in (0..).step_by(step_again) {
            let mut again = Swtpm::copy_of(&tpm);
            tap.reset(&again);
            let finished = run_and_cut(&tap, second);
            again.stop();
            again.start();
            check(&again, Some(("old-hub/old-station", &KEY_A)), &format!("cuts after {first} and {second}"));
            provision::provision(&again.tcti(), 0, &third, true).unwrap();
            assert_eq!(name_by_tools(&again, 0), "third-hub/third-station");
            assert_eq!(hmac_by_tools(&again, 0, b"x"), hmac(b"a third key", b"x"));
            assert_eq!(staged(&again), None);
            if finished {
                break;
            }
        }
    }
}

/// For every number of commands (every third without WEATHER_STATION_SLOW=1): a copy of `start`, the cut, the look, the
/// rerun, the look.
fn cut_everywhere(start: &Swtpm, old: Option<(&str, &[u8])>) {
    let step = if is_slow() { 1 } else { 3 };
    let mut commands = 0;
    let tap = TpmTap::new(&Swtpm::new());
    loop {
        let mut tpm = Swtpm::copy_of(start);
        tap.reset(&tpm);
        let finished = run_and_cut(&tap, commands);
        // Killed only, or with the power of the TPM gone as well.
        if commands % 2 == 0 {
            tpm.stop();
            tpm.start();
        }
        let what = format!("cut after {commands} commands");
        check(&tpm, old, &what);
        // What `show` says of it is never an error.
        provision::show(&tpm.tcti(), 0).unwrap();
        // The same command again, through to the end.
        let force = old.is_some();
        provision::provision(&tpm.tcti(), 0, &request("new-hub", "new-station", &KEY_B), force)
            .unwrap_or_else(|error| panic!("{what}, rerun: {error}"));
        assert_eq!(name_by_tools(&tpm, 0), "new-hub/new-station", "{what}");
        assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_B, b"x"), "{what}");
        assert_eq!(staged(&tpm), None, "{what}: a leftover");
        let mut signer = TpmSigner::new(&tpm.tcti(), 0);
        assert_eq!(signer.identity().unwrap().device_id, "new-station");
        assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_B, b"x"));
        if finished {
            assert!(commands > 15, "only {commands} commands: the tap does not count");
            return;
        }
        commands += step;
    }
}

/// Whether the process came to its end before the cut.
fn run_and_cut(tap: &TpmTap, commands: usize) -> bool {
    run_child_and_cut(tap, commands, "cuts::child_that_provisions", &[(CHILD, &tap.tcti())])
}

/// The same for any test of this program that does something when these variables are set.
pub fn run_child_and_cut(tap: &TpmTap, commands: usize, test: &str, variables: &[(&str, &str)]) -> bool {
    let child = Arc::new(Mutex::new(None::<std::process::Child>));
    let victim = Arc::clone(&child);
    tap.cut_after(commands, move || {
        victim.lock().unwrap().as_mut().unwrap().kill().unwrap();
    });
    // Held until the child is in its place, should the first command come sooner.
    let mut place = child.lock().unwrap();
    let started = apart::command(std::env::current_exe().unwrap())
        .args(["--exact", test])
        .envs(variables.iter().copied())
        .env("TSS2_LOG", "all+NONE")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    *place = Some(started);
    drop(place);
    let mut status = None;
    wait_until("the provisioning process ends", || {
        status = child.lock().unwrap().as_mut().unwrap().try_wait().unwrap();
        status.is_some()
    });
    let status = status.unwrap();
    assert!(status.success() || status.signal() == Some(9), "it failed by itself: {status}");
    status.success()
}

/// What may never be, seen with tpm2-tools: a name together with another identity's key, or a time at
/// which the old key is gone and the new one is not in.
fn check(tpm: &Swtpm, old: Option<(&str, &[u8])>, what: &str) {
    let new = ("new-hub/new-station", &KEY_B[..]);
    let key = exists(tpm, "handles-persistent", "0x81000100").then(|| hmac_by_tools(tpm, 0, b"x"));
    let holds = |identity: (&str, &[u8])| key.as_deref() == Some(&hmac(identity.1, b"x")[..]);
    if key.is_some() {
        assert!(holds(new) || old.is_some_and(holds), "{what}: a key of nobody");
    }
    // An index that was never written cannot be read.
    let index = ["0x1400100", "-C", "0x1400100"];
    let name = tpm.tool("tpm2_nvread", &index);
    if name.status.success() {
        let name = String::from_utf8(name.stdout).unwrap();
        let matches = |identity: (&str, &[u8])| identity.0 == name && (key.is_none() || holds(identity));
        assert!(matches(new) || old.is_some_and(matches), "{what}: {name} with another's key");
        assert!(key.is_some(), "{what}: a name without a key");
    }
    if let Some(old) = old {
        let new_is_in = holds(new) || staged(tpm).as_deref() == Some(&hmac(new.1, b"x")[..]);
        assert!(holds(old) || new_is_in, "{what}: the old key is gone, and the new one is not in");
    }
    // What the station makes of it: one of the two, whole, or "not provisioned".
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    match signer.identity() {
        Ok(identity) => {
            let name = format!("{}/{}", identity.host, identity.device_id);
            let (_, key) = if name == new.0 { new } else { old.expect("only two identities") };
            assert_eq!(signer.sign(b"x").unwrap(), hmac(key, b"x"), "{what}");
        }
        Err(error) => {
            assert!(error.to_string().contains("run `weather-station provision`"), "{what}: {error}")
        }
    }
}

/// What the key in staging answers, if there is one.
pub fn staged(tpm: &Swtpm) -> Option<Vec<u8>> {
    exists(tpm, "handles-persistent", "0x81000110").then(|| hmac_by_tools(tpm, 16, b"x"))
}

pub fn exists(tpm: &Swtpm, capability: &str, handle: &str) -> bool {
    String::from_utf8(tpm.tool_ok(tpm.state(), "tpm2_getcap", &[capability])).unwrap().contains(handle)
}
