//! The open database and what is remembered of it, so that no question needs a scan. Knows one connection.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use super::acknowledge::Lag;
use super::gaps::{Extendable, Known};
use super::pending::{Found, Soundness, live};
use super::progress::Progress;
use super::provisional::Provisional;
use super::rollups::{self, Current};
use super::room::{Limits, Sizes};
use super::row::Row;
use super::salvaged::Origins;
use super::too_old::Walks;
use super::watermark::Watermark;
use super::{Position, StoreError, schema};
use crate::clock::Timekeeper;
use crate::config::folder_of;
use crate::reading::BootId;

/// Rows read at a time.
pub(super) const STEP: usize = 500;

/// Readings that may be gone at the end, with a gap that says so: a page of damaged ones, and more.
const MISSING_AT_THE_END: u64 = 10_000;

/// See the module.
#[derive(Debug)]
pub(crate) struct Database {
    pub(super) path: PathBuf,
    pub(super) limits: Limits,
    pub(super) connection: Connection,
    pub(super) timekeeper: Timekeeper,
    pub(super) boot: BootId,
    /// Word of this process run.
    pub(super) run: Arc<str>,
    pub(super) store_id: Arc<str>,
    pub(super) watermark: Watermark,
    /// The watermark on disk is behind this one.
    pub(super) lag: Option<Lag>,
    pub(super) progress: Progress,
    /// The chart's bucket that the station is in.
    pub(super) current: Option<Current>,
    /// The newest sequence that is on disk or was ever accepted.
    pub(super) last_sequence: u64,
    pub(super) last_event: u64,
    /// Those of the last append.
    pub(super) newest_rows: Vec<Row>,
    /// Those whose time may still change, though they have one.
    pub(super) provisional: Option<Provisional>,
    /// The newest event that was handed out in this run.
    pub(super) events_offered: u64,
    /// The newest event of missed samples that was recorded since the store was opened; 0: none.
    pub(super) missed_event: u64,
    pub(super) extendable: Option<Extendable>,
    /// Set aside, and above the watermark.
    pub(super) dead: BTreeSet<Position>,
    /// How many were ever set aside.
    pub(super) dead_letters: u64,
    /// Missing above the watermark, and told.
    pub(super) known: Known,
    pub(super) origins: Origins,
    /// Salvaged rows above the watermark, as far as they are counted. While a salvage is under way it is the number
    /// before it.
    pub(super) salvaged_pending: u64,
    /// Up to this row they are counted; none: all are.
    pub(super) salvaged_counted: Option<u64>,
    /// A salvage is under way: nothing is handed out yet.
    pub(super) salvaging: bool,
    /// Salvaged readings were asked for that wait for the clock.
    pub(super) salvaged_waits: bool,
    /// The last stop was an orderly one.
    pub(super) was_clean: bool,
    /// Readings of unknown time that need not be walked over again to see whether they are old.
    pub(super) walks: Walks,
    /// Of the files, where nothing was written since they were looked at.
    pub(super) sizes: Option<Sizes>,
    /// What is known of the file as a whole.
    pub(super) soundness: Soundness,
}

