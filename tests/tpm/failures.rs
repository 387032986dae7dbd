//! Everything that can be wrong with a TPM has a sentence with a remedy.

use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{IdentityError, Signer, provision};

use crate::layout::{hmac_by_tools, provision_like_the_predecessor};
use crate::swtpm::Swtpm;
use crate::tpm_tap::TpmTap;
use crate::{KEY_A, KEY_B, hmac, request};

fn provisioned() -> Swtpm {
    let tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "station", &KEY_A), false).unwrap();
    tpm
}

fn identity(tcti: &str) -> String {
    TpmSigner::new(tcti, 0).identity().unwrap_err().to_string()
}

fn attempt(tpm: &Swtpm, force: bool) -> Result<(), String> {
    provision::provision(&tpm.tcti(), 0, &request("new-hub", "new-station", &KEY_B), force)
        .map_err(|error| error.to_string())
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{text:?} does not say {part:?}");
    }
}

#[test]
fn no_device_node() {
    assert_says(
        &identity("device:/nonexistent/tpmrm0"),
        &[
            "opening the TPM device:/nonexistent/tpmrm0",
            "there is no /nonexistent/tpmrm0",
            "dtoverlay=tpm-slb9670",
        ],
    );
}

#[test]
fn a_device_that_is_no_tpm() {
    assert_says(
        &identity("device:/dev/null"),
        &["opening the TPM device:/dev/null", "it is not a TPM that answers"],
    );
}

#[test]
fn a_tcti_that_does_not_exist() {
    assert_says(
        &identity("usb:tpm"),
        &["reading identity.tcti = \"usb:tpm\"", "expected \"device:/dev/tpmrm0\" or \"swtpm:host="],
    );
}

#[test]
fn nothing_listens() {
    let port = crate::swtpm::free_pair();
    let text = identity(&format!("swtpm:host=127.0.0.1,port={port}"));
    assert_says(
        &text,
        &[&format!("no swtpm answers at 127.0.0.1 port {port}"), "set identity.tcti to where it listens"],
    );
}

#[test]
fn not_provisioned() {
    assert_eq!(
        identity(&Swtpm::new().tcti()),
        "the device key in slot 0 is not there: run `weather-station provision`"
    );
}

#[test]
fn not_started() {
    let mut tpm = provisioned();
    tpm.stop();
    tpm.start_with("not-need-init");
    assert_says(&identity(&tpm.tcti()), &["the TPM is not started", "`tpm2_startup -c`"]);
    tpm.tool_ok(tpm.state(), "tpm2_startup", &["-c"]);
    assert!(TpmSigner::new(&tpm.tcti(), 0).identity().is_ok());
}

/// A TPM with our key in slot 0, and in slot 1 one with a password and under dictionary-attack protection, as nobody
/// should put it there.
fn with_a_protected_key() -> Swtpm {
    let tpm = provisioned();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| tpm.tool_ok(folder.path(), name, arguments);
    std::fs::write(folder.path().join("key"), KEY_B).unwrap();
    run(
        "tpm2_import",
        &[
            "-C",
            "0x81000001",
            "-G",
            "hmac",
            "-a",
            "userwithauth|sign",
            "-p",
            "secret",
            "-i",
            "key",
            "-u",
            "public",
            "-r",
            "private",
        ],
    );
    run("tpm2_flushcontext", &["-t"]);
    run("tpm2_load", &["-C", "0x81000001", "-u", "public", "-r", "private", "-c", "loaded"]);
    run("tpm2_evictcontrol", &["-C", "o", "-c", "loaded", "0x81000101"]);
    run("tpm2_nvdefine", &["0x1400101", "-C", "o", "-s", "5", "-a", "authread|authwrite|no_da"]);
    std::fs::write(folder.path().join("name"), "hub/b").unwrap();
    run("tpm2_nvwrite", &["0x1400101", "-C", "0x1400101", "-i", "name"]);
    run("tpm2_flushcontext", &["-t"]);
    tpm
}

