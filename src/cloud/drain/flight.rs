//! The transfers that are on their way to an outcome, and since when the oldest of them is. Only its clock runs: over a
//! slow uplink bytes leave one after another, and what stands behind it may not have left yet. Knows numbers and
//! outcomes, not what was sent.

use std::collections::VecDeque;
use std::time::Duration;

use fe2o3_amqp::link::SendError;
use fe2o3_amqp_types::messaging::Outcome;
use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::time::Instant;

use crate::cloud::error::{Cause, CloudError};

const DOING: &str = "have readings accepted";

/// What the hub said to a transfer.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) number: u64,
    pub(super) outcome: Outcome,
    /// How long it was the oldest one; none where it was not.
    pub(super) waited: Option<Duration>,
}

type Delivered = (u64, Result<Outcome, SendError>);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Flight {
    deliveries: FuturesUnordered<BoxFuture<'static, Delivered>>,
    /// In the order in which they were sent.
    numbers: VecDeque<u64>,
    /// Since when the first of them is the oldest.
    since: Option<Instant>,
}

impl Flight {
    /// A transfer was handed over.
    pub(super) fn push(
        &mut self,
        number: u64,
        delivery: impl Future<Output = Result<Outcome, SendError>> + Send + 'static,
    ) {
        self.numbers.push_back(number);
        self.since.get_or_insert_with(Instant::now);
        self.deliveries.push(Box::pin(async move { (number, delivery.await) }));
    }

    pub(super) fn len(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// How long the oldest one has waited; nothing where none is on its way.
    pub(super) fn waited(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The next outcome, or that the oldest transfer has none within `limit`; never where none is on its way. May be
    /// given up without losing anything.
    pub(super) async fn next(&mut self, limit: Duration) -> Result<Settled, CloudError> {
        let Some(since) = self.since else { return std::future::pending().await };
        match tokio::time::timeout_at(since + limit, self.deliveries.next()).await {
            Ok(Some(delivered)) => self.settled(delivered),
            Ok(None) => std::future::pending().await,
            Err(_) => Err(CloudError::new(DOING, Cause::TooSlow(limit))),
        }
    }

    /// An outcome that is there already.
    pub(super) fn next_now(&mut self) -> Option<Result<Settled, CloudError>> {
        let delivered = self.deliveries.next().now_or_never().flatten()?;
        Some(self.settled(delivered))
    }

    fn settled(&mut self, (number, outcome): Delivered) -> Result<Settled, CloudError> {
        // The link is gone: how long the oldest one has waited is still asked.
        let outcome = outcome.map_err(|error| CloudError::new(DOING, error))?;
        let waited = (self.numbers.front() == Some(&number)).then(|| self.waited());
        self.numbers.retain(|other| *other != number);
        if waited.is_some() {
            self.since = (!self.numbers.is_empty()).then(Instant::now);
        }
        Ok(Settled { number, outcome, waited })
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::messaging::Accepted;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    async fn accepted_after(seconds: u64) -> Result<Outcome, SendError> {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        Ok(Outcome::Accepted(Accepted {}))
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_of_a_transfer_begins_when_nothing_is_in_front_of_it() {
        let mut flight = Flight::default();
        for number in 0..4 {
            flight.push(number, accepted_after(50 * (number + 1)));
        }
        for number in 0..4 {
            let settled = flight.next(LIMIT).await.unwrap();
            assert_eq!((settled.number, settled.waited), (number, Some(Duration::from_secs(50))));
        }
        assert!(flight.is_empty() && flight.waited().is_zero());
        // Alone, and an hour later.
        tokio::time::sleep(LIMIT * 60).await;
        flight.push(4, accepted_after(59));
        assert_eq!(flight.next(LIMIT).await.unwrap().number, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_answered_behind_it_gives_the_oldest_no_more_time() {
        let mut flight = Flight::default();
        flight.push(0, std::future::pending());
        for number in 1..10 {
            flight.push(number, accepted_after(10 * number));
        }
        let begun = Instant::now();
        let mut answered = 0;
        let error = loop {
            match flight.next(LIMIT).await {
                Ok(settled) => answered += usize::from(settled.waited.is_none()),
                Err(error) => break error,
            }
        };
        assert_eq!((begun.elapsed(), answered), (LIMIT, 6), "{error}");
        assert_eq!(flight.waited(), LIMIT);
    }
}
