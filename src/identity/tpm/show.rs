//! What can be told of a TPM and a slot without giving anything away. Writes nothing.

use std::fmt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tss_esapi::attributes::ObjectAttributes;
use tss_esapi::constants::PropertyTag;
use tss_esapi::structures::Public;

use super::context::Tpm;
use super::provision::{Occupant, is_marked, occupant};
use super::{layout, sign};
use crate::identity::{Identity, IdentityError};

/// `provision --show`. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    pub slot: u8,
    /// Absent while the slot is not provisioned.
    #[serde(flatten)]
    pub identity: Option<Identity>,
    /// Why there is no identity.
    pub reason: Option<String>,
    /// `by hand` or `by the provisioning service`.
    pub provisioned: Option<&'static str>,
    /// Manufacturer's four letters and model.
    pub vendor: String,
    /// As the vendor counts.
    pub firmware: String,
    /// What is in the slot's place and is no identity: it has to be replaced.
    pub foreign: Option<&'static str>,
    /// The slot's key, if there is one.
    pub key: Option<KeyShown>,
    /// SHA-256 over the public area, hexadecimal.
    pub storage_root_key: Option<String>,
    /// SHA-256 over the public area, hexadecimal.
    pub endorsement_key: Option<String>,
}

/// A device key, seen from outside.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyShown {
    /// `keyed-hash, HMAC-SHA256` and the like.
    pub kind: String,
    /// TCG names of the attributes that are set.
    pub attributes: Vec<&'static str>,
    /// Whether the key can leave this TPM in any way, in a sentence.
    pub can_leave: String,
}

/// Reads what there is; a slot without an identity is no error.
pub fn show(tcti: &str, slot: u8) -> Result<Shown, IdentityError> {
    let mut tpm = Tpm::open(tcti)?;
    let key = match tpm.persistent(layout::key(slot))? {
        Some(handle) => Some(describe(&tpm.public(handle)?.0)),
        None => None,
    };
    let (identity, reason) = match (&key, sign::read_identity(&mut tpm, slot)) {
        (Some(_), Ok(identity)) => (Some(identity), None),
        (None, Ok(_)) => (None, Some(sign::missing(&mut tpm, slot, "the device key")?)),
        (_, Err(error)) => (None, Some(error)),
    };
    let foreign = match occupant(&mut tpm, slot)? {
        Occupant::Foreign(what) => Some(what),
        Occupant::Nothing | Occupant::Identity(_) | Occupant::Unfinished => None,
    };
    let marked = is_marked(&mut tpm, slot)?;
    let (vendor, firmware) = vendor_and_firmware(&mut tpm)?;
    Ok(Shown {
        slot,
        provisioned: identity
            .as_ref()
            .map(|_| if marked { "by the provisioning service" } else { "by hand" }),
        identity,
        reason: reason.map(|error| error.to_string()),
        foreign,
        vendor,
        firmware,
        key,
        storage_root_key: fingerprint(&mut tpm, layout::SRK)?,
        endorsement_key: fingerprint(&mut tpm, layout::EK)?,
    })
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".into());
        writeln!(f, "slot              {}", self.slot)?;
        match &self.identity {
            Some(identity) => {
                writeln!(f, "host              {}", identity.host)?;
                writeln!(f, "device id         {}", identity.device_id)?;
            }
            None => writeln!(f, "identity          none: {}", or_none(&self.reason))?,
        }
        if let Some(provisioned) = self.provisioned {
            writeln!(f, "provisioned       {provisioned}")?;
        }
        writeln!(f, "TPM               {}, firmware {}", self.vendor, self.firmware)?;
        if let Some(key) = &self.key {
            writeln!(f, "key               {}, {}", key.kind, key.attributes.join("|"))?;
            writeln!(f, "can the key leave {}", key.can_leave)?;
        }
        writeln!(f, "storage root key  {}", or_none(&self.storage_root_key))?;
        write!(f, "endorsement key   {}", or_none(&self.endorsement_key))
    }
}

