//! What the cloud task says of itself: keeps [`CloudStatus`] up to date without waking the page for each batch.
//! Knows no link.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use super::error::{Cause, Class, CloudError};
use super::window::Accepted;
use crate::clock::Timekeeper;
use crate::config::IdentitySource;
use crate::identity::Identity;
use crate::identity::dps::Trouble;
use crate::identity::sas_token::SasToken;
use crate::status::{Board, CloudState, Failure};

/// Watchers are woken for progress at most this often.
const EVERY: Duration = Duration::from_millis(500);

/// The rate behind the ETA forgets what is older than about this.
const MEMORY: f64 = 10.0;

/// The cloud's and the identity's pen on the board.
pub struct Reporter {
    board: Arc<Board>,
    timekeeper: Timekeeper,
    /// Why the environment's proxy is not used: told with every failure, which it may explain.
    proxy_trouble: Option<String>,
    /// Accepted, not yet told.
    untold: Accepted,
    told: Instant,
    rate: Rate,
}

impl Reporter {
    pub fn new(board: Arc<Board>, timekeeper: Timekeeper, proxy_trouble: Option<&str>) -> Self {
        let now = Instant::now();
        let proxy_trouble = proxy_trouble.map(str::to_owned);
        Self {
            board,
            timekeeper,
            proxy_trouble,
            untold: Accepted::default(),
            told: now,
            rate: Rate::new(now),
        }
    }

    /// Who we are, or why we do not know.
    pub fn identity(&self, source: IdentitySource, known: Result<&Identity, &CloudError>) {
        self.board.identity.send_if_modified(|status| {
            let (identity, reason) = match known {
                Ok(identity) => (Some(identity.clone()), None),
                Err(error) => (None, Some(error.cause.to_string())),
            };
            let changed = status.source != source || status.identity != identity || status.reason != reason;
            status.source = source;
            status.identity = identity;
            status.reason = reason;
            changed
        });
    }

    pub fn connecting(&self) {
        self.state(CloudState::Connecting, None, None, None);
    }

    pub fn online(&self, transport: &'static str, token: &SasToken) {
        self.state(CloudState::Online, None, None, Some(transport));
        self.board.cloud.send_modify(|status| {
            status.connections += 1;
            status.set_token(token);
        });
    }

    /// Connected, and yet nothing can be sent at the moment.
    pub fn held_up(&self, error: &CloudError) {
        let why = explain(error, error.class());
        // When it goes on nobody knows.
        self.board.cloud.send_modify(|status| (status.reason, status.eta) = (Some(why), None));
    }

    /// Not connected, and what the failure was found to mean.
    pub fn offline(&self, error: &CloudError, class: Class) {
        self.not_connected(explain(error, class), error.failure(class));
    }

    /// Not connected, and the hub's time is not the machine's, for which the kernel vouches. Where that does not
    /// explain the failure it is said beside what does.
    pub fn clock_disputed(&self, error: &CloudError, class: Class, ahead: TimeDelta, explains: bool) {
        let minutes = (ahead.abs() + TimeDelta::seconds(30)).num_minutes().unsigned_abs();
        let span = humantime::format_duration(Duration::from_secs(minutes * 60));
        let side = if ahead < TimeDelta::zero() { "behind" } else { "ahead of" };
        let what = if explains { error.to_string() } else { explain(error, class) };
        let reason = format!(
            "{what}; the machine's clock is {span} {side} the hub's, though the system calls it synchronised: see \
             which time server it follows (`timedatectl timesync-status`)"
        );
        self.not_connected(reason, if explains { Some(Failure::Clock) } else { error.failure(class) });
    }

    fn not_connected(&self, mut reason: String, failure: Option<Failure>) {
        if let Some(trouble) = &self.proxy_trouble {
            reason = format!("{reason}; {trouble}");
        }
        self.state(CloudState::Offline, Some(reason), failure, None);
    }

    /// A visit to the provisioning service does not go on for this reason, and tries again by itself.
    pub fn trouble(&self, Trouble { why, failure }: Trouble) {
        self.board.cloud.send_modify(|status| (status.reason, status.failure) = (Some(why), Some(failure)));
    }

    pub fn stopped(&self) {
        self.state(CloudState::Offline, Some("the station is ending".into()), None, None);
    }

