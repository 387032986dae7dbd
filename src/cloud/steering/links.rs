//! The five links beside telemetry, in three groups that come and go by themselves: a hub of the basic tier has none
//! of them, and a group that is refused or lost is attached again later, while everything else goes on.
//! Knows addresses and settle modes, not what travels over them.

use std::time::Duration;

use fe2o3_amqp::{Receiver, Sender};
use fe2o3_amqp_types::definitions::{ReceiverSettleMode, SenderSettleMode};
use tokio::time::Instant;
use uuid::Uuid;

use super::super::connection::{LinkOptions, Links};
use super::super::deadline::Bounded;
use super::super::error::{Cause, Class, CloudError};
use super::super::outage::Outage;
use super::wire;
use crate::backoff::{Backoff, Range};

/// As Microsoft's Node SDK has it (2026).
const API_VERSION: &str = "2021-04-12";
/// Between two attempts to attach a group that the hub has not got, or says nothing about: it will go on so.
const AGAIN: Range = Range::seconds(2, 10, 3_600);
/// By then it is told that a connection has ended, and a link that was refused has gone altogether.
const MOMENT: Duration = Duration::from_secs(1);

/// What a group is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Twin,
    Methods,
    Messages,
}

/// One group of each kind.
#[derive(Debug)]
pub struct LinkGroups {
    pub twin: Group,
    pub methods: Group,
    pub messages: Group,
}

impl LinkGroups {
    pub fn new(seed: u64) -> Self {
        let group = |kind, number| Group::new(kind, seed.wrapping_add(number));
        Self {
            twin: group(Kind::Twin, 11),
            methods: group(Kind::Methods, 12),
            messages: group(Kind::Messages, 13),
        }
    }

    pub fn of(&mut self, kind: Kind) -> &mut Group {
        match kind {
            Kind::Twin => &mut self.twin,
            Kind::Methods => &mut self.methods,
            Kind::Messages => &mut self.messages,
        }
    }

    pub fn all(&self) -> [&Group; 3] {
        [&self.twin, &self.methods, &self.messages]
    }

    pub fn all_mut(&mut self) -> [&mut Group; 3] {
        [&mut self.twin, &mut self.methods, &mut self.messages]
    }
}

/// The links of a group.
#[derive(Debug)]
pub struct Attached {
    /// None for messages to the device, which go one way.
    pub sender: Option<Bounded<Sender>>,
    pub receiver: Bounded<Receiver>,
    since: Instant,
    /// It took longer than usual.
    late: bool,
}

/// A group that is attached, or will be.
#[derive(Debug)]
pub struct Group {
    pub kind: Kind,
    pub attached: Option<Attached>,
    again_at: Option<Instant>,
    backoff: Backoff,
    /// An attach was begun, and nothing is known of how it ended.
    asked: bool,
    /// The last attach took longer than usual, or still does.
    slow: bool,
    /// Told of it, over many connections.
    pub outage: Outage,
}

impl Group {
    pub fn new(kind: Kind, seed: u64) -> Self {
        let (backoff, outage) = (Backoff::new(seed), Outage::default());
        Self { kind, attached: None, again_at: None, backoff, asked: false, slow: false, outage }
    }

