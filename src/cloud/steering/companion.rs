//! The loop beside telemetry on one connection: takes what the hub sends on the twin, method and message links, and
//! sends what has to be answered. Knows the links and the parts behind them; decides nothing itself.

use std::convert::Infallible;
use std::time::Duration;

use fe2o3_amqp::Sendable;
use fe2o3_amqp_types::definitions::{AmqpError, Error};
use fe2o3_amqp_types::messaging::{Data, MessageId};
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::super::connection::Links;
use super::super::error::{Cause, CloudError};
use super::attaching::{self, Attaching, Progress};
use super::disk::{Disk, Done, Judged};
use super::inbox::Verdict;
use super::links::{self, Attached, Group, Kind, LinkGroups};
use super::receiving::{self, Heard, Missed, Received, hear, receive};
use super::twin::{Answer, Conversation, OWN};
use super::{Steering, methods, wire};
use crate::identity::Identity;

/// Calls that run at one time; more are told to come back.
const CALLS: usize = 8;
/// The longest wait of one turn.
const TURN: Duration = Duration::from_secs(5);
/// Handing an answer over or settling a message, link credit included.
const SEND: Duration = Duration::from_secs(15);

/// Twin, methods and messages on one connection.
pub struct Companion<'a> {
    steering: &'a mut Steering,
    identity: &'a Identity,
    conversation: Conversation,
    running: FuturesUnordered<BoxFuture<'static, (MessageId, methods::Answer)>>,
    disk: Disk,
    attaching: Attaching<'a>,
}

enum Event {
    Twin(Received),
    Method(Received),
    Message(Received),
    Answered(MessageId, methods::Answer),
    Disk(Done),
    Attaching(Progress),
    Turn,
}

impl<'a> Companion<'a> {
    pub fn new(steering: &'a mut Steering, identity: &'a Identity) -> Self {
        steering.groups.all_mut().into_iter().for_each(Group::disconnected);
        steering.reported.connected(&steering.desk.board);
        let conversation = Conversation::new(steering.answer, steering.seed, Instant::now());
        Self {
            steering,
            identity,
            conversation,
            running: FuturesUnordered::new(),
            disk: Disk::default(),
            attaching: Attaching::default(),
        }
    }

    /// Runs as long as the connection is good; returns what only another connection mends.
    pub async fn run(mut self, links: &'a mut Links) -> CloudError {
        self.attaching = Attaching::new(links);
        let Err(error) = self.steps().await;
        error
    }

    async fn steps(&mut self) -> Result<Infallible, CloudError> {
        loop {
            self.step().await?;
        }
    }

    async fn step(&mut self) -> Result<(), CloudError> {
        self.attach();
        self.disk.start(&mut self.steering.desired, &self.steering.inbox);
        self.speak().await;
        let event = self.event().await;
        self.take(&event).await;
        match event {
            Event::Twin(received) => {
                let heard = hear(&mut self.steering.groups.twin, received);
                self.twin(heard);
            }
            Event::Method(received) => self.method(received).await,
            Event::Message(received) => self.message(received),
            Event::Answered(id, answer) => self.answer(id, &answer).await,
            Event::Disk(Done::Kept(written)) => self.steering.desired.kept(written),
            Event::Disk(Done::Message(Some(judged))) => self.settle(judged).await,
            Event::Attaching(Progress::Slow(kind, error)) => self.steering.groups.of(kind).slow(&error),
            Event::Attaching(Progress::Done(kind, attached)) => self.attached(kind, attached)?,
            Event::Disk(Done::Message(None)) | Event::Turn => {}
        }
        Ok(())
    }

    /// Begins with a group that is due.
    fn attach(&mut self) {
        let groups = &mut self.steering.groups;
        if self.attaching.is_free()
            && let Some(kind) = links::next(groups.all(), Instant::now())
        {
            groups.of(kind).asked();
            self.attaching.begin(kind, &self.identity.device_id);
        }
    }

    fn attached(&mut self, kind: Kind, attached: attaching::Outcome) -> Result<(), CloudError> {
        if attached.is_err() {
            self.steering.groups.all_mut().into_iter().for_each(Group::rest);
        }
        let group = self.steering.groups.of(kind);
        group.attached(attached)?;
        if kind == Kind::Messages {
            self.disk.forget_message();
        }
        // The subscription went with the old links, and a push may have been missed.
        if kind == Kind::Twin && group.attached.is_some() {
            self.conversation.begin_again(self.steering.seed, Instant::now());
        }
        Ok(())
    }

    /// Sends the request about the twin that is due. What is about to be kept is reported once, when it is.
    async fn speak(&mut self) {
        if self.disk.is_keeping() {
            return;
        }
        let steering = &mut *self.steering;
        let twin = &mut steering.groups.twin;
        let Some(attached) = &mut twin.attached else { return };
        let now = Instant::now();
        let answers = steering.desired.acknowledgements();
        let wanted = steering.reported.wanted(now, &steering.desk.board, &self.identity.host, answers);
        if let Some((id, request)) = self.conversation.next(now, &wanted, &OWN) {
            tracing::debug!(request = request.name(), "twin");
            let sent = send(attached, "ask about the twin", wire::twin_request(id, &request)).await;
            lost_by(twin, sent);
        }
    }

