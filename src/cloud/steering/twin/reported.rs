//! The reported properties: what the station says of itself in its twin. Every report is billed, so what changes all
//! the time is looked at only now and then. Reads the board; knows no AMQP.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::device::Device;
use crate::clock::Timekeeper;
use crate::observation::rfc3339;
use crate::settings::Acknowledgement;
use crate::status::Board;

/// The names of all of them but the answers to the desired ones; they are those of the model in `deploy/model`.
pub const OWN: [&str; 9] = [
    "softwareVersion",
    "currentStoreId",
    "sensor",
    "hubHost",
    "bootTime",
    "pendingCount",
    "oldestPendingTime",
    "lastError",
    "deviceInformation",
];

/// How often the backlog is looked at, and how often everything else is.
const BACKLOG_EVERY: Duration = Duration::from_secs(900);
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// By more than this a clock does not drift between two looks: it was set.
const DRIFT: TimeDelta = TimeDelta::seconds(10);
/// A property's text is at most 4 KB.
const LONGEST: usize = 500;

/// See the module.
#[derive(Debug)]
pub struct Reported {
    device: Device,
    timekeeper: Timekeeper,
    boot_time: Option<DateTime<Utc>>,
    last_error: Option<String>,
    looked: Option<Instant>,
    backlog_looked: Option<Instant>,
    facts: Map<String, Value>,
}

impl Reported {
    pub fn new(device: Device, timekeeper: &Timekeeper) -> Self {
        Self {
            device,
            timekeeper: timekeeper.clone(),
            boot_time: None,
            last_error: None,
            looked: None,
            backlog_looked: None,
            facts: Map::new(),
        }
    }

    /// Forgets the times: the next look is at everything. Remembers why the last connection was lost, which the
    /// board forgets once there is another.
    pub fn connected(&mut self, board: &Board) {
        self.looked = None;
        self.backlog_looked = None;
        let cloud = board.cloud.borrow().clone();
        // A connection that the station ended itself has a reason and no failure.
        self.note("cloud", cloud.reason.filter(|_| cloud.failure.is_some()));
    }

    /// Everything that the hub should have, looked at anew where it is time. `answers`: to the desired properties.
    pub fn wanted(
        &mut self,
        now: Instant,
        board: &Board,
        host: &str,
        answers: BTreeMap<String, Acknowledgement>,
    ) -> Map<String, Value> {
        if self.looked.is_none_or(|looked| now >= looked + LOOK_EVERY) {
            self.looked = Some(now);
            self.look(board, host);
        }
        if self.backlog_looked.is_none_or(|looked| now >= looked + BACKLOG_EVERY) {
            self.backlog_looked = Some(now);
            let store = board.store.borrow();
            self.facts.insert("pendingCount".into(), store.pending.into());
            self.facts.insert("oldestPendingTime".into(), json!(store.oldest_pending_time.map(rfc3339)));
        }
        // The answers first: a desired property may bear the name of a fact, and the fact wins.
        let answers = answers.into_iter().map(|(name, answer)| (name, json!(answer)));
        answers.chain(self.facts.clone()).collect()
    }

    /// When the next look is due.
    pub fn due(&self, now: Instant) -> Instant {
        self.looked.map_or(now, |looked| looked + LOOK_EVERY)
    }

    fn look(&mut self, board: &Board, host: &str) {
        let (sensor, trouble) = {
            let sensor = board.sensor.borrow();
            let chip = sensor.chip.as_deref().map(shortened);
            (chip.map_or_else(|| json!(sensor.state), Value::String), sensor.reason.clone())
        };
        self.note("sensor", trouble);
        let store = board.store.borrow().clone();
        self.note("store", store.reason);
        let facts = [
            ("softwareVersion", json!(env!("CARGO_PKG_VERSION"))),
            ("currentStoreId", json!(store.store_id)),
            ("sensor", sensor),
            ("hubHost", json!(host)),
            ("bootTime", json!(rfc3339(self.boot_time()))),
            ("lastError", json!(self.last_error)),
            ("deviceInformation", self.device.component()),
        ];
        self.facts.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    }

    /// By the clock of now, which may have been set since; that it drifts is no news.
    fn boot_time(&mut self) -> DateTime<Utc> {
        let stamp = self.timekeeper.stamp();
        let now = stamp.time - TimeDelta::from_std(stamp.since_boot).unwrap_or_default();
        let kept = self.boot_time.filter(|kept| (now - *kept).abs() <= DRIFT);
        *self.boot_time.insert(kept.unwrap_or(now))
    }

