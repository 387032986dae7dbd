//! The five links beside telemetry, in three groups that come and go by themselves: a hub of the basic tier has none
//! of them, and a group that is refused or lost is attached again later, while everything else goes on.
//! Knows addresses and settle modes, not what travels over them.

use fe2o3_amqp::{Receiver, Sender};
use fe2o3_amqp_types::definitions::{ReceiverSettleMode, SenderSettleMode};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::connection::{LinkOptions, Links};
use super::super::deadline::Bounded;
use super::super::error::{Cause, CloudError};
use super::wire;
use crate::backoff::{Backoff, HEALTHY, Range};

/// As Microsoft's Node SDK has it (2026).
const API_VERSION: &str = "2021-04-12";
/// Between two attempts to attach a group: a hub that refuses it will go on refusing.
const AGAIN: Range = Range::seconds(2, 10, 3_600);

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Twin,
    Methods,
    Messages,
}

/// The links of a group.
#[derive(Debug)]
pub struct Attached {
    /// None for messages to the device, which go one way.
    pub sender: Option<Bounded<Sender>>,
    pub receiver: Bounded<Receiver>,
    since: Instant,
}

/// A group that is attached, or will be.
#[derive(Debug)]
pub struct Group {
    pub kind: Kind,
    pub attached: Option<Attached>,
    again_at: Option<Instant>,
    backoff: Backoff,
}

impl Group {
    pub fn new(kind: Kind, seed: u64) -> Self {
        Self { kind, attached: None, again_at: None, backoff: Backoff::new(seed) }
    }

    /// When it has to be attached; none while it is.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.attached.is_none().then(|| self.again_at.unwrap_or(now))
    }

    /// Attaches it. An error is one that only another connection mends; others are waited out.
    pub async fn attach(&mut self, links: &mut Links, device_id: &str) -> Result<(), CloudError> {
        match self.try_attach(links, device_id).await {
            Ok(attached) => {
                tracing::debug!(links = self.kind.name(), "attached");
                self.attached = Some(attached);
                Ok(())
            }
            Err(error) => {
                let broken = matches!(error.cause, Cause::IllegalState);
                self.lost(&error);
                if broken { Err(error) } else { Ok(()) }
            }
        }
    }

    /// Its links are gone.
    pub fn lost(&mut self, error: &CloudError) {
        if let Some(attached) = self.attached.take() {
            self.backoff.after_connection(attached.since.elapsed().min(HEALTHY));
        }
        let wait = self.backoff.after_failure(AGAIN);
        self.again_at = Some(Instant::now() + wait);
        let name = self.kind.name();
        if self.backoff.failures() == 1 {
            tracing::warn!(%error, links = name, again_in = ?wait, "telemetry goes on without these links");
        } else {
            tracing::debug!(%error, links = name, again_in = ?wait, "still without these links");
        }
    }

    /// The connection has ended with everything on it; the waiting goes on.
    pub fn disconnected(&mut self) {
        if let Some(attached) = self.attached.take() {
            self.backoff.after_connection(attached.since.elapsed());
        }
    }

    async fn try_attach(&self, links: &mut Links, device_id: &str) -> Result<Attached, CloudError> {
        let address = self.kind.address(device_id);
        let doing = self.kind.doing();
        // The hub pairs the two links of a group by this word.
        let word = format!("{}:{}", self.kind.name(), Uuid::new_v4());
        let options = |for_sender: bool| {
            let mut options = LinkOptions { largest: Some(wire::LARGEST), ..LinkOptions::default() };
            if self.kind == Kind::Twin || (self.kind == Kind::Methods && for_sender) {
                options.sender_settle_mode = SenderSettleMode::Settled;
                options.receiver_settle_mode = ReceiverSettleMode::First;
            }
            if self.kind != Kind::Messages {
                options.properties.push(("com.microsoft:api-version", API_VERSION.into()));
                options.properties.push(("com.microsoft:channel-correlation-id", word.clone().into()));
            }
            if for_sender {
                options.properties.push((super::MODEL_PROPERTY, super::MODEL_ID.into()));
            }
            options
        };
        let sender = match self.kind {
            Kind::Messages => None,
            Kind::Twin | Kind::Methods => Some(links.attach_sender(doing, &address, options(true)).await?),
        };
        let accept = self.kind != Kind::Messages;
        let receiver = links.attach_receiver(doing, &address, accept, options(false)).await?;
        Ok(Attached { sender, receiver, since: Instant::now() })
    }
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Twin => "twin",
            Self::Methods => "methods",
            Self::Messages => "messages",
        }
    }

    fn doing(self) -> &'static str {
        match self {
            Self::Twin => "attach the twin links",
            Self::Methods => "attach the method links",
            Self::Messages => "attach the link for messages to the device",
        }
    }

    fn address(self, device_id: &str) -> String {
        match self {
            Self::Twin => format!("/devices/{device_id}/twin"),
            Self::Methods => format!("/devices/{device_id}/methods/devicebound"),
            Self::Messages => format!("/devices/{device_id}/messages/devicebound"),
        }
    }
}
