//! Judges the clock: synchronised, plausible or wrong; and lends the hub's time where it is wrong.
//! Pure apart from the [`Clock`] it is given; knows nothing of disk or network.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::Clock;
use super::turns::Turns;
use crate::reading::{Stamp, TimeQuality};

/// A clock that counts as synchronised may be set back by so much and is still right: the kernel takes nine hours to
/// notice that nobody synchronises it any more, in which a bad crystal (100 ppm) gains three seconds.
pub(crate) const SETBACK_TOLERANCE: TimeDelta = TimeDelta::seconds(10);

/// How far the wall clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockState {
    /// The kernel says so.
    Synchronised,
    /// Not synchronised, but not before the build nor before the newest synchronised reading; or the hub's own time,
    /// which is in use.
    Plausible,
    /// Before one of the two, or ahead of them only because it went on from there: no token is made with it.
    Wrong,
}

impl fmt::Display for ClockState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// The `clock` part of the status document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    turns: Turns,
}

struct Trust {
    /// By the build date alone.
    built: Floors,
    /// By the build date, or by the newest reading taken synchronised.
    floors: Floors,
    /// What to add to "time since boot" to get the hub's time, once it had to be asked.
    hub_time_at_boot: Option<DateTime<Utc>>,
}

/// No right clock shows less.
#[derive(Clone, Copy)]
struct Floors {
    /// At any time.
    time: DateTime<Utc>,
    /// At the beginning of this boot. A clock that was wrong after it stays wrong until somebody sets it, however long
    /// it runs on.
    at_boot: Option<DateTime<Utc>>,
}

impl Floors {
    /// At this time since boot a right clock did not show less than `time`.
    fn of(time: DateTime<Utc>, since_boot: Duration) -> Self {
        Self { time, at_boot: time.checked_sub_signed(delta(since_boot)) }
    }

    fn max(self, other: Self) -> Self {
        Self { time: self.time.max(other.time), at_boot: self.at_boot.max(other.at_boot) }
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Timekeeper").field("status", &self.status()).finish()
    }
}

impl Timekeeper {
    /// The floor is the build date; the store raises it with [`Timekeeper::raise_floor`].
    pub fn new(clock: Arc<dyn Clock>, built: DateTime<Utc>) -> Self {
        // A clock that is behind it now does not become right by running on.
        let built = Floors::of(built, clock.since_boot());
        let trust = Arc::new(Mutex::new(Trust { built, floors: built, hub_time_at_boot: None }));
        Self { clock, trust, turns: Turns::begin() }
    }

    /// At this time since boot a right clock did not show less than `time`.
    pub fn raise_floor(&self, time: DateTime<Utc>, since_boot: Duration) {
        let mut trust = self.trust();
        trust.floors = trust.floors.max(Floors::of(time, since_boot));
    }

    /// The kernel vouched for `time`, and this is the newest reading's. A floor far above it came from a time that the
    /// kernel has taken back: it goes down to the build date, to be raised anew.
    pub fn take_back_floor(&self, time: DateTime<Utc>) {
        let mut trust = self.trust();
        if time < trust.floors.time - SETBACK_TOLERANCE {
            trust.floors = trust.built;
        }
    }

    /// The least time that a right clock can ever show.
    pub fn floor(&self) -> DateTime<Utc> {
        self.trust().floors.time
    }

    /// The least time that an answer about the time may tell. Where the kernel vouches for the clock nothing is taken
    /// from the answer, and the readings may have been dated by a clock that it contradicts.
    pub fn least_answer(&self) -> DateTime<Utc> {
        if self.clock.synchronised() { self.trust().built.time } else { self.floor() }
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
        ClockStatus { state, reason: reason.into_owned() }
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

    /// Time since boot, suspend included.
    pub fn since_boot(&self) -> Duration {
        self.clock.since_boot()
    }

    /// When a loop wakes: for what is `due` within `longest`, or else together with all the others.
    pub fn end_of_turn(&self, longest: Duration, due: Option<Instant>) -> Instant {
        self.turns.end(longest, due)
    }

    /// The first instant later than `after` at which idle loops turn.
    pub fn next_turn(&self, after: Instant, longest: Duration) -> Instant {
        self.turns.next(after, longest)
    }

    fn judge(&self) -> (DateTime<Utc>, ClockState, Cow<'static, str>) {
        let wall = self.clock.wall();
        if self.clock.synchronised() {
            // When nobody synchronises it any more it is still better than what the hub once said.
            self.trust().hub_time_at_boot = None;
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
        let Floors { time: floor, at_boot } = trust.floors;
        let runs_on = at_boot.map(|at_boot| at_boot + delta(self.clock.since_boot()) - SETBACK_TOLERANCE);
        let floor = runs_on.map_or(floor, |runs_on| floor.max(runs_on));
        if wall < floor {
            let reason = format!(
                "shows {}, which is before {}, so it cannot be right",
                wall.format("%F %T"),
                floor.format("%F %T")
            );
            return (wall, ClockState::Wrong, reason.into());
        }
        (wall, ClockState::Plausible, "not synchronised, but not impossible either".into())
    }

    fn trust(&self) -> std::sync::MutexGuard<'_, Trust> {
        self.trust.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}
