//! What follows when the hub does not take a transfer: it is sent again, taken apart, or its one reading is set aside.
//! Knows the window and the suspicion; sends nothing.

use fe2o3_amqp_types::messaging::Outcome;

use super::flight::Settled;
use super::{Drain, End};
use crate::cloud::deadline;
use crate::cloud::error::{Cause, Class, CloudError, Refusal};
use crate::cloud::poison::Verdict;
use crate::cloud::window::{Cargo, Window};

/// What is to be done before all is read anew from the watermark.
#[derive(Debug, Default)]
pub(super) struct Rewind {
    aside: Option<(Cargo, CloudError, String)>,
}

impl Drain<'_> {
    /// Quota and throttling are no fault of the readings; anything else may be.
    pub(super) fn rejected(&mut self, number: u64, refusal: Refusal) {
        let before = self.window.end_before(number);
        let Some(transfer) = self.window.fail(number) else { return };
        let condition = refusal.condition.clone();
        let poison = refusal.class() == Class::SetAside;
        let error = CloudError::new("have readings accepted", Cause::Refused(refusal));
        let verdict = match (&transfer.cargo, poison) {
            (_, false) => Verdict::Stop,
            (Cargo::Readings { end, .. }, true) => {
                self.shared.groups.forget(before, *end);
                self.shared.suspicion.rejected(transfer.items, &condition, *end)
            }
            (Cargo::Events { .. }, true) => self.shared.event_suspicion.rejected(transfer.items),
        };
        self.stands_in_front();
        let rewind = self.rewind.get_or_insert_default();
        match verdict {
            Verdict::Stop => _ = self.halt.get_or_insert(End::HeldUp(error)),
            Verdict::Split => {}
            Verdict::SetAside => rewind.aside = Some((transfer.cargo, error, condition)),
        }
    }

    /// A transfer failed that was still in the window: one that was to be set aside is behind it, and will be rejected
    /// once more when its turn comes.
    pub(super) fn stands_in_front(&mut self) {
        if let Some(rewind) = &mut self.rewind {
            rewind.aside = None;
        }
    }

    /// The link is gone. A hub that detaches it for what is in a transfer means the one on its way, which is taken apart
    /// like one that was rejected, or it would break the link for ever. Where several are, it does not say which: the
    /// next ones go one by one.
    pub(super) async fn taken_along(&mut self, error: CloudError) -> CloudError {
        // What the hub had accepted before may have come in the same moment.
        let waited = self.flight.waited();
        while let Some(settled) = self.flight.next_now() {
            if let Ok(accepted @ Settled { outcome: Outcome::Accepted(_), .. }) = settled {
                self.settle(accepted);
            }
        }
        let CloudError { cause: Cause::Refused(refusal), .. } = &error else {
            // A transfer that could not leave in time would not do so on the next connection either.
            if waited >= self.shared.limits.write
                && let Some(items) = self.window.oldest().and_then(|oldest| self.window.items(oldest))
            {
                self.shared.uplink.too_slow(items);
            }
            return error;
        };
        let Some(oldest) = self.window.oldest().filter(|_| refusal.class() == Class::SetAside) else {
            return error;
        };
        if self.window.len() > 1 {
            self.shared.suspicion.one_by_one();
            return error;
        }
        self.rejected(oldest, refusal.clone());
        if let Some(rewind) = self.rewind.take()
            && let Err(error) = self.go_back(rewind).await
        {
            let what = "what the hub detached the link for could not be set aside yet";
            self.shared.not_aside.tell(&error, None, what);
        }
        error
    }

    /// Nothing is in flight: sets aside what is never taken, and starts again from the watermark.
    pub(super) async fn go_back(&mut self, rewind: Rewind) -> Result<(), CloudError> {
        self.acknowledge_all().await?;
        let (store, limit) = (self.shared.store.clone(), self.shared.limits.turn);
        match rewind.aside {
            None => {}
            Some((Cargo::Readings { end, last_sequence, single }, error, condition)) => {
                let work = store.dead_letter(single, condition);
                deadline::on_disk("set a reading aside", limit, work).await?;
                // Not before: while the store does not do it, the hub is asked again and again.
                tracing::error!(sequence = last_sequence, %error, "the hub never takes this reading: set aside");
                deadline::on_disk("move the watermark", limit, store.acknowledge(end)).await?;
            }
            Some((Cargo::Events { upto }, error, _)) => {
                deadline::on_disk("drop an event", limit, store.acknowledge_events(upto)).await?;
                tracing::error!(event = upto, %error, "the hub never takes this event: dropped");
            }
        }
        self.window = Window::default();
        self.feed.begin_again();
        Ok(())
    }
}
