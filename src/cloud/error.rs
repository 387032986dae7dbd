//! What can go wrong between the station and its hub, and what follows from it: classed here, once. What the hub
//! says is read in `refusal`, what the AMQP library says in `library_errors`. Knows nothing of sockets or readings.

use std::time::Duration;

use super::dial;
pub use super::refusal::Refusal;
use super::tls::{self, TlsError};
use crate::backoff::{LEAST, Range};
use crate::chain::chain;
use crate::identity::IdentityError;
use crate::identity::dps::Unassigned;
use crate::status::Failure;
use crate::store::StoreError;

/// One thing that did not work: what was being done, and why not.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {cause}")]
pub struct CloudError {
    pub doing: &'static str,
    #[source]
    pub cause: Cause,
}

/// Why it did not work.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// A deadline passed: the network or the hub is stuck.
    #[error("the hub did not answer within {} s", .0.as_secs_f64())]
    TooSlow(Duration),
    /// The network failed, or TLS did.
    #[error("{}", chain(.0))]
    Io(#[from] std::io::Error),
    /// The hub said no, with a condition.
    #[error("{0}")]
    Refused(Refusal),
    /// put-token was answered with something else than 200 or 202.
    #[error("the hub answered {status} {description}")]
    Token { status: i32, description: String },
    /// The hub did not do what it has to, and gave no usable condition.
    #[error("{0}")]
    Misbehaved(String),
    /// The connection, session or link ended without a word.
    #[error("{0}")]
    Lost(String),
    /// The library's state does not fit (a frame crossed ours): only a new connection helps.
    #[error("the connection is in a state that only a new one mends")]
    IllegalState,
    /// The TPM (or whatever signs) is stuck.
    #[error("the signer did not answer within {} s", .0.as_secs_f64())]
    SignerStuck(Duration),
    /// The message is larger than the link takes.
    #[error("{size} bytes are more than the {limit} that the link takes")]
    TooLarge { size: u64, limit: u64 },
    /// No identity, or no signature.
    #[error("{}", chain(.0))]
    Identity(#[from] IdentityError),
    /// The provisioning service gave no identity.
    #[error("{0}")]
    Unassigned(#[source] Box<Unassigned>),
    /// The store has failed.
    #[error("{}", chain(.0))]
    Store(#[from] StoreError),
    /// A deadline passed: the card is slow, or stuck.
    #[error("the store did not answer within {} s", .0.as_secs_f64())]
    DiskSlow(Duration),
    /// The station ends this connection itself and makes another one.
    #[error("{0}")]
    Reconnect(String),
    /// `hub.ca_file` and the like.
    #[error("{}", chain(.0))]
    Tls(#[from] TlsError),
    /// The clock is wrong and the hub's time could not be had.
    #[error("the clock {0}")]
    Clock(String),
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reconnect: 1 s to 60 s.
    Soon,
    /// Throttled, or suspended for a while: 5 s to 30 s, or what the hub says.
    Slowly,
    /// The daily quota is spent, or the hub is suspended: up to 5 minutes between probes.
    Quota,
    /// The token may be old: renew it at once, and if that does not help it is [`Class::Identity`].
    Renew,
    /// The hub does not know us or does not believe us: up to 5 minutes.
    Identity,
    /// Nothing went over the network yet (no key, no name, a TPM that is away): look again within 15 s.
    Local,
    /// Another station signs in with this identity: minutes, so that the two do not fight.
    Stolen,
    /// This message will never be taken: set it aside.
    SetAside,
}

impl Class {
    /// How long to wait before the next attempt.
    pub fn range(self) -> Range {
        match self {
            Self::Soon | Self::Renew => Range::seconds(1, 2, 60),
            Self::Slowly | Self::SetAside => Range::seconds(5, 10, 30),
            Self::Quota | Self::Identity => Range::seconds(5, 30, 300),
            Self::Local => Range::seconds(1, 2, 15),
            Self::Stolen => Range::seconds(120, 180, 600),
        }
    }
}

impl CloudError {
    pub fn new(doing: &'static str, cause: impl Into<Cause>) -> Self {
        Self { doing, cause: cause.into() }
    }

    /// What to do about it.
    pub fn class(&self) -> Class {
        match &self.cause {
            Cause::Refused(refusal) => refusal.class(),
            Cause::Token { status, .. } => match status {
                401 | 403 => Class::Renew,
                404 => Class::Identity,
                429 => Class::Slowly,
                _ => Class::Soon,
            },
            Cause::Identity(_)
            | Cause::SignerStuck(_)
            | Cause::Clock(_)
            | Cause::Store(_)
            | Cause::DiskSlow(_)
            | Cause::Tls(_)
            | Cause::Reconnect(_) => Class::Local,
            Cause::Unassigned(_) => Class::Identity,
            Cause::TooLarge { .. } => Class::SetAside,
            Cause::TooSlow(_)
            | Cause::Io(_)
            | Cause::Misbehaved(_)
            | Cause::Lost(_)
            | Cause::IllegalState => Class::Soon,
        }
    }

    /// The hub's certificate is not valid yet or no longer, by the station's clock: that may be the one that is wrong.
    pub fn is_about_the_time(&self) -> bool {
        matches!(&self.cause, Cause::Io(error) if tls::is_about_the_time(error))
    }

    /// A certificate is not trusted, or (the provisioning service's) may not be: there may be other roots by now.
    pub fn asks_for_roots(&self) -> bool {
        match &self.cause {
            Cause::Io(error) => tls::is_about_the_certificate(error),
            Cause::Unassigned(_) => true,
            _ => false,
        }
    }

    /// The store's trouble, and not the hub's: the connection is as good as it was.
    pub fn is_of_the_store(&self) -> bool {
        matches!(self.cause, Cause::Store(_) | Cause::DiskSlow(_))
    }

    /// The failure to show. `class` may be stricter than `self.class()`: what later attempts made of it.
    pub fn failure(&self, class: Class) -> Option<Failure> {
        let failure = match (class, &self.cause) {
            (Class::Local, Cause::Clock(_)) => Failure::Clock,
            (Class::Local, Cause::Reconnect(_)) => return None,
            (Class::Local, _) | (_, Cause::Unassigned(_)) => Failure::Station,
            (Class::Renew | Class::Identity, _) => Failure::Identity,
            (Class::Stolen, _) => Failure::Stolen,
            (Class::Soon, Cause::Io(error)) => match tls::failure(error) {
                Failure::Network if self.doing == dial::UPGRADE => Failure::Websocket,
                failure => failure,
            },
            (Class::Soon, Cause::TooSlow(_) | Cause::Lost(_) | Cause::IllegalState) => Failure::Network,
            _ => Failure::Hub,
        };
        Some(failure)
    }

    /// The hub's own wish, or the provisioning service's; never more than one attempt a second.
    pub fn retry_after(&self) -> Option<Duration> {
        let asked = match &self.cause {
            Cause::Refused(refusal) => refusal.retry_after,
            Cause::Unassigned(error) => error.retry_after,
            _ => None,
        };
        asked.map(|wait| wait.max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn put_token_answers_are_classed_by_their_status() {
        let class = |status| {
            let cause = Cause::Token { status, description: String::new() };
            CloudError::new("have the token accepted", cause).class()
        };
        assert_eq!(class(401), Class::Renew);
        assert_eq!(class(404), Class::Identity);
        assert_eq!(class(500), Class::Soon);
    }

    #[test]
    fn each_error_is_a_failure_of_one_kind() {
        let io = |doing| CloudError::new(doing, std::io::Error::other("it broke"));
        let told = |condition: &str| {
            Cause::Refused(Refusal {
                condition: condition.into(),
                description: String::new(),
                retry_after: None,
            })
        };
        let token = |status| Cause::Token { status, description: String::new() };
        let limit = Duration::from_secs(15);
        let new = |cause: Cause| CloudError::new("sign in", cause);
        let tls = std::io::Error::other(tokio_rustls::rustls::Error::DecryptError);
        let unassigned = IdentityError::NotProvisioned { slot: 0, what: "an identity" };
        for (error, failure) in [
            (new(Cause::Clock("is wrong".into())), Failure::Clock),
            (new(Cause::SignerStuck(limit)), Failure::Station),
            (new(Cause::Unassigned(Box::new(Unassigned::from(unassigned)))), Failure::Station),
            (new(token(401)), Failure::Identity),
            (new(token(404)), Failure::Identity),
            (new(token(429)), Failure::Hub),
            (new(token(500)), Failure::Hub),
            (new(told("amqp:not-found")), Failure::Identity),
            (new(told("amqp:resource-limit-exceeded")), Failure::Hub),
            (new(told("amqp:internal-error")), Failure::Hub),
            (new(tls.into()), Failure::Tls),
            (io(dial::UPGRADE), Failure::Websocket),
            (io("connect to the hub"), Failure::Network),
            (new(Cause::Misbehaved("the hub does not let anyone in".into())), Failure::Hub),
            (new(Cause::TooSlow(limit)), Failure::Network),
            (new(Cause::Lost("closed".into())), Failure::Network),
            (new(Cause::IllegalState), Failure::Network),
        ] {
            assert_eq!(error.failure(error.class()), Some(failure), "{error}");
        }
        let wish = new(Cause::Reconnect("the AMQP port is open again".into()));
        assert_eq!(wish.failure(wish.class()), None, "nothing has failed");
        let refused = new(token(401));
        assert_eq!(refused.failure(Class::Identity), Some(Failure::Identity), "when it was refused again");
        assert_eq!(refused.failure(Class::Stolen), Some(Failure::Stolen));
    }

    #[test]
    fn each_class_waits_as_long_as_it_deserves() {
        let cap = |class: Class| (class.range().floor.as_secs(), class.range().cap.as_secs());
        assert_eq!(cap(Class::Soon), (1, 60));
        assert_eq!(cap(Class::Slowly), (5, 30));
        assert_eq!(cap(Class::Quota), (5, 300));
        assert_eq!(cap(Class::Identity), (5, 300));
        assert_eq!(cap(Class::Local), (1, 15));
        assert_eq!(cap(Class::Stolen), (120, 600));
    }

    #[test]
    fn an_error_says_what_was_being_done_and_why_it_failed() {
        let error = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "127.0.0.1:5671: refused");
        let error = CloudError::new("connect to the hub", error);
        assert_eq!(error.to_string(), "could not connect to the hub: 127.0.0.1:5671: refused");
    }

    #[test]
    fn what_is_behind_an_error_is_kept_and_told_once() {
        let load = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            let clock = std::sync::Arc::new(crate::clock::SystemClock::new());
            let timekeeper = crate::clock::Timekeeper::new(clock, chrono::DateTime::UNIX_EPOCH);
            let error = tls::Tls::load(Some(file.path()), timekeeper).map(drop).unwrap_err();
            chain(&CloudError::new("set TLS up", error)).replace(&file.path().display().to_string(), "FILE")
        };
        let before = "could not set TLS up: could not read certificates (PEM) from hub.ca_file = FILE: ";
        assert_eq!(load(""), format!("{before}the file holds no certificate"));
        assert!(load("-----BEGIN CERTIFICATE-----\n").starts_with(before));
    }
}
