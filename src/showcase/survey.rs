//! Looks at the disk once a minute and at the settings when they change, and says what they cost.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;

use crate::config;
use crate::outlook::{Disk, Outlook};
use crate::settings::Settings;
use crate::status::Board;

const EVERY: Duration = Duration::from_secs(60);

/// Runs for ever.
pub async fn run(board: &Board, settings: &watch::Receiver<Settings>, store: &config::Store) {
    let mut settings = settings.clone();
    loop {
        let (interval, per_message) = {
            let now = settings.borrow_and_update();
            (now.sample_interval, now.readings_per_message)
        };
        let folder = store.path.parent().unwrap_or(Path::new("/")).to_owned();
        let disk = tokio::task::spawn_blocking(move || disk(&folder)).await.ok().flatten();
        board.outlook.send_replace(Some(Outlook::of(interval, per_message, store.max_loss, disk)));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            // A closed channel (the station is ending) must not turn this into a busy loop.
            changed = settings.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}

fn disk(folder: &Path) -> Option<Disk> {
    let found = rustix::fs::statvfs(folder).ok()?;
    Some(Disk { size: found.f_blocks * found.f_frsize, free: found.f_bavail * found.f_frsize })
}
