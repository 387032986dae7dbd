//! `read`: one reading, from the running station where there is one, else from the sensor itself.

use crate::config::Config;

pub fn run(_config: &Config, _json: bool) -> anyhow::Result<u8> {
    anyhow::bail!("the sensor cannot be read yet")
}
