//! The way through an HTTP proxy (RFC 9110, section 9.3.6: CONNECT), for networks that let nothing out directly. Only
//! HTTPS goes through it: the WebSocket, the `Date` request and the provisioning service, as with Microsoft's SDKs.
//! Knows the environment's customs; knows nothing of TLS.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::tls;

/// An answer's head, at most.
const MOST: usize = 16 * 1024;

/// Which proxy, and for whom not. `Debug` does not show the credentials.
#[derive(Clone, Default)]
pub struct Proxy {
    server: Option<Server>,
    /// Hosts that are reached directly, in lower case; `*` is everyone.
    direct: Vec<String>,
    trouble: Option<String>,
}

#[derive(Clone)]
struct Server {
    host: String,
    port: u16,
    /// `Basic ...`: a secret.
    authorization: Option<zeroize::Zeroizing<String>>,
}

impl Proxy {
    /// From `https_proxy` and `no_proxy` (or in capitals). One that cannot be understood is not used, which
    /// [`Proxy::trouble`] tells: a station must not stop recording for it.
    pub fn from_environment() -> Self {
        let get = |name: &str| {
            let value = std::env::var(name).or_else(|_| std::env::var(name.to_ascii_uppercase()));
            value.ok().filter(|value| !value.is_empty())
        };
        Self::parse(get("https_proxy").as_deref(), get("no_proxy").as_deref()).unwrap_or_else(|error| Self {
            trouble: Some(format!("{error}; until that is put right no proxy is used")),
            ..Self::default()
        })
    }

    /// Why the environment's proxy is not used, for people.
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// `http://[user[:password]@]host[:port]`, and a comma-separated list of hosts and domains.
    pub fn parse(proxy: Option<&str>, direct: Option<&str>) -> Result<Self, ProxyError> {
        let server = proxy.map(Server::parse).transpose()?;
        let direct = direct
            .unwrap_or_default()
            .split(',')
            .map(|entry| entry.trim().trim_start_matches("*.").trim_start_matches('.').to_ascii_lowercase());
        Ok(Self { server, direct: direct.filter(|entry| !entry.is_empty()).collect(), trouble: None })
    }

    /// A TCP connection that leads to `host`, for at most `limit` a step.
    pub async fn connect(&self, host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
        let Some(server) = self.server.as_ref().filter(|_| !self.is_direct(host)) else {
            return tls::tcp(host, port, limit).await;
        };
        let through = |error: io::Error| {
            let text = format!("through the proxy {}:{}: {error}", server.host, server.port);
            tls::reworded(&error, text)
        };
        let mut stream = tls::tcp(&server.host, server.port, limit).await.map_err(through)?;
        let asking = tokio::time::timeout(limit, server.ask(&mut stream, host, port));
        let slow = || io::Error::new(io::ErrorKind::TimedOut, "it did not answer");
        asking.await.unwrap_or_else(|_| Err(slow())).map_err(through)?;
        Ok(stream)
    }

    fn is_direct(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        self.direct.iter().any(|entry| {
            entry == "*"
                || host == *entry
                || host.strip_suffix(entry.as_str()).is_some_and(|front| front.ends_with('.'))
        })
    }
}

impl Server {
    fn parse(text: &str) -> Result<Self, ProxyError> {
        let rest = match text.split_once("://") {
            Some(("http", rest)) => rest,
            Some((scheme, _)) if is_scheme(scheme) => return Err(ProxyError::Scheme(scheme.to_owned())),
            _ => text,
        };
        let rest = rest.trim_end_matches('/');
        let (credentials, address) = rest.rsplit_once('@').map_or((None, rest), |(c, a)| (Some(c), a));
        let bracketed = address.ends_with(']');
        let (host, port) = match address.rsplit_once(':').filter(|_| !bracketed) {
            Some((host, port)) => (host, port.parse().map_err(|_| ProxyError::Port)?),
            None => (address, 80),
        };
        if host.is_empty() {
            return Err(ProxyError::NoHost);
        }
        let authorization = credentials.map(|credentials| {
            let plain: Vec<u8> = percent_decode_str(credentials).collect();
            format!("Basic {}", STANDARD.encode(plain)).into()
        });
        Ok(Self { host: host.to_owned(), port, authorization })
    }

