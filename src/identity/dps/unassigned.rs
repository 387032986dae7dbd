//! Why a visit to the provisioning service brought no identity, with what the visitor has to know to do better.
//! Knows no requests.

use crate::chain::chain;
use crate::identity::IdentityError;

/// A visit that brought no identity. The text says what to do.
#[derive(Debug, thiserror::Error)]
#[error("{}", chain(error))]
pub struct Unassigned {
    error: IdentityError,
    /// It is as if the station's clock were off: a fresh token is not taken, or the service's certificate is not
    /// valid now.
    pub about_the_time: bool,
}

impl Unassigned {
    /// The same, and the clock may be to blame.
    pub(super) fn about_the_time(error: IdentityError) -> Self {
        Self { error, about_the_time: true }
    }
}

impl From<IdentityError> for Unassigned {
    fn from(error: IdentityError) -> Self {
        Self { error, about_the_time: false }
    }
}
