//! The one way to wait for the hub. Everything of the AMQP library that can wait is kept inside a [`Bounded`],
//! which lends it out only under a deadline: a wait without a limit cannot be written down. Knows no protocol.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::error::{Cause, CloudError};
use crate::store::StoreError;

/// Every limit there is, in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Looking the name up and connecting TCP, each address.
    pub connect: Duration,
    /// The TLS handshake; a proxy's and a WebSocket's.
    pub handshake: Duration,
    /// AMQP headers, SASL and the `open` of both sides.
    pub open: Duration,
    /// `begin`, and each `attach`.
    pub attach: Duration,
    /// put-token, from request to answer.
    pub put_token: Duration,
    /// Handing one transfer over, link credit included.
    pub send: Duration,
    /// To the outcome of a transfer, from when none is in front of it.
    pub outcome: Duration,
    /// An answer about the twin: a hub over its quota gives none.
    pub twin: Duration,
    /// Closing politely.
    pub close: Duration,
    /// The peer takes no byte for this long: the connection is dead.
    pub write: Duration,
    /// The peer says nothing for this long: the same. Half of it goes on the wire as our idle-time-out.
    pub idle: Duration,
    /// Something flows on an idle link at least this often.
    pub keep_alive: Duration,
    /// The longest any loop waits before it turns.
    pub turn: Duration,
    /// One answer of the signer (a TPM on SPI takes tens of milliseconds).
    pub sign: Duration,
    /// A station that the hub refused looks this often whether it was given another identity or key.
    pub look: Duration,
    /// Waiting for a synchronised clock before the first token.
    pub clock: Duration,
    /// Divides every wait between two attempts: 1 in the field, more where a test cannot wait for minutes.
    pub hurry: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(10),
            handshake: seconds(15),
            open: seconds(15),
            attach: seconds(15),
            put_token: seconds(15),
            send: seconds(60),
            outcome: seconds(60),
            twin: seconds(60),
            close: seconds(2),
            write: seconds(20),
            idle: seconds(60),
            keep_alive: seconds(60),
            turn: seconds(5),
            sign: seconds(20),
            look: seconds(15),
            clock: seconds(10),
            hurry: 1,
        }
    }
}

/// Waits for `work` for at most `limit`.
pub async fn within<T, E: Into<Cause>>(
    doing: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, CloudError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(cause)) => Err(CloudError::new(doing, cause.into())),
        Err(_) => Err(CloudError::new(doing, Cause::TooSlow(limit))),
    }
}

/// The same for the store, which is not the hub.
pub async fn on_disk<T>(
    doing: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, CloudError> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| CloudError::new(doing, error)),
        Err(_) => Err(CloudError::new(doing, Cause::DiskSlow(limit))),
    }
}

/// Counts turns while `work` runs, each part of which has its own deadline.
pub async fn beating<T>(turns: &AtomicU64, turn: Duration, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    loop {
        turns.fetch_add(1, Ordering::Relaxed);
        if let Ok(done) = tokio::time::timeout(turn, &mut work).await {
            return done;
        }
    }
}

/// Something whose methods may wait for ever, out of reach except under a deadline.
#[derive(Debug)]
pub struct Bounded<T>(T);

impl<T> Bounded<T> {
    /// Makes one (opens, begins, attaches) within `limit`.
    pub async fn make<E: Into<Cause>>(
        doing: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<Self, CloudError> {
        within(doing, limit, work).await.map(Self)
    }

    /// Puts one that is there already out of reach.
    pub fn ready(value: T) -> Self {
        Self(value)
    }

    /// Does one thing with it within `limit`.
    pub async fn within<R, E: Into<Cause>>(
        &mut self,
        doing: &'static str,
        limit: Duration,
        work: impl AsyncFnOnce(&mut T) -> Result<R, E>,
    ) -> Result<R, CloudError> {
        within(doing, limit, work(&mut self.0)).await
    }

    /// Listens for at most `limit`: silence is an answer too. Only for waits that can be taken up again
    /// without losing anything (`on_detach`, `on_close`, `recv` where the library does not accept by itself).
    pub async fn listen<R>(&mut self, limit: Duration, work: impl AsyncFnOnce(&mut T) -> R) -> Option<R> {
        tokio::time::timeout(limit, work(&mut self.0)).await.ok()
    }

    /// Asks what needs no waiting.
    pub fn get<R>(&self, ask: impl FnOnce(&T) -> R) -> R {
        ask(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_limit_and_says_what_it_was_for() {
        let started = tokio::time::Instant::now();
        let nothing = std::future::pending::<Result<(), std::io::Error>>();
        let error = within("attach the telemetry link", Duration::from_secs(15), nothing).await.unwrap_err();
        assert_eq!(started.elapsed(), Duration::from_secs(15));
        assert_eq!(
            error.to_string(),
            "could not attach the telemetry link: the hub did not answer within 15 s"
        );
    }
}
