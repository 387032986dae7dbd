//! Printing: answers on standard output; on standard error the whole chain of an error, once.

use std::io::{self, Write as _};

use anyhow::Context as _;

/// Writes to standard output; a closed pipe is an error that [`is_broken_pipe`] knows.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("could not write to standard output")
}

/// Prints a line.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    print(&format!("{text}\n"))
}

/// Prints a line that the exit status sums up: where nobody reads it (`check | head -1`), the status still tells.
pub fn verdict(text: impl std::fmt::Display) -> anyhow::Result<()> {
    match line(text) {
        Err(error) if is_broken_pipe(&error) => Ok(()),
        done => done,
    }
}

/// The whole chain on standard error, each cause on a line of its own.
pub fn error(error: &anyhow::Error) {
    let mut text = format!("weather-station: {error}\n");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("  because: {cause}\n"));
    }
    // Nobody is left to tell when standard error is closed.
    drop(io::stderr().write_all(text.as_bytes()));
}

/// Tells on standard error what a command is waiting for.
pub fn note(text: impl std::fmt::Display) {
    // Nobody is left to tell when standard error is closed.
    drop(io::stderr().write_all(format!("weather-station: {text}\n").as_bytes()));
}

/// `export | head` is not a failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
