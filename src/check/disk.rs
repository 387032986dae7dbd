//! The disk: a folder that can be written, room for the store's full size, a store that is well.

use std::path::Path;

use rustix::fs::{Access, access, statvfs};
use serde_json::Value;

use super::{Finding, text};
use crate::config;

const NAME: &str = "disk";

pub fn check(store: &config::Store, running: Option<&Value>) -> Finding {
    if let Some(document) = running
        && text(document, "/store/state") == Some("failing")
    {
        let reason =
            text(document, "/store/reason").unwrap_or("the running station says that its store is failing");
        return Finding::failed(
            NAME,
            reason,
            "see `journalctl -u weather-station`; readings are kept in memory meanwhile",
        );
    }
    let folder = match store.path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let shown = folder.display();
    // A running station writes there as its own user; this command may be somebody else's.
    if running.is_none()
        && let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK)
    {
        return Finding::failed(
            NAME,
            format!("the folder {shown} of `store.path` cannot be written: {error}"),
            "make it, and let the user of the station own it (the package makes /var/lib/weather-station)",
        );
    }
    let free = match statvfs(folder) {
        Ok(disk) => disk.f_bavail * disk.f_frsize,
        Err(error) => {
            let detail = format!("could not ask how much room there is in {shown}: {error}");
            return Finding::failed(NAME, detail, "see whether the file system is mounted");
        }
    };
    let used: u64 = ["", "-wal"]
        .iter()
        .filter_map(|suffix| {
            let mut name = store.path.clone().into_os_string();
            name.push(suffix);
            std::fs::metadata(name).ok()
        })
        .map(|file| file.len())
        .sum();
    let wanted = store.max_size.saturating_sub(used);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let detail = format!(
        "{:.0} MB free in {shown}, the store has {:.1} MB of at most {:.0} MB",
        megabytes(free),
        megabytes(used),
        megabytes(store.max_size),
    );
    if free < wanted {
        return Finding::warning(
            NAME,
            detail,
            "lower `store.max_size` or make room: a full disk costs the oldest readings",
        );
    }
    Finding::ok(NAME, detail)
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn store(path: &Path, max_size: u64) -> config::Store {
        config::Store { path: path.to_owned(), max_size, ..config::Store::default() }
    }

    #[test]
    fn a_missing_folder_fails_and_too_little_room_warns() {
        let folder = tempfile::tempdir().unwrap();
        let good = check(&store(&folder.path().join("r.db"), 1 << 20), None);
        assert_eq!(good.status, Status::Ok, "{good:?}");
        let narrow = check(&store(&folder.path().join("r.db"), u64::MAX), None);
        assert_eq!(narrow.status, Status::Warning);
        let missing = check(&store(&folder.path().join("no/r.db"), 1 << 20), None);
        assert_eq!(missing.status, Status::Failed);
        assert!(missing.detail.contains("No such file"), "{missing:?}");
    }

    #[test]
    fn what_the_running_station_says_of_its_store_comes_first() {
        let document = serde_json::json!({"store": {"state": "failing", "reason": "the disk is full"}});
        let finding = check(&store(Path::new("/tmp/r.db"), 1 << 20), Some(&document));
        assert_eq!((finding.status, finding.detail.as_str()), (Status::Failed, "the disk is full"));
    }
}
