//! One visit to the hub without sending anything: name, port, TLS, token. For `check`, and only while no station
//! runs: a second connection of the same device would steal the first one's links.

use std::time::Duration;

use super::cbs::Cbs;
use super::connection::Connection;
use super::deadline::Limits;
use super::dial::Dialer;
use super::error::{Cause, CloudError};
use super::proxy::Proxy;
use super::tls::Tls;
use super::token::SignerDesk;
use crate::clock::Timekeeper;
use crate::config::Config;

/// A token for this long is enough to be let in.
const LIFETIME: Duration = Duration::from_secs(120);

/// What the hub said to a station with this configuration: the way that led there, or the first thing that failed.
/// With `auto` both ways are tried.
pub async fn probe(config: &Config, timekeeper: &Timekeeper) -> Result<&'static str, CloudError> {
    let limits = Limits::default();
    let tls = Tls::load(config.hub.ca_file.as_deref(), timekeeper.clone())
        .map_err(|error| CloudError::new("set TLS up", Cause::Tls(error)))?
        // A proxy that cannot be understood is told of by the station itself when it starts.
        .through(Proxy::from_environment().unwrap_or_default());
    let mut desk = SignerDesk::new(config.identity.clone(), limits.sign);
    let identity = desk.identity().await?;
    let token = desk.token(identity.clone(), timekeeper, LIFETIME).await?;
    let mut dialer = Dialer::new(config.hub.clone());
    let first = dialer.way();
    loop {
        let way = dialer.way();
        let opened = async {
            let wire = dialer.dial(way, &identity.host, &tls, &limits).await?;
            Connection::open(&identity.host, wire, &limits).await
        };
        match opened.await {
            Ok(mut connection) => {
                let mut cbs = Cbs::attach(&mut connection).await?;
                cbs.put_token(&token, limits.put_token).await?;
                connection.close().await;
                return Ok(way.name());
            }
            Err(error) => {
                dialer.failed(way);
                // One round: what the dialer would try next has failed already, or is the same.
                if way != first || dialer.way() == first {
                    return Err(error);
                }
            }
        }
    }
}
