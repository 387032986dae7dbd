//! The Device Provisioning Service with TPM attestation: a station with an empty TPM asks who it is.
//! Knows the service's HTTPS protocol and the order of the steps; the TPM's part is `tpm::attest`.
//!
//! # Steps (azure-docs, "Individual enrollment: TPM attestation")
//! 1. `PUT register` with both public keys; the service answers 401 with a blob that only this TPM can open.
//! 2. The TPM opens it; the key in it signs a `registration` token.
//! 3. `PUT register` with the token: 202 and an operation, which is asked after until it is `assigned`.
//! 4. The answer names hub and device, and usually brings a second blob: the hub's key. It goes into the
//!    slot, marked as the service's, and only then does an older key go.

mod answer;
mod enrollment;
mod https;
mod register;
mod return_policy;
mod unassigned;

pub use self::enrollment::{Enrollment, enrollment};
pub use self::register::{Limits, Service, Trouble};
pub use self::return_policy::ReturnPolicy;
pub use self::unassigned::Unassigned;
