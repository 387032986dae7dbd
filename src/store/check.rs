//! The check of the whole file after a stop that was not an orderly one: in the background, on a connection of its
//! own that only reads. Knows that it may be stopped, not what is done about its findings.

use std::sync::{Arc, Mutex};

use rusqlite::InterruptHandle;
use tokio::task::JoinHandle;

use super::keeper::Unchecked;
use super::{StoreError, database, schema};

/// At most one at a time.
#[derive(Default)]
pub(crate) struct Check {
    running: Option<JoinHandle<Result<(), StoreError>>>,
    subject: Unchecked,
    // Held for an instant by either side: to leave the handle, and to use it.
    interrupt: Arc<Mutex<Option<InterruptHandle>>>,
}

impl Check {
    /// Starts it; the one before is forgotten.
    pub fn begin(&mut self, subject: Unchecked) {
        let interrupt = self.interrupt.clone();
        let path = subject.path.clone();
        self.subject = subject;
        self.running = Some(tokio::task::spawn_blocking(move || {
            let connection = schema::open_read_only(&path)?;
            if let Ok(mut slot) = interrupt.lock() {
                *slot = Some(connection.get_interrupt_handle());
            }
            database::check(&connection)
        }));
    }

    /// Waits for the findings; for ever where none runs.
    pub async fn done(&mut self) -> (Unchecked, Result<(), StoreError>) {
        let Some(running) = &mut self.running else { return std::future::pending().await };
        let result = running.await;
        self.running = None;
        // A check that was cut off has found nothing.
        (self.subject.clone(), result.unwrap_or(Ok(())))
    }

    /// A check of a large store must not hold up the stop.
    pub async fn stop(&mut self) {
        let Some(running) = self.running.take() else { return };
        if let Ok(slot) = self.interrupt.lock()
            && let Some(handle) = slot.as_ref()
        {
            handle.interrupt();
        }
        running.await.map(drop).ok();
    }
}
