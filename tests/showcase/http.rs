//! The smallest HTTP client that shows everything: no retries, no decoding but chunks.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")))
    }
}

/// A GET under the address's own name.
pub async fn get(address: SocketAddr, path: &str) -> Answer {
    send(address, &format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")).await
}

/// The form as a browser at `origin` sends it.
pub async fn post_form(address: SocketAddr, origin: Option<&str>, form: &str) -> Answer {
    send(address, &form_request(address, origin, form)).await
}

/// The same from a browser that is gone once it has sent it.
pub async fn post_form_and_leave(address: SocketAddr, origin: Option<&str>, form: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(form_request(address, origin, form).as_bytes()).await.unwrap();
}

fn form_request(address: SocketAddr, origin: Option<&str>, form: &str) -> String {
    let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
    let length = form.len();
    format!(
        "POST /configuration HTTP/1.1\r\nhost: {address}\r\n{origin}\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{form}"
    )
}

/// Sends bytes as they are and reads until the other side closes.
pub async fn send(address: SocketAddr, request: &str) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut bytes = Vec::new();
        // A server that closes before it has read everything resets the connection: what came counts.
        let _reset = stream.read_to_end(&mut bytes).await;
        bytes
    };
    let bytes =
        tokio::time::timeout(Duration::from_secs(60), exchange).await.expect("an answer within a minute");
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no answer to {request:.60?}: {:?}", String::from_utf8_lossy(&bytes));
    });
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    let body = bytes[end + 4..].to_vec();
    let body = if head.contains("transfer-encoding: chunked") { unchunked(&body) } else { body };
    Answer { status: head[9..12].parse().unwrap(), head, body }
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            break;
        }
        whole.extend_from_slice(&body[end + 2..end + 2 + size]);
        body = &body[end + 4 + size..];
    }
    whole
}
