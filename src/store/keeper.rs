//! Keeps the readings whatever happens to the disk: the database when there is one, memory when there is none,
//! and every attempt to get from the one to the other. Blocking; the task calls it from short blocking calls.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::StoreError;
use super::database::Database;
use super::file;
use super::lock::Lock;
use super::memory::Memory;
use super::room::Sizes;
use super::row::Row;
use super::salvage::Salvage;
use super::told::Told;
use super::trouble::Trouble;
use crate::chain::chain;
use crate::clock::Timekeeper;
use crate::config;
use crate::reading::Sample;
use crate::status::{StoreState, StoreStatus};

/// Readings in one transaction.
const TOGETHER: usize = 500;

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(super) config: config::Store,
    pub(super) timekeeper: Timekeeper,
    pub(super) run: Arc<str>,
    pub(super) database: Option<Database>,
    pub(super) lock: Option<Lock>,
    pub(super) salvage: Option<Salvage>,
    /// Device and inode of the database: somebody may remove it under us.
    pub(super) identity: (u64, u64),
    /// Taken and not on disk: `max_loss` lets them wait, or there is no room.
    pub(super) memory: Memory,
    pub(super) trouble: Option<String>,
    /// What kind it was when it was noted.
    noted: Trouble,
    pub(super) told: Told,
    /// When the ballast could not be made.
    pub(super) no_ballast: Option<Instant>,
    /// The newest store that was open, and its newest event: another one goes on above both, so that an acknowledgement
    /// of the old one moves nothing in it.
    pub(super) newest: (u64, u64),
    /// The store that was open last, and its newest sequence: this run does not give a number twice, also where the file
    /// has lost its end since.
    pub(super) went_on: Option<(Arc<str>, u64)>,
    /// Time since boot of each replacement of the last day.
    pub(super) replacements: Vec<Duration>,
    /// The file has to be checked, in the background.
    pub(super) unchecked: bool,
    /// The file that was given to the check last.
    pub(super) given_to_check: (u64, u64),
    /// Since boot: when the label was last brought up to date.
    pub(super) labelled: Duration,
    /// The file that the check found sound.
    pub(super) sound: (u64, u64),
    /// A read or write failed: what the journal holds is not believed before it is in the database.
    pub(super) distrusted: bool,
    /// The last attempt to get it there failed, and it was the database that could not be written.
    pub(super) unwritable: bool,
    /// The newest sequence before a commit that failed. It may be there all the same.
    pub(super) in_doubt: Option<u64>,
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
            salvage: None,
            identity: (0, 0),
            memory: Memory::default(),
            trouble: None,
            noted: Trouble::Passing,
            told: Told::default(),
            no_ballast: None,
            newest: (0, 0),
            went_on: None,
            replacements: Vec::new(),
            unchecked: false,
            given_to_check: (0, 0),
            labelled: Duration::ZERO,
            sound: (0, 0),
            distrusted: false,
            unwritable: false,
            in_doubt: None,
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

    /// Takes samples in; [`Keeper::sync`] puts them on disk.
    pub fn take(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for sample in samples {
            if self.memory.is_full() {
                // With `max_loss` the memory can be full before its time has come; without a disk this fails,
                // and the oldest has to go.
                self.sync().ok();
            }
            self.memory.take(sample);
        }
    }

    /// Puts what is in memory on disk; it stays in memory when that fails.
    pub fn sync(&mut self) -> Result<(), StoreError> {
        let mut tries = 0;
        while !self.memory.samples.is_empty() {
            match self.sync_some() {
                Ok(()) => tries = 0,
                Err(error) => {
                    tries += 1;
                    if !self.cure(&error)? {
                        return Err(error);
                    }
                    if tries > 4 {
                        // It can be opened each time, and not written.
                        self.note(&error);
                        return Err(error);
                    }
                }
            }
        }
        if self.database.is_some() {
            self.works();
            self.memory.tell_what_was_lost(&self.timekeeper.stamp());
            self.write_events()?;
        }
        Ok(())
    }

    fn sync_some(&mut self) -> Result<(), StoreError> {
        let samples: Vec<Sample> = self.memory.samples.iter().take(TOGETHER).copied().collect();
        let database = self.open_database()?;
        if !database.has_room_in_journal()? {
            let reason = "the journal is full: the check of the whole file still reads it".into();
            return Err(StoreError::Unavailable { reason });
        }
        let before = database.last_sequence;
        let done = database.append(&samples);
        self.in_doubt = done.is_err().then_some(before);
        done?;
        self.memory.samples.drain(..samples.len());
        Ok(())
    }

    /// A commit that failed at its sync may be found whole when the store is opened again: what it holds is not stored
    /// once more.
    pub(super) fn forget_stored(&mut self) {
        let (Some(before), Some(database)) = (self.in_doubt.take(), &self.database) else { return };
        let mut stored = database.last_sequence.saturating_sub(before);
        while stored > 0
            && let Some(sample) = self.memory.samples.pop_front()
        {
            // One that is no number was refused, and has no row.
            stored -= u64::from(Row::new(0, &self.run, &sample).is_ok());
        }
    }

    /// Lets go of the database, and remembers how far it had come.
    pub(super) fn take_database(&mut self) -> Option<Database> {
        let database = self.database.take()?;
        let (generation, event) = self.newest;
        self.newest = (generation.max(database.watermark.generation), event.max(database.last_event));
        self.went_on = Some((database.store_id.clone(), database.last_sequence));
        Some(database)
    }

    /// Asks the database, and looks after what goes wrong.
    pub fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Database) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let answer = self.open_database().and_then(question);
        if let Err(error) = &answer
            && !matches!(error, StoreError::Unavailable { .. })
        {
            self.cure(error).ok();
        }
        answer
    }

    /// Readings wait for the clock, or for the end of a salvage, before they are handed out.
    pub fn holds_back(&self) -> bool {
        self.database.as_ref().is_some_and(Database::holds_back)
    }

    /// An event that may wait in memory.
    pub fn keep_event(&mut self, kind: &str, fields: Map<String, Value>) {
        self.memory.keep_event(kind, fields, &self.timekeeper.stamp());
        self.write_events().ok();
    }

    fn write_events(&mut self) -> Result<(), StoreError> {
        while let Some((kind, fields, time)) = self.memory.events.front().cloned() {
            self.ask(|database| database.record_event(&kind, fields, time))?;
            self.memory.events.pop_front();
        }
        Ok(())
    }

    pub(super) fn open_database(&mut self) -> Result<&mut Database, StoreError> {
        let reason = || self.trouble.clone().unwrap_or_else(|| "it is not open".into());
        match &mut self.database {
            Some(database) => Ok(database),
            None => Err(StoreError::Unavailable { reason: reason() }),
        }
    }

    /// The newest synced sequence.
    pub fn last_sequence(&self) -> u64 {
        self.database.as_ref().map_or(0, |database| database.last_sequence)
    }

    /// What the status page says.
    pub fn status(&mut self) -> StoreStatus {
        let sizes = Sizes::of(&self.config.path);
        let base = StoreStatus {
            state: if self.trouble.is_some() { StoreState::Failing } else { StoreState::Ok },
            reason: self.trouble.clone(),
            in_memory: self.memory.samples.len() as u64,
            bytes: sizes.database + sizes.journal,
            ..StoreStatus::default()
        };
        match &mut self.database {
            Some(database) => {
                // Nobody else writes to them: the next call need not look again.
                database.sizes = Some(sizes);
                database.status(base)
            }
            None => base,
        }
    }

    /// An orderly stop.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        self.memory.say_what_goes();
        self.label();
        if let Some(database) = self.database.take() {
            // A check that is owed, or did not come to its end, is made at the next start.
            let sound = self.sound == self.identity;
            database.close(sound)?;
        }
        self.lock = None;
        synced
    }

    pub(super) fn identity_on_disk(&self) -> (u64, u64) {
        file::identity(&self.config.path).unwrap_or_default()
    }

    pub(super) fn works(&mut self) {
        if self.trouble.take().is_some() && self.told.works() {
            tracing::info!("the store works again");
        }
    }

    pub(super) fn note(&mut self, error: &StoreError) {
        let kind = Trouble::of(error);
        let before = std::mem::replace(&mut self.noted, kind);
        let reason = match (&self.trouble, error) {
            // The same trouble shows in whatever is tried: one reason is enough.
            (Some(reason), _) if kind == before && kind != Trouble::Passing => reason.clone(),
            // Its reason is the trouble that was noted before.
            (_, StoreError::Unavailable { reason }) => reason.clone(),
            (_, error) => chain(error),
        };
        if self.told.fails(&reason) {
            tracing::error!(%reason, "the store does not work; readings are kept in memory");
        }
        self.trouble = Some(reason);
    }
}

#[cfg(test)]
impl Keeper {
    /// Of a store in this folder, by the machine's clock.
    pub(super) fn in_folder(folder: &std::path::Path) -> Self {
        let config = config::Store { path: folder.join("readings.db"), ..config::Store::default() };
        let clock = Arc::new(crate::clock::SystemClock::new());
        let timekeeper = Timekeeper::new(clock, chrono::DateTime::UNIX_EPOCH);
        Self::open(&config, &timekeeper, "run".into()).expect("a store")
    }
}
