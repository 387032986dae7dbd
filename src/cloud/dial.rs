//! Gets an encrypted byte stream to the hub, by the way that works: AMQP's own port, or a WebSocket where a
//! firewall lets nothing else out. Knows ports and TLS; knows nothing of AMQP.

use std::time::Duration;

use tokio::time::Instant;

use super::deadline::{Limits, within};
use super::error::CloudError;
use super::stream::Wire;
use super::tls::{self, Tls};
use crate::config::{Hub, Transport};

/// After so long a closed AMQP port is tried again.
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
    /// With `auto`: since when AMQP's port is known to be closed or silent.
    closed_since: Option<Instant>,
}

impl Dialer {
    pub fn new(hub: Hub) -> Self {
        Self { hub, closed_since: None }
    }

    /// The way of the next attempt.
    pub fn way(&self) -> Way {
        match self.hub.transport {
            Transport::Amqp => Way::Amqp,
            Transport::Websocket => Way::Websocket,
            Transport::Auto => match self.closed_since {
                Some(since) if since.elapsed() < AMQP_AGAIN => Way::Websocket,
                _ => Way::Amqp,
            },
        }
    }

    /// That way led nowhere: not even an AMQP `open` was answered. The other one is tried next.
    pub fn failed(&mut self, way: Way) {
        self.closed_since = (way == Way::Amqp).then(Instant::now);
    }

    /// TCP, TLS, and the WebSocket where it is one.
    pub async fn dial(
        &self,
        way: Way,
        host: &str,
        tls: &Tls,
        limits: &Limits,
    ) -> Result<Box<dyn Wire>, CloudError> {
        let port = match way {
            Way::Amqp => self.hub.port,
            Way::Websocket => self.hub.websocket_port,
        };
        let connecting = tls::tcp(host, port, limits.connect);
        let tcp = within("connect to the hub", limits.connect * 4, connecting).await?;
        let stream = within("set TLS up with the hub", limits.handshake, tls.connect(host, tcp)).await?;
        Ok(Box::new(stream))
    }
}
