//! Puts an identity into a slot and takes it out again, in an order that a cut cannot spoil.
//! Knows the layout; knows no command line. The key is in memory only on its way through.
//!
//! # Order
//! 1. The new key is created and kept at the staging handle.
//! 2. The slot's mark and name are removed: from here on the slot is not provisioned.
//! 3. The old key is removed and the new one kept in its place.
//! 4. The name is written.
//! 5. The staging handle is emptied.
//!
//! So the old key goes only when the new one is in, and a name is never there together with another
//! identity's key. A rerun finds what a cut left and goes on from there: a staging object without a name
//! is an unfinished provisioning, as is a key that was made here (a rerun that was cut as well, or a clearing).
//! The lock is held from the look at what is there to the last step.

use tss_esapi::attributes::SessionAttributesBuilder;
use tss_esapi::constants::SessionType;
use tss_esapi::handles::{KeyHandle, SessionHandle};
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::resource_handles::Hierarchy;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Name, SensitiveData, SymmetricDefinition};

use super::context::Tpm;
use super::lock::Lock;
use super::{layout, sign};
use crate::identity::connection_string::Credentials;
use crate::identity::{Identity, IdentityError};

/// Puts an identity into a slot. The same host and device id again (a new key, or a rerun) needs no
/// `force`; anything else that is in the slot does.
pub fn provision(tcti: &str, slot: u8, credentials: &Credentials, force: bool) -> Result<(), IdentityError> {
    let _lock = Lock::take(tcti)?;
    let mut tpm = Tpm::open(tcti)?;
    let occupant = occupant(&mut tpm, slot)?;
    if !force {
        refuse_another(slot, &occupant, &credentials.identity)?;
    }
    let srk = storage_root_key(&mut tpm)?;
    let key = import(&mut tpm, srk, credentials)?;
    install(tpm, slot, key, &credentials.identity, Mark::ByHand)
}

/// Removes a slot's name, key and mark. What is not there is fine; the SRK stays.
pub fn clear(tcti: &str, slot: u8) -> Result<(), IdentityError> {
    let _lock = Lock::take(tcti)?;
    let mut tpm = Tpm::open(tcti)?;
    tpm.nv_remove(layout::name(slot))?;
    tpm.evict(layout::key(slot))?;
    tpm.evict(layout::staging(slot))?;
    // Last, so that a cut does not make the service's key look like somebody else's.
    tpm.nv_remove(layout::mark(slot))
}

/// Who provisions.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A person: any mark of the service goes.
    ByHand,
    /// The provisioning service: the slot is marked before anything else is changed.
    ByService,
}

/// Whether the slot's identity came from the service.
pub(super) fn is_marked(tpm: &mut Tpm, slot: u8) -> Result<bool, IdentityError> {
    Ok(tpm.nv(layout::mark(slot))?.is_some())
}

