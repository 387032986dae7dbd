//! A twin that asks for its readings to be kept longer than the file does: nothing goes before that is known.

use std::time::Duration;

use serde_json::json;
use weather_station::config::Config;
use weather_station::identity::Identity;
use weather_station::settings::{self, Overlay, Settings};
use weather_station::store::Position;

use crate::support::{Place, Running};

const DAY: Duration = Duration::from_secs(86_400);
const READINGS: usize = 60;

/// Readings that were sent 500 days ago: too old for the file (400 days), and not for the twin.
async fn place_of_500_days() -> Place {
    let place = Place::new();
    let mut store = place.start();
    store.append(READINGS as u64).await;
    store.handle.acknowledge(Position { generation: 1, row: READINGS as u64 }).await.unwrap();
    let mut overlay = Overlay::of(&Identity { host: "hub.example".into(), device_id: "roof".into() });
    let asked = json!({"keepDays": 3_650});
    overlay.take_patch(asked.as_object().unwrap(), 2, &Settings::from_file(&Config::default()));
    settings::keep(&overlay, &store.handle).await.unwrap();
    store.stop().await;
    place.clock.advance(500 * DAY);
    place
}

/// As a station reads them; false: they cannot be read.
async fn read_what_the_twin_asks_for(store: &Running) -> bool {
    let Some(overlay) = settings::load(&store.handle).await else { return false };
    store.settings.send_modify(|settings| {
        *settings = Settings { keep_is_known: true, ..overlay.settings(settings) };
    });
    true
}

async fn left(store: &Running) -> usize {
    // Some rounds of the house.
    tokio::time::sleep(Duration::from_secs(30)).await;
    store.handle.newest(1_000).await.unwrap().len()
}

/// Often: whether the house or the question came first was chance.
#[tokio::test(start_paused = true)]
async fn a_start_prunes_nothing_that_the_twin_wants_kept() {
    let place = place_of_500_days().await;
    for start in 0..30 {
        let store = place.start_knowing(false, "again").unwrap();
        assert!(read_what_the_twin_asks_for(&store).await);
        assert_eq!(left(&store).await, READINGS, "start {start}");
        store.stop().await;
    }
    // What would go by the file alone goes: the trap works.
    let store = place.start();
    assert_eq!(left(&store).await, 0);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_comes_after_the_start_is_not_pruned_before_the_twins_values_are_read() {
    let mut place = place_of_500_days().await;
    let (card, away) = (place.folder.path().join("card"), place.folder.path().join("away"));
    std::fs::create_dir(&away).unwrap();
    for ending in ["", ".label"] {
        std::fs::rename(place.beside(ending), away.join(format!("readings.db{ending}"))).unwrap();
    }
    place.config.path = card.join("readings.db");
    let store = place.start_knowing(false, "again").unwrap();
    assert!(!read_what_the_twin_asks_for(&store).await, "there is no folder");
    std::fs::rename(&away, &card).unwrap();
    store.status(|status| status.last_sequence == READINGS as u64).await;
    assert_eq!(left(&store).await, READINGS, "nobody knows how long the twin wants them kept");
    assert!(read_what_the_twin_asks_for(&store).await);
    assert_eq!(left(&store).await, READINGS);
    store.stop().await;
}
