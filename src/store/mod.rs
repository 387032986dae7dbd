//! The readings on disk: the queue *is* this table plus a watermark. The store task alone owns the database;
//! everybody else holds a [`StoreHandle`]. Knows nothing of AMQP; sending never deletes.
//!
//! # What holds
//! - A reading that [`StoreHandle::pending`] hands out is synced and its checksum held.
//! - Only [`StoreHandle::acknowledge`] moves the watermark, and never back. Losing it costs duplicates.
//! - The next sequence is above every stored and every acknowledged one.
//! - A time is final once it has been handed out.
//! - A sequence that is missing above the watermark is named by a `gap` or `deadLetter` event.
//!
//! # Files beside the database
//! `-wal` is SQLite's (versions before left a `-shm` too); `.lock` is held (flock) by the station; `.ballast` is room for
//! pruning on a full disk; `.label` says whose store it is a second time (`.label-new` while it is written);
//! `.salvage-DATE` is a store that was damaged and waits for its salvage, `.set-aside-DATE` one that is kept for people.
//!
//! # Map
//! - The task and what it is asked: `task`, `handle`, `answer`, `keeper`, `house` (what is done between the questions),
//!   `memory` (while there is no disk), `told`.
//! - The database: `schema`, `database`, `opening`, `transaction`, `progress`, `lock`, `file`.
//! - Readings: `row`, `append`, `newest_rows`, `pending`, `live_walk`, `watermark`, `acknowledge`, `dead_letters`, `gaps`,
//!   `counts`; those of older stores: `salvaged`. Beside them `events` and `values`.
//! - Charts: `fold`, `rollups`, `rollup_rows`, `history`.
//! - Time: `redate`, `dating`, `provisional`, `event_time`.
//! - Room: `room`, `prune`, `too_old`, `prune_charts`.
//! - Damage: `trouble` (what an error means), `doubt` and `check`, `journal` and `lost`, `replace`, `label`, `survey`, `scan`,
//!   `salvage` and `holes`.
//! - From beside the station: `snapshot`, `export`; `verify` needs no store.

mod acknowledge;
mod answer;
mod append;
mod check;
mod counts;
mod database;
mod dating;
mod dead_letters;
mod doubt;
mod event_time;
mod events;
pub mod export;
mod file;
mod fold;
mod gaps;
mod handle;
mod history;
mod holes;
mod house;
mod journal;
mod keeper;
mod label;
mod live_walk;
mod lock;
mod lost;
mod memory;
mod newest_rows;
mod opening;
mod pending;
mod progress;
mod provisional;
mod prune;
mod prune_charts;
mod redate;
mod replace;
mod rollup_rows;
mod rollups;
mod room;
mod row;
mod salvage;
mod salvaged;
mod scan;
mod schema;
mod snapshot;
mod survey;
mod task;
mod told;
mod too_old;
mod transaction;
mod trouble;
mod values;
pub mod verify;
mod watermark;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

pub use self::handle::StoreHandle;
pub use self::lock::is_held;
pub use self::task::{StoreTask, open};
pub use self::values::kept_value;
use crate::reading::{Celsius, Hectopascal, Percent, Reading};

/// A place in the order in which readings are sent: those of older stores first, then by sequence. It names the store
/// by its generation, so that an acknowledgement that comes after the store was replaced still means the same reading.
/// The least position is before everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// The stores of a station are counted from 1.
    pub generation: u32,
    /// Sequence in that store.
    pub row: u64,
}

/// One page of what is to be sent, oldest first: only synced rows whose checksum held.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub readings: Vec<(Position, Reading)>,
    /// Pass it to the next [`StoreHandle::pending`] to read on without acknowledging.
    pub end: Position,
    /// There may be more behind `end`, even where this page is empty.
    pub more: bool,
}

/// A thing that happened to the station, kept and sent like a reading but with its own numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub event_sequence: u64,
    pub run: Arc<str>,
    pub store_id: Arc<str>,
    pub time: DateTime<Utc>,
    /// `gap`, `missedSamples`, `storeReplaced` or `deadLetter`.
    pub kind: String,
    /// The event's own fields (`first`, `last`, `reason` ...), a JSON object.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

/// Readings of one stretch of time, folded: what a chart draws.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Aligned to a whole number of `length` since 1970-01-01T00:00Z.
    pub start: DateTime<Utc>,
    pub length: Duration,
    /// Readings in it, at least 1: an empty stretch has no bucket.
    pub count: u32,
    pub air_temperature: Spread<Celsius>,
    pub relative_humidity: Spread<Percent>,
    pub station_pressure: Spread<Hectopascal>,
}

/// Least, mean and greatest value of a quantity in a [`Bucket`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread<T> {
    pub min: T,
    pub mean: T,
    pub max: T,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The station is ending.
    #[error("the store task has ended")]
    Gone,
    /// Another station holds the database. Stop it, or give this one another `[store] path`.
    #[error("another weather-station is running on {path}: stop it first, or set another [store] path")]
    Locked { path: PathBuf },
    /// There is no database at present; readings are kept in memory and the task keeps trying.
    #[error("the store is not available: {reason}")]
    Unavailable { reason: String },
    /// A file beside the database, or its folder.
    #[error("could not {doing} {path}")]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// SQLite said no.
    #[error("could not {doing}")]
    Database {
        doing: &'static str,
        #[source]
        source: rusqlite::Error,
    },
    /// The database contradicts itself or its checksums: it has to be set aside.
    #[error("the store is damaged: {what}")]
    Damaged { what: String },
    /// A later version of the program wrote this store.
    #[error(
        "{path} has schema version {found}; this program knows up to {known}: install the newer version again"
    )]
    Newer { path: PathBuf, found: i64, known: i64 },
    /// The receiver of an export does not take it (a full disk, a closed pipe).
    #[error("could not write the export")]
    Output {
        #[source]
        source: std::io::Error,
    },
    /// A number that is no number must not be stored as one.
    #[error("a sample without a finite number was refused")]
    NotANumber,
}

impl StoreError {
    /// For `map_err`: what was being done when SQLite said no.
    pub(crate) fn doing(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    pub(crate) fn file(doing: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self::File { doing, path: path.to_owned(), source }
    }
}
