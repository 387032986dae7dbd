//! One connection from the moment it is signed in until it ends: sending, renewing the token and steering run side by
//! side, and the first of them to end, ends it. Knows what runs; each of them knows the rest.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Sender;
use tokio::time::Instant;

use super::Running;
use crate::backoff::HEALTHY;
use crate::cloud::cbs::Cbs;
use crate::cloud::connection::{Connection, Ending, Links};
use crate::cloud::deadline::Bounded;
use crate::cloud::dial::Way;
use crate::cloud::drain::{Drain, End, stands};
use crate::cloud::error::{Cause, Class, CloudError};
use crate::cloud::hub_time;
use crate::cloud::renew::Renewer;
use crate::cloud::shared::{Gate, Shared, stopped};
use crate::cloud::steering::Companion;
use crate::cloud::tls::Tls;
use crate::identity::Identity;
use crate::identity::sas_token::SasToken;

/// A connection on which everything is attached.
pub(super) struct Link {
    pub(super) connection: Connection,
    pub(super) cbs: Cbs,
    pub(super) sender: Bounded<Sender>,
    pub(super) identity: Identity,
    pub(super) token: SasToken,
    pub(super) way: Way,
    pub(super) tls: Tls,
}

impl Running {
    /// Until the connection ends (why), or the station does (`None`).
    pub(super) async fn serve(&mut self, link: Link) -> Option<CloudError> {
        let Link { mut connection, mut cbs, mut sender, identity, token, way, tls } = link;
        tracing::info!(host = identity.host, device = identity.device_id, way = way.name(), "online");
        // Before the status says that it is online: it reports why it was not.
        let companion = self.steering.as_mut().map(|steering| Companion::new(steering, &identity));
        self.shared.report.online(way.name(), &token);
        self.shared.outage.end();
        self.assignment.accepted();
        let since = Instant::now();
        let limits = self.task.limits.clone();
        let renewer = Renewer {
            desk: &mut self.desk,
            timekeeper: self.task.timekeeper.clone(),
            identity: identity.clone(),
            lifetime: self.task.hub.token_lifetime,
            limits: limits.clone(),
            board: Arc::clone(&self.task.board),
            gate: &self.gate,
            seed: self.task.seed,
            outage: &mut self.renewals,
            gone: None,
        };
        let end = {
            let sending = pin!(drain_link(&mut self.shared, &self.gate, &mut sender, &identity.device_id));
            let (ending, links) = connection.split();
            let (host, port, timekeeper) =
                (&identity.host, self.task.hub.websocket_port, &self.task.timekeeper);
            // Large, and seldom wanted: not a part of what is moved about.
            let clock = Box::pin(hub_time::keep_right(host, port, &tls, timekeeper, &limits, self.task.seed));
            let amqp = Box::pin(self.dialer.amqp_is_back(way, host, &tls, &limits));
            let beside = pin!(async {
                tokio::select! {
                    biased;
                    error = amqp => error,
                    error = ended(ending, limits.idle) => error,
                    error = renewer.run(&mut cbs, token) => error,
                    error = steer(companion, links) => error,
                    never = clock => match never {},
                }
            });
            first_end(sending, beside, limits.close).await
        };
        // The one place that knows why a connection broke is the connection, unless it has told already.
        let end = match end {
            Some(CloudError { cause: Cause::Lost(_), .. }) => {
                connection.split().0.wait(Duration::from_millis(20)).await.or(end)
            }
            end => end,
        };
        drop(sender);
        connection.close().await;
        let lived = since.elapsed();
        self.backoff.after_connection(lived);
        if lived >= HEALTHY {
            self.token_refused = false;
        }
        end
    }
}

/// Until the connection ends.
async fn ended(mut ending: Ending<'_>, limit: Duration) -> CloudError {
    loop {
        if let Some(error) = ending.wait(limit).await {
            return error;
        }
    }
}

/// For ever, where there is nothing to steer.
async fn steer<'a>(companion: Option<Companion<'a>>, links: &'a mut Links) -> CloudError {
    match companion {
        Some(companion) => companion.run(links).await,
        None => std::future::pending().await,
    }
}

/// Sending, or what runs beside it: the first to end, ends the connection.
async fn first_end(
    mut sending: Pin<&mut impl Future<Output = Option<CloudError>>>,
    beside: Pin<&mut impl Future<Output = CloudError>>,
    limit: Duration,
) -> Option<CloudError> {
    tokio::select! {
        biased;
        error = beside => {
            // The sending loop sees the loss by itself, and acknowledges what was accepted. Where the hub detached the
            // link before it closed the connection, the link knows the reason.
            match tokio::time::timeout(limit, &mut sending).await {
                Ok(Some(seen)) if is_telling(&seen) && !is_telling(&error) => Some(seen),
                _ => Some(error),
            }
        }
        end = &mut sending => end,
    }
}

/// Whether it says more than that the connection is to be made anew.
fn is_telling(error: &CloudError) -> bool {
    matches!(error.cause, Cause::Refused(_)) && error.class() != Class::Soon
}

/// Sends over one link until it is gone (why), or the station stops (`None`); pauses where the hub takes nothing.
async fn drain_link(
    shared: &mut Shared,
    gate: &Gate,
    sender: &mut Bounded<Sender>,
    device_id: &str,
) -> Option<CloudError> {
    loop {
        let error = match Drain::new(shared, gate, device_id).run(sender).await {
            End::Stopped => return None,
            End::Broken(error) => return Some(error),
            End::HeldUp(error) => error,
        };
        let class = error.class();
        if matches!(class, Class::Renew | Class::Identity | Class::Stolen) {
            return Some(error);
        }
        let wait = error.retry_after().unwrap_or_else(|| shared.pauses.after_failure(class.range()));
        let wait = wait / shared.limits.hurry;
        let who = if error.is_of_the_store() { "nothing can be sent" } else { "the hub takes nothing" };
        shared.outage.tell(&error, Some(wait), &format!("{who} at the moment"));
        shared.report.held_up(&error);
        let until = Instant::now() + wait;
        while Instant::now() < until {
            if shared.is_stopping() {
                return None;
            }
            shared.beat();
            let nap = shared.limits.turn.min(until.saturating_duration_since(Instant::now()));
            tokio::select! {
                stands = stands(sender, nap) => if let Err(error) = stands {
                    return Some(error);
                },
                () = stopped(&mut shared.stop) => {}
            }
        }
    }
}
