//! Judges the clock: synchronised, plausible or wrong; and lends the hub's time where it is wrong.
//! Pure apart from the [`Clock`] it is given; knows nothing of disk or network.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::Clock;
use crate::reading::{Stamp, TimeQuality};

/// How far the wall clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    /// The kernel says so.
    Synchronised,
    /// Not synchronised, but not before the build nor before the newest synchronised reading; or the hub's own time,
    /// which is in use.
    Plausible,
    /// Before one of the two: no token is made with it.
    Wrong,
}

/// The `clock` part of the status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClockStatus {
    pub state: ClockState,
    pub reason: String,
}

/// Hands out stamps and judges them. Cheap to clone: every task holds one.
#[derive(Clone)]
pub struct Timekeeper {
    clock: Arc<dyn Clock>,
    // Held for a few instructions; nobody waits while holding it.
    trust: Arc<Mutex<Trust>>,
}

struct Trust {
    /// No right clock shows less: the build date, or the newest reading taken synchronised.
    floor: DateTime<Utc>,
    /// What to add to "time since boot" to get the hub's time, once it had to be asked.
    hub_time_at_boot: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for Timekeeper {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Timekeeper").field("status", &self.status()).finish()
    }
}

impl Timekeeper {
    /// `floor` is the build date; the store raises it with [`Timekeeper::raise_floor`].
    pub fn new(clock: Arc<dyn Clock>, floor: DateTime<Utc>) -> Self {
        Self { clock, trust: Arc::new(Mutex::new(Trust { floor, hub_time_at_boot: None })) }
    }

    /// A right clock is not before `time`.
    pub fn raise_floor(&self, time: DateTime<Utc>) {
        let mut trust = self.trust();
        trust.floor = trust.floor.max(time);
    }

    /// The least time that a right clock can show.
    pub fn floor(&self) -> DateTime<Utc> {
        self.trust().floor
    }

    /// Takes the hub's time (its `Date` header) as right from now on, for this boot, until the
    /// kernel says that the machine's own clock is synchronised.
    pub fn take_hub_time(&self, hub: DateTime<Utc>) {
        let since_boot = self.clock.since_boot();
        self.trust().hub_time_at_boot = Some(hub - delta(since_boot));
    }

    /// The best time there is, and the state of the clock it came from.
    pub fn now(&self) -> DateTime<Utc> {
        self.judge().0
    }

    /// The state with its reason, for people.
    pub fn status(&self) -> ClockStatus {
        let (_, state, reason) = self.judge();
        ClockStatus { state, reason }
    }

    /// Just the state.
    pub fn state(&self) -> ClockState {
        self.judge().1
    }

    /// A stamp for a sample that is taken now.
    pub fn stamp(&self) -> Stamp {
        let (time, state, _) = self.judge();
        let time_quality = match state {
            ClockState::Synchronised => TimeQuality::Synchronised,
            ClockState::Plausible => TimeQuality::Unsynchronised,
            ClockState::Wrong => TimeQuality::Unknown,
        };
        Stamp { boot: self.clock.boot(), since_boot: self.clock.since_boot(), time, time_quality }
    }

    fn judge(&self) -> (DateTime<Utc>, ClockState, String) {
        let wall = self.clock.wall();
        if self.clock.synchronised() {
            return (wall, ClockState::Synchronised, "the kernel says that it is synchronised".into());
        }
        let trust = self.trust();
        if let Some(at_boot) = trust.hub_time_at_boot {
            let time = at_boot + delta(self.clock.since_boot());
            return (
                time,
                ClockState::Plausible,
                "not synchronised: the time is the hub's, by its Date header".into(),
            );
        }
        if wall < trust.floor {
            let reason = format!(
                "shows {}, which is before {}, so it cannot be right",
                wall.format("%F %T"),
                trust.floor.format("%F %T")
            );
            return (wall, ClockState::Wrong, reason);
        }
        (wall, ClockState::Plausible, "not synchronised, but not impossible either".into())
    }

    fn trust(&self) -> std::sync::MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn delta(duration: std::time::Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
