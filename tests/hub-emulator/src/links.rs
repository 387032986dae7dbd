//! What all links but telemetry have in common: taking messages from the device and handing them to a node, sending a
//! node's messages to the device, and building messages. Knows links, not nodes.

use std::time::Duration;

use fe2o3_amqp::acceptor::LinkEndpoint;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::{Receiver, Sendable, Sender};
use fe2o3_amqp_types::messaging::{Batch, Body, Data, Message, MessageAnnotations, MessageId, Properties};
use fe2o3_amqp_types::primitives::{Binary, SimpleValue, Value};
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::error::HubError;
use crate::fault::Fault;
use crate::hub::{Command, Outgoing};
use crate::node::LinkKind;
use crate::session::{self, Link};

/// A message from a device.
pub(crate) type Incoming = Message<Body<Value>>;

/// Credit of these links, topped up at half.
const CREDIT: u32 = 100;
/// How long a message to the device may wait for credit.
const PATIENCE: Duration = Duration::from_secs(30);

/// Gives each message to `node`, after it has been settled, until the link ends.
pub(crate) async fn receive(mut link: Link, mut receiver: Receiver, node: impl Fn(&Link, Incoming)) {
    receiver.set_credit_mode(CreditMode::Auto(CREDIT));
    if receiver.set_credit(CREDIT).await.is_err() {
        return;
    }
    loop {
        tokio::select! {
            biased;
            delivery = receiver.recv::<Body<Value>>() => {
                let Ok(delivery) = delivery else { return };
                if link.info.kind == LinkKind::Cbs && released(&link) {
                    if receiver.release(&delivery).await.is_err() {
                        return;
                    }
                    continue;
                }
                // Microsoft's C SDK refuses a second token unless its request is settled before it is answered.
                if receiver.accept(&delivery).await.is_err() {
                    return;
                }
                node(&link, delivery.into_message());
            }
            command = link.commands.recv() => {
                if let Some(error) = told(&link, command) {
                    return session::close(LinkEndpoint::Receiver(receiver), error).await;
                }
            }
        }
    }
}

fn released(link: &Link) -> bool {
    let strikes = |fault: &Fault| matches!(fault, Fault::PutTokenReleased).then_some(());
    link.hub.faults.strike(None, strikes).is_some()
}

/// Sends what comes in to the device, in order, until the link or the source of messages ends.
pub(crate) async fn send(mut link: Link, mut sender: Sender, mut messages: mpsc::Receiver<Outgoing>) {
    loop {
        tokio::select! {
            biased;
            _ = sender.on_detach() => return,
            command = link.commands.recv() => {
                if let Some(error) = told(&link, command) {
                    return session::close(LinkEndpoint::Sender(sender), error).await;
                }
            }
            message = messages.recv() => {
                let Some(message) = message else { return };
                // Whether the device settles it is its own affair.
                match timeout(PATIENCE, sender.send_batchable(message)).await {
                    Ok(Ok(_)) => {}
                    Ok(Err(_)) => return,
                    Err(_) => tracing::debug!(link = link.info.name, "no credit: a message was dropped"),
                }
            }
        }
    }
}

/// The error to detach with, if the command means this link.
pub(crate) fn told(link: &Link, command: Result<Command, broadcast::error::RecvError>) -> Option<HubError> {
    command.ok()?.detaches(link.info.kind, link.info.device.as_deref()).cloned()
}

/// One data section; none at all without `bytes`.
pub(crate) fn body(bytes: Option<&[u8]>) -> Body<Value> {
    match bytes {
        Some(bytes) => Body::Data(Batch::new(vec![Data(Binary::from(bytes.to_vec()))])),
        None => Body::Empty,
    }
}

/// The bytes of all data sections, or of a string value.
pub(crate) fn bytes_of(body: Body<Value>) -> Vec<u8> {
    match body {
        Body::Data(sections) => sections.into_iter().flat_map(|section| section.0.into_vec()).collect(),
        Body::Value(value) => crate::values::text(&value.0).into_bytes(),
        Body::Sequence(_) | Body::Empty => Vec::new(),
    }
}

/// A message to the device.
pub(crate) fn message(
    correlation: Option<MessageId>,
    annotations: Option<MessageAnnotations>,
    application: Option<fe2o3_amqp_types::messaging::ApplicationProperties>,
    body: Body<Value>,
) -> Outgoing {
    let properties = correlation.map(|id| {
        let mut properties = Properties::new();
        properties.correlation_id = Some(id);
        properties
    });
    let message = Message::builder()
        .message_annotations(annotations)
        .properties(properties)
        .application_properties(application)
        .body(body)
        .build();
    Sendable::builder().message(message).build()
}

/// An application property that is a string.
pub(crate) fn property<'a>(message: &'a Incoming, key: &str) -> Option<&'a SimpleValue> {
    message.application_properties.as_ref()?.0.get(key)
}
