//! When the provisioning service is asked who the station is: where the TPM holds no identity, and where the hub no
//! longer knows the identity that the service once gave. Knows when; how to ask is `identity::dps`.

use std::io;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use super::deadline::Limits;
use super::error::{Cause, Class, CloudError};
use super::hub_time::{self, Compared};
use super::outage::Outage;
use super::tls::Tls;
use crate::clock::{ClockState, Timekeeper};
use crate::config;
use crate::identity::dps::{self, ReturnPolicy, Service, Trouble};
use crate::identity::tpm::attest;
use crate::identity::{Identity, IdentityError};

/// The one owner of the way to the service.
pub struct Assignment {
    identity: config::Identity,
    provisioning: config::Provisioning,
    policy: ReturnPolicy,
    trouble: watch::Sender<Option<Trouble>>,
    /// Comparisons of the clock that failed.
    uncompared: Outage,
}

impl Assignment {
    pub fn new(identity: config::Identity, provisioning: config::Provisioning) -> Self {
        let (policy, trouble) = (ReturnPolicy::default(), watch::Sender::default());
        Self { identity, provisioning, policy, trouble, uncompared: Outage::default() }
    }

    /// Why a visit takes its time; changes while one is on its way.
    pub fn trouble(&self) -> watch::Receiver<Option<Trouble>> {
        self.trouble.subscribe()
    }

    /// Whether the service is to be asked because there is no identity at all.
    pub fn is_wanted(&self, error: &CloudError) -> bool {
        self.is_configured() && matches!(error.cause, Cause::Identity(IdentityError::NotProvisioned { .. }))
    }

    /// The hub has taken the identity.
    pub fn accepted(&mut self) {
        self.policy.accepted();
    }

    /// Counts what the hub says of the identity. What says nothing of it (a slow or absent network) does not count,
    /// neither for nor against.
    pub fn note(&mut self, error: &CloudError, clock: ClockState) {
        if is_disabled(error) {
            self.policy.not_unknown();
        } else if matches!(error.class(), Class::Renew | Class::Identity) || is_no_hub(error) {
            self.policy.refused(Instant::now(), clock == ClockState::Wrong);
        }
    }

    /// Whether it is time to ask again. Only for an identity that came from the service: one that a person put
    /// there stays. The TPM is asked, for at most `limit`.
    pub async fn is_due(&mut self, limit: Duration) -> bool {
        if !self.is_configured() || !self.policy.is_due(Instant::now()) {
            return false;
        }
        let (tcti, slot) = (self.identity.tcti.clone(), self.identity.slot);
        let marked = spawn_blocking(move || attest::is_marked(&tcti, slot));
        let marked = tokio::time::timeout(limit, marked).await;
        if !matches!(marked, Ok(Ok(Ok(true)))) {
            // Not before another ten refusals; a TPM that does not answer now may do so then.
            self.policy.not_unknown();
            return false;
        }
        self.policy.asked(Instant::now());
        tracing::warn!(
            "the hub has not known this station for ten minutes: asking the provisioning service where it belongs"
        );
        true
    }

    /// Asks, and puts the answer into the TPM. Takes minutes where the service takes its time.
    pub async fn visit(
        &mut self,
        tls: Tls,
        timekeeper: &Timekeeper,
        limits: &Limits,
    ) -> Result<Identity, CloudError> {
        let service = Service {
            identity: self.identity.clone(),
            provisioning: self.provisioning.clone(),
            tls,
            timekeeper: timekeeper.clone(),
            limits: dps::Limits::default(),
            trouble: self.trouble.clone(),
        };
        visit_once(&service, limits, &mut self.uncompared).await
    }

    fn is_configured(&self) -> bool {
        !self.provisioning.id_scope.is_empty() && self.identity.source == config::IdentitySource::Tpm
    }
}

/// One visit, by the daemon or by `provision --dps`. With a wrong clock the service's own time is taken first: no
/// token could be made without. Where the clock is only not synchronised, it is compared when the service does not
/// take a token made with it.
pub async fn visit(service: &Service, limits: &Limits) -> Result<Identity, CloudError> {
    visit_once(service, limits, &mut Outage::default()).await
}

async fn visit_once(
    service: &Service,
    limits: &Limits,
    uncompared: &mut Outage,
) -> Result<Identity, CloudError> {
    let timekeeper = &service.timekeeper;
    let (host, port) = service.endpoint();
    if timekeeper.state() == ClockState::Wrong {
        hub_time::compare(host, port, &service.tls, timekeeper, limits).await?;
    }
    let mut visited = service.provision().await;
    let about_the_time = visited.as_ref().is_err_and(|error| error.about_the_time);
    if about_the_time && timekeeper.state() != ClockState::Synchronised {
        match hub_time::compare(host, port, &service.tls, timekeeper, limits).await {
            Ok(Compared::Taken) => visited = service.provision().await,
            Ok(Compared::Right | Compared::Disputed(_)) => {}
            Err(error) => {
                uncompared.tell(&error, None, "the service's time could not be compared with the station's");
            }
        }
    }
    visited.map_err(|error| CloudError::new("get an identity", Cause::Unassigned(Box::new(error))))
}

