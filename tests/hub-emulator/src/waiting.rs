//! Waiting, with a deadline, for what a hub has seen; and what to say when it did not come. Knows record and events.

use std::time::Duration;

use crate::emulator::Emulator;
use crate::events::Event;

/// What was waited for did not come in time.
#[derive(Debug, thiserror::Error)]
#[error("{have} of {wanted} after {waited:?}; the newest events: {events}")]
pub struct WaitError {
    pub have: u64,
    pub wanted: u64,
    pub waited: Duration,
    pub events: String,
}

impl Emulator {
    /// Waits until at least `count` messages were taken.
    pub async fn wait_for(&self, count: u64, deadline: Duration) -> Result<(), WaitError> {
        let mut total = self.core.hub.record.total();
        let enough = total.wait_for(|total| *total >= count);
        let reached = tokio::time::timeout(deadline, enough).await.is_ok();
        if reached { Ok(()) } else { Err(self.late(self.count(), count, deadline)) }
    }

    /// Waits until at least `count` events match.
    pub async fn wait_for_events(
        &self,
        count: usize,
        deadline: Duration,
        matches: impl Fn(&Event) -> bool,
    ) -> Result<Vec<Event>, WaitError> {
        let mut changes = self.core.hub.events.changes();
        let matching = || {
            let mut events = self.core.hub.events.since(0);
            events.retain(&matches);
            events
        };
        let search = async {
            loop {
                changes.mark_unchanged();
                let events = matching();
                if events.len() >= count || changes.changed().await.is_err() {
                    return events;
                }
            }
        };
        let found = tokio::time::timeout(deadline, search).await;
        found.map_err(|_| self.late(matching().len() as u64, count as u64, deadline))
    }

    pub(crate) fn late(&self, have: u64, wanted: u64, waited: Duration) -> WaitError {
        let events = self.events();
        let newest =
            events.iter().rev().take(12).rev().map(|event| {
                format!("\n  {} {} {:?} {}", event.millis, event.kind, event.device, event.detail)
            });
        WaitError { have, wanted, waited, events: newest.collect() }
    }
}
