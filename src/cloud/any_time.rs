//! Judges the hub's certificate when the station does not know the time. Name, chain and signatures are checked
//! as always; the dates cannot be, so the chain is first taken at the earliest moment, not before the floor, at
//! which it is valid, and once the hub has said what time it is, it has to be valid at that time too.
//! What is left to an attacker: with the key of an expired certificate for this very name, a time between the
//! floor and that expiry. Nothing but the `Date` of the answer is taken from such a connection.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_rustls::rustls::client::WebPkiServerVerifier;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{CertificateError, DigitallySignedStruct, Error, SignatureScheme};

/// A chain has at most a root and a few intermediates, each with one date to step over.
const MOST_STEPS: usize = 6;

/// The verifier of one handshake.
#[derive(Debug)]
pub struct AnyTime {
    inner: Arc<WebPkiServerVerifier>,
    floor: UnixTime,
    // Written once in the handshake, read once after it; nobody waits.
    seen: Mutex<Option<Seen>>,
}

#[derive(Debug)]
struct Seen {
    leaf: CertificateDer<'static>,
    intermediates: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
}

impl AnyTime {
    pub(super) fn new(inner: Arc<WebPkiServerVerifier>, floor: UnixTime) -> Self {
        Self { inner, floor, seen: Mutex::new(None) }
    }

    /// Whether the chain that was shown is valid at `time`.
    pub fn holds_at(&self, time: UnixTime) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().is_some_and(|seen| {
            self.inner.verify_server_cert(&seen.leaf, &seen.intermediates, &seen.name, &[], time).is_ok()
        })
    }
}

impl ServerCertVerifier for AnyTime {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut time = self.floor;
        for _ in 0..MOST_STEPS {
            match self.inner.verify_server_cert(leaf, intermediates, name, ocsp, time) {
                Ok(verified) => {
                    let seen = Seen {
                        leaf: leaf.clone().into_owned(),
                        intermediates: intermediates.iter().map(|c| c.clone().into_owned()).collect(),
                        name: name.to_owned(),
                    };
                    *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
                    return Ok(verified);
                }
                Err(Error::InvalidCertificate(CertificateError::NotValidYetContext {
                    not_before, ..
                })) if not_before.as_secs() >= time.as_secs() => {
                    time = UnixTime::since_unix_epoch(Duration::from_secs(not_before.as_secs() + 1));
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::General("no single time suits the whole certificate chain".into()))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}