/// `readings.db` and `.lock` make `readings.db.lock`.
pub(crate) fn beside(database: &Path, ending: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

impl Database {
    /// Opens or makes it. The caller holds the lock. A new one is of `generation`, and `salvage` is to be done; none is made
    /// where readings were found of one that was `begun`.
    pub fn open(
        path: &Path,
        begun: bool,
        generation: u64,
        salvage: &str,
        timekeeper: &Timekeeper,
        run: &Arc<str>,
    ) -> Result<Self, StoreError> {
        let connection = schema::open(path, begun, |connection| begin(connection, generation, salvage))?;
        let watermark = Watermark::read(&connection)?;
        let progress = Progress::read(&connection)?;
        let known = Known::read(&connection, watermark.acknowledged)?;
        let stored = greatest(&connection, "reading", "sequence")?;
        // The newest readings may be among the missing; but a gap has no checksum, and a wrong one would move every
        // sequence after it.
        if known.last() > watermark.acknowledged.max(stored).saturating_add(MISSING_AT_THE_END) {
            let what = format!("a gap ends at {}, far above every reading", known.last());
            return Err(StoreError::Damaged { what });
        }
        refuse_a_jump(&connection, stored, watermark.acknowledged.max(known.last()), run)?;
        let mut database = Self {
            path: path.to_owned(),
            limits: Limits::NONE,
            store_id: Arc::from(watermark.store_id.as_str()),
            last_sequence: watermark.acknowledged.max(stored).max(known.last()),
            last_event: watermark.events.max(greatest(&connection, "event", "event_sequence")?),
            events_offered: 0,
            missed_event: 0,
            newest_rows: Vec::new(),
            provisional: None,
            lag: None,
            extendable: None,
            boot: timekeeper.stamp().boot,
            timekeeper: timekeeper.clone(),
            run: run.clone(),
            current: None,
            dead: BTreeSet::new(),
            dead_letters: 0,
            known,
            origins: Origins::read(&connection)?,
            salvaged_pending: 0,
            salvaged_counted: Some(0),
            salvaging: false,
            salvaged_waits: false,
            was_clean: progress.clean,
            walks: Walks::default(),
            sizes: None,
            soundness: Soundness::Unknown,
            connection,
            watermark,
            progress,
        };
        database.count_salvaged_step()?;
        (database.dead_letters, database.dead) = database.set_aside_before()?;
        database.forget_dead();
        database.catch_up()?;
        database.mark_clean(false)?;
        // The journal is there now. Until the folder is synced, the names of new files may be lost with the power.
        sync_folder(path)?;
        Ok(database)
    }

    /// Feeds the readings since the last closed bucket to the charts once more, and raises the clock's floor.
    fn catch_up(&mut self) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        let mut current = None;
        let mut after = progress.rolled_up;
        loop {
            let found = live(&self.connection, after, STEP, &self.run)?;
            let full = found.len() == STEP;
            let before = progress.rolled_up;
            self.transaction("bring the charts up to date", |connection| {
                for found in found {
                    let row = match found {
                        Found::Good(row) => row,
                        Found::Damaged { sequence } => {
                            after = sequence;
                            continue;
                        }
                    };
                    after = row.sequence;
                    progress.note_time(&row);
                    rollups::feed(connection, &mut current, &mut progress, &row)?;
                }
                if progress.rolled_up == before { Ok(()) } else { progress.write(connection) }
            })?;
            if !full {
                break;
            }
        }
        self.progress = progress;
        self.current = current;
        self.raise_floor(self.timekeeper.since_boot());
        // Nor in another run of the program than the one that found it wrong.
        if let Some(since_boot) = self.found_wrong()? {
            self.timekeeper.raise_floor(self.timekeeper.floor(), since_boot);
        }
        if let Some((since_boot, time)) = self.found_wrong_before()? {
            self.timekeeper.raise_floor(time, since_boot);
        }
        Ok(())
    }

    /// After a failed sync the journal may show commits that are not on the card, and syncing it again proves nothing.
    /// Copied into the database and synced there they are, and the journal is empty.
    pub fn empty_journal(&self) -> Result<(), StoreError> {
        let busy: bool = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(StoreError::doing("copy the journal into the database"))?;
        if busy {
            let reason =
                "a sync failed, and the check of the whole file reads the journal: it cannot be emptied yet"
                    .into();
            return Err(StoreError::Unavailable { reason });
        }
        Ok(())
    }

    fn mark_clean(&mut self, clean: bool) -> Result<(), StoreError> {
        if self.progress.clean != clean {
            let progress = Progress { clean, ..self.progress.clone() };
            self.unsynced(|connection| progress.write(connection))?;
            self.progress = progress;
        }
        Ok(())
    }

    /// An orderly stop: the journal is copied into the database and removed. `sound`: a check has said so.
    pub fn close(mut self, sound: bool) -> Result<(), StoreError> {
        self.write_down()?;
        self.mark_clean(self.was_clean || sound)?;
        self.connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)
            .map_err(StoreError::doing("close the database"))?;
        self.connection.close().map_err(|(_, source)| StoreError::doing("close the database")(source))
    }
}

/// A row's number is in its checksum, but the next one is counted from it before any is read.
fn refuse_a_jump(connection: &Connection, newest: u64, known: u64, run: &Arc<str>) -> Result<(), StoreError> {
    let before = connection
        .query_row("SELECT max(sequence) FROM reading WHERE sequence < ?1", [newest.cast_signed()], |row| {
            row.get::<_, Option<i64>>(0)
        })
        .map_err(StoreError::doing("find the newest row"))?;
    let before = before.unwrap_or(0).cast_unsigned().max(known);
    if newest <= before.saturating_add(MISSING_AT_THE_END)
        || live(connection, newest - 1, 1, run)?.pop().and_then(Found::good).is_some()
    {
        return Ok(());
    }
    let what = format!("the newest reading is {newest}, far above every other, and its checksum is wrong");
    Err(StoreError::Damaged { what })
}

/// SQLite's quick check, first complaint.
pub(crate) fn check(connection: &Connection) -> Result<(), StoreError> {
    let answer: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(StoreError::doing("check the database"))?;
    if answer == "ok" { Ok(()) } else { Err(StoreError::Damaged { what: answer }) }
}

/// The rows that every store has.
fn begin(connection: &Connection, generation: u64, salvage: &str) -> Result<(), StoreError> {
    let watermark = Watermark {
        store_id: uuid::Uuid::new_v4().to_string(),
        generation,
        acknowledged: 0,
        salvaged: 0,
        events: 0,
    };
    watermark.write(connection)?;
    Progress { clean: true, salvage: salvage.to_owned(), ..Progress::default() }.write(connection)
}

/// Makes the names in it durable.
pub(crate) fn sync_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder_of(path);
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| StoreError::file("sync the folder", folder, source))
}

/// 0 for an empty table. The names are this module's own.
pub(super) fn greatest(connection: &Connection, table: &str, column: &str) -> Result<u64, StoreError> {
    connection
        .query_row(&format!("SELECT max({column}) FROM {table}"), [], |row| row.get::<_, Option<i64>>(0))
        .map(|greatest| greatest.unwrap_or(0).cast_unsigned())
        .map_err(StoreError::doing("find the newest row"))
}
