//! Tells the store what the hub has accepted: one call at a time, and what is accepted meanwhile is joined into the
//! next one. What the store could not take is kept and told again. Knows the store; knows no link.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::deadline::on_disk;
use super::error::CloudError;
use super::window::Accepted;
use crate::store::{StoreError, StoreHandle};

const DOING: &str = "move the watermark";

/// See the module. It outlives the connection.
#[derive(Default)]
pub struct Acknowledging {
    accepted: Accepted,
    /// What is told with it comes back when that fails.
    running: Option<(Accepted, BoxFuture<'static, Result<(), StoreError>>)>,
}

impl Acknowledging {
    /// The hub has accepted this much more, without a hole.
    pub fn add(&mut self, more: Accepted) {
        self.accepted.readings = more.readings.or(self.accepted.readings);
        self.accepted.events = more.events.or(self.accepted.events);
    }

    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether the store does not know yet of events that were accepted: it would hand them out once more.
    pub fn tells_of_events(&self) -> bool {
        let running = self.running.as_ref().is_some_and(|(told, _)| told.events.is_some());
        running || self.accepted.events.is_some()
    }

    /// Begins the next call if there is something to tell.
    pub fn start(&mut self, store: &StoreHandle) {
        if self.is_running() || !self.accepted.is_some() {
            return;
        }
        let accepted = std::mem::take(&mut self.accepted);
        let store = store.clone();
        let call = Box::pin(async move {
            if let Some((upto, _)) = accepted.readings {
                store.acknowledge(upto).await?;
            }
            if let Some(upto) = accepted.events {
                store.acknowledge_events(upto).await?;
            }
            Ok(())
        });
        self.running = Some((accepted, call));
    }

    /// Waits for the running call; can be taken up again.
    pub async fn done(&mut self, limit: Duration) -> Result<(), CloudError> {
        let Some((_, running)) = &mut self.running else { return Ok(()) };
        let result = on_disk(DOING, limit, running.as_mut()).await;
        if let Some((told, _)) = self.running.take()
            && result.is_err()
        {
            let newer = std::mem::replace(&mut self.accepted, told);
            self.add(newer);
        }
        result
    }

    /// Tells everything.
    pub async fn finish(&mut self, store: &StoreHandle, limit: Duration) -> Result<(), CloudError> {
        while self.is_running() || self.accepted.is_some() {
            self.start(store);
            self.done(limit).await?;
        }
        Ok(())
    }
}