    /// The hub has accepted this much more.
    pub fn accepted(&mut self, more: Accepted) {
        self.untold.messages += more.messages;
        self.untold.readings_count += more.readings_count;
        self.untold.readings = more.readings.or(self.untold.readings);
        self.rate.add(Instant::now(), more.readings_count);
        if self.told.elapsed() >= EVERY {
            self.tell();
        }
    }

    /// Tells what is untold; called when a loop has nothing better to do.
    pub fn tell(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        if untold.messages == 0 {
            let drained = self.board.store.borrow().pending == 0;
            self.board.cloud.send_if_modified(|status| drained && status.eta.take().is_some());
            return;
        }
        self.told = Instant::now();
        let now = self.timekeeper.now();
        let eta = self.eta(now, untold.readings_count as u64);
        self.board.cloud.send_modify(|status| {
            status.accepted += untold.messages as u64;
            status.last_accepted = Some(now);
            status.reason = None;
            status.eta = eta;
            if let Some((_, sequence)) = untold.readings {
                status.last_accepted_sequence = sequence;
            }
        });
    }

    /// When something is left to tell.
    pub fn due(&self) -> Option<Instant> {
        (self.untold.messages > 0).then(|| self.told + EVERY)
    }

    /// The store hears of what was `accepted` just now a little later.
    fn eta(&self, now: DateTime<Utc>, accepted: u64) -> Option<DateTime<Utc>> {
        let pending = self.board.store.borrow().pending.saturating_sub(accepted);
        let rate = self.rate.per_second();
        if pending == 0 || rate <= 0.0 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = (pending as f64 / rate).min(1e9);
        #[expect(clippy::cast_possible_truncation, reason = "below 1e12")]
        Some(now + TimeDelta::milliseconds((seconds * 1000.0) as i64))
    }

    fn state(
        &self,
        state: CloudState,
        reason: Option<String>,
        failure: Option<Failure>,
        transport: Option<&'static str>,
    ) {
        let now = self.timekeeper.stamp();
        self.board.cloud.send_modify(|status| {
            // The reason of the last failure stays readable while the next attempt runs.
            if state != CloudState::Connecting || reason.is_some() {
                (status.reason, status.failure) = (reason, failure);
            }
            if status.since.is_none() || (status.state == CloudState::Online) != (state == CloudState::Online)
            {
                status.since = Some(now);
            }
            status.state = state;
            status.transport = transport;
            if state != CloudState::Online {
                status.eta = None;
            }
        });
    }
}

/// Says it in a sentence, with what to do where a human can do something.
fn explain(error: &CloudError, class: Class) -> String {
    let advice = match class {
        Class::Stolen => {
            "; another station signs in with this identity: give each station its own (`provision`)"
        }
        // The service's own words say what to do, to whoever runs `provision --dps` as well; there nothing tries again.
        Class::Identity if matches!(error.cause, Cause::Unassigned(_)) => {
            " (the station tries again by itself)"
        }
        Class::Identity => "; check that the device exists and is enabled at the hub, or provision it again",
        Class::Quota if !says_quota(error) => {
            "; the hub is suspended, or does not allow this: see its page in the portal"
        }
        Class::Quota => "; the hub's daily quota is spent, it is renewed at 00:00 UTC",
        Class::Slowly => "; the hub asks the station to slow down",
        _ => "",
    };
    format!("{error}{advice}")
}

/// Whether the quota is spent; a hub that is suspended is asked as seldom.
fn says_quota(error: &CloudError) -> bool {
    matches!(&error.cause, Cause::Refused(refusal) if refusal.is_about_the_quota())
}

/// Readings accepted per second, recent ones weighing more.
#[derive(Debug)]
struct Rate {
    since: Instant,
    fresh: f64,
    smooth: Option<f64>,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { since: now, fresh: 0.0, smooth: None }
    }

    fn add(&mut self, now: Instant, readings: usize) {
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let readings = readings as f64;
        self.fresh += readings;
        let elapsed = now.duration_since(self.since).as_secs_f64();
        if elapsed >= 1.0 {
            let rate = self.fresh / elapsed;
            let keep = (-elapsed / MEMORY).exp();
            self.smooth = Some(self.smooth.map_or(rate, |smooth| smooth * keep + rate * (1.0 - keep)));
            self.fresh = 0.0;
            self.since = now;
        }
    }

    fn per_second(&self) -> f64 {
        self.smooth.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests;
