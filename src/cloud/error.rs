//! What can go wrong between the station and its hub, and what follows from it. Classed here, once, by the
//! conditions of IoT Hub; nobody else reads an AMQP condition. Knows nothing of sockets or readings.

use std::fmt;
use std::time::Duration;

use fe2o3_amqp::connection::{self, ConnectionStopReason, OpenError};
use fe2o3_amqp::link::{
    DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
    SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::{self, BeginError};
use fe2o3_amqp_types::definitions::{self, ErrorCondition};
use fe2o3_amqp_types::primitives::Symbol;

use super::tls::TlsError;
use crate::backoff::Range;
use crate::identity::IdentityError;
use crate::store::StoreError;

/// One thing that did not work: what was being done, and why not.
#[derive(Debug, thiserror::Error)]
#[error("could not {doing}: {cause}")]
pub struct CloudError {
    pub doing: &'static str,
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
    Io(std::io::Error),
    /// The hub said no, with a condition.
    #[error("{0}")]
    Told(Refusal),
    /// put-token was answered with something else than 200 or 202.
    #[error("the hub answered {status} {description}")]
    Token { status: i32, description: String },
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
    Identity(IdentityError),
    /// The provisioning service gave no identity.
    #[error("{}", chain(.0))]
    Unassigned(IdentityError),
    /// The store did not answer.
    #[error("{}", chain(.0))]
    Store(StoreError),
    /// The TPM holds another identity than the one that is connected.
    #[error("{0}")]
    Replaced(String),
    /// `hub.ca_file` and the like.
    #[error("{}", chain(.0))]
    Tls(TlsError),
    /// The clock is wrong and the hub's time could not be had.
    #[error("the clock {0}")]
    Clock(String),
}

/// A condition with what the hub says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `amqp:unauthorized-access`, `com.microsoft:device-container-throttled` and so on.
    pub condition: String,
    /// For people; IoT Hub often sends JSON.
    pub description: String,
    /// How long to wait, where the hub says so.
    pub retry_after: Option<Duration>,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Reconnect: 1 s to 60 s.
    Soon,
    /// Throttled, or suspended for a while: 5 s to 30 s, or what the hub says.
    Slowly,
    /// The daily quota is spent: up to 5 minutes between probes.
    Quota,
    /// The token may be old: renew it at once, and if that does not help it is [`Class::Identity`].
    Renew,
    /// The hub does not know us or does not believe us: up to 5 minutes.
    Identity,
    /// Nothing went over the network yet (no key, no name, a TPM that is away): look again within 15 s.
    Here,
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
            Self::Here => Range::seconds(1, 2, 15),
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
            Cause::Told(refusal) => refusal.class(),
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
            | Cause::Tls(_)
            | Cause::Replaced(_) => Class::Here,
            Cause::Unassigned(_) => Class::Identity,
            Cause::TooLarge { .. } => Class::SetAside,
            Cause::TooSlow(_) | Cause::Io(_) | Cause::Lost(_) | Cause::IllegalState => Class::Soon,
        }
    }

    /// The hub's own wish.
    pub fn retry_after(&self) -> Option<Duration> {
        match &self.cause {
            Cause::Told(refusal) => refusal.retry_after,
            _ => None,
        }
    }
}

impl Refusal {
    /// The table of conditions. What is unknown is retried: a station that waits for a human loses readings.
    pub fn class(&self) -> Class {
        match self.condition.as_str() {
            "amqp:unauthorized-access" => Class::Renew,
            "amqp:not-found" | "amqp:resource-deleted" | "com.microsoft:iot-hub-not-found-error" => {
                Class::Identity
            }
            "amqp:resource-limit-exceeded" | "com.microsoft:quota-exceeded" => Class::Quota,
            "com.microsoft:iot-hub-suspended" | "amqp:not-allowed" => Class::Quota,
            "com.microsoft:device-container-throttled" => Class::Slowly,
            "amqp:link:stolen" | "com.microsoft:link-creation-conflict" => Class::Stolen,
            "amqp:connection:forced" if self.says_taken_over() => Class::Stolen,
            "amqp:link:message-size-exceeded"
            | "amqp:decode-error"
            | "amqp:invalid-field"
            | "amqp:not-implemented"
            | "amqp:precondition-failed"
            | "com.microsoft:argument-error"
            | "com.microsoft:argument-out-of-range"
            | "com.microsoft:precondition-failed" => Class::SetAside,
            _ => Class::Soon,
        }
    }

    /// Error code 400027: ConnectionForcefullyClosedOnNewConnection.
    fn says_taken_over(&self) -> bool {
        self.description.contains("400027") || self.description.contains("OnNewConnection")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub says {}", self.condition)?;
        if !self.description.is_empty() {
            write!(f, " ({})", self.description)?;
        }
        Ok(())
    }
}

