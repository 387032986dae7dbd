//! Accepts connections and bounds what each may cost: its number, its header, its idle time, its life.
//! Knows HTTP/1.1, not what is served.

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
                    // A socket without an address of its own is gone already.
                    let Ok(here) = socket.local_addr() else { continue };
                    let connection = Connection::new(peer, here);
                    // Over the limit the socket is closed unread: that costs the flooder more than us.
                    if let Some(ticket) = admission.admit(&connection) {
                        let app = app.clone();
                        connections.spawn(async move {
                            converse(socket, connection, app).await;
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

async fn converse(socket: TcpStream, connection: Connection, app: Router) {
    // Both are refinements: a kernel that refuses them costs nothing but patience.
    let _ = socket.set_nodelay(true);
    let _ = rustix::net::sockopt::set_tcp_user_timeout(&socket, UNACKNOWLEDGED_MS);
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
                    tracing::debug!(peer = %connection.peer, %error, "a connection to the page ended early");
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

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::super::connection::STALL;
    use super::*;

    /// A server with a page that never ends, at full speed or by the second. Time is paused: waits are exact, whatever the machine does.
    async fn server() -> SocketAddr {
        let endless = || {
            let piece = || Ok::<_, std::convert::Infallible>(vec![b'.'; 64 * 1024]);
            Body::from_stream(tokio_stream::iter(std::iter::repeat_with(piece)))
        };
        let slow = || {
            Body::from_stream(futures_util::stream::unfold((), async |()| {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok::<_, std::convert::Infallible>("."), ()))
            }))
        };
        let app = Router::new()
            .route("/", get(async move || endless()))
            .route("/slow", get(async move || slow()))
            .route("/short", get(async || "short"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, app));
        address
    }

    /// Sends, waits for the first byte of an answer where one is due, then pauses time (before that, the clock
    /// would run ahead of the packets).
    async fn client(request: &[u8], answered: bool) -> TcpStream {
        let mut client = TcpStream::connect(server().await).await.unwrap();
        client.write_all(request).await.unwrap();
        if answered {
            client.read_exact(&mut [0]).await.unwrap();
        }
        tokio::time::pause();
        client
    }

    /// How long it takes until the other side has closed.
    async fn closed_after(mut client: TcpStream) -> Duration {
        let begin = Instant::now();
        let _reset = client.read_to_end(&mut Vec::new()).await;
        begin.elapsed()
    }

    #[tokio::test]
    async fn half_a_header_is_waited_for_10_s() {
        let waited = closed_after(client(b"GET / HT", false).await).await;
        assert!((HEADER..HEADER * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test]
    async fn an_idle_connection_is_closed_after_10_s() {
        let waited = closed_after(client(b"GET /short HTTP/1.1\r\nhost: x\r\n\r\n", true).await).await;
        assert!((HEADER..HEADER * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test]
    async fn an_answer_that_takes_for_ever_is_cut_off_after_two_minutes() {
        let waited = closed_after(client(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n", true).await).await;
        assert!((LIFE - Duration::from_secs(1)..LIFE * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test]
    async fn a_peer_that_takes_nothing_is_cut_off_after_20_s() {
        let client = client(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", true).await;
        let (half, twice) = (STALL / 2, STALL * 2);
        tokio::time::sleep(half).await;
        assert!(peer_is_there(&client).await, "cut off too soon");
        tokio::time::sleep(twice).await;
        assert!(!peer_is_there(&client).await, "not cut off");
    }

    /// Whether the server still holds its end: it takes a byte. After it has closed, the byte is answered with a
    /// reset, and the next one fails.
    async fn peer_is_there(client: &TcpStream) -> bool {
        tokio::time::resume();
        let mut there = true;
        for _ in 0..20 {
            there &= client.try_write(b"x").is_ok();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::pause();
        there
    }
}
