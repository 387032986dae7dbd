//! The configuration file: what can be said in it, the defaults, and every check before any device is opened.
//! Knows the file and nothing else; what the cloud changes at run time is not here.

mod in_force;
mod parse;
mod section;
pub mod units;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::in_force::in_force;
pub use self::parse::{ConfigError, endpoint, is_registration_id, load, parse};

/// The whole file. Each section has working defaults.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Config {
    /// Where it was read from, for messages; empty for a text that no file held.
    pub file: PathBuf,
    pub station: Station,
    pub sensor: Sensor,
    pub identity: Identity,
    pub provisioning: Provisioning,
    pub hub: Hub,
    pub telemetry: Telemetry,
    pub store: Store,
    pub showcase: Showcase,
    /// The keys that the file sets, as `section.key`: everything else is a default.
    pub set_in_file: std::collections::BTreeSet<String>,
}

/// `[station]`
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Station {
    /// Metres above mean sea level, -500 to 9,000; adds sea-level pressure.
    pub altitude: Option<f64>,
}

/// `[sensor]`
#[derive(Debug, Clone, PartialEq)]
pub struct Sensor {
    pub source: SensorSource,
    /// Opened, never stat'ed.
    pub bus: PathBuf,
    /// 0x76 or 0x77; without it both are tried in this order.
    pub address: Option<u8>,
    /// 1 s to 24 h.
    pub interval: Duration,
    pub oversampling: Oversampling,
    pub offset: Offset,
    /// Simulated only: the CSV to replay; without it a day's synthetic curve.
    pub trace: Option<PathBuf>,
    /// Simulated only: how many times faster than real time the trace runs.
    pub speed: f64,
}

/// Where readings come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SensorSource {
    Bme280,
    Simulated,
}

/// Each 1, 2, 4, 8 or 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Oversampling {
    #[serde(default = "one")]
    pub temperature: u8,
    #[serde(default = "one")]
    pub pressure: u8,
    #[serde(default = "one")]
    pub humidity: u8,
}

fn one() -> u8 {
    1
}

/// Added to what the chip gives: degC, hPa, %RH.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    #[serde(default)]
    pub temperature: f64,
    #[serde(default)]
    pub pressure: f64,
    #[serde(default)]
    pub humidity: f64,
}

/// `[identity]`
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    pub source: IdentitySource,
    /// `device:/dev/tpmrm0` or `swtpm:host=127.0.0.1,port=2321`.
    pub tcti: String,
    /// 0 to 9.
    pub slot: u8,
    /// With `key-file`: a file, mode 0600, that holds a device connection string.
    pub key_file: PathBuf,
}

/// Who signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IdentitySource {
    #[default]
    Tpm,
    KeyFile,
}

/// `[provisioning]`
#[derive(Debug, Clone, PartialEq)]
pub struct Provisioning {
    /// Empty: no Device Provisioning Service.
    pub id_scope: String,
    /// Host or host:port.
    pub endpoint: String,
    /// Empty: derived from the endorsement key.
    pub registration_id: String,
}

/// `[hub]`
#[derive(Debug, Clone, PartialEq)]
pub struct Hub {
    pub transport: Transport,
    pub port: u16,
    pub websocket_port: u16,
    /// One more trusted root (PEM).
    pub ca_file: Option<PathBuf>,
    /// 2 min to 24 h.
    pub token_lifetime: Duration,
}

/// How the hub is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    Auto,
    Amqp,
    Websocket,
}

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Readings in one transfer at most, 1 to 10,000.
    pub batch: usize,
    /// 0: no ceiling. Counts inner messages.
    pub max_messages_per_second: u32,
    /// 1 to 1,000.
    pub readings_per_message: usize,
}

/// `[store]`
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub path: PathBuf,
    /// Bytes, database and journal together; at least 1 MiB.
    pub max_size: u64,
    /// Sent readings older than this are pruned.
    pub keep: Duration,
    /// 0 to 10 min: what the death of the machine may cost.
    pub max_loss: Duration,
}

/// The folder that a file is in; a bare name is in the current one.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// `[showcase]`
#[derive(Debug, Clone, PartialEq)]
pub struct Showcase {
    /// Empty in the file: no page.
    pub listen: Option<std::net::SocketAddr>,
}

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl Default for Sensor {
    fn default() -> Self {
        Self {
            source: SensorSource::Bme280,
            bus: "/dev/i2c-1".into(),
            address: None,
            interval: MINUTE,
            oversampling: Oversampling::default(),
            offset: Offset::default(),
            trace: None,
            speed: 1.0,
        }
    }
}

impl Default for Oversampling {
    fn default() -> Self {
        Self { temperature: 1, pressure: 1, humidity: 1 }
    }
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            source: IdentitySource::Tpm,
            tcti: "device:/dev/tpmrm0".into(),
            slot: 0,
            key_file: PathBuf::new(),
        }
    }
}

impl Default for Provisioning {
    fn default() -> Self {
        Self {
            id_scope: String::new(),
            endpoint: "global.azure-devices-provisioning.net".into(),
            registration_id: String::new(),
        }
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self {
            transport: Transport::Auto,
            port: 5671,
            websocket_port: 443,
            ca_file: None,
            token_lifetime: 60 * MINUTE,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { batch: 500, max_messages_per_second: 0, readings_per_message: 1 }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: "/var/lib/weather-station/readings.db".into(),
            max_size: 512 << 20,
            keep: 400 * DAY,
            max_loss: Duration::ZERO,
        }
    }
}

impl Default for Showcase {
    fn default() -> Self {
        Self { listen: Some(std::net::SocketAddr::from(([127, 0, 0, 1], 8080))) }
    }
}
