//! The hub's own certificate authority and the server certificates it makes: a good one, and one for each way a
//! certificate can be wrong. Knows rcgen and rustls; not who connects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use chrono::TimeDelta;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls;

use crate::wall::machine_now;

/// Which server certificate to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certificate {
    Good,
    /// Signed by an authority that nobody trusts.
    UnknownRoot,
    /// Good, but for `somewhere-else.invalid`.
    WrongName,
    /// Its time ended in 2001.
    Expired,
    /// Its time begins in 2090.
    NotYetValid,
    /// Good, and renewed yesterday.
    Fresh,
}

/// How the TLS layer behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TlsManner {
    pub(crate) certificate: Certificate,
    pub(crate) tls12_only: bool,
    /// Ask for a client certificate; one is not needed.
    pub(crate) ask_client: bool,
}

/// A certificate that could not be made.
#[derive(Debug, thiserror::Error)]
#[error("making the {what}")]
pub struct CertificateError {
    what: &'static str,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// The authority. Its certificate is in `pem`; keys stay in memory.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    names: Vec<String>,
    acceptors: Mutex<HashMap<TlsManner, TlsAcceptor>>,
}

impl Authority {
    /// Makes an authority, or takes the one whose certificate and key are given in PEM (so that a restarted hub
    /// is still trusted).
    pub(crate) fn new(
        names: Vec<String>,
        kept_key: Option<&str>,
    ) -> Result<(Self, String), CertificateError> {
        let failed = |source: rcgen::Error| CertificateError {
            what: "certificate authority",
            source: Box::new(source),
        };
        let key = match kept_key {
            Some(pem) => KeyPair::from_pem(pem),
            None => KeyPair::generate(),
        }
        .map_err(failed)?;
        let key_pem = key.serialize_pem();
        let params = authority_params("Weather station test authority");
        let certificate = params.self_signed(&key).map_err(failed)?;
        let authority = Self {
            pem: certificate.pem(),
            root: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            names,
            acceptors: Mutex::default(),
        };
        Ok((authority, key_pem))
    }

    /// The acceptor for this manner; made once, then kept.
    pub(crate) fn acceptor(&self, manner: TlsManner) -> Result<TlsAcceptor, CertificateError> {
        let mut made = self.acceptors.lock().expect("no code panics while it holds the acceptors");
        if let Some(acceptor) = made.get(&manner) {
            return Ok(acceptor.clone());
        }
        let acceptor =
            self.make(manner).map_err(|source| CertificateError { what: "server certificate", source })?;
        made.insert(manner, acceptor.clone());
        Ok(acceptor)
    }

    fn make(&self, manner: TlsManner) -> Result<TlsAcceptor, Box<dyn std::error::Error + Send + Sync>> {
        let names = match manner.certificate {
            Certificate::WrongName => vec!["somewhere-else.invalid".to_owned()],
            _ => self.names.clone(),
        };
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "hub-emulator");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        match manner.certificate {
            Certificate::Expired => {
                params.not_before = rcgen::date_time_ymd(2000, 1, 1);
                params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            }
            Certificate::NotYetValid => {
                params.not_before = rcgen::date_time_ymd(2090, 1, 1);
                params.not_after = rcgen::date_time_ymd(2091, 1, 1);
            }
            Certificate::Fresh => {
                params.not_before = SystemTime::from(machine_now() - TimeDelta::days(1)).into()
            }
            _ => {}
        }
        let key = KeyPair::generate()?;
        let (leaf, root) = if manner.certificate == Certificate::UnknownRoot {
            let stranger_key = KeyPair::generate()?;
            let stranger = authority_params("Nobody trusts this authority");
            let root = stranger.self_signed(&stranger_key)?.der().clone();
            (params.signed_by(&key, &Issuer::new(stranger, stranger_key))?, root)
        } else {
            (params.signed_by(&key, &self.issuer)?, self.root.clone())
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] =
            if manner.tls12_only { &[&rustls::version::TLS12] } else { rustls::ALL_VERSIONS };
        let builder =
            rustls::ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(versions)?;
        let builder = if manner.ask_client {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.root.clone())?;
            let verifier =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                    .allow_unauthenticated()
                    .build()?;
            builder.with_client_cert_verifier(verifier)
        } else {
            builder.with_no_client_auth()
        };
        let key = PrivateKeyDer::try_from(key.serialize_der())?;
        let config = builder.with_single_cert(vec![leaf.der().clone(), root], key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    // Fixed times: the certificate made again from a kept key is the same authority.
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2089, 1, 1);
    params
}
