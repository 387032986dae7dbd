//! One HTTPS request on a connection of its own, bounded in time and size. Knows HTTP; knows nothing of
//! what is asked.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::cloud::tls::{self, Tls};
use crate::status::Failure;

/// The service's answers are a few kilobytes.
const MAX_BODY: usize = 64 * 1024;

/// What is asked.
pub struct Ask<'a> {
    pub host: &'a str,
    pub port: u16,
    pub method: Method,
    /// With query.
    pub path: &'a str,
    /// A token: goes into the `Authorization` header and nowhere else.
    pub authorization: Option<&'a str>,
    /// JSON; empty for none.
    pub body: String,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Whole seconds; a date in this header is not used by the service.
    pub retry_after: Option<Duration>,
    pub body: Bytes,
}

/// Why there is no answer: the network, TLS, or a peer that does not speak HTTP.
#[derive(Debug, thiserror::Error)]
pub enum HttpsError {
    #[error("no answer within {} s", .0.as_secs_f64())]
    TooSlow(Duration),
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("the answer is not proper HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer is too long, or broke off: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the request cannot be written")]
    Request(#[from] hyper::http::Error),
}

impl HttpsError {
    /// The service's certificate is not valid yet or no longer, by the station's clock.
    pub fn is_about_the_time(&self) -> bool {
        matches!(self, Self::Io(error) if tls::is_about_the_time(error))
    }

    /// What kind of thing it is, for the status.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Io(error) => tls::failure(error),
            _ => Failure::Network,
        }
    }
}

/// Asks, and waits at most `limit` for the whole of it.
pub async fn ask(tls: &Tls, ask: Ask<'_>, limit: Duration) -> Result<Answer, HttpsError> {
    timeout(limit, exchange(tls, ask, limit)).await.map_err(|_| HttpsError::TooSlow(limit))?
}

async fn exchange(tls: &Tls, ask: Ask<'_>, limit: Duration) -> Result<Answer, HttpsError> {
    let stream = tls.reach(ask.host, ask.port, limit).await?;
    let stream = tls.connect(ask.host, stream).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let host = tls::bracketed(ask.host);
    let host = if ask.port == 443 { host.into_owned() } else { format!("{host}:{}", ask.port) };
    let mut request = Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .header(HOST, host)
        .header(USER_AGENT, concat!("weather-station/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/json; charset=utf-8");
    if let Some(token) = ask.authorization {
        request = request.header(AUTHORIZATION, token);
    }
    let request = request.body(Full::new(Bytes::from(ask.body)))?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let retry_after =
            answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_BODY).collect().await.map_err(HttpsError::Body)?;
        Ok(Answer { status, retry_after: retry_after.map(Duration::from_secs), body: body.to_bytes() })
    };
    // The connection only moves while it is polled; what it ends with, the answer tells better.
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        _ended = connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_keeps_the_answer_away_is_told_apart() {
        let limit = Duration::from_secs(5);
        let nameless = tls::look_up("no-such-service.invalid", 443, limit).await.unwrap_err();
        assert_eq!(HttpsError::from(nameless).failure(), Failure::Name);
        let untrusted = std::io::Error::other(tokio_rustls::rustls::Error::DecryptError);
        assert_eq!(HttpsError::from(untrusted).failure(), Failure::Tls);
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        assert_eq!(HttpsError::from(refused).failure(), Failure::Network);
        assert_eq!(HttpsError::TooSlow(limit).failure(), Failure::Network);
    }
}
