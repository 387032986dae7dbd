//! The predecessor's layout, both ways, against tpm2-tools.

use weather_station::identity::tpm::TpmSigner;
use weather_station::identity::{Identity, Signer, provision};

use crate::apart;
use crate::swtpm::Swtpm;
use crate::{KEY_A, KEY_B, hmac, request};

const SRK_ATTRIBUTES: &str = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt";

/// Writes what the predecessor wrote (Limpet.cs, `Provision`), with tpm2-tools. The SRK was Windows'.
pub fn provision_like_the_predecessor(tpm: &Swtpm, slot: u8, name: &str, key: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, arguments: &[&str]| tpm.tool_ok(folder.path(), name, arguments);
    if !String::from_utf8(run("tpm2_getcap", &["handles-persistent"])).unwrap().contains("0x81000001") {
        run("tpm2_createprimary", &["-C", "o", "-G", "rsa2048:aes128cfb", "-a", SRK_ATTRIBUTES, "-c", "srk"]);
        run("tpm2_evictcontrol", &["-C", "o", "-c", "srk", "0x81000001"]);
    }
    std::fs::write(folder.path().join("key"), key).unwrap();
    std::fs::write(folder.path().join("name"), name).unwrap();
    let attributes = "userwithauth|noda|sign";
    run(
        "tpm2_import",
        &["-C", "0x81000001", "-G", "hmac", "-a", attributes, "-i", "key", "-u", "public", "-r", "private"],
    );
    run("tpm2_flushcontext", &["-t"]);
    run("tpm2_load", &["-C", "0x81000001", "-u", "public", "-r", "private", "-c", "loaded"]);
    run("tpm2_evictcontrol", &["-C", "o", "-c", "loaded", &format!("{:#x}", 0x8100_0100 + u32::from(slot))]);
    run("tpm2_flushcontext", &["-t"]);
    let index = format!("{:#x}", 0x0140_0100 + u32::from(slot));
    let size = name.len().to_string();
    run("tpm2_nvdefine", &[&index, "-C", "o", "-s", &size, "-a", "authread|authwrite|no_da"]);
    run("tpm2_nvwrite", &[&index, "-C", &index, "-i", "name"]);
}

/// HMAC by the slot's key, made by tpm2-tools.
pub fn hmac_by_tools(tpm: &Swtpm, slot: u8, data: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data"), data).unwrap();
    let key = format!("{:#x}", 0x8100_0100 + u32::from(slot));
    tpm.tool_ok(folder.path(), "tpm2_hmac", &["-g", "sha256", "-c", &key, "-o", "mac", "data"]);
    std::fs::read(folder.path().join("mac")).unwrap()
}

/// The slot's name, read by tpm2-tools.
pub fn name_by_tools(tpm: &Swtpm, slot: u8) -> String {
    let index = format!("{:#x}", 0x0140_0100 + u32::from(slot));
    String::from_utf8(tpm.tool_ok(tpm.state(), "tpm2_nvread", &[&index, "-C", &index])).unwrap()
}

#[test]
fn a_tpm_that_the_predecessor_provisioned_works_as_it_is() {
    let tpm = Swtpm::new();
    for (slot, key) in [(0, &KEY_A[..]), (9, &KEY_B[..])] {
        provision_like_the_predecessor(&tpm, slot, &format!("old-hub.example.net/old-station-{slot}"), key);
        let mut signer = TpmSigner::new(&tpm.tcti(), slot);
        let identity = signer.identity().unwrap();
        assert_eq!(identity.host, "old-hub.example.net");
        assert_eq!(identity.device_id, format!("old-station-{slot}"));
        assert_eq!(signer.sign(b"weather").unwrap(), hmac(key, b"weather"));
        let shown = provision::show(&tpm.tcti(), slot).unwrap();
        assert_eq!(shown.identity, Some(identity));
        assert_eq!(shown.key.unwrap().attributes, ["userWithAuth", "noDA", "sign"]);
    }
}

#[test]
fn a_name_without_a_device_id_stands_for_the_predecessors_hardware_id() {
    let tpm = Swtpm::new();
    provision_like_the_predecessor(&tpm, 3, "old-hub.example.net/", &KEY_A);
    let folder = tempfile::tempdir().unwrap();
    tpm.tool_ok(folder.path(), "tpm2_readpublic", &["-c", "0x81000001", "-n", "name"]);
    let mut hashed = 3_u32.to_le_bytes().to_vec();
    hashed.extend(std::fs::read(folder.path().join("name")).unwrap());
    std::fs::write(folder.path().join("hashed"), hashed).unwrap();
    let expected = apart::command("sha256sum").arg(folder.path().join("hashed")).output().unwrap();
    let identity = TpmSigner::new(&tpm.tcti(), 3).identity().unwrap();
    assert_eq!(identity.device_id.as_bytes(), &expected.stdout[..64]);
}

