//! `token`: a SAS token made by the TPM (or with the key file), for trying the hub by hand.

use std::time::Duration;

use anyhow::bail;

use super::{DONE, core_dumps, output};
use crate::clock::ClockState;
use crate::config::{Config, units};
use crate::identity::{self, sas_token};
use crate::station;

/// No longer than the configuration would allow.
const LONGEST: Duration = Duration::from_secs(86_400);

/// For clap: `90s`, `1h`.
pub fn lifetime(text: &str) -> Result<Duration, &'static str> {
    units::duration(text)
        .filter(|lifetime| (Duration::from_secs(1)..=LONGEST).contains(lifetime))
        .ok_or("expected 1s to 24h, such as 90s, 15m or 1h")
}

/// Prints the token and nothing else.
pub fn run(config: &Config, lifetime: Duration) -> anyhow::Result<u8> {
    let timekeeper = station::timekeeper();
    if timekeeper.state() == ClockState::Wrong {
        bail!("no token is made while the clock is wrong: it {}", timekeeper.status().reason);
    }
    core_dumps::forbid();
    let mut signer = identity::open(&config.identity)?;
    let name = signer.identity()?;
    let token = sas_token::for_device(signer.as_mut(), &name, timekeeper.now(), lifetime)?;
    output::line(token.secret_text())?;
    Ok(DONE)
}
