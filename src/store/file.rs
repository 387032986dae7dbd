//! What the store asks of files that SQLite has no part in: a piece of one, which file a path leads to, what is there
//! instead of one, and why it cannot be opened.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Access, access};

use super::StoreError;
use crate::config::folder_of;

/// To be read. What is no file is refused: a pipe would wait for a writer.
pub(crate) fn regular(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(Error::other("it is no file")) }
}

/// What is there instead of a file. Where a link leads to is not looked at.
pub(crate) fn no_file(path: &Path) -> Option<&'static str> {
    let kind = path.symlink_metadata().ok()?.file_type();
    match kind.is_dir() {
        true => Some("a directory"),
        false if kind.is_fifo() => Some("a named pipe"),
        false => kind.is_socket().then_some("a socket"),
    }
}

/// What SQLite keeps to itself: why a database cannot be opened to be written.
pub(crate) fn refusal(path: &Path) -> Option<StoreError> {
    let name = path.display();
    if path.is_symlink() {
        let reason = format!("{name} is a symbolic link: name the file itself in `[store] path`");
        return Some(StoreError::Unavailable { reason });
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let error = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).err()? {
        // It would be made.
        error if error.kind() == ErrorKind::NotFound => {
            access(folder_of(path), Access::WRITE_OK | Access::EXEC_OK).err()?.into()
        }
        error => error,
    };
    Some(match error.kind() {
        ErrorKind::PermissionDenied => StoreError::Unavailable {
            reason: format!(
                "could not open {name}: {error}: let it, and its folder, belong to the account that the station \
                 runs as (chown)"
            ),
        },
        _ => StoreError::file("open", path, error),
    })
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
