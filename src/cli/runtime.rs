//! How the run time of a command begins and ends. Knows no command.

use std::time::Duration;

use anyhow::Context as _;
use tokio::runtime::{Builder, Runtime};

/// How long the threads of blocking calls may take to end.
const THREADS: Duration = Duration::from_secs(1);

/// For the commands that ask one thing.
pub fn start() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("could not start the asynchronous run time")
}

/// Waits for the threads: at the end of the process OpenSSL, which the TPM's libraries bring along, cleans up after all of
/// them, and a thread that ends at the same time does so as well. A device that hangs must not hold up the end; its
/// thread does not end.
pub fn end(runtime: Runtime) {
    runtime.shutdown_timeout(THREADS);
}
