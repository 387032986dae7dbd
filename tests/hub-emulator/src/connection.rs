//! One connection from TCP to its end: TLS, protocol header, SASL or not, open, sessions; commands and the end of
//! tokens. Knows no links; sessions are handed on.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use fe2o3_amqp::acceptor::{ConnectionAcceptor, ListenerConnectionHandle, SessionAcceptor};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, broadcast};
use tokio::time::timeout;

use crate::behaviour::OnExpiry;
use crate::certificates::{Certificate, TlsManner};
use crate::error::HubError;
use crate::fault::Fault;
use crate::frames::Framed;
use crate::hub::{Command, Conn, Hub, Port, lock};
use crate::sasl::{Mechanisms, Said};
use crate::session;
use crate::wire::{Cut, Wire};

/// For each step of setting up, and for saying goodbye.
const SETUP: Duration = Duration::from_secs(20);
const GOODBYE: Duration = Duration::from_secs(2);

/// Serves one TCP connection of the AMQP port until it ends.
pub(crate) async fn serve(hub: Arc<Hub>, tcp: TcpStream) {
    let (conn, wire) = enter(&hub, tcp, Port::Amqp);
    if let Some(mut tls) = handshake(&hub, &conn, wire).await {
        let silent = hub.faults.strike(None, |fault| matches!(fault, Fault::SilentAfterTls).then_some(()));
        if silent.is_some() {
            // Until the peer gives up; how is its business.
            drop(tokio::io::copy(&mut tls, &mut tokio::io::sink()).await);
        } else {
            serve_stream(&hub, &conn, tls).await;
        }
    }
    leave(&hub, &conn);
}

/// Puts a new TCP connection on the list.
pub(crate) fn enter(hub: &Hub, tcp: TcpStream, port: Port) -> (Arc<Conn>, Wire) {
    let peer = tcp.peer_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
    // Small frames must not wait; a failure would only make the hub slower.
    drop(tcp.set_nodelay(true));
    let hole = hub.faults.strike(None, |fault| {
        let silent = match fault {
            Fault::BlackHole { new, .. } => *new,
            Fault::SilentPort { port: silent } => *silent == port,
            _ => false,
        };
        silent.then_some(())
    });
    let (wire, switch) = Wire::new(tcp, hole.is_some());
    let conn = Arc::new(Conn {
        id: hub.next_id(),
        peer,
        since: hub.wall.now(),
        port,
        switch,
        open: Arc::default(),
        sasl: Mutex::default(),
        commands: broadcast::Sender::new(64),
        grants: Mutex::default(),
        grants_changed: Notify::new(),
        links: Mutex::default(),
        cbs: Mutex::default(),
        to_device: Mutex::default(),
        subscribed: Mutex::default(),
    });
    hub.enter(conn.clone());
    hub.event(Some(&conn), None, "connect", json!({ "peer": peer.to_string(), "port": port }));
    (conn, wire)
}

/// Takes it off the list; whatever is left of the stream is dropped.
pub(crate) fn leave(hub: &Hub, conn: &Conn) {
    hub.leave(conn.id);
    conn.switch.cut(Cut::Fin);
    hub.event(Some(conn), None, "close", json!({}));
}

/// The TLS handshake, with the certificate that the faults ask for.
pub(crate) async fn handshake(
    hub: &Hub,
    conn: &Conn,
    wire: Wire,
) -> Option<tokio_rustls::server::TlsStream<Wire>> {
    let certificate = hub.faults.strike(None, |fault| match fault {
        Fault::Certificate { certificate } => Some(*certificate),
        _ => None,
    });
    let behaviour = hub.behaviour();
    let manner = TlsManner {
        certificate: certificate.unwrap_or(Certificate::Good),
        tls12_only: behaviour.tls12_only,
        ask_client: behaviour.ask_client_certificate,
    };
    let failed = |reason: String| hub.event(Some(conn), None, "tls-failed", json!({ "reason": reason }));
    let acceptor = hub.authority.acceptor(manner).map_err(|error| failed(error.to_string())).ok()?;
    // In a black hole the handshake lasts as long as the hole does.
    acceptor.accept(wire).await.map_err(|error| failed(error.to_string())).ok()
}

