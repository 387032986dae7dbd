//! `run`: the daemon.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, core_dumps, log, runtime};
use crate::config::Config;
use crate::station;

/// Runs until SIGTERM or SIGINT. A second one ends the process at once: what was synced is safe.
pub fn run(config: Config) -> anyhow::Result<u8> {
    log::start();
    core_dumps::forbid();
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
        let (stop_tx, stop_rx) = tokio::sync::watch::channel(false);
        let station = station::run(config, stop_rx);
        tokio::pin!(station);
        let mut stopping = false;
        loop {
            tokio::select! {
                result = &mut station => return result,
                _ = terminate.recv() => {},
                _ = interrupt.recv() => {},
            }
            if stopping {
                tracing::warn!("a second signal: ending at once");
                return Ok(());
            }
            stopping = true;
            stop_tx.send_replace(true);
        }
    });
    runtime::end(runtime);
    result.map(|()| DONE)
}
