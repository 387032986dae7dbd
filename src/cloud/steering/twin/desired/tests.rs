//! The twin's values and a store that is slow or was not read.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::Level;

use super::super::document::Twin;
use super::*;
use crate::clock::{SystemClock, Timekeeper};
use crate::log_lines;
use crate::reading::FromSensor;
use crate::store::{self, StoreTask};

/// Where the store keeps the text.
const KEY: &str = "twin.overlay";

struct Bench {
    desired: Desired,
    store: StoreHandle,
    /// Until [`Bench::wake`] the store answers nothing.
    asleep: Option<StoreTask>,
    running: Option<JoinHandle<()>>,
    samples: mpsc::Sender<FromSensor>,
    incoming: Option<mpsc::Receiver<FromSensor>>,
}

impl Bench {
    fn asleep(dir: &Path, kept: Option<Overlay>) -> Self {
        let mut config = Config::default();
        config.store.path = dir.join("readings.db");
        let (task, store) = store::open(&config.store, &timekeeper(), "run".into()).unwrap();
        let (settings, _) = watch::channel(Settings::from_file(&config));
        let desired = Desired::new(Arc::new(config), kept, settings, Arc::default(), store.clone());
        let (samples, incoming) = mpsc::channel(1);
        Self { desired, store, asleep: Some(task), running: None, samples, incoming: Some(incoming) }
    }

    fn wake(&mut self) {
        let (task, incoming) = (self.asleep.take().unwrap(), self.incoming.take().unwrap());
        let settings = self.desired.settings.subscribe();
        self.running = Some(tokio::spawn(async move {
            task.run(incoming, Arc::default(), settings, Arc::default()).await.unwrap();
        }));
    }

    async fn close(self) {
        drop(self.samples);
        self.store.close().await.unwrap();
        self.running.unwrap().await.unwrap();
    }

    async fn take(&mut self, desired: Value, version: u64) {
        let desired = desired.as_object().cloned().unwrap();
        self.desired.take(Change::Whole(Twin { desired, version, ..Twin::default() }));
        self.desired.keep().await;
    }

    fn interval(&self) -> Duration {
        self.desired.settings.borrow().sample_interval
    }

    fn prunes_after(&self) -> Option<Duration> {
        self.desired.settings.borrow().prune_after()
    }

    fn answer(&self) -> Value {
        json!(self.desired.acknowledgements()["sampleInterval"])
    }
}

fn timekeeper() -> Timekeeper {
    Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH)
}

fn roof() -> Identity {
    Identity { host: "hub.example".into(), device_id: "roof".into() }
}

/// With the time-outs of a store that does not answer, at once.
async fn hurried<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::pause();
    let done = waiting.await;
    tokio::time::resume();
    done
}

#[tokio::test]
async fn a_store_that_is_slow_at_the_start_loses_none_of_the_kept_values() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::asleep(dir.path(), Some(Overlay::of(&roof())));
    bench.wake();
    bench.take(json!({"sampleInterval": 5}), 2).await;
    let kept = settings::load(&bench.store).await.unwrap();
    bench.close().await;

    let mut bench = Bench::asleep(dir.path(), None);
    assert_eq!(hurried(settings::load(&bench.store)).await, None);
    hurried(bench.desired.belongs_to(&roof())).await;
    bench.desired.keep().await;
    assert_eq!(bench.interval(), Duration::from_secs(60), "the file's");
    assert_eq!(bench.prunes_after(), None, "the twin may have asked for longer");
    bench.wake();
    assert_eq!(settings::load(&bench.store).await.unwrap(), kept);
    // The next attempt to connect.
    bench.desired.belongs_to(&roof()).await;
    assert_eq!(bench.interval(), Duration::from_secs(5));
    assert_eq!(bench.prunes_after(), Some(bench.desired.file.keep));
    assert_eq!(settings::load(&bench.store).await.unwrap(), kept);
    bench.close().await;
}

