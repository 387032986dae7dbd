//! What outlives a connection: the gate that guards it, and what its loops share. Knows no AMQP.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};

use super::acknowledge::Acknowledging;
use super::deadline::Limits;
use super::groups::Groups;
use super::outage::Outage;
use super::pace::Pace;
use super::poison::{EventSuspicion, Suspicion};
use super::report::Reporter;
use super::uplink::Uplink;
use crate::backoff::Backoff;
use crate::clock::Timekeeper;
use crate::settings::Settings;
use crate::store::StoreHandle;

/// One permit for the connection: a window of transfers holds it from the first frame to the last disposition; a
/// token refresh or a reconnect takes the same one, so no token is changed under a transfer. Fair: who asks first
/// gets it first.
#[derive(Debug)]
pub struct Gate {
    permit: Semaphore,
    wanted: AtomicBool,
}

impl Gate {
    pub fn new() -> Self {
        Self { permit: Semaphore::new(1), wanted: AtomicBool::new(false) }
    }

    /// Waits for the permit. It is held for a window or for one request, so the wait ends: the clock of each outcome
    /// begins when none is in front of it, and a window that is asked to end has a few left, or one where a transfer
    /// takes long.
    pub async fn acquire(&self) -> SemaphorePermit<'_> {
        self.permit.acquire().await.expect("the semaphore is never closed")
    }

    /// The same, and asks the transfers to come to an end of their window.
    pub async fn claim(&self) -> SemaphorePermit<'_> {
        let _asking = Asking::new(&self.wanted);
        self.acquire().await
    }

    /// Whether somebody waits for the window to end.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

/// Set while somebody asks, however the asking ends.
struct Asking<'a>(&'a AtomicBool);

impl<'a> Asking<'a> {
    fn new(wanted: &'a AtomicBool) -> Self {
        wanted.store(true, Ordering::Relaxed);
        Self(wanted)
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// What the sending loop needs on every connection anew.
pub struct Shared {
    pub store: StoreHandle,
    /// Changes when there may be something new to send.
    pub store_news: watch::Receiver<u64>,
    pub settings: watch::Receiver<Settings>,
    pub limits: Limits,
    pub timekeeper: Timekeeper,
    pub report: Reporter,
    pub outage: Outage,
    pub suspicion: Suspicion,
    pub event_suspicion: EventSuspicion,
    /// What could not be set aside yet, over many connections.
    pub not_aside: Outage,
    pub uplink: Uplink,
    pub groups: Groups,
    /// What the process before this one had noted of them is among them.
    pub remembered: bool,
    /// Readings in one message when the last one was sent.
    pub grouped_by: usize,
    /// What the hub has accepted and the store does not know yet.
    pub acknowledging: Acknowledging,
    pub pace: Pace,
    /// Readings in one transfer at most.
    pub batch: usize,
    /// Encoded bytes in one transfer at most.
    pub most_bytes: usize,
    /// Pauses in a row without anything accepted.
    pub pauses: Backoff,
    /// Somebody wants a message that is not full to go out.
    pub flush: Arc<Notify>,
    pub stop: watch::Receiver<bool>,
    pub turns: Arc<AtomicU64>,
}

impl Shared {
    /// Tells the watchdog that the loop turns.
    pub fn beat(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    /// Readings in one transfer when all is well: a message of several readings always fits.
    pub fn usual(&self) -> usize {
        self.batch.max(self.settings.borrow().readings_per_message).max(1)
    }

    /// What the process before this one had noted of which readings go together, where it was read.
    pub fn remember(&mut self, noted: Option<String>) {
        if let Some(noted) = noted {
            self.groups.remember(&noted);
            self.remembered = true;
        }
    }

    pub fn is_stopping(&self) -> bool {
        // Nobody left who could stop us: that is a stop too.
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }
}

/// Returns when the station stops.
pub async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _gone = stop.wait_for(|stop| *stop).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_asks_the_window_to_end_and_stops_asking_when_it_is_given_up() {
        let gate = Gate::new();
        let window = gate.acquire().await;
        {
            let claim = gate.claim();
            tokio::pin!(claim);
            assert!(futures_util::poll!(&mut claim).is_pending());
            assert!(gate.is_wanted());
        }
        assert!(!gate.is_wanted());
        drop(window);
        let _held = gate.claim().await;
        assert!(!gate.is_wanted());
    }
}
