//! A Device Provisioning Service for tests: HTTPS, TPM attestation, an enrollment list, assignment in several
//! steps, reassignment, and what can go wrong. Shares with the hub only the device registry and the test
//! authority; shares nothing with the station.
//!
//! ```no_run
//! # fn example(hub: hub_emulator::Emulator, ek: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use hub_emulator::dps::{Dps, DpsFault, DpsOptions};
//!
//! let dps = Dps::start(DpsOptions { dir: "/tmp/authority".into(), ..DpsOptions::default() })?;
//! dps.link("localhost", hub.registry());          // the hub that devices are assigned to from now on
//! dps.enroll("roof", ek, "roof-station")?;        // registration id, endorsement key, device id
//! dps.fault(DpsFault::Throttle { after: 1 }, 2);  // the next two requests
//! // provisioning.endpoint = dps.endpoint(), id_scope = dps.id_scope()
//! # Ok(()) }
//! ```

mod credential;
mod enrollment;
mod service;
mod signature;
mod tpm_public;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::runtime::Runtime;

pub use self::enrollment::EnrollError;
use self::enrollment::{Enrollments, Hub};
use crate::certificates::{Authority, Certificate, TlsManner};
use crate::emulator::{authority, write};
use crate::registry::Registry;
use crate::running::StartError;

/// What is fixed at the start.
#[derive(Debug, Clone)]
pub struct DpsOptions {
    /// Where the authority's key is kept: hubs that are started on the same folder (with `keep_authority`) are
    /// trusted by the same `ca.pem`.
    pub dir: PathBuf,
    /// 0 takes a free one.
    pub port: u16,
    /// The address to listen on; 127.0.0.1 by default.
    pub address: Option<IpAddr>,
    /// Host names besides `localhost` and `127.0.0.1`: in its certificate.
    pub names: Vec<String>,
    pub id_scope: String,
    /// How often a device is told "assigning" before it is assigned.
    pub steps: u32,
    /// Seconds in `Retry-After` of those answers.
    pub retry_after: u32,
    /// Whether the assigned answer brings a key of its own, as the service does.
    pub second_key: bool,
}

impl Default for DpsOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::new(),
            port: 0,
            address: None,
            names: Vec::new(),
            id_scope: "0ne00123456".into(),
            steps: 2,
            retry_after: 1,
            second_key: true,
        }
    }
}

/// What goes wrong with the next requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DpsFault {
    /// 429 with Retry-After.
    Throttle { after: u32 },
    /// 500 with a body.
    ServerError,
    /// The connection is closed instead of an answer.
    Drop,
    /// The answer comes so many milliseconds late.
    Slow { milliseconds: u64 },
    /// One bit of this byte of the activation blob is turned over.
    CorruptBlob { byte: usize },
    /// The blob is made for another endorsement key.
    ForAnotherTpm,
}

/// A request that was answered, for assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub registration_id: String,
    /// `register`, `register-signed` or `operation`.
    pub kind: &'static str,
    pub status: u16,
}

/// A running service. Dropping it ends everything.
pub struct Dps {
    shared: Arc<Shared>,
    runtime: Option<Runtime>,
    port: u16,
    ca_file: PathBuf,
}

struct Shared {
    options: DpsOptions,
    authority: Authority,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    enrollments: Enrollments,
    hub: Option<Hub>,
    faults: Vec<(DpsFault, u32)>,
    seen: Vec<Seen>,
}

impl Dps {
    /// Binds and serves.
    pub fn start(options: DpsOptions) -> Result<Self, StartError> {
        let dir = options.dir.clone();
        std::fs::create_dir_all(&dir).map_err(|source| StartError::File { path: dir.clone(), source })?;
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        names.extend(options.names.iter().cloned());
        let authority = authority(&dir, names, true)?;
        let ca_file = dir.join("ca.pem");
        write(&ca_file, &authority.pem)?;
        let address =
            SocketAddr::new(options.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), options.port);
        let listen = |source| StartError::Listen { address, source };
        let socket = std::net::TcpListener::bind(address).map_err(listen)?;
        socket.set_nonblocking(true).map_err(listen)?;
        let port = socket.local_addr().map_err(listen)?.port();
        let manner = TlsManner { certificate: Certificate::Good, tls12_only: false, ask_client: false };
        let acceptor = authority.acceptor(manner)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("dps-emulator")
            .enable_all()
            .build()
            .map_err(StartError::Runtime)?;
        let shared = Arc::new(Shared { options, authority, state: Mutex::default() });
        let served = Arc::clone(&shared);
        let _inside = runtime.enter();
        let listener = tokio::net::TcpListener::from_std(socket).map_err(listen)?;
        runtime.spawn(service::serve(listener, acceptor, served));
        Ok(Self { shared, runtime: Some(runtime), port, ca_file })
    }

    /// `host:port`, for `provisioning.endpoint`; the host is the last of its names, or `localhost`.
    pub fn endpoint(&self) -> String {
        let host = self.shared.options.names.last().map_or("localhost", String::as_str);
        format!("{host}:{}", self.port)
    }

    pub fn id_scope(&self) -> &str {
        &self.shared.options.id_scope
    }

    /// The authority's certificate as a file.
    pub fn ca_file(&self) -> &Path {
        &self.ca_file
    }

    pub fn ca_pem(&self) -> &str {
        &self.shared.authority.pem
    }

    /// The hub that devices are assigned to from now on, also those that are assigned elsewhere now.
    pub fn link(&self, host: &str, registry: Registry) {
        self.shared.lock().hub = Some(Hub { host: host.to_owned(), registry });
    }

    /// Adds an individual enrollment; the endorsement key is base64 of a TPM2B_PUBLIC.
    pub fn enroll(
        &self,
        registration_id: &str,
        endorsement_key: &str,
        device_id: &str,
    ) -> Result<(), EnrollError> {
        self.shared.lock().enrollments.add(registration_id, endorsement_key, device_id)
    }

    /// Switches an enrollment off or on; false if there is none.
    pub fn set_enabled(&self, registration_id: &str, enabled: bool) -> bool {
        self.shared.lock().enrollments.set_enabled(registration_id, enabled)
    }

    /// Forgets an enrollment; false if there is none.
    pub fn remove(&self, registration_id: &str) -> bool {
        self.shared.lock().enrollments.remove(registration_id)
    }

    /// The next `times` requests go wrong in this way.
    pub fn fault(&self, fault: DpsFault, times: u32) {
        self.shared.lock().faults.push((fault, times));
    }

    /// Requests so far, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.lock().seen.clone()
    }
}

impl Drop for Dps {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no code panics while it holds the state")
    }
}

impl State {
    /// Takes one use of the first armed fault of this kind.
    fn take(&mut self, wanted: impl Fn(&DpsFault) -> bool) -> Option<DpsFault> {
        let position = self.faults.iter().position(|(fault, left)| *left > 0 && wanted(fault))?;
        let (fault, left) = &mut self.faults[position];
        *left -= 1;
        let fault = *fault;
        self.faults.retain(|(_, left)| *left > 0);
        Some(fault)
    }
}
