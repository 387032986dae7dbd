//! What follows when a connection could not be made, or has ended: what is said of it, what can be mended at once, and
//! how long the next attempt waits. Knows the classes of failures, not how a connection is made.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::time::Instant;

use super::Running;
use crate::clock::ClockState;
use crate::cloud::deadline::beating;
use crate::cloud::error::{Cause, Class, CloudError};
use crate::cloud::hub_time::Compared;
use crate::cloud::shared::stopped;

impl Running {
    /// Says what happened, mends what can be mended, and waits as long as the failure deserves.
    pub(super) async fn after(&mut self, error: CloudError) {
        if self.shared.is_stopping() {
            return;
        }
        self.doubt_roots(&error);
        let (turns, turn) = (Arc::clone(&self.shared.turns), self.task.limits.turn);
        let mut class = error.class();
        if class == Class::Renew {
            // The first refusal may be an old token or a wrong clock; the next one is about who we are.
            if std::mem::replace(&mut self.token_refused, true) {
                class = Class::Identity;
            }
        }
        // Before the clock is compared: that may take its time.
        self.shared.report.offline(&error, class);
        let mut disputed = None;
        if error.class() == Class::Renew || error.is_about_the_time() {
            let mut stop = self.shared.stop.clone();
            let checking = async {
                tokio::select! {
                    disputed = self.check_clock() => disputed,
                    () = stopped(&mut stop) => None,
                }
            };
            disputed = beating(&turns, turn, checking).await;
        }
        // A refusal that the clock explains says nothing of the identity: by the hub's time the token has expired.
        let lifetime = TimeDelta::from_std(self.task.hub.token_lifetime).unwrap_or(TimeDelta::MAX);
        let explains = disputed.is_some_and(|ahead| error.is_about_the_time() || ahead <= -lifetime);
        let clock = if explains { ClockState::Wrong } else { self.task.timekeeper.state() };
        self.assignment.note(&error, clock);
        let wait = match (&error.cause, error.retry_after()) {
            // The provisioning service's wish makes a visit later, and never sooner.
            (Cause::Unassigned(_), Some(asked)) => self.backoff.after_failure(class.range()).max(asked),
            (_, Some(asked)) => asked,
            (_, None) => self.backoff.after_failure(class.range()),
        } / self.task.limits.hurry;
        if let Some(ahead) = disputed {
            self.shared.report.clock_disputed(&error, class, ahead, explains);
        }
        let failures = self.backoff.failures();
        let clock_ahead = disputed.map(|ahead| ahead.num_seconds());
        if self.shared.outage.first_this_hour(&error) {
            tracing::warn!(%error, clock_ahead, again_in = ?wait, failures, "not connected");
        } else {
            tracing::debug!(%error, clock_ahead, again_in = ?wait, failures, "not connected");
        }
        if beating(&turns, turn, self.assignment.is_due(self.task.limits.sign)).await {
            match self.visit().await {
                Ok(_) => return,
                Err(error) => {
                    self.doubt_roots(&error);
                    self.shared.outage.tell(&error, None, "the provisioning service did not help");
                }
            }
        }
        if matches!(class, Class::Identity | Class::Stolen) {
            self.wait_for_identity(wait).await;
        } else {
            self.wait(wait).await;
        }
    }

    /// Waits until a person may have mended it: nobody tells a running station that its key was replaced.
    async fn wait_for_identity(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        while Instant::now() < until && !self.shared.is_stopping() {
            let look = self.task.limits.look.min(until.saturating_duration_since(Instant::now()));
            if self.wait(look).await {
                return;
            }
            let mut stop = self.shared.stop.clone();
            tokio::select! {
                replaced = self.desk.was_replaced() => if replaced {
                    tracing::info!("the signer has another identity or key: signing in with it");
                    return;
                },
                () = stopped(&mut stop) => return,
            }
        }
    }

    /// A station runs for years; the roots of its system, or in `hub.ca_file`, are replaced meanwhile.
    fn doubt_roots(&mut self, error: &CloudError) {
        if error.asks_for_roots() {
            self.tls = None;
        }
    }

    /// A token that is refused when it is fresh may have been made with a wrong clock, and a certificate that is not
    /// valid may have been judged by one. How far a clock that the kernel vouches for is ahead of the hub's.
    async fn check_clock(&mut self) -> Option<TimeDelta> {
        let (Ok(identity), Ok(tls)) = (self.desk.identity().await, self.tls()) else { return None };
        match self.compare_clock(&identity, &tls).await {
            Ok(Compared::Disputed(ahead)) => Some(ahead),
            Ok(Compared::Right | Compared::Taken) => None,
            Err(error) => {
                self.shared.outage.tell(
                    &error,
                    None,
                    "the hub's time could not be compared with the station's",
                );
                None
            }
        }
    }
}
