//! Attaches one group of links at a time, beside everything else. An attach is not given up when it is slow: over an
//! answer that nobody waits for the AMQP library ends the whole session, and telemetry with it. Knows when; what is
//! attached is known to `links`.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::super::connection::Links;
use super::super::error::{Cause, CloudError};
use super::links::{Attached, Kind, attach};

/// The links' owner, or who has borrowed them.
#[derive(Default)]
pub struct Attaching<'l> {
    links: Option<&'l mut Links>,
    running: Option<Running<'l>>,
}

struct Running<'l> {
    kind: Kind,
    since: Instant,
    usual: Duration,
    /// That it takes longer than usual was told.
    told: bool,
    work: BoxFuture<'l, (&'l mut Links, Result<Attached, CloudError>)>,
}

/// What became of the group of this kind.
#[derive(Debug)]
pub enum Progress {
    /// There is no answer in the usual time; it is waited for.
    Slow(Kind, CloudError),
    Done(Kind, Outcome),
}

/// The links, or why there are none.
pub type Outcome = Result<Box<Attached>, CloudError>;

impl<'l> Attaching<'l> {
    pub fn new(links: &'l mut Links) -> Self {
        Self { links: Some(links), running: None }
    }

    /// Whether a group can be attached now.
    pub fn is_free(&self) -> bool {
        self.links.is_some()
    }

    /// Begins with a group; does nothing while another one is under way.
    pub fn begin(&mut self, kind: Kind, device_id: &str) {
        let Some(links) = self.links.take() else { return };
        let (device_id, usual) = (device_id.to_owned(), links.usual());
        let work = Box::pin(async move {
            let attached = attach(kind, links, &device_id).await;
            (links, attached)
        });
        self.running = Some(Running { kind, since: Instant::now(), usual, told: false, work });
    }

    /// What comes next of the group that is being attached, or never where none is. May be given up without losing
    /// anything.
    pub async fn progress(&mut self) -> Progress {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let kind = running.kind;
        tokio::select! {
            biased;
            (links, attached) = &mut running.work => {
                self.running = None;
                self.links = Some(links);
                Progress::Done(kind, attached.map(Box::new))
            }
            () = tokio::time::sleep_until(running.since + running.usual), if !running.told => {
                running.told = true;
                Progress::Slow(kind, CloudError::new(kind.doing(), Cause::TooSlow(running.usual)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn that_an_attach_is_slow_is_told_once_and_it_is_waited_for() {
        let usual = Duration::from_secs(15);
        let mut attaching = Attaching {
            links: None,
            running: Some(Running {
                kind: Kind::Methods,
                since: Instant::now(),
                usual,
                told: false,
                work: Box::pin(std::future::pending()),
            }),
        };
        let begun = Instant::now();
        // Given up in between, as a loop does that has something else to do.
        let early = tokio::time::timeout(usual / 2, attaching.progress()).await;
        assert!(early.is_err(), "{early:?}");
        let Progress::Slow(Kind::Methods, error) = attaching.progress().await else { panic!("it is slow") };
        assert_eq!(begun.elapsed(), usual);
        assert_eq!(
            error.to_string(),
            "could not attach the method links: the hub did not answer within 15 s"
        );
        let later = tokio::time::timeout(usual * 10, attaching.progress()).await;
        assert!(later.is_err(), "{later:?}");
        assert!(!attaching.is_free());
    }
}
