//! The disk: a folder that can be written, room for the store's full size, a store that is well, how long a synced
//! write takes and how long the card lasts.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{Access, Mode, OFlags, access, fdatasync, open};
use rustix::io::pwrite;
use serde_json::Value;
use tokio::time::Instant;

use super::{Finding, Station, text};
use crate::config::{Config, folder_of};
use crate::outlook::Disk;

const NAME: &str = "disk";

/// Slower than this, a reading a second cannot be synced one by one.
const TOO_SLOW: Duration = Duration::from_secs(1);

pub fn check(config: &Config, station: &Station) -> Finding {
    let store = &config.store;
    if let Some(document) = station.document()
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
    let folder = folder_of(&store.path);
    let shown = folder.display();
    // A running station writes there as its own user; this command may be somebody else's.
    if matches!(station, Station::Absent)
        && let Err(error) = access(folder, Access::WRITE_OK | Access::EXEC_OK)
    {
        return Finding::failed(
            NAME,
            format!("the folder {shown} of `store.path` cannot be written: {error}"),
            "make it, and let the user of the station own it (the package makes /var/lib/weather-station)",
        );
    }
    let free = match Disk::at(folder) {
        Ok(disk) => disk.free,
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
    let mut detail = format!(
        "{:.0} MB free in {shown}, the store has {:.1} MB of at most {:.0} MB",
        megabytes(free),
        megabytes(used),
        megabytes(store.max_size),
    );
    let synced = synced_write(folder);
    if let Some(time) = synced {
        detail.push_str(&format!("; a synced write of 4 KiB takes {:.1} ms", time.as_secs_f64() * 1e3));
    }
    if let Some(years) = super::outlook(config, station).get("cardLifeYears").and_then(Value::as_f64) {
        detail.push_str(&match years {
            ..100.0 => format!("; a cheap card lasts {years:.0} years"),
            _ => "; a cheap card lasts longer than 100 years".into(),
        });
    }
    if free < wanted {
        return Finding::warning(
            NAME,
            detail,
            "lower `store.max_size` or make room: a full disk costs the oldest readings",
        );
    }
    if synced.is_some_and(|time| time > TOO_SLOW) {
        return Finding::warning(NAME, detail, "replace the card: it is worn or broken, see `dmesg`");
    }
    Finding::ok(NAME, detail)
}

/// The median of some writes of 4 KiB with fdatasync, to a file that never gets a name. `None` where this user, or
/// this file system, cannot make one.
fn synced_write(folder: &Path) -> Option<Duration> {
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = open(folder, flags, Mode::RUSR | Mode::WUSR).ok()?;
    let mut times = Vec::new();
    for page in 0..5 {
        let begin = Instant::now();
        pwrite(&file, &[0x5A; 4096], page * 4096).ok().filter(|written| *written == 4096)?;
        fdatasync(&file).ok()?;
        times.push(begin.elapsed());
    }
    times.sort();
    Some(times[times.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;
    use crate::config::Store;

    fn config(path: &Path, max_size: u64) -> Config {
        let store = Store { path: path.to_owned(), max_size, ..Store::default() };
        Config { store, ..Config::default() }
    }

    #[test]
    fn a_missing_folder_fails_and_too_little_room_warns() {
        let folder = tempfile::tempdir().unwrap();
        let good = check(&config(&folder.path().join("r.db"), 1 << 20), &Station::Absent);
        assert_eq!(good.status, Status::Ok, "{good:?}");
        assert!(good.detail.contains("a synced write of 4 KiB takes "), "{good:?}");
        assert!(good.detail.contains("a cheap card lasts "), "{good:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
        let narrow = check(&config(&folder.path().join("r.db"), u64::MAX), &Station::Absent);
        assert_eq!(narrow.status, Status::Warning);
        let missing = check(&config(&folder.path().join("no/r.db"), 1 << 20), &Station::Absent);
        assert_eq!(missing.status, Status::Failed);
        assert!(missing.detail.contains("No such file"), "{missing:?}");
    }

    #[test]
    fn what_the_running_station_says_of_its_store_comes_first() {
        let failing = serde_json::json!({"store": {"state": "failing", "reason": "the disk is full"}});
        let finding = check(&config(Path::new("/tmp/r.db"), 1 << 20), &Station::Says(failing));
        assert_eq!((finding.status, finding.detail.as_str()), (Status::Failed, "the disk is full"));
        let worn = serde_json::json!({"outlook": {"cardLifeYears": 3.4}});
        let finding = check(&config(Path::new("/tmp/r.db"), 1 << 20), &Station::Says(worn));
        assert!(finding.detail.contains("a cheap card lasts 3 years"), "{finding:?}");
    }
}
