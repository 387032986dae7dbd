//! Why a visit to the provisioning service brought no identity, with what the visitor has to know to do better, and
//! the texts of it. Knows no requests.

use std::time::Duration;

use tokio::time::Instant;

use super::answer::Meaning;
use super::register::Service;
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
    /// How long the service wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl Unassigned {
    /// The same, and the clock may be to blame.
    pub(super) fn about_the_time(error: IdentityError) -> Self {
        Self { about_the_time: true, ..error.into() }
    }

    /// The same, and the service is not to be asked before `until`.
    pub(super) fn not_before(self, until: Option<Instant>) -> Self {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        Self { retry_after: left.filter(|left| !left.is_zero()), ..self }
    }
}

impl From<IdentityError> for Unassigned {
    fn from(error: IdentityError) -> Self {
        Self { error, about_the_time: false, retry_after: None }
    }
}

impl Service {
    pub(super) fn failed(&self, remedy: impl Into<String>) -> IdentityError {
        IdentityError::failed(
            format!("asking the provisioning service {}", self.provisioning.endpoint),
            remedy,
        )
    }

    /// A fresh token is refused: by a service that does not know the key, or because of the clock.
    pub(super) fn not_taken(&self, it: &str) -> Unassigned {
        Unassigned::about_the_time(self.failed(format!(
            "it does not take the token that this TPM signed (it {it}); is the clock right, and was the \
             endorsement key enrolled by `weather-station provision --show-enrollment`?"
        )))
    }

    /// The service says something that ends the visit.
    pub(super) fn unexpected(&self, registration: &str, meaning: Meaning) -> IdentityError {
        match meaning {
            Meaning::Unknown(said) | Meaning::Refused(said) => self.failed(format!(
                "it does not know registration {registration:?} with this TPM's endorsement key (it says: {said}); \
                 enter both as an individual enrollment, as `weather-station provision --show-enrollment` prints \
                 them, and check provisioning.id_scope"
            )),
            Meaning::Disabled(said) => self.failed(format!(
                "the enrollment of {registration:?} is disabled (it says: {said}); enable it in the portal"
            )),
            Meaning::Failed(said) => self.failed(format!(
                "it failed: {said}; look at the enrollment of {registration:?} and at the hubs linked to the service"
            )),
            Meaning::Challenge { .. }
            | Meaning::Assigning { .. }
            | Meaning::Assigned { .. }
            | Meaning::Later { .. } => {
                self.failed("it assigned a hub without asking who is there; is provisioning.endpoint right?")
            }
        }
    }
}
