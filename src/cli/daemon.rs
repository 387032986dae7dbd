//! Asks the running station over its showcase listener. Knows HTTP to one address and nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;

use crate::config::Config;

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

/// A runtime for the commands that ask one thing.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("could not start the asynchronous run time")
}
