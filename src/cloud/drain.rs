//! Sends what is pending, oldest first, and moves the watermark over what the hub has accepted. One loop owns the
//! telemetry link; it never waits for a delivery alone, because the library's delivery futures hang for ever when
//! the connection dies under them. Knows store and link; knows no token and no socket.

mod flight;
mod next;
mod refused;

use std::time::Duration;

use fe2o3_amqp::{Sendable, Sender};
use fe2o3_amqp_types::messaging::{Message, Outcome};
use futures_util::future::BoxFuture;
use tokio::sync::SemaphorePermit;

use self::flight::{Flight, Settled};
use self::refused::Rewind;
use super::batch::{MOST_BYTES, Packed};
use super::deadline::{self, Bounded};
use super::encode::Encoder;
use super::error::{Cause, CloudError, Refusal};
use super::feed::Feed;
use super::poison::EventSuspicion;
use super::shared::{Gate, Shared, stopped};
use super::window::Window;

/// A transfer that holds several encoded messages (`message-format` of IoT Hub and Event Hubs).
const BATCH_FORMAT: u32 = 0x8001_3700;

/// The store's name for the messages on their way that are not of the usual size.
pub const PARTIAL: &str = "cloud.partial-message";

/// Why the loop has ended.
#[derive(Debug)]
pub enum End {
    /// The station is ending, and nothing is in flight.
    Stopped,
    /// The hub took nothing of a transfer, or the store is in trouble, although the link is up: pause, then go on with
    /// the same link.
    HeldUp(CloudError),
    /// The link, or more, is gone.
    Broken(CloudError),
}

/// One run of the loop over one link.
pub struct Drain<'a> {
    shared: &'a mut Shared,
    encoder: Encoder,
    permit: Option<SemaphorePermit<'a>>,
    gate: &'a Gate,
    feed: Feed,
    window: Window,
    flight: Flight,
    /// After a rejection nothing new goes out until what is in flight is settled; then all is read anew from the
    /// watermark, and what is never taken is set aside.
    rewind: Option<Rewind>,
    /// Set once: nothing new goes out, what is in flight is waited for.
    halt: Option<End>,
}

impl<'a> Drain<'a> {
    pub fn new(shared: &'a mut Shared, gate: &'a Gate, device_id: &str) -> Self {
        let altitude = shared.settings.borrow().altitude;
        Self {
            encoder: Encoder::new(device_id, altitude),
            permit: None,
            gate,
            feed: Feed::default(),
            window: Window::default(),
            flight: Flight::default(),
            rewind: None,
            halt: None,
            shared,
        }
    }

    /// Runs until the station stops, the hub takes nothing, or the link is gone.
    pub async fn run(mut self, sender: &mut Bounded<Sender>) -> End {
        let end = match self.turns(sender).await {
            Ok(end) => end,
            Err(error) => End::Broken(self.taken_along(error).await),
        };
        self.shared.report.tell();
        if self.feed.wants_flush() {
            // The next link's business.
            self.shared.flush.notify_one();
        }
        // What the hub has accepted is acknowledged even when the link is gone: it saves duplicates.
        match (self.acknowledge_all().await, end) {
            (Err(error), End::Stopped) => End::Broken(error),
            (_, end) => end,
        }
    }

    async fn turns(&mut self, sender: &mut Bounded<Sender>) -> Result<End, CloudError> {
        // What could not be acknowledged on the connection before would be sent again.
        if let Err(error) = self.acknowledge_all().await {
            return Ok(End::HeldUp(error));
        }
        loop {
            self.shared.beat();
            if self.flight.is_empty() {
                if self.gate.is_wanted() || !(self.may_send() && self.has_work()) {
                    self.permit = None;
                }
                if let Some(rewind) = self.rewind.take()
                    && let Err(error) = self.go_back(rewind).await
                {
                    return Ok(End::HeldUp(error));
                }
                if let Some(end) = self.halt.take() {
                    return Ok(end);
                }
            }
            self.fetch();
            self.acknowledge();
            if self.may_send() && self.permit.is_none() && self.has_work() {
                self.await_permit(sender).await?;
                continue;
            }
            if let Some(packed) = self.pack() {
                self.send(sender, packed).await?;
                continue;
            }
            tokio::select! {
                biased;
                stands = stands(sender, self.shared.limits.turn) => stands?,
                turned = self.turn() => turned?,
            }
        }
    }

    /// One permit guards the connection: a token is renewed between two windows, never under one.
    async fn await_permit(&mut self, sender: &mut Bounded<Sender>) -> Result<(), CloudError> {
        let gate = self.gate;
        tokio::select! {
            biased;
            permit = gate.acquire() => self.permit = Some(permit),
            stands = stands(sender, self.shared.limits.turn) => stands?,
        }
        Ok(())
    }

