//! The identity: a TPM that answers, a key that signs, a name that goes with it.

use serde_json::Value;

use super::{Finding, Station, text};
use crate::chain::chain;
use crate::config::{Config, IdentitySource};
use crate::identity::{self, IdentityError, key_file, provision};

const NAME: &str = "tpm";

pub async fn check(config: &Config, station: &Station) -> Finding {
    // What root may read and use the station may not, perhaps: its word counts.
    if let Some(reason) = station.document().and_then(without_identity) {
        return Finding::failed(NAME, format!("the running station: {reason}"), remedy(config));
    }
    let config = config.clone();
    match tokio::task::spawn_blocking(move || look(&config)).await {
        Ok(finding) => finding,
        Err(error) => Finding::failed(NAME, error.to_string(), "report this: the check itself broke"),
    }
}

/// Why a station that runs does not know who it is.
fn without_identity(document: &Value) -> Option<&str> {
    let unknown = document.pointer("/identity/host").is_none_or(Value::is_null);
    text(document, "/identity/reason").filter(|_| unknown)
}

fn look(config: &Config) -> Finding {
    let signed = identity::open(&config.identity).and_then(|mut signer| {
        let name = signer.identity()?;
        signer.sign(b"a signature that nobody gets")?;
        Ok(name)
    });
    match signed {
        Ok(name) => {
            let detail = format!("{} at {}", name.device_id, name.host);
            match config.identity.source {
                IdentitySource::Tpm => Finding::ok(NAME, detail + &chip(config)),
                IdentitySource::KeyFile => Finding::warning(NAME, detail, key_file::WARNING),
            }
        }
        Err(IdentityError::NotProvisioned { .. }) if !config.provisioning.id_scope.is_empty() => {
            Finding::warning(
                NAME,
                "not provisioned; the Device Provisioning Service will be asked at start",
                "or provision it by hand: `weather-station provision --help`",
            )
        }
        Err(error) => Finding::failed(NAME, chain(&error), remedy(config)),
    }
}

fn remedy(config: &Config) -> String {
    let remedy = match config.identity.source {
        IdentitySource::Tpm if !config.provisioning.id_scope.is_empty() => {
            "the station asks the Device Provisioning Service by itself, where it is enrolled \
             (`weather-station provision --show-enrollment`)"
                .into()
        }
        IdentitySource::Tpm => "`weather-station provision --show` tells what the TPM holds".into(),
        IdentitySource::KeyFile => {
            let file = config.identity.key_file.display();
            format!(
                "the device's connection string belongs in {file}, mode 0600, of the user that the station runs as"
            )
        }
    };
    format!("readings are recorded meanwhile, none is sent; {remedy}")
}

fn chip(config: &Config) -> String {
    match provision::show(&config.identity.tcti, config.identity.slot) {
        Ok(shown) => format!(", TPM {} firmware {}", shown.vendor, shown.firmware),
        Err(error) => format!(", but the TPM cannot be described: {}", chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    use serde_json::json;

    use super::super::Status;
    use super::*;

    /// As beside a key file that root has made: whoever checks can read it, the station cannot.
    #[tokio::test]
    async fn a_running_station_without_an_identity_has_failed_whatever_whoever_checks_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.identity.source = IdentitySource::KeyFile;
        config.identity.key_file = dir.path().join("key");
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).mode(0o600).open(&config.identity.key_file).unwrap();
        file.write_all(b"HostName=hub.example;DeviceId=roof;SharedAccessKey=a2V5").unwrap();
        let says = |host: Value, reason: Value| {
            Station::Says(json!({"identity": {"source": "key-file", "host": host, "reason": reason}}))
        };

        let why = "reading the key file: it may not be read";
        let finding = check(&config, &says(Value::Null, why.into())).await;
        assert_eq!((finding.status, finding.detail), (Status::Failed, format!("the running station: {why}")));
        assert!(finding.remedy.unwrap().contains("of the user that the station runs as"));

        for station in [Station::Absent, says("hub.example".into(), Value::Null)] {
            let finding = check(&config, &station).await;
            assert_eq!((finding.status, &*finding.detail), (Status::Warning, "roof at hub.example"));
        }
    }
}
