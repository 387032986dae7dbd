//! The sensor: a BME280 over I2C, real or simulated, from the registers to samples in a bounded channel.
//! It knows neither disk nor network; what cannot be measured is an error with a name and never a number.
//!
//! [`driver`] talks to one chip, [`compensation`] turns counts into weather, [`plausibility`] judges it,
//! [`Task`] keeps the schedule and repairs what can be repaired.

mod bus;
mod compensation;
mod device;
mod driver;
mod error;
mod missed;
pub mod plausibility;
pub mod registers;
mod schedule;
pub mod simulated;
mod suspended;
mod task;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::chain::chain;
use crate::clock::Timekeeper;
use crate::config::{self, Config, ConfigError};
use crate::reading::{Celsius, Hectopascal, Measurement, Percent, Quality, Sample};

pub use self::bus::{Bus, DeviceBus};
pub use self::compensation::{Calibration, HUMIDITY_ACCURACY};
use self::device::Device;
pub use self::driver::{ADDRESSES, Bme280, Fetched};
pub use self::error::{BusError, SensorError, describe};
use self::simulated::{SimulatedSensor, Trace};
pub use self::task::Task;

/// Where the bus comes from: opened at the start, and again after a fault. Any embedded-hal I2C bus will do.
#[derive(Clone)]
pub struct Source(Arc<Opener>);

type Opener = dyn Fn() -> Result<Box<dyn Bus>, SensorError> + Send + Sync;

impl Source {
    /// From the configuration, which is wrong where the trace of the simulated sensor is not usable. No device is
    /// opened yet.
    pub fn new(config: &Config, timekeeper: &Timekeeper) -> Result<Self, ConfigError> {
        let sensor = &config.sensor;
        if sensor.source == config::SensorSource::Bme280 {
            let path = sensor.bus.clone();
            return Ok(Self::of(move || Ok(Box::new(DeviceBus::open(&path)?))));
        }
        let trace = match &sensor.trace {
            None => Trace::synthetic_day(),
            Some(path) => Trace::load(path).map_err(|error| ConfigError::Wrong {
                path: config.file.display().to_string(),
                problems: vec![format!("`sensor.trace`: expected a CSV file to replay; {}", chain(&error))],
            })?,
        };
        let chip = SimulatedSensor::new(trace, sensor.speed, timekeeper.clone());
        Ok(Self::of(move || chip.open()))
    }

    /// `open` is called for each opening. Blocking, short.
    pub fn of(open: impl Fn() -> Result<Box<dyn Bus>, SensorError> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// Opens the bus. Blocking, short.
    pub fn open(&self) -> Result<Box<dyn Bus>, SensorError> {
        (self.0)()
    }
}

/// One reading without a task, for the commands `read` and `check`, and the name of the chip that gave it.
/// Fails with [`SensorError::Locked`] beside a running station, which should then be asked instead.
pub async fn read_once(
    source: Source,
    config: &config::Sensor,
    timekeeper: &Timekeeper,
) -> Result<(Sample, String), SensorError> {
    let mut device = Device::new(source, config.address, timekeeper.clone());
    let deadline = Instant::now() + Duration::from_secs(2);
    let taken = device.take(config.oversampling, deadline).await?;
    let measurement = with_offset(taken.measurement, config.offset);
    let sample = Sample { stamp: taken.stamp, measurement, quality: Quality::Good };
    Ok((sample, device.chip().unwrap_or_default()))
}

/// What the owner adds to what the chip gives. The sum is not held to the sensor's range: it is the owner's word. Air
/// that is wetter than saturated or drier than dry is none, though: in fog an offset would give a dew point above the
/// temperature.
fn with_offset(measured: Measurement, offset: config::Offset) -> Measurement {
    Measurement {
        air_temperature: Celsius(measured.air_temperature.0 + offset.temperature),
        relative_humidity: Percent((measured.relative_humidity.0 + offset.humidity).clamp(0.0, 100.0)),
        station_pressure: Hectopascal(measured.station_pressure.0 + offset.pressure),
    }
}
