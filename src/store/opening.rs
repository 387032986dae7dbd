//! How the keeper comes to a database: opens it, puts back what its journal had lost, and takes a damaged one out of the
//! way for a new one. Knows the order of these steps, on which it depends that a cut between them spoils nothing.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::DateTime;

use super::StoreError;
use super::database::{Database, beside};
use super::keeper::Keeper;
use super::lock::Lock;
use super::lost::{self, Lost};
use super::room::Limits;
use super::salvage::Salvage;
use super::survey::Survey;
use super::trouble::{Trouble, is_unreadable, is_unwritable};
use super::{file, journal, label, replace, room};
use crate::chain::chain;

/// A station that replaces its store again and again does not heal the card: then it is better to stop writing.
const REPLACEMENTS: usize = 3;
/// Counted over this time.
const DAY: Duration = Duration::from_secs(86_400);

impl Keeper {
    /// Once more from the start. A damaged one is set aside, and a new one is begun.
    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        drop(self.take_database());
        self.salvage = None;
        if self.lock.is_none() {
            self.lock = Some(Lock::take(&self.config.path)?);
        }
        match self.try_open("") {
            Err(error) if Trouble::of(&error) == Trouble::Damaged || is_unreadable(&error) => {
                self.replace(&error)
            }
            done => done,
        }
    }

    /// On a full disk not even the index of the journal can be made: the ballast gives room for it.
    fn try_open(&mut self, salvage: &str) -> Result<(), StoreError> {
        let done = self.open_files(salvage);
        let full =
            |error: &StoreError| Trouble::of(error) == Trouble::Full || room::is_short(&self.config.path);
        match done {
            Err(error) if full(&error) && room::drop_ballast(&self.config.path) => {
                tracing::warn!(error = %chain(&error), "the disk is full: the ballast goes, to open the store");
                self.open_files(salvage)
            }
            done => done,
        }
    }

    fn open_files(&mut self, salvage: &str) -> Result<(), StoreError> {
        let path = self.config.path.clone();
        replace::finish_interrupted(&path)?;
        refuse_what_is_no_store(&path)?;
        let lost = lost::lost(&beside(&path, "-wal")).unwrap_or_default();
        self.sync_journal(&path)?;
        let waiting = replace::waiting(&path);
        let survey = waiting.first().map(|aside| Survey::of(aside));
        let mut database = Database::open(
            &path,
            lost.is_of_a_store(),
            self.next_generation(survey.as_ref(), waiting.len()),
            salvage,
            &self.timekeeper,
            &self.run,
        )?;
        // Versions before had the index of the journal in a file; nobody has it open now.
        std::fs::remove_file(beside(&path, "-shm")).ok();
        if self.distrusted {
            self.empty_journal(&database)?;
            self.distrusted = false;
        }
        self.go_on(&mut database, lost)?;
        database.limit(Limits { max_size: self.config.max_size })?;
        know_the_time(&mut database, survey.as_ref(), waiting.get(1..).unwrap_or_default())?;
        if let (Some(aside), Some(survey)) = (waiting.into_iter().next(), survey) {
            self.begin_salvage(&mut database, aside, survey)?;
        }
        self.identity = self.identity_on_disk();
        self.unchecked = !database.was_clean && self.identity != self.given_to_check;
        self.database = Some(database);
        self.forget_stored();
        // Before the first reading: it must not say more than the database does.
        self.label();
        self.take_on_ballast();
        Ok(())
    }

    /// What it shows is on the card then, unless a sync has failed before.
    fn sync_journal(&mut self, path: &Path) -> Result<(), StoreError> {
        if self.distrusted {
            return Ok(());
        }
        journal::sync(&beside(path, "-wal")).map_err(|source| {
            self.distrusted = true;
            StoreError::file("sync the journal of", path, source)
        })
    }

    /// That of a store that is begun now: above those that wait for their salvage, and above any that this run had open.
    fn next_generation(&self, survey: Option<&Survey>, waiting: usize) -> u64 {
        let (newest, _) = self.newest;
        let generation = survey.map_or(0, Survey::generation) + waiting.max(1) as u64;
        generation.max(newest + 1)
    }

    /// Where it had come to: with what its journal had lost, and above what this run has numbered.
    fn go_on(&self, database: &mut Database, mut lost: Lost) -> Result<(), StoreError> {
        let (_, newest_event) = self.newest;
        database.last_event = database.last_event.max(newest_event);
        // A commit that failed half-way is still in memory, whole.
        lost.rows.retain(|sequence, _| self.in_doubt.is_none_or(|before| *sequence <= before));
        let put_back = database.put_back(lost)?;
        if put_back > 0 {
            tracing::warn!(put_back, "the end of the journal was damaged; its readings were put back");
        }
        // Not before that: what is put back is above the newest in the file.
        if let Some((store_id, last)) = &self.went_on
            && *store_id == database.store_id
        {
            database.last_sequence = database.last_sequence.max(*last);
        }
        Ok(())
    }

    fn begin_salvage(
        &mut self,
        database: &mut Database,
        aside: PathBuf,
        survey: Survey,
    ) -> Result<(), StoreError> {
        let reason = match database.progress.salvage.as_str() {
            "" => "the store was damaged".to_owned(),
            reason => reason.to_owned(),
        };
        // A right clock did not show less then than what was known before.
        if let Some((since_boot, time)) = survey
            .found_wrong(database.boot)
            .zip(DateTime::from_timestamp_millis(survey.newest_synchronised()))
        {
            database.take_on_found_wrong(since_boot, time)?;
        }
        database.salvaging = true;
        database.last_event = database.last_event.max(survey.last_event);
        self.salvage = Some(Salvage::begin(aside, survey, reason, self.in_doubt));
        Ok(())
    }

    /// Where that fails a second time, and the card takes the journal and another file, it is the database that it does
    /// not take: only a new one helps. A full disk, and a card that takes nothing for a while, heal without that.
    fn empty_journal(&mut self, database: &Database) -> Result<(), StoreError> {
        let path = &self.config.path;
        let done = database.empty_journal();
        let fails = done.as_ref().is_err_and(is_unwritable)
            && journal::sync(&beside(path, "-wal")).is_ok()
            && room::takes_a_file(path);
        let failed = std::mem::replace(&mut self.unwritable, fails);
        match done {
            Err(error) if failed && fails => Err(StoreError::Damaged { what: chain(&error) }),
            done => done,
        }
    }

    pub(super) fn replace(&mut self, error: &StoreError) -> Result<(), StoreError> {
        let reason = chain(error);
        let now = self.timekeeper.since_boot();
        self.replacements.retain(|at| now.saturating_sub(*at) < DAY);
        if self.replacements.len() >= REPLACEMENTS {
            return Err(StoreError::Unavailable {
                reason: format!(
                    "it was replaced {REPLACEMENTS} times within a day and is damaged again: {reason}"
                ),
            });
        }
        self.replacements.push(now);
        tracing::error!(%reason, "the store is damaged: it is set aside");
        (self.salvage, self.unwritable) = (None, false);
        self.label();
        drop(self.take_database());
        replace::set_aside(&self.config.path, self.timekeeper.now())?;
        self.try_open(&reason)
    }
}

