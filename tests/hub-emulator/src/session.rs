//! One session: takes attaches, decides by address and token, and hands each link to its own task. Knows which links
//! a device may have; not what goes over them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::acceptor::{LinkAcceptor, LinkEndpoint, ListenerSessionHandle};
use fe2o3_amqp_types::definitions::{Fields, Role};
use fe2o3_amqp_types::messaging::TargetArchetype;
use fe2o3_amqp_types::performatives::Attach;
use serde_json::json;
use tokio::sync::{broadcast, mpsc};
use tokio::time::timeout;

use crate::error::HubError;
use crate::fault::{Fault, millis};
use crate::hub::{Command, Conn, Hub, LinkInfo, lock};
use crate::node::{LinkKind, Node};
use crate::values;
use crate::{cbs, cloud_to_device, links, methods, telemetry, twin};

/// How long a peer has for answering a detach or an end.
pub(crate) const GOODBYE: Duration = Duration::from_secs(2);

/// A link that was accepted, as its task needs it.
pub(crate) struct Link {
    pub(crate) hub: Arc<Hub>,
    pub(crate) conn: Arc<Conn>,
    pub(crate) session: u64,
    pub(crate) info: LinkInfo,
    pub(crate) commands: broadcast::Receiver<Command>,
}

impl Link {
    pub(crate) fn device(&self) -> &str {
        self.info.device.as_deref().unwrap_or_default()
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        lock(&self.conn.links).retain(|link| link.id != self.info.id);
        let detail = json!({ "link": self.info.kind, "direction": self.info.direction });
        self.hub.event(Some(&self.conn), self.info.device.as_deref(), "detach", detail);
    }
}

/// Serves the session until either side ends it.
pub(crate) async fn run(hub: Arc<Hub>, conn: Arc<Conn>, mut session: ListenerSessionHandle) {
    let id = hub.next_id();
    let mut commands = conn.commands.subscribe();
    loop {
        tokio::select! {
            biased;
            attach = session.next_incoming_attach() => match attach {
                Some(attach) => on_attach(&hub, &conn, id, &mut session, attach).await,
                None => break,
            },
            command = commands.recv() => match command {
                Ok(Command::End(error)) => {
                    hub.event(Some(&conn), None, "session-end", json!({ "condition": error.condition }));
                    // The peer may never answer.
                    drop(timeout(GOODBYE, session.end_with_error(error.to_amqp())).await);
                    break;
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            },
        }
    }
    lock(&conn.cbs).remove(&id);
}

async fn on_attach(
    hub: &Arc<Hub>,
    conn: &Arc<Conn>,
    session_id: u64,
    session: &mut ListenerSessionHandle,
    mut attach: Attach,
) {
    let address = address_of(&attach).unwrap_or_default();
    let node = Node::parse(&address);
    let to_hub = attach.role == Role::Sender;
    let info = LinkInfo {
        id: hub.next_id(),
        name: attach.name.clone(),
        kind: node.as_ref().map_or(LinkKind::Telemetry, |node| node.kind),
        device: node.as_ref().and_then(|node| node.device.clone()),
        direction: if to_hub { "to-hub" } else { "to-device" },
        properties: text_properties(attach.properties.as_ref()),
    };
    let refusal = refusal(hub, conn, node.as_ref(), to_hub, &address);
    let behaviour = hub.behaviour();
    let acceptor = LinkAcceptor::builder()
        .max_message_size(behaviour.max_message_size)
        .verify_incoming_source(false)
        .verify_incoming_target(false)
        .build();
    if refusal.is_some() && behaviour.null_terminus {
        if to_hub {
            attach.target = None;
        } else {
            attach.source = None;
        }
    }
    let detail = json!({
        "link": node.as_ref().map(|node| node.kind),
        "address": address,
        "direction": info.direction,
        "name": info.name,
        "properties": info.properties,
        "sndSettleMode": format!("{:?}", attach.snd_settle_mode),
        "rcvSettleMode": format!("{:?}", attach.rcv_settle_mode),
        "refused": refusal,
    });
    let kind = if refusal.is_some() { "attach-refused" } else { "attach" };
    let device = info.device.clone();
    if refusal.is_none() {
        lock(&conn.links).push(info.clone());
    }
    let late = hub.faults.strike(device.as_deref(), |fault| match fault {
        Fault::AttachLate { link, millis: late } if *link == info.kind => Some(millis(*late)),
        _ => None,
    });
    if let Some(late) = late {
        hub.event(Some(conn), device.as_deref(), "attach-held", detail.clone());
        tokio::time::sleep(late).await;
    }
    let endpoint = acceptor.accept_incoming_attach(attach, session).await;
    hub.event(Some(conn), device.as_deref(), kind, detail);
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            lock(&conn.links).retain(|link| link.id != info.id);
            tracing::debug!(%error, "attach failed");
            return;
        }
    };
    if let Some(error) = refusal {
        tokio::spawn(close(endpoint, error));
        return;
    }
    if let Some(device) = &device {
        hub.take_over(conn, device);
    }
    let commands = conn.commands.subscribe();
    let link = Link { hub: hub.clone(), conn: conn.clone(), session: session_id, info, commands };
    start(link, endpoint);
}

