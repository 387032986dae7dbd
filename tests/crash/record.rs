//! Reads the recorder's record, and plays a disk that loses its power: what was synced is there, of the rest any part
//! may be. Knows files and sectors; what is in them is the store's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One thing that was done to a file.
#[derive(Debug, Clone)]
pub enum Done {
    Created(String),
    Written(String, usize, Vec<u8>),
    Truncated(String, usize),
    /// By fsync.
    Synced(String),
    /// By fdatasync: all that is needed to read the data again.
    DataSynced(String),
    Renamed(String, String),
    Unlinked(String),
}

/// What a sector is to a disk: it is written whole or not at all.
const SECTOR: usize = 512;

/// Builds the recorder.
pub fn recorder(dir: &Path) -> PathBuf {
    library(dir, "recorder")
}

/// Builds a library for LD_PRELOAD from the file of that name beside this one.
pub fn library(dir: &Path, name: &str) -> PathBuf {
    let library = dir.join(name).with_extension("so");
    let source =
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash")).join(name).with_extension("c");
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .args(["-ldl", "-lpthread"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    library
}

/// The whole record; each entry with the length of the record up to its end.
pub fn read(record: &[u8]) -> Vec<(usize, Done)> {
    let mut done = Vec::new();
    let mut at = 0;
    while let Some(head) = record.get(at..at + 15) {
        let number = |from: usize, length: usize| {
            head[from..from + length]
                .iter()
                .rev()
                .fold(0_usize, |number, byte| (number << 8) | usize::from(*byte))
        };
        let (path_length, offset, length) = (number(1, 2), number(3, 8), number(11, 4));
        let path = String::from_utf8(record[at + 15..at + 15 + path_length].to_vec()).unwrap();
        let data = record[at + 15 + path_length..at + 15 + path_length + length].to_vec();
        at += 15 + path_length + length;
        done.push((
            at,
            match head[0] {
                b'c' => Done::Created(path),
                b'w' => Done::Written(path, offset, data),
                b't' => Done::Truncated(path, offset),
                b's' => Done::Synced(path),
                b'd' => Done::DataSynced(path),
                b'r' => Done::Renamed(path, String::from_utf8(data).unwrap()),
                b'u' => Done::Unlinked(path),
                other => panic!("{other} in the record"),
            },
        ));
    }
    done
}

/// What a power cut leaves of what was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Nothing.
    Dropped,
    /// All of it.
    Kept,
    /// Any sectors of any writes, in any order.
    Torn,
}

type Files = BTreeMap<u64, Vec<u8>>;
type Names = BTreeMap<String, u64>;

/// A disk with a cache.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    next: u64,
    /// As the kernel shows it.
    names: Names,
    /// As it is after a cut.
    durable_names: Names,
    durable: Files,
    /// Not synced, by file: what was done to its contents.
    cached: BTreeMap<u64, Vec<Done>>,
    /// Not synced: what was done to names.
    cached_names: Vec<Done>,
}

impl Disk {
    pub fn apply(&mut self, done: &Done, folder: &str) {
        match done {
            Done::Created(path) => {
                self.next += 1;
                self.names.insert(path.clone(), self.next);
                self.durable.insert(self.next, Vec::new());
                self.cached_names.push(done.clone());
            }
            Done::Written(path, ..) | Done::Truncated(path, _) => {
                if let Some(file) = self.names.get(path) {
                    self.cached.entry(*file).or_default().push(done.clone());
                }
            }
            // A name is durable when its folder was synced: POSIX promises no more.
            Done::Synced(path) if path.trim_end_matches('/') == folder => {
                self.durable_names = self.names.clone();
                self.cached_names.clear();
            }
            Done::Synced(path) | Done::DataSynced(path) => {
                if let Some(file) = self.names.get(path) {
                    let contents = self.durable.get_mut(file).unwrap();
                    self.cached
                        .remove(file)
                        .unwrap_or_default()
                        .iter()
                        .for_each(|done| change(contents, done));
                }
            }
            Done::Renamed(from, to) => {
                if let Some(file) = self.names.remove(from) {
                    self.names.insert(to.clone(), file);
                    self.cached_names.push(done.clone());
                }
            }
            Done::Unlinked(path) => {
                self.names.remove(path);
                self.cached_names.push(done.clone());
            }
        }
    }

    /// The files after a cut at this moment, by name.
    pub fn cut(&self, cut: Cut, random: &mut fastrand::Rng) -> BTreeMap<String, Vec<u8>> {
        let mut files = self.durable.clone();
        for (file, cached) in &self.cached {
            let contents = files.get_mut(file).unwrap();
            let mut parts: Vec<Done> = match cut {
                Cut::Dropped => Vec::new(),
                Cut::Kept => cached.clone(),
                Cut::Torn => cached.iter().flat_map(sectors).filter(|_| random.bool()).collect(),
            };
            if cut == Cut::Torn {
                random.shuffle(&mut parts);
            }
            parts.iter().for_each(|done| change(contents, done));
        }
        // Names change in order, and each change is there or not with all before it.
        let names = match cut {
            Cut::Dropped => &self.durable_names,
            Cut::Torn if random.bool() => &self.durable_names,
            Cut::Kept | Cut::Torn => &self.names,
        };
        names.iter().map(|(name, file)| (name.clone(), files[file].clone())).collect()
    }
}

fn change(contents: &mut Vec<u8>, done: &Done) {
    match done {
        Done::Written(_, offset, data) => {
            if contents.len() < offset + data.len() {
                contents.resize(offset + data.len(), 0);
            }
            contents[*offset..offset + data.len()].copy_from_slice(data);
        }
        Done::Truncated(_, length) => contents.resize(*length, 0),
        _ => {}
    }
}

/// A write is as many as the sectors that it touches.
fn sectors(done: &Done) -> Vec<Done> {
    let Done::Written(path, offset, data) = done else { return vec![done.clone()] };
    let mut parts = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let length = (SECTOR - (offset + at) % SECTOR).min(data.len() - at);
        parts.push(Done::Written(path.clone(), offset + at, data[at..at + length].to_vec()));
        at += length;
    }
    parts
}