fn describe(public: &Public) -> KeyShown {
    let attributes = public.object_attributes();
    let kind = match public {
        Public::KeyedHash { .. } if attributes.sign_encrypt() => "keyed hash that signs (HMAC-SHA256)",
        Public::KeyedHash { .. } => "keyed hash that does not sign",
        Public::Rsa { .. } => "RSA: not a device key",
        Public::Ecc { .. } => "ECC: not a device key",
        Public::SymCipher { .. } => "symmetric cipher: not a device key",
    };
    KeyShown { kind: kind.into(), attributes: names(attributes), can_leave: can_leave(public).into() }
}

/// TPM2_Duplicate needs fixedParent clear and a policy that allows it (TCG Part 1, 23; Part 3, 13.1).
fn can_leave(public: &Public) -> &'static str {
    let attributes = public.object_attributes();
    let policy = match public {
        Public::Rsa { auth_policy, .. }
        | Public::KeyedHash { auth_policy, .. }
        | Public::Ecc { auth_policy, .. }
        | Public::SymCipher { auth_policy, .. } => auth_policy,
    };
    if attributes.fixed_tpm() {
        "no: it is fixed to this TPM"
    } else if attributes.fixed_parent() {
        "no: it is fixed to its parent, and only together with that could it move"
    } else if policy.is_empty() {
        "no: it could be duplicated by its attributes, but it has no policy that allows it"
    } else {
        "only under its policy: whoever fulfils it can duplicate the key to another TPM"
    }
}

fn names(attributes: ObjectAttributes) -> Vec<&'static str> {
    [
        (attributes.fixed_tpm(), "fixedTPM"),
        (attributes.st_clear(), "stClear"),
        (attributes.fixed_parent(), "fixedParent"),
        (attributes.sensitive_data_origin(), "sensitiveDataOrigin"),
        (attributes.user_with_auth(), "userWithAuth"),
        (attributes.admin_with_policy(), "adminWithPolicy"),
        (attributes.no_da(), "noDA"),
        (attributes.encrypted_duplication(), "encryptedDuplication"),
        (attributes.restricted(), "restricted"),
        (attributes.decrypt(), "decrypt"),
        (attributes.sign_encrypt(), "sign"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn fingerprint(tpm: &mut Tpm, handle: u32) -> Result<Option<String>, IdentityError> {
    let Some(key) = tpm.persistent(handle)? else { return Ok(None) };
    Ok(Some(sign::hex(&Sha256::digest(tpm.public_area(key)?))))
}

/// TPM_PT_MANUFACTURER, TPM_PT_VENDOR_STRING_1..4 and TPM_PT_FIRMWARE_VERSION_1..2 (TCG Part 2, 6.13).
fn vendor_and_firmware(tpm: &mut Tpm) -> Result<(String, String), IdentityError> {
    let mut property = |tag| {
        tpm.ask("asking the TPM for its vendor and firmware", |c| c.get_tpm_property(tag))
            .map(Option::unwrap_or_default)
    };
    let text = |value: u32| -> String {
        value.to_be_bytes().into_iter().filter(|b| (0x21..0x7F).contains(b)).map(char::from).collect()
    };
    let manufacturer = text(property(PropertyTag::Manufacturer)?);
    let mut model = String::new();
    for tag in [
        PropertyTag::VendorString1,
        PropertyTag::VendorString2,
        PropertyTag::VendorString3,
        PropertyTag::VendorString4,
    ] {
        model += &text(property(tag)?);
    }
    let (first, second) =
        (property(PropertyTag::FirmwareVersion1)?, property(PropertyTag::FirmwareVersion2)?);
    let firmware = format!("{}.{}.{}.{}", first >> 16, first & 0xFFFF, second >> 16, second & 0xFFFF);
    Ok((format!("{manufacturer} {model}").trim_end().to_owned(), firmware))
}
