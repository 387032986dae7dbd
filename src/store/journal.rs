//! Looks into SQLite's write-ahead journal before SQLite does. One flipped byte there makes SQLite drop everything
//! after it without a word, and the rows dropped were synced: `lost` finds them here, and puts them back.
//!
//! Source: "WAL-mode File Format" (sqlite.org/walformat.html): a header of 32 bytes, frames of 24 bytes and a page,
//! a running checksum over all of them, salts that change whenever the journal starts over.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::file::regular;
use super::schema::PAGE_SIZE;

pub(crate) const HEADER: usize = 32;
pub(crate) const FRAME: usize = 24;

/// One page as the journal has it.
pub(crate) struct Frame {
    pub page: Vec<u8>,
    /// SQLite will read it: its checksum and all before it hold, and a commit follows.
    pub committed: bool,
    /// Not left over from before the journal last started over.
    pub present: bool,
    /// Its commit was written to the end: a frame of the present journal with the mark of a commit follows, or this is
    /// one. Of a commit that was not, nobody was told, and half of it may be missing.
    pub finished: bool,
}

/// A station that is killed between the write of a commit and its sync leaves it in the page cache alone: it is read
/// from there, so it has to be on the card before anybody is told of it.
pub(crate) fn sync(journal: &Path) -> std::io::Result<()> {
    match regular(journal) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// All frames in the order of the file; no file has none. It is read twice: whether a frame is committed is known
/// only at a later one.
pub(crate) fn each(journal: &Path, visit: impl FnMut(Frame)) -> std::io::Result<()> {
    let file = match regular(journal) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    frames(|bytes, at| file.read_exact_at(bytes, at), visit);
    Ok(())
}

/// How many frames there are, from the first on, of which each is whole.
pub(crate) fn frames_in_order(journal: &File) -> usize {
    let mut count = 0;
    let read = |bytes: &mut [u8], at| journal.read_exact_at(bytes, at);
    walk(&read, |index, chain, _, _| {
        if chain {
            count = index + 1;
        }
    });
    count
}

/// Where a frame lies in the file, and its length.
pub(crate) fn place(index: usize) -> (u64, usize) {
    let length = FRAME + usize::try_from(PAGE_SIZE).unwrap_or(1024);
    ((HEADER + index * length) as u64, length)
}

fn frames(read: impl Fn(&mut [u8], u64) -> std::io::Result<()>, mut visit: impl FnMut(Frame)) {
    let (mut committed, mut finished) = (0, 0);
    walk(&read, |index, chain, commit, (_, present)| {
        if chain && commit {
            committed = index + 1;
        }
        if present && commit {
            finished = index + 1;
        }
    });
    walk(&read, |index, _, _, (page, present)| {
        visit(Frame {
            page: page.to_vec(),
            committed: index < committed,
            present,
            finished: index < finished,
        });
    });
}

/// Tells of each frame: its index, whether the chain of checksums holds up to it, whether it ends a commit, its
/// page and whether its salts are the journal's. One that the card cannot read is passed over.
fn walk(
    read: &impl Fn(&mut [u8], u64) -> std::io::Result<()>,
    mut visit: impl FnMut(usize, bool, bool, (&[u8], bool)),
) {
    let mut header = [0; HEADER];
    match read(&mut header, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
        Err(error) => tracing::error!(%error, "the header of the store's journal cannot be read"),
    }
    let big = word(&header, 0, true) & 1 == 1;
    let sound = word(&header, 0, true) & !1 == 0x377f_0682;
    let mut sum = checksum((0, 0), &header[..24], big);
    let mut chain = sound && sum == (word(&header, 24, true), word(&header, 28, true));
    // Where the header itself is damaged nothing tells old frames from present ones.
    let salted = chain;
    let page_size = usize::try_from(PAGE_SIZE).unwrap_or(1024);
    let mut frame = vec![0; FRAME + page_size];
    for index in 0.. {
        match read(&mut frame, (HEADER + index * (FRAME + page_size)) as u64) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return,
            Err(error) => {
                tracing::error!(%error, frame = index, "a part of the store's journal cannot be read");
                chain = false;
                continue;
            }
        }
        let (head, page) = frame.split_at(FRAME);
        let present = !salted || head[8..16] == header[16..24];
        let next = checksum(checksum(sum, &head[..8], big), page, big);
        chain = chain && present && next == (word(head, 16, true), word(head, 20, true));
        if chain {
            sum = next;
        }
        visit(index, chain, word(head, 4, true) > 0, (page, present));
    }
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

#[cfg(test)]
mod tests {
    use super::super::lost::tests::journal_of_an_eviction;
    use super::*;

    #[test]
    fn a_frame_that_cannot_be_read_is_passed_over() {
        let journal = journal_of_an_eviction();
        let count = (journal.len() - HEADER) / (FRAME + 1024);
        let mut seen = Vec::new();
        let read = |bytes: &mut [u8], at: u64| {
            let at = usize::try_from(at).expect("small");
            if at == HEADER + FRAME + 1024 {
                return Err(std::io::Error::from_raw_os_error(libc::EIO));
            }
            let found = journal.get(at..at + bytes.len()).ok_or(ErrorKind::UnexpectedEof)?;
            bytes.copy_from_slice(found);
            Ok(())
        };
        frames(read, |frame| seen.push((frame.committed, frame.finished)));
        assert_eq!(seen.len(), count - 1);
        assert_eq!(seen.first(), Some(&(true, true)), "{seen:?}");
        assert_eq!(seen.last(), Some(&(false, true)), "SQLite stops where it cannot read; this does not");
    }
}
