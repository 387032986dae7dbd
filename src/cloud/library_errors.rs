//! What the AMQP library's errors mean: the hub's own words where there are any, else that the connection, session
//! or link is gone, else that the library's state does not fit.

use std::fmt;

use fe2o3_amqp::connection::{self, ConnectionStopReason, OpenError};
use fe2o3_amqp::link::{
    DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
    SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::{self, BeginError};
use fe2o3_amqp_types::definitions;

use super::error::Cause;
use super::refusal::Refusal;

impl From<ConnectionStopReason> for Cause {
    fn from(reason: ConnectionStopReason) -> Self {
        match reason {
            ConnectionStopReason::RemoteClosedWithError(error) => closed(error),
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
            OpenError::RemoteClosedWithError(error) => closed(error),
            OpenError::Io(error) => error.into(),
            OpenError::SaslError { code, .. } => Self::Misbehaved(format!(
                "the hub refused the station before it was shown a token (SASL outcome {code:?})"
            )),
            OpenError::NotImplemented(what) => Self::Misbehaved(format!(
                "the hub does not let in who signs in with a token: {}",
                what.unwrap_or_default()
            )),
            other => lost(other),
        }
    }
}

impl From<connection::Error> for Cause {
    fn from(error: connection::Error) -> Self {
        match error {
            connection::Error::RemoteClosedWithError(error) => closed(error),
            connection::Error::RemoteClosed => Self::Lost("the hub closed the connection".into()),
            connection::Error::TransportError(error) => Self::Lost(format!("the connection broke: {error}")),
            connection::Error::IllegalState => Self::IllegalState,
            other => lost(other),
        }
    }
}

fn lost(what: impl fmt::Display) -> Cause {
    Cause::Lost(what.to_string())
}

/// The hub closed the connection, and says why.
fn closed(error: definitions::Error) -> Cause {
    let refusal = Refusal::from(error);
    if refusal.closes_for_another_limit() {
        return Cause::Misbehaved(refusal.to_string());
    }
    Cause::Refused(refusal)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::definitions::AmqpError;
    use fe2o3_amqp_types::sasl::SaslCode;

    use super::super::error::{Class, CloudError};
    use super::*;
    use crate::status::Failure;

    fn open(error: OpenError) -> CloudError {
        CloudError::new("open the connection", error)
    }

    #[test]
    fn a_hub_that_lets_nobody_in_is_no_broken_network() {
        for (error, text) in [
            (
                OpenError::NotImplemented(Some("ANONYMOUS is not supported".into())),
                "the hub does not let in who signs in with a token: ANONYMOUS is not supported",
            ),
            (
                OpenError::SaslError { code: SaslCode::Auth, additional_data: None },
                "the hub refused the station before it was shown a token (SASL outcome Auth)",
            ),
        ] {
            let error = open(error);
            assert_eq!(error.to_string(), format!("could not open the connection: {text}"));
            assert_eq!((error.class(), error.failure(error.class())), (Class::Soon, Some(Failure::Hub)));
        }
    }

    #[test]
    fn a_connection_is_closed_for_the_quota_only_where_the_hub_says_so() {
        let quota = "{\"errorCode\":403002,\"message\":\"IotHubQuotaExceeded\"}";
        for (description, class) in
            [(Some(quota), Class::Quota), (Some("idle"), Class::Soon), (None, Class::Soon)]
        {
            let error = || {
                let description = description.map(str::to_owned);
                definitions::Error::new(AmqpError::ResourceLimitExceeded, description, None)
            };
            let closed: [Cause; 3] = [
                OpenError::RemoteClosedWithError(error()).into(),
                connection::Error::RemoteClosedWithError(error()).into(),
                ConnectionStopReason::RemoteClosedWithError(error()).into(),
            ];
            for cause in closed {
                let closed = CloudError::new("stay connected", cause);
                assert_eq!((closed.class(), closed.failure(class)), (class, Some(Failure::Hub)), "{closed}");
                assert!(closed.to_string().contains("the hub says amqp:resource-limit-exceeded"), "{closed}");
            }
            let detached: Cause = LinkStateError::RemoteDetachedWithError(error()).into();
            assert_eq!(CloudError::new("send", detached).class(), Class::Quota);
        }
    }
}
