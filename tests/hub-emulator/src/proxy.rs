//! An HTTP CONNECT proxy for tests, with or without credentials. Knows neither TLS nor the hub.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::https::read_head;
use crate::hub::lock;

/// How a proxy is set up.
#[derive(Debug, Clone, Default)]
pub struct ProxyOptions {
    /// User and password that are asked for (Basic); without them everybody may pass.
    pub credentials: Option<(String, String)>,
    /// Every tunnel goes to this port of 127.0.0.1, whatever host and port were asked for.
    pub route: Option<u16>,
}

/// A running proxy. Dropping it ends its tunnels.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    /// None only while being dropped.
    runtime: Option<Runtime>,
}

struct Shared {
    options: ProxyOptions,
    requests: Mutex<Vec<String>>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(options: ProxyOptions) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let port = socket.local_addr()?.port();
        let shared = Arc::new(Shared { options, requests: Mutex::default() });
        let serving = shared.clone();
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(socket) else { return };
            while let Ok((client, _)) = listener.accept().await {
                let shared = serving.clone();
                tokio::spawn(async move {
                    // A tunnel that breaks is the business of its two ends.
                    drop(tunnel(&shared, client).await);
                });
            }
        });
        Ok(Self { port, shared, runtime: Some(runtime) })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `CONNECT host:port STATUS` for each request so far.
    pub fn requests(&self) -> Vec<String> {
        lock(&self.shared.requests).clone()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn tunnel(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    let head = read_head(&mut client).await?;
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let refusal = if method != "CONNECT" {
        Some("405 Method Not Allowed")
    } else if !shared.options.credentials.as_ref().is_none_or(|wanted| authorised(&head, wanted)) {
        Some("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"test\"")
    } else {
        None
    };
    let server = match (refusal, shared.options.route) {
        (Some(refusal), _) => Err(refusal),
        (None, Some(port)) => Ok(TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await),
        (None, None) => Ok(TcpStream::connect(target).await),
    }
    .and_then(|connected| connected.map_err(|_| "502 Bad Gateway"));
    let status = server.as_ref().err().map_or("200", |refusal| &refusal[..3]);
    lock(&shared.requests).push(format!("{method} {target} {status}"));
    match server {
        Err(refusal) => {
            client.write_all(format!("HTTP/1.1 {refusal}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            client.shutdown().await
        }
        Ok(mut server) => {
            client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            copy_bidirectional(&mut client, &mut server).await.map(drop)
        }
    }
}

fn authorised(head: &str, (user, password): &(String, String)) -> bool {
    let wanted = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    head.split("\r\n")
        .filter_map(|line| line.split_once(':'))
        .any(|(key, value)| key.eq_ignore_ascii_case("proxy-authorization") && value.trim() == wanted)
}