/// Neither SQLite's way with an empty database nor its way with what is no file would do.
fn refuse_what_is_no_store(path: &Path) -> Result<(), StoreError> {
    for place in [path.to_owned(), beside(path, "-wal")] {
        if let Some(what) = file::no_file(&place) {
            let what = format!("{} is {what} and no file", place.display());
            return Err(StoreError::Damaged { what });
        }
    }
    // A link has a length: it is named, and nothing is done where it leads.
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.len() == 0) {
        // SQLite would delete the journal of an empty database.
        if std::fs::metadata(beside(path, "-wal")).is_ok_and(|metadata| metadata.len() > 0) {
            let what = "the database is empty and its journal is not".into();
            return Err(StoreError::Damaged { what });
        }
        if label::is_there(path) {
            return Err(StoreError::Damaged { what: "the database is empty, and was not before".into() });
        }
    }
    Ok(())
}

/// A new store knows of no reading that was taken synchronised: those that wait do, the newest one best.
fn know_the_time(
    database: &mut Database,
    oldest: Option<&Survey>,
    behind: &[PathBuf],
) -> Result<(), StoreError> {
    if database.progress.newest_synchronised != 0 {
        return Ok(());
    }
    let behind = behind.iter().rev().map(|aside| Survey::of(aside).newest_synchronised());
    match behind.chain(oldest.map(Survey::newest_synchronised)).find(|time| *time > 0) {
        Some(time) => database.take_on_newest_synchronised(time),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
