//! Makes the activation blob: an HMAC key that only one TPM can import, and whose inner key only that TPM
//! opens. TCG TPM 2.0 Part 1: 11.4.10.2 (KDFa), 23.3 (duplication), 24 (credentials), B.10.4 (OAEP labels).
//! Knows cryptography; knows no requests.

use aes::Aes128;
use cfb_mode::cipher::{AsyncStreamCipher, KeyIvInit};
use hmac::{Hmac, KeyInit, Mac};
use rand::RngCore as _;
use rsa::{Oaep, RsaPublicKey};
use sha2::{Digest as _, Sha256};

use super::tpm_public::{TpmPublic, name};

/// The parts, each with its size, as the service concatenates them. None if the RSA encryption fails.
pub fn activation_blob(ek: &TpmPublic, srk: &TpmPublic, key: &[u8]) -> Option<Vec<u8>> {
    let inner_key: [u8; 16] = random();
    let seed_value: [u8; 32] = random();
    let public = key_public(&seed_value, key);
    let key_name = name(&public);

    // Inner wrap: integrity over the sensitive area and the name, then encryption under the inner key.
    let sensitive =
        sized(&[&0x0008_u16.to_be_bytes()[..], &sized(&[]), &sized(&seed_value), &sized(key)].concat());
    let integrity = sized(&Sha256::digest([&sensitive[..], &key_name].concat()));
    let inner = cfb(&inner_key, &[integrity, sensitive].concat());

    // Outer wrap, for the SRK.
    let import_seed: [u8; 32] = random();
    let storage: [u8; 16] = kdfa(&import_seed, "STORAGE", &key_name, 128).try_into().ok()?;
    let outer = cfb(&storage, &inner);
    let outer_hmac = hmac(&kdfa(&import_seed, "INTEGRITY", &[], 256), &[&outer[..], &key_name].concat());
    let duplicate = [sized(&outer_hmac), outer].concat();

    // The credential: the inner key, for the TPM that holds the EK and, under this name, the SRK.
    let credential_seed: [u8; 32] = random();
    let storage: [u8; 16] = kdfa(&credential_seed, "STORAGE", &srk.name, 128).try_into().ok()?;
    let identity = cfb(&storage, &sized(&inner_key));
    let integrity =
        hmac(&kdfa(&credential_seed, "INTEGRITY", &[], 256), &[&identity[..], &srk.name].concat());
    let credential = [sized(&integrity), identity].concat();

    let parts = [
        sized(&credential),
        sized(&oaep(&ek.key, "IDENTITY\0", &credential_seed)?),
        sized(&duplicate),
        sized(&oaep(&srk.key, "DUPLICATE\0", &import_seed)?),
        sized(&public),
        // "Encrypted URI data": devices read its size and nothing else.
        sized(&cfb(&inner_key, &[0; 16])),
    ];
    Some(parts.concat())
}

/// TPMT_PUBLIC of the key: KEYEDHASH, SHA-256, sign|noDA|userWithAuth, PolicyCommandCode(Duplicate),
/// HMAC with SHA-256, unique = SHA-256(seed value || key).
fn key_public(seed_value: &[u8], key: &[u8]) -> Vec<u8> {
    let policy = Sha256::digest([&[0; 32][..], &0x16C_u32.to_be_bytes(), &0x14B_u32.to_be_bytes()].concat());
    let unique = Sha256::digest([seed_value, key].concat());
    [
        &[0x00, 0x08, 0x00, 0x0B, 0x00, 0x04, 0x04, 0x40][..],
        &sized(&policy),
        &[0x00, 0x05, 0x00, 0x0B],
        &sized(&unique),
    ]
    .concat()
}

fn sized(bytes: &[u8]) -> Vec<u8> {
    let size = u16::try_from(bytes.len()).expect("TPM structures are short");
    [&size.to_be_bytes()[..], bytes].concat()
}

fn cfb(key: &[u8; 16], bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    cfb_mode::Encryptor::<Aes128>::new(key.into(), &[0; 16].into()).encrypt(&mut bytes);
    bytes
}

fn hmac(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(bytes);
    mac.finalize().into_bytes().to_vec()
}

/// SP 800-108 in counter mode, one block: at most 256 bits. The second context is always empty here.
fn kdfa(key: &[u8], label: &str, context: &[u8], bits: u32) -> Vec<u8> {
    let mut message = 1_u32.to_be_bytes().to_vec();
    message.extend(label.as_bytes());
    message.push(0);
    message.extend(context);
    message.extend(bits.to_be_bytes());
    let mut output = hmac(key, &message);
    output.truncate(bits as usize / 8);
    output
}

fn oaep(key: &RsaPublicKey, label: &str, seed: &[u8]) -> Option<Vec<u8>> {
    let padding = Oaep::new_with_label::<sha2_10::Sha256, _>(label);
    key.encrypt(&mut rand::thread_rng(), padding, seed).ok()
}

fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    rand::thread_rng().fill_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_policycommandcode_of_duplicate() {
        // From a TPM: tpm2_startauthsession, tpm2_policycommandcode TPM2_CC_Duplicate.
        let public = key_public(&[0; 32], b"key");
        let policy: String = public[10..42].iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(policy, "bef56b8c1cc84e11edd717528d2cd99356bd2bbf8f015209c3f84aeeaba8e8a2");
    }
}
