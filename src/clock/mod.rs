//! The station's one source of time, and how far it can be trusted.
//! Only this module reads the machine's clocks; everybody else is handed a [`Timekeeper`].
//! It never sets the machine's clock.

mod adjtimex;
#[cfg(test)]
mod stopped;
mod system;
mod timekeeper;
mod turns;

use std::time::Duration;

use chrono::{DateTime, Utc};

#[cfg(test)]
pub use self::stopped::Stopped;
pub use self::system::SystemClock;
pub(crate) use self::timekeeper::SETBACK_TOLERANCE;
pub use self::timekeeper::{ClockState, ClockStatus, Timekeeper};
use crate::reading::BootId;

/// The machine's clocks: a parameter, so that tests bring their own.
pub trait Clock: Send + Sync {
    /// Wall time as the machine has it, right or wrong.
    fn wall(&self) -> DateTime<Utc>;
    /// Time since boot, suspend included.
    fn since_boot(&self) -> Duration;
    /// Names the boot.
    fn boot(&self) -> BootId;
    /// Whether the kernel says that the wall clock is synchronised; refused counts as no.
    fn synchronised(&self) -> bool;
}