    /// When it has to be attached; none while it is.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.attached.is_none().then(|| self.again_at.unwrap_or(now))
    }

    /// Its attach has begun.
    pub fn asked(&mut self) {
        self.asked = true;
    }

    /// It is attached, or is not. An error is one that only another connection mends; others are waited out.
    pub fn attached(&mut self, attached: Result<Box<Attached>, CloudError>) -> Result<(), CloudError> {
        self.asked = false;
        match attached {
            Ok(attached) => {
                tracing::debug!(links = self.kind.name(), "attached");
                self.slow = attached.late;
                self.attached = Some(*attached);
                Ok(())
            }
            Err(error) => {
                let broken = matches!(error.cause, Cause::IllegalState);
                self.lost(&error);
                if broken { Err(error) } else { Ok(()) }
            }
        }
    }

    /// It takes longer than usual, and is waited for. On a slow uplink that is so on each connection: told once.
    pub fn slow(&mut self, error: &CloudError) {
        let told = std::mem::replace(&mut self.slow, true) || self.backoff.failures() > 0;
        let name = self.kind.name();
        if told {
            tracing::debug!(%error, links = name, "still later than usual");
        } else {
            tracing::warn!(%error, links = name, "telemetry goes on, these links may come later");
        }
    }

    /// Its links are gone.
    pub fn lost(&mut self, error: &CloudError) {
        if let Some(attached) = self.attached.take() {
            self.backoff.after_connection(attached.since.elapsed());
        }
        let range = if is_lasting(error) { AGAIN } else { error.class().range() };
        let wait = self.backoff.after_failure(range);
        let wait = error.retry_after().unwrap_or(wait);
        self.again_at = Some(Instant::now() + wait);
        let name = self.kind.name();
        // What a hub has not got is told once; what comes and goes, not before an hour has passed.
        if self.outage.first_this_hour(error) && (self.backoff.failures() == 1 || !is_lasting(error)) {
            tracing::warn!(%error, links = name, again_in = ?wait, "telemetry goes on without these links");
        } else {
            tracing::debug!(%error, links = name, again_in = ?wait, "still without these links");
        }
    }

    /// Another group's attach has failed, perhaps with the connection, which is told in a moment: this one does not fail
    /// for it as well. Where the hub has detached a link that it had just attached, the library detaches it twice, and
    /// the second time would hit the one that comes to its place at once.
    pub fn rest(&mut self) {
        self.again_at = self.again_at.max(Some(Instant::now() + MOMENT));
    }

    /// The connection has ended with everything on it; the waiting after a failure goes on.
    pub fn disconnected(&mut self) {
        if let Some(attached) = self.attached.take() {
            self.backoff.after_connection(attached.since.elapsed());
        }
        if self.backoff.failures() == 0 {
            self.again_at = None;
        }
    }
}

/// The group that is attached next, if one is due. One at a time can be, and takes minutes where the hub says nothing
/// about it: first come those that were answered, on the connections before too.
pub fn next<'a>(groups: impl IntoIterator<Item = &'a Group>, now: Instant) -> Option<Kind> {
    let due = groups.into_iter().filter(|group| group.due(now).is_some_and(|due| due <= now));
    due.min_by_key(|group| (group.asked || group.slow, group.backoff.failures())).map(|group| group.kind)
}

/// Attaches the links of a group.
pub async fn attach(kind: Kind, links: &mut Links, device_id: &str) -> Result<Attached, CloudError> {
    let address = kind.address(device_id);
    let doing = kind.doing();
    let begun = Instant::now();
    // The hub pairs the two links of a group by this word.
    let word = format!("{}:{}", kind.name(), Uuid::new_v4());
    let options = |for_sender: bool| {
        let mut options =
            LinkOptions { largest: Some(wire::LARGEST), patient: true, ..LinkOptions::default() };
        if kind == Kind::Twin || (kind == Kind::Methods && for_sender) {
            options.sender_settle_mode = SenderSettleMode::Settled;
            options.receiver_settle_mode = ReceiverSettleMode::First;
        }
        if kind != Kind::Messages {
            options.properties.push(("com.microsoft:api-version", API_VERSION.into()));
            options.properties.push(("com.microsoft:channel-correlation-id", word.clone().into()));
        }
        if for_sender {
            options.properties.push((super::MODEL_PROPERTY, super::MODEL_ID.into()));
        }
        options
    };
    let sender = match kind {
        Kind::Messages => None,
        Kind::Twin | Kind::Methods => Some(links.attach_sender(doing, &address, options(true)).await?),
    };
    let receiver = links.attach_receiver(doing, &address, options(false)).await?;
    Ok(Attached { sender, receiver, since: Instant::now(), late: begun.elapsed() >= links.usual() })
}

/// Whether it will go on so.
fn is_lasting(error: &CloudError) -> bool {
    match &error.cause {
        Cause::TooSlow(_) => true,
        Cause::Refused(refusal) => {
            let lacks = ["amqp:not-allowed", "amqp:not-found", "amqp:not-implemented"];
            refusal.class() == Class::SetAside || lacks.contains(&refusal.condition.as_str())
        }
        _ => false,
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

    pub fn doing(self) -> &'static str {
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

#[cfg(test)]
mod tests;