/// The identity is known, and switched off by a person: asking elsewhere would work against them.
fn is_disabled(error: &CloudError) -> bool {
    let text = match &error.cause {
        Cause::Token { description, .. } => description,
        Cause::Refused(refusal) => &refusal.description,
        _ => return false,
    };
    let text = text.to_ascii_lowercase();
    text.contains("disabled") && !text.contains("not registered")
}

/// There is no hub of this name: the name does not exist, or nothing listens where it points to. A hub that was
/// deleted looks like this; a station without a network does not.
fn is_no_hub(error: &CloudError) -> bool {
    let Cause::Io(error) = &error.cause else { return false };
    let text = error.to_string();
    // EAI_NONAME and EAI_NODATA; a resolver that cannot be reached is EAI_AGAIN.
    error.kind() == io::ErrorKind::ConnectionRefused
        || text.contains("Name or service not known")
        || text.contains("No address associated with hostname")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use chrono::DateTime;
    use hub_emulator::dps::{Dps, DpsOptions};

    use super::super::error::Refusal;
    use super::*;
    use crate::clock::{Clock as _, Stopped, SystemClock};

    fn token(description: &str) -> CloudError {
        CloudError::new("put the token", Cause::Token { status: 401, description: description.into() })
    }

    fn told(condition: &str, description: &str) -> CloudError {
        let (condition, description) = (condition.into(), description.into());
        CloudError::new("attach", Cause::Refused(Refusal { condition, description, retry_after: None }))
    }

    fn io(kind: io::ErrorKind, text: &str) -> CloudError {
        CloudError::new("connect", Cause::Io(io::Error::new(kind, text.to_owned())))
    }

    /// Whether ten of it over ten minutes lead to the service, as far as the hub's words go.
    async fn counts(error: CloudError) -> bool {
        let mut assignment = Assignment::new(config::Identity::default(), config::Provisioning::default());
        for _ in 0..20 {
            assignment.note(&error, ClockState::Plausible);
            tokio::time::advance(std::time::Duration::from_secs(60)).await;
        }
        assignment.policy.is_due(Instant::now())
    }

    #[tokio::test]
    async fn a_wrong_clock_is_put_right_by_the_services_date() {
        let folder = tempfile::tempdir().unwrap();
        let dps = Dps::start(DpsOptions { dir: folder.path().into(), ..DpsOptions::default() }).unwrap();
        let build_date = DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000);
        // A machine without a clock of its own, just started.
        let clock =
            Stopped { wall: DateTime::UNIX_EPOCH, since_boot: Duration::from_secs(5), synchronised: false };
        let timekeeper = Timekeeper::new(Arc::new(clock), build_date);
        assert_eq!(timekeeper.state(), ClockState::Wrong);
        let identity = config::Identity { tcti: "device:/nonexistent/tpm".into(), ..Default::default() };
        let provisioning = config::Provisioning {
            id_scope: dps.id_scope().into(),
            endpoint: dps.endpoint(),
            ..Default::default()
        };
        let tls = Tls::load(Some(dps.ca_file()), timekeeper.clone()).unwrap();
        let mut visit = Assignment::new(identity, provisioning);
        let error = visit.visit(tls, &timekeeper, &Limits::default()).await.unwrap_err().to_string();
        // It came as far as the TPM, which is not there.
        assert!(error.contains("there is no /nonexistent/tpm"), "{error}");
        assert_eq!(timekeeper.state(), ClockState::Plausible);
        assert!((timekeeper.now() - SystemClock::new().wall()).abs() < chrono::TimeDelta::seconds(30));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_says_that_the_identity_or_the_hub_is_gone_counts() {
        assert!(counts(token("device `a` is not registered")).await);
        assert!(counts(token("invalid signature: it matches neither key of the device")).await);
        assert!(counts(told("amqp:not-found", "DeviceNotFound")).await);
        assert!(counts(told("com.microsoft:iot-hub-not-found-error", "")).await);
        assert!(counts(io(io::ErrorKind::ConnectionRefused, "10.0.0.1:5671: connection refused")).await);
        let lookup = "looking up hub: failed to lookup address information: ";
        assert!(counts(io(io::ErrorKind::Other, &format!("{lookup}Name or service not known"))).await);
        assert!(
            !counts(io(io::ErrorKind::Other, &format!("{lookup}Temporary failure in name resolution"))).await
        );
        assert!(!counts(io(io::ErrorKind::TimedOut, "no answer")).await);
        assert!(!counts(told("amqp:connection:forced", "restart")).await);
        assert!(!counts(told("amqp:resource-limit-exceeded", "quota")).await);
        assert!(!counts(token("device `a` is disabled")).await);
        assert!(!counts(told("amqp:unauthorized-access", "The device is disabled")).await);
    }
}
