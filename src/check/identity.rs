//! The identity: a TPM that answers, a key that signs, a name that goes with it.

use super::Finding;
use crate::chain::chain;
use crate::config::{Config, IdentitySource};
use crate::identity::{self, IdentityError, key_file, provision};

const NAME: &str = "tpm";

pub async fn check(config: &Config) -> Finding {
    let config = config.clone();
    match tokio::task::spawn_blocking(move || look(&config)).await {
        Ok(finding) => finding,
        Err(error) => Finding::failed(NAME, error.to_string(), "report this: the check itself broke"),
    }
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
        Err(error) => {
            let remedy = match config.identity.source {
                IdentitySource::Tpm => "`weather-station provision --show` tells what the TPM holds".into(),
                IdentitySource::KeyFile => {
                    let file = config.identity.key_file.display();
                    format!("the device's connection string belongs into {file}, mode 0600")
                }
            };
            let remedy = format!("readings are recorded meanwhile, none is sent; {remedy}");
            Finding::failed(NAME, chain(&error), remedy)
        }
    }
}

fn chip(config: &Config) -> String {
    match provision::show(&config.identity.tcti, config.identity.slot) {
        Ok(shown) => format!(", TPM {} firmware {}", shown.vendor, shown.firmware),
        Err(error) => format!(", but the TPM cannot be described: {}", chain(&error)),
    }
}
