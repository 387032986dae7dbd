//! A store that cannot be opened at the start holds what the twin last asked for: it is read once the store comes, hub or
//! not.

use std::time::Duration;

use serde_json::json;
use weather_station::config::{Config, IdentitySource};
use weather_station::identity::Identity;
use weather_station::settings::{self, Overlay, Settings};

use crate::bench::{DEVICE, SOON, make_store};
use crate::parts::start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_without_an_identity_reads_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let (card, away) = (dir.path().join("card"), dir.path().join("away"));
    std::fs::create_dir(&away).unwrap();
    let mut config = Config::default();
    let file = Settings::from_file(&config);
    let made = away.join("readings.db");
    let mut overlay = Overlay::of(&Identity { host: "hub.example".into(), device_id: DEVICE.into() });
    overlay.take_patch(json!({"keepDays": 3_650}).as_object().unwrap(), 2, &file);
    let max_size = config.store.max_size;
    let fill = async move |_samples, store: &_, _: &_| settings::keep(&overlay, store).await.unwrap();
    tokio::task::spawn_blocking(move || make_store(&made, max_size, fill)).await.unwrap();

    config.store.path = card.join("readings.db");
    config.identity.source = IdentitySource::KeyFile;
    config.identity.key_file = dir.path().join("no-key");
    let mut parts = start(config, None, 100);
    assert_eq!(parts.settings.borrow().prune_after(), None, "what the twin asks for is not known");
    std::fs::rename(&away, &card).unwrap();
    let known = parts.settings.wait_for(|settings| settings.prune_after().is_some());
    let known = tokio::time::timeout(2 * SOON, known).await.expect("they are read").unwrap().clone();
    assert_eq!(known.prune_after(), Some(Duration::from_secs(3_650 * 86_400)));
}