#[tokio::test]
async fn a_value_is_in_force_at_once_and_not_done_before_it_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::asleep(dir.path(), Some(Overlay::of(&roof())));
    hurried(bench.take(json!({"sampleInterval": 5}), 2)).await;
    assert_eq!(bench.interval(), Duration::from_secs(5));
    let text = "applied; not on the disk yet: a restart may forget it";
    assert_eq!(bench.answer(), json!({"value": 5, "ac": 202, "av": 2, "ad": text}));
    bench.wake();
    bench.desired.keep().await;
    assert_eq!(bench.answer(), json!({"value": 5, "ac": 200, "av": 2, "ad": "applied"}));
    bench.close().await;
}

#[tokio::test]
async fn what_the_hub_says_is_written_once_and_over_what_could_not_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::asleep(dir.path(), None);
    bench.wake();
    assert_eq!(bench.prunes_after(), None);
    bench.take(json!({"sampleInterval": 5}), 2).await;
    assert_eq!(bench.prunes_after(), Some(bench.desired.file.keep), "the hub says what the twin is");
    assert_eq!(settings::load(&bench.store).await.unwrap(), bench.desired.overlay);
    let marked = Some("not written over".to_owned());
    bench.store.set_value(KEY, marked.clone()).await.unwrap();
    bench.take(json!({"sampleInterval": 5}), 2).await;
    assert_eq!(bench.store.value(KEY).await.unwrap(), marked, "the same twin costs no write");
    bench.take(json!({"sampleInterval": 6}), 3).await;
    assert_eq!(settings::load(&bench.store).await.unwrap(), bench.desired.overlay);
    bench.close().await;
}

/// Between two hubs that both want ten years kept nothing goes.
#[tokio::test(start_paused = true)]
async fn nothing_is_pruned_by_age_between_the_values_of_one_identity_and_those_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Overlay::of(&roof());
    let asked = json!({"keepDays": 3_650});
    old.take_patch(asked.as_object().unwrap(), 2, &Settings::from_file(&Config::default()));
    let mut bench = Bench::asleep(dir.path(), Some(old));
    bench.wake();
    let years = Some(Duration::from_secs(3_650 * 86_400));
    assert_eq!(bench.prunes_after(), years);
    let cellar = Identity { host: "another.hub".into(), device_id: "cellar".into() };
    bench.desired.belongs_to(&cellar).await;
    assert_eq!(bench.prunes_after(), None, "its twin has not been read");
    bench.take(asked, 1).await;
    assert_eq!(bench.prunes_after(), years);
    bench.close().await;
}

#[tokio::test]
async fn a_store_that_takes_the_place_of_another_is_given_the_values_too() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::asleep(dir.path(), Some(Overlay::of(&roof())));
    bench.wake();
    let be = |bench: &Bench, name: &str| {
        bench.desired.board.store.send_modify(|status| status.store_id = name.into());
    };
    be(&bench, "first");
    bench.take(json!({"sampleInterval": 5}), 2).await;
    let kept = bench.store.value(KEY).await.unwrap();
    for (name, value) in [("first", None), ("second", kept)] {
        be(&bench, name);
        bench.store.set_value(KEY, None).await.unwrap();
        bench.desired.keep().await;
        assert_eq!(bench.store.value(KEY).await.unwrap(), value, "{name}");
    }
    bench.close().await;
}

#[tokio::test(start_paused = true)]
async fn what_lasts_is_told_once_however_often_it_is_met() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::asleep(dir.path(), None);
    bench.asleep = None;
    log_lines::take(Level::WARN);
    for _ in 0..100 {
        bench.desired.belongs_to(&roof()).await;
    }
    let unread = log_lines::take(Level::WARN);
    for version in 0..100 {
        let desired = json!({"fanSpeed": 5}).as_object().cloned().unwrap();
        bench.desired.take(Change::Whole(Twin { desired, version, ..Twin::default() }));
    }
    let unknown = log_lines::take(Level::WARN);
    assert_eq!((unread.len(), unknown.len()), (1, 1), "{unread:?} {unknown:?}");
}
