//! Keeps the connection authorised: a new token at 80 % of the old one's life, put on the open connection between
//! two windows of transfers; and lets something flow on an idle one. Knows no readings.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::cbs::Cbs;
use super::deadline::Limits;
use super::error::{Cause, CloudError};
use super::outage::Outage;
use super::shared::Gate;
use super::token::SignerDesk;
use crate::backoff::{Backoff, Range};
use crate::clock::Timekeeper;
use crate::identity::Identity;
use crate::identity::sas_token::SasToken;
use crate::status::Board;

/// Between two attempts at a renewal that failed, while the old token holds.
const AGAIN: Range = Range::seconds(5, 5, 60);

/// See the module.
pub struct Renewer<'a> {
    pub desk: &'a mut SignerDesk,
    pub timekeeper: Timekeeper,
    pub identity: Identity,
    pub lifetime: Duration,
    pub limits: Limits,
    pub board: Arc<Board>,
    pub gate: &'a Gate,
    pub seed: u64,
    /// Renewals that failed, on the connections before too.
    pub outage: &'a mut Outage,
    /// Since when there is no identity.
    pub gone: Option<Instant>,
}

impl Renewer<'_> {
    /// Runs as long as the connection is authorised; returns why it no longer is.
    pub async fn run(mut self, cbs: &mut Cbs, token: SasToken) -> CloudError {
        let Err(error) = self.keep_authorised(cbs, token).await;
        error
    }

    async fn keep_authorised(&mut self, cbs: &mut Cbs, token: SasToken) -> Result<Infallible, CloudError> {
        let mut token = Held::new(token, &self.timekeeper);
        let mut backoff = Backoff::new(self.seed);
        let mut attempt_at = Instant::now();
        let mut flowed = Instant::now();
        let mut provisioned = self.board.provisioned.subscribe();
        loop {
            let now = Instant::now();
            if token.is_due(&self.timekeeper) && attempt_at <= now {
                self.same_identity().await?;
                match self.renew(cbs).await {
                    Ok(fresh) => {
                        tracing::info!(expires = %fresh.expiry, "token renewed on the open connection");
                        token = Held::new(fresh, &self.timekeeper);
                        backoff.reset();
                        flowed = now;
                        self.outage.end();
                    }
                    Err(error) if token.holds(&self.timekeeper) && self.may_retry(&error) => {
                        let wait = backoff.after_failure(AGAIN) / self.limits.hurry;
                        let what = "the token could not be renewed; the old one still holds";
                        self.outage.tell(&error, Some(wait), what);
                        attempt_at = Instant::now() + wait;
                    }
                    Err(error) => return Err(error),
                }
                continue;
            }
            if flowed.elapsed() >= self.limits.keep_alive {
                flowed = now;
                cbs.keep_alive(self.limits.attach).await?;
                self.same_identity().await?;
            } else if self.second_look().is_some_and(|look| look <= now) {
                self.same_identity().await?;
            }
            tokio::select! {
                () = tokio::time::sleep_until(self.wake(&token, attempt_at, flowed)) => {}
                _ = provisioned.changed() => self.same_identity().await?,
            }
        }
    }

    /// At most a turn; sooner when something is due.
    fn wake(&self, token: &Held, attempt_at: Instant, flowed: Instant) -> Instant {
        let due = token.renew_at.max(attempt_at).min(flowed + self.limits.keep_alive);
        let due = self.second_look().map_or(due, |look| due.min(look));
        let least = Instant::now() + Duration::from_millis(10);
        self.timekeeper.end_of_turn(self.limits.turn, Some(due)).max(least)
    }

    /// The signer is asked before the permit is taken: a slow TPM delays no delivery.
    async fn renew(&mut self, cbs: &mut Cbs) -> Result<SasToken, CloudError> {
        let token = self.desk.token(self.identity.clone(), &self.timekeeper, self.lifetime).await?;
        let permit = self.gate.claim().await;
        let put = cbs.put_token(&token, self.limits.put_token).await;
        drop(permit);
        put?;
        self.board.cloud.send_modify(|status| status.set_token(&token));
        Ok(token)
    }

    /// A TPM that was provisioned anew, if only with another key, means another connection, one that was emptied none; one
    /// that is away for a while says nothing.
    async fn same_identity(&mut self) -> Result<(), CloudError> {
        let gone = self.gone.take();
        match self.desk.look().await {
            Ok((identity, _)) if identity != self.identity => {
                let text = format!("the station is now {} at {}", identity.device_id, identity.host);
                Err(CloudError::new("keep the connection", Cause::Reconnect(text)))
            }
            // The hub would go on by the old key's token, and nobody would know whether it takes the new one.
            Ok((_, true)) => {
                let text = "the station has another key under the same name".to_owned();
                Err(CloudError::new("keep the connection", Cause::Reconnect(text)))
            }
            Ok((_, false)) => Ok(()),
            Err(error) if matches!(&error.cause, Cause::Identity(why) if why.is_not_provisioned()) => {
                if gone.is_some_and(|since| since.elapsed() >= self.limits.look) {
                    return Err(error);
                }
                self.gone = gone.or_else(|| Some(Instant::now()));
                Ok(())
            }
            Err(error) => {
                tracing::debug!(%error, "the signer is away");
                Ok(())
            }
        }
    }

    /// While it is provisioned anew a slot is empty for seconds: only one that is empty twice is.
    fn second_look(&self) -> Option<Instant> {
        self.gone.map(|since| since + self.limits.look)
    }

    /// A broken connection is not retried on, nor is one of another identity. Where the hub has said no by ending the
    /// link, the next attempt finds that out.
    fn may_retry(&self, error: &CloudError) -> bool {
        matches!(
            error.cause,
            Cause::TooSlow(_)
                | Cause::Token { .. }
                | Cause::Refused(_)
                | Cause::Misbehaved(_)
                | Cause::Identity(_)
                | Cause::SignerStuck(_)
        )
    }
}