    async fn event(&mut self) -> Event {
        let now = Instant::now();
        let steering = &mut *self.steering;
        let dues = steering.groups.all().into_iter().filter_map(|group| group.due(now));
        let reported = steering.groups.twin.attached.is_some().then(|| steering.reported.due(now));
        let due = dues.chain(reported).chain(self.conversation.due(now)).filter(|due| *due > now).min();
        let wake = steering.desk.timekeeper.end_of_turn(TURN, due);
        let LinkGroups { twin, methods, messages } = &mut steering.groups;
        let inbox_is_free = !self.disk.inbox_is_busy();
        tokio::select! {
            received = receive(&mut twin.attached) => Event::Twin(received),
            received = receive(&mut methods.attached) => Event::Method(received),
            received = receive(&mut messages.attached), if inbox_is_free => Event::Message(received),
            done = self.disk.done() => Event::Disk(done),
            progress = self.attaching.progress() => Event::Attaching(progress),
            Some((id, answer)) = self.running.next() => Event::Answered(id, answer),
            () = tokio::time::sleep_until(wake) => Event::Turn,
        }
    }

    /// Settles what came before anything else is made of it.
    async fn take(&mut self, event: &Event) {
        let groups = &mut self.steering.groups;
        let (group, received) = match event {
            Event::Twin(received) => (&mut groups.twin, received),
            Event::Method(received) => (&mut groups.methods, received),
            Event::Message(received) => (&mut groups.messages, received),
            _ => return,
        };
        let settled = receiving::settle(group, received).await;
        lost_by(group, settled);
    }

    fn twin(&mut self, heard: Heard) {
        let now = Instant::now();
        let delivery = match heard {
            Ok(delivery) => delivery,
            Err(Missed::Unreadable) => {
                // It may have been a change: like one that says nothing, it leads to another GET.
                self.conversation.pushed(now, b"", None);
                return;
            }
            Err(Missed::Links) => return,
        };
        let changes = match wire::from_twin(delivery.into_message()) {
            wire::FromTwin::Answer { id: Some(id), status, version, body } => {
                self.conversation.answered(now, id, Answer { status, version, body: &body })
            }
            wire::FromTwin::Answer { id: None, .. } => {
                tracing::debug!("an answer about the twin with an id that is not ours");
                Vec::new()
            }
            wire::FromTwin::Push { version, body } => self.conversation.pushed(now, &body, version),
        };
        for change in changes {
            self.steering.desired.take(change);
        }
    }

    async fn method(&mut self, received: Received) {
        let Ok(delivery) = hear(&mut self.steering.groups.methods, received) else { return };
        let Some(wire::Call { id, name, payload }) = wire::call(delivery.into_message()) else {
            tracing::warn!("a method call without a name or without an id to answer to");
            return;
        };
        tracing::debug!(name, "method");
        if self.running.len() >= CALLS {
            let answer = methods::Answer::error(429, format!("{CALLS} calls run already: try again"));
            return self.answer(id, &answer).await;
        }
        let desk = self.steering.desk.clone();
        self.running.push(Box::pin(async move {
            let answer = methods::call(&name, &payload, &desk).await;
            (id, answer)
        }));
    }

    async fn answer(&mut self, id: MessageId, answer: &methods::Answer) {
        let group = &mut self.steering.groups.methods;
        // The links went meanwhile: the service has given the call up.
        let Some(attached) = &mut group.attached else { return };
        let sent = send(attached, "answer a method call", wire::method_answer(id, answer)).await;
        lost_by(group, sent);
    }

    fn message(&mut self, received: Received) {
        let Ok(delivery) = hear(&mut self.steering.groups.messages, received) else { return };
        let (delivery, message) = delivery.into_parts();
        let (inbox, timekeeper) = (&self.steering.inbox, &self.steering.desk.timekeeper);
        self.disk.take(inbox, delivery, wire::to_device(message), timekeeper);
    }

    async fn settle(&mut self, Judged { arrived, verdict }: Judged) {
        let group = &mut self.steering.groups.messages;
        let Some(attached) = &mut group.attached else { return };
        let doing = "settle a message to the device";
        let (receiver, delivery) = (&mut attached.receiver, arrived.delivery.clone());
        let settled = match verdict {
            Verdict::Accept => receiver.within(doing, SEND, async |link| link.accept(delivery).await).await,
            Verdict::Reject(reason) => {
                let error = Error::new(AmqpError::DecodeError, Some(reason.to_owned()), None);
                receiver.within(doing, SEND, async |link| link.reject(delivery, error).await).await
            }
            Verdict::Later => {
                let again_in = self.disk.take_again(&self.steering.inbox, arrived);
                let cause = Cause::Lost("the station cannot keep messages at present".into());
                let error = CloudError::new("take a message to the device", cause);
                group.outage.tell(&error, Some(again_in), "it waits, and those behind it");
                return;
            }
        };
        lost_by(group, settled);
    }
}

async fn send(
    attached: &mut Attached,
    doing: &'static str,
    message: Sendable<Data>,
) -> Result<(), CloudError> {
    let Some(sender) = &mut attached.sender else { return Ok(()) };
    // Sent settled: there is no outcome to wait for.
    sender.within(doing, SEND, async |sender| sender.send(message).await.map(drop)).await
}

/// What could not be done costs the links.
fn lost_by(group: &mut Group, done: Result<(), CloudError>) {
    if let Err(error) = done {
        group.lost(&error);
    }
}

#[cfg(test)]
mod tests;
