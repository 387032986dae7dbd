//! `run`: the daemon.

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{DONE, log};
use crate::config::Config;
use crate::station;

/// Runs until SIGTERM or SIGINT. A second one ends the process at once: what was synced is safe.
pub fn run(config: Config) -> anyhow::Result<u8> {
    log::start();
    forbid_core_dumps();
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
    // A blocked hardware call must not hold up the end.
    runtime.shutdown_background();
    result.map(|()| DONE)
}

/// A token in memory must not end up in a file: neither by a limit nor by a piped core pattern.
fn forbid_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "could not forbid core dumps by limit");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "could not forbid core dumps");
    }
}
