//! Makes the station's tokens: owns the signer, calls it where blocking is allowed, under a deadline, and
//! opens another one where a call of it panics. Knows the clock; knows nothing of AMQP.

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
    /// What the last token was made with.
    signed_with: Option<Likeness>,
}

/// A name, and what its key makes of [`MARK`]: enough to tell two keys apart.
type Likeness = (Identity, [u8; 32]);

/// No token: a resource and an expiry would stand here, with a line feed between them.
const MARK: &[u8] = b"which key is this";

enum State {
    Closed,
    Idle(Box<dyn Signer>),
    /// A call that was given up is still running: the signer comes back with it.
    Busy(JoinHandle<Box<dyn Signer>>),
}

impl SignerDesk {
    pub fn new(config: config::Identity, limit: Duration) -> Self {
        Self { config, state: State::Closed, limit, signed_with: None }
    }

    /// Who the station is at this moment: a replacing provision is picked up.
    pub async fn identity(&mut self) -> Result<Identity, CloudError> {
        self.ask("find out who the station is", |signer| signer.identity()).await
    }

    /// A fresh token for this identity; an error when the signer has another one.
    pub async fn token(
        &mut self,
        identity: Identity,
        timekeeper: &Timekeeper,
        lifetime: Duration,
    ) -> Result<SasToken, CloudError> {
        let now = timekeeper.now();
        let made = self.ask("sign a token", move |signer| {
            // A signer signs for the identity it was last asked about, which may be another one by now.
            let holds = signer.identity()?;
            if holds != identity {
                return Err(IdentityError::Replaced { asked: identity, holds });
            }
            let token = sas_token::for_device(signer, &identity, now, lifetime)?;
            Ok((token, (identity, signer.sign(MARK)?)))
        });
        let (token, signed_with) = made.await?;
        self.signed_with = Some(signed_with);
        Ok(token)
    }

    /// Who the station is at this moment, and whether name or key is another one than the last token was made with; a
    /// signer that says its name and does not sign has no other key.
    pub async fn look(&mut self) -> Result<(Identity, bool), CloudError> {
        let look = self.ask("see whether the key was replaced", |signer| {
            Ok((signer.identity()?, signer.sign(MARK).ok()))
        });
        let (identity, mark) = look.await?;
        let holds = mark.map(|mark| (identity.clone(), mark));
        let replaced = holds.is_some() && holds != self.signed_with;
        Ok((identity, replaced))
    }

    /// Whether the signer has another name or another key than the last token was made with; one that is away has not.
    pub async fn was_replaced(&mut self) -> bool {
        match self.look().await {
            Ok((_, replaced)) => replaced,
            Err(error) => {
                tracing::debug!(%error, "the signer is away");
                false
            }
        }
    }

    async fn ask<T: Send + 'static>(
        &mut self,
        doing: &'static str,
        question: impl FnOnce(&mut dyn Signer) -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, CloudError> {
        let fail = |cause: Cause| CloudError { doing, cause };
        let deadline = tokio::time::Instant::now() + self.limit;
        // Whoever waits here may be dropped at any await: the state says at each of them what is under way.
        if let State::Busy(running) = &mut self.state {
            match tokio::time::timeout_at(deadline, running).await {
                Ok(returned) => self.state = returned.map_or(State::Closed, State::Idle),
                Err(_) => return Err(fail(Cause::SignerStuck(self.limit))),
            }
        }
        let mut signer = match std::mem::replace(&mut self.state, State::Closed) {
            State::Idle(signer) => signer,
            _ => identity::open(&self.config).map_err(|error| fail(error.into()))?,
        };
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.state = State::Busy(tokio::task::spawn_blocking(move || {
            // Nobody listens any more when the wait was given up.
            let _given_up = reply.send(question(signer.as_mut()));
            signer
        }));
        match tokio::time::timeout_at(deadline, answer).await {
            Ok(Ok(result)) => {
                if let State::Busy(running) = &mut self.state {
                    // After an error too: a signer holds nothing open, and knows which key it must not try again.
                    self.state = running.await.map_or(State::Closed, State::Idle);
                }
                result.map_err(|error| fail(error.into()))
            }
            Ok(Err(_panicked)) => {
                self.state = State::Closed;
                Err(fail(Cause::Lost("the signer ended unexpectedly".into())))
            }
            Err(_) => Err(fail(Cause::SignerStuck(self.limit))),
        }
    }
}

