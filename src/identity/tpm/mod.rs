//! The TPM 2.0 as the station's signer: layout and commands. Only this folder speaks TPM commands.
//! A context is opened for each use and closed after it: nothing is stale after the TPM was away, the
//! key is looked up anew, and other programs find the device free.

pub mod attest;
mod context;
mod errors;
mod layout;
mod lock;
pub mod provision;
pub mod show;
mod sign;

pub use self::sign::TpmSigner;
