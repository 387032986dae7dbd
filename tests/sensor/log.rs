//! What the operator reads: one line for an episode when it ends, with its length; no flood meanwhile.

use std::cell::RefCell;
use std::io::Write;
use std::time::Duration;

use tokio::time::sleep;
use weather_station::sensor::simulated::BusFault;

use super::rig::Rig;

const MINUTE: Duration = Duration::from_secs(60);
/// Between two samples, when nothing is being tried.
const HALF: Duration = Duration::from_secs(30);

thread_local! {
    /// A test and its task share one thread, so each test sees its own lines. One subscriber for the whole process:
    /// a subscriber of one thread can miss what other threads have seen first.
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines since the last call.
fn new_lines() -> Vec<String> {
    let bytes = LINES.take();
    String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test(start_paused = true)]
async fn an_episode_has_one_line_when_it_ends_and_a_long_one_has_one_on_the_way() {
    let subscriber = tracing_subscriber::fmt()
        .with_writer(|| ThreadLog)
        .with_max_level(tracing::Level::INFO)
        .with_ansi(false)
        .without_time()
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
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
