//! TCP and TLS to the hub, shared by AMQP, WebSocket, the `Date` request and the provisioning service.
//! Knows trusted roots and the station's clock; knows nothing of what is said over the connection.
//!
//! At least TLS 1.2, the name (or IP) in the certificate is checked, no client certificate is offered, and
//! leaves are never pinned: the hub's certificates rotate without notice. Certificates are judged by the
//! station's own idea of the time, so that a Pi without a clock is not locked out once it has the hub's time.

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::time_provider::TimeProvider;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::any_time::AnyTime;
use super::proxy::Proxy;
use crate::clock::Timekeeper;
use crate::status::Failure;

/// Whom the station trusts. Made once; cheap to clone.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    roots: Arc<RootCertStore>,
    timekeeper: Timekeeper,
    proxy: Proxy,
}

impl Tls {
    /// The system's roots (Mozilla's where the system has none) and those in `ca_file`, a PEM file.
    pub fn load(ca_file: Option<&Path>, timekeeper: Timekeeper) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(path) = ca_file {
            add_file(&mut roots, path)
                .map_err(|source| TlsError::CaFile { path: path.to_owned(), source })?;
        }
        let roots = Arc::new(roots);
        let clock = Arc::new(OurTime(timekeeper.clone()));
        let config = builder(clock)?.with_root_certificates(Arc::clone(&roots)).with_no_client_auth();
        Ok(Self { config: Arc::new(config), roots, timekeeper, proxy: Proxy::default() })
    }

    /// The same, with HTTPS going through a proxy.
    pub fn through(self, proxy: Proxy) -> Self {
        Self { proxy, ..self }
    }

    /// A TCP connection for HTTPS: through the proxy where there is one.
    pub async fn reach(&self, host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
        self.proxy.connect(host, port, limit).await
    }

    /// The handshake, over any byte stream that leads to `host` (a name or an IP).
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        TlsConnector::from(Arc::clone(&self.config)).connect(server_name(host)?, stream).await
    }

    /// The handshake for a station that does not know the time: everything about the certificate is checked
    /// but its dates, which the returned [`AnyTime`] checks afterwards against the time that the hub claims.
    pub async fn connect_without_clock<S>(
        &self,
        host: &str,
        stream: S,
    ) -> io::Result<(TlsStream<S>, Arc<AnyTime>)>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let provider = Arc::new(ring::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::clone(&self.roots), provider)
            .build()
            .map_err(io::Error::other)?;
        let verifier = Arc::new(AnyTime::new(inner, unix(self.timekeeper.least_answer())));
        let config = builder(Arc::new(OurTime(self.timekeeper.clone())))
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as Arc<_>)
            .with_no_client_auth();
        let stream = TlsConnector::from(Arc::new(config)).connect(server_name(host)?, stream).await?;
        Ok((stream, verifier))
    }
}

/// Connects TCP: each address in turn, for at most `limit` each, and sets the socket up so that a dead peer is
/// noticed by the kernel too.
pub async fn tcp(host: &str, port: u16, limit: Duration) -> io::Result<TcpStream> {
    let addresses = look_up(host, port, limit).await?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", bare(host)));
    for address in addresses {
        match tokio::time::timeout(limit, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return set_up(stream),
            Ok(Err(error)) => last = io::Error::new(error.kind(), format!("{address}: {error}")),
            Err(_) => last = slow(format!("{address} did not answer within {} s", limit.as_secs_f64())),
        }
    }
    Err(last)
}

/// The addresses of a name.
pub async fn look_up(host: &str, port: u16, limit: Duration) -> io::Result<Vec<SocketAddr>> {
    let host = bare(host);
    let found = tokio::time::timeout(limit, tokio::net::lookup_host((host.to_owned(), port))).await.map_err(
        |_| {
            let text = format!("looking up {host} took longer than {} s", limit.as_secs_f64());
            io::Error::new(io::ErrorKind::TimedOut, NoName(text))
        },
    )?;
    match found {
        Ok(addresses) => Ok(addresses.collect()),
        // The loopback interface whatever else is known (RFC 6761, 6.3): a minimal system has no /etc/hosts.
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ok(vec![(Ipv4Addr::LOCALHOST, port).into()]),
        Err(error) => Err(io::Error::new(error.kind(), NoName(format!("looking up {host}: {error}")))),
    }
}

