//! The real clocks of this machine.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rustix::time::{ClockId, clock_gettime};

use super::Clock;
use crate::reading::BootId;

/// CLOCK_REALTIME, CLOCK_BOOTTIME, the kernel's boot id, adjtimex.
#[derive(Debug)]
pub struct SystemClock {
    boot: BootId,
}

impl SystemClock {
    /// Reads the boot id once; where it cannot be read, a random one keeps readings of two
    /// boots apart (monotonic times then compare within this process only).
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .ok()
            .and_then(|text| uuid::Uuid::parse_str(text.trim()).ok())
            .unwrap_or_else(uuid::Uuid::new_v4);
        Self { boot: BootId(boot.as_u128()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the one place that may")]
    fn wall(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        Duration::try_from(time).unwrap_or_default()
    }

    fn boot(&self) -> BootId {
        self.boot
    }

    fn synchronised(&self) -> bool {
        super::adjtimex::synchronised()
    }
}
