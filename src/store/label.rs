//! The label: a small file beside the database that says whose store it is and how far it was sent, for the day on
//! which the page that says so is lost. Knows when it may be believed; while the database can answer nobody asks it.
//!
//! It is written when a store is opened and closed, once a day, and before the store is set aside, with which it goes.
//! One that is behind costs duplicates, like any watermark.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::database::{Database, beside, sync_folder};
use super::file::{piece, regular};
use super::keeper::Keeper;
use super::scan::Cell;
use super::watermark::Watermark;
use super::{Event, StoreError};

/// After the name of the database.
pub(crate) const ENDING: &str = ".label";
/// Runs that it names, the newest last.
const RUNS: usize = 32;
/// Longer than it ever is.
const LONGEST: usize = 8 << 10;
/// A write of it costs the card as much as a few readings do.
const DAY: Duration = Duration::from_secs(86_400);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    #[serde(flatten)]
    watermark: Watermark,
    /// Run words of readings in this store.
    runs: Vec<String>,
    checksum: i32,
}

/// What the label of a damaged file says, and what its rows say to that: somebody may have put another file there.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claim {
    label: Option<Label>,
    /// A row of the store that the label names was found.
    fits: bool,
    /// One that may be of any store.
    other: bool,
}

impl Claim {
    pub fn of(database: &Path) -> Self {
        Self { label: Label::of(database), ..Self::default() }
    }

    pub fn note(&mut self, cell: &Cell) {
        let Some(Label { watermark, runs, .. }) = &self.label else { return };
        match cell {
            Cell::Reading(row) if runs.iter().any(|run| **run == *row.run) => self.fits = true,
            Cell::Event(Event { store_id, .. }) if **store_id == *watermark.store_id => self.fits = true,
            Cell::Reading(_) | Cell::Salvaged { .. } => self.other = true,
            _ => {}
        }
    }

    /// In a file that has no reading at all nothing can be taken for another's.
    pub fn believed(&self) -> Option<&Watermark> {
        self.label.as_ref().filter(|_| self.fits || !self.other).map(|label| &label.watermark)
    }
}

/// Whether a store was there before.
pub(crate) fn is_there(database: &Path) -> bool {
    Label::of(database).is_some()
}

impl Label {
    fn of(database: &Path) -> Option<Self> {
        let bytes = piece(&regular(&beside(database, ENDING)).ok()?, 0, LONGEST).ok()?;
        let found: Self = serde_json::from_slice(&bytes).ok()?;
        (found.checksum == found.watermark.checksum()).then_some(found)
    }

    /// Under another name first: a cut leaves the one before.
    fn write(&self, database: &Path) -> Result<(), StoreError> {
        let (path, new) = (beside(database, ENDING), beside(database, ".label-new"));
        let write = || {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(self)?)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| {
            fs::remove_file(&new).ok();
            StoreError::file("write", &path, source)
        })?;
        sync_folder(database)
    }

    /// It says no more than the database does.
    fn is_behind(&self, now: &Watermark) -> bool {
        let old = &self.watermark;
        old.store_id == now.store_id
            && old.acknowledged <= now.acknowledged
            && old.salvaged <= now.salvaged
            && old.events <= now.events
    }
}

/// Brings it up to date.
fn keep(path: &Path, database: &Database) -> Result<(), StoreError> {
    let watermark = database.watermark.clone();
    let old = Label::of(path);
    let same = old.as_ref().filter(|old| old.watermark.store_id == watermark.store_id);
    let mut runs = same.map(|old| old.runs.clone()).unwrap_or_default();
    // The newest readings of a store that had no label are of another run.
    for run in database.newest_run().into_iter().chain([database.run.to_string()]) {
        if !runs.contains(&run) {
            runs.push(run);
        }
    }
    runs.drain(..runs.len().saturating_sub(RUNS));
    let checksum = watermark.checksum();
    let label = Label { watermark, runs, checksum };
    if old.as_ref() == Some(&label) {
        return Ok(());
    }
    let written = label.write(path);
    // The numbers after a lost tail come a second time: they were not sent because those before them were.
    if written.is_err() && old.is_some_and(|old| !old.is_behind(&label.watermark)) {
        fs::remove_file(beside(path, ENDING)).ok();
    }
    written
}

impl Database {
    fn newest_run(&self) -> Option<String> {
        let newest = "SELECT run FROM reading ORDER BY sequence DESC LIMIT 1";
        self.connection.query_row(newest, [], |row| row.get(0)).ok()
    }
}

impl Keeper {
    /// Without a label the store works as well: that it cannot be written is told, and no trouble.
    pub(super) fn label(&mut self) {
        self.labelled = self.timekeeper.since_boot();
        // A file that somebody has put there meanwhile is not ours to name.
        let Some(database) = self.database.as_ref().filter(|_| self.identity_on_disk() == self.identity)
        else {
            return;
        };
        if let Err(error) = keep(&self.config.path, database) {
            let error = crate::chain::chain(&error);
            if self.told.first_this_hour(&error) {
                tracing::warn!(error, "the label of the store is not up to date");
            }
        }
    }

    /// The same, where it was long ago.
    pub(super) fn label_in_time(&mut self) {
        if self.timekeeper.since_boot().saturating_sub(self.labelled) >= DAY {
            self.label();
        }
    }
}
