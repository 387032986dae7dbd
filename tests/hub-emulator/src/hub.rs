//! What all connections share: registry, record, faults, behaviour, and the list of connections itself. Knows no
//! frames; the tasks of connections, sessions and links ask it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, broadcast, mpsc};

use crate::behaviour::{Behaviour, OnStolen};
use crate::certificates::Authority;
use crate::cloud_to_device::Queues;
use crate::error::HubError;
use crate::events::Events;
use crate::fault::Faults;
use crate::frames::PeerOpen;
use crate::meter::Meter;
use crate::methods::Calls;
use crate::node::LinkKind;
use crate::record::Record;
use crate::registry::Registry;
use crate::token::Grant;
use crate::twins::Twins;
use crate::wall::Wall;
use crate::wire::{Cut, Switch};

pub(crate) type Outgoing = fe2o3_amqp::Sendable<fe2o3_amqp_types::messaging::Body<serde_amqp::Value>>;

pub(crate) struct Hub {
    pub(crate) names: Vec<String>,
    pub(crate) registry: Registry,
    pub(crate) authority: Authority,
    pub(crate) record: Record,
    pub(crate) events: Events,
    pub(crate) faults: Faults,
    pub(crate) wall: Wall,
    pub(crate) twins: Twins,
    pub(crate) calls: Calls,
    pub(crate) queues: Queues,
    pub(crate) meter: Meter,
    behaviour: Mutex<Arc<Behaviour>>,
    connections: Mutex<BTreeMap<u64, Arc<Conn>>>,
    ids: AtomicU64,
}

/// The two ports of a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// A hub's 5671.
    Amqp,
    /// A hub's 443: WebSocket, and the `Date` header.
    Https,
}

/// One connection, as its tasks and the rest of the hub see it.
pub(crate) struct Conn {
    pub(crate) id: u64,
    pub(crate) peer: SocketAddr,
    pub(crate) since: DateTime<Utc>,
    pub(crate) port: Port,
    pub(crate) switch: Switch,
    pub(crate) open: PeerOpen,
    pub(crate) sasl: Mutex<Option<String>>,
    pub(crate) commands: broadcast::Sender<Command>,
    pub(crate) grants: Mutex<BTreeMap<String, Grant>>,
    pub(crate) grants_changed: Notify,
    pub(crate) links: Mutex<Vec<LinkInfo>>,
    /// Where answers to put-token go: the newest `$cbs` sender of each session.
    pub(crate) cbs: Mutex<BTreeMap<u64, mpsc::Sender<Outgoing>>>,
    /// Where messages of the twin and of methods go: the newest link of each device.
    pub(crate) to_device: Mutex<BTreeMap<(LinkKind, String), mpsc::Sender<Outgoing>>>,
    /// The devices that want pushes of desired properties.
    pub(crate) subscribed: Mutex<BTreeSet<String>>,
}

/// A link that is attached now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LinkInfo {
    #[serde(skip)]
    pub(crate) id: u64,
    pub name: String,
    pub kind: LinkKind,
    pub device: Option<String>,
    /// `to-hub` or `to-device`.
    pub direction: &'static str,
    /// The peer's link properties.
    pub properties: BTreeMap<String, String>,
}

/// What a connection's tasks are told to do.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    /// `$cbs` links only when they are named.
    Detach {
        device: Option<String>,
        link: Option<LinkKind>,
        error: HubError,
    },
    End(HubError),
    Close(HubError),
}

impl Command {
    /// The error, if the command means the link of this kind and device.
    pub(crate) fn detaches(&self, kind: LinkKind, of: Option<&str>) -> Option<&HubError> {
        let Self::Detach { device, link, error } = self else { return None };
        let kind_meant = link.map_or(kind != LinkKind::Cbs, |link| link == kind);
        (kind_meant && (device.is_none() || device.as_deref() == of)).then_some(error)
    }
}

impl Hub {
    pub(crate) fn new(
        names: Vec<String>,
        registry: Registry,
        authority: Authority,
        record: Record,
        behaviour: Behaviour,
    ) -> Self {
        Self {
            names,
            registry,
            authority,
            record,
            events: Events::new(),
            faults: Faults::default(),
            wall: Wall::default(),
            twins: Twins::default(),
            calls: Calls::default(),
            queues: Queues::default(),
            meter: Meter::default(),
            behaviour: Mutex::new(Arc::new(behaviour)),
            connections: Mutex::default(),
            ids: AtomicU64::new(1),
        }
    }