impl From<definitions::Error> for Refusal {
    fn from(error: definitions::Error) -> Self {
        let symbol = match &error.condition {
            ErrorCondition::AmqpError(condition) => Symbol::from(condition),
            ErrorCondition::ConnectionError(condition) => Symbol::from(condition),
            ErrorCondition::SessionError(condition) => Symbol::from(condition),
            ErrorCondition::LinkError(condition) => Symbol::from(condition),
            ErrorCondition::Custom(condition) => condition.clone(),
        };
        let description = error.description.unwrap_or_default();
        let info = error.info.map(|info| format!("{info:?}")).unwrap_or_default();
        let retry_after = hint(&description).or_else(|| hint(&info));
        Self { condition: symbol.as_str().to_owned(), description: shortened(&description), retry_after }
    }
}

impl From<definitions::Error> for Cause {
    fn from(error: definitions::Error) -> Self {
        Self::Told(error.into())
    }
}

/// Reads "retry after N" in the spellings met: `Retry-After: 7`, `"retryAfter":7`, `retry-after-ms` and so on.
fn hint(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let from = ["retry-after", "retryafter", "retry_after", "retry after"]
        .iter()
        .find_map(|name| text.find(name).map(|at| at + name.len()))?;
    let rest = &text[from..];
    let digits = rest.find(|c: char| c.is_ascii_digit()).filter(|at| *at < 20)?;
    let (unit, number) = rest.split_at(digits);
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let value: u64 = number[..end].parse().ok().filter(|value| *value > 0)?;
    let wait = if unit.contains("ms") || unit.contains("milli") {
        Duration::from_millis(value)
    } else {
        Duration::from_secs(value)
    };
    Some(wait.min(Duration::from_secs(3600)))
}

/// A hub's text is kept readable and short.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// An error with all that is behind it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let more = cause.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = cause.source();
    }
    text
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<IdentityError> for Cause {
    fn from(error: IdentityError) -> Self {
        Self::Identity(error)
    }
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn lost(what: impl fmt::Debug) -> Cause {
    Cause::Lost(format!("{what:?}"))
}

impl From<ConnectionStopReason> for Cause {
    fn from(reason: ConnectionStopReason) -> Self {
        match reason {
            ConnectionStopReason::RemoteClosedWithError(error) => error.into(),
            ConnectionStopReason::ClosedWithError(_) => Self::IllegalState,
            ConnectionStopReason::Closed => Self::Lost("the connection broke".into()),
            ConnectionStopReason::RemoteClosed => Self::Lost("the hub closed the connection".into()),
        }
    }
}

impl From<SessionStopReason> for Cause {
    fn from(reason: SessionStopReason) -> Self {
        match reason {
            SessionStopReason::RemoteEndedWithError(error) => error.into(),
            SessionStopReason::ConnectionStopped(reason) => reason.into(),
            SessionStopReason::RemoteEnded => Self::Lost("the hub ended the session".into()),
            SessionStopReason::Ended | SessionStopReason::EndedWithError(_) => Self::IllegalState,
        }
    }
}

impl From<LinkStateError> for Cause {
    fn from(error: LinkStateError) -> Self {
        match error {
            LinkStateError::RemoteClosedWithError(error) | LinkStateError::RemoteDetachedWithError(error) => {
                error.into()
            }
            LinkStateError::SessionStopped(reason) => reason.into(),
            LinkStateError::RemoteClosed | LinkStateError::RemoteDetached => {
                Self::Lost("the hub detached the link".into())
            }
            LinkStateError::IllegalState | LinkStateError::ExpectImmediateDetach => Self::IllegalState,
        }
    }
}

impl From<DetachError> for Cause {
    #[allow(deprecated, reason = "the variant is still produced by on_detach")]
    fn from(error: DetachError) -> Self {
        match error {
            DetachError::RemoteClosedWithError(error) | DetachError::RemoteDetachedWithError(error) => {
                error.into()
            }
            DetachError::SessionStopped(reason) => reason.into(),
            DetachError::ClosedByRemote | DetachError::DetachedByRemote => {
                Self::Lost("the hub detached the link".into())
            }
            DetachError::IllegalState => Self::IllegalState,
        }
    }
}

impl From<SendError> for Cause {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => error.into(),
            SendError::MessageSizeExceeded(error) => {
                Self::TooLarge { size: error.size, limit: error.max_size }
            }
            other => lost(other),
        }
    }
}

impl From<RecvError> for Cause {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            other => lost(other),
        }
    }
}

impl From<IllegalLinkStateError> for Cause {
    fn from(error: IllegalLinkStateError) -> Self {
        match error {
            IllegalLinkStateError::SessionStopped(reason) => reason.into(),
            _ => Self::IllegalState,
        }
    }
}

