//! Makes the station's tokens: owns the signer, calls it where blocking is allowed, under a deadline, and
//! reopens it when it is broken. Knows the clock; knows nothing of AMQP.

use std::time::Duration;

use tokio::task::JoinHandle;

use super::error::{Cause, CloudError};
use crate::clock::Timekeeper;
use crate::config;
use crate::identity::sas_token::{self, SasToken};
use crate::identity::{self, Identity, IdentityError, Signer};

/// The one owner of the signer.
pub struct SignerDesk {
    config: config::Identity,
    state: State,
    /// One answer of the signer may take this long.
    limit: Duration,
}

enum State {
    Closed,
    Idle(Box<dyn Signer>),
    /// A call that was given up is still running: the signer comes back with it.
    Busy(JoinHandle<Box<dyn Signer>>),
}

impl SignerDesk {
    pub fn new(config: config::Identity, limit: Duration) -> Self {
        Self { config, state: State::Closed, limit }
    }

    /// Who the station is at this moment: a replacing provision is picked up.
    pub async fn identity(&mut self) -> Result<Identity, CloudError> {
        self.ask("find out who the station is", |signer| signer.identity()).await
    }

    /// A fresh token.
    pub async fn token(
        &mut self,
        identity: Identity,
        timekeeper: &Timekeeper,
        lifetime: Duration,
    ) -> Result<SasToken, CloudError> {
        let now = timekeeper.now();
        self.ask("sign a token", move |signer| {
            // A signer signs for the identity it was last asked about.
            signer.identity()?;
            sas_token::for_device(signer, &identity, now, lifetime)
        })
        .await
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        question: impl FnOnce(&mut dyn Signer) -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, CloudError> {
        let fail = |cause: Cause| CloudError { doing, cause };
        let deadline = tokio::time::Instant::now() + self.limit;
        let mut signer = match std::mem::replace(&mut self.state, State::Closed) {
            State::Idle(signer) => signer,
            State::Closed => identity::open(&self.config).map_err(|error| fail(error.into()))?,
            State::Busy(mut running) => match tokio::time::timeout_at(deadline, &mut running).await {
                Ok(Ok(signer)) => signer,
                Ok(Err(_panicked)) => identity::open(&self.config).map_err(|error| fail(error.into()))?,
                Err(_) => {
                    self.state = State::Busy(running);
                    return Err(fail(Cause::SignerStuck(self.limit)));
                }
            },
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        let mut running = tokio::task::spawn_blocking(move || {
            // Nobody listens any more when the wait was given up.
            let _given_up = reply.send(question(signer.as_mut()));
            signer
        });
        let answer = tokio::time::timeout_at(deadline, answer).await;
        match answer {
            Ok(Ok(result)) => {
                match (&mut running).await {
                    // After an error the signer is opened anew: a broken context never heals.
                    Ok(signer) if result.is_ok() => self.state = State::Idle(signer),
                    _ => self.state = State::Closed,
                }
                result.map_err(|error| fail(error.into()))
            }
            Ok(Err(_panicked)) => Err(fail(Cause::Lost("the signer ended unexpectedly".into()))),
            Err(_) => {
                self.state = State::Busy(running);
                Err(fail(Cause::SignerStuck(self.limit)))
            }
        }
    }
}

impl std::fmt::Debug for SignerDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignerDesk")
    }
}