#[test]
fn a_station_does_not_lock_the_tpm_by_trying_a_key_with_a_password() {
    let tpm = with_a_protected_key();
    let mut signer = TpmSigner::new(&tpm.tcti(), 1);
    let texts: Vec<_> = (0..10)
        .map(|_| {
            // As the station does: the identity is read anew each time.
            signer.identity().unwrap();
            signer.sign(b"x").unwrap_err().to_string()
        })
        .collect();
    let properties = tpm.tool_ok(tpm.state(), "tpm2_getcap", &["properties-variable"]);
    let properties = String::from_utf8(properties).unwrap();
    let counter = properties.lines().find(|line| line.starts_with("TPM2_PT_LOCKOUT_COUNTER:")).unwrap();
    assert_eq!(counter.split_whitespace().nth(1), Some("0x1"), "{texts:?}");
    assert_says(&texts[0], &["a password is set where an empty one was expected"]);
    assert_says(&texts[9], &["not tried again", "weather-station provision --force"]);
    // Another key is tried.
    provision::provision(&tpm.tcti(), 1, &request("hub", "b", &KEY_A), true).unwrap();
    signer.identity().unwrap();
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
}

#[test]
fn lockout_does_not_touch_our_keys_and_is_named_where_it_does() {
    let tpm = with_a_protected_key();
    let other = || TpmSigner::new(&tpm.tcti(), 1).sign(b"x").unwrap_err().to_string();
    assert_says(&other(), &["a password is set where an empty one was expected"]);
    let locked = (0..10)
        .map(|_| other())
        .find(|text| text.contains("the TPM is locked after too many wrong passwords"));
    assert_says(&locked.expect("it locks"), &["tpm2_dictionarylockout --clear-lockout"]);
    assert_eq!(TpmSigner::new(&tpm.tcti(), 0).sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
    attempt(&tpm, true).unwrap();
}

#[test]
fn an_owner_password_stops_provisioning_but_not_signing() {
    let tpm = provisioned();
    tpm.tool_ok(tpm.state(), "tpm2_changeauth", &["-c", "owner", "secret"]);
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
    assert_says(
        &attempt(&tpm, true).unwrap_err(),
        &[
            "somebody has taken ownership of this TPM (owner password)",
            "tpm2_changeauth -c owner -p PASSWORD",
        ],
    );
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"), "the refusal changed nothing");
    assert!(provision::clear(&tpm.tcti(), 0).is_err());
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
}

#[test]
fn no_room_leaves_the_old_identity_in_force() {
    let tpm = provisioned();
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| tpm.tool_in(folder.path(), name, arguments).status.success();
    assert!(run("tpm2_createprimary", &["-Q", "-C", "o", "-G", "ecc256", "-c", "filler"]));
    let full = (0..1000_u32).find(|n| {
        let handle = format!("{:#x}", 0x8100_0200 + n);
        assert!(run("tpm2_flushcontext", &["-t"]));
        !run("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "filler", &handle])
    });
    assert!(full.is_some_and(|n| n > 3), "{full:?} keys filled the TPM");
    assert!(run("tpm2_flushcontext", &["-t"]));
    assert_says(&attempt(&tpm, true).unwrap_err(), &["no room for one more key or index", "tpm2_getcap"]);
    assert_eq!(TpmSigner::new(&tpm.tcti(), 0).sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
}

#[test]
fn what_others_put_into_the_slot_is_replaced_with_force_only() {
    let take = |tpm: &Swtpm, arguments: &[(&str, &[&str])]| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("name"), "whatever").unwrap();
        for (name, arguments) in arguments {
            tpm.tool_ok(folder.path(), name, arguments);
        }
    };
    let rsa: &[(&str, &[&str])] = &[
        ("tpm2_createprimary", &["-Q", "-C", "o", "-c", "primary"]),
        ("tpm2_evictcontrol", &["-Q", "-C", "o", "-c", "primary", "0x81000100"]),
        ("tpm2_flushcontext", &["-t"]),
    ];
    let name: &[(&str, &[&str])] = &[
        ("tpm2_nvdefine", &["-Q", "0x1400100", "-C", "o", "-s", "8", "-a", "ownerread|ownerwrite"]),
        ("tpm2_nvwrite", &["-Q", "0x1400100", "-C", "o", "-i", "name"]),
    ];
    for (content, says) in [
        (vec![rsa], "the slot already holds an object that is not a device key; add --force"),
        (vec![name], "the slot already holds a name without a device key; add --force"),
        (vec![rsa, name], "the slot already holds an object that is not a device key; add --force"),
    ] {
        let tpm = Swtpm::new();
        content.iter().for_each(|part| take(&tpm, part));
        let refused = TpmSigner::new(&tpm.tcti(), 0).identity().unwrap_err().to_string();
        assert!(
            refused.contains("is not there") || refused.contains("an object that is not a device key"),
            "{refused}"
        );
        provision::show(&tpm.tcti(), 0).unwrap();
        assert_says(&attempt(&tpm, false).unwrap_err(), &[says]);
        attempt(&tpm, true).unwrap();
        assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_B, b"x"));
    }
    let tpm = Swtpm::new();
    provision_like_the_predecessor(&tpm, 0, "no hub at all/x y", &KEY_A);
    assert_says(&attempt(&tpm, false).unwrap_err(), &["holds a device key with a name that cannot be read"]);
    attempt(&tpm, true).unwrap();
}

