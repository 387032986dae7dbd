//! Text in, identity or a helpful refusal out; tokens against Microsoft's Node SDK. No TPM here.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::DateTime;

use super::key_file::{KeyFileSigner, others_can_read};
use super::provision::{Credentials, parse_connection_string};
use super::{Identity, IdentityError, Signer, sas_token};
use crate::secret_text::could_be_a_key;

const KEY: &str = "Zmlyc3Qga2V5IG9mIHRoaXJ0eS10d28gYnl0ZXMhISE=";

/// Signs in software: what the TPM does is tested with a TPM.
struct Software(Vec<u8>);

impl Signer for Software {
    fn identity(&mut self) -> Result<Identity, IdentityError> {
        unreachable!("a token is made for an identity that is already known")
    }

    fn sign(&mut self, data: &[u8]) -> Result<[u8; 32], IdentityError> {
        use hmac::{Hmac, KeyInit, Mac};
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(&self.0).unwrap();
        mac.update(data);
        Ok(mac.finalize().into_bytes().into())
    }
}

#[test]
fn tokens_are_those_of_microsofts_node_sdk_for_every_legal_device_id() {
    let golden = include_str!("../../tests/golden/sas-tokens.json");
    let golden: Vec<serde_json::Value> = serde_json::from_str(golden).unwrap();
    assert_eq!(golden.len(), 45);
    for entry in golden {
        let text = |key: &str| entry[key].as_str().unwrap();
        let credentials = Credentials::new(text("host"), text("deviceId"), text("key")).unwrap();
        let expiry = DateTime::from_timestamp(entry["expiry"].as_i64().unwrap(), 0).unwrap();
        let life = Duration::from_secs(3600);
        let mut signer = Software(credentials.key.to_vec());
        let token = sas_token::for_device(&mut signer, &credentials.identity, expiry - life, life).unwrap();
        if credentials.identity.device_id.contains('*') {
            // The SDK writes this one character in lower case; the signature is over what is written.
            assert!(text("token").to_ascii_uppercase().contains(&token.resource.to_ascii_uppercase()));
        } else {
            assert_eq!(token.secret_text(), text("token"));
        }
        assert_eq!(token.expiry, expiry);
        assert_eq!(token.renew_at(), expiry - life / 5);
        assert!(!format!("{token:?}").contains("sig"), "{token:?}");
    }
}

#[test]
fn a_connection_string_is_read_in_any_order_with_blanks_and_any_host() {
    for (text, host) in [
        (format!("HostName=h.azure-devices.net;DeviceId=d;SharedAccessKey={KEY}"), "h.azure-devices.net"),
        (format!(" SharedAccessKey={KEY} ; DeviceId=d ;HostName=192.168.1.9;\r\n"), "192.168.1.9"),
        (format!("hostname=localhost;deviceid=d;sharedaccesskey={KEY}"), "localhost"),
        (format!("HostName=[::1];DeviceId=d;SharedAccessKey={KEY}"), "::1"),
        (format!("HostName=a_b.example;DeviceId=d;SharedAccessKey={KEY}"), "a_b.example"),
    ] {
        let credentials = parse_connection_string(&text).unwrap();
        assert_eq!(credentials.identity, Identity { host: host.into(), device_id: "d".into() });
        assert_eq!(credentials.key.as_slice(), STANDARD.decode(KEY).unwrap());
        assert!(!format!("{credentials:?}").contains("Zmlyc"));
    }
}

#[test]
fn a_bad_connection_string_is_refused_with_what_is_wrong_and_never_shows_the_key() {
    let long = STANDARD.encode([7; 65]);
    let cases = [
        (String::new(), "it has no `HostName`"),
        (format!("HostName=h;SharedAccessKey={KEY}"), "it has no `DeviceId`"),
        ("HostName=h;DeviceId=d".into(), "it has no `SharedAccessKey`"),
        (format!("HostName=h;DeviceId=d;SharedAccessKey={KEY};HostName=h"), "it has one of its parts twice"),
        (format!("HostName=h;DeviceId=d;{KEY}"), "it has a part with an unknown name"),
        ("HostName=h;DeviceId=d;Zmlyc3Qga2V5".into(), "it has a part without `=`"),
        (
            format!("HostName=h;SharedAccessKeyName=iothubowner;SharedAccessKey={KEY}"),
            "this is the connection string of the hub, not of a device",
        ),
        (format!("HostName=;DeviceId=d;SharedAccessKey={KEY}"), "checking the host name \"\""),
        (
            format!("HostName=https://h/;DeviceId=d;SharedAccessKey={KEY}"),
            "checking the host name \"https://h/\"",
        ),
        (format!("HostName=h:5671;DeviceId=d;SharedAccessKey={KEY}"), "without scheme, port or path"),
        (format!("HostName=h..x;DeviceId=d;SharedAccessKey={KEY}"), "checking the host name"),
        (
            format!("HostName=h;DeviceId=;SharedAccessKey={KEY}"),
            "checking the device id \"\": expected 1 to 128",
        ),
        (format!("HostName=h;DeviceId=a/b;SharedAccessKey={KEY}"), "checking the device id \"a/b\""),
        (format!("HostName=h;DeviceId=t\u{fc}r;SharedAccessKey={KEY}"), "checking the device id"),
        (
            format!("HostName=h;DeviceId={};SharedAccessKey={KEY}", "d".repeat(129)),
            "expected 1 to 128 characters",
        ),
        (format!("HostName=h;DeviceId=d;SharedAccessKey={}*", &KEY[..43]), "(not shown): expected base64"),
        ("HostName=h;DeviceId=d;SharedAccessKey=".into(), "but it is 0 bytes long"),
        (format!("HostName=h;DeviceId=d;SharedAccessKey={long}"), "1 to 64 bytes, but it is 65 bytes long"),
    ];
    for (text, expected) in cases {
        let error = parse_connection_string(&text).unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(expected), "{text:?} gives {shown}");
        assert!(!shown.contains("Zmlyc") && !shown.contains(&long[..8]), "the key is in: {shown}");
    }
}

