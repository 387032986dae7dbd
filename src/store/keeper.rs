//! Keeps the readings whatever happens to the disk: the database when there is one, memory when there is none,
//! and every attempt to get from the one to the other. Blocking; the task calls it from short blocking calls.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::database::{Database, beside};
use super::lock::Lock;
use super::{Page, Position, StoreError};
use crate::clock::Timekeeper;
use crate::config;
use crate::reading::Sample;
use crate::status::{StoreState, StoreStatus};

/// Readings in memory at most, when there is no room on disk: a week at one a minute.
pub(crate) const IN_MEMORY: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) config: config::Store,
    pub(super) timekeeper: Timekeeper,
    pub(super) run: Arc<str>,
    pub(super) database: Option<Database>,
    lock: Option<Lock>,
    /// Taken and not on disk: `max_loss` lets them wait, or there is no room.
    pub(super) waiting: VecDeque<Sample>,
    pub(super) trouble: Option<String>,
}

impl Keeper {
    /// Fails only when another station holds the store; every other trouble is kept and retried.
    pub fn open(config: &config::Store, timekeeper: &Timekeeper, run: Arc<str>) -> Result<Self, StoreError> {
        let mut keeper = Self {
            config: config.clone(),
            timekeeper: timekeeper.clone(),
            run,
            database: None,
            lock: None,
            waiting: VecDeque::new(),
            trouble: None,
        };
        match keeper.reopen() {
            Err(error @ StoreError::Locked { .. }) => Err(error),
            Err(error) => {
                keeper.note(&error);
                Ok(keeper)
            }
            Ok(()) => Ok(keeper),
        }
    }

    /// Once more from the start.
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        self.database = None;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.config.path)?);
        }
        self.database = Some(Database::open(&self.config.path, &self.timekeeper, &self.run)?);
        self.trouble = None;
        Ok(())
    }

    /// Takes samples in; [`Keeper::sync`] puts them on disk.
    pub fn take(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for sample in samples {
            if self.waiting.len() >= IN_MEMORY {
                self.waiting.pop_front();
            }
            self.waiting.push_back(sample);
        }
    }

    /// Puts what is in memory on disk; it stays in memory when that fails.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = self.waiting.make_contiguous();
        let database = self.database.as_mut().ok_or_else(|| unavailable(&self.trouble))?;
        let done = database.append(waiting);
        match &done {
            Ok(()) => {
                self.waiting.clear();
                self.trouble = None;
            }
            Err(error) => self.note(error),
        }
        done
    }

    pub fn pending(&mut self, after: Option<Position>, limit: usize) -> Result<Page, StoreError> {
        self.open_database()?.pending(after, limit)
    }

    pub fn open_database(&mut self) -> Result<&mut Database, StoreError> {
        self.database.as_mut().ok_or_else(|| unavailable(&self.trouble))
    }

    /// The newest synced sequence.
    pub fn last_sequence(&self) -> u64 {
        self.database.as_ref().map_or(0, |database| database.last_sequence)
    }

    /// What the status page says.
    pub fn status(&self) -> StoreStatus {
        let mut status = StoreStatus {
            state: if self.trouble.is_some() { StoreState::Failing } else { StoreState::Ok },
            reason: self.trouble.clone(),
            in_memory: self.waiting.len() as u64,
            ..StoreStatus::default()
        };
        if let Some(database) = &self.database {
            status.store_id = database.store_id.to_string();
            status.last_sequence = database.last_sequence;
            status.pending = database.last_sequence.saturating_sub(database.watermark.acknowledged);
            status.bytes = bytes(&self.config.path);
        }
        status
    }

    fn note(&mut self, error: &StoreError) {
        let reason = chain(error);
        if self.trouble.as_ref() != Some(&reason) {
            tracing::error!(%reason, "the store does not work; readings are kept in memory");
        }
        self.trouble = Some(reason);
    }
}

/// Database and journal.
pub(crate) fn bytes(database: &Path) -> u64 {
    [database.to_owned(), beside(database, "-wal")]
        .iter()
        .filter_map(|path| std::fs::metadata(path).ok())
        .map(|metadata| metadata.len())
        .sum()
}

fn unavailable(trouble: &Option<String>) -> StoreError {
    StoreError::Unavailable { reason: trouble.clone().unwrap_or_else(|| "it is not open".into()) }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
