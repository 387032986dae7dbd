//! One BME280 on a bus, in forced mode: find it, set it up, begin a conversion, fetch it. Every call is short
//! and blocking; the waits between them are the caller's. It repairs nothing: it names what is wrong.
//!
//! The chip is set up by the `bme280` crate (its reset and its order of writes are right). The measurement
//! sequence is our own: the crate's `measure` waits a fixed 40 ms (its own default needs 46), resets a busy chip
//! and so loses the oversampling, and reads the power-on registers as weather.

use std::time::Duration;

use ::bme280::i2c::BME280 as CrateDriver;
use ::bme280::{Configuration, Oversampling as CrateOversampling};

use super::bus::Bus;
use super::compensation::Calibration;
use super::error::{BusError, SensorError};
use super::registers::{self, RawTriple};
use crate::config::Oversampling;
use crate::reading::Measurement;

/// The two addresses that the chip can be strapped to (SDO low, SDO high), in the order of the search.
pub const ADDRESSES: [u8; 2] = [0x76, 0x77];

/// A BME280 that has been found and set up.
pub struct Bme280 {
    bus: Box<dyn Bus>,
    address: u8,
    oversampling: Oversampling,
    calibration: Calibration,
}

/// What [`Bme280::fetch`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    StillMeasuring,
    Raw(RawTriple),
}

impl Bme280 {
    /// Looks at `address`, or without one at 0x76 and then 0x77, and sets the chip up that is there. The error
    /// is that of the first address where something answered, or else of the first.
    pub fn find(
        mut bus: Box<dyn Bus>,
        address: Option<u8>,
        oversampling: Oversampling,
    ) -> Result<Self, SensorError> {
        let candidates = address.map_or(ADDRESSES.to_vec(), |address| vec![address]);
        let mut errors = Vec::new();
        for address in candidates {
            match set_up(bus.as_mut(), address, oversampling) {
                Ok(calibration) => return Ok(Self { bus, address, oversampling, calibration }),
                Err(error) => errors.push(error),
            }
        }
        let telling = errors.iter().position(|error| !error.is_no_answer()).unwrap_or(0);
        Err(errors.swap_remove(telling))
    }

    /// Resets the chip and sets it up again, as after a brown-out or for another oversampling.
    pub fn set_up(&mut self, oversampling: Oversampling) -> Result<(), SensorError> {
        self.oversampling = oversampling;
        self.calibration = set_up(self.bus.as_mut(), self.address, oversampling)?;
        Ok(())
    }

    /// `BME280 at 0x76 on /dev/i2c-1`.
    pub fn name(&self) -> String {
        format!("BME280 at {:#04x} on {}", self.address, self.bus.name())
    }

    /// The oversampling that the chip was set up with.
    pub fn oversampling(&self) -> Oversampling {
        self.oversampling
    }

    /// Is a conversion running? Then none may be begun.
    /// Fails with [`SensorError::Reset`] where the chip has lost its settings.
    pub fn is_busy(&mut self) -> Result<bool, SensorError> {
        let mut control = [0; 3];
        self.read(registers::CTRL_HUM, &mut control)?;
        let [humidity, status, measurement] = control;
        self.check_settings(humidity, measurement)?;
        Ok(is_busy(status, measurement))
    }

    /// Begins one conversion. Only after [`Bme280::is_busy`] has said no.
    pub fn begin(&mut self) -> Result<(), SensorError> {
        let (_, asleep) = registers::control(self.oversampling);
        let written = self.bus.write(self.address, &[registers::CTRL_MEAS, asleep | registers::FORCED]);
        written.map_err(|source| bus_error(self.bus.as_ref(), self.address, source))
    }

    /// Fetches the conversion if it has ended. Settings, status and data come in one transfer, so that they belong
    /// together: the data registers are shadowed during a burst read (datasheet, section 4.1).
    pub fn fetch(&mut self) -> Result<Fetched, SensorError> {
        let mut burst = [0; 13];
        self.read(registers::CTRL_HUM, &mut burst)?;
        let [humidity, status, measurement, _config, _reserved, data @ ..] = burst;
        self.check_settings(humidity, measurement)?;
        if is_busy(status, measurement) {
            return Ok(Fetched::StillMeasuring);
        }
        let raw = RawTriple::parse(data);
        self.check_measured(raw)?;
        Ok(Fetched::Raw(raw))
    }

    /// What the chip's numbers mean.
    pub fn compensate(&self, raw: RawTriple) -> Result<Measurement, SensorError> {
        self.calibration.compensate(raw)
    }

    /// The error of a conversion that was still running `over` past its longest time.
    pub fn stuck_busy(&self, over: Duration) -> SensorError {
        SensorError::StuckBusy { bus: self.bus.name().into(), address: self.address, over }
    }

    /// A reset leaves both control registers zero: noticed before a conversion and after it.
    fn check_settings(&self, humidity: u8, measurement: u8) -> Result<(), SensorError> {
        if (humidity, measurement & !registers::MODE) == registers::control(self.oversampling) {
            return Ok(());
        }
        Err(SensorError::Reset { bus: self.bus.name().into(), address: self.address })
    }

