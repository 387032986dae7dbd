//! Reads the public area of a TPM's RSA storage or endorsement key (TPM2B_PUBLIC, TCG Part 2, 12.2.5). Knows
//! just this one form.

use rsa::{BigUint, RsaPublicKey};
use sha2::{Digest as _, Sha256};

/// An RSA key of a TPM: what is encrypted to it, and the name that the TPM knows it by.
#[derive(Clone)]
pub struct TpmPublic {
    pub key: RsaPublicKey,
    /// 0x000B and SHA-256 over the public area.
    pub name: Vec<u8>,
}

impl TpmPublic {
    /// None unless it is RSA with SHA-256 as name algorithm and AES-128-CFB as symmetric algorithm.
    pub fn parse(tpm2b: &[u8]) -> Option<Self> {
        let (size, area) = tpm2b.split_first_chunk::<2>()?;
        if usize::from(u16::from_be_bytes(*size)) != area.len() {
            return None;
        }
        let mut reader = Reader(area);
        let rsa_with_sha256 = reader.u16()? == 0x0001 && reader.u16()? == 0x000B;
        let _attributes = (reader.u16()?, reader.u16()?);
        let _policy = reader.sized()?;
        let aes_128_cfb = (reader.u16()?, reader.u16()?, reader.u16()?) == (0x0006, 128, 0x0043);
        let no_scheme = reader.u16()? == 0x0010;
        let _bits = reader.u16()?;
        let exponent = u32::from(reader.u16()?) << 16 | u32::from(reader.u16()?);
        let modulus = reader.sized()?;
        if !(rsa_with_sha256 && aes_128_cfb && no_scheme && reader.0.is_empty()) {
            return None;
        }
        // 0 stands for the usual exponent.
        let exponent = if exponent == 0 { 65_537 } else { exponent };
        let key = RsaPublicKey::new(BigUint::from_bytes_be(modulus), exponent.into()).ok()?;
        Some(Self { key, name: name(area) })
    }
}

/// The name of an object with this public area.
pub fn name(area: &[u8]) -> Vec<u8> {
    [&[0x00, 0x0B][..], &Sha256::digest(area)].concat()
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn u16(&mut self) -> Option<u16> {
        let (value, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*value))
    }

    fn sized(&mut self) -> Option<&'a [u8]> {
        let size = self.u16()?;
        let (part, rest) = self.0.split_at_checked(size.into())?;
        self.0 = rest;
        Some(part)
    }
}