/// A token with its times on the monotonic clock, which no jump of the wall clock moves.
struct Held {
    token: SasToken,
    renew_at: Instant,
    expires: Instant,
}

impl Held {
    fn new(token: SasToken, timekeeper: &Timekeeper) -> Self {
        let now = timekeeper.now();
        let left = |until: chrono::DateTime<chrono::Utc>| (until - now).to_std().unwrap_or(Duration::ZERO);
        let instant = Instant::now();
        Self { renew_at: instant + left(token.renew_at()), expires: instant + left(token.expiry), token }
    }

    /// By either clock: the monotonic one stands still in a suspend.
    fn is_due(&self, timekeeper: &Timekeeper) -> bool {
        self.renew_at <= Instant::now() || self.token.renew_at() <= timekeeper.now()
    }

    fn holds(&self, timekeeper: &Timekeeper) -> bool {
        Instant::now() < self.expires && timekeeper.now() < self.token.expiry
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use chrono::{DateTime, TimeDelta, Utc};

    use super::*;
    use crate::clock::Clock;
    use crate::identity::{IdentityError, Signer, sas_token};
    use crate::reading::BootId;

    /// A wall clock that a test may move; time since boot is tokio's, which can be paused.
    struct Wall {
        start: Instant,
        off: Mutex<TimeDelta>,
    }

    impl Clock for Wall {
        fn wall(&self) -> DateTime<Utc> {
            let elapsed = TimeDelta::from_std(self.start.elapsed()).unwrap();
            DateTime::from_timestamp(1_790_000_000, 0).unwrap() + elapsed + *self.off.lock().unwrap()
        }
        fn since_boot(&self) -> Duration {
            self.start.elapsed()
        }
        fn boot(&self) -> BootId {
            BootId(1)
        }
        fn synchronised(&self) -> bool {
            true
        }
    }

    struct Key;

    impl Signer for Key {
        fn identity(&mut self) -> Result<Identity, IdentityError> {
            Ok(Identity { host: "hub".into(), device_id: "roof".into() })
        }
        fn sign(&mut self, _data: &[u8]) -> Result<[u8; 32], IdentityError> {
            Ok([7; 32])
        }
    }

    fn held() -> (Held, Timekeeper, Arc<Wall>) {
        let wall = Arc::new(Wall { start: Instant::now(), off: Mutex::default() });
        let timekeeper = Timekeeper::new(wall.clone(), DateTime::UNIX_EPOCH);
        let hour = Duration::from_secs(3600);
        let identity = Key.identity().unwrap();
        let token = sas_token::for_device(&mut Key, &identity, timekeeper.now(), hour).unwrap();
        (Held::new(token, &timekeeper), timekeeper, wall)
    }

    async fn minutes(count: u64) {
        tokio::time::advance(Duration::from_secs(60 * count)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_at_four_fifths_of_its_life_and_holds_to_its_end() {
        let (held, timekeeper, _) = held();
        minutes(47).await;
        assert!(!held.is_due(&timekeeper));
        minutes(1).await;
        assert!(held.is_due(&timekeeper) && held.holds(&timekeeper));
        minutes(11).await;
        assert!(held.holds(&timekeeper));
        minutes(1).await;
        assert!(!held.holds(&timekeeper));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wall_clock_that_jumps_ahead_makes_it_due_and_one_that_jumps_back_does_not_stretch_it() {
        let (held, timekeeper, wall) = held();
        *wall.off.lock().unwrap() = TimeDelta::days(20);
        assert!(held.is_due(&timekeeper) && !held.holds(&timekeeper));
        *wall.off.lock().unwrap() = TimeDelta::days(-20);
        assert!(!held.is_due(&timekeeper));
        minutes(48).await;
        assert!(held.is_due(&timekeeper));
        minutes(12).await;
        assert!(!held.holds(&timekeeper));
    }
}
