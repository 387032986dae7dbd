//! The enrollment list and what has become of each entry. Knows the device registry of the hubs; knows no
//! HTTP.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::tpm_public::TpmPublic;
use crate::registry::Registry;

/// Individual enrollments by registration id, which is compared without regard to case.
#[derive(Default)]
pub struct Enrollments(BTreeMap<String, Enrollment>);

/// A hub that devices can be assigned to.
#[derive(Clone)]
pub struct Hub {
    pub host: String,
    pub registry: Registry,
}

/// One TPM that is allowed to come.
pub struct Enrollment {
    /// As it was enrolled, to the byte.
    pub endorsement_key: Vec<u8>,
    pub ek: TpmPublic,
    pub device_id: String,
    pub enabled: bool,
    /// The key of the last challenge, and whom it was for.
    pub session: Option<Session>,
    pub operation: Option<Operation>,
    /// Where it is assigned.
    pub hub: Option<Hub>,
}

/// Between challenge and assignment.
pub struct Session {
    pub key: Vec<u8>,
    pub srk: TpmPublic,
}

/// An assignment on its way.
pub struct Operation {
    pub id: String,
    /// "assigning" is still said so often.
    pub left: u32,
}

/// What cannot be enrolled.
#[derive(Debug, thiserror::Error)]
#[error("the endorsement key of `{0}` is not base64 of a TPM2B_PUBLIC (RSA 2048, SHA-256, AES-128-CFB)")]
pub struct EnrollError(String);

impl Enrollments {
    pub fn add(&mut self, id: &str, endorsement_key: &str, device_id: &str) -> Result<(), EnrollError> {
        let endorsement_key = STANDARD.decode(endorsement_key.trim()).ok();
        let parsed = endorsement_key.and_then(|bytes| Some((TpmPublic::parse(&bytes)?, bytes)));
        let (ek, endorsement_key) = parsed.ok_or_else(|| EnrollError(id.to_owned()))?;
        let device_id = device_id.to_owned();
        let enrollment = Enrollment {
            endorsement_key,
            ek,
            device_id,
            enabled: true,
            session: None,
            operation: None,
            hub: None,
        };
        self.0.insert(id.to_ascii_lowercase(), enrollment);
        Ok(())
    }

    pub fn get(&mut self, id: &str) -> Option<&mut Enrollment> {
        self.0.get_mut(&id.to_ascii_lowercase())
    }

    pub fn set_enabled(&mut self, id: &str, enabled: bool) -> bool {
        self.get(id).map(|enrollment| enrollment.enabled = enabled).is_some()
    }

    pub fn remove(&mut self, id: &str) -> bool {
        self.0.remove(&id.to_ascii_lowercase()).is_some()
    }
}

impl Enrollment {
    /// Makes the device known at the hub under this key, and unknown where it was before.
    pub fn assign(&mut self, hub: &Hub, key: &[u8]) {
        if let Some(before) = self.hub.take()
            && before.host != hub.host
        {
            before.registry.remove(&self.device_id);
        }
        hub.registry
            .add_with_keys(&self.device_id, &STANDARD.encode(key), None)
            .expect("base64 of our own is base64");
        self.hub = Some(hub.clone());
    }
}
