//! The hub's own wall clock: the machine's time plus an offset that a test can set. The only place here that
//! reads the machine's time. Knows nothing else.

use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, TimeDelta, Utc};

/// Seconds by which the hub's clock is ahead of the machine's.
#[derive(Debug, Default)]
pub(crate) struct Wall {
    ahead: AtomicI64,
}

impl Wall {
    /// The hub's time.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        machine_now() + TimeDelta::seconds(self.ahead.load(Ordering::Relaxed))
    }

    /// From now on the hub's clock is `seconds` ahead of the machine's (negative: behind).
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place of this program that reads the machine's time")]
pub(crate) fn machine_now() -> DateTime<Utc> {
    Utc::now()
}
