//! What the disk is asked beside the conversation: one write of the twin's values and one message at a time, held
//! here while the loop goes on, so that no caller of a method waits for a slow card. Knows no AMQP but the name of a
//! delivery.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fe2o3_amqp::link::delivery::DeliveryInfo;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::inbox::{Inbox, Verdict};
use super::twin::{Desired, Written};
use super::wire::ToDevice;
use crate::clock::Timekeeper;

/// After what the disk did not do, before it is asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// After what failed again and again: each attempt at a write costs a failing card.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module. What is on its way when the connection ends is asked again on the next one.
#[derive(Default)]
pub struct Disk {
    keeping: Option<BoxFuture<'static, Written>>,
    inbox: Option<BoxFuture<'static, Option<Judged>>>,
    /// Before the next attempt at a message that cannot be kept.
    message_pause: Option<Duration>,
    keep_at: Option<Instant>,
    /// Before the next attempt at a write that fails.
    pause: Option<Duration>,
    load_at: Option<Instant>,
}

/// A message that came, and was not settled yet.
pub struct Arrived {
    pub delivery: DeliveryInfo,
    message: ToDevice,
    at: DateTime<Utc>,
}

/// A message that was taken in, or not.
pub struct Judged {
    pub arrived: Arrived,
    pub verdict: Verdict,
}

impl Disk {
    /// Begins what is due: what was kept by the last run is shown, what the twin asks for is written.
    pub fn start(&mut self, desired: &mut Desired, inbox: &Inbox) {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_none_or(|at| at <= now);
        if self.keeping.is_none() && due(self.keep_at) {
            self.keeping = desired.next_write();
        }
        if self.inbox.is_none() && !inbox.is_loaded() && due(self.load_at) {
            self.load_at = Some(now + PAUSE);
            let inbox = inbox.clone();
            self.inbox = Some(Box::pin(async move {
                inbox.load().await;
                None
            }));
        }
    }

    /// Whether the twin's values are on their way: soon there is a better answer than that they are not kept.
    pub fn is_keeping(&self) -> bool {
        self.keeping.is_some()
    }

    /// Whether the inbox is being read or written: a message would have to wait.
    pub fn inbox_is_busy(&self) -> bool {
        self.inbox.is_some()
    }

    /// Takes a message in; [`Disk::done`] says what became of it.
    pub fn take(
        &mut self,
        inbox: &Inbox,
        delivery: DeliveryInfo,
        message: ToDevice,
        timekeeper: &Timekeeper,
    ) {
        self.message_pause = None;
        self.judge(inbox, Arrived { delivery, message, at: timekeeper.now() }, Duration::ZERO);
    }

    /// The same once more with one that could not be kept, after a while. Until then the others wait on their link: to
    /// give that up would cost the whole session, for what the hub sends meanwhile would find no link.
    pub fn take_again(&mut self, inbox: &Inbox, arrived: Arrived) -> Duration {
        let pause = longer(self.message_pause);
        self.message_pause = Some(pause);
        self.judge(inbox, arrived, pause);
        pause
    }

    fn judge(&mut self, inbox: &Inbox, arrived: Arrived, after: Duration) {
        let inbox = inbox.clone();
        self.inbox = Some(Box::pin(async move {
            tokio::time::sleep(after).await;
            let verdict = inbox.take(&arrived.message, arrived.at).await;
            Some(Judged { arrived, verdict })
        }));
    }

    /// A delivery of links that are gone cannot be settled: the hub sends it again.
    pub fn forget_message(&mut self) {
        self.inbox = None;
    }

    /// The next thing that the disk has done. May be given up without losing anything.
    pub async fn done(&mut self) -> Done {
        tokio::select! {
            written = held(&mut self.keeping) => {
                self.pause = written.is_err().then(|| longer(self.pause));
                self.keep_at = self.pause.map(|pause| Instant::now() + pause);
                Done::Kept(written)
            }
            judged = held(&mut self.inbox) => Done::Message(judged),
        }
    }
}

/// What the disk has done.
pub enum Done {
    /// The values that are on it, or why that is not known.
    Kept(Written),
    /// None where only what was kept before was read.
    Message(Option<Judged>),
}

/// The pause after the one before.
fn longer(pause: Option<Duration>) -> Duration {
    pause.map_or(PAUSE, |pause| LONGEST.min(pause * 2))
}

async fn held<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(running) = work else { return std::future::pending().await };
    let done = running.await;
    *work = None;
    done
}
