//! Asks the running station over its showcase listener. Knows HTTP to one address and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::time::Instant;

use crate::check::Station;
use crate::config::Config;
use crate::store;

/// What the station answered.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Where the running station listens; a wildcard address is reached over loopback.
pub fn address(config: &Config) -> Option<SocketAddr> {
    let mut address = config.showcase.listen?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    Some(address)
}

/// One request. `Err` when nobody listens there or the answer does not come.
pub async fn ask(address: SocketAddr, method: Method, path: &str, limit: Duration) -> anyhow::Result<Answer> {
    match tokio::time::timeout(limit, exchange(address, method, path)).await {
        Ok(answer) => answer,
        Err(_) => bail!("no answer from {address} within {} s", limit.as_secs()),
    }
}

async fn exchange(address: SocketAddr, method: Method, path: &str) -> anyhow::Result<Answer> {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .with_context(|| format!("could not connect to {address}"))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", address.to_string())
        .header("connection", "close")
        .body(Empty::<Bytes>::new())?;
    // The connection is driven beside the request and dropped with it: nothing is spawned.
    let talk = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), 4 << 20)
            .collect()
            .await
            .map_err(|error| anyhow::anyhow!("could not read the answer: {error}"))?;
        anyhow::Ok(Answer { status, body: body.to_bytes() })
    };
    tokio::pin!(connection, talk);
    tokio::select! {
        answer = &mut talk => answer,
        end = &mut connection => {
            end.with_context(|| format!("{address} ended the connection"))?;
            talk.await
        }
    }
}

/// How long a station that has just begun is asked again.
const BEGINNING: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_millis(500);

/// The station that runs with this configuration: what it says, or that it is there and says nothing. One that has
/// just begun is waited for.
pub async fn station(config: &Config) -> Station {
    let until = Instant::now() + BEGINNING;
    let mut said = document(config).await;
    while said.as_ref().is_ok_and(|said| !Station::has_begun(said)) && Instant::now() < until {
        tokio::time::sleep(AGAIN).await;
        said = document(config).await;
    }
    let mute = match said {
        Ok(document) => return Station::Says(document),
        Err(mute) => mute,
    };
    // A running station holds its store, whether it listens or not.
    match store::is_held(&config.store.path) {
        Ok(false) => Station::Absent,
        Ok(true) => mute,
        Err(error) => Station::Mute {
            why: format!(
                "whether a station runs cannot be told from the lock beside {}: {error}",
                config.store.path.display()
            ),
            remedy: "run this as root or as the user of the station",
        },
    }
}

/// Its status document, or what a station is that runs and gave none.
async fn document(config: &Config) -> Result<Value, Station> {
    let address = address(config).ok_or_else(Station::mute)?;
    let answer = match ask(address, Method::GET, "/api/status", Duration::from_secs(5)).await {
        Ok(answer) => answer,
        Err(error) if nobody_listens(&error) => {
            return Err(Station::Mute {
                why: format!("a station runs but does not listen at {address} (`showcase.listen`)"),
                remedy: "see `journalctl -u weather-station` for why its page could not be opened; after a change of \
                         the configuration restart it",
            });
        }
        Err(error) => {
            return Err(Station::Mute {
                why: format!("a station runs, but {address} gave no answer of one: {error:#}"),
                remedy: ELSEWHERE,
            });
        }
    };
    let document: Option<Value> = serde_json::from_slice(&answer.body).ok();
    document.filter(|document| document.pointer("/station/storeId").is_some()).ok_or_else(|| Station::Mute {
        why: format!(
            "a station runs, but {address} answered {} and no status document: the station is overloaded, or something \
             else listens there (`showcase.listen`)",
            answer.status
        ),
        remedy: ELSEWHERE,
    })
}

const ELSEWHERE: &str =
    "give `showcase.listen` an address that nothing else has, restart the station and check again";

/// Not even another program.
pub fn nobody_listens(error: &anyhow::Error) -> bool {
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    error.root_cause().downcast_ref().is_some_and(refused)
}