#[test]
fn what_we_write_is_the_predecessors_layout_in_all_ten_slots() {
    let tpm = Swtpm::new();
    for slot in 0..10 {
        let key = [b'a' + slot; 48];
        let name = format!("hub.example.net/station-{slot}");
        let wanted = request("hub.example.net", &format!("station-{slot}"), &key);
        provision::provision(&tpm.tcti(), slot, &wanted, false).unwrap();
        assert_eq!(name_by_tools(&tpm, slot), name);
        assert_eq!(hmac_by_tools(&tpm, slot, b"weather"), hmac(&key, b"weather"));
        let index = format!("{:#x}", 0x0140_0100 + u32::from(slot));
        let public = String::from_utf8(tpm.tool_ok(tpm.state(), "tpm2_nvreadpublic", &[&index])).unwrap();
        assert!(public.contains("authwrite|authread|no_da|written"), "{public}");
        assert!(public.contains(&format!("size: {}", name.len())), "{public}");
    }
    // The first one is still what it was.
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&[b'a'; 48], b"x"));
    let handles = tpm.tool_ok(tpm.state(), "tpm2_getcap", &["handles-persistent"]);
    assert_eq!(String::from_utf8(handles).unwrap().lines().count(), 11, "ten keys and the SRK, no leftovers");
}

#[test]
fn provisioning_takes_over_from_the_predecessor_with_force_only() {
    let tpm = Swtpm::new();
    provision_like_the_predecessor(&tpm, 0, "old-hub.example.net/old-station", &KEY_A);
    let wanted = request("10.0.0.7", "new-station", &KEY_B);
    let refused = provision::provision(&tpm.tcti(), 0, &wanted, false).unwrap_err().to_string();
    assert_eq!(
        refused,
        "provisioning slot 0 for device \"new-station\" at 10.0.0.7: the slot already holds the identity of \
         device \"old-station\" at old-hub.example.net; add --force to replace it for good, or choose another \
         identity.slot"
    );
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_A, b"x"), "the refusal changed nothing");
    provision::provision(&tpm.tcti(), 0, &wanted, true).unwrap();
    assert_eq!(name_by_tools(&tpm, 0), "10.0.0.7/new-station");
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_B, b"x"));
    // The same device again, with another key, is no other identity.
    provision::provision(&tpm.tcti(), 0, &request("10.0.0.7", "new-station", &KEY_A), false).unwrap();
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_A, b"x"));
}

#[test]
fn an_identity_survives_a_restart_of_the_tpm_and_clear_removes_all_but_the_srk() {
    let mut tpm = Swtpm::new();
    provision::provision(&tpm.tcti(), 0, &request("hub", "a", &KEY_A), false).unwrap();
    let before = provision::show(&tpm.tcti(), 0).unwrap();
    tpm.stop();
    tpm.start();
    let mut signer = TpmSigner::new(&tpm.tcti(), 0);
    assert_eq!(signer.identity().unwrap(), Identity { host: "hub".into(), device_id: "a".into() });
    assert_eq!(signer.sign(b"x").unwrap(), hmac(&KEY_A, b"x"));
    provision::clear(&tpm.tcti(), 0).unwrap();
    provision::clear(&tpm.tcti(), 0).unwrap();
    let after = provision::show(&tpm.tcti(), 0).unwrap();
    assert_eq!(after.storage_root_key, before.storage_root_key);
    assert!(after.storage_root_key.is_some());
    assert_eq!((after.identity, after.key), (None, None));
    assert_eq!(
        signer.identity().unwrap_err().to_string(),
        "the device key in slot 0 is not there: run `weather-station provision`"
    );
    assert!(tpm.tool_ok(tpm.state(), "tpm2_getcap", &["handles-nv-index"]).is_empty());
}

#[test]
fn an_srk_that_is_there_is_used_and_one_that_cannot_hold_keys_is_named() {
    let tpm = Swtpm::new();
    let folder = tempfile::tempdir().unwrap();
    // Another template (empty `unique`), as tpm2-tools and the predecessor's Windows make it.
    let run = |name: &str, arguments: &[&str]| tpm.tool_ok(folder.path(), name, arguments);
    run("tpm2_createprimary", &["-C", "o", "-G", "ecc256:aes128cfb", "-c", "srk"]);
    run("tpm2_evictcontrol", &["-C", "o", "-c", "srk", "0x81000001"]);
    run("tpm2_flushcontext", &["-t"]);
    let before = provision::show(&tpm.tcti(), 0).unwrap().storage_root_key;
    provision::provision(&tpm.tcti(), 0, &request("hub", "a", &KEY_A), false).unwrap();
    assert_eq!(provision::show(&tpm.tcti(), 0).unwrap().storage_root_key, before);
    assert_eq!(hmac_by_tools(&tpm, 0, b"x"), hmac(&KEY_A, b"x"));

    let tpm = Swtpm::new();
    let run = |name: &str, arguments: &[&str]| tpm.tool_ok(folder.path(), name, arguments);
    let signing = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign";
    run("tpm2_createprimary", &["-C", "o", "-G", "rsa2048", "-a", signing, "-c", "signing"]);
    run("tpm2_evictcontrol", &["-C", "o", "-c", "signing", "0x81000001"]);
    let refused = provision::provision(&tpm.tcti(), 0, &request("hub", "a", &KEY_A), true).unwrap_err();
    assert!(refused.to_string().contains("made from another template and cannot hold keys"), "{refused}");
}
