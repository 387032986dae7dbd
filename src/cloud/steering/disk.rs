//! What the disk is asked beside the conversation: one write of the twin's values and one message at a time, held
//! here while the loop goes on, so that no caller of a method waits for a slow card. Knows no AMQP but the name of a
//! delivery.

use std::time::Duration;

use fe2o3_amqp::link::delivery::DeliveryInfo;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::inbox::{Inbox, Verdict};
use super::twin::{Desired, Written};
use super::wire::ToDevice;
use crate::clock::Timekeeper;

/// After what the disk did not do, before it is asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// After a write that failed again and again: each costs a failing card an attempt.
const LONGEST: Duration = Duration::from_secs(60);

/// See the module. What is on its way when the connection ends is asked again on the next one.
#[derive(Default)]
pub struct Disk {
    keeping: Option<BoxFuture<'static, Written>>,
    inbox: Option<BoxFuture<'static, Option<Judged>>>,
    keep_at: Option<Instant>,
    /// Before the next attempt at a write that fails.
    pause: Option<Duration>,
    load_at: Option<Instant>,
}

/// A message that was taken in, or not.
pub struct Judged {
    pub delivery: DeliveryInfo,
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
        let (inbox, now) = (inbox.clone(), timekeeper.now());
        self.inbox = Some(Box::pin(async move {
            let verdict = inbox.take(&message, now).await;
            Some(Judged { delivery, verdict })
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
                let pause = self.pause.map_or(PAUSE, |pause| LONGEST.min(pause * 2));
                self.pause = written.is_err().then_some(pause);
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

async fn held<T>(work: &mut Option<BoxFuture<'static, T>>) -> T {
    let Some(running) = work else { return std::future::pending().await };
    let done = running.await;
    *work = None;
    done
}
