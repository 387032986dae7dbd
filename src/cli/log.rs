//! The log: standard error, one line an event; under systemd without time and colours, which the journal adds.

use std::io::IsTerminal as _;

use tracing::Level;
use tracing_subscriber::fmt;

/// `WEATHER_STATION_LOG` is one of `error`, `warn`, `info` (the default), `debug`, `trace`.
pub fn start() {
    let level = std::env::var("WEATHER_STATION_LOG")
        .ok()
        .and_then(|text| text.parse::<Level>().ok())
        .unwrap_or(Level::INFO);
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let log = fmt::Subscriber::builder()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_target(false)
        // They would be told on standard error as well, and a terminal that was closed must not end the station.
        .log_internal_errors(false)
        .with_ansi(!journal && std::io::stderr().is_terminal());
    let started = if journal {
        tracing::subscriber::set_global_default(log.without_time().finish())
    } else {
        tracing::subscriber::set_global_default(log.finish())
    };
    if started.is_err() {
        tracing::debug!("a log was there already");
    }
}
