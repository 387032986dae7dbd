//! `export`: readings from the store, oldest first, as CSV or JSON lines; also while the station runs.

use clap::{Args, ValueEnum};

use super::output::{Moment, moment};
use crate::config::Config;

/// Which readings, and how.
#[derive(Debug, Args)]
pub struct Arguments {
    /// From this moment on: a time, a day, or how long ago (7d)
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Moment>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Moment>,
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A header and a line per reading
    Csv,
    /// A JSON object per line, with the keys of telemetry
    Json,
}

pub fn run(_config: &Config, _arguments: Arguments) -> anyhow::Result<u8> {
    anyhow::bail!("the store cannot be exported yet")
}
