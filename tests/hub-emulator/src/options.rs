//! What is fixed when the hub is started. Plain data.

use std::path::PathBuf;

use crate::behaviour::Behaviour;
use crate::registry::Registry;

/// Everything has a working default: free loopback ports, a new authority, nothing on disk but the CA file.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The AMQP port (a hub's 5671); 0 takes a free one.
    pub port: u16,
    /// The HTTPS port (a hub's 443): WebSocket and the `Date` header. 0 takes a free one.
    pub https_port: u16,
    /// The control port, plain HTTP on loopback. None: no control port; 0: a free one.
    pub control_port: Option<u16>,
    /// The address to listen on; 127.0.0.1 by default.
    pub address: Option<std::net::IpAddr>,
    /// Host names of this hub besides `localhost` and `127.0.0.1`: in its certificate, and taken in tokens.
    pub names: Vec<String>,
    /// Where `ca.pem` goes, and with `keep_authority` the authority's key. Default: a folder in the system's temporary
    /// folder, removed when the hub is dropped.
    pub dir: Option<PathBuf>,
    /// Keep the authority in `dir`, so that the hub is still trusted after a restart of the program.
    pub keep_authority: bool,
    /// Keep the record in this file too (JSON lines), and begin with what it holds.
    pub record_file: Option<PathBuf>,
    /// Share this registry (for two hubs, or a provisioning service); otherwise a new one.
    pub registry: Option<Registry>,
    pub behaviour: Behaviour,
}
