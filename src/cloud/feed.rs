//! What the store has given and has not been sent: readings in order, and events. Asks for more before it runs out.
//! Knows the store; knows no link.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::deadline;
use super::drain::PARTIAL;
use super::error::CloudError;
use crate::reading::Reading;
use crate::settings::Settings;
use crate::store::{Event, Page, Position, StoreHandle};

/// Readings fetched at once at most, and about as many are held.
const PAGE: usize = 1000;

/// Events sent at once at most.
pub const EVENTS: usize = 50;

/// Events, readings, and what was noted of which readings go together, where that was asked.
type Fetched = Result<(Vec<Event>, Page, Option<String>), CloudError>;

/// See the module.
#[derive(Default)]
pub struct Feed {
    pub queue: VecDeque<(Position, Reading)>,
    pub events: Vec<Event>,
    pub fetching: Option<BoxFuture<'static, Fetched>>,
    /// The store had no more than what was fetched: nothing to ask until it has news.
    pub exhausted: bool,
    cursor: Option<Position>,
    /// Since when a message of several readings waits to be full.
    waiting_since: Option<Instant>,
    flush: bool,
    /// What was asked for last was asked for after somebody wanted all of it sent.
    fetching_to_flush: bool,
}

impl Feed {
    /// From the watermark on once more; who wanted all of it sent still does.
    pub fn begin_again(&mut self) {
        *self = Self { flush: self.flush, ..Self::default() };
    }

    /// Whether to ask the store now.
    pub fn is_low(&self) -> bool {
        self.fetching.is_none() && !self.exhausted && self.queue.len() < PAGE
    }

    /// Asks for the next page, for events if none are on their way, and for what the process before this one has noted:
    /// without it no reading is taken. A store that does not work, or is being salvaged, hands none out either.
    pub fn fetch(&mut self, store: &StoreHandle, within: Duration, usual: usize, events: bool, noted: bool) {
        self.fetching_to_flush = self.flush;
        let (store, after, limit) = (store.clone(), self.cursor, PAGE.min(usual));
        let events = events && self.events.is_empty();
        self.fetching = Some(Box::pin(async move {
            // Asked together, answered in one go.
            let events = async { if events { store.pending_events(EVENTS).await } else { Ok(Vec::new()) } };
            let noted = async { Ok(if noted { Some(store.value(PARTIAL).await) } else { None }) };
            let all = async {
                let (events, noted, page) = tokio::try_join!(events, noted, store.pending(after, limit))?;
                let noted = match noted {
                    Some(Err(error)) if !page.readings.is_empty() => return Err(error),
                    Some(Ok(text)) => Some(text.unwrap_or_default()),
                    Some(Err(_)) | None => None,
                };
                Ok((events, page, noted))
            };
            deadline::on_disk("read what is pending", within, all).await
        }));
    }

    /// Takes what came. Events that were asked for before some went out, and came after, are on their way already.
    pub fn take(&mut self, (events, page): (Vec<Event>, Page), events_on_their_way: bool) {
        if !events_on_their_way && !events.is_empty() {
            self.events = events;
        }
        // A page may be empty because all that was on it is set aside.
        // Who wanted all of it sent may have come after this was asked for.
        self.exhausted = !page.more && (self.fetching_to_flush || !self.flush);
        self.cursor = Some(page.end);
        if !page.readings.is_empty() {
            self.queue.extend(page.readings);
            self.waiting_since = self.waiting_since.or_else(|| Some(Instant::now()));
        }
        self.end_flush();
    }

    /// Whether the next message is full, or has waited long enough.
    pub fn message_is_due(&self, settings: &Settings) -> bool {
        let full = self.queue.len() >= settings.readings_per_message;
        let late = || self.linger(settings).is_some_and(|until| until <= Instant::now());
        !self.queue.is_empty() && (full || self.flush || late())
    }

    /// When a message that is not full goes out all the same: after as many intervals as it takes readings.
    pub fn linger(&self, settings: &Settings) -> Option<Instant> {
        let intervals = u32::try_from(settings.readings_per_message).unwrap_or(u32::MAX);
        self.waiting_since.map(|since| since + settings.sample_interval.saturating_mul(intervals))
    }

    /// Something was taken off the queue: what is left begins to wait now. What was `overdue` with it has waited, and
    /// goes next.
    pub fn packed(&mut self, overdue: bool) {
        let since = self.waiting_since.filter(|_| overdue).unwrap_or_else(Instant::now);
        self.waiting_since = (!self.queue.is_empty()).then_some(since);
        self.end_flush();
    }

    /// All that there was is on its way.
    fn end_flush(&mut self) {
        self.flush &= !(self.queue.is_empty() && self.exhausted);
    }

    /// Somebody wants all of it sent, and not all of it is on its way.
    pub fn wants_flush(&self) -> bool {
        self.flush
    }

    /// Somebody wants all of it sent.
    pub fn flush(&mut self) {
        self.flush = true;
        self.exhausted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::batch::tests::reading;
    use super::*;
    use crate::store::Page;

    /// What the store gives, where only its number counts.
    fn page(more: bool) -> (Vec<Event>, Page) {
        (Vec::new(), Page { readings: Vec::new(), end: Position::default(), more })
    }

    #[test]
    fn who_wants_all_of_it_sent_wants_the_next_page_too() {
        let mut feed = Feed::default();
        feed.flush();
        feed.fetching_to_flush = true;
        feed.take(page(true), false);
        feed.packed(false);
        assert!(feed.wants_flush() && !feed.exhausted);
        feed.take(page(false), false);
        assert!(!feed.wants_flush() && feed.exhausted);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_overdue_and_did_not_go_has_waited_and_what_is_left_of_a_full_message_has_not() {
        let settings = Settings::from_file(&crate::config::Config::default());
        for (overdue, waited) in [(true, true), (false, false)] {
            let mut feed = Feed { waiting_since: Some(Instant::now()), ..Feed::default() };
            feed.queue.push_back((Position::default(), reading(1)));
            tokio::time::advance(settings.sample_interval).await;
            feed.packed(overdue);
            assert_eq!(feed.linger(&settings) <= Some(Instant::now()), waited);
            feed.queue.clear();
            feed.packed(overdue);
            assert_eq!(feed.linger(&settings), None);
        }
    }

    #[test]
    fn a_page_that_was_asked_for_before_is_not_all_of_it() {
        let mut feed = Feed { fetching_to_flush: false, ..Feed::default() };
        feed.flush();
        feed.take(page(false), false);
        assert!(feed.wants_flush() && !feed.exhausted, "the store is asked once more");
    }
}
