//! Looks into SQLite's write-ahead journal before SQLite does. One flipped byte there makes SQLite drop everything
//! after it without a word, and the rows dropped were synced: this finds them, to be put back.
//!
//! Source: "WAL-mode File Format" (sqlite.org/walformat.html): a header of 32 bytes, frames of 24 bytes and a page,
//! a running checksum over all of them, salts that change whenever the journal starts over.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::Event;
use super::row::Row;
use super::scan::{Cell, cells};
use super::schema::PAGE_SIZE;
use super::watermark::Watermark;

const HEADER: usize = 32;
const FRAME: usize = 24;

/// One page as the journal has it.
pub(crate) struct Frame {
    pub page: Vec<u8>,
    /// SQLite will read it: its checksum and all before it hold, and a commit follows.
    pub committed: bool,
    /// Not left over from before the journal last started over.
    pub present: bool,
}

/// What SQLite would drop.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    pub rows: BTreeMap<u64, Row>,
    pub events: BTreeMap<u64, Event>,
    pub watermark: Option<Watermark>,
}

/// Rows in frames that SQLite will not read though they are of the present journal. After an ordinary stop,
/// however sudden, there are at most a few: of a commit that was under way.
pub(crate) fn lost(journal: &Path) -> std::io::Result<Lost> {
    let mut lost = Lost::default();
    let mut dropped = 0;
    each(journal, |frame| {
        if frame.committed {
            return;
        }
        // The salt of the first one dropped may be the very thing that is damaged.
        dropped += 1;
        if frame.present || dropped == 1 {
            cells(&frame.page).for_each(|cell| lost.note(cell));
        }
    })?;
    Ok(lost)
}

impl Lost {
    fn note(&mut self, cell: Cell) {
        match cell {
            Cell::Reading(row) => {
                self.rows.insert(row.sequence, row);
            }
            Cell::Event(event) => {
                self.events.insert(event.event_sequence, event);
            }
            Cell::Watermark(found) => {
                let further = |old: &Watermark| {
                    (old.salvaged, old.acknowledged, old.events)
                        < (found.salvaged, found.acknowledged, found.events)
                };
                if self.watermark.as_ref().is_none_or(further) {
                    self.watermark = Some(found);
                }
            }
            _ => {}
        }
    }
}

/// All frames in the order of the file; no file has none. It is read twice: whether a frame is committed is known
/// only at a later one.
pub(crate) fn each(journal: &Path, mut visit: impl FnMut(Frame)) -> std::io::Result<()> {
    let mut committed = 0;
    walk(journal, |index, chain, commit, _| {
        if chain && commit {
            committed = index + 1;
        }
    })?;
    walk(journal, |index, _, _, (page, present)| {
        visit(Frame { page: page.to_vec(), committed: index < committed, present });
    })
}

/// Tells of each frame: its index, whether the chain of checksums holds up to it, whether it ends a commit, its
/// page and whether its salts are the journal's.
fn walk(journal: &Path, mut visit: impl FnMut(usize, bool, bool, (&[u8], bool))) -> std::io::Result<()> {
    let file = match File::open(journal) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut file = BufReader::with_capacity(64 << 10, file);
    let mut header = [0; HEADER];
    if file.read_exact(&mut header).is_err() {
        return Ok(());
    }
    let big = word(&header, 0, true) & 1 == 1;
    let sound = word(&header, 0, true) & !1 == 0x377f_0682;
    let mut sum = checksum((0, 0), &header[..24], big);
    let mut chain = sound && sum == (word(&header, 24, true), word(&header, 28, true));
    // Where the header itself is damaged nothing tells old frames from present ones.
    let salted = chain;
    let page_size = usize::try_from(PAGE_SIZE).unwrap_or(1024);
    let mut frame = vec![0; FRAME + page_size];
    let mut index = 0;
    while file.read_exact(&mut frame).is_ok() {
        let (head, page) = frame.split_at(FRAME);
        let present = !salted || head[8..16] == header[16..24];
        let next = checksum(checksum(sum, &head[..8], big), page, big);
        chain = chain && present && next == (word(head, 16, true), word(head, 20, true));
        if chain {
            sum = next;
        }
        visit(index, chain, word(head, 4, true) > 0, (page, present));
        index += 1;
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let mut word = [0; 4];
    if let Some(found) = bytes.get(at..at + 4) {
        word.copy_from_slice(found);
    }
    if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

/// The running checksum: two sums over pairs of words, in the byte order that the header names.
fn checksum(start: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    bytes.chunks_exact(8).fold(start, |(one, two), pair| {
        let one = one.wrapping_add(word(pair, 0, big)).wrapping_add(two);
        let two = two.wrapping_add(word(pair, 4, big)).wrapping_add(one);
        (one, two)
    })
}
