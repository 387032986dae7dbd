//! What `weather-station check` looks at, one file a check: configuration, sensor, TPM, clock, disk, hub in turn.
//! Reads everything, changes nothing. Where the station runs, the parts that it holds are asked of it.

mod clock;
pub mod configuration;
mod disk;
mod hub;
mod identity;
mod sensor;

use serde::Serialize;
use serde_json::Value;

use crate::config::Config;

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

/// Everything behind the configuration, in turn; `report` is called as each is known. `running` is the status
/// document of the station that runs with this configuration, if one does.
pub async fn all(config: &Config, running: Option<&Value>, mut report: impl FnMut(&Finding)) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |finding: Finding| {
        report(&finding);
        findings.push(finding);
    };
    add(sensor::check(config, running).await);
    add(identity::check(config).await);
    add(clock::check(running));
    add(disk::check(&config.store, running));
    add(hub::check(config, running).await);
    findings
}

/// The chain of an error in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// A text of the running station's status document.
fn text<'a>(running: &'a Value, pointer: &str) -> Option<&'a str> {
    running.pointer(pointer).and_then(Value::as_str)
}
