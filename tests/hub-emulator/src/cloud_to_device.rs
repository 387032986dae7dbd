//! Cloud-to-device messages: a queue for each device with locks, delivery counts and outcomes, and the link that
//! delivers from it. Knows the form of the messages; not what they mean.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp::Sender;
use fe2o3_amqp::acceptor::LinkEndpoint;
use fe2o3_amqp_types::messaging::{ApplicationProperties, MessageAnnotations, Outcome, Properties};
use fe2o3_amqp_types::primitives::{Timestamp, Value};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;

use crate::hub::{Hub, lock};
use crate::links;
use crate::session::{self, Link};

/// Waiting messages of one device, at most (403004 beyond).
const DEPTH: usize = 50;
/// Deliveries of one message, at most.
const DELIVERIES: u8 = 10;

/// Where a message is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "state")]
pub enum C2dState {
    Queued,
    /// Delivered, not settled yet.
    Locked,
    Completed,
    /// The device's error condition, if it gave one.
    Rejected {
        condition: Option<String>,
    },
    /// Abandoned ten times.
    DeadLettered,
}

/// A message and its fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct C2d {
    pub id: u64,
    pub device: String,
    pub message_id: String,
    /// Of the first delivery 0; raised when the device abandons it.
    pub delivery_count: u8,
    #[serde(flatten)]
    pub state: C2dState,
    #[serde(skip)]
    body: Vec<u8>,
    #[serde(skip)]
    properties: BTreeMap<String, String>,
}

/// The device's queue holds 50 messages already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("403004: the device's queue is full")]
pub struct QueueFull;

pub(crate) struct Queues {
    messages: Mutex<Vec<C2d>>,
    changed: watch::Sender<u64>,
}

impl Default for Queues {
    fn default() -> Self {
        Self { messages: Mutex::default(), changed: watch::Sender::new(0) }
    }
}

impl Queues {
    pub(crate) fn put(
        &self,
        device: &str,
        body: &[u8],
        properties: BTreeMap<String, String>,
    ) -> Result<u64, QueueFull> {
        let mut messages = lock(&self.messages);
        let open = |message: &&C2d| {
            message.device == device && matches!(message.state, C2dState::Queued | C2dState::Locked)
        };
        if messages.iter().filter(open).count() >= DEPTH {
            return Err(QueueFull);
        }
        let id = messages.len() as u64 + 1;
        messages.push(C2d {
            id,
            device: device.to_owned(),
            message_id: uuid::Uuid::new_v4().to_string(),
            delivery_count: 0,
            state: C2dState::Queued,
            body: body.to_vec(),
            properties,
        });
        drop(messages);
        self.changed.send_modify(|n| *n += 1);
        Ok(id)
    }

    pub(crate) fn list(&self) -> Vec<C2d> {
        lock(&self.messages).clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn lock_next(&self, device: &str) -> Option<C2d> {
        let mut messages = lock(&self.messages);
        let next = messages.iter_mut().find(|m| m.device == device && m.state == C2dState::Queued)?;
        next.state = C2dState::Locked;
        Some(next.clone())
    }

    /// Changes a message that is still locked.
    fn settle(&self, id: u64, change: impl FnOnce(&mut C2d)) {
        let mut messages = lock(&self.messages);
        if let Some(message) = messages.iter_mut().find(|m| m.id == id && m.state == C2dState::Locked) {
            change(message);
        }
        drop(messages);
        self.changed.send_modify(|n| *n += 1);
    }
}

/// Delivers the device's messages until the link ends.
pub(crate) async fn deliver(mut link: Link, mut sender: Sender) {
    let hub = link.hub.clone();
    let mut changes = hub.queues.changes();
    loop {
        let next = hub.queues.lock_next(link.device());
        if let Some(message) = next {
            let (id, out) = (message.id, outgoing(&hub, &message));
            let sent = tokio::select! {
                sent = sender.send_batchable(out) => sent,
                command = link.commands.recv() => {
                    hub.queues.settle(id, |message| message.state = C2dState::Queued);
                    if let Some(error) = links::told(&link, command) {
                        return session::close(LinkEndpoint::Sender(sender), error).await;
                    }
                    continue;
                }
            };
            let Ok(delivery) = sent else {
                return hub.queues.settle(id, |message| message.state = C2dState::Queued);
            };
            let (hub, device, conn) = (hub.clone(), message.device, link.conn.clone());
            let lock = Duration::from_secs(hub.behaviour().lock);
            tokio::spawn(async move {
                let outcome = tokio::time::timeout(lock, delivery).await.ok().and_then(Result::ok);
                let text = outcome.as_ref().map_or("lock lost".to_owned(), |outcome| match outcome {
                    Outcome::Accepted(_) => "accepted".into(),
                    Outcome::Rejected(_) => "rejected".into(),
                    Outcome::Released(_) => "released".into(),
                    Outcome::Modified(_) => "modified".into(),
                });
                hub.event(Some(&conn), Some(&device), "c2d", json!({ "id": id, "outcome": text }));
                hub.queues.settle(id, |message| settled(message, outcome));
            });
            continue;
        }
        tokio::select! {
            biased;
            _ = sender.on_detach() => return,
            command = link.commands.recv() => {
                if let Some(error) = links::told(&link, command) {
                    return session::close(LinkEndpoint::Sender(sender), error).await;
                }
            }
            _ = changes.changed() => {}
        }
    }
}

fn settled(message: &mut C2d, outcome: Option<Outcome>) {
    message.state = match outcome {
        Some(Outcome::Accepted(_)) => C2dState::Completed,
        Some(Outcome::Rejected(rejected)) => {
            C2dState::Rejected { condition: rejected.error.map(|error| format!("{:?}", error.condition)) }
        }
        Some(Outcome::Released(_) | Outcome::Modified(_)) => {
            message.delivery_count += 1;
            if message.delivery_count >= DELIVERIES { C2dState::DeadLettered } else { C2dState::Queued }
        }
        // The lock ran out, or the link has gone: delivered again, without raising the count.
        None => C2dState::Queued,
    };
}

fn outgoing(hub: &Arc<Hub>, message: &C2d) -> crate::hub::Outgoing {
    let mut properties = Properties::new();
    properties.message_id = Some(message.message_id.clone().into());
    properties.to = Some(format!("/devices/{}/messages/devicebound", message.device));
    let annotations = MessageAnnotations::builder()
        .insert("x-opt-sequence-number", i64::try_from(message.id).unwrap_or(i64::MAX))
        .insert("iothub-enqueuedtime", Value::Timestamp(Timestamp::from(hub.wall.now().timestamp_millis())))
        .insert("iothub-deliverycount", message.delivery_count)
        .build();
    let mut application = ApplicationProperties::builder().insert("iothub-ack", "full");
    for (key, value) in &message.properties {
        application = application.insert(key.clone(), value.clone());
    }
    let body = links::body(Some(&message.body));
    let mut sendable = links::message(None, Some(annotations), Some(application.build()), body);
    sendable.message.properties = Some(properties);
    sendable
}
