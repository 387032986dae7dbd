//! The key cannot be taken out, and it does not cross the bus in clear.

use base64::Engine as _;
use weather_station::identity::provision;

use crate::apart;
use crate::swtpm::Swtpm;
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, request};

#[test]
fn the_key_crosses_the_bus_encrypted() {
    let tpm = Swtpm::new();
    let tap = TpmTap::new(&tpm);
    provision::provision(&tap.tcti(), 0, &request("hub.example.net", "station", &KEY_A), false).unwrap();
    let recorded = tap.recorded();
    let seen = |bytes: &[u8]| recorded.windows(bytes.len()).any(|window| window == bytes);
    // The tap hears: the name crosses in clear.
    assert!(seen(b"hub.example.net/station"));
    // No eight bytes of the key in a row cross, as they are or in base64.
    let base64 = base64::engine::general_purpose::STANDARD.encode(KEY_A);
    for secret in [&KEY_A[..], base64.as_bytes()] {
        assert!(secret.windows(8).all(|part| !seen(part)));
    }
    // The control: without such a session the same tap hears a secret.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("secret"), KEY_A).unwrap();
    let status = apart::command("tpm2_create")
        .args(["-Q", "-C", "0x81000001", "-i", "secret", "-u", "public", "-r", "private"])
        .current_dir(folder.path())
        .env("TPM2TOOLS_TCTI", tap.tcti())
        .status()
        .unwrap();
    assert!(status.success());
    assert!(tap.recorded().windows(KEY_A.len()).any(|window| window == KEY_A));
}

#[test]
fn the_key_cannot_be_taken_out_with_tpm2_tools() {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, arguments: &[&str], expected: &str| {
        let output = tpm.tool_in(folder.path(), name, arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{name} {arguments:?} succeeded");
        assert!(error.contains(expected), "{name} {arguments:?}: {error}");
        assert!(!output.stdout.windows(8).any(|window| KEY_A.windows(8).any(|part| part == window)));
    };
    // TPM_RC_ATTRIBUTES: not a sealed object.
    refused("tpm2_unseal", &["-c", "0x81000100"], "0x182");
    // To another parent, by password: the command takes a policy only (TPM_RC_AUTH_TYPE).
    tpm.tool_ok(
        folder.path(),
        "tpm2_createprimary",
        &["-Q", "-C", "o", "-g", "sha256", "-G", "rsa2048", "-c", "other"],
    );
    tpm.tool_ok(folder.path(), "tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "other", "0x81000050"]);
    tpm.tool_ok(folder.path(), "tpm2_flushcontext", &["-t"]);
    let duplicate = ["-C", "0x81000050", "-c", "0x81000100", "-G", "null", "-r", "private", "-s", "seed"];
    refused("tpm2_duplicate", &duplicate, "0x124");
    // With the policy that other keys allow it by: the key has none, and is fixed (TPM_RC_POLICY_FAIL).
    tpm.tool_ok(folder.path(), "tpm2_startauthsession", &["-Q", "--policy-session", "-S", "policy"]);
    tpm.tool_ok(folder.path(), "tpm2_policycommandcode", &["-Q", "-S", "policy", "TPM2_CC_Duplicate"]);
    let with_policy = [
        "-C",
        "0x81000050",
        "-c",
        "0x81000100",
        "-G",
        "null",
        "-p",
        "session:policy",
        "-r",
        "private",
        "-s",
        "seed",
    ];
    refused("tpm2_duplicate", &with_policy, "0x99D");
    tpm.tool_ok(folder.path(), "tpm2_flushcontext", &["policy"]);
    // A keyed hash neither encrypts nor decrypts.
    std::fs::write(folder.path().join("zeros"), [0; 16]).unwrap();
    refused("tpm2_encryptdecrypt", &["-c", "0x81000100", "-o", "out", "zeros"], "0x3C9");
    assert!(std::fs::read(folder.path().join("out")).unwrap_or_default().is_empty());
    // The public part is readable, and holds nothing of the key.
    tpm.tool_ok(folder.path(), "tpm2_readpublic", &["-Q", "-c", "0x81000100", "-o", "public"]);
    let public = std::fs::read(folder.path().join("public")).unwrap();
    assert!(!public.windows(8).any(|window| KEY_A.windows(8).any(|part| part == window)));
    let shown = provision::show(&tpm.tcti(), 0).unwrap();
    let key = shown.key.clone().unwrap();
    assert_eq!(key.attributes, ["fixedTPM", "fixedParent", "userWithAuth", "noDA", "sign"]);
    assert_eq!(key.can_leave, "no: it is fixed to this TPM");
    let text = format!("{shown}\n{shown:?}\n{}", serde_json::to_string(&shown).unwrap());
    assert!(text.contains("can the key leave no: it is fixed to this TPM"), "{text}");
    assert!(!text.contains(&base64::engine::general_purpose::STANDARD.encode(KEY_A)[..10]));
}