    async fn send(&mut self, sender: &mut Bounded<Sender>, packed: Packed) -> Result<(), CloudError> {
        let Packed { transfer, parts, partial } = packed;
        let per_message = self.shared.settings.borrow().readings_per_message;
        // Groups of another size are made anew by nobody: after a crash this note has to tell of them.
        let resized = std::mem::replace(&mut self.shared.grouped_by, per_message) != per_message;
        if partial || resized {
            let kept = self.shared.store.set_value(PARTIAL, self.shared.groups.unusual(per_message));
            let noted = deadline::on_disk("note which readings go together", self.shared.limits.turn, kept);
            if let Err(error) = noted.await {
                // They are read anew from the watermark.
                self.halt.get_or_insert(End::HeldUp(error));
                return Ok(());
            }
        }
        let message = Message::builder().data_batch(parts).build();
        let sendable = Sendable::builder().message(message).message_format(BATCH_FORMAT).build();
        let limits = self.shared.limits.clone();
        let handing_over =
            sender.within("send readings", limits.send, async |sender| sender.send_batchable(sendable).await);
        tokio::pin!(handing_over);
        self.shared.pace.sent(transfer.messages);
        // In its place before it is on the wire: when one in front of it comes back meanwhile, it goes back with it.
        let number = self.window.push(transfer);
        // Never dropped half-way: part of a transfer could be on the wire.
        let delivery = loop {
            tokio::select! {
                biased;
                delivery = &mut handing_over => break delivery,
                turned = self.turn() => turned?,
            }
        };
        match delivery {
            Ok(delivery) => self.flight.push(number, delivery),
            Err(CloudError { cause: Cause::TooLarge { size, limit }, .. }) => {
                // The link takes less than IoT Hub does: smaller transfers from now on, this one first.
                self.shared.most_bytes =
                    usize::try_from(limit).unwrap_or(MOST_BYTES).min(self.shared.most_bytes);
                self.rejected(number, Refusal::too_large(size, limit));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Waits for the next thing that happens beside the link, at most a turn long.
    async fn turn(&mut self) -> Result<(), CloudError> {
        let wake = self.wake();
        let shared = &mut *self.shared;
        let tells_of_events = shared.acknowledging.tells_of_events();
        tokio::select! {
            biased;
            settled = self.flight.next(shared.limits.outcome), if !self.flight.is_empty() => {
                self.settle(settled?);
            }
            done = shared.acknowledging.done(shared.limits.turn), if shared.acknowledging.is_running() => {
                if let Err(error) = done {
                    self.halt.get_or_insert(End::HeldUp(error));
                }
                // More events may wait behind those.
                self.feed.exhausted &= !tells_of_events;
            }
            fetched = ready(&mut self.feed.fetching), if self.feed.fetching.is_some() => {
                self.feed.fetching = None;
                match fetched {
                    Ok((events, page, noted)) => {
                        self.shared.remember(noted);
                        self.feed.take((events, page), self.window.carries_events());
                    }
                    Err(error) => _ = self.halt.get_or_insert(End::HeldUp(error)),
                }
            }
            Ok(()) = shared.store_news.changed(), if self.feed.exhausted => self.feed.exhausted = false,
            () = shared.flush.notified() => self.feed.flush(),
            () = stopped(&mut shared.stop), if self.halt.is_none() => {
                self.halt = Some(End::Stopped);
            }
            () = tokio::time::sleep_until(wake) => {
                self.feed.exhausted = false;
                self.shared.report.tell();
            }
        }
        self.shared.beat();
        self.fetch();
        self.acknowledge();
        Ok(())
    }

    fn settle(&mut self, Settled { number, outcome, waited }: Settled) {
        match outcome {
            Outcome::Accepted(_) => {
                if let (Some(items), Some(waited)) = (self.window.items(number), waited) {
                    let (limit, usual) = (self.shared.limits.outcome, self.shared.usual());
                    self.shared.uplink.accepted(items, waited, limit, usual);
                }
                self.window.accept(number);
                let more = self.window.take_accepted();
                let usual = self.shared.usual();
                if let Some((end, _)) = more.readings {
                    self.shared.groups.accepted(end);
                    self.shared.suspicion.accepted(more.readings_count, usual);
                    self.shared.event_suspicion.readings_pass();
                }
                if more.events.is_some() {
                    self.shared.event_suspicion = EventSuspicion::default();
                }
                self.shared.pauses.reset();
                self.shared.report.accepted(more);
                self.shared.acknowledging.add(more);
            }
            Outcome::Rejected(rejected) => {
                let refusal = rejected.error.map_or_else(Refusal::unexplained, Refusal::from);
                self.rejected(number, refusal);
            }
            Outcome::Released(_) | Outcome::Modified(_) => {
                if self.window.fail(number).is_some() {
                    self.stands_in_front();
                }
                let cause = Cause::Lost("the hub gave the readings back unprocessed".into());
                self.halt.get_or_insert(End::HeldUp(CloudError::new("have readings accepted", cause)));
            }
        }
    }

    async fn acknowledge_all(&mut self) -> Result<(), CloudError> {
        let shared = &mut *self.shared;
        shared.acknowledging.finish(&shared.store, shared.limits.turn).await
    }

    fn acknowledge(&mut self) {
        if self.halt.is_none() {
            self.shared.acknowledging.start(&self.shared.store);
        }
    }
}

/// Waits so long for the hub to detach the link; an error says that it has.
pub async fn stands(sender: &mut Bounded<Sender>, limit: Duration) -> Result<(), CloudError> {
    let detached = sender.listen(limit, async |sender| sender.on_detach().await).await;
    detached.map_or(Ok(()), |error| Err(CloudError::new("keep the telemetry link", error)))
}

/// Waits for a future that is there.
async fn ready<T>(slot: &mut Option<BoxFuture<'static, T>>) -> T {
    match slot {
        Some(future) => future.as_mut().await,
        None => std::future::pending().await,
    }
}