    async fn ask(&self, stream: &mut TcpStream, host: &str, port: u16) -> io::Result<()> {
        let host = tls::bracketed(host);
        let mut request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str("Proxy-Authorization: ");
            request.push_str(authorization);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(zeroize::Zeroizing::new(request).as_bytes()).await?;
        let mut head = Vec::new();
        // Byte by byte: what follows the empty line belongs to TLS.
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
            if head.len() > MOST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "its answer has no end"));
            }
        }
        let head = String::from_utf8_lossy(&head);
        let status = head.lines().next().unwrap_or_default();
        match status.split_whitespace().nth(1) {
            Some("200") => Ok(()),
            Some("407") => {
                let text = "it wants a user and a password (https_proxy=http://user:password@host:port)";
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            _ => Err(io::Error::other(format!("it answered `{}`", status.trim()))),
        }
    }
}

/// RFC 3986, section 3.1; anything else may be a password with `://` in it.
fn is_scheme(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let server = self.server.as_ref().map(|server| format!("{}:{}", server.host, server.port));
        f.debug_struct("Proxy").field("server", &server).field("direct", &self.direct).finish()
    }
}

/// Why the environment's proxy cannot be used. Never shows the credentials.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("https_proxy begins with `{0}://`; only http:// proxies are supported")]
    Scheme(String),
    /// What stands in its place may be a password without a host.
    #[error(
        "https_proxy has no number from 1 to 65535 as its port, expected http://[user:password@]host:port"
    )]
    Port,
    #[error("https_proxy names no host, expected http://[user:password@]host:port")]
    NoHost,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(text: &str) -> Server {
        Server::parse(text).unwrap()
    }

    #[test]
    fn the_usual_spellings_are_understood() {
        for text in ["http://proxy.local:3128", "http://proxy.local:3128/", "proxy.local:3128"] {
            let server = server(text);
            assert_eq!((server.host.as_str(), server.port), ("proxy.local", 3128));
            assert!(server.authorization.is_none());
        }
        assert_eq!(server("http://proxy.local").port, 80);
        assert_eq!(server("http://[::1]:8080").host, "[::1]");
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let proxy = Proxy::parse(Some("http://me:p%40ss@proxy:3128"), None).unwrap();
        let authorization = proxy.server.as_ref().unwrap().authorization.as_ref().unwrap();
        assert_eq!(authorization.as_str(), "Basic bWU6cEBzcw==");
        assert_eq!(format!("{proxy:?}"), "Proxy { server: Some(\"proxy:3128\"), direct: [] }");
    }

    #[tokio::test]
    async fn a_host_without_a_name_is_asked_for_by_its_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::parse(Some(&listener.local_addr().unwrap().to_string()), None).unwrap();
        for (host, named) in
            [("::1", "[::1]"), ("[::1]", "[::1]"), ("192.0.2.7", "192.0.2.7"), ("hub", "hub")]
        {
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut head = Vec::new();
                stream.read_buf(&mut head).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                String::from_utf8(head).unwrap()
            };
            let (connected, head) = tokio::join!(proxy.connect(host, 443, Duration::from_secs(5)), answering);
            connected.unwrap();
            assert_eq!(head, format!("CONNECT {named}:443 HTTP/1.1\r\nHost: {named}:443\r\n\r\n"));
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_found_is_a_matter_of_its_name() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let closed = listener.local_addr().unwrap().to_string();
        drop(listener);
        for (address, is_name) in [("no-such-proxy.invalid:3128", true), (closed.as_str(), false)] {
            let proxy = Proxy::parse(Some(address), None).unwrap();
            let error = proxy.connect("hub", 443, Duration::from_secs(5)).await.unwrap_err();
            assert_eq!(tls::is_about_the_name(&error), is_name, "{error}");
            assert!(error.to_string().starts_with(&format!("through the proxy {address}: ")), "{error}");
        }
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let message = |text| Server::parse(text).err().unwrap().to_string();
        assert_eq!(
            message("socks5://proxy:1080"),
            "https_proxy begins with `socks5://`; only http:// proxies are supported"
        );
        assert!(message("http://proxy:many").contains("as its port"));
        assert!(message("http://:3128").contains("names no host"));
        for without_host in ["http://user:secret", "user:secret", "user:secret://"] {
            assert!(!message(without_host).contains("secret"), "{}", message(without_host));
        }
    }

    #[test]
    fn hosts_and_domains_can_be_reached_directly() {
        let proxy = Proxy::parse(Some("http://proxy"), Some("localhost, .example.org,*.net")).unwrap();
        for host in ["localhost", "example.org", "hub.EXAMPLE.org", "a.net"] {
            assert!(proxy.is_direct(host), "{host}");
        }
        for host in ["hub.azure-devices.com", "notexample.org", "localhost.evil.com"] {
            assert!(!proxy.is_direct(host), "{host}");
        }
        assert!(Proxy::parse(Some("http://proxy"), Some("*")).unwrap().is_direct("anything"));
    }
}
