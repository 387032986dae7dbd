//! What each part says of itself, in one place: the document behind `status --json`, `/api/status`, the
//! page and `/metrics`. Parts write their own piece; readers put the pieces together. Nothing secret is here.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::watch;

use crate::clock::{ClockStatus, Timekeeper};
use crate::config::IdentitySource;
use crate::identity::Identity;
use crate::identity::sas_token::SasToken;
use crate::observation::LastReading;
use crate::outlook::Outlook;
use crate::reading::{Stamp, TimeQuality};

/// One `watch` channel a part, and who writes it. Cloned by `Arc`.
#[derive(Debug, Default)]
pub struct Board {
    /// Written by the sensor task.
    pub sensor: watch::Sender<SensorStatus>,
    /// Written by the store task.
    pub store: watch::Sender<StoreStatus>,
    /// Written by the cloud task; by its renewals, the token; by its inbox, the messages.
    pub cloud: watch::Sender<CloudStatus>,
    /// Written by the cloud task; at the start by the station, the source; by the showcase, the TPM.
    pub identity: watch::Sender<IdentityStatus>,
    /// Value in force and where it came from, per key (`sensor.interval` and so on). Written by the station at its
    /// start, and when the twin changes a value.
    pub configuration: watch::Sender<BTreeMap<String, InForce>>,
    /// Counts the identities that were put into the TPM by this process: the cloud task asks the signer at once
    /// who it is instead of at its next turn. The TPM form writes it.
    pub provisioned: watch::Sender<u64>,
    /// What the settings in force cost a day; the showcase looks at the disk once a minute and writes it.
    pub outlook: watch::Sender<Option<Outlook>>,
}

/// A configuration value in force.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InForce {
    pub value: serde_json::Value,
    /// `default`, `file` or `twin`.
    pub from: &'static str,
}

/// `sensor` of the status document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SensorStatus {
    /// `starting`, `ok`, `failing`, or `absent` while no BME280 has answered yet.
    pub state: SensorState,
    /// Why it is not ok.
    pub reason: Option<String>,
    /// What the chip is: `BME280 at 0x76 on /dev/i2c-1`.
    pub chip: Option<String>,
    /// The last reading, in telemetry's keys.
    pub last_reading: Option<LastReading>,
    /// Samples that were due and not taken since the process started.
    pub missed: u64,
    /// Samples taken since the process started.
    pub taken: u64,
    /// How late the last samples began, in milliseconds: median and worst.
    pub jitter_median: f64,
    pub jitter_worst: f64,
}

/// See [`SensorStatus::state`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SensorState {
    #[default]
    Starting,
    Ok,
    Failing,
    Absent,
}

/// `store` of the status document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreStatus {
    /// `starting`, `ok` or `failing`.
    pub state: StoreState,
    /// Why it is not ok.
    pub reason: Option<String>,
    pub store_id: String,
    /// The newest sequence number that is on disk; 0 for an empty store.
    pub last_sequence: u64,
    /// Readings on disk that the hub has not accepted.
    pub pending: u64,
    pub oldest_pending_time: Option<DateTime<Utc>>,
    /// Readings in memory, not yet on disk (`max_loss`, or a full disk).
    pub in_memory: u64,
    /// Database and journal.
    pub bytes: u64,
    pub dead_letters: u64,
}

/// See [`StoreStatus::state`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    #[default]
    Starting,
    Ok,
    Failing,
}

/// `cloud` of the status document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CloudStatus {
    pub state: CloudState,
    /// Since when it is online, or since when it is not: an attempt that fails begins nothing new.
    #[serde(serialize_with = "time_of")]
    pub since: Option<Stamp>,
    /// Why it is not online, or why it is and yet sends nothing, in a sentence.
    pub reason: Option<String>,
    /// What kind of thing that is, while it is not online: `check` has a remedy for each.
    pub failure: Option<Failure>,
    pub last_accepted: Option<DateTime<Utc>>,
    /// Highest sequence that the hub has accepted.
    pub last_accepted_sequence: u64,
    /// Messages accepted since the process started.
    pub accepted: u64,
    pub token_expires: Option<DateTime<Utc>>,
    pub token_renew_at: Option<DateTime<Utc>>,
    /// `amqp` or `websocket`, while connected.
    pub transport: Option<&'static str>,
    /// When the backlog will be sent at the present rate.
    pub eta: Option<DateTime<Utc>>,
    /// Connections made since the process started.
    pub connections: u64,
    /// Messages from the cloud, newest first, at most ten.
    pub messages: Vec<serde_json::Value>,
}