    fn note(&mut self, part: &str, reason: Option<String>) {
        if let Some(reason) = reason {
            self.last_error = Some(shortened(&format!("{part}: {reason}")));
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(LONGEST).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::SystemClock;
    use crate::config::Config;
    use crate::identity::Identity;
    use crate::settings::{Overlay, Settings};
    use crate::status::Failure;

    #[tokio::test(start_paused = true)]
    async fn what_changes_all_the_time_is_looked_at_now_and_then() {
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
        let mut reported = Reported::new(Device::default(), &timekeeper);
        let board = Board::default();
        let lost = |reason: &str, failure| {
            board
                .cloud
                .send_modify(|status| (status.reason, status.failure) = (Some(reason.into()), failure));
        };
        lost("the hub was away", Some(Failure::Network));
        reported.connected(&board);
        lost("the station has another key", None);
        reported.connected(&board);
        board.cloud.send_modify(|status| status.reason = None);
        board.store.send_modify(|status| status.pending = 1);
        let file = Settings::from_file(&Config::default());
        let overlay = Overlay::of(&Identity { host: "h".into(), device_id: "d".into() });
        let answers = overlay.acknowledgements(&file, None);
        let begin = Instant::now();
        let mut counts = Vec::new();
        for second in 0..3_600 {
            board.store.send_modify(|status| status.pending += 1);
            let now = begin + Duration::from_secs(second);
            let wanted = reported.wanted(now, &board, "h", answers.clone());
            counts.push(wanted["pendingCount"].as_u64().unwrap());
            assert!(reported.due(now) > now);
            assert_eq!(wanted["lastError"], "cloud: the hub was away");
        }
        counts.dedup();
        assert_eq!(counts, [2, 902, 1_802, 2_702]);

        board.sensor.send_modify(|status| status.reason = Some("no answer at 0x76".into()));
        let now = begin + Duration::from_secs(3_660);
        let wanted = reported.wanted(now, &board, "h", answers.clone());
        assert_eq!(wanted["lastError"], "sensor: no answer at 0x76");
        assert_eq!(wanted["hubHost"], "h");
        assert!(OWN.iter().all(|name| wanted.contains_key(*name)));
        assert_eq!(wanted.len(), OWN.len() + answers.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_desired_property_with_the_name_of_a_reported_one_does_not_replace_it() {
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), chrono::DateTime::UNIX_EPOCH);
        let mut reported = Reported::new(Device::default(), &timekeeper);
        let board = Board::default();
        let file = Settings::from_file(&Config::default());
        let mut overlay = Overlay::of(&Identity { host: "h".into(), device_id: "d".into() });
        let desired = OWN.iter().map(|name| ((*name).to_owned(), json!("theirs"))).collect();
        overlay.take_whole(&desired, 2, &file);
        let alone = reported.wanted(Instant::now(), &board, "h", BTreeMap::new());
        let wanted = reported.wanted(Instant::now(), &board, "h", overlay.acknowledgements(&file, None));
        assert!(alone.iter().all(|(name, value)| wanted[name] == *value), "{wanted:?}");
    }

    /// It is 1,000 s after the start of the machine, and nobody synchronises the clock.
    struct Started;

    impl crate::clock::Clock for Started {
        fn wall(&self) -> DateTime<Utc> {
            DateTime::UNIX_EPOCH
        }
        fn since_boot(&self) -> Duration {
            Duration::from_secs(1_000)
        }
        fn boot(&self) -> crate::reading::BootId {
            crate::reading::BootId(1)
        }
        fn synchronised(&self) -> bool {
            false
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_boot_time_follows_a_clock_that_is_set_and_none_that_drifts() {
        let timekeeper = Timekeeper::new(Arc::new(Started), DateTime::UNIX_EPOCH);
        let mut reported = Reported::new(Device::default(), &timekeeper);
        let mut now = Instant::now();
        let mut boot_time = |time: &str| {
            timekeeper.take_hub_time(time.parse().unwrap());
            now += LOOK_EVERY;
            reported.wanted(now, &Board::default(), "h", BTreeMap::new())["bootTime"].clone()
        };
        assert_eq!(boot_time("2026-06-01T12:16:40Z"), "2026-06-01T12:00:00.000Z");
        assert_eq!(boot_time("2026-06-01T12:16:45Z"), "2026-06-01T12:00:00.000Z");
        assert_eq!(boot_time("2026-06-01T13:16:45Z"), "2026-06-01T13:00:05.000Z");
    }
}