#[test]
fn half_an_identity_is_not_provisioned_and_the_first_text_says_where_it_takes_force() {
    let no_name: &[_] = &["tpm2_nvundefine", "0x1400100"];
    let no_key: &[_] = &["tpm2_evictcontrol", "-C", "o", "-c", "0x81000100"];
    let half = |tpm: Swtpm, gone: &[&str]| {
        tpm.tool_ok(tpm.state(), gone[0], &gone[1..]);
        tpm
    };
    let others = || {
        let tpm = Swtpm::new();
        provision_like_the_predecessor(&tpm, 0, "hub/station", &KEY_A);
        tpm
    };
    let made_by_others = || {
        let tpm = half(half(provisioned(), no_name), no_key);
        let attributes = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
        let create =
            ["-C", "0x81000001", "-G", "hmac:sha256", "-a", attributes, "-u", "key.pub", "-r", "key.priv"];
        tpm.tool_ok(tpm.state(), "tpm2_create", &create);
        let load = ["-C", "0x81000001", "-u", "key.pub", "-r", "key.priv", "-c", "key.ctx"];
        tpm.tool_ok(tpm.state(), "tpm2_load", &load);
        tpm.tool_ok(tpm.state(), "tpm2_evictcontrol", &["-C", "o", "-c", "key.ctx", "0x81000100"]);
        // There is no resource manager that would do it.
        tpm.tool_ok(tpm.state(), "tpm2_flushcontext", &["-t"]);
        tpm
    };
    let mark = |tpm: &Swtpm| tpm.tool_ok(tpm.state(), "tpm2_nvdefine", &["0x1400110", "-C", "o", "-s", "3"]);
    let [name, key] = ["the hub's and the device's name", "the device key"];
    let [only_key, only_name] = ["a device key without a name", "a name without a device key"];
    for (tpm, missing, foreign) in [
        (half(provisioned(), no_name), name, None),
        (half(provisioned(), no_key), key, Some(only_name)),
        // Imported, as every key of the provisioning service is, whoever asked it.
        (half(others(), no_name), name, Some(only_key)),
        (made_by_others(), name, Some(only_key)),
    ] {
        let not_provisioned = format!("{missing} in slot 0 is not there: run `weather-station provision`");
        let text = identity(&tpm.tcti());
        assert_eq!(provision::show(&tpm.tcti(), 0).unwrap().reason.as_ref(), Some(&text));
        let Some(holds) = foreign else {
            assert_eq!(text, not_provisioned);
            attempt(&tpm, false).unwrap();
            continue;
        };
        let force = "run `weather-station provision --force` if that may go";
        assert_eq!(text, format!("{missing} in slot 0 is not there, as it holds {holds}: {force}"));
        assert_says(&attempt(&tpm, false).unwrap_err(), &["the slot already holds", holds, "add --force"]);
        // The station's own where the provisioning service put it there.
        mark(&tpm);
        assert_eq!(identity(&tpm.tcti()), not_provisioned);
        attempt(&tpm, false).unwrap();
        assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_B, b"x"));
    }
}

#[test]
fn cleared_by_its_owner() {
    let tpm = provisioned();
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    signer.sign(b"x").unwrap();
    tpm.tool_ok(tpm.state(), "tpm2_clear", &["-Q"]);
    let error = signer.sign(b"x").unwrap_err();
    assert!(matches!(error, IdentityError::NotProvisioned { slot: 0, .. }), "{error}");
}

#[test]
fn gone_in_the_middle() {
    let tpm = provisioned();
    let tap = TpmTap::new(&tpm);
    for after in 0..6 {
        tap.reset(&tpm);
        tap.cut_after(after, || ());
        let error = identity(&tap.tcti());
        assert_says(&error, &["went away in the middle; check its seat and supply"]);
    }
    tap.reset(&tpm);
    assert!(TpmSigner::new(&tap.tcti(), 0).identity().is_ok());
}