/// Why this attach is refused, if it is.
fn refusal(hub: &Hub, conn: &Conn, node: Option<&Node>, to_hub: bool, address: &str) -> Option<HubError> {
    let Some(node) = node else { return Some(HubError::bad_address(address)) };
    let device = node.device.as_deref();
    let fault = hub.faults.strike(device, |fault| match fault {
        Fault::RefuseAttach { link, error } => {
            link.map_or(node.kind != LinkKind::Cbs, |link| link == node.kind).then(|| error.clone())
        }
        Fault::RefuseReceiver { link, error } => (!to_hub && *link == node.kind).then(|| error.clone()),
        _ => None,
    });
    if fault.is_some() {
        return fault;
    }
    let device = device?;
    if !conn.granted(device, hub.wall.now(), hub.skew()) {
        return Some(HubError::unauthorized("No valid token was put for this device"));
    }
    if !hub.registry.get(device).is_some_and(|entry| entry.enabled) {
        return Some(
            HubError::new("amqp:not-found").code(404_001, "The device is not registered or disabled"),
        );
    }
    let right_way = match node.kind {
        LinkKind::Telemetry => to_hub,
        LinkKind::CloudToDevice => !to_hub,
        LinkKind::Cbs | LinkKind::Twin | LinkKind::Methods => true,
    };
    (!right_way).then(|| HubError::bad_address(address))
}

fn start(link: Link, endpoint: LinkEndpoint) {
    use LinkEndpoint::{Receiver, Sender};
    match (link.info.kind, endpoint) {
        (LinkKind::Telemetry, Receiver(receiver)) => drop(tokio::spawn(telemetry::run(link, receiver))),
        (LinkKind::CloudToDevice, Sender(sender)) => {
            drop(tokio::spawn(cloud_to_device::deliver(link, sender)))
        }
        (LinkKind::Cbs, Receiver(receiver)) => {
            drop(tokio::spawn(links::receive(link, receiver, cbs::on_request)));
        }
        (LinkKind::Twin, Receiver(receiver)) => {
            drop(tokio::spawn(links::receive(link, receiver, twin::on_request)));
        }
        (LinkKind::Methods, Receiver(receiver)) => {
            drop(tokio::spawn(links::receive(link, receiver, methods::on_answer)));
        }
        (LinkKind::Cbs | LinkKind::Twin | LinkKind::Methods, Sender(sender)) => {
            let (queue, messages) = mpsc::channel(64);
            if link.info.kind == LinkKind::Cbs {
                lock(&link.conn.cbs).insert(link.session, queue);
            } else {
                let key = (link.info.kind, link.device().to_owned());
                lock(&link.conn.to_device).insert(key, queue);
            }
            drop(tokio::spawn(links::send(link, sender, messages)));
        }
        (_, endpoint) => {
            // The way round was checked before.
            drop(tokio::spawn(close(endpoint, HubError::new("amqp:not-implemented"))));
        }
    }
}

/// Closes a link with an error; the peer has a moment to answer.
pub(crate) async fn close(endpoint: LinkEndpoint, error: HubError) {
    let error = error.to_amqp();
    match endpoint {
        LinkEndpoint::Sender(sender) => drop(timeout(GOODBYE, sender.close_with_error(error)).await),
        LinkEndpoint::Receiver(receiver) => drop(timeout(GOODBYE, receiver.close_with_error(error)).await),
    }
}

/// The address of the terminus that is on the hub's side.
fn address_of(attach: &Attach) -> Option<String> {
    if attach.role == Role::Sender {
        match attach.target.as_deref()? {
            TargetArchetype::Target(target) => target.address.clone(),
            #[allow(unreachable_patterns, reason = "a feature of the crate adds a second kind")]
            _ => None,
        }
    } else {
        attach.source.as_ref()?.address.clone()
    }
}

fn text_properties(properties: Option<&Fields>) -> BTreeMap<String, String> {
    let entries = properties.into_iter().flat_map(|fields| fields.iter());
    entries.map(|(key, value)| (key.to_string(), values::text(value))).collect()
}