impl std::fmt::Debug for SignerDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignerDesk")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use std::path::Path;
    use std::sync::mpsc;

    use super::*;
    use crate::clock::SystemClock;

    const KEY: &str =
        "HostName=hub;DeviceId=roof;SharedAccessKey=c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LTEyMzQ=";

    fn desk(key_file: &Path) -> SignerDesk {
        let config = config::Identity {
            source: config::IdentitySource::KeyFile,
            key_file: key_file.to_owned(),
            ..config::Identity::default()
        };
        SignerDesk::new(config, Duration::from_millis(300))
    }

    fn write(path: &Path) {
        write_text(path, KEY);
    }

    fn write_text(path: &Path, text: &str) {
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn timekeeper() -> Timekeeper {
        Timekeeper::new(std::sync::Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH)
    }

    #[tokio::test]
    async fn a_signer_that_comes_back_is_used_again() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        let mut desk = desk(&key_file);
        assert!(
            desk.identity()
                .await
                .unwrap_err()
                .to_string()
                .starts_with("could not find out who the station is")
        );
        write(&key_file);
        assert_eq!(desk.identity().await.unwrap().device_id, "roof");
        std::fs::remove_file(&key_file).unwrap();
        desk.identity().await.unwrap_err();
        write(&key_file);
        assert_eq!(desk.identity().await.unwrap().device_id, "roof");
    }

    /// Remembers how often it was asked.
    struct Failing(u32);

    impl Signer for Failing {
        fn identity(&mut self) -> Result<Identity, IdentityError> {
            self.0 += 1;
            Err(IdentityError::Failed {
                doing: "failing".into(),
                remedy: format!("{} times", self.0),
                source: None,
            })
        }

        fn sign(&mut self, _: &[u8]) -> Result<[u8; 32], IdentityError> {
            Ok([0; 32])
        }
    }

    #[tokio::test]
    async fn what_a_signer_has_learnt_outlives_its_errors() {
        let mut desk = desk(Path::new("/nonexistent"));
        desk.state = State::Idle(Box::new(Failing(0)));
        desk.identity().await.unwrap_err();
        assert!(!desk.was_replaced().await);
        let error = desk.identity().await.unwrap_err().to_string();
        assert!(error.contains("3 times"), "{error}");
    }

    #[tokio::test]
    async fn a_key_that_was_replaced_signs_nothing_for_the_old_name() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        write(&key_file);
        let mut desk = desk(&key_file);
        let timekeeper = timekeeper();
        let life = Duration::from_secs(600);
        let roof = desk.identity().await.unwrap();
        write_text(&key_file, &KEY.replace("roof", "cellar"));
        let error = desk.token(roof.clone(), &timekeeper, life).await.unwrap_err();
        assert!(matches!(error.cause, Cause::Identity(IdentityError::Replaced { .. })), "{error}");
        assert_eq!(
            error.to_string(),
            "could not sign a token: signing for roof at hub: the signer now holds cellar at hub; the station reads \
             the identity anew and signs in again"
        );
        let cellar = desk.identity().await.unwrap();
        assert_eq!(desk.token(cellar, &timekeeper, life).await.unwrap().resource, "hub%2Fdevices%2Fcellar");
        write(&key_file);
        assert_eq!(desk.token(roof, &timekeeper, life).await.unwrap().resource, "hub%2Fdevices%2Froof");
    }

    #[tokio::test]
    async fn another_name_and_another_key_under_the_same_name_are_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        write(&key_file);
        let mut desk = desk(&key_file);
        let timekeeper = timekeeper();
        assert!(desk.was_replaced().await, "there was no token yet");
        for text in [KEY.to_owned(), KEY.replace("TEyMzQ=", "TEyMzU="), KEY.replace("roof", "cellar")] {
            write_text(&key_file, &text);
            assert!(desk.was_replaced().await);
            let identity = desk.identity().await.unwrap();
            desk.token(identity, &timekeeper, Duration::from_secs(600)).await.unwrap();
            assert!(!desk.was_replaced().await);
        }
        std::fs::remove_file(&key_file).unwrap();
        assert!(!desk.was_replaced().await, "it is away");
    }

    /// Does not answer until somebody speaks, as a TPM that hangs.
    struct Hanging(mpsc::Receiver<()>);

    impl Signer for Hanging {
        fn identity(&mut self) -> Result<Identity, IdentityError> {
            // From then on it is an error at once: nobody can speak any more.
            let _spoken = self.0.recv();
            Ok(Identity { host: "hub".into(), device_id: "roof".into() })
        }

        fn sign(&mut self, _: &[u8]) -> Result<[u8; 32], IdentityError> {
            Ok([0; 32])
        }
    }

    #[tokio::test]
    async fn a_signer_that_hangs_is_given_up_and_taken_up_again() {
        let mut desk = desk(Path::new("/nonexistent"));
        let (speak, silent) = mpsc::channel();
        desk.state = State::Idle(Box::new(Hanging(silent)));
        for _ in 0..2 {
            let error = desk.identity().await.unwrap_err();
            assert!(matches!(error.cause, Cause::SignerStuck(_)), "{error}");
        }
        // Dropped half-way: the call that runs is not forgotten, and no second one is begun beside it.
        drop(tokio::time::timeout(Duration::from_millis(20), desk.identity()).await);
        assert!(matches!(desk.state, State::Busy(_)));
        drop(speak);
        assert_eq!(desk.identity().await.unwrap().device_id, "roof");
    }
}
