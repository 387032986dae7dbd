//! The settings in force that the cloud may change while the station runs: the file's values, with the twin's laid
//! over them. Parts watch them; only the twin (and the start-up) writes them. Knows no AMQP.

mod kept;
mod overlay;
mod property;

use std::time::Duration;

pub use self::kept::{UNREAD, beside_the_station, in_force, keep, kept_beside, load, load_or_why};
pub(crate) use self::overlay::merge;
pub use self::overlay::{Acknowledgement, Changes, Overlay};
pub use self::property::{Property, brief};
use crate::config::{Config, Offset, Oversampling};

/// What the sensor, the store and the cloud task go by at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Time between two samples, 1 s to 24 h.
    pub sample_interval: Duration,
    pub oversampling: Oversampling,
    /// Added to what the chip gives. The twin's value replaces the file's, it is never added to it.
    pub offset: Offset,
    /// Metres above mean sea level.
    pub altitude: Option<f64>,
    /// Readings in one message, 1 to 1,000.
    pub readings_per_message: usize,
    /// Sent readings older than this are pruned.
    pub keep: Duration,
    /// The twin's part has been read, on the disk or from the hub: it asks for no longer `keep` than this one.
    pub keep_is_known: bool,
}

impl Settings {
    /// What the file says. What the twin says about it has yet to be read.
    pub fn from_file(config: &Config) -> Self {
        Self {
            sample_interval: config.sensor.interval,
            oversampling: config.sensor.oversampling,
            offset: config.sensor.offset,
            altitude: config.station.altitude,
            readings_per_message: config.telemetry.readings_per_message,
            keep: config.store.keep,
            keep_is_known: false,
        }
    }

    /// The age at which sent readings are pruned. None while nobody knows it: what was pruned too early is gone, what is
    /// pruned too late goes later.
    pub fn prune_after(&self) -> Option<Duration> {
        self.keep_is_known.then_some(self.keep)
    }

    /// The configuration with these in the place of the file's.
    pub fn over(self, file: &Config) -> Config {
        let Self {
            sample_interval,
            oversampling,
            offset,
            altitude,
            readings_per_message,
            keep,
            keep_is_known: _,
        } = self;
        let mut config = file.clone();
        (config.sensor.interval, config.sensor.oversampling, config.sensor.offset) =
            (sample_interval, oversampling, offset);
        config.station.altitude = altitude;
        config.telemetry.readings_per_message = readings_per_message;
        config.store.keep = keep;
        config
    }
}
