//! A signer that lives on while the TPM is provisioned anew, taken over, or away.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use weather_station::config;
use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{self, Signer, provision};

use crate::apart;
use crate::layout::provision_like_the_predecessor;
use crate::swtpm::Swtpm;
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, KEY_B, hmac, request};

#[test]
fn a_running_signer_picks_a_new_identity_up_and_never_signs_for_the_old_name_with_the_new_key() {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 2, &request("old-hub", "old-station", &KEY_A), false).unwrap();
    let settings = config::Identity { tcti: tpm.tcti(), slot: 2, ..config::Identity::default() };
    let mut signer = identity::open(&settings).unwrap();
    assert_eq!(signer.identity().unwrap().host, "old-hub");
    provision::provision(&tpm.tcti(), 2, &request("new-hub", "new-station", &KEY_B), true).unwrap();
    let refused = signer.sign(b"x").unwrap_err().to_string();
    assert!(
        refused.starts_with(
            "signing with the TPM's device key in slot 2: the key was replaced in the meantime; the station reads \
             the identity anew and signs in again"
        ),
        "{refused}"
    );
    assert_eq!(signer.identity().unwrap().host, "new-hub");
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_B, b"x"));
}

#[test]
fn a_key_that_somebody_replaced_under_the_same_name_is_noticed() {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
    // With tpm2-tools, the name left as it is.
    tpm.tool_ok(tpm.state(), "tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "0x81000100"]);
    assert!(signer.sign(b"x").unwrap_err().to_string().contains("the device key in slot 0 is not there"));
    tpm.tool_ok(tpm.state(), "tpm2_nvundefine", &["-Q", "0x1400100"]);
    provision_like_the_predecessor(&tpm, 0, "hub/station", &KEY_B);
    assert!(signer.sign(b"x").unwrap_err().to_string().contains("the key was replaced in the meantime"));
    // Again and again, until the identity is asked for, which is where the station logs it.
    assert!(signer.sign(b"x").unwrap_err().to_string().contains("the key was replaced in the meantime"));
    signer.identity().unwrap();
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_B, b"x"));
}

#[test]
fn a_tpm_that_goes_away_and_comes_back_signs_again() {
    let mut tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    signer.sign(b"x").unwrap();
    for _ in 0..3 {
        tpm.stop();
        let gone = signer.sign(b"x").unwrap_err().to_string();
        assert!(gone.contains("no swtpm answers at 127.0.0.1 port"), "{gone}");
        assert!(signer.identity().is_err());
        tpm.start();
        assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
    }
}

#[test]
fn a_signature_covers_at_most_1024_bytes() {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    assert_eq!(signer.sign(&[7; 1024]).unwrap(), hmac(&KEY_A, &[7; 1024]));
    let refused = signer.sign(&[7; 1025]).unwrap_err().to_string();
    assert_eq!(
        refused,
        "signing 1025 bytes with the TPM's device key: expected at most 1,024 bytes, which a TPM takes in one \
         command; a shorter host name or device id helps"
    );
}

#[test]
fn many_signers_share_one_tpm() {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    std::thread::scope(|scope| {
        for n in 0..4_u8 {
            let tcti = tpm.tcti();
            scope.spawn(move || {
                let mut signer = TpmSigner::new(&tcti, 0);
                for _ in 0..25 {
                    assert_eq!(signer.sign(&[n]).unwrap(), hmac(&KEY_A, &[n]));
                }
            });
        }
    });
}

/// Of the tests themselves: without this two of them could wait for each other for ever (`support/apart.rs`).
#[test]
fn a_process_that_is_started_while_a_tpm_is_in_use_does_not_hold_its_connection() {
    let tpm = Swtpm::new();
    let tap = TpmTap::new(&tpm);
    let (found, held) = std::sync::mpsc::channel();
    // In the middle of a command.
    tap.cut_after(1, move || found.send(sockets_of_a_new_process()).unwrap());
    provision::show(&tap.tcti(), 0).unwrap_err();
    assert_eq!(held.recv().unwrap(), Vec::<PathBuf>::new());
}

fn sockets_of_a_new_process() -> Vec<PathBuf> {
    let mut process = apart::command("sh")
        .args(["-c", "echo begun; read until_told"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let held = std::fs::read_dir(format!("/proc/{}/fd", process.id()))
        .unwrap()
        .map(|entry| std::fs::read_link(entry.unwrap().path()).unwrap())
        .filter(|file| file.to_string_lossy().starts_with("socket:"))
        .collect();
    process.kill().unwrap();
    process.wait().unwrap();
    held
}
