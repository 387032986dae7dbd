//! What `weather-station check` looks at, one file a check: configuration, sensor, TPM, clock, disk, hub in turn.
//! Changes nothing (a file without a name is written to time the disk, and is gone with its descriptor). Where the
//! station runs, the parts that it holds are asked of it: a second user would disturb it.

mod clock;
pub mod configuration;
mod disk;
mod hub;
mod identity;
pub mod in_force;
mod sensor;

use serde::Serialize;
use serde_json::Value;

pub use self::in_force::InForce;
use crate::config::{Config, folder_of};
use crate::outlook::{Disk, Outlook};

/// One result.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// `configuration`, `sensor`, `tpm`, `clock`, `disk` or `hub`.
    pub name: &'static str,
    pub status: Status,
    /// What was found.
    pub detail: String,
    /// What to do, where something is to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Warning,
    Failed,
}

impl Finding {
    pub fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), remedy: None }
    }

    pub fn warning(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Warning, detail: detail.into(), remedy: Some(remedy.into()) }
    }

    pub fn failed(name: &'static str, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name, status: Status::Failed, detail: detail.into(), remedy: Some(remedy.into()) }
    }
}

/// The station that runs with this configuration.
#[derive(Debug)]
pub enum Station {
    /// None does.
    Absent,
    /// One does, or nobody can tell, and it cannot be asked.
    Mute { why: String, remedy: &'static str },
    /// Its status document.
    Says(Value),
}

impl Station {
    const MUTE: &str = "set `showcase.listen`, restart the station and check again";

    const BEGINS: &str = "check again in a minute";

    /// One that holds its store, or the sensor's bus, and does not answer.
    pub fn mute() -> Self {
        Self::Mute { why: "a station runs but cannot be asked".into(), remedy: Self::MUTE }
    }

    /// Whether it has begun with everything: what is wrong by now, it says.
    pub fn has_begun(document: &Value) -> bool {
        let online = text(document, "/cloud/state") == Some("online");
        (online || text(document, "/cloud/reason").is_some())
            && text(document, "/sensor/state") != Some("starting")
    }

    /// What it says of itself.
    pub fn document(&self) -> Option<&Value> {
        match self {
            Self::Says(document) => Some(document),
            Self::Absent | Self::Mute { .. } => None,
        }
    }
}

/// Everything behind the configuration, in turn; `report` is called as each is known.
pub async fn all(config: &Config, station: &Station, mut report: impl FnMut(&Finding)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding: Finding| {
        report(&finding);
        findings.push(finding);
    };
    add(sensor::check(config, station).await);
    add(identity::check(config, station).await);
    add(clock::check(station.document()));
    add(disk::check(config, station));
    add(hub::check(config, station).await);
    findings
}

/// What the settings in force cost: as the running station says, or by this configuration.
pub fn outlook(config: &Config, station: &Station) -> Value {
    if let Some(outlook) =
        station.document().and_then(|document| document.get("outlook")).filter(|o| !o.is_null())
    {
        return outlook.clone();
    }
    let (per_message, max_loss) = (config.telemetry.readings_per_message, config.store.max_loss);
    let disk = Disk::at(folder_of(&config.store.path)).ok();
    let outlook = Outlook::of(config.sensor.interval, per_message, max_loss, disk);
    serde_json::to_value(outlook).unwrap_or_default()
}

/// A text of the running station's status document.
fn text<'a>(running: &'a Value, pointer: &str) -> Option<&'a str> {
    running.pointer(pointer).and_then(Value::as_str)
}
