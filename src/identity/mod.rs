//! Who the station is at the hub, and the one thing a private key may do: sign.
//! Knows the TPM and the key file; knows nothing of AMQP. The key of a TPM never enters this process
//! except on its way in, while provisioning.

mod connection_string;
pub mod dps;
pub mod key_file;
pub mod provision;
mod quiet;
pub mod sas_token;
#[cfg(test)]
mod tests;
pub mod tpm;

use std::path::PathBuf;

use serde::Serialize;

pub use self::quiet::quiet_libtss2;
use crate::config;

/// Opens what `[identity]` names. It succeeds without a TPM and without a key file: the first use says
/// what is missing, so that the station starts and records without either.
pub fn open(config: &config::Identity) -> Result<Box<dyn Signer>, IdentityError> {
    Ok(match config.source {
        config::IdentitySource::Tpm => Box::new(tpm::TpmSigner::new(&config.tcti, config.slot)),
        config::IdentitySource::KeyFile => Box::new(key_file::KeyFileSigner::new(&config.key_file)),
    })
}

/// The name of a device at a hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Host name or IP of the hub, no port.
    pub host: String,
    /// Case-sensitive, at most 128 characters.
    pub device_id: String,
}

/// Something that holds a device key and makes HMAC-SHA256 with it. Calls block (a TPM on SPI takes
/// tens of milliseconds): use it inside `spawn_blocking`, from one owner. Between calls it holds nothing open,
/// so that one that failed can be asked again.
pub trait Signer: Send {
    /// Who the key belongs to, read anew (a replacing provision is picked up).
    fn identity(&mut self) -> Result<Identity, IdentityError>;
    /// HMAC-SHA256 over at most 1,024 bytes, by the key that [`Signer::identity`] last saw: a key that
    /// was replaced since is an error, and `identity` has to be asked again.
    fn sign(&mut self, data: &[u8]) -> Result<[u8; 32], IdentityError>;
}

/// Why there is no identity or no signature. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The TPM holds no key or no name in this slot.
    #[error("{what} in slot {slot} is not there: run `weather-station provision`")]
    NotProvisioned { slot: u8, what: &'static str },
    /// The same, but what the slot holds instead is replaced on demand only.
    #[error(
        "{what} in slot {slot} is not there, as it holds {holds}: run `weather-station provision --force` if that may go"
    )]
    Foreign { slot: u8, what: &'static str, holds: &'static str },
    /// Without a TPM: no key file. What the kernel says about it is in the text already.
    #[error(
        "reading the key file {}: there is no such file; write the device's connection string into it (mode 0600), \
         or set identity.key_file to where it is",
        .path.display()
    )]
    NoKeyFile { path: PathBuf },
    /// The signer was given another identity since it was asked.
    #[error(
        "signing for {} at {}: the signer now holds {} at {}; the station reads the identity anew and signs in again",
        .asked.device_id, .asked.host, .holds.device_id, .holds.host
    )]
    Replaced { asked: Identity, holds: Identity },
    /// Anything else, with its remedy in the text.
    #[error("{doing}: {remedy}")]
    Failed {
        /// What was being done, to what.
        doing: String,
        /// What was expected and what to do.
        remedy: String,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
}

impl IdentityError {
    /// Whether it is certain that there is no identity; any other error leaves that open.
    pub fn is_not_provisioned(&self) -> bool {
        matches!(self, Self::NotProvisioned { .. } | Self::Foreign { .. } | Self::NoKeyFile { .. })
    }

    fn failed(doing: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Failed { doing: doing.into(), remedy: remedy.into(), source: None }
    }

    fn because(
        doing: impl Into<String>,
        remedy: impl Into<String>,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self::Failed { doing: doing.into(), remedy: remedy.into(), source: Some(Box::new(source)) }
    }
}
