//! Which failures of an outage are worth a line of their own in the log. Knows which ones are the same.

use std::time::Duration;

use super::error::{Cause, CloudError};
use crate::hourly::{Hourly, warn_hourly};

/// What an outage has told so far.
#[derive(Debug, Default)]
pub struct Outage(Hourly);

impl Outage {
    /// Whether this failure has not been told within the last hour.
    pub fn first_this_hour(&mut self, error: &CloudError) -> bool {
        self.0.first_this_hour(what(error))
    }

    /// A line for a failure on the way, and for the same one not before an hour has passed.
    pub fn tell(&mut self, error: &CloudError, again_in: Option<Duration>, what: &str) {
        let again_in = again_in.map(tracing::field::debug);
        warn_hourly!(self.first_this_hour(error), %error, again_in, "{what}");
    }

    /// The station is online: what comes after it is another outage.
    pub fn end(&mut self) {
        self.0.end();
    }
}

/// Tells one failure from another. A hub numbers and dates what it says: there the condition counts. TLS and the clock
/// tell the present time: there the words do.
fn what(error: &CloudError) -> String {
    match &error.cause {
        Cause::Refused(refusal) => format!("{}: {}", error.doing, refusal.condition),
        Cause::Token { status, .. } => format!("{}: {status}", error.doing),
        _ => error.to_string().replace(|c: char| c.is_ascii_digit(), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(what: &str) -> CloudError {
        CloudError::new("reach the hub", Cause::Lost(what.into()))
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_is_told_once_an_hour_whatever_comes_between() {
        let mut outage = Outage::default();
        let mut told = 0;
        // Ten hours of attempts a minute, by two ways in turn.
        for attempt in 0..600 {
            let way = if attempt % 2 == 0 { "no route" } else { "no name" };
            told += u32::from(outage.first_this_hour(&lost(way)));
            tokio::time::advance(Duration::from_secs(60)).await;
        }
        assert_eq!(told, 20);
        assert!(outage.first_this_hour(&lost("something else")));
        outage.end();
        assert!(outage.first_this_hour(&lost("no route")), "of another outage");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_hub_says_is_the_same_whatever_its_number() {
        let mut outage = Outage::default();
        let token = |status, number: u32| {
            CloudError::new("sign in", Cause::Token { status, description: format!("TrackingId: {number}") })
        };
        assert!(outage.first_this_hour(&token(401, 1)));
        assert!(!outage.first_this_hour(&token(401, 2)));
        assert!(outage.first_this_hour(&token(404, 3)));
        assert!(outage.first_this_hour(&lost("the certificate has expired 5 seconds ago")));
        assert!(!outage.first_this_hour(&lost("the certificate has expired 65 seconds ago")));
    }
}