    /// At the lowest oversampling a true temperature or humidity can hit the very count of a skipped channel: then
    /// the next attempt, a moment later, gives its neighbour.
    fn check_measured(&self, raw: RawTriple) -> Result<(), SensorError> {
        let (bus, address) = (self.bus.name().to_owned(), self.address);
        if raw == RawTriple::POWER_ON {
            return Err(SensorError::PowerOn { bus, address });
        }
        let skipped = [
            ("pressure", raw.pressure == registers::SKIPPED_20_BIT),
            ("temperature", raw.temperature == registers::SKIPPED_20_BIT),
            ("humidity", raw.humidity == registers::SKIPPED_16_BIT),
        ];
        match skipped.into_iter().find(|(_, skipped)| *skipped) {
            Some((channel, _)) => Err(SensorError::Skipped { bus, address, channel }),
            None => Ok(()),
        }
    }

    fn read(&mut self, register: u8, into: &mut [u8]) -> Result<(), SensorError> {
        read(self.bus.as_mut(), self.address, register, into)
    }
}

fn is_busy(status: u8, measurement: u8) -> bool {
    status & (registers::MEASURING | registers::IM_UPDATE) != 0 || measurement & registers::MODE != 0
}

fn set_up(bus: &mut dyn Bus, address: u8, oversampling: Oversampling) -> Result<Calibration, SensorError> {
    // The crate takes a BMP280 for good and calls anything else unsupported without saying what it is.
    let mut id = [0];
    read(bus, address, registers::CHIP_ID, &mut id)?;
    if id != [registers::BME280] {
        return Err(SensorError::NotBme280 { bus: bus.name().into(), address, id: id[0] });
    }
    let configuration = Configuration::default()
        .with_temperature_oversampling(of_crate(oversampling.temperature))
        .with_pressure_oversampling(of_crate(oversampling.pressure))
        .with_humidity_oversampling(of_crate(oversampling.humidity));
    reset_and_configure(bus, address, configuration)?;
    wait_for_calibration(bus, address)?;
    let first = read_calibration(bus, address)?;
    // Nothing on the bus protects these 33 bytes, and one wrong bit would bend every reading until the next
    // set-up: they count only when they read the same twice.
    let calibration = match (first == read_calibration(bus, address)?, Calibration::parse(&first.0, &first.1))
    {
        (true, parsed) => parsed,
        (false, _) => Err("reads differently each time"),
    };
    calibration.map_err(|what| SensorError::Calibration { bus: bus.name().into(), address, what })
}

fn reset_and_configure(
    bus: &mut dyn Bus,
    address: u8,
    configuration: Configuration,
) -> Result<(), SensorError> {
    let mut delay = bus.delay();
    match CrateDriver::new(&mut *bus, address).init_with_config(&mut delay.as_mut(), configuration) {
        Ok(()) => Ok(()),
        Err(::bme280::Error::Bus(source)) => Err(bus_error(bus, address, source)),
        // What is left is a mode register that makes no sense: the chip is not in the state that a reset gives.
        Err(_) => Err(SensorError::Reset { bus: bus.name().into(), address }),
    }
}

/// The chip copies its calibration out of its memory after a reset; 2 ms is the longest, ten are patience.
fn wait_for_calibration(bus: &mut dyn Bus, address: u8) -> Result<(), SensorError> {
    let patience = 5 * registers::START_UP;
    let mut delay = bus.delay();
    for _ in 0..10 {
        let mut status = [0];
        read(bus, address, registers::STATUS, &mut status)?;
        if status[0] & registers::IM_UPDATE == 0 {
            return Ok(());
        }
        delay.delay_ms(1);
    }
    Err(SensorError::StuckBusy { bus: bus.name().into(), address, over: patience })
}

type CalibrationBytes = ([u8; registers::CALIBRATION_T_P_LENGTH], [u8; registers::CALIBRATION_H_LENGTH]);

fn read_calibration(bus: &mut dyn Bus, address: u8) -> Result<CalibrationBytes, SensorError> {
    let mut bytes: CalibrationBytes =
        ([0; registers::CALIBRATION_T_P_LENGTH], [0; registers::CALIBRATION_H_LENGTH]);
    read(bus, address, registers::CALIBRATION_T_P, &mut bytes.0)?;
    read(bus, address, registers::CALIBRATION_H, &mut bytes.1)?;
    Ok(bytes)
}

fn read(bus: &mut dyn Bus, address: u8, register: u8, into: &mut [u8]) -> Result<(), SensorError> {
    bus.write_read(address, &[register], into).map_err(|source| bus_error(bus, address, source))
}

fn bus_error(bus: &dyn Bus, address: u8, source: BusError) -> SensorError {
    SensorError::Bus { bus: bus.name().into(), address, source }
}

fn of_crate(oversampling: u8) -> CrateOversampling {
    match oversampling {
        2 => CrateOversampling::Oversampling2X,
        4 => CrateOversampling::Oversampling4X,
        8 => CrateOversampling::Oversampling8X,
        16 => CrateOversampling::Oversampling16X,
        _ => CrateOversampling::Oversampling1X,
    }
}
