//! The check of the whole file, after a stop that was not an orderly one or where a reading cannot be found: in the
//! background, on a connection of its own that only reads. Knows that it may be stopped, not what is done about its
//! findings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::InterruptHandle;
use tokio::task::JoinHandle;

use super::keeper::Unchecked;
use super::{StoreError, database, schema};

/// At most one at a time.
#[derive(Default)]
pub(crate) struct Check {
    running: Option<JoinHandle<Result<(), StoreError>>>,
    subject: Unchecked,
    interrupt: Arc<Mutex<Interrupt>>,
}

/// Held for an instant by either side: to leave the handle, and to use it.
#[derive(Default)]
struct Interrupt {
    handle: Option<InterruptHandle>,
    stopped: bool,
}

/// A statement that begins just now misses an interrupt: it is said again after this.
const AGAIN: Duration = Duration::from_millis(20);

impl Check {
    pub fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts it. Only where none runs: each holds a thread and the card.
    pub fn begin(&mut self, subject: Unchecked) {
        let interrupt = self.interrupt.clone();
        let path = subject.path.clone();
        self.subject = subject;
        self.running = Some(tokio::task::spawn_blocking(move || {
            let connection = schema::open_read_only(&path)?;
            if let Ok(mut interrupt) = interrupt.lock() {
                interrupt.handle = Some(connection.get_interrupt_handle());
                if interrupt.stopped {
                    return Ok(());
                }
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
        let Some(mut running) = self.running.take() else { return };
        loop {
            if let Ok(mut interrupt) = self.interrupt.lock() {
                interrupt.stopped = true;
                if let Some(handle) = &interrupt.handle {
                    handle.interrupt();
                }
            }
            if tokio::time::timeout(AGAIN, &mut running).await.is_ok() {
                return;
            }
        }
    }
}