fn slow(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Keep-alive from 30 s of silence; unacknowledged bytes end the connection after 30 s (RFC 5482).
fn set_up(stream: TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(&stream, true)?;
    sockopt::set_tcp_keepidle(&stream, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&stream, 3)?;
    sockopt::set_tcp_user_timeout(&stream, 30_000)?;
    Ok(stream)
}

/// Whether a handshake failed because a certificate is not valid yet or no longer, by the station's clock.
pub fn is_about_the_time(error: &io::Error) -> bool {
    use rustls::CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
    matches!(
        of_tls(error),
        Some(rustls::Error::InvalidCertificate(
            Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. }
        ))
    )
}

/// Whether a handshake failed because of the certificate that was shown.
pub fn is_about_the_certificate(error: &io::Error) -> bool {
    matches!(of_tls(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// What kind of thing it is, for the status: the name, TLS, or the network.
pub fn failure(error: &io::Error) -> Failure {
    if is_about_the_name(error) {
        Failure::Name
    } else if of_tls(error).is_some() {
        Failure::Tls
    } else {
        Failure::Network
    }
}

/// Why a handshake failed, where that is not the network's doing.
fn of_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

/// Whether it came no further than the resolver.
pub fn is_about_the_name(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<NoName>())
}

/// The same in other words; it is still about the name where it was.
pub fn reworded(error: &io::Error, text: String) -> io::Error {
    if is_about_the_name(error) {
        return io::Error::new(error.kind(), NoName(text));
    }
    io::Error::new(error.kind(), text)
}

/// What the resolver says, or that it says nothing.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoName(String);

/// Why the trusted roots could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// `hub.ca_file`: missing, unreadable, or not a certificate.
    #[error("could not read certificates (PEM) from hub.ca_file = {}", path.display())]
    CaFile { path: PathBuf, source: BadCertificates },
    /// Cannot happen with the features this program is built with.
    #[error("could not set TLS up")]
    Setup(#[from] rustls::Error),
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error)]
pub enum BadCertificates {
    #[error(transparent)]
    Pem(#[from] pem::Error),
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
    #[error("the file holds no certificate")]
    None,
}

fn builder(
    clock: Arc<dyn TimeProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, rustls::Error> {
    ClientConfig::builder_with_details(Arc::new(ring::default_provider()), clock)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), BadCertificates> {
    let mut count = 0;
    for certificate in CertificateDer::pem_file_iter(path)? {
        roots.add(certificate?)?;
        count += 1;
    }
    if count == 0 { Err(BadCertificates::None) } else { Ok(()) }
}

fn server_name(host: &str) -> io::Result<ServerName<'static>> {
    ServerName::try_from(bare(host).to_owned()).map_err(|_| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{host} is neither a host name nor an IP"))
    })
}

/// The host as it stands before a port, in a URI or a `Host` header (RFC 3986, section 3.2.2): an IPv6 address in
/// brackets, anything else as it is.
pub fn bracketed(host: &str) -> Cow<'_, str> {
    match bare(host).parse::<Ipv6Addr>() {
        Ok(_) => format!("[{}]", bare(host)).into(),
        Err(_) => host.into(),
    }
}

/// `[::1]` without its brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The station's idea of the time, for judging certificates.
struct OurTime(Timekeeper);

impl std::fmt::Debug for OurTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OurTime")
    }
}

impl TimeProvider for OurTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix(self.0.now()))
    }
}

/// Times before 1970 count as 1970.
pub(super) fn unix(time: chrono::DateTime<chrono::Utc>) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0)))
}
