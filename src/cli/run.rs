//! `run`: the daemon.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{DONE, core_dumps, log, runtime};
use crate::config::Config;
use crate::station;

/// Runs until SIGTERM, SIGINT or SIGHUP. A second one of the first two ends the process at once: what was synced is safe.
pub fn run(config: Config) -> anyhow::Result<u8> {
    log::start();
    core_dumps::forbid();
    let heeds_hangup = !ignores_hangup();
    // One thread for all that waits: whatever blocks has its own call on another one.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(30))
        .enable_all()
        .build()
        .context("could not start the asynchronous run time")?;
    let result = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("could not listen for SIGTERM")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("could not listen for SIGINT")?;
        let hangup = || signal(SignalKind::hangup()).context("could not listen for SIGHUP");
        let mut hangup = heeds_hangup.then(hangup).transpose()?;
        let (stop_tx, stop_rx) = tokio::sync::watch::channel(false);
        let station = station::run(config, stop_rx);
        tokio::pin!(station);
        let mut asked = false;
        loop {
            let hurries = tokio::select! {
                result = &mut station => return result,
                _ = terminate.recv() => true,
                _ = interrupt.recv() => true,
                // A terminal that closes tells it twice, by its shell and by the kernel: nobody is in a hurry.
                () = received(&mut hangup) => false,
            };
            if asked && hurries {
                tracing::warn!("a second signal: ending at once");
                return Ok(());
            }
            asked |= hurries;
            stop_tx.send_replace(true);
        }
    });
    runtime::end(runtime);
    result.map(|()| DONE)
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whoever started it with `nohup` wants it to outlive the terminal: a handler would undo that.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // The bit of signal 1 is the lowest.
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}