impl From<SenderAttachError> for Cause {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::RemoteClosedWithError(error) => error.into(),
            SenderAttachError::SessionStopped(reason) => reason.into(),
            SenderAttachError::IllegalState => Self::IllegalState,
            other => lost(other),
        }
    }
}

impl From<ReceiverAttachError> for Cause {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::RemoteClosedWithError(error) => error.into(),
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            ReceiverAttachError::IllegalState => Self::IllegalState,
            other => lost(other),
        }
    }
}

impl From<BeginError> for Cause {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::RemoteEndedWithError(error) => error.into(),
            BeginError::ConnectionStopped(reason) => reason.into(),
            BeginError::IllegalState => Self::IllegalState,
            other => lost(other),
        }
    }
}

impl From<session::Error> for Cause {
    fn from(error: session::Error) -> Self {
        match error {
            session::Error::RemoteEndedWithError(error) => error.into(),
            session::Error::ConnectionStopped(reason) => reason.into(),
            session::Error::IllegalState => Self::IllegalState,
            other => lost(other),
        }
    }
}

impl From<OpenError> for Cause {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::RemoteClosedWithError(error) => error.into(),
            OpenError::Io(error) => error.into(),
            other => Self::Lost(other.to_string()),
        }
    }
}

impl From<connection::Error> for Cause {
    fn from(error: connection::Error) -> Self {
        match error {
            connection::Error::RemoteClosedWithError(error) => error.into(),
            connection::Error::RemoteClosed => Self::Lost("the hub closed the connection".into()),
            connection::Error::TransportError(error) => Self::Lost(format!("the connection broke: {error}")),
            connection::Error::IllegalState => Self::IllegalState,
            other => Self::Lost(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(condition: &str) -> Class {
        Refusal { condition: condition.into(), description: String::new(), retry_after: None }.class()
    }

    #[test]
    fn each_condition_has_its_class() {
        let table = [
            ("amqp:unauthorized-access", Class::Renew),
            ("amqp:not-found", Class::Identity),
            ("amqp:resource-deleted", Class::Identity),
            ("com.microsoft:iot-hub-not-found-error", Class::Identity),
            ("amqp:resource-limit-exceeded", Class::Quota),
            ("com.microsoft:quota-exceeded", Class::Quota),
            ("com.microsoft:iot-hub-suspended", Class::Quota),
            ("amqp:not-allowed", Class::Quota),
            ("com.microsoft:device-container-throttled", Class::Slowly),
            ("amqp:link:stolen", Class::Stolen),
            ("com.microsoft:link-creation-conflict", Class::Stolen),
            ("amqp:link:message-size-exceeded", Class::SetAside),
            ("amqp:decode-error", Class::SetAside),
            ("amqp:invalid-field", Class::SetAside),
            ("com.microsoft:argument-error", Class::SetAside),
            ("amqp:link:detach-forced", Class::Soon),
            ("amqp:connection:forced", Class::Soon),
            ("amqp:connection:framing-error", Class::Soon),
            ("amqp:internal-error", Class::Soon),
            ("amqp:resource-locked", Class::Soon),
            ("amqp:session:window-violation", Class::Soon),
            ("amqp:illegal-state", Class::Soon),
            ("com.microsoft:timeout", Class::Soon),
            ("com.example:never-heard-of", Class::Soon),
        ];
        for (condition, expected) in table {
            assert_eq!(class(condition), expected, "{condition}");
        }
    }

    #[test]
    fn a_connection_closed_for_a_newer_one_is_a_stolen_identity() {
        let refusal = Refusal {
            condition: "amqp:connection:forced".into(),
            description: "{\"errorCode\":400027,\"message\":\"closed\"}".into(),
            retry_after: None,
        };
        assert_eq!(refusal.class(), Class::Stolen);
    }

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
    fn a_retry_hint_is_read_and_nothing_else_is_taken_for_one() {
        let seconds = Some(Duration::from_secs(7));
        assert_eq!(hint("Retry-After: 7"), seconds);
        assert_eq!(hint("{\"errorCode\":429001,\"retryAfter\":7}"), seconds);
        assert_eq!(hint("{Symbol(\"Retry-After\"): Int(7)}"), seconds);
        assert_eq!(hint("retry-after-ms: 1500"), Some(Duration::from_millis(1500)));
        assert_eq!(hint("Server Busy. Please retry operation, 2026-01-01"), None);
        assert_eq!(hint("retry after the weekend, that is in a long while, on 7 May"), None);
    }

    #[test]
    fn an_error_says_what_was_being_done_and_why_it_failed() {
        let error = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "127.0.0.1:5671: refused");
        let error = CloudError::new("connect to the hub", error);
        assert_eq!(error.to_string(), "could not connect to the hub: 127.0.0.1:5671: refused");
    }
}
