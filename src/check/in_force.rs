//! The configuration that the checks go by: where no station can be asked, the file with the values of the twin laid over
//! it that are kept in the store, as `read` and `export` do.

use std::time::Duration;

use serde_json::{Value, json};

use super::Station;
use crate::chain::chain;
use crate::config::Config;
use crate::{identity, settings};

/// A TPM that says nothing must not keep the checks from saying so.
const LONGEST: Duration = Duration::from_secs(10);

/// See [`InForce::of`].
#[derive(Debug, Default)]
pub struct InForce {
    pub config: Config,
    /// The twin's: `sensor.interval = "5s"` and so on.
    pub twin: Vec<String>,
    /// Why nobody can tell which values the twin set: the file's are in their place.
    pub unread: Option<String>,
}

impl InForce {
    /// A station that runs says which values are the twin's, and what follows from them.
    pub async fn of(config: Config, station: &Station) -> Self {
        match station.document() {
            Some(document) => Self { twin: overridden(document), config, unread: None },
            None => Self::kept(config).await,
        }
    }

    async fn kept(file: Config) -> Self {
        let asked = file.identity.clone();
        let name = tokio::task::spawn_blocking(move || identity::open(&asked)?.identity());
        let name = match tokio::time::timeout(LONGEST, name).await {
            Ok(Ok(Ok(name))) => Some(name),
            // The check of the identity says why.
            _ => None,
        };
        let store = file.clone();
        let kept = tokio::task::spawn_blocking(move || {
            settings::kept_beside(&store, name.as_ref()).map_err(|error| chain(&error))
        });
        match kept.await.unwrap_or_else(|error| Err(chain(&error))) {
            Ok(overlay) => {
                let document = json!({"configuration": settings::in_force(&file, &overlay)});
                let in_force = overlay.settings(&settings::Settings::from_file(&file));
                Self { config: in_force.over(&file), twin: overridden(&document), unread: None }
            }
            Err(why) => Self { unread: Some(why), config: file, twin: Vec::new() },
        }
    }
}

/// `sensor.interval = "5s"` and so on: the keys of a status document whose value in force comes from the device twin.
pub fn overridden(running: &Value) -> Vec<String> {
    let entries = running.pointer("/configuration").and_then(Value::as_object).into_iter().flatten();
    entries
        .filter(|(_, entry)| entry["from"] == "twin")
        .map(|(key, entry)| format!("{key} = {}", entry["value"]))
        .collect()
}
