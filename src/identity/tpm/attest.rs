//! What the provisioning service's TPM attestation asks of a TPM: endorsement and storage root key,
//! credential activation, import of the key that the service made. Knows no network.
//!
//! # The service's blob (azure-iot-sdk-c, `hsm_client_tpm.c`), big-endian, TPM2B = 2-byte size and bytes
//! TPM2B_ID_OBJECT, TPM2B_ENCRYPTED_SECRET (both for TPM2_ActivateCredential, which gives the inner key),
//! TPM2B_PRIVATE, TPM2B_ENCRYPTED_SECRET, TPM2B_PUBLIC (for TPM2_Import with that inner key), and a
//! TPM2B_DATA that nobody uses.

use tss_esapi::abstraction::{AsymmetricAlgorithmSelection, ek};
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{AuthHandle, KeyHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::{AuthSession, PolicySession};
use tss_esapi::structures::{
    Data, Digest, EncryptedSecret, IdObject, MaxBuffer, Nonce, Private, Public, SymmetricDefinition,
    SymmetricDefinitionObject,
};
use tss_esapi::traits::UnMarshall;

use super::context::{READING_PUBLIC, Tpm};
use super::layout;
use super::lock::Lock;
use super::provision::{self, Mark, Occupant};
use crate::identity::{Identity, IdentityError};

/// The public halves that name a TPM to the service, as TPM2B_PUBLIC.
pub struct Keys {
    pub endorsement_key: Vec<u8>,
    pub storage_root_key: Vec<u8>,
}

/// A key that the service made for this TPM, wrapped by its SRK: no secret outside of it.
#[derive(Clone)]
pub struct ServiceKey {
    private: Private,
    public: Public,
}

/// Reads both keys; makes and keeps what is not there. A key that is there is never made anew: the
/// enrollment names it.
pub fn keys(tcti: &str) -> Result<Keys, IdentityError> {
    let _lock = Lock::take(tcti)?;
    let mut tpm = Tpm::open(tcti)?;
    let srk = provision::storage_root_key(&mut tpm)?;
    let ek = endorsement_key(&mut tpm)?;
    Ok(Keys { endorsement_key: area(&mut tpm, ek)?, storage_root_key: area(&mut tpm, srk)? })
}

/// Refuses a slot that the service did not fill: a person's identity is never touched.
pub fn may_fill(tcti: &str, slot: u8) -> Result<(), IdentityError> {
    slot_is_ours(&mut Tpm::open(tcti)?, slot)
}

/// Unwraps the service's blob into a key that only this TPM can use.
pub fn activate(tcti: &str, blob: &[u8]) -> Result<ServiceKey, IdentityError> {
    const DOING: &str = "activating the key that the provisioning service made for this TPM";
    let blob = Blob::parse(blob).ok_or_else(|| {
        IdentityError::failed(DOING, "the service's answer is not a TPM activation blob; try again later")
    })?;
    let mut tpm = Tpm::open(tcti)?;
    let srk = provision::storage_root_key(&mut tpm)?;
    let ek = endorsement_key(&mut tpm)?;
    let policy = endorsement_policy(&mut tpm)?;
    let sessions = (Some(AuthSession::Password), Some(policy.into()), None);
    let inner = tpm.context.execute_with_sessions(sessions, |context| {
        context.activate_credential(srk, ek, blob.credential, blob.credential_secret)
    });
    if inner.is_err() {
        // Used up by success, left behind by failure.
        let _ = tpm.context.flush_context(SessionHandle::from(policy).into());
    }
    let inner = inner.map_err(|error| tpm.explain(DOING, error))?;
    let public = blob.public.clone();
    let private = tpm.run(DOING, |context| {
        let inner = Data::try_from(inner.to_vec())?;
        let cipher = SymmetricDefinitionObject::AES_128_CFB;
        context.import(srk.into(), Some(inner), blob.public, blob.duplicate, blob.import_secret, cipher)
    })?;
    if !layout::is_device_key(&public) {
        return Err(IdentityError::failed(DOING, "the service sent something that is not an HMAC key"));
    }
    Ok(ServiceKey { private, public })
}

/// HMAC-SHA256 by a key that is not (yet) kept.
pub fn sign(tcti: &str, key: &ServiceKey, data: &[u8]) -> Result<[u8; 32], IdentityError> {
    const DOING: &str = "signing with the key that the provisioning service made";
    let mut tpm = Tpm::open(tcti)?;
    let loaded = load(&mut tpm, key, DOING)?;
    let signature = tpm.run(DOING, |context| {
        context.hmac(loaded.into(), MaxBuffer::try_from(data)?, HashingAlgorithm::Sha256)
    })?;
    tpm.ask(DOING, |context| context.flush_context(loaded.into()))?;
    <[u8; 32]>::try_from(signature.as_slice())
        .map_err(|_| IdentityError::failed(DOING, "the TPM gave a signature of the wrong length"))
}

/// Makes it the slot's key, with this name, marked as the service's. An older key goes only when this one
/// has been loaded and kept.
pub fn keep(tcti: &str, slot: u8, key: &ServiceKey, identity: &Identity) -> Result<(), IdentityError> {
    let _lock = Lock::take(tcti)?;
    let mut tpm = Tpm::open(tcti)?;
    slot_is_ours(&mut tpm, slot)?;
    let loaded = load(&mut tpm, key, "loading the key that the provisioning service made")?;
    provision::install(tpm, slot, loaded, identity, Mark::ByService)
}

/// Whether the slot's identity came from the service.
pub fn is_marked(tcti: &str, slot: u8) -> Result<bool, IdentityError> {
    provision::is_marked(&mut Tpm::open(tcti)?, slot)
}

fn slot_is_ours(tpm: &mut Tpm, slot: u8) -> Result<(), IdentityError> {
    if provision::is_marked(tpm, slot)? {
        return Ok(());
    }
    let there = match provision::occupant(tpm, slot)? {
        Occupant::Nothing => return Ok(()),
        Occupant::Identity(identity) => {
            format!("the identity of device {:?} at {}, put there by hand", identity.device_id, identity.host)
        }
        Occupant::Unfinished => "an unfinished provisioning by hand".into(),
        Occupant::Foreign(what) => what.into(),
    };
    Err(IdentityError::failed(
        format!("provisioning slot {slot} of the TPM by the provisioning service"),
        format!(
            "the slot holds {there}, which the service never replaces; run `weather-station provision --clear` \
             first if it may go, or choose another identity.slot"
        ),
    ))
}

fn load(tpm: &mut Tpm, key: &ServiceKey, doing: &str) -> Result<KeyHandle, IdentityError> {
    let srk = provision::storage_root_key(tpm)?;
    tpm.run(doing, |context| context.load(srk, key.private.clone(), key.public.clone()))
}

/// TCG EK Credential Profile 2.3, B.3.3 (template L-1, RSA 2048), which is what the portal's tools make.
fn endorsement_key(tpm: &mut Tpm) -> Result<KeyHandle, IdentityError> {
    if let Some(key) = tpm.persistent(layout::EK)? {
        return Ok(key);
    }
    tpm.make_persistent("making the TPM's endorsement key", layout::EK, |context| {
        let kind = AsymmetricAlgorithmSelection::Rsa(RsaKeyBits::Rsa2048);
        let template = ek::create_ek_public_from_default_template_2(kind, None)?;
        Ok(context.create_primary(Hierarchy::Endorsement, template, None, None, None, None)?.key_handle)
    })
}

/// The endorsement key is used under PolicySecret(endorsement hierarchy).
fn endorsement_policy(tpm: &mut Tpm) -> Result<PolicySession, IdentityError> {
    const DOING: &str = "opening the TPM's endorsement hierarchy";
    let session = tpm.ask(DOING, |context| {
        let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let session = context.start_auth_session(None, None, None, SessionType::Policy, cipher, hash)?;
        session.map(PolicySession::try_from).transpose()
    })?;
    let session =
        session.ok_or_else(|| IdentityError::failed(DOING, "the TPM gave no session; try again"))?;
    tpm.run(DOING, |context| {
        let nonce = Nonce::default();
        context.policy_secret(session, AuthHandle::Endorsement, nonce.clone(), Digest::default(), nonce, None)
    })?;
    Ok(session)
}

/// An object's public area as TPM2B_PUBLIC: two bytes of size, and the area.
fn area(tpm: &mut Tpm, key: KeyHandle) -> Result<Vec<u8>, IdentityError> {
    let area = tpm.public_area(key)?;
    let size =
        u16::try_from(area.len()).map_err(|_| IdentityError::failed(READING_PUBLIC, "it is too large"))?;
    Ok([&size.to_be_bytes()[..], &area].concat())
}

struct Blob {
    credential: IdObject,
    credential_secret: EncryptedSecret,
    duplicate: Private,
    import_secret: EncryptedSecret,
    public: Public,
}

impl Blob {
    fn parse(mut bytes: &[u8]) -> Option<Self> {
        let mut next = || {
            let (size, rest) = bytes.split_first_chunk::<2>()?;
            let (part, rest) = rest.split_at_checked(u16::from_be_bytes(*size).into())?;
            bytes = rest;
            Some(part.to_vec())
        };
        Some(Self {
            credential: IdObject::try_from(next()?).ok()?,
            credential_secret: EncryptedSecret::try_from(next()?).ok()?,
            duplicate: Private::try_from(next()?).ok()?,
            import_secret: EncryptedSecret::try_from(next()?).ok()?,
            public: Public::unmarshall(&next()?).ok()?,
        })
    }
}
