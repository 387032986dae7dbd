//! The overlay on disk: read before the sensor starts, written before a change is acknowledged as done; and the part
//! of the configuration document that it changes. Knows the store as a place for one small text.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Overlay, Property, Settings};
use crate::config::{self, Config};
use crate::identity::Identity;
use crate::status::InForce;
use crate::store::{StoreError, StoreHandle, kept_value};

/// Where the store keeps it.
const KEY: &str = "twin.overlay";
/// A disk that takes longer does not hold up the first sample.
const LIMIT: Duration = Duration::from_secs(5);

/// Said where a command beside the station goes on without them.
pub const UNREAD: &str = "the values of the twin could not be read from the store: the file's values hold";

/// What the twin last asked for; empty where nothing was kept, or a text that is not ours. None: it could not be
/// read, so that it has to be asked again before anything is written over it.
pub async fn load(store: &StoreHandle) -> Option<Overlay> {
    let read = load_or_why(store).await.inspect_err(|error| {
        tracing::warn!(
            %error,
            "could not read the kept values of the twin: for now the file's hold, and nothing is pruned by age"
        );
    });
    read.ok()
}

/// The same for who asks again and again, and tells it now and then.
pub async fn load_or_why(store: &StoreHandle) -> Result<Overlay, StoreError> {
    let read = tokio::time::timeout(LIMIT, read(store)).await;
    read.unwrap_or_else(|_| Err(StoreError::Unavailable { reason: "it does not answer".into() }))
}

async fn read(store: &StoreHandle) -> Result<Overlay, StoreError> {
    Ok(overlay(store.value(KEY).await?))
}

fn overlay(text: Option<String>) -> Overlay {
    let Some(text) = text else { return Overlay::default() };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::warn!(%error, "the kept values of the twin are no text of ours: the file's values hold");
        Overlay::default()
    })
}

/// What the twin last asked for, for a command that does without the station. The values of another identity's twin do
/// not hold; where nobody knows the identity they do, as when a station starts.
pub fn kept_beside(config: &Config, identity: Option<&Identity>) -> Result<Overlay, StoreError> {
    let kept = overlay(kept_value(&config.store.path, KEY)?);
    let another = identity.is_some_and(|identity| !kept.belongs_to(identity));
    Ok(if another { Overlay::default() } else { kept })
}

/// The settings that follow from [`kept_beside`]. With the error the file's values, where what is kept cannot be read;
/// [`UNREAD`] is to be said then.
pub fn beside_the_station(config: &Config, identity: Option<&Identity>) -> (Settings, Option<StoreError>) {
    let file = Settings::from_file(config);
    match kept_beside(config, identity) {
        Ok(overlay) => (overlay.settings(&file), None),
        Err(error) => (file, Some(error)),
    }
}

/// Keeps the overlay, synced.
pub async fn keep(overlay: &Overlay, store: &StoreHandle) -> Result<(), StoreError> {
    // Texts and numbers: there is nothing that cannot be written.
    store.set_value(KEY, serde_json::to_string(overlay).ok()).await
}

/// The configuration with the value in force per key, and which of them the twin set.
pub fn in_force(config: &Config, overlay: &Overlay) -> BTreeMap<String, InForce> {
    let mut entries = config::in_force(config);
    let settings = overlay.settings(&Settings::from_file(config));
    for property in overlay.in_force() {
        let value = match property {
            Property::SampleInterval => config::units::show_duration(settings.sample_interval).into(),
            Property::KeepDays => config::units::show_duration(settings.keep).into(),
            Property::TemperatureOffset | Property::HumidityOffset | Property::PressureOffset => {
                serde_json::json!(settings.offset)
            }
            other => other.in_force(&settings),
        };
        entries.insert(property.key().to_owned(), InForce { value, from: "twin" });
    }
    entries
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::clock::{SystemClock, Timekeeper};
    use crate::status::Board;

    fn identity(device: &str) -> Identity {
        Identity { host: "hub.example".into(), device_id: device.into() }
    }

    #[tokio::test]
    async fn what_the_twin_asked_for_holds_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.store.path = dir.path().join("readings.db");
        let file = Settings::from_file(&config);
        let mut overlay = Overlay::of(&identity("one"));
        let patch = json!({"sampleInterval": 5, "pressureOffset": 1.5});
        overlay.take_patch(patch.as_object().unwrap(), 2, &file);
        for round in 0..2 {
            let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
            let (task, store) = crate::store::open(&config.store, &timekeeper, "run".into()).unwrap();
            let (samples_tx, samples_rx) = tokio::sync::mpsc::channel(1);
            let (_settings_tx, settings_rx) = tokio::sync::watch::channel(file.clone());
            let asking = async {
                if round == 0 {
                    assert_eq!(load(&store).await, Some(Overlay::default()));
                    keep(&overlay, &store).await.unwrap();
                } else {
                    let kept = load(&store).await.unwrap();
                    assert_eq!((kept.settings(&file).sample_interval.as_secs(), &kept), (5, &overlay));
                    store.set_value(KEY, Some("not ours".into())).await.unwrap();
                    assert_eq!(load(&store).await, Some(Overlay::default()));
                }
                drop(samples_tx);
                store.close().await.unwrap();
            };
            let board = Arc::new(Board::default());
            let running = task.run(samples_rx, board, settings_rx, Arc::default());
            let (ended, ()) = tokio::join!(running, asking);
            ended.unwrap();
        }
    }

    #[test]
    fn the_configuration_document_says_which_value_is_the_twins() {
        let config = Config::default();
        let mut overlay = Overlay::of(&identity("one"));
        let patch =
            json!({"sampleInterval": 90, "humidityOffset": 2, "keepDays": 7, "readingsPerMessage": 0});
        overlay.take_patch(patch.as_object().unwrap(), 2, &Settings::from_file(&config));
        let entries = in_force(&config, &overlay);
        let twin = |key: &str| (entries[key].value.clone(), entries[key].from);
        assert_eq!(twin("sensor.interval"), (json!("90s"), "twin"));
        assert_eq!(
            twin("sensor.offset"),
            (json!({"temperature": 0.0, "pressure": 0.0, "humidity": 2.0}), "twin")
        );
        assert_eq!(twin("store.keep"), (json!("7d"), "twin"));
        assert_eq!(twin("telemetry.readings_per_message"), (json!(1), "default"));
    }
}
