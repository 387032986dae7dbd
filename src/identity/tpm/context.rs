//! An open TPM: finds, reads and removes what is in it, and names what went wrong. Knows handles and
//! indices as numbers; what they mean is `layout`'s.

use std::str::FromStr;

use tss_esapi::Context;
use tss_esapi::constants::CapabilityType;
use tss_esapi::handles::{
    KeyHandle, NvIndexHandle, NvIndexTpmHandle, ObjectHandle, PersistentTpmHandle, TpmHandle,
};
use tss_esapi::interface_types::dynamic_handles::Persistent;
use tss_esapi::interface_types::resource_handles::{NvAuth, Provision};
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{CapabilityData, MaxNvBuffer, Name, Public};
use tss_esapi::tcti_ldr::TctiNameConf;
use tss_esapi::traits::Marshall;

use super::{errors, layout};
use crate::identity::IdentityError;

pub(super) const READING_PUBLIC: &str = "reading the public part of a key in the TPM";

/// One open TPM; closed on drop, transient objects flushed.
pub struct Tpm {
    pub(super) context: Context,
    tcti: String,
}

impl Tpm {
    /// Opens it. `tcti` as in the configuration: `device:/dev/tpmrm0`, `swtpm:host=..,port=..`.
    pub fn open(tcti: &str) -> Result<Self, IdentityError> {
        let parsed = TctiNameConf::from_str(tcti).map_err(|error| {
            IdentityError::because(
                format!("reading identity.tcti = {tcti:?}"),
                "expected \"device:/dev/tpmrm0\" or \"swtpm:host=127.0.0.1,port=2321\"",
                error,
            )
        })?;
        // A bare "device" would mean /dev/tpm0 to the library, past the kernel's resource manager.
        let parsed = if tcti == "device" { TctiNameConf::from_str("device:/dev/tpmrm0") } else { Ok(parsed) };
        let context = parsed.and_then(Context::new).map_err(|error| errors::unreachable(tcti, error))?;
        Ok(Self { context, tcti: tcti.to_owned() })
    }

    /// Closes it and opens it again: libtss2 remembers what it saw at a handle, and fails where that has changed.
    pub(super) fn anew(self) -> Result<Self, IdentityError> {
        let tcti = self.tcti.clone();
        drop(self);
        Self::open(&tcti)
    }

