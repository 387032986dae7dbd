//! `token`: a SAS token made by the TPM (or with the key file), for trying the hub by hand.

use std::time::Duration;

use anyhow::bail;

use super::{DONE, core_dumps, output};
use crate::clock::{ClockState, Timekeeper};
use crate::config::{Config, units};
use crate::identity::sas_token::{self, SasToken};
use crate::{identity, station};

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
    core_dumps::forbid();
    output::line(make(config, lifetime, &station::timekeeper())?.secret_text())?;
    Ok(DONE)
}

fn make(config: &Config, lifetime: Duration, timekeeper: &Timekeeper) -> anyhow::Result<SasToken> {
    if timekeeper.state() == ClockState::Wrong {
        bail!("no token is made while the clock is wrong: it {}", timekeeper.status().reason);
    }
    let mut signer = identity::open(&config.identity)?;
    let name = signer.identity()?;
    Ok(sas_token::for_device(signer.as_mut(), &name, timekeeper.now(), lifetime)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;

    use chrono::{DateTime, Utc};

    use super::*;
    use crate::clock::Stopped;
    use crate::config::IdentitySource;

    #[test]
    fn no_token_is_made_while_the_clock_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let key_file = dir.path().join("key");
        std::fs::write(&key_file, "HostName=h;DeviceId=d;SharedAccessKey=a2V5").unwrap();
        std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let mut config = Config::default();
        (config.identity.source, config.identity.key_file) = (IdentitySource::KeyFile, key_file);
        let built: DateTime<Utc> = "2026-06-01T12:00:00Z".parse().unwrap();
        let at = |wall: DateTime<Utc>| {
            let clock = Stopped { wall, since_boot: Duration::from_secs(600), synchronised: false };
            let timekeeper = Timekeeper::new(Arc::new(clock), built);
            make(&config, Duration::from_secs(3600), &timekeeper)
        };
        let day = chrono::TimeDelta::days(1);
        let refusal = at(built - day).unwrap_err().to_string();
        assert!(refusal.starts_with("no token is made while the clock is wrong: it "), "{refusal}");
        let token = at(built + day).unwrap();
        assert!(token.secret_text().starts_with("SharedAccessSignature sr=h%2Fdevices%2Fd&"));
        assert_eq!(token.expiry, built + day + chrono::TimeDelta::hours(1));
    }
}
