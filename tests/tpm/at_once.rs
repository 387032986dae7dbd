//! Several that provision one TPM at the same time: one after the other, and each finds what the one before left.

use std::sync::Arc;

use weather_station::identity::{Identity, provision};

use crate::dps::{Scene, service};
use crate::layout::{hmac_by_tools, name_by_tools};
use crate::swtpm::Swtpm;
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, KEY_B, hmac, request};

/// TPM2_CC_NV_DefineSpace (TPM 2.0 Part 2, 6.5.2).
const NV_DEFINE_SPACE: u32 = 0x12A;

fn assert_holds(tpm: &Swtpm, name: &str, key: &[u8]) {
    assert_eq!(name_by_tools(tpm, 0), name);
    assert_eq!(hmac_by_tools(tpm, 0, b"x"), hmac(key, b"x"), "{name} with another's key");
}

#[test]
fn two_provisionings_at_once_succeed_one_after_the_other_and_name_and_key_belong_together() {
    let tpm = Swtpm::new();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            for (device, key) in [("a", &KEY_A[..]), ("b", &KEY_B)] {
                let tcti = tpm.tcti();
                scope.spawn(move || {
                    provision::provision(&tcti, 0, &request("hub", device, key), true).unwrap()
                });
            }
        });
        let key = if name_by_tools(&tpm, 0) == "hub/a" { &KEY_A[..] } else { &KEY_B };
        assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(key, b"x"));
    }
}

#[test]
fn of_two_on_an_empty_slot_the_second_is_told_of_the_first() {
    for round in 0..3 {
        let tpm = Swtpm::new();
        let provision = |device: &'static str, key: &'static [u8]| {
            let tcti = tpm.tcti();
            move || provision::provision(&tcti, 0, &request("hub", device, key), false)
        };
        let (a, b) = (provision("a", &KEY_A), provision("b", &KEY_B));
        let (a, b) = std::thread::scope(|scope| {
            let (a, b) = (scope.spawn(a), scope.spawn(b));
            (a.join().unwrap(), b.join().unwrap())
        });
        let (refused, name, key) = match (a, b) {
            (Ok(()), Err(refused)) => (refused, "hub/a", &KEY_A[..]),
            (Err(refused), Ok(())) => (refused, "hub/b", &KEY_B[..]),
            both => panic!("round {round}: {both:?}"),
        };
        assert!(refused.to_string().contains("the slot already holds the identity of device"), "{refused}");
        assert_holds(&tpm, name, key);
    }
}

/// Name and key of one of them, or an empty slot.
#[test]
fn a_clearing_and_a_provisioning_at_once_leave_one_or_the_other() {
    let tpm = Swtpm::new();
    for _ in 0..5 {
        std::thread::scope(|scope| {
            let (tcti, other) = (tpm.tcti(), tpm.tcti());
            scope.spawn(move || provision::provision(&tcti, 0, &request("hub", "a", &KEY_A), true).unwrap());
            scope.spawn(move || provision::clear(&other, 0).unwrap());
        });
        let shown = provision::show(&tpm.tcti(), 0).unwrap();
        assert_eq!(shown.foreign, None);
        assert_eq!(shown.identity.is_some(), shown.key.is_some(), "{shown:?}");
    }
}

#[tokio::test]
async fn a_person_who_provisions_while_the_service_does_comes_after_it() {
    let scene = Scene::new(Swtpm::new()).enrolled();
    let tap = TpmTap::new(&scene.tpm);
    let (by_hand_tx, by_hand) = tokio::sync::oneshot::channel();
    let tcti = tap.tcti();
    // Where the visit begins to write.
    tap.before(NV_DEFINE_SPACE, move || {
        std::thread::spawn(move || {
            let by_hand = provision::provision(&tcti, 0, &request("hand-hub", "hand", &KEY_A), true);
            by_hand_tx.send(by_hand).unwrap();
        });
    });
    let visited = service(&tap.tcti(), &scene.dps.endpoint(), scene.dps.ca_file()).provision().await.unwrap();
    assert_eq!(visited.host, "first-hub");
    by_hand.await.unwrap().unwrap();
    assert_holds(&scene.tpm, "hand-hub/hand", &KEY_A);
    assert_eq!(provision::show(&scene.tpm.tcti(), 0).unwrap().provisioned, Some("by hand"));
}

#[test]
fn a_slot_that_other_tools_change_meanwhile_is_not_called_provisioned() {
    let tpm = Arc::new(Swtpm::new());
    let folder = Arc::new(tempfile::tempdir().unwrap());
    // Leaves a storage root key behind; the other key is made ready, as there is little room while both are at work.
    provision::provision(&tpm.tcti(), 1, &request("hub", "b", &KEY_B), false).unwrap();
    std::fs::write(folder.path().join("key"), KEY_B).unwrap();
    let other = ["-C", "0x81000001", "-u", "public", "-r", "private"];
    let made = [&["-G", "hmac", "-a", "userwithauth|noda|sign", "-i", "key"][..], &other].concat();
    tpm.tool_ok(folder.path(), "tpm2_import", &made);
    tpm.tool_ok(folder.path(), "tpm2_flushcontext", &["-t"]);
    let tap = TpmTap::new(&tpm);
    let (there, with) = (Arc::clone(&tpm), Arc::clone(&folder));
    // The key is in, the name is not.
    tap.before(NV_DEFINE_SPACE, move || {
        let run = |name: &str, arguments: &[&str]| {
            String::from_utf8(there.tool_ok(with.path(), name, arguments)).unwrap()
        };
        let in_memory = run("tpm2_getcap", &["handles-transient"]);
        run("tpm2_evictcontrol", &["-C", "o", "-c", "0x81000100"]);
        run("tpm2_load", &[&other[..], &["-c", "loaded"]].concat());
        run("tpm2_evictcontrol", &["-C", "o", "-c", "loaded", "0x81000100"]);
        // The tools leave their keys in the little memory there is.
        for left in run("tpm2_getcap", &["handles-transient"]).lines().filter(|key| !in_memory.contains(key))
        {
            run("tpm2_flushcontext", &[left.trim_start_matches("- ")]);
        }
    });
    let refused = provision::provision(&tap.tcti(), 0, &request("hub", "a", &KEY_A), false).unwrap_err();
    assert!(refused.to_string().contains("something else changed the slot at the same time"), "{refused}");
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_B, b"x"), "the other key was in when it looked");
    provision::provision(&tpm.tcti(), 0, &request("hub", "a", &KEY_A), true).unwrap();
    let there = provision::show(&tpm.tcti(), 0).unwrap().identity;
    assert_eq!(there, Some(Identity { host: "hub".into(), device_id: "a".into() }));
}
