//! The handle on a running hub that tests hold: starts it on a thread of its own, asks and commands it. Knows every
//! part; nothing else here knows it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::runtime::Runtime;

use crate::behaviour::Behaviour;
use crate::certificates::Authority;
use crate::control;
use crate::events::Event;
use crate::fault::Arming;
use crate::hub::Hub;
use crate::listener::Listener;
use crate::meter::Metered;
use crate::options::Options;
use crate::record::{Message, Record};
use crate::registry::{KeyError, Registry};
use crate::running::{Connection, Core, StartError};

/// A running hub. Dropping it ends everything.
pub struct Emulator {
    pub(crate) core: Arc<Core>,
    /// None only while being dropped.
    runtime: Option<Runtime>,
    temporary: Option<PathBuf>,
    control_port: Option<u16>,
}

impl Emulator {
    /// Binds, writes `ca.pem`, and serves. Returns at once; everything is ready.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("hub-emulator")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let (dir, temporary) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let dir =
                    std::env::temp_dir().join(format!("hub-emulator-{}", uuid::Uuid::new_v4().simple()));
                (dir.clone(), Some(dir))
            }
        };
        std::fs::create_dir_all(&dir).map_err(|source| StartError::File { path: dir.clone(), source })?;
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(options.names.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
        let authority = authority(&dir, names.clone(), options.keep_authority)?;
        let ca_file = dir.join("ca.pem");
        write(&ca_file, &authority.pem)?;
        let record = Record::open(options.record_file.as_deref())?;
        let registry = options.registry.unwrap_or_default();
        let hub = Arc::new(Hub::new(names, registry, authority, record, options.behaviour));
        let host = options.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let bind = |port| {
            let address = SocketAddr::new(host, port);
            Listener::bind(address, runtime.handle().clone())
                .map_err(|source| StartError::Listen { address, source })
        };
        let (amqp, amqp_socket) = bind(options.port)?;
        let (https, https_socket) = bind(options.https_port)?;
        let core = Arc::new(Core { hub, amqp, https, runtime: runtime.handle().clone(), ca_file });
        core.listen(Some([amqp_socket, https_socket]))?;
        let control_port = match options.control_port {
            Some(port) => Some(control::serve(&core, port)?),
            None => None,
        };
        Ok(Self { core, runtime: Some(runtime), temporary, control_port })
    }

    /// The AMQP port.
    pub fn port(&self) -> u16 {
        self.core.port()
    }

    /// The HTTPS port: AMQP over WebSocket, and the `Date` header.
    pub fn https_port(&self) -> u16 {
        self.core.https.address().port()
    }

    /// The control port, if there is one.
    pub fn control_port(&self) -> Option<u16> {
        self.control_port
    }

    /// The authority's certificate, PEM.
    pub fn ca_pem(&self) -> &str {
        &self.core.hub.authority.pem
    }

    /// The same as a file.
    pub fn ca_file(&self) -> &Path {
        &self.core.ca_file
    }

    /// A handle on the device list.
    pub fn registry(&self) -> Registry {
        self.core.hub.registry.clone()
    }

    /// Adds a device with random keys; returns the primary one in base64.
    pub fn add_device(&self, device: &str) -> String {
        self.core.hub.registry.add(device)
    }

    /// Adds a device with keys in base64.
    pub fn add_device_with_keys(
        &self,
        device: &str,
        primary: &str,
        secondary: Option<&str>,
    ) -> Result<(), KeyError> {
        self.core.hub.registry.add_with_keys(device, primary, secondary)
    }

    /// Forgets the device and closes its connections' links.
    pub fn remove_device(&self, device: &str) -> bool {
        self.core.remove_device(device)
    }

    /// Disables or enables; a disabled device's links are closed.
    pub fn set_enabled(&self, device: &str, enabled: bool) -> bool {
        self.core.set_enabled(device, enabled)
    }

    /// `HostName=localhost;DeviceId=..;SharedAccessKey=..` of a known device.
    pub fn connection_string(&self, device: &str) -> Option<String> {
        let key = self.core.hub.registry.get(device)?.primary_text();
        Some(format!("HostName=localhost;DeviceId={device};SharedAccessKey={key}"))
    }

    /// Everything on record, in the order in which it was taken.
    pub fn messages(&self) -> Vec<Arc<Message>> {
        self.messages_since(0)
    }

    /// The same from `index` on.
    pub fn messages_since(&self, index: u64) -> Vec<Arc<Message>> {
        self.core.hub.record.since(index, usize::MAX)
    }

    /// One device's.
    pub fn messages_of(&self, device: &str) -> Vec<Arc<Message>> {
        let mut all = self.messages();
        all.retain(|message| message.device == device);
        all
    }

    /// How many messages were taken, recorded or only counted.
    pub fn count(&self) -> u64 {
        *self.core.hub.record.total().borrow()
    }

    /// The same of one device.
    pub fn count_of(&self, device: &str) -> u64 {
        self.core.hub.record.per_device().get(device).copied().unwrap_or_default()
    }

    /// The chunks that were billed since the hub's day began.
    pub fn metered(&self) -> Metered {
        self.core.hub.meter.metered()
    }

    /// A new day: the quota is whole again.
    pub fn new_day(&self) {
        self.core.hub.meter.reset();
    }

    /// Forgets the record in memory.
    pub fn clear_messages(&self) {
        self.core.hub.record.clear();
    }

    /// What happened so far, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.core.hub.events.since(0)
    }

    /// What happened from the event with this index on; only the newest are kept.
    pub fn events_since(&self, index: u64) -> Vec<Event> {
        self.core.hub.events.since(index)
    }

    /// The events of one kind; see [`Event::kind`].
    pub fn events_of(&self, kind: &str) -> Vec<Event> {
        let mut events = self.events();
        events.retain(|event| event.kind == kind);
        events
    }

    /// The connections that are open now.
    pub fn connections(&self) -> Vec<Connection> {
        self.core.connections()
    }

    /// Lets something go wrong; the number is for [`Self::clear_fault`].
    pub fn fault(&self, fault: impl Into<Arming>) -> u64 {
        self.core.fault(fault.into())
    }

    /// Takes one fault back.
    pub fn clear_fault(&self, id: u64) {
        self.core.clear_faults(Some(id));
    }

    /// Takes all faults back.
    pub fn clear_faults(&self) {
        self.core.clear_faults(None);
    }

    /// The faults in force.
    pub fn faults(&self) -> Vec<(u64, Arming)> {
        self.core.hub.faults.list()
    }

    pub fn behaviour(&self) -> Behaviour {
        (*self.core.hub.behaviour()).clone()
    }

    /// Changes how the hub behaves from now on.
    pub fn set_behaviour(&self, change: impl FnOnce(&mut Behaviour)) {
        let mut behaviour = self.behaviour();
        change(&mut behaviour);
        self.core.hub.set_behaviour(behaviour);
    }

    /// Sets the hub's clock: seconds ahead of the machine's.
    pub fn set_clock_ahead(&self, seconds: i64) {
        self.core.hub.wall.set_ahead(seconds);
    }

    /// Closes the ports and cuts every connection, as when the program is killed.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Opens the same ports again.
    pub fn start_again(&self) -> Result<(), StartError> {
        self.core.listen(None)
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.core.stop();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        if let Some(dir) = self.temporary.take() {
            // Only a temporary folder is left behind.
            drop(std::fs::remove_dir_all(dir));
        }
    }
}

pub(crate) fn authority(dir: &Path, names: Vec<String>, keep: bool) -> Result<Authority, StartError> {
    let key_file = dir.join("ca-key.pem");
    let kept = if keep { std::fs::read_to_string(&key_file).ok() } else { None };
    let (authority, key) = Authority::new(names, kept.as_deref())?;
    if keep && kept.is_none() {
        write(&key_file, &key)?;
    }
    Ok(authority)
}

pub(crate) fn write(path: &Path, text: &str) -> Result<(), StartError> {
    std::fs::write(path, text).map_err(|source| StartError::File { path: path.to_owned(), source })
}