/// What a slot holds.
pub(super) enum Occupant {
    Nothing,
    /// A key and a name.
    Identity(Identity),
    /// A provisioning that a cut interrupted.
    Unfinished,
    /// Something that the station did not put there.
    Foreign(&'static str),
}

/// Looks without changing anything.
pub(super) fn occupant(tpm: &mut Tpm, slot: u8) -> Result<Occupant, IdentityError> {
    let key = tpm.persistent(layout::key(slot))?;
    let staging = tpm.persistent(layout::staging(slot))?;
    let named = tpm.nv_written(layout::name(slot))?;
    let (signs, made_here) = match key {
        Some(key) => {
            let (public, _) = tpm.public(key)?;
            (layout::is_device_key(&public), layout::is_made_here(&public))
        }
        None => (false, false),
    };
    let marked = is_marked(tpm, slot)?;
    Ok(match (key, signs, named) {
        (Some(_), false, _) => Occupant::Foreign("an object that is not a device key"),
        (Some(_), true, true) => match sign::read_identity(tpm, slot) {
            Ok(identity) => Occupant::Identity(identity),
            Err(_) => Occupant::Foreign("a device key with a name that cannot be read"),
        },
        _ if staging.is_some() => Occupant::Unfinished,
        (Some(_), true, false) if made_here || marked => Occupant::Unfinished,
        (None, _, true) if marked => Occupant::Unfinished,
        (Some(_), true, false) => Occupant::Foreign("a device key without a name"),
        (None, _, true) => Occupant::Foreign("a name without a device key"),
        (None, _, false) => Occupant::Nothing,
    })
}

/// The step that all ways in share: a loaded key becomes the slot's key, with this name. Under the lock.
pub(super) fn install(
    mut tpm: Tpm,
    slot: u8,
    key: KeyHandle,
    identity: &Identity,
    mark: Mark,
) -> Result<(), IdentityError> {
    if mark == Mark::ByService && !is_marked(&mut tpm, slot)? {
        tpm.nv_create(layout::mark(slot), b"dps")?;
    }
    // A leftover in staging may be removed only while the slot still has a key of its own; without one,
    // the leftover is the last key there is, and the new key goes straight to its place.
    if tpm.persistent(layout::key(slot))?.is_some() || tpm.persistent(layout::staging(slot))?.is_none() {
        tpm.evict(layout::staging(slot))?;
        tpm.persist(key.into(), layout::staging(slot))?;
    }
    if mark == Mark::ByHand {
        tpm.nv_remove(layout::mark(slot))?;
    }
    tpm.nv_remove(layout::name(slot))?;
    tpm.evict(layout::key(slot))?;
    tpm.persist(key.into(), layout::key(slot))?;
    tpm.nv_create(layout::name(slot), format!("{}/{}", identity.host, identity.device_id).as_bytes())?;
    tpm.evict(layout::staging(slot))?;
    let (_, installed) = tpm.public(key)?;
    tpm.free(key)?;
    look_again(tpm.anew()?, slot, &installed, identity)
}

/// Whoever the lock does not keep out may have been there in between. Two keys never have the same name in a TPM, which
/// is a hash over a seed and the key.
fn look_again(mut tpm: Tpm, slot: u8, installed: &Name, identity: &Identity) -> Result<(), IdentityError> {
    let key = match tpm.persistent(layout::key(slot))? {
        Some(key) => Some(tpm.public(key)?.1),
        None => None,
    };
    let named = match sign::read_identity(&mut tpm, slot) {
        Ok(named) => named == *identity,
        Err(IdentityError::NotProvisioned { .. } | IdentityError::Foreign { .. }) => false,
        Err(error) => return Err(error),
    };
    if named && key.as_ref() == Some(installed) {
        return Ok(());
    }
    Err(IdentityError::failed(
        format!("provisioning slot {slot} for device {:?} at {}", identity.device_id, identity.host),
        "something else changed the slot at the same time, and what is in it now may not fit together; see that \
         nothing else uses this slot of the TPM, and provision it again with --force",
    ))
}

/// The SRK, made and kept if there is none. One that is there is used as it is: other keys hang on it.
pub(super) fn storage_root_key(tpm: &mut Tpm) -> Result<KeyHandle, IdentityError> {
    if let Some(srk) = tpm.persistent(layout::SRK)? {
        let (public, _) = tpm.public(srk)?;
        if !layout::is_storage_parent(&public) {
            return Err(IdentityError::failed(
                format!("using the TPM's storage root key at {:#x}", layout::SRK),
                "what is there was made from another template and cannot hold keys (expected a restricted \
                 decryption key); it is left alone. If nothing needs it, remove it with `tpm2_evictcontrol \
                 -C o -c 0x81000001` and provision again",
            ));
        }
        return Ok(srk);
    }
    tpm.make_persistent("making the TPM's storage root key", layout::SRK, |context| {
        let template = layout::srk_template()?;
        Ok(context.create_primary(Hierarchy::Owner, template, None, None, None, None)?.key_handle)
    })
}

/// Creates the key under the SRK and loads it. The session is salted with the SRK and encrypts its first
/// parameter, so that the key does not cross the bus in clear.
fn import(tpm: &mut Tpm, srk: KeyHandle, credentials: &Credentials) -> Result<KeyHandle, IdentityError> {
    const DOING: &str = "putting the device key into the TPM";
    let session = salted_session(tpm, srk, DOING)?;
    let created = tpm.context.execute_with_session(Some(session), |context| {
        let sensitive = SensitiveData::try_from(credentials.key.to_vec())?;
        context.create(srk, layout::key_template()?, None, Some(sensitive), None, None)
    });
    let flushed = tpm.ask(DOING, |context| context.flush_context(SessionHandle::from(session).into()));
    let created = created.map_err(|error| tpm.explain(DOING, error))?;
    flushed?;
    tpm.run(DOING, |context| context.load(srk, created.out_private, created.out_public))
}

/// A session that only the TPM with this SRK can follow.
fn salted_session(tpm: &mut Tpm, srk: KeyHandle, doing: &str) -> Result<AuthSession, IdentityError> {
    let session = tpm.ask(doing, |context| {
        let (cipher, hash) = (SymmetricDefinition::AES_128_CFB, HashingAlgorithm::Sha256);
        let session = context.start_auth_session(Some(srk), None, None, SessionType::Hmac, cipher, hash)?;
        if let Some(session) = session {
            let (attributes, mask) =
                SessionAttributesBuilder::new().with_decrypt(true).with_encrypt(true).build();
            context.tr_sess_set_attributes(session, attributes, mask)?;
        }
        Ok(session)
    })?;
    session.ok_or_else(|| IdentityError::failed(doing, "the TPM gave no session; try again"))
}

fn refuse_another(slot: u8, occupant: &Occupant, wanted: &Identity) -> Result<(), IdentityError> {
    let there = match occupant {
        Occupant::Nothing | Occupant::Unfinished => return Ok(()),
        Occupant::Identity(there) if there == wanted => return Ok(()),
        Occupant::Identity(there) => {
            format!("the identity of device {:?} at {}", there.device_id, there.host)
        }
        Occupant::Foreign(what) => (*what).to_owned(),
    };
    Err(IdentityError::failed(
        format!("provisioning slot {slot} for device {:?} at {}", wanted.device_id, wanted.host),
        format!(
            "the slot already holds {there}; add --force to replace it for good, or choose another identity.slot"
        ),
    ))
}
