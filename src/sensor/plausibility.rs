//! Says whether a measurement can be believed. It never changes or drops the number, and it judges what the
//! chip says, before any offset. Pure: the time is a parameter.

use std::collections::VecDeque;
use std::time::Duration;

use super::registers::{RawTriple, longest_conversion};
use crate::config::Oversampling;
use crate::reading::{Measurement, Quality};

/// The noise of a working chip is about one count of temperature, one of pressure (at the lowest oversampling) and
/// nine of humidity (3.3 Pa, 0.07 %RH in the datasheet's weather mode, section 3.5.1). If two neighbours were equal in
/// all three as often as every second time, thirty in a row would come once in a thousand million samples.
pub const FROZEN_TRIPLES: u32 = 30;

/// From here on air counts as saturated: the chip's noise (0.07 %RH) and hysteresis (1 %RH) around 100.
const SATURATED: f64 = 99.5;
/// Fog and rain keep the air saturated for hours, but at a temperature that hardly moves.
const STUCK_AFTER: Duration = Duration::from_secs(3 * 3600);
/// Air that was saturated and warms by 3 degC could hold a fifth more (Magnus), so it is at some 82 %RH unless the
/// fog feeds it: a sensor that still says 100 % is wet. Cooling proves nothing: saturated air stays saturated.
/// In the whole of 2013 at New York JFK, 25 saturated hours, this would have flagged none.
const STUCK_WARMING: f64 = 3.0;

/// A minute, and the lateness that a schedule may have.
const JUMP_WITHIN: Duration = Duration::from_millis(61_000);
/// A judgement and not a measurement: gust fronts take a few degrees in some minutes, and this is more than that in
/// one. It is a hand, a hair dryer, a door or a wrong bit on the bus, which has no check sum.
const JUMP_CELSIUS: f64 = 5.0;
const JUMP_HECTOPASCAL: f64 = 10.0;
const JUMP_PERCENT: f64 = 30.0;

/// While it measures the chip takes up to 0.71 mA (pressure; datasheet, table 1): 2.4 mW at 3.3 V. At an estimated
/// 200 K/W from a chip on a small board to the air that is 0.5 degC, as much as the accuracy of the temperature. At a
/// tenth of the time it is 0.05 degC, which does not matter; above it the heat becomes part of the reading.
pub const HEATING_DUTY: f64 = 0.1;

/// Remembers what it needs to judge the next measurement.
#[derive(Debug, Default)]
pub struct Judge {
    last_raw: Option<RawTriple>,
    /// How often `last_raw` came in a row.
    identical: u32,
    saturated: Option<Saturated>,
    /// Of the last minute, without those that jumped.
    recent: VecDeque<(Duration, Measurement)>,
}

#[derive(Debug)]
struct Saturated {
    since: Duration,
    coldest: f64,
}

impl Judge {
    /// `at` is the time since boot. The gravest finding wins: a frozen chip says nothing about the weather.
    pub fn judge(
        &mut self,
        at: Duration,
        raw: RawTriple,
        measured: Measurement,
        interval: Duration,
        oversampling: Oversampling,
    ) -> Quality {
        // All of them see every measurement.
        let frozen = self.is_frozen(raw);
        let stuck = self.is_stuck(at, measured);
        let jump = self.is_jump(at, measured);
        if frozen {
            Quality::Frozen
        } else if stuck {
            Quality::StuckHumidity
        } else if jump {
            Quality::Jump
        } else if duty(interval, oversampling) > HEATING_DUTY {
            Quality::SelfHeating
        } else {
            Quality::Good
        }
    }

    fn is_frozen(&mut self, raw: RawTriple) -> bool {
        self.identical = if self.last_raw == Some(raw) { self.identical.saturating_add(1) } else { 1 };
        self.last_raw = Some(raw);
        self.identical >= FROZEN_TRIPLES
    }

    fn is_stuck(&mut self, at: Duration, measured: Measurement) -> bool {
        if measured.relative_humidity.0 < SATURATED {
            self.saturated = None;
            return false;
        }
        let temperature = measured.air_temperature.0;
        let saturated = self.saturated.get_or_insert(Saturated { since: at, coldest: temperature });
        saturated.coldest = saturated.coldest.min(temperature);
        at.saturating_sub(saturated.since) >= STUCK_AFTER && temperature - saturated.coldest >= STUCK_WARMING
    }

    fn is_jump(&mut self, at: Duration, measured: Measurement) -> bool {
        while self.recent.front().is_some_and(|(then, _)| at.saturating_sub(*then) > JUMP_WITHIN) {
            self.recent.pop_front();
        }
        let jumps = self.recent.iter().any(|(_, before)| is_step(*before, measured));
        if !jumps {
            self.recent.push_back((at, measured));
        }
        jumps
    }
}

/// The share of its time that the chip spends measuring.
pub fn duty(interval: Duration, oversampling: Oversampling) -> f64 {
    longest_conversion(oversampling).as_secs_f64() / interval.as_secs_f64()
}

fn is_step(before: Measurement, after: Measurement) -> bool {
    (after.air_temperature.0 - before.air_temperature.0).abs() > JUMP_CELSIUS
        || (after.station_pressure.0 - before.station_pressure.0).abs() > JUMP_HECTOPASCAL
        || (after.relative_humidity.0 - before.relative_humidity.0).abs() > JUMP_PERCENT
}
