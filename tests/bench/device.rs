//! What a reading costs the card: sectors written to a private device (a loop device with ext4 of its own), by a
//! station at its everyday pace, sending included. `/proc/PID/io` does not know the file system's journal.

use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rusqlite::config::DbConfig;
use weather_station::outlook::Outlook;

use crate::fill::fill;
use crate::rig::{Process, config, hub};
use crate::table::Table;

const INTERVAL: Duration = Duration::from_secs(5);
/// Just under the five minutes after which the file system commits its journal with `commit=300`: it is the `sync` at the
/// end that makes it do so, and not both.
const READINGS: u32 = 58;
/// What the journal is brought to its full size with first, which the store limits it to: while it grows each commit
/// costs the file system's journal as well.
const BACKLOG: u64 = 20_000;
const JOURNAL: u64 = 1 << 20;
const SECTOR: f64 = 512.0;
/// A usual card, and what of it the estimate of `status` takes for worn out.
const CARD: weather_station::outlook::Disk = weather_station::outlook::Disk { size: 16 << 30, free: 8 << 30 };

/// Both settings, on a file system as it is mounted by itself and on one that commits its own journal every five minutes
/// and not every five seconds, each beside the least that it can be there; all at the same time, six minutes.
pub async fn measure(station: &Path, table: &mut Table) {
    let row = async |max_loss: u64, target: f64, option: &'static str| {
        let every = Duration::from_secs(max_loss).max(INTERVAL);
        let (bytes, bare) = tokio::join!(stored(station, max_loss, option), bare(every, option));
        (max_loss, target, option, bytes.zip(bare))
    };
    let (now, gathered, now_rarely, gathered_rarely) = tokio::join!(
        row(0, 7_000.0, ""),
        row(60, 1_000.0, ""),
        row(0, 7_000.0, ",commit=300"),
        row(60, 1_000.0, ",commit=300"),
    );
    for (max_loss, target, option, bytes) in [now, gathered, now_rarely, gathered_rarely] {
        let what = format!("device bytes a reading, max_loss {max_loss}s{option}");
        let Some((bytes, bare)) = bytes else {
            table.state(&what, "not measured: needs root, for a loop device");
            continue;
        };
        let estimate = Outlook::of(INTERVAL, 1, Duration::from_secs(max_loss), Some(CARD));
        let said = estimate.written_per_day / estimate.readings_per_day;
        let years = estimate.card_life_years.unwrap() * said / bytes;
        table.judge(
            &what,
            format!("{bytes:.0} B: a 16 GB card for {years:.0} years"),
            format!(
                "every {} s; bare 4 KiB write + fdatasync as often: {bare:.0} B: {:.2}x; `status` estimates {said:.0} B",
                INTERVAL.as_secs(),
                bytes / bare,
            ),
            &format!("{target:.0} B"),
            bytes <= target,
            None,
        );
    }
}

/// What a station that sends makes of it. `None` where no loop device can be had.
async fn stored(station: &Path, max_loss: u64, option: &str) -> Option<f64> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Mounted::new(dir.path(), option)?;
    let hub = hub(0);
    fill(&disk.store(), BACKLOG, INTERVAL).await;
    // The last one to close a database removes its journal, where it is not told to leave it.
    let filler = rusqlite::Connection::open(disk.store()).unwrap();
    let twice = "BEGIN; UPDATE reading SET run = 'other'; UPDATE reading SET run = 'bench'; COMMIT";
    filler.execute_batch(twice).unwrap();
    filler.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(filler);
    let journal = std::fs::metadata(disk.beside("-wal")).unwrap().len();
    assert!(journal >= JOURNAL, "the journal has {journal} bytes");
    let more = format!("max_loss = \"{max_loss}s\"");
    let interval = format!("{}s", INTERVAL.as_secs());
    let config = config(dir.path(), &hub, hub.port(), &interval, &more)
        .replace(&dir.path().join("readings.db").display().to_string(), &disk.store().display().to_string());
    let process = Process::start(station, dir.path(), &config);
    let every = Duration::from_millis(200);
    let taken = |status: &serde_json::Value| status["sensor"]["taken"].as_u64().unwrap_or(0);
    let ready = |status: &serde_json::Value| status["sensor"]["state"] == "ok";
    process.until("it takes readings", Duration::from_secs(30), every, ready).await;
    let gone = |status: &serde_json::Value| status["cloud"]["lastAcceptedSequence"].as_u64() >= Some(BACKLOG);
    process.until("the backlog and the first readings are sent", Duration::from_secs(60), every, gone).await;
    // What was gathered meanwhile is on the disk after this.
    tokio::time::sleep(Duration::from_secs(61)).await;
    let begun = process.until("it answers", INTERVAL, every, |_| true).await;
    let before = disk.written_and_settled();
    let enough = taken(&begun) + u64::from(READINGS);
    let limit = INTERVAL * (READINGS + 12);
    let ended = process.until("enough readings", limit, every, |status| taken(status) >= enough).await;
    let written = disk.written_and_settled() - before;
    Some(written / (taken(&ended) - taken(&begun)) as f64)
}

