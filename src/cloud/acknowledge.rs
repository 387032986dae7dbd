//! Tells the store what the hub has accepted: one call at a time, and what is accepted meanwhile is joined into the
//! next one. Knows the store; knows no link.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::deadline::within;
use super::error::CloudError;
use super::window::Accepted;
use crate::store::{StoreError, StoreHandle};

const DOING: &str = "move the watermark";

/// See the module.
#[derive(Default)]
pub struct Acknowledging {
    accepted: Accepted,
    running: Option<BoxFuture<'static, Result<(), StoreError>>>,
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

    /// Begins the next call if there is something to tell.
    pub fn start(&mut self, store: &StoreHandle) {
        if self.is_running() || !self.accepted.is_some() {
            return;
        }
        let accepted = std::mem::take(&mut self.accepted);
        let store = store.clone();
        self.running = Some(Box::pin(async move {
            if let Some((upto, _)) = accepted.readings {
                store.acknowledge(upto).await?;
            }
            if let Some(upto) = accepted.events {
                store.acknowledge_events(upto).await?;
            }
            Ok(())
        }));
    }

    /// Waits for the running call; can be taken up again.
    pub async fn done(&mut self) -> Result<(), CloudError> {
        if let Some(running) = &mut self.running {
            let result = running.as_mut().await;
            self.running = None;
            result.map_err(|error| CloudError::new(DOING, error))?;
        }
        Ok(())
    }

    /// Tells everything.
    pub async fn finish(&mut self, store: &StoreHandle, limit: Duration) -> Result<(), CloudError> {
        while self.is_running() || self.accepted.is_some() {
            self.start(store);
            if let Some(running) = self.running.take() {
                within(DOING, limit, running).await?;
            }
        }
        Ok(())
    }
}
