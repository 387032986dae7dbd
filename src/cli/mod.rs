//! The command line: what can be said, and how it ends. The only part that prints. A command is one file.

mod arguments;
mod check;
mod core_dumps;
mod daemon;
mod export;
mod log;
mod output;
mod provision;
mod read;
mod run;
mod runtime;
mod status;
mod token;
mod verify;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::arguments::Checked;
use crate::config::{self, Config, ConfigError};

/// A headless weather station: BME280 to disk to Azure IoT Hub, signed by a TPM 2.0.
#[derive(Debug, Parser)]
#[command(name = "weather-station", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file
    #[arg(long, global = true, value_name = "FILE", value_parser = Checked(arguments::file))]
    #[arg(default_value = "/etc/weather-station/station.toml")]
    pub config: PathBuf,
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Be the station: sample, store, send (the daemon; SIGTERM ends it in order)
    Run,
    /// Take one reading and print it
    Read {
        /// Print JSON, with the keys of telemetry
        #[arg(long)]
        json: bool,
    },
    /// Put the station's identity into the TPM, show it, or remove it
    Provision(provision::Arguments),
    /// Print a SAS token made by the TPM (a secret until it expires)
    Token {
        /// How long it is to hold, 1s to 24h
        #[arg(long, default_value = "1h", value_parser = token::lifetime, value_name = "TIME")]
        lifetime: std::time::Duration,
    },
    /// Tell what the running station is doing
    Status {
        /// Print the whole status document as JSON
        #[arg(long)]
        json: bool,
    },
    /// Check configuration, sensor, TPM, clock, disk and hub in turn
    Check {
        /// Print the results as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print readings from the store, also while the station runs
    Export(export::Arguments),
    /// Prove from messages exported from the hub that nothing is missing
    Verify {
        /// JSON lines: a message body, or an exported message, per line
        #[arg(required = true, value_name = "FILE", value_parser = Checked(arguments::file))]
        files: Vec<PathBuf>,
    },
}

/// Parses, runs, reports: 0 done, 1 failed, 64 wrong arguments, 78 wrong configuration.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => {
            let wanted = !error.use_stderr();
            // Nobody is left to tell when standard error is closed.
            drop(match arguments::instead(&error, &arguments) {
                Some(text) => std::io::stderr().write_all(text.as_bytes()),
                None => error.print(),
            });
            return ExitCode::from(if wanted { DONE } else { WRONG_ARGUMENTS });
        }
    };
    match cli.command.run(&cli.config) {
        Ok(code) => ExitCode::from(code),
        Err(error) if output::is_broken_pipe(&error) => ExitCode::from(DONE),
        Err(error) => {
            output::error(&error);
            ExitCode::from(match error.downcast_ref::<ConfigError>() {
                Some(_) => WRONG_CONFIGURATION,
                None => FAILED,
            })
        }
    }
}

const DONE: u8 = 0;
const FAILED: u8 = 1;
/// EX_USAGE of sysexits.h.
const WRONG_ARGUMENTS: u8 = 64;
/// EX_CONFIG of sysexits.h; systemd is told not to restart on it.
const WRONG_CONFIGURATION: u8 = 78;

impl Command {
    fn run(self, file: &std::path::Path) -> anyhow::Result<u8> {
        let config = || -> anyhow::Result<Config> { Ok(config::load(file)?) };
        match self {
            Self::Run => run::run(config()?),
            Self::Read { json } => read::run(&config()?, json),
            Self::Provision(arguments) => provision::run(&config()?, arguments),
            Self::Token { lifetime } => token::run(&config()?, lifetime),
            Self::Status { json } => status::run(&config()?, json),
            Self::Check { json } => check::run(file, json),
            Self::Export(arguments) => export::run(&config()?, arguments),
            Self::Verify { files } => verify::run(&files),
        }
    }
}