impl CloudStatus {
    /// The hub has taken this token; of itself nothing is shown.
    pub(crate) fn set_token(&mut self, token: &SasToken) {
        self.token_expires = Some(token.expiry);
        self.token_renew_at = Some(token.renew_at());
    }
}

/// See [`CloudStatus::state`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CloudState {
    Online,
    Connecting,
    #[default]
    Offline,
}

/// See [`CloudStatus::failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Failure {
    /// Nothing went over the network: no token, or no trusted roots.
    Station,
    /// The clock is not the world's.
    Clock,
    /// The name of the hub, or of the proxy, is not found.
    Name,
    /// The port does not answer, or what was connected is not any more.
    Network,
    /// TLS: the certificate.
    Tls,
    /// The WebSocket is refused.
    Websocket,
    /// The hub does not let this device in.
    Identity,
    /// Another station has the same identity.
    Stolen,
    /// The hub is throttled, suspended, over its quota, or in trouble.
    Hub,
}

/// `identity` of the status document.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IdentityStatus {
    pub source: IdentitySource,
    #[serde(flatten, serialize_with = "host_and_device")]
    pub identity: Option<Identity>,
    /// Why there is none, with the remedy.
    pub reason: Option<String>,
    /// Vendor and firmware of the TPM.
    pub tpm: Option<String>,
}

/// `host` and `deviceId`; null while there is no identity, as every other value that is not there.
fn host_and_device<S: Serializer>(identity: &Option<Identity>, serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Name<'a> {
        host: Option<&'a str>,
        device_id: Option<&'a str>,
    }
    let part = |of: fn(&Identity) -> &str| identity.as_ref().map(of);
    Name { host: part(|name| &name.host), device_id: part(|name| &name.device_id) }.serialize(serializer)
}

fn time_of<S: Serializer>(stamp: &Option<Stamp>, serializer: S) -> Result<S::Ok, S::Error> {
    stamp.map(|stamp| stamp.time).serialize(serializer)
}

impl Board {
    /// The station's name at the hub; empty while there is no identity.
    pub fn device_id(&self) -> String {
        self.identity.borrow().identity.as_ref().map(|name| name.device_id.clone()).unwrap_or_default()
    }

    /// The whole document, as `status --json` and `/api/status` give it.
    pub fn document(&self, timekeeper: &Timekeeper) -> Document {
        let store = self.store.borrow().clone();
        let mut cloud = self.cloud.borrow().clone();
        if let Some(since) = &mut cloud.since
            && since.time_quality != TimeQuality::Synchronised
        {
            // The clock may have been set meanwhile. Less than that is what passes between two looks at it.
            let shown = since.shown_by(&timekeeper.stamp());
            if (shown - since.time).abs() > TimeDelta::seconds(1) {
                since.time = shown;
            }
        }
        Document {
            version: env!("CARGO_PKG_VERSION"),
            time: timekeeper.now(),
            station: StationPart { store_id: store.store_id.clone() },
            sensor: self.sensor.borrow().clone(),
            store,
            cloud,
            identity: self.identity.borrow().clone(),
            clock: timekeeper.status(),
            configuration: self.configuration.borrow().clone(),
            outlook: self.outlook.borrow().clone(),
        }
    }
}

/// See [`Board::document`].
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    pub version: &'static str,
    pub time: DateTime<Utc>,
    pub station: StationPart,
    pub sensor: SensorStatus,
    pub store: StoreStatus,
    pub cloud: CloudStatus,
    pub identity: IdentityStatus,
    pub clock: ClockStatus,
    pub configuration: BTreeMap<String, InForce>,
    pub outlook: Option<Outlook>,
}

/// `station` of the status document.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StationPart {
    pub store_id: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn host_and_device_are_there_without_an_identity_too() {
        let mut status = IdentityStatus { source: IdentitySource::Tpm, ..IdentityStatus::default() };
        let none = json!({"source": "tpm", "host": null, "deviceId": null, "reason": null, "tpm": null});
        assert_eq!(serde_json::to_value(&status).unwrap(), none);
        status.identity = Some(Identity { host: "hub.example".into(), device_id: "roof".into() });
        let named =
            json!({"source": "tpm", "host": "hub.example", "deviceId": "roof", "reason": null, "tpm": null});
        assert_eq!(serde_json::to_value(&status).unwrap(), named);
    }
}