/// The least that it can be: one page and one flush, into a file that does not grow, as often as the station syncs.
async fn bare(every: Duration, option: &str) -> Option<f64> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Mounted::new(dir.path(), option)?;
    let file = std::fs::File::create(disk.folder.join("bare")).unwrap();
    file.write_all_at(&vec![0; usize::try_from(JOURNAL).unwrap()], 0).unwrap();
    file.sync_all().unwrap();
    let before = disk.written_and_settled();
    let mut pace = tokio::time::interval(every);
    let writes = (INTERVAL * READINGS).as_secs() / every.as_secs();
    for index in 0..writes {
        pace.tick().await;
        file.write_all_at(&[7; 4096], index * 4096).unwrap();
        file.sync_data().unwrap();
    }
    pace.tick().await;
    let readings = every.as_secs_f64() / INTERVAL.as_secs_f64() * writes as f64;
    Some((disk.written_and_settled() - before) / readings)
}

/// An ext4 of its own, unmounted at the end; the kernel gives the loop device up with it.
struct Mounted {
    folder: PathBuf,
    statistics: PathBuf,
}

impl Mounted {
    /// `option` as it follows another one: with its comma, or nothing. `None` for whoever is not root; root is told what
    /// went wrong.
    fn new(dir: &Path, option: &str) -> Option<Self> {
        let (image, folder) = (dir.join("disk"), dir.join("mounted"));
        std::fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        std::fs::create_dir(&folder).unwrap();
        // All of it made now: the kernel would otherwise go on making it while the readings are counted.
        let made = ["-q", "-F", "-t", "ext4", "-b", "4096", "-E", "lazy_itable_init=0,lazy_journal_init=0"];
        let mounted = run(Command::new("mke2fs").args(made).arg(&image)).and_then(|()| {
            run(Command::new("mount").args(["-o", &format!("loop{option}")]).arg(&image).arg(&folder))
        });
        if let Err(error) = mounted {
            assert!(!is_root(), "no disk of its own, though this is root: {error}");
            return None;
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let device = mounts
            .lines()
            .filter_map(|line| line.split_once(' '))
            .find(|(_, rest)| rest.starts_with(&format!("{} ", folder.display())))
            .map(|(device, _)| device.trim_start_matches("/dev/").to_owned())
            .unwrap();
        Some(Self { folder, statistics: Path::new("/sys/block").join(device).join("stat") })
    }

    fn store(&self) -> PathBuf {
        self.folder.join("readings.db")
    }

    fn beside(&self, ending: &str) -> PathBuf {
        format!("{}{ending}", self.store().display()).into()
    }

    /// Bytes since the device is there, with all that still waits in memory: the seventh number of its statistics, in
    /// sectors (Linux, Documentation/block/stat.rst).
    fn written_and_settled(&self) -> f64 {
        run(Command::new("sync").arg("-f").arg(&self.folder)).expect("sync");
        let text = std::fs::read_to_string(&self.statistics).unwrap();
        text.split_whitespace().nth(6).unwrap().parse::<f64>().unwrap() * SECTOR
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Nobody waits for what else could be done about it; the mounts of the bench are its own and end with it.
        let _unmounted = run(Command::new("umount").arg("-l").arg(&self.folder));
    }
}

/// Not one who is called so in a user namespace, where nobody may mount a disk.
fn is_root() -> bool {
    let ids = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    rustix::process::geteuid().is_root() && ids.split_whitespace().eq(["0", "0", "4294967295"])
}

/// `Err`: what it said.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    output.status.success().then_some(()).ok_or_else(|| format!("{name}, {}: {}", output.status, said.trim()))
}
