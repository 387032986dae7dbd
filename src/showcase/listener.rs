//! Accepts connections and bounds what each may cost: its number, its header, its idle time, its life.
//! Knows HTTP/1.1, not what is served.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::admission::Admission;
use super::connection::{Connection, Impatient};

/// For a request's whole header, and for the time between two requests of one connection.
const HEADER: Duration = Duration::from_secs(10);
/// Of the request's header in bytes, and of what is read ahead.
const BUFFER: usize = 16 * 1024;
/// A connection that is not a stream is closed after this long, however slowly its answers are read.
const LIFE: Duration = Duration::from_secs(120);
/// The kernel gives a peer up that acknowledges nothing for this long.
const UNACKNOWLEDGED_MS: u32 = 30_000;
/// After a failed accept (out of file descriptors): a pause instead of a busy loop.
const PAUSE: Duration = Duration::from_millis(200);

/// Serves `app` for ever. Dropping it ends all its connections.
pub async fn serve(listener: TcpListener, app: Router) {
    let admission = Admission::default();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    // Over the limit the socket is closed unread: that costs the flooder more than us.
                    if let Some(ticket) = admission.admit(peer.ip()) {
                        let app = app.clone();
                        connections.spawn(async move {
                            converse(socket, peer, app).await;
                            drop(ticket);
                        });
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "could not accept a connection to the page");
                    tokio::time::sleep(PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(socket: TcpStream, peer: SocketAddr, app: Router) {
    // Both are refinements: a kernel that refuses them costs nothing but patience.
    let _ = socket.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS);
    let connection = Connection::new(peer);
    let service = {
        let connection = connection.clone();
        let app = TowerToHyperService::new(app);
        service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            app.call(request)
        })
    };
    {
        let conversation = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER)
            .max_buf_size(BUFFER)
            .serve_connection(TokioIo::new(Impatient::new(socket)), service);
        let mut conversation = std::pin::pin!(conversation);
        loop {
            match tokio::time::timeout(LIFE, conversation.as_mut()).await {
                Err(_) if connection.is_streaming() => {}
                Err(_) => break,
                Ok(Ok(())) => break,
                Ok(Err(error)) => {
                    tracing::debug!(%peer, %error, "a connection to the page ended early");
                    break;
                }
            }
        }
    }
    let held = connection.wipe();
    if held > 0 {
        tracing::warn!(held, "memory that held a device key could not be overwritten");
    }
}
