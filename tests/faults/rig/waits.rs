//! Waiting for what a station is to reach, and its end: what was on disk beside what the hub has.

use std::time::Duration;

use hub_emulator::Emulator;
use tokio::time::{Instant, timeout};
use weather_station::status::{CloudState, CloudStatus};

use super::Rig;
use crate::account::{Account, account};

impl Rig {
    /// Waits until the cloud's status satisfies `wanted`; returns how long that took.
    pub async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&CloudStatus) -> bool,
    ) -> Duration {
        let started = Instant::now();
        let limit = stretched(limit);
        let mut status = self.board.cloud.subscribe();
        let reached = timeout(limit, status.wait_for(|status| wanted(status))).await.map(|_| ());
        assert!(reached.is_ok(), "{what}: not within {limit:?}; the cloud's status is {:?}", self.cloud());
        started.elapsed()
    }

    pub async fn online(&self, limit: Duration) -> Duration {
        self.until("online", limit, |status| status.state == CloudState::Online).await
    }

    /// Waits until nothing is pending: every reading on disk is accepted (or set aside).
    pub async fn all_accepted(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        let limit = stretched(limit);
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.pending == 0 && s.last_sequence > 0)).await;
        let reached = reached.map(|_| ());
        assert!(
            reached.is_ok(),
            "not all accepted within {limit:?}; store {:?}, cloud {:?}",
            self.board.store.borrow(),
            self.cloud()
        );
        started.elapsed()
    }

    /// Waits until so many readings are on disk.
    pub async fn until_stored(&self, count: u64, limit: Duration) {
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.last_sequence >= count)).await.map(|_| ());
        assert!(reached.is_ok(), "{count} stored: {:?}", self.board.store.borrow());
    }

    /// Waits until so many readings are set aside.
    pub async fn until_aside(&self, count: u64, limit: Duration) {
        let mut status = self.board.store.subscribe();
        let reached = timeout(limit, status.wait_for(|s| s.dead_letters >= count)).await.map(|_| ());
        assert!(reached.is_ok(), "{count} set aside: {:?}, {:?}", self.board.store.borrow(), self.cloud());
    }

    /// Waits until the store holds no event that is to be sent.
    async fn events_sent(&self, limit: Duration) {
        let until = Instant::now() + stretched(limit);
        while !self.store.pending_events(1).await.unwrap().is_empty() {
            assert!(Instant::now() < until, "an event was not sent; {:?}", self.cloud());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until the events are sent, without a reading.
    pub async fn finish_events(mut self, hub: &Emulator, limit: Duration) -> Account {
        self.events_sent(limit).await;
        self.stop_cloud().await;
        account(hub, &self.device, 0)
    }

    /// Stops the sensor, waits until all is accepted, and compares the disk with the hub's record.
    pub async fn finish(mut self, hub: &Emulator, limit: Duration) -> Account {
        // While readings still come: an event that the hub once refused waits for a reading to be taken.
        self.events_sent(limit.max(Duration::from_secs(2))).await;
        self.quiet().await;
        self.all_accepted(limit).await;
        let last = self.board.store.borrow().last_sequence;
        let dead_letters = self.board.store.borrow().dead_letters;
        let account = account(hub, &self.device, last);
        // A reading that was set aside may have arrived before, with its acknowledgement lost. One that did not arrive
        // was set aside: its own event says so.
        let aside = |missing: &u64| {
            account.events.iter().filter(|event| event["event"] == "deadLetter").any(|event| {
                let number = |key: &str| event[key].as_u64().unwrap();
                (number("first")..=number("last")).contains(missing)
            })
        };
        let lost: Vec<_> = account.missing.iter().filter(|missing| !aside(missing)).collect();
        assert!(lost.is_empty(), "missing: {lost:?}, {dead_letters} set aside");
        self.stop_cloud().await;
        self.store.close().await.unwrap();
        drop(self.folder);
        account
    }

    /// No more samples.
    pub async fn quiet(&mut self) {
        self.stop_sensor.send_replace(true);
        self.samples = None;
        // The sensor hands over what it holds and ends; the store then has the last sequence.
        let mut last = self.store.synced();
        loop {
            let before = *last.borrow_and_update();
            if timeout(Duration::from_millis(300), last.changed()).await.is_err() && *last.borrow() == before
            {
                break;
            }
        }
    }
}

/// The times of the tables are those of a machine that is not overloaded: where more wants to run than it has
/// processors, a wait takes accordingly longer.
fn stretched(limit: Duration) -> Duration {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or(0.0);
    let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
    limit.mul_f64((load / processors).clamp(1.0, 3.0))
}
