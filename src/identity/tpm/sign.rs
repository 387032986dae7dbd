//! The signer: reads who the slot's key belongs to, and signs with it. Writes nothing.

use sha2::{Digest as _, Sha256};
use tss_esapi::handles::KeyHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{MaxBuffer, Name};

use super::context::Tpm;
use super::provision::{self, Occupant};
use super::{errors, layout};
use crate::identity::connection_string::checked_identity;
use crate::identity::{Identity, IdentityError, Signer};

/// Signs with the key in a slot. Holds no connection to the TPM between calls.
pub struct TpmSigner {
    tcti: String,
    slot: u8,
    /// The TPM's name of the key (a hash of its public part) when the identity was read.
    seen: Option<Name>,
    /// A key that wants a password and counts wrong ones. Trying it for ever would lock the whole TPM.
    locked: Option<Name>,
}

impl TpmSigner {
    /// Opens nothing yet.
    pub fn new(tcti: &str, slot: u8) -> Self {
        Self { tcti: tcti.to_owned(), slot, seen: None, locked: None }
    }
}

impl Signer for TpmSigner {
    fn identity(&mut self) -> Result<Identity, IdentityError> {
        let mut tpm = Tpm::open(&self.tcti)?;
        let key = device_key(&mut tpm, self.slot)?;
        let identity = read_identity(&mut tpm, self.slot)?;
        // Provisioning removes the name before it changes the key: the same key before and after the
        // reading means that they belong together.
        let (_, after) = tpm.public(key.handle)?;
        if key.name != after {
            return Err(replaced(self.slot));
        }
        if self.seen.as_ref().is_some_and(|seen| *seen != after) {
            tracing::warn!(
                slot = self.slot,
                "the device key in the TPM was replaced: signing in with the new one"
            );
        }
        self.seen = Some(after);
        Ok(identity)
    }

    fn sign(&mut self, data: &[u8]) -> Result<[u8; 32], IdentityError> {
        let expected = match &self.seen {
            Some(name) => name.clone(),
            None => {
                self.identity()?;
                self.seen.clone().expect("identity() has just noted it")
            }
        };
        if data.len() > MaxBuffer::MAX_SIZE {
            return Err(IdentityError::failed(
                format!("signing {} bytes with the TPM's device key", data.len()),
                "expected at most 1,024 bytes, which a TPM takes in one command; a shorter host name or device id \
                 helps",
            ));
        }
        let mut tpm = Tpm::open(&self.tcti)?;
        let key = device_key(&mut tpm, self.slot)?;
        if self.locked.as_ref() == Some(&key.name) {
            return Err(locked(self.slot));
        }
        let signed = tpm.context.execute_with_session(Some(AuthSession::Password), |context| {
            context.hmac(key.handle.into(), MaxBuffer::try_from(data)?, HashingAlgorithm::Sha256)
        });
        if key.counts_passwords && signed.as_ref().is_err_and(|error| errors::is_wrong_password(*error)) {
            self.locked = Some(key.name);
        }
        let signature = signed.map_err(|error| tpm.explain("signing with the TPM's device key", error))?;
        // Asked after signing: a key that was replaced at any time before shows another name now.
        if tpm.public(key.handle)?.1 != expected {
            return Err(replaced(self.slot));
        }
        <[u8; 32]>::try_from(signature.as_slice()).map_err(|_| {
            IdentityError::failed(
                "signing with the TPM's device key",
                "the TPM gave a signature of the wrong length",
            )
        })
    }
}

/// The slot's key, and what its public part says.
struct DeviceKey {
    handle: KeyHandle,
    name: Name,
    /// Under dictionary-attack protection, as ours are not.
    counts_passwords: bool,
}

/// The slot's key, checked to be one that signs.
fn device_key(tpm: &mut Tpm, slot: u8) -> Result<DeviceKey, IdentityError> {
    let Some(handle) = tpm.persistent(layout::key(slot))? else {
        return Err(missing(tpm, slot, "the device key")?);
    };
    let (public, name) = tpm.public(handle)?;
    if !layout::is_device_key(&public) {
        return Err(IdentityError::failed(
            format!("looking at the key in slot {slot} of the TPM"),
            "the slot holds an object that is not a device key; replace it with `weather-station provision \
             --force` if it may go, or choose another identity.slot",
        ));
    }
    Ok(DeviceKey { handle, name, counts_passwords: !public.object_attributes().no_da() })
}

/// The slot's `hostname/deviceId`. An empty device id stands for the predecessor's "hardware device id".
pub(super) fn read_identity(tpm: &mut Tpm, slot: u8) -> Result<Identity, IdentityError> {
    let Some(content) = tpm.nv_read(layout::name(slot))? else {
        return Err(missing(tpm, slot, "the hub's and the device's name")?);
    };
    let text = std::str::from_utf8(&content).unwrap_or_default().trim_end_matches('\0');
    let (host, device_id) = text.split_once('/').unwrap_or((text, ""));
    if device_id.is_empty() {
        let device_id = hardware_device_id(tpm, slot)?;
        return checked_identity(host, &device_id);
    }
    checked_identity(host, device_id)
}

/// Half an identity: what a cut left is taken up by a rerun, and what may be another program's only where provisioning
/// is told that it may go.
pub(super) fn missing(tpm: &mut Tpm, slot: u8, what: &'static str) -> Result<IdentityError, IdentityError> {
    Ok(match provision::occupant(tpm, slot)? {
        Occupant::Foreign(holds) => IdentityError::Foreign { slot, what, holds },
        _ => IdentityError::NotProvisioned { slot, what },
    })
}

/// SHA-256 over the slot as four little-endian bytes and the SRK's name, in hexadecimal (Limpet.cs,
/// `GetHardwareDeviceId`).
fn hardware_device_id(tpm: &mut Tpm, slot: u8) -> Result<String, IdentityError> {
    let srk = tpm
        .persistent(layout::SRK)?
        .ok_or(IdentityError::NotProvisioned { slot, what: "the storage root key" })?;
    let (_, name) = tpm.public(srk)?;
    let digest =
        Sha256::new().chain_update(u32::from(slot).to_le_bytes()).chain_update(name.value()).finalize();
    Ok(hex(&digest))
}

/// A digest as text.
pub(super) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn locked(slot: u8) -> IdentityError {
    IdentityError::failed(
        format!("signing with the TPM's device key in slot {slot}"),
        "the key wants a password, and the TPM counts wrong ones until it locks itself for everybody: it is not \
         tried again before it is replaced (`weather-station provision --force`) or the station is restarted",
    )
}

fn replaced(slot: u8) -> IdentityError {
    IdentityError::failed(
        format!("signing with the TPM's device key in slot {slot}"),
        "the key was replaced in the meantime; the station reads the identity anew and signs in again. If \
         nobody provisioned this station, somebody else uses its TPM: run `weather-station provision --show`",
    )
}
