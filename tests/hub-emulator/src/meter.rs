//! Metering and throttling: how many chunks the messages cost, how many come a second, and when it is too much. Knows
//! sizes and times; the telemetry link asks it.

use std::sync::Mutex;

use serde::Serialize;
use tokio::time::Instant;

use crate::behaviour::Behaviour;
use crate::error::HubError;
use crate::hub::lock;

/// Chunks counted so far, as a hub bills them (iot-hub-devguide-pricing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Metered {
    /// Chunks of 4 KiB, paid tiers.
    pub paid: u64,
    /// Chunks of 0.5 KiB, free tier.
    pub free: u64,
}

/// Seconds' worth of messages that a burst may bring.
const BURST: f64 = 60.0;

#[derive(Default)]
pub(crate) struct Meter {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    metered: Metered,
    /// Messages that may still come now, and when that was worked out.
    bucket: Option<(f64, Instant)>,
}

impl Meter {
    pub(crate) fn metered(&self) -> Metered {
        lock(&self.state).metered
    }

    /// Lets a transfer of `count` messages pass and counts its chunks, or says why not.
    pub(crate) fn admit(&self, behaviour: &Behaviour, count: u32, sizes: &[usize]) -> Option<HubError> {
        let mut state = lock(&self.state);
        if behaviour.messages_per_second > 0 {
            let rate = f64::from(behaviour.messages_per_second);
            let now = Instant::now();
            let (left, then) = state.bucket.unwrap_or((rate * BURST, now));
            let left = (left + now.duration_since(then).as_secs_f64() * rate).min(rate * BURST);
            let after = left - f64::from(count);
            state.bucket = Some((if after < 0.0 { left } else { after }, now));
            if after < 0.0 {
                return Some(HubError::throttled(None));
            }
        }
        let chunks = |unit: usize| sizes.iter().map(|size| size.div_ceil(unit).max(1) as u64).sum::<u64>();
        let paid = state.metered.paid + chunks(4096);
        if behaviour.daily_quota > 0 && paid > behaviour.daily_quota {
            return Some(HubError::quota());
        }
        state.metered = Metered { paid, free: state.metered.free + chunks(512) };
        None
    }

    /// A new day.
    pub(crate) fn reset(&self) {
        *lock(&self.state) = State::default();
    }
}
