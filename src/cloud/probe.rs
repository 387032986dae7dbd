//! One visit to the hub without sending anything: name, port, TLS, token. For `check`, and only while no station
//! runs: a second connection of the same device would steal the first one's links.

use std::time::Duration;

use super::cbs::Cbs;
use super::connection::Connection;
use super::deadline::Limits;
use super::dial::{Dialer, Way};
use super::error::{Cause, CloudError};
use super::proxy::Proxy;
use super::tls::{self, Tls};
use super::token::SignerDesk;
use crate::clock::Timekeeper;
use crate::config::Config;
use crate::identity::Identity;
use crate::identity::sas_token::SasToken;

/// A token for this long is enough to be let in.
const LIFETIME: Duration = Duration::from_secs(120);

/// How far a visit came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Nothing: no token was made, or no roots are trusted.
    Nothing,
    /// The resolver was asked, in vain.
    Resolver,
    /// The name has an address.
    Name,
    /// The port answers.
    Port,
    /// TLS stands: the certificate is the hub's.
    Tls,
    /// AMQP can be spoken: the WebSocket is open, where it is one.
    Wire,
}

/// A visit that came to nothing, and how far it came.
#[derive(Debug)]
pub struct Stopped {
    pub reached: Reached,
    pub error: CloudError,
}

/// What the hub said to a station with this configuration: the way that led there, or the first thing that failed.
/// With `auto` both ways are tried, and the one that came further is told of.
pub async fn probe(config: &Config, proxy: Proxy, timekeeper: &Timekeeper) -> Result<&'static str, Stopped> {
    let here = |error| Stopped { reached: Reached::Nothing, error };
    let limits = Limits::default();
    let tls = Tls::load(config.hub.ca_file.as_deref(), timekeeper.clone())
        .map_err(|error| here(CloudError::new("set TLS up", error)))?
        .through(proxy);
    let mut desk = SignerDesk::new(config.identity.clone(), limits.sign);
    let identity = desk.identity().await.map_err(here)?;
    let token = desk.token(identity.clone(), timekeeper, LIFETIME).await.map_err(here)?;
    let mut visit = Visit { dialer: Dialer::new(config.hub.clone()), tls, limits, identity, token };
    let first = visit.dialer.way();
    let stopped = match visit.by(first).await {
        Ok(()) => return Ok(first.name()),
        Err(stopped) => stopped,
    };
    visit.dialer.failed(first);
    let second = visit.dialer.way();
    // A hub that refuses the token does so by the other way too.
    if second == first || matches!(stopped.error.cause, Cause::Token { .. }) {
        return Err(stopped);
    }
    match visit.by(second).await {
        Ok(()) => Ok(second.name()),
        Err(other) if other.reached > stopped.reached => Err(other),
        Err(_) => Err(stopped),
    }
}

struct Visit {
    dialer: Dialer,
    tls: Tls,
    limits: Limits,
    identity: Identity,
    token: SasToken,
}

impl Visit {
    async fn by(&self, way: Way) -> Result<(), Stopped> {
        let (host, limits) = (self.identity.host.as_str(), &self.limits);
        let at = |reached| move |error| Stopped { reached, error };
        let tcp = match self.dialer.reach(way, host, &self.tls, limits).await {
            Ok(tcp) => tcp,
            Err(error) => {
                // Asked once more, for the answer alone: through a proxy the name need not be known here.
                let named = tls::look_up(host, 0, limits.connect).await.is_ok();
                return Err(Stopped {
                    reached: if named { Reached::Name } else { Reached::Resolver },
                    error,
                });
            }
        };
        let stream = self.dialer.secure(host, &self.tls, limits, tcp).await.map_err(at(Reached::Port))?;
        let wire = self.dialer.upgrade(way, host, limits, stream).await.map_err(at(Reached::Tls))?;
        self.sign_in(wire).await.map_err(at(Reached::Wire))
    }

    async fn sign_in(&self, wire: Box<dyn super::stream::Wire>) -> Result<(), CloudError> {
        let mut connection = Connection::open(&self.identity.host, wire, &self.limits).await?;
        let mut cbs = Cbs::attach(&mut connection).await?;
        cbs.put_token(&self.token, self.limits.put_token).await?;
        connection.close().await;
        Ok(())
    }
}
