//! Keeps the readings whatever happens to the disk: the database when there is one, memory when there is none,
//! and every attempt to get from the one to the other. Blocking; the task calls it from short blocking calls.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::database::{Database, beside};
use super::lock::Lock;
use super::memory::Memory;
use super::room::{self, Limits};
use super::salvage::{Salvage, Survey};
use super::trouble::{Trouble, chain};
use super::{StoreError, journal, replace};
use crate::clock::Timekeeper;
use crate::config;
use crate::reading::Sample;
use crate::status::{StoreState, StoreStatus};

/// Readings in one transaction.
const TOGETHER: usize = 500;
/// A station that replaces its store again and again does not heal the card: then it is better to stop writing.
const REPLACEMENTS: u32 = 3;

/// A database that was not closed in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unchecked {
    pub path: PathBuf,
    identity: (u64, u64),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    config: config::Store,
    pub(super) timekeeper: Timekeeper,
    run: Arc<str>,
    database: Option<Database>,
    lock: Option<Lock>,
    salvage: Option<Salvage>,
    /// Device and inode of the database: somebody may remove it under us.
    identity: (u64, u64),
    /// Taken and not on disk: `max_loss` lets them wait, or there is no room.
    memory: Memory,
    trouble: Option<String>,
    replacements: u32,
    /// The file has to be checked, in the background.
    unchecked: bool,
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
            replacements: 0,
            unchecked: false,
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

    /// Once more from the start. A damaged one is set aside, and a new one is begun.
    fn reopen(&mut self) -> Result<(), StoreError> {
        self.database = None;
        self.salvage = None;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.config.path)?);
        }
        match self.try_open("") {
            Err(error) if Trouble::of(&error) == Trouble::Damaged => self.replace(&error),
            done => done,
        }
    }

    fn try_open(&mut self, salvage: &str) -> Result<(), StoreError> {
        let path = &self.config.path;
        replace::finish_interrupted(path)?;
        let cut_to_nothing = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
            && std::fs::metadata(beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0);
        if cut_to_nothing {
            // SQLite would delete the journal of an empty database.
            return Err(StoreError::Damaged { what: "the database is empty and its journal is not".into() });
        }
        let lost = journal::lost(&beside(path, "-wal")).unwrap_or_default();
        let waiting = replace::waiting(path);
        let survey = waiting.first().map(|aside| Survey::of(aside));
        let generation = survey.as_ref().map_or(0, Survey::generation) + waiting.len().max(1) as u64;
        let mut database = Database::open(path, generation, salvage, &self.timekeeper, &self.run)?;
        let put_back = database.put_back(lost)?;
        if put_back > 0 {
            tracing::warn!(put_back, "the end of the journal was damaged; its readings were put back");
        }
        let limits = self.limits();
        database.limit(limits)?;
        self.unchecked = !database.was_clean;
        if let (Some(aside), Some(survey)) = (waiting.into_iter().next(), survey) {
            let reason = match database.progress.salvage.as_str() {
                "" => "the store was damaged".to_owned(),
                reason => reason.to_owned(),
            };
            database.salvaging = true;
            database.last_event = database.last_event.max(survey.last_event);
            self.salvage = Some(Salvage::begin(aside, survey, reason));
        }
        self.identity = self.identity_on_disk();
        self.database = Some(database);
        room::take_on_ballast(&self.config.path);
        Ok(())
    }

    fn replace(&mut self, error: &StoreError) -> Result<(), StoreError> {
        let reason = chain(error);
        self.replacements += 1;
        if self.replacements > REPLACEMENTS {
            return Err(StoreError::Unavailable {
                reason: format!("it was replaced {REPLACEMENTS} times and is damaged again: {reason}"),
            });
        }
        tracing::error!(%reason, "the store is damaged: it is set aside");
        self.salvage = None;
        if let Some(database) = self.database.take() {
            database.abandon();
        }
        replace::set_aside(&self.config.path, self.timekeeper.now())?;
        self.try_open(&reason)
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
                    if tries > 4 || !self.cure(&error)? {
                        return Err(error);
                    }
                }
            }
        }
        if self.database.is_some() && self.trouble.take().is_some() {
            tracing::info!("the store works again");
            self.memory.tell_what_was_lost(self.timekeeper.now());
            self.write_events()?;
        }
        Ok(())
    }

    fn sync_some(&mut self) -> Result<(), StoreError> {
        let limits = self.limits();
        let path = self.config.path.clone();
        let samples: Vec<Sample> = self.memory.samples.iter().take(TOGETHER).copied().collect();
        let database = self.open_database()?;
        if !database.has_room_in_journal(&path, limits)? {
            let reason = "the journal is full: another program has been reading the database for long".into();
            return Err(StoreError::Unavailable { reason });
        }
        database.append(&samples)?;
        self.memory.samples.drain(..samples.len());
        Ok(())
    }

    /// Does what can be done about an error. True: it is worth another try.
    fn cure(&mut self, error: &StoreError) -> Result<bool, StoreError> {
        let cured = match Trouble::of(error) {
            Trouble::Full => self.make_room(),
            Trouble::Damaged => self.replace(error).map(|()| true),
            Trouble::Broken => self.reopen().map(|()| true),
            Trouble::Passing => Ok(false),
        };
        if !matches!(cured, Ok(true)) {
            self.note(error);
        }
        cured
    }

    /// By `max_size`: sent readings, then pending ones. On a disk that others have filled: the ballast, sent readings,
    /// and pending ones only when the memory is full too.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let limits = self.limits();
        let full_memory = self.memory.is_full();
        let path = self.config.path.clone();
        let Some(database) = &mut self.database else { return Ok(false) };
        let by_size = database.is_nearly_full(limits)?;
        let ballast = !by_size && room::drop_ballast(&path);
        Ok(database.evict(by_size || full_memory)? || ballast)
    }

    /// Whatever there is to do between the readings. Returns true while there is more.
    pub fn keep_house(&mut self, keep: Duration) -> bool {
        if self.database.is_some() && self.identity_on_disk() != self.identity {
            tracing::error!(path = %self.config.path.display(), "the database was taken away");
            self.database = None;
            self.trouble = Some("the database was taken away".into());
        }
        if self.database.is_none() {
            if let Err(error) = self.reopen() {
                self.note(&error);
                return false;
            }
            // Readings that waited tell whether it works again.
            if self.memory.samples.is_empty() {
                self.trouble = None;
            }
        }
        match self.one_step(keep) {
            Ok(more) => more,
            Err(error) => {
                self.cure(&error).ok();
                false
            }
        }
    }

    fn one_step(&mut self, keep: Duration) -> Result<bool, StoreError> {
        let limits = self.limits();
        let path = self.config.path.clone();
        let Some(database) = &mut self.database else { return Ok(false) };
        if !database.has_room_in_journal(&path, limits)? {
            return Ok(false);
        }
        if let Some(salvage) = &mut self.salvage {
            if database.is_nearly_full(limits)? && database.evict(false)? {
                return Ok(true);
            }
            if salvage.step(database)? {
                return Ok(true);
            }
            replace::done(&path, salvage.aside())?;
            self.salvage = None;
            database.salvaging = false;
            // Another one may wait behind it.
            return match replace::waiting(&path).is_empty() {
                true => Ok(true),
                false => self.reopen().map(|()| true),
            };
        }
        let more = database.redate_step()?
            || database.prune_old(keep)?
            || (database.is_nearly_full(limits)? && database.evict(true)?)
            || database.shrink(limits)?;
        if !more {
            room::take_on_ballast(&path);
        }
        Ok(more)
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
        self.database.as_ref().is_some_and(|database| database.salvaging || database.undated_from().is_some())
    }

    /// The database, once, when it has to be checked.
    pub fn take_unchecked(&mut self) -> Option<Unchecked> {
        let identity = self.identity;
        std::mem::take(&mut self.unchecked).then(|| Unchecked { path: self.config.path.clone(), identity })
    }

    /// The background check is done. Its findings are of no use when the file is another one by now.
    pub fn checked(&mut self, checked: &Unchecked, result: Result<(), StoreError>) {
        if let Err(error) = result
            && checked.identity == self.identity
        {
            self.cure(&error).ok();
        }
    }

    /// An event that may wait in memory.
    pub fn keep_event(&mut self, kind: &str, fields: Map<String, Value>) {
        self.memory.keep_event(kind, fields, self.timekeeper.now());
        self.write_events().ok();
    }

    fn write_events(&mut self) -> Result<(), StoreError> {
        while let Some((kind, fields, time)) = self.memory.events.front().cloned() {
            self.ask(|database| database.record_event(&kind, fields, time))?;
            self.memory.events.pop_front();
        }
        Ok(())
    }

    fn open_database(&mut self) -> Result<&mut Database, StoreError> {
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
    pub fn status(&self) -> StoreStatus {
        let base = StoreStatus {
            state: if self.trouble.is_some() { StoreState::Failing } else { StoreState::Ok },
            reason: self.trouble.clone(),
            in_memory: self.memory.samples.len() as u64,
            bytes: room::bytes(&self.config.path),
            ..StoreStatus::default()
        };
        match &self.database {
            Some(database) => database.status(base),
            None => base,
        }
    }

    /// An orderly stop.
    pub fn close(&mut self) -> Result<(), StoreError> {
        let synced = self.sync();
        if let Some(database) = self.database.take() {
            database.close()?;
        }
        self.lock = None;
        synced
    }

    fn limits(&self) -> Limits {
        Limits { max_size: self.config.max_size }
    }

    fn identity_on_disk(&self) -> (u64, u64) {
        std::fs::metadata(&self.config.path).map_or((0, 0), |file| (file.dev(), file.ino()))
    }

    fn note(&mut self, error: &StoreError) {
        let reason = match error {
            // Its reason is the trouble that was noted before.
            StoreError::Unavailable { reason } => reason.clone(),
            error => chain(error),
        };
        if self.trouble.as_ref() != Some(&reason) {
            tracing::error!(%reason, "the store does not work; readings are kept in memory");
        }
        self.trouble = Some(reason);
    }
}
