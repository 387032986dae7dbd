//! What the operator reads: one line for an episode when it ends, with its length; no flood meanwhile.

use std::time::Duration;

use tokio::time::sleep;
use tracing::Level;
use weather_station::sensor::simulated::BusFault;

use super::rig::Rig;
use crate::log_lines;

const MINUTE: Duration = Duration::from_secs(60);
/// Between two samples, when nothing is being tried.
const HALF: Duration = Duration::from_secs(30);

fn new_lines() -> Vec<String> {
    log_lines::take(Level::INFO)
}

#[tokio::test(start_paused = true)]
async fn an_episode_has_one_line_when_it_ends_and_a_long_one_has_one_on_the_way() {
    new_lines();
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    assert_eq!(new_lines(), [""; 0], "a good sample is nothing to tell");

    rig.chip.fail(BusFault::ArbitrationLost, 1);
    rig.sample().await;
    let lines = new_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("a fault of the sensor cost another attempt and no sample attempts=2"),
        "{lines:?}"
    );
    assert!(lines[0].contains("arbitration lost at 0x76 on the simulated bus (EAGAIN)"), "{lines:?}");

    rig.chip.fail(BusFault::NoAnswer, u64::MAX);
    sleep(2 * MINUTE + HALF).await;
    rig.chip.heal();
    rig.next().await;
    rig.sample().await;
    let lines = new_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("the sensor is back missed=2 seconds=120."),
        "{lines:?}"
    );

    rig.chip.fail(BusFault::NoAnswer, u64::MAX);
    sleep(24 * 60 * MINUTE + HALF).await;
    let lines = new_lines();
    assert_eq!(lines.len(), 1, "a day without a sensor: {lines:?}");
    assert!(lines[0].contains("no readings from the sensor; it is tried again missed=3"), "{lines:?}");
    rig.chip.heal();
    rig.next().await;
    rig.sample().await;
    let lines = new_lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("the sensor is back missed=1440 seconds=86400."), "{lines:?}");
}
