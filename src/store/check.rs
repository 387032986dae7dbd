//! The check of the whole file, after a stop that was not an orderly one or where a reading cannot be found: in the
//! background, on a connection of its own that only reads. Knows that it may be stopped, not what is done about its
//! findings.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rusqlite::InterruptHandle;
use tokio::task::JoinHandle;

use super::doubt::Unchecked;
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
            let connection = schema::open_beside(&path)?;
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use chrono::DateTime;

    use super::super::keeper::Keeper;
    use super::*;
    use crate::clock::{SystemClock, Timekeeper};
    use crate::config;

    #[tokio::test]
    async fn a_file_is_checked_once_after_a_stop_that_was_not_an_orderly_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let config = config::Store { path: folder.path().join("readings.db"), ..config::Store::default() };
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let open = || Keeper::open(&config, &timekeeper, Arc::from("run")).expect("a store");
        assert!(open().take_unchecked().is_none(), "it is new");
        let mut keeper = open();
        let subject = keeper.take_unchecked().expect("it was not closed");
        let mut check = Check::default();
        check.begin(subject);
        let (subject, result) = check.done().await;
        keeper.checked(&subject, result);
        // Its end let go of no lock: they belong to the process.
        let program = "import sqlite3,sys; sqlite3.connect(sys.argv[1],0).execute('SELECT * FROM reading')";
        let other =
            Command::new("python3").args(["-c", program]).arg(&config.path).output().expect("python3");
        assert!(String::from_utf8_lossy(&other.stderr).contains("database is locked"), "{other:?}");
        // A disk that fails now and then has it opened again and again.
        keeper.reopen().expect("open");
        assert!(keeper.take_unchecked().is_none(), "it is checked again and again");
        // Stopped before it has begun to read, it ends all the same.
        check.begin(subject);
        check.stop().await;
        assert!(!check.is_running());
        keeper.close().expect("closed");
        assert!(open().take_unchecked().is_none(), "it was closed in order");
    }
}
