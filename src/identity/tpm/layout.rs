//! Where things are in the TPM and what they look like: the predecessor's layout (ms-iot/security,
//! Limpet.cs), so that a TPM that it provisioned works unchanged. Slots are 0 to 9.
//!
//! | what | where |
//! |---|---|
//! | storage root key (SRK) | 0x81000001 |
//! | device key of a slot | 0x81000100 + slot |
//! | `hostname/deviceId` of a slot | NV 0x01400100 + slot |
//! | ours: new key while provisioning | 0x81000110 + slot |
//! | ours: mark of the provisioning service | NV 0x01400110 + slot |
//! | endorsement key (EK) | 0x81010001 |

use tss_esapi::attributes::{NvIndexAttributes, ObjectAttributesBuilder};
use tss_esapi::handles::NvIndexTpmHandle;
use tss_esapi::interface_types::algorithm::{HashingAlgorithm, PublicAlgorithm};
use tss_esapi::interface_types::key_bits::RsaKeyBits;
use tss_esapi::structures::{
    Digest, KeyedHashScheme, NvPublic, Public, PublicBuilder, PublicKeyRsa, PublicKeyedHashParameters,
    PublicRsaParametersBuilder, RsaExponent, SymmetricDefinitionObject,
};

/// Storage root key.
pub const SRK: u32 = 0x8100_0001;
/// Endorsement key (TCG EK profile, "Reserved Handles").
pub const EK: u32 = 0x8101_0001;

/// Persistent handle of a slot's key.
pub fn key(slot: u8) -> u32 {
    0x8100_0100 + u32::from(slot)
}

/// NV index of a slot's `hostname/deviceId`.
pub fn name(slot: u8) -> u32 {
    0x0140_0100 + u32::from(slot)
}

/// Persistent handle where a new key waits until the old one is gone.
pub fn staging(slot: u8) -> u32 {
    0x8100_0110 + u32::from(slot)
}

/// NV index that says that the slot's identity came from the provisioning service.
pub fn mark(slot: u8) -> u32 {
    0x0140_0110 + u32::from(slot)
}

/// The SRK that is made where there is none: TCG's template with 256 zero bytes as `unique`, which is
/// what Azure's own device code makes (TCG "TPM v2.0 Provisioning Guidance", 7.5.1).
pub fn srk_template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_sensitive_data_origin(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_restricted(true)
        .with_decrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::Rsa)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_rsa_parameters(
            PublicRsaParametersBuilder::new_restricted_decryption_key(
                SymmetricDefinitionObject::AES_128_CFB,
                RsaKeyBits::Rsa2048,
                RsaExponent::default(),
            )
            .build()?,
        )
        .with_rsa_unique_identifier(PublicKeyRsa::new_empty_with_size(RsaKeyBits::Rsa2048))
        .build()
}

/// Whether an object can be the parent of a device key: a restricted decryption key.
pub fn is_storage_parent(public: &Public) -> bool {
    let attributes = public.object_attributes();
    matches!(public, Public::Rsa { .. } | Public::Ecc { .. })
        && attributes.restricted()
        && attributes.decrypt()
        && !attributes.sign_encrypt()
}

/// The device key: HMAC-SHA256, bound to this TPM and this parent, no password, no lockout.
pub fn key_template() -> tss_esapi::Result<Public> {
    let attributes = ObjectAttributesBuilder::new()
        .with_fixed_tpm(true)
        .with_fixed_parent(true)
        .with_user_with_auth(true)
        .with_no_da(true)
        .with_sign_encrypt(true)
        .build()?;
    PublicBuilder::new()
        .with_public_algorithm(PublicAlgorithm::KeyedHash)
        .with_name_hashing_algorithm(HashingAlgorithm::Sha256)
        .with_object_attributes(attributes)
        .with_keyed_hash_parameters(PublicKeyedHashParameters::new(KeyedHashScheme::HMAC_SHA_256))
        .with_keyed_hash_unique_identifier(Digest::default())
        .build()
}

/// Whether an object can sign for a device: a keyed hash that signs.
pub fn is_device_key(public: &Public) -> bool {
    matches!(public, Public::KeyedHash { .. }) && public.object_attributes().sign_encrypt()
}

/// Whether it can be one that was made here by hand. What other programs put at slot 0's place (Azure's device code keeps
/// the key there that the provisioning service gave it) was imported, and is fixed to nothing.
pub fn is_made_here(public: &Public) -> bool {
    let attributes = public.object_attributes();
    // A key that another program has had the TPM make has an origin there.
    is_device_key(public)
        && attributes.fixed_tpm()
        && attributes.fixed_parent()
        && attributes.no_da()
        && !attributes.sensitive_data_origin()
}

/// An index of exactly `size` bytes, read and written by its own empty password, as the predecessor's.
pub fn nv_public(index: u32, size: usize) -> tss_esapi::Result<NvPublic> {
    let attributes =
        NvIndexAttributes::builder().with_auth_write(true).with_auth_read(true).with_no_da(true).build()?;
    NvPublic::builder()
        .with_nv_index(NvIndexTpmHandle::new(index)?)
        .with_index_name_algorithm(HashingAlgorithm::Sha256)
        .with_index_attributes(attributes)
        .with_data_area_size(size)
        .build()
}
