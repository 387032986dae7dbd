//! The HTTPS port: a WebSocket for AMQP at `/$iothub/websocket`, and for anything else an answer with the `Date` header
//! of the hub's clock. Knows HTTP as far as that.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use crate::connection;
use crate::hub::{Conn, Hub, Port};
use crate::websocket::ByteStream;

/// The sub-protocol of AMQP over WebSocket at this service.
const PROTOCOL: &str = "AMQPWSB10";
const PATH: &str = "/$iothub/websocket";
/// A request's head, at most.
const HEAD: usize = 16 * 1024;
const PATIENCE: Duration = Duration::from_secs(20);

/// Serves one TCP connection of the HTTPS port until it ends.
pub(crate) async fn serve(hub: Arc<Hub>, tcp: TcpStream) {
    let (conn, wire) = connection::enter(&hub, tcp, Port::Https);
    if let Some(tls) = connection::handshake(&hub, &conn, wire).await {
        answer(&hub, &conn, tls).await;
    }
    connection::leave(&hub, &conn);
}

async fn answer(
    hub: &Arc<Hub>,
    conn: &Arc<Conn>,
    mut io: tokio_rustls::server::TlsStream<crate::wire::Wire>,
) {
    loop {
        let Ok(Ok(head)) = timeout(PATIENCE, read_head(&mut io)).await else { return };
        let Some(request) = Request::parse(&head) else { return };
        let upgrade = request.upgrade();
        let detail = json!({ "request": request.line, "upgrade": upgrade.is_ok() });
        hub.event(Some(conn), None, "http", detail);
        let date = hub.wall.now().format("%a, %d %b %Y %H:%M:%S GMT");
        match upgrade {
            Ok(key) => {
                let response = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                     Sec-WebSocket-Accept: {key}\r\nSec-WebSocket-Protocol: {PROTOCOL}\r\nDate: {date}\r\n\r\n"
                );
                if io.write_all(response.as_bytes()).await.is_ok() && io.flush().await.is_ok() {
                    let socket = WebSocketStream::from_raw_socket(io, Role::Server, None).await;
                    let chunk = hub.behaviour().websocket_chunk;
                    connection::serve_stream(hub, conn, ByteStream::new(socket, chunk)).await;
                }
                return;
            }
            Err(status) => {
                let response = format!("HTTP/1.1 {status}\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
                if io.write_all(response.as_bytes()).await.is_err() || io.flush().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Reads up to and with the empty line, byte by byte: what follows belongs to the WebSocket. Also used by the proxy.
pub(crate) async fn read_head(io: &mut (impl AsyncRead + Unpin)) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        head.push(io.read_u8().await?);
    }
    String::from_utf8(head).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

struct Request<'a> {
    line: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, &'a str)>,
}

impl<'a> Request<'a> {
    fn parse(head: &'a str) -> Option<Self> {
        let mut lines = head.split("\r\n");
        let line = lines.next()?;
        let target = line.split(' ').nth(1)?;
        let headers =
            lines.filter_map(|line| line.split_once(':')).map(|(key, value)| (key.trim(), value.trim()));
        Some(Self { line, target, headers: headers.collect() })
    }

    fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }

    /// The accept key for a right WebSocket request, or the status to refuse with.
    fn upgrade(&self) -> Result<String, &'static str> {
        // The Java SDK adds a query, which a hub ignores.
        let path = self.target.split('?').next().unwrap_or_default();
        if !path.eq_ignore_ascii_case(PATH) && !path.eq_ignore_ascii_case("/%24iothub/websocket") {
            return Err("404 Not Found");
        }
        let websocket = self.header("Upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        let protocols = self.header("Sec-WebSocket-Protocol").unwrap_or_default();
        if !websocket || !protocols.split(',').any(|protocol| protocol.trim() == PROTOCOL) {
            return Err("400 Bad Request");
        }
        self.header("Sec-WebSocket-Key").map(|key| derive_accept_key(key.as_bytes())).ok_or("400 Bad Request")
    }
}
