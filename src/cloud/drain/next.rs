//! What goes next: whether another transfer may go, whether there is anything to go, what is in it, and when that may
//! change. Knows the feed and what was learnt of hub and uplink; sends nothing.

use tokio::time::Instant;

use super::Drain;
use crate::cloud::batch::{self, Bounds, MOST_BYTES, Packed};
use crate::cloud::feed::EVENTS;

/// Transfers in flight at most: together with [`MOST_BYTES`] this bounds what a dead peer can hold in memory.
const MOST_IN_FLIGHT: usize = 4;

/// Encoded bytes in flight at most.
const MOST_BYTES_IN_FLIGHT: usize = 4 * MOST_BYTES;

impl Drain<'_> {
    pub(super) fn wake(&self) -> Instant {
        let now = Instant::now();
        let linger = self.feed.linger(&self.shared.settings.borrow()).filter(|until| *until > now);
        let due = [self.shared.pace.wait(), linger, self.shared.report.due()].into_iter().flatten().min();
        self.shared.timekeeper.end_of_turn(self.shared.limits.turn, due)
    }

    /// Asks the store for more when little is left.
    pub(super) fn fetch(&mut self) {
        if self.halt.is_some() || self.rewind.is_some() || !self.feed.is_low() {
            return;
        }
        self.shared.store_news.mark_unchanged();
        let shared = &self.shared;
        let events = !self.window.carries_events() && !shared.acknowledging.tells_of_events();
        let noted = !shared.remembered;
        self.feed.fetch(&shared.store, shared.limits.turn, shared.usual(), events, noted);
    }

    pub(super) fn may_send(&self) -> bool {
        let renewal = self.gate.is_wanted() && !self.flight.is_empty();
        let one_by_one = self.shared.suspicion.is_careful() || self.shared.uplink.is_slow();
        let room = if one_by_one {
            self.flight.is_empty()
        } else {
            self.flight.len() < MOST_IN_FLIGHT && self.window.bytes() + MOST_BYTES <= MOST_BYTES_IN_FLIGHT
        };
        self.halt.is_none() && self.rewind.is_none() && !renewal && room && self.shared.pace.wait().is_none()
    }

    pub(super) fn has_work(&self) -> bool {
        self.reading_is_due()
            || (!self.feed.events.is_empty() && !self.shared.event_suspicion.waits_for_readings())
    }

    /// What went together before has waited already.
    fn reading_is_due(&self) -> bool {
        let together = self.feed.queue.front().and_then(|(first, _)| self.shared.groups.length(*first));
        together.is_some_and(|length| length <= self.feed.queue.len())
            || self.feed.message_is_due(&self.shared.settings.borrow())
    }

    pub(super) fn pack(&mut self) -> Option<Packed> {
        if !self.may_send() || self.permit.is_none() {
            return None;
        }
        let due = self.reading_is_due();
        let shared = &mut *self.shared;
        if !self.feed.events.is_empty() && !shared.event_suspicion.waits_for_readings() {
            let most = shared.event_suspicion.limit(EVENTS).min(shared.uplink.limit(EVENTS));
            let most = most.min(shared.pace.most());
            let packed = batch::pack_events(&self.feed.events, &mut self.encoder, most, shared.most_bytes);
            self.feed.events.clear();
            return packed;
        }
        let settings = shared.settings.borrow().clone();
        if !due {
            return None;
        }
        self.encoder.set_altitude(settings.altitude);
        let usual = shared.usual();
        // A slow uplink cuts no message: it would cost its group, and each message is metered.
        let items = shared.uplink.limit(usual).max(settings.readings_per_message);
        let items = shared.suspicion.limit(usual).min(items);
        let overdue = self.feed.queue.len() < settings.readings_per_message;
        let overdue = overdue && self.feed.message_is_due(&settings);
        let bounds = Bounds {
            messages: shared.batch.min(shared.pace.most()),
            items,
            bytes: shared.most_bytes,
            per_message: settings.readings_per_message,
            flush: overdue || shared.suspicion.is_careful(),
        };
        let packed = batch::pack(&mut self.feed.queue, &mut self.encoder, bounds, &mut shared.groups);
        self.feed.packed(overdue);
        packed
    }
}
