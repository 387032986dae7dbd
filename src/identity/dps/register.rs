//! One visit to the provisioning service, from the first request to the identity in the TPM. Knows the order
//! and the limits; when to visit is somebody else's.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use percent_encoding::utf8_percent_encode;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use zeroize::Zeroizing;

use super::answer::{Meaning, meaning};
use super::enrollment::registration_id;
use super::https::{self, Ask};
use super::unassigned::Unassigned;
use crate::clock::{ClockState, Timekeeper};
use crate::cloud::tls::Tls;
use crate::config;
use crate::identity::provision::checked_identity;
use crate::identity::sas_token::{self, RESERVED};
use crate::identity::tpm::attest::{self, ServiceKey};
use crate::identity::{Identity, IdentityError, Signer};
use crate::status::Failure;

/// What IoT Edge and the C SDK speak as well.
const API_VERSION: &str = "2021-06-01";
/// The `registration` token is used within minutes.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// One request with its answer.
    pub request: Duration,
    /// The whole visit.
    pub visit: Duration,
    /// Between two questions, where the service does not say; it may say up to five minutes.
    pub pause: Duration,
    /// Failures of the network or the service in a row that end a visit.
    pub failures: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { request: seconds(30), visit: seconds(900), pause: seconds(2), failures: 6 }
    }
}

/// The longest `Retry-After` that is followed within a visit.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The service, as one station sees it.
pub struct Service {
    pub identity: config::Identity,
    pub provisioning: config::Provisioning,
    pub tls: Tls,
    pub timekeeper: Timekeeper,
    pub limits: Limits,
    /// Told why a question is asked again, for whoever watches.
    pub trouble: watch::Sender<Option<Trouble>>,
}

/// Why a question is asked again.
#[derive(Debug, Clone, PartialEq)]
pub struct Trouble {
    pub why: String,
    /// What kind of thing that is, for the status.
    pub failure: Failure,
}

impl Service {
    /// Visits the service and puts what it assigns into the TPM. A slot that was filled by hand is refused
    /// before anything is sent.
    pub async fn provision(&self) -> Result<Identity, Unassigned> {
        let deadline = Instant::now() + self.limits.visit;
        // Until when the service said that it wants to be left alone; known also when the visit is cut short.
        let mut not_before = None;
        let visited = timeout_at(deadline, self.visit(&mut not_before)).await.unwrap_or_else(|_| {
            let limit = self.limits.visit.as_secs();
            Err(self.failed(format!("it came to no end within {limit} s")).into())
        });
        visited.map_err(|error| error.not_before(not_before))
    }

    async fn visit(&self, not_before: &mut Option<Instant>) -> Result<Identity, Unassigned> {
        if self.identity.source != config::IdentitySource::Tpm {
            return Err(self.failed("it needs identity.source = \"tpm\"").into());
        }
        if self.provisioning.id_scope.is_empty() {
            let expected = "expected the ID scope of the service, such as 0ne00XXXXXX";
            return Err(self.failed(format!("provisioning.id_scope is empty; {expected}")).into());
        }
        let (tcti, slot) = (self.identity.tcti.clone(), self.identity.slot);
        let keys = self
            .in_tpm(move || {
                attest::may_fill(&tcti, slot)?;
                attest::keys(&tcti)
            })
            .await?;
        let registration = registration_id(&self.provisioning, &keys.endorsement_key)?;
        let registered = serde_json::json!({
            "registrationId": registration,
            "tpm": {
                "endorsementKey": STANDARD.encode(&keys.endorsement_key),
                "storageRootKey": STANDARD.encode(&keys.storage_root_key),
            },
        })
        .to_string();
        tracing::info!(%registration, endpoint = self.provisioning.endpoint, "asking the provisioning service");
        self.register(&registration, &registered, not_before).await
    }