    /// Runs commands with the empty password, and names what goes wrong.
    pub(super) fn run<T>(
        &mut self,
        doing: &str,
        commands: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, IdentityError> {
        let result = self.context.execute_with_session(Some(AuthSession::Password), commands);
        result.map_err(|error| errors::explain(doing, &self.tcti, error))
    }

    /// Runs commands that take no authorisation.
    pub(super) fn ask<T>(
        &mut self,
        doing: &str,
        commands: impl FnOnce(&mut Context) -> tss_esapi::Result<T>,
    ) -> Result<T, IdentityError> {
        let result = self.context.execute_without_session(commands);
        result.map_err(|error| errors::explain(doing, &self.tcti, error))
    }

    /// Names what went wrong.
    pub(super) fn explain(&self, doing: &str, error: tss_esapi::Error) -> IdentityError {
        errors::explain(doing, &self.tcti, error)
    }

    /// The object at a persistent handle, if there is one. Asked by capability: an expected miss is no error.
    pub fn persistent(&mut self, handle: u32) -> Result<Option<KeyHandle>, IdentityError> {
        if !self.exists(handle)? {
            return Ok(None);
        }
        self.ask(&format!("looking up the TPM object {handle:#x}"), |context| {
            let object =
                context.tr_from_tpm_public(TpmHandle::Persistent(PersistentTpmHandle::new(handle)?))?;
            Ok(Some(object.into()))
        })
    }

    /// The public area of a loaded or persistent object, and the TPM's name of it, as they are now.
    pub(super) fn public(&mut self, key: KeyHandle) -> Result<(Public, Name), IdentityError> {
        let (public, name, _) = self.ask(READING_PUBLIC, |context| context.read_public(key))?;
        Ok((public, name))
    }

    /// The same public area as the TPM's bytes (TPMT_PUBLIC).
    pub(super) fn public_area(&mut self, key: KeyHandle) -> Result<Vec<u8>, IdentityError> {
        let (public, _) = self.public(key)?;
        public.marshall().map_err(|error| self.explain(READING_PUBLIC, error))
    }

    /// The NV index, if it is defined.
    pub fn nv(&mut self, index: u32) -> Result<Option<NvIndexHandle>, IdentityError> {
        if !self.exists(index)? {
            return Ok(None);
        }
        self.ask(&format!("looking up the TPM's NV index {index:#x}"), |context| {
            let object = context.tr_from_tpm_public(TpmHandle::NvIndex(NvIndexTpmHandle::new(index)?))?;
            Ok(Some(object.into()))
        })
    }

    /// Whether there is something in an NV index, readable for us or not.
    pub fn nv_written(&mut self, index: u32) -> Result<bool, IdentityError> {
        let Some(handle) = self.nv(index)? else { return Ok(false) };
        self.ask(&format!("looking at the TPM's NV index {index:#x}"), |context| {
            Ok(context.nv_read_public(handle)?.0.attributes().written())
        })
    }

    /// What is in an NV index; `None` if it is not defined or was never written.
    pub fn nv_read(&mut self, index: u32) -> Result<Option<Vec<u8>>, IdentityError> {
        let Some(handle) = self.nv(index)? else { return Ok(None) };
        let doing = format!("reading the TPM's NV index {index:#x}");
        let (public, _) = self.ask(&doing, |context| context.nv_read_public(handle))?;
        if !public.attributes().written() {
            return Ok(None);
        }
        let size = u16::try_from(public.data_size()).unwrap_or(u16::MAX);
        let read = |c: &mut Context| c.nv_read(NvAuth::NvIndex(handle), handle, size, 0);
        Ok(Some(self.run(&doing, read)?.to_vec()))
    }

    /// Defines an index of exactly this content and writes it. Two commands: a cut between them leaves
    /// an index that was never written, which reads as absent.
    pub(super) fn nv_create(&mut self, index: u32, content: &[u8]) -> Result<(), IdentityError> {
        self.run(&format!("writing the TPM's NV index {index:#x}"), |context| {
            let public = layout::nv_public(index, content.len())?;
            let handle = context.nv_define_space(Provision::Owner, None, public)?;
            context.nv_write(NvAuth::NvIndex(handle), handle, MaxNvBuffer::try_from(content)?, 0)
        })
    }

    /// Removes an index; that it is not there is fine.
    pub(super) fn nv_remove(&mut self, index: u32) -> Result<(), IdentityError> {
        let Some(handle) = self.nv(index)? else { return Ok(()) };
        self.run(&format!("removing the TPM's NV index {index:#x}"), |context| {
            context.nv_undefine_space(Provision::Owner, handle)
        })
    }

    /// Makes a loaded object persistent.
    pub(super) fn persist(&mut self, object: ObjectHandle, handle: u32) -> Result<(), IdentityError> {
        self.run(&format!("keeping a key at {handle:#x} of the TPM"), |context| {
            let place = Persistent::Persistent(PersistentTpmHandle::new(handle)?);
            context.evict_control(Provision::Owner, object, place).map(drop)
        })
    }

    /// Creates a primary key and keeps it at a handle; gives the kept one.
    pub(super) fn make_persistent(
        &mut self,
        doing: &str,
        handle: u32,
        create: impl FnOnce(&mut Context) -> tss_esapi::Result<KeyHandle>,
    ) -> Result<KeyHandle, IdentityError> {
        let primary = self.run(doing, create)?;
        self.persist(primary.into(), handle)?;
        self.free(primary)?;
        let kept = self.persistent(handle)?;
        kept.ok_or_else(|| IdentityError::failed(doing, "the TPM did not keep it; try again"))
    }

    /// Takes a loaded object out of the TPM's memory.
    pub(super) fn free(&mut self, object: KeyHandle) -> Result<(), IdentityError> {
        self.ask("freeing the TPM's memory", |context| context.flush_context(object.into()))
    }

    /// Removes a persistent object; that it is not there is fine.
    pub(super) fn evict(&mut self, handle: u32) -> Result<(), IdentityError> {
        let Some(object) = self.persistent(handle)? else { return Ok(()) };
        self.run(&format!("removing the key at {handle:#x} of the TPM"), |context| {
            let place = Persistent::Persistent(PersistentTpmHandle::new(handle)?);
            context.evict_control(Provision::Owner, object.into(), place).map(drop)
        })
    }

    fn exists(&mut self, handle: u32) -> Result<bool, IdentityError> {
        self.ask("asking the TPM what it holds", |context| {
            let (found, _) = context.get_capability(CapabilityType::Handles, handle, 1)?;
            let CapabilityData::Handles(found) = found else { return Ok(false) };
            Ok(found.first().is_some_and(|first| u32::from(*first) == handle))
        })
    }
}
