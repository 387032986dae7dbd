//! A clock for tests in which no time passes.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Clock;
use crate::reading::BootId;

/// What it shows, and always will.
pub struct Stopped {
    pub wall: DateTime<Utc>,
    pub since_boot: Duration,
    pub synchronised: bool,
}

impl Clock for Stopped {
    fn wall(&self) -> DateTime<Utc> {
        self.wall
    }

    fn since_boot(&self) -> Duration {
        self.since_boot
    }

    fn boot(&self) -> BootId {
        BootId(2)
    }

    fn synchronised(&self) -> bool {
        self.synchronised
    }
}
