//! What the store asks of files that SQLite has no part in: a piece of one, and which file a path leads to.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::StoreError;

/// To be read. What is no file is refused: a pipe would wait for a writer.
pub(crate) fn regular(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is no file")) }
}

/// Up to `length` bytes from `start` on; less at the end of the file.
pub(crate) fn piece(file: &File, start: u64, length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut have = 0;
    while have < length {
        match file.read_at(&mut bytes[have..], start + have as u64) {
            Ok(0) => break,
            Ok(more) => have += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(have);
    Ok(bytes)
}

/// Device and inode: another pair is another file under the same name.
pub(crate) fn identity(path: &Path) -> Result<(u64, u64), StoreError> {
    let file = std::fs::metadata(path).map_err(|source| StoreError::file("read", path, source))?;
    Ok((file.dev(), file.ino()))
}
