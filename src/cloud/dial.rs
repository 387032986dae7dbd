//! Gets an encrypted byte stream to the hub, by the way that works: AMQP's own port, or a WebSocket where a
//! firewall lets nothing else out. Knows ports and TLS; of AMQP only whether it is answered.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::connection::Connection;
use super::deadline::{Limits, within};
use super::error::{Cause, CloudError};
use super::stream::Wire;
use super::tls::{self, Tls};
use super::websocket;
use crate::config::{Hub, Transport};

/// What is being done where the WebSocket is refused.
pub const UPGRADE: &str = "open a WebSocket to the hub";

/// How often a station on a WebSocket tries AMQP's port again.
const AMQP_AGAIN: Duration = Duration::from_secs(600);

/// A way to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Amqp,
    Websocket,
}

impl Way {
    /// The word in the status document.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amqp => "amqp",
            Self::Websocket => "websocket",
        }
    }
}

/// Chooses the way, remembering what worked.
#[derive(Debug)]
pub struct Dialer {
    hub: Hub,
    /// With `auto`: the last attempt by AMQP's own port led nowhere.
    amqp_is_closed: bool,
}

impl Dialer {
    pub fn new(hub: Hub) -> Self {
        Self { hub, amqp_is_closed: false }
    }

    /// The way of the next attempt.
    pub fn way(&self) -> Way {
        match self.hub.transport {
            Transport::Amqp => Way::Amqp,
            Transport::Websocket => Way::Websocket,
            Transport::Auto if self.amqp_is_closed => Way::Websocket,
            Transport::Auto => Way::Amqp,
        }
    }

    /// That way led nowhere: not even an AMQP `open` was answered. The other one is tried next.
    pub fn failed(&mut self, way: Way) {
        self.amqp_is_closed = way == Way::Amqp;
    }

    /// TCP, TLS, and the WebSocket where it is one.
    pub async fn dial(
        &self,
        way: Way,
        host: &str,
        tls: &Tls,
        limits: &Limits,
    ) -> Result<Box<dyn Wire>, CloudError> {
        let tcp = self.reach(way, host, tls, limits).await?;
        let stream = self.secure(host, tls, limits, tcp).await?;
        self.upgrade(way, host, limits, stream).await
    }

    /// The name and the port.
    pub async fn reach(
        &self,
        way: Way,
        host: &str,
        tls: &Tls,
        limits: &Limits,
    ) -> Result<TcpStream, CloudError> {
        let limit = limits.connect * 4;
        match way {
            Way::Amqp => {
                within("connect to the hub", limit, tls::tcp(host, self.hub.port, limits.connect)).await
            }
            Way::Websocket => {
                let connecting = tls.reach(host, self.hub.websocket_port, limits.connect);
                within("connect to the hub", limit, connecting).await
            }
        }
    }

    /// TLS on what was reached.
    pub async fn secure(
        &self,
        host: &str,
        tls: &Tls,
        limits: &Limits,
        tcp: TcpStream,
    ) -> Result<TlsStream<TcpStream>, CloudError> {
        within("set TLS up with the hub", limits.handshake, tls.connect(host, tcp)).await
    }

    /// The WebSocket on it, where it is one.
    pub async fn upgrade(
        &self,
        way: Way,
        host: &str,
        limits: &Limits,
        stream: TlsStream<TcpStream>,
    ) -> Result<Box<dyn Wire>, CloudError> {
        if way == Way::Amqp {
            return Ok(Box::new(stream));
        }
        let upgrade = websocket::connect(host, self.hub.websocket_port, stream);
        Ok(Box::new(within(UPGRADE, limits.handshake, upgrade).await?))
    }

    /// Where `auto` fell back to the WebSocket: returns once AMQP is answered on its own port again, which is tried next;
    /// otherwise never.
    pub async fn amqp_is_back(&mut self, way: Way, host: &str, tls: &Tls, limits: &Limits) -> CloudError {
        if way == Way::Amqp || self.hub.transport != Transport::Auto {
            return std::future::pending().await;
        }
        loop {
            tokio::time::sleep(AMQP_AGAIN / limits.hurry).await;
            let opened = async {
                let wire = self.dial(Way::Amqp, host, tls, limits).await?;
                // Some firewalls let TLS through, and not what is in it.
                Connection::open(host, wire, limits).await
            };
            if let Ok(connection) = opened.await {
                connection.close().await;
                self.amqp_is_closed = false;
                let text = "the AMQP port is open again".into();
                return CloudError::new("stay on the WebSocket", Cause::Reconnect(text));
            }
        }
    }
}