    /// From the challenge to the identity in the TPM.
    async fn register(
        &self,
        registration: &str,
        body: &str,
        not_before: &mut Option<Instant>,
    ) -> Result<Identity, Unassigned> {
        let encoded = utf8_percent_encode(registration, RESERVED);
        let scope = utf8_percent_encode(&self.provisioning.id_scope, RESERVED);
        let base = format!("/{scope}/registrations/{encoded}");
        let register = format!("{base}/register?api-version={API_VERSION}");
        // Signed requests that the service answers with a new challenge: a token it does not like.
        let mut refused = 0;
        'challenge: loop {
            let key = match self.ask(Method::PUT, &register, None, body, not_before).await? {
                Meaning::Challenge { blob } => self.activate(blob).await?,
                other => return Err(self.unexpected(registration, other).into()),
            };
            let token = self.token(&key, registration).await?;
            let mut answer = self.ask(Method::PUT, &register, Some(token.as_str()), body, not_before).await?;
            loop {
                match answer {
                    Meaning::Assigned { host, device_id, blob } => {
                        let identity = checked_identity(&host, &device_id)?;
                        let key = match blob {
                            Some(blob) => self.activate(blob).await?,
                            None => key,
                        };
                        return Ok(self.keep(key, identity).await?);
                    }
                    Meaning::Assigning { operation, after } => {
                        self.pause(after).await;
                        let operation = utf8_percent_encode(&operation, RESERVED);
                        let path = format!("{base}/operations/{operation}?api-version={API_VERSION}");
                        answer = self.ask(Method::GET, &path, Some(token.as_str()), "", not_before).await?;
                    }
                    Meaning::Challenge { .. } if refused < 2 => {
                        refused += 1;
                        self.pause(None).await;
                        continue 'challenge;
                    }
                    Meaning::Challenge { .. } => return Err(self.not_taken("asks for another one")),
                    Meaning::Refused(said) => return Err(self.not_taken(&format!("says: {said}"))),
                    other => return Err(self.unexpected(registration, other).into()),
                }
            }
        }
    }

    /// One question, again while the network or the service is in trouble.
    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: &str,
        not_before: &mut Option<Instant>,
    ) -> Result<Meaning, Unassigned> {
        let (host, port) = self.endpoint();
        let mut failures = 0;
        loop {
            let (method, body) = (method.clone(), body.to_owned());
            let ask = Ask { host, port, method, path, authorization: token, body };
            let (why, after, failure) = match https::ask(&self.tls, ask, self.limits.request).await {
                Ok(answer) => match meaning(&answer) {
                    Meaning::Later { after, why } => {
                        (format!("the service is in trouble: {why}"), after, Failure::Hub)
                    }
                    other => return Ok(other),
                },
                // Asking again makes no clock right; the visitor compares it.
                Err(error)
                    if error.is_about_the_time() && self.timekeeper.state() != ClockState::Synchronised =>
                {
                    let text = format!("{error}; is the station's clock right?");
                    return Err(Unassigned::about_the_time(self.failed(text)));
                }
                Err(error) => (error.to_string(), None, error.failure()),
            };
            failures += 1;
            if let Some(after) = after {
                *not_before = Some(Instant::now() + after.min(LONGEST_PAUSE));
            }
            if failures >= self.limits.failures {
                return Err(self
                    .failed(format!(
                        "{why}; is provisioning.endpoint right, and does a firewall let port {port} through?"
                    ))
                    .into());
            }
            tracing::debug!(%why, failures, "asking the provisioning service again");
            let why = self.failed(format!("{why}; it is asked again")).to_string();
            self.trouble.send_replace(Some(Trouble { why, failure }));
            self.pause(after.or(Some(self.limits.pause * 2_u32.pow(failures)))).await;
        }
    }

    /// What the service asked for, or what is usual, and a little more: a fleet spreads out. Never less than is
    /// usual: a service that says 0 is not asked without end.
    async fn pause(&self, after: Option<Duration>) {
        let usual = self.limits.pause;
        let pause = after.unwrap_or(usual).clamp(usual, LONGEST_PAUSE.max(usual));
        sleep(pause.mul_f64(1.0 + fastrand::f64() * 0.5)).await;
    }

    async fn activate(&self, blob: Vec<u8>) -> Result<ServiceKey, IdentityError> {
        let tcti = self.identity.tcti.clone();
        self.in_tpm(move || attest::activate(&tcti, &blob)).await
    }

    async fn token(&self, key: &ServiceKey, registration: &str) -> Result<Zeroizing<String>, IdentityError> {
        if self.timekeeper.state() == ClockState::Wrong {
            let reason = self.timekeeper.status().reason;
            return Err(self.failed(format!("the clock {reason}; tokens are made once it is right")));
        }
        let resource = format!("{}/registrations/{registration}", self.provisioning.id_scope);
        let mut signer = NotKept { tcti: self.identity.tcti.clone(), key: key.clone() };
        let now = self.timekeeper.now();
        self.in_tpm(move || {
            let token = sas_token::sign(&mut signer, &resource, Some("registration"), now, TOKEN_LIFETIME)?;
            Ok(Zeroizing::new(token.secret_text().to_owned()))
        })
        .await
    }

    async fn keep(&self, key: ServiceKey, identity: Identity) -> Result<Identity, IdentityError> {
        let (tcti, slot) = (self.identity.tcti.clone(), self.identity.slot);
        let kept = identity.clone();
        self.in_tpm(move || attest::keep(&tcti, slot, &key, &kept)).await?;
        let (host, device) = (&identity.host, &identity.device_id);
        tracing::info!(%host, %device, "the provisioning service has assigned this station");
        Ok(identity)
    }

    /// TPM commands block.
    async fn in_tpm<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, IdentityError> {
        spawn_blocking(work).await.map_err(|_| self.failed("the work with the TPM ended unexpectedly"))?
    }

    /// Host and port of `provisioning.endpoint`.
    pub fn endpoint(&self) -> (&str, u16) {
        let endpoint = self.provisioning.endpoint.as_str();
        config::endpoint(endpoint).unwrap_or((endpoint, 443))
    }
}

/// Signs with a key that is not kept in the TPM.
struct NotKept {
    tcti: String,
    key: ServiceKey,
}

impl Signer for NotKept {
    fn identity(&mut self) -> Result<Identity, IdentityError> {
        Err(IdentityError::failed("asking a registration key who it is", "it has no name yet; this is a bug"))
    }

    fn sign(&mut self, data: &[u8]) -> Result<[u8; 32], IdentityError> {
        attest::sign(&self.tcti, &self.key, data)
    }
}
