//! The signer for a station without a TPM: a device connection string in a file that only its owner
//! reads. Anybody who can read the file, or the card it is on, can be this device: that is what a TPM
//! is for. Reads the file anew each time, so that a replaced file is picked up.

use std::fs::OpenOptions;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::connection_string::{Credentials, parse_connection_string};
use super::{Identity, IdentityError, Signer};
use crate::secret_text;

/// What is lost without a TPM, for the log and for `check`.
pub const WARNING: &str = "the device key is in a file: whoever reads the card can copy the key and be \
                           this device; with a TPM it could not leave the board";

/// Signs with the key in a file. Keeps the path, not the key.
pub struct KeyFileSigner {
    path: PathBuf,
    /// What [`Signer::identity`] saw last.
    seen: Option<Identity>,
}

impl KeyFileSigner {
    /// Opens nothing yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), seen: None }
    }
}

impl Signer for KeyFileSigner {
    fn identity(&mut self) -> Result<Identity, IdentityError> {
        let Credentials { identity, .. } = read(&self.path)?;
        if self.seen.is_none() {
            tracing::warn!(file = %self.path.display(), "{WARNING}");
        }
        self.seen = Some(identity.clone());
        Ok(identity)
    }

    fn sign(&mut self, data: &[u8]) -> Result<[u8; 32], IdentityError> {
        let Credentials { identity, key } = read(&self.path)?;
        if let Some(asked) = self.seen.clone().filter(|seen| *seen != identity) {
            return Err(IdentityError::Replaced { asked, holds: identity });
        }
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("HMAC takes keys of any length");
        mac.update(data);
        Ok(mac.finalize().into_bytes().into())
    }
}

fn read(path: &Path) -> Result<Credentials, IdentityError> {
    let doing = || format!("reading the key file {}", path.display());
    let failed = |error: std::io::Error| {
        let remedy = match error.kind() {
            std::io::ErrorKind::NotFound => {
                return IdentityError::NoKeyFile { path: path.to_owned() };
            }
            std::io::ErrorKind::PermissionDenied => {
                "it may not be read; it must belong to the user that the station runs as"
            }
            std::io::ErrorKind::InvalidData => "expected one line of text, the device's connection string",
            _ => "it cannot be read; it must be a plain file with the device's connection string",
        };
        IdentityError::because(doing(), remedy, error)
    };
    // Not waiting, which opening a pipe does until somebody writes into it.
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(failed)?;
    // Asked of the open file, so that it cannot be exchanged between the question and the reading.
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(IdentityError::failed(doing(), "expected a plain file with a connection string in it"));
    }
    let handed = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let owner = (metadata.uid(), metadata.gid());
    if others_can_read(path, owner, metadata.mode(), handed.as_deref()) {
        return Err(IdentityError::failed(
            doing(),
            format!(
                "its mode is {:04o}, so that others can read the key; expected 0600: run `chmod 600 {}`, and \
                 give the device a new key if others had access",
                metadata.permissions().mode() & 0o7777,
                path.display()
            ),
        ));
    }
    let text = secret_text::read(&mut file).map_err(failed)?;
    parse_connection_string(&text).map_err(|error| match error {
        IdentityError::Failed { doing: inner, remedy, source } => {
            IdentityError::Failed { doing: format!("{}: {inner}", doing()), remedy, source }
        }
        other => other,
    })
}

/// Where systemd puts the credentials of its services, each in a folder of its own.
const CREDENTIALS: &str = "/run/credentials";

/// Whether this file of this owner (user, group) leaves its key to others. A credential that systemd hands to a service
/// belongs to root, with an access list for the service's user that shows in the group bits (0440), in a folder that
/// only the service can enter (systemd.exec(5), `LoadCredential=`). The service is told its folder (`handed`); a
/// command beside it is not.
pub(super) fn others_can_read(path: &Path, owner: (u32, u32), mode: u32, handed: Option<&Path>) -> bool {
    let credential = path.starts_with(CREDENTIALS) || handed.is_some_and(|folder| path.starts_with(folder));
    let to_root_and_us = owner == (0, 0) && mode & 0o037 == 0;
    mode & 0o077 != 0 && !(credential && to_root_and_us)
}