    /// A number nobody had before.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn behaviour(&self) -> Arc<Behaviour> {
        lock(&self.behaviour).clone()
    }

    pub(crate) fn set_behaviour(&self, behaviour: Behaviour) {
        *lock(&self.behaviour) = Arc::new(behaviour);
    }

    pub(crate) fn skew(&self) -> TimeDelta {
        TimeDelta::seconds(self.behaviour().skew)
    }

    pub(crate) fn event(
        &self,
        conn: Option<&Conn>,
        device: Option<&str>,
        kind: &'static str,
        detail: serde_json::Value,
    ) {
        self.events.add(self.wall.now(), conn.map(|conn| conn.id), device, kind, detail);
    }

    pub(crate) fn connections(&self) -> Vec<Arc<Conn>> {
        lock(&self.connections).values().cloned().collect()
    }

    pub(crate) fn enter(&self, conn: Arc<Conn>) {
        lock(&self.connections).insert(conn.id, conn);
    }

    pub(crate) fn leave(&self, id: u64) {
        lock(&self.connections).remove(&id);
    }

    /// The connections that hold a grant (or, without `device`, all).
    pub(crate) fn connections_of(&self, device: Option<&str>) -> Vec<Arc<Conn>> {
        let mut all = self.connections();
        if let Some(device) = device {
            all.retain(|conn| lock(&conn.grants).contains_key(device));
        }
        all
    }

    /// The newest connection on which the hub can send to this node of the device.
    pub(crate) fn connection_with(&self, device: &str, kind: LinkKind) -> Option<Arc<Conn>> {
        let open = |conn: &Arc<Conn>| {
            let key = (kind, device.to_owned());
            lock(&conn.to_device).get(&key).is_some_and(|queue| !queue.is_closed())
        };
        self.connections().into_iter().rev().find(open)
    }

    /// A device attached a link on `newer`: its older connections lose.
    pub(crate) fn take_over(&self, newer: &Conn, device: &str) {
        let behaviour = self.behaviour();
        let manner = behaviour.on_stolen;
        if manner == OnStolen::Tolerate {
            return;
        }
        for older in self.connections() {
            let holds = || lock(&older.links).iter().any(|link| link.device.as_deref() == Some(device));
            if older.id >= newer.id || !holds() {
                continue;
            }
            self.event(Some(&older), Some(device), "stolen", serde_json::json!({ "by": newer.id }));
            if matches!(manner, OnStolen::DetachThenClose | OnStolen::Detach) {
                let device = Some(device.to_owned());
                older.tell(Command::Detach {
                    device,
                    link: None,
                    error: HubError::stolen(&behaviour.stolen_condition),
                });
            }
            let close = Command::Close(HubError::forced("A newer connection of the device took over"));
            match manner {
                OnStolen::Close => older.tell(close),
                OnStolen::DetachThenClose => drop(tokio::spawn({
                    let older = older.clone();
                    async move {
                        // Room for the detaches to go first.
                        tokio::time::sleep(Duration::from_millis(100)).await;
                        older.tell(close);
                    }
                })),
                _ => {}
            }
            if manner == OnStolen::Drop {
                older.switch.cut(Cut::Fin);
            }
        }
    }
}

impl Conn {
    /// Tells the connection's tasks; nobody listening any more is fine.
    pub(crate) fn tell(&self, command: Command) {
        drop(self.commands.send(command));
    }

    /// Sends over the newest link of this kind; false if there is none, or its queue is full.
    pub(crate) fn send(&self, kind: LinkKind, device: &str, message: Outgoing) -> bool {
        let queue = lock(&self.to_device).get(&(kind, device.to_owned())).cloned();
        queue.is_some_and(|queue| queue.try_send(message).is_ok())
    }

    /// Whether the device may attach here now.
    pub(crate) fn granted(&self, device: &str, now: DateTime<Utc>, skew: TimeDelta) -> bool {
        lock(&self.grants).get(device).is_some_and(|grant| grant.expiry + skew > now)
    }

    pub(crate) fn grant(&self, grant: Grant) {
        lock(&self.grants).insert(grant.device.clone(), grant);
        self.grants_changed.notify_one();
    }
}

/// A lock that no panic can have poisoned.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no code panics while it holds this")
}