#[test]
fn a_key_in_the_place_of_host_or_device_is_not_shown() {
    let slashed = STANDARD.encode([0xFF; 32]);
    for (host, device_id, key) in [
        (KEY, "d", KEY),
        (&KEY[..43], "d/", KEY),
        ("h", &*slashed, &*slashed),
        ("h", &slashed[..40], &slashed),
    ] {
        let error = Credentials::new(host, device_id, KEY).unwrap_err().to_string();
        assert!(!error.contains(&key[..8]), "{error}");
    }
    assert!(!could_be_a_key(&"0123456789abcdef".repeat(2)), "a serial number may be shown");
}

#[test]
fn a_credential_of_systemd_is_the_services_alone_whoever_looks_at_it() {
    let credential = Path::new("/run/credentials/weather-station.service/hub");
    for (path, owner, mode, exposed) in [
        (credential, (0, 0), 0o440, false),
        (credential, (0, 0), 0o400, false),
        (credential, (0, 0), 0o640, false),
        (credential, (0, 0), 0o460, true),
        (credential, (0, 0), 0o444, true),
        (credential, (1000, 0), 0o440, true),
        (credential, (0, 1000), 0o440, true),
        (Path::new("/etc/weather-station/hub"), (0, 0), 0o440, true),
        (Path::new("/run/credentials-of-others/hub"), (0, 0), 0o440, true),
        (Path::new("/etc/weather-station/hub"), (1000, 1000), 0o600, false),
    ] {
        assert_eq!(
            others_can_read(path, owner, mode, None),
            exposed,
            "{} {owner:?} {mode:o}",
            path.display()
        );
    }
    let handed = Path::new("/somewhere/else");
    assert!(!others_can_read(&handed.join("hub"), (0, 0), 0o440, Some(handed)));
}

#[test]
fn a_key_file_signs_and_is_read_anew_and_nobody_else_may_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let mut signer = KeyFileSigner::new(&path);
    let refused = |error: IdentityError| error.to_string().replace(path.to_str().unwrap(), "FILE");
    assert_eq!(
        refused(signer.identity().unwrap_err()),
        "reading the key file FILE: there is no such file; write the device's connection string into it (mode \
         0600), or set identity.key_file to where it is"
    );
    std::fs::write(&path, format!("HostName=h;DeviceId=d;SharedAccessKey={KEY}\n")).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o660] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(
            refused(signer.identity().unwrap_err()),
            format!(
                "reading the key file FILE: its mode is {mode:04o}, so that others can read the key; expected 0600: \
                 run `chmod 600 FILE`, and give the device a new key if others had access"
            )
        );
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(signer.identity().unwrap(), Identity { host: "h".into(), device_id: "d".into() });
    let expected = Software(STANDARD.decode(KEY).unwrap()).sign(b"x").unwrap();
    assert_eq!(signer.sign(b"x").unwrap(), expected);
    // As Windows saves UTF-8: with a mark before the first letter.
    std::fs::write(&path, format!("\u{feff}HostName=h;DeviceId=d;SharedAccessKey={KEY}\r\n")).unwrap();
    assert_eq!(signer.identity().unwrap().device_id, "d");
    assert_eq!(signer.sign(b"x").unwrap(), expected);
    // Another device's string in the file: no signature for the old name with the new key.
    std::fs::write(&path, format!("HostName=h;DeviceId=e;SharedAccessKey={KEY}")).unwrap();
    let replaced = signer.sign(b"x").unwrap_err();
    assert!(
        matches!(&replaced, IdentityError::Replaced { asked, holds } if asked.device_id == "d" && holds.device_id == "e")
    );
    assert_eq!(signer.identity().unwrap().device_id, "e");
    assert_eq!(signer.sign(b"x").unwrap(), expected);
    for content in [&b"\xff\xfe"[..], &[b'x'; 5000]] {
        std::fs::write(&path, content).unwrap();
        assert!(refused(signer.identity().unwrap_err()).contains("expected one line of text"));
    }
    std::fs::write(&path, "HostName=h").unwrap();
    assert!(
        refused(signer.identity().unwrap_err())
            .starts_with("reading the key file FILE: reading the connection")
    );
    let mut signer = KeyFileSigner::new(folder.path());
    assert!(signer.identity().unwrap_err().to_string().contains("expected a plain file"));
}

#[test]
fn a_pipe_in_the_place_of_the_key_file_is_refused_and_not_waited_for() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let (refused_tx, refused) = channel();
    // Left behind should it wait.
    std::thread::spawn(move || {
        refused_tx.send(KeyFileSigner::new(&path).identity().unwrap_err().to_string())
    });
    let refused = refused.recv_timeout(Duration::from_secs(10)).expect("an answer, though nobody writes");
    assert!(refused.contains("expected a plain file"), "{refused}");
}
