//! The files of a damaged store: set aside, salvaged, kept for people. Knows names and renames, not their contents.
//!
//! `readings.db.salvage-DATE` waits for its salvage; afterwards it is `readings.db.set-aside-DATE`. The name is the
//! state: a station that dies in between goes on where it was. Of those set aside the newest two are kept.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::StoreError;
use super::database::{beside, sync_folder};
use super::label;
use crate::config::folder_of;

const WAITING: &str = ".salvage-";
const DONE: &str = ".set-aside-";
const KEPT: usize = 2;
/// What goes with a database: its journal and its label.
const WITH_IT: [&str; 2] = ["-wal", label::ENDING];

/// Takes the database and what goes with it out of the way. The database first: it is its name that counts.
pub(crate) fn set_aside(database: &Path, now: DateTime<Utc>) -> Result<PathBuf, StoreError> {
    let date = now.format("%Y%m%dT%H%M%S%3fZ");
    // A clock may stand or step back: nothing that was set aside before is overwritten.
    let names = std::iter::once(String::new()).chain((2..).map(|count| format!("-{count}")));
    let free = |ending: &String| {
        [WAITING, DONE].iter().all(|word| !beside(database, &format!("{word}{date}{ending}")).exists())
    };
    let ending = names.into_iter().find(free).unwrap_or_default();
    let aside = beside(database, &format!("{WAITING}{date}{ending}"));
    let rename = |from: &Path, to: &Path| {
        fs::rename(from, to).map_err(|source| StoreError::file("set aside", from, source))
    };
    rename(database, &aside)?;
    for ending in WITH_IT.iter().filter(|ending| beside(database, ending).exists()) {
        rename(&beside(database, ending), &beside(&aside, ending))?;
    }
    // Only an index of the journal: SQLite makes it anew.
    fs::remove_file(beside(database, "-shm")).ok();
    sync_folder(database)?;
    Ok(aside)
}

/// A station died between the renames: what is left follows its database.
pub(crate) fn finish_interrupted(database: &Path) -> Result<(), StoreError> {
    // A link that leads nowhere is there too.
    if database.symlink_metadata().is_ok() {
        return Ok(());
    }
    if let Some(aside) = waiting(database).pop() {
        let left = |ending: &&&str| beside(database, ending).exists() && !beside(&aside, ending).exists();
        for ending in WITH_IT.iter().filter(left) {
            let from = beside(database, ending);
            fs::rename(&from, beside(&aside, ending))
                .map_err(|source| StoreError::file("set aside", &from, source))?;
            fs::remove_file(beside(database, "-shm")).ok();
            sync_folder(database)?;
        }
    }
    if beside(database, "-wal").exists() {
        // A journal without its database: somebody removed the database. Its rows can still be read.
        fs::write(database, []).map_err(|source| StoreError::file("create", database, source))?;
    }
    Ok(())
}

/// Files whose salvage is to be done, oldest first.
pub(crate) fn waiting(database: &Path) -> Vec<PathBuf> {
    named(database, WAITING)
}

/// What it is called in the end: what people are told, and find.
pub(crate) fn name_when_done(aside: &Path) -> PathBuf {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    // The last one is ours: a database, and its folder, may be called so.
    match name.rsplit_once(WAITING) {
        Some((database, date)) => aside.with_file_name(format!("{database}{DONE}{date}")),
        None => aside.to_owned(),
    }
}

/// The salvage is complete.
pub(crate) fn done(database: &Path, aside: &Path) -> Result<(), StoreError> {
    let to = name_when_done(aside);
    for ending in ["-wal", ""] {
        let (from, to) = (beside(aside, ending), beside(&to, ending));
        if from.exists() {
            fs::rename(&from, &to).map_err(|source| StoreError::file("set aside", &from, source))?;
        }
    }
    // Its work is done, and not before: the name of the database is the state.
    fs::remove_file(beside(aside, label::ENDING)).ok();
    let mut kept = named(database, DONE);
    kept.truncate(kept.len().saturating_sub(KEPT));
    for old in &kept {
        remove(old);
    }
    sync_folder(database)
}

/// The disk is full: a copy of a damaged store is worth less than a reading. The oldest one goes; false: there is none.
pub(crate) fn give_up_oldest(database: &Path) -> bool {
    // What was no file, a folder of somebody's, does not go.
    let gone = named(database, DONE).into_iter().find(|oldest| remove(oldest));
    if let Some(file) = &gone {
        tracing::warn!(file = %file.display(), "the disk is full: the copy of a damaged store went");
    }
    gone.is_some()
}

fn remove(aside: &Path) -> bool {
    fs::remove_file(beside(aside, "-wal")).ok();
    fs::remove_file(aside).is_ok()
}

/// Databases with that word in their names, oldest first: the date in the name sorts.
fn named(database: &Path, word: &str) -> Vec<PathBuf> {
    let Some(name) = database.file_name().and_then(|name| name.to_str()) else { return Vec::new() };
    let Ok(entries) = fs::read_dir(folder_of(database)) else { return Vec::new() };
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let file = entry.file_name();
            let file = file.to_string_lossy();
            file.strip_prefix(name).is_some_and(|rest| {
                rest.starts_with(word) && !WITH_IT.iter().any(|ending| rest.ends_with(ending))
            })
        })
        .map(|entry| beside(database, entry.file_name().to_string_lossy().strip_prefix(name).unwrap_or("")))
        .collect();
    found.sort();
    found
}
