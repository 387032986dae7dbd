//! What was measured, when, and how far it can be trusted: the words that every part shares.
//! This file knows no sensor, no disk and no network.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// Air temperature in degrees Celsius; a BME280 gives -40 to 85 (datasheet, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Celsius(pub f64);

/// Relative humidity in percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Percent(pub f64);

/// Pressure in hectopascal; a BME280 gives 300 to 1100 (datasheet, section 1.1).
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Hectopascal(pub f64);

impl Hectopascal {
    /// The unit of telemetry.
    pub fn kilopascal(self) -> f64 {
        self.0 / 10.0
    }
}

/// The three quantities of one forced-mode measurement, offsets applied.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measurement {
    pub air_temperature: Celsius,
    pub relative_humidity: Percent,
    /// At the height of the barometer, not reduced to sea level.
    pub station_pressure: Hectopascal,
}

/// What the plausibility rules say of a measurement. The number itself is never changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Quality {
    #[default]
    Good,
    /// The raw triple has not changed for 30 samples.
    Frozen,
    /// 100 %RH for hours while the temperature moves.
    StuckHumidity,
    /// A step between neighbours that weather does not make.
    Jump,
    /// Interval and oversampling heat the chip.
    SelfHeating,
}

impl Quality {
    /// The telemetry's `quality` value; none for a good reading.
    pub fn telemetry(self) -> Option<&'static str> {
        match self {
            Self::Good => None,
            Self::Frozen => Some("suspect:frozen"),
            Self::StuckHumidity => Some("suspect:stuck-humidity"),
            Self::Jump => Some("suspect:jump"),
            Self::SelfHeating => Some("suspect:self-heating"),
        }
    }

    /// The number in a stored row. Frozen: rows on cards in the field hold it.
    pub fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Frozen => 1,
            Self::StuckHumidity => 2,
            Self::Jump => 3,
            Self::SelfHeating => 4,
        }
    }

    /// The inverse of [`Quality::code`].
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Good, Self::Frozen, Self::StuckHumidity, Self::Jump, Self::SelfHeating]
            .into_iter()
            .find(|quality| quality.code() == code)
    }
}

/// How far the time of a reading can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimeQuality {
    /// Taken while the clock was synchronised, or re-dated from a moment when it was.
    Synchronised,
    /// The clock was plausible and nothing more.
    Unsynchronised,
    /// The clock was wrong and no later moment could put it right (another boot).
    Unknown,
}

impl TimeQuality {
    /// The telemetry's `timeQuality` value; none for a synchronised one.
    pub fn telemetry(self) -> Option<&'static str> {
        match self {
            Self::Synchronised => None,
            Self::Unsynchronised => Some("unsynchronised"),
            Self::Unknown => Some("unknown"),
        }
    }

    /// The number in a stored row. Frozen.
    pub fn code(self) -> u8 {
        match self {
            Self::Synchronised => 0,
            Self::Unsynchronised => 1,
            Self::Unknown => 2,
        }
    }

    /// The inverse of [`TimeQuality::code`].
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Synchronised, Self::Unsynchronised, Self::Unknown]
            .into_iter()
            .find(|quality| quality.code() == code)
    }
}

/// The kernel's boot id (`/proc/sys/kernel/random/boot_id`): monotonic times of one boot compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId(pub u128);

/// A moment as the station knows it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stamp {
    pub boot: BootId,
    /// Time since that boot, suspend included (CLOCK_BOOTTIME).
    pub since_boot: Duration,
    pub time: DateTime<Utc>,
    pub time_quality: TimeQuality,
}

impl Stamp {
    /// The moment so long before this one, as the same clock would have shown it.
    pub fn earlier(&self, ago: Duration) -> Self {
        let time = TimeDelta::from_std(ago).ok().and_then(|ago| self.time.checked_sub_signed(ago));
        Self { since_boot: self.since_boot.saturating_sub(ago), time: time.unwrap_or(self.time), ..*self }
    }

    /// What the clock that shows `now` showed at this moment, where both are of one boot.
    pub fn shown_by(&self, now: &Self) -> DateTime<Utc> {
        let ago = now.since_boot.checked_sub(self.since_boot).filter(|_| self.boot == now.boot);
        ago.and_then(|ago| now.time.checked_sub_signed(TimeDelta::from_std(ago).ok()?)).unwrap_or(self.time)
    }
}

/// What the sensor task hands to the store task: not yet durable, so without a sequence number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub stamp: Stamp,
    pub measurement: Measurement,
    pub quality: Quality,
}

/// A stored reading. It has a name that holds for ever: (store id, run, sequence).
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The store that numbered it; a salvaged reading keeps its old one.
    pub store_id: std::sync::Arc<str>,
    /// The short random word of the process run that took it.
    pub run: std::sync::Arc<str>,
    pub sequence: u64,
    pub sample: Sample,
}

/// What comes out of the sensor task, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum FromSensor {
    Sample(Sample),
    /// An episode without readings has ended: these samples were due and could not be taken.
    Missed {
        count: u64,
        from: Stamp,
        until: Stamp,
        /// For people: `no answer at 0x76 on /dev/i2c-1 (ENXIO)`.
        reason: String,
    },
}

/// What others may ask of the sensor task.
#[derive(Debug)]
pub enum SensorRequest {
    /// Take one reading now, besides the schedule; it is stored and sent like any other.
    ReadNow(tokio::sync::oneshot::Sender<Result<Sample, String>>),
    /// Re-initialise the chip (and reopen the bus) before the next sample.
    Restart(tokio::sync::oneshot::Sender<Result<(), String>>),
}