/// Speaks AMQP over any stream, TLS or WebSocket.
pub(crate) async fn serve_stream<Io>(hub: &Arc<Hub>, conn: &Arc<Conn>, mut io: Io)
where
    Io: AsyncRead + AsyncWrite + std::fmt::Debug + Send + Unpin + 'static,
{
    let mut header = [0; 8];
    if !matches!(timeout(SETUP, io.read_exact(&mut header)).await, Ok(Ok(_))) {
        return;
    }
    let stream = Framed::new(io, header, conn.open.clone(), hub.behaviour().bare_flow);
    let said = Arc::new(Mutex::new(Said::default()));
    let mut acceptor = ConnectionAcceptor::builder()
        .container_id(format!("DeviceGateway_{}", uuid::Uuid::new_v4().simple()))
        .hostname("localhost".to_owned())
        .max_frame_size(hub.behaviour().max_frame_size)
        .channel_max(8191);
    let idle = hub.behaviour().idle_time_out;
    if idle > 0 {
        acceptor = acceptor.idle_time_out(idle);
    }
    let opened = async {
        if header[4] == 3 {
            let mechanisms = Mechanisms { hub: hub.clone(), said: said.clone() };
            acceptor.sasl_acceptor(mechanisms).build().accept(stream).await
        } else {
            acceptor.build().accept(stream).await
        }
    };
    let opened = timeout(SETUP, opened).await;
    let said = std::mem::take(&mut *lock(&said));
    *lock(&conn.sasl) = said.mechanism;
    match opened {
        Ok(Ok(handle)) => {
            let open = lock(&conn.open).clone();
            let detail = open.map(|open| {
                json!({
                    "containerId": open.container_id,
                    "hostname": open.hostname,
                    "idleTimeOut": open.idle_time_out,
                    "maxFrameSize": open.max_frame_size.0,
                    "sasl": *lock(&conn.sasl),
                })
            });
            hub.event(Some(conn), None, "open", detail.unwrap_or_default());
            if let Some(grant) = said.grant {
                conn.grant(grant);
            }
            run(hub, conn, handle).await;
        }
        Ok(Err(error)) => hub.event(Some(conn), None, "open-failed", json!({ "reason": error.to_string() })),
        Err(_) => hub.event(Some(conn), None, "open-failed", json!({ "reason": "it took too long" })),
    }
}

async fn run(hub: &Arc<Hub>, conn: &Arc<Conn>, mut handle: ListenerConnectionHandle) {
    let mut commands = conn.commands.subscribe();
    let silent = hub.faults.strike(None, |fault| matches!(fault, Fault::SilentAfterOpen).then_some(()));
    let acceptor = SessionAcceptor::builder().incoming_window(5000).outgoing_window(u32::MAX).build();
    loop {
        tokio::select! {
            biased;
            incoming = handle.next_incoming_session() => {
                let Some(incoming) = incoming else { break };
                if silent.is_some() {
                    continue;
                }
                match acceptor.accept_incoming_session(incoming, &mut handle).await {
                    Ok(session) => drop(tokio::spawn(session::run(hub.clone(), conn.clone(), session))),
                    Err(error) => tracing::debug!(%error, "session not accepted"),
                }
            }
            command = commands.recv() => match command {
                Ok(Command::Close(error)) => {
                    // The peer may never answer; then the stream is dropped.
                    drop(timeout(GOODBYE, handle.close_with_error(error.to_amqp())).await);
                    break;
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => break,
            },
            () = expired(hub, conn) => {}
        }
    }
}

/// Waits for the next token's end and acts; returns when it has acted or the tokens changed.
async fn expired(hub: &Hub, conn: &Conn) {
    let next = lock(&conn.grants).values().min_by_key(|grant| grant.expiry).cloned();
    let Some(grant) = next else { return conn.grants_changed.notified().await };
    let left = (grant.expiry + hub.skew() - hub.wall.now()).to_std().unwrap_or_default();
    // The clock, the skew or the token may change meanwhile: look again every second.
    tokio::select! {
        () = conn.grants_changed.notified() => return,
        () = tokio::time::sleep(left.min(Duration::from_secs(1))) => {}
    }
    if conn.granted(&grant.device, hub.wall.now(), hub.skew()) {
        return;
    }
    lock(&conn.grants).remove(&grant.device);
    hub.event(Some(conn), Some(&grant.device), "expired", json!({ "expiry": grant.expiry.timestamp() }));
    let error = HubError::unauthorized("Token Invalid.");
    match hub.behaviour().on_expiry {
        OnExpiry::Detach => conn.tell(Command::Detach { device: Some(grant.device), link: None, error }),
        OnExpiry::Close => conn.tell(Command::Close(error)),
        OnExpiry::Drop => conn.switch.cut(Cut::Fin),
    }
}
