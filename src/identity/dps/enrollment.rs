//! What a person enters at the service so that it knows this TPM: from the same code that provisions, as
//! another tool's endorsement key may differ. Knows no network.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use crate::config;
use crate::identity::IdentityError;
use crate::identity::tpm::attest;

/// `provision --show-enrollment`. Nothing in it is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Enrollment {
    pub registration_id: String,
    /// TPM2B_PUBLIC in base64, which is the form that the portal takes.
    pub endorsement_key: String,
}

/// Reads both from the TPM (and makes the keys where there are none). Blocks.
pub fn enrollment(
    identity: &config::Identity,
    provisioning: &config::Provisioning,
) -> Result<Enrollment, IdentityError> {
    let keys = attest::keys(&identity.tcti)?;
    Ok(Enrollment {
        registration_id: registration_id(provisioning, &keys.endorsement_key)?,
        endorsement_key: STANDARD.encode(&keys.endorsement_key),
    })
}

/// The configured id, or what Microsoft's device SDKs make of an endorsement key: SHA-256 over the
/// TPM2B_PUBLIC, base32 without padding in lower case (azure-iot-sdk-node, security/tpm, `getRegistrationId`).
pub(super) fn registration_id(
    provisioning: &config::Provisioning,
    endorsement_key: &[u8],
) -> Result<String, IdentityError> {
    let id = provisioning.registration_id.as_str();
    if id.is_empty() {
        return Ok(base32(&Sha256::digest(endorsement_key)));
    }
    if !config::is_registration_id(id) {
        return Err(IdentityError::failed(
            format!("checking provisioning.registration_id = {id:?}"),
            "expected 1 to 128 characters out of A-Z a-z 0-9 - . _ : that end in a letter, a digit or -; leave it \
             empty to derive it from the endorsement key",
        ));
    }
    Ok(id.to_owned())
}

/// RFC 4648, section 6, in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut pending, mut bits) = (0_u32, 0);
    for byte in bytes {
        pending = pending << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(char::from(ALPHABET[(pending >> bits & 31) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(ALPHABET[(pending << (5 - bits) & 31) as usize]));
    }
    text
}

impl fmt::Display for Enrollment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "registration id  {}", self.registration_id)?;
        write!(f, "endorsement key  {}", self.endorsement_key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base32_is_rfc_4648s() {
        let vectors = [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foo", "mzxw6"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
        ];
        for (bytes, text) in vectors {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
        assert_eq!(base32(&[0xFF; 32]).len(), 52);
    }

    #[test]
    fn a_registration_id_of_ones_own_is_checked() {
        let with = |id: &str| {
            let settings = config::Provisioning { registration_id: id.into(), ..Default::default() };
            registration_id(&settings, b"key")
        };
        assert_eq!(with("Roof-7.north_side:a").unwrap(), "Roof-7.north_side:a");
        assert_eq!(with("").unwrap(), base32(&Sha256::digest(b"key")));
        for wrong in ["a/b", "a.", "t\u{fc}r", &"a".repeat(129)] {
            assert!(with(wrong).unwrap_err().to_string().contains("expected 1 to 128 characters"), "{wrong}");
        }
    }
}
