//! The running hub behind its handle and its control port: ports, immediate faults, devices that are turned away.
//! Knows hub and listeners; not who asks.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use crate::certificates::CertificateError;
use crate::connection;
use crate::fault::{Arming, Fault};
use crate::https;
use crate::hub::{Command, Conn, Hub, LinkInfo, Port, lock};
use crate::listener::Listener;
use crate::record::RecordError;
use crate::twin;
use crate::twins::TwinError;
use crate::wire::Cut;

/// What the control port shares with the handle.
pub(crate) struct Core {
    pub(crate) hub: Arc<Hub>,
    pub(crate) amqp: Listener,
    pub(crate) https: Listener,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) ca_file: PathBuf,
}

/// Why the hub did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("listening on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("starting the hub's thread")]
    Runtime(#[source] io::Error),
    #[error("writing `{path}`")]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A connection that is open now.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Connection {
    pub id: u64,
    pub peer: String,
    pub since: String,
    /// With `https` it is a WebSocket.
    pub port: Port,
    pub sasl: Option<String>,
    pub container_id: Option<String>,
    pub devices: Vec<String>,
    pub links: Vec<LinkInfo>,
}

impl Core {
    pub(crate) fn port(&self) -> u16 {
        self.amqp.address().port()
    }

    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Opens the ports that are closed. The sockets are given at the first time.
    pub(crate) fn listen(&self, sockets: Option<[StdListener; 2]>) -> Result<(), StartError> {
        let [amqp, https] = sockets.map_or([None, None], |sockets| sockets.map(Some));
        let refused = |port| self.hub.faults.holds(None, |fault| fault.closes(port));
        let failed = |listener: &Listener| {
            let address = listener.address();
            move |source| StartError::Listen { address, source }
        };
        if !refused(Port::Amqp) {
            let hub = self.hub.clone();
            let serve = move |tcp| connection::serve(hub.clone(), tcp);
            self.amqp.open(amqp, serve).map_err(failed(&self.amqp))?;
        }
        if !refused(Port::Https) {
            let hub = self.hub.clone();
            let serve = move |tcp| https::serve(hub.clone(), tcp);
            self.https.open(https, serve).map_err(failed(&self.https))?;
        }
        Ok(())
    }

    pub(crate) fn stop(&self) {
        let _inside = self.runtime.enter();
        self.amqp.close();
        self.https.close();
        for conn in self.hub.connections() {
            conn.switch.cut(Cut::Fin);
        }
    }

    pub(crate) fn remove_device(&self, device: &str) -> bool {
        let known = self.hub.registry.remove(device);
        self.hub.twins.forget(device);
        self.expel(device, "The device was removed");
        known
    }

    pub(crate) fn set_enabled(&self, device: &str, enabled: bool) -> bool {
        let known = self.hub.registry.set_enabled(device, enabled);
        if !enabled {
            self.expel(device, "The device is disabled");
        }
        known
    }

    pub(crate) fn desire(&self, device: &str, patch: &Value, replace: bool) -> Result<i64, TwinError> {
        let (push, version) = self.hub.twins.desire(device, patch, replace)?;
        twin::push(&self.hub, device, &push.to_string(), Some(version));
        Ok(version)
    }

    pub(crate) fn is_subscribed(&self, device: &str) -> bool {
        self.hub.connections().iter().any(|conn| lock(&conn.subscribed).contains(device))
    }

    fn expel(&self, device: &str, message: &str) {
        for conn in self.hub.connections_of(Some(device)) {
            lock(&conn.grants).remove(device);
            let error = crate::error::HubError::new("amqp:not-found").code(404_001, message);
            conn.tell(Command::Detach { device: Some(device.to_owned()), link: None, error });
        }
    }

    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.hub.connections().iter().map(|conn| Connection::of(conn)).collect()
    }

    pub(crate) fn fault(&self, arming: Arming) -> u64 {
        let _inside = self.runtime.enter();
        self.hub.event(None, arming.device.as_deref(), "fault", json!(arming.fault));
        let meant = self.hub.connections_of(arming.device.as_deref());
        match &arming.fault {
            Fault::Drop { how } => meant.iter().for_each(|conn| conn.switch.cut(*how)),
            Fault::DetachLinks { link, error } => meant.iter().for_each(|conn| {
                let (device, link, error) = (arming.device.clone(), *link, error.clone());
                conn.tell(Command::Detach { device, link, error });
            }),
            Fault::EndSessions { error } => {
                meant.iter().for_each(|conn| conn.tell(Command::End(error.clone())))
            }
            Fault::CloseConnections { error } => {
                meant.iter().for_each(|conn| conn.tell(Command::Close(error.clone())));
            }
            Fault::BlackHole { existing, .. } => {
                if *existing {
                    meant.iter().for_each(|conn| conn.switch.set_hole(true));
                }
                return self.hub.faults.arm(arming);
            }
            fault @ (Fault::Refuse | Fault::RefusePort { .. }) => {
                if fault.closes(Port::Amqp) {
                    self.amqp.close();
                }
                if fault.closes(Port::Https) {
                    self.https.close();
                }
                return self.hub.faults.arm(arming);
            }
            _ => return self.hub.faults.arm(arming),
        }
        0
    }

    pub(crate) fn clear_faults(&self, id: Option<u64>) {
        let before = self.hub.faults.list();
        self.hub.faults.clear(id);
        let held = |wanted: fn(&Fault) -> bool| before.iter().any(|(_, arming)| wanted(&arming.fault));
        let hole = |fault: &Fault| matches!(fault, Fault::BlackHole { .. } | Fault::SilentPort { .. });
        if held(hole) && !self.hub.faults.holds(None, hole) {
            self.hub.connections().iter().for_each(|conn| conn.switch.set_hole(false));
        }
        if held(|fault| fault.closes(Port::Amqp) || fault.closes(Port::Https))
            && let Err(error) = self.listen(None)
        {
            tracing::error!(%error, "the port cannot be opened again");
        }
    }
}

impl Connection {
    fn of(conn: &Conn) -> Self {
        Self {
            id: conn.id,
            peer: conn.peer.to_string(),
            since: conn.since.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
            port: conn.port,
            sasl: lock(&conn.sasl).clone(),
            container_id: lock(&conn.open).as_ref().map(|open| open.container_id.clone()),
            devices: lock(&conn.grants).keys().cloned().collect(),
            links: lock(&conn.links).clone(),
        }
    }
}
