//! The simulated chip on a simulated bus: the one handle for those who open it as a bus, and for those who
//! play its fate. Time is tokio's, so that paused time works; the weather is the wall time's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorType, I2c, Operation};

use super::chip::{ADDRESS, Chip};
use super::faults::Faults;
use super::trace::Trace;
use crate::clock::Timekeeper;
use crate::reading::{Celsius, Hectopascal, Measurement, Percent};
use crate::sensor::bus::Bus;
use crate::sensor::error::{BusError, SensorError};

/// The chip's own time: tokio's, plus what blocking delays have let pass.
pub(super) type ChipTime = tokio::time::Instant;

const NAME: &str = "the simulated bus";

/// A chip, its bus and its weather. Clones are the same chip.
#[derive(Clone)]
pub struct SimulatedSensor {
    state: Arc<Mutex<State>>,
}

pub(super) struct State {
    pub chip: Chip,
    pub faults: Faults,
    /// Counts the times the adapter was pulled out: handles of an earlier one are dead.
    pub generation: u64,
    /// Let pass by [`Pause`]: a blocking delay cannot move tokio's clock.
    let_pass: Duration,
    trace: Trace,
    speed: f64,
    timekeeper: Timekeeper,
    noise: fastrand::Rng,
}

impl SimulatedSensor {
    /// A chip that feels `trace` at the place that the wall time and `speed` point to ([`Trace`] has the rule).
    pub fn new(trace: Trace, speed: f64, timekeeper: Timekeeper) -> Self {
        let chip = Chip::powered_on(ChipTime::now());
        let noise = fastrand::Rng::with_seed(0x0060);
        let faults = Faults::default();
        let let_pass = Duration::ZERO;
        let state = State { chip, faults, generation: 0, let_pass, trace, speed, timekeeper, noise };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Opens the bus, as one opens `/dev/i2c-1`.
    pub fn open(&self) -> Result<Box<dyn Bus>, SensorError> {
        let state = self.lock();
        if state.faults.unplugged {
            let source = std::io::Error::from_raw_os_error(libc::ENOENT);
            return Err(SensorError::Open { path: NAME.into(), source });
        }
        let generation = state.generation;
        Ok(Box::new(SimulatedBus { sensor: self.clone(), generation, pointer: 0 }))
    }

    /// Conversions that were begun.
    pub fn conversions(&self) -> u64 {
        self.lock().chip.begun
    }

    /// Conversions that somebody tried to begin while another one was running: there should be none.
    pub fn begun_while_busy(&self) -> u64 {
        self.lock().chip.begun_while_busy
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub fn now(&self) -> ChipTime {
        ChipTime::now() + self.let_pass
    }

    /// Noise of about the real part's size (0.07 %RH, 0.005 degC, 3 Pa in weather mode): without it two equal rows
    /// of the trace would look like a frozen chip.
    fn weather(&mut self) -> Measurement {
        if let Some(weather) = self.faults.weather {
            return weather;
        }
        let weather = self.trace.at_time(self.timekeeper.now(), self.speed);
        let mut noise = |amplitude: f64| amplitude * (2.0 * self.noise.f64() - 1.0);
        Measurement {
            air_temperature: Celsius(weather.air_temperature.0 + noise(0.01)),
            relative_humidity: Percent(weather.relative_humidity.0 + noise(0.05)),
            station_pressure: Hectopascal(weather.station_pressure.0 + noise(0.02)),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        let now = self.now();
        for pair in bytes.chunks_exact(2) {
            let weather = self.weather();
            self.chip.write(pair[0], pair[1], now, || weather);
        }
    }
}

/// One open handle.
struct SimulatedBus {
    sensor: SimulatedSensor,
    generation: u64,
    /// The register that the next read starts at.
    pointer: u8,
}

impl Bus for SimulatedBus {
    fn name(&self) -> &str {
        NAME
    }

    fn delay(&self) -> Box<dyn DelayNs> {
        Box::new(Pause(self.sensor.clone()))
    }
}

impl ErrorType for SimulatedBus {
    type Error = BusError;
}

impl I2c for SimulatedBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let mut state = self.sensor.lock();
        if state.faults.unplugged || state.generation != self.generation {
            return Err(BusError::GONE);
        }
        let failure = state.faults.next_failure();
        if address != ADDRESS {
            return Err(BusError::NO_ANSWER);
        }
        if let Some(fault) = failure
            && !fault.reaches_the_chip()
        {
            return Err(fault.error());
        }
        let now = state.now();
        for operation in operations {
            match operation {
                // One byte sets the pointer; more are pairs of register and value (datasheet, section 6.2.1).
                Operation::Write([register]) => self.pointer = *register,
                Operation::Write(pairs) => state.write(pairs),
                Operation::Read(into) => {
                    for byte in into.iter_mut() {
                        let read = state.chip.read(self.pointer, now);
                        *byte = state.faults.stuck_lines.unwrap_or(read);
                        self.pointer = self.pointer.wrapping_add(1);
                    }
                }
            }
        }
        failure.map_or(Ok(()), |fault| Err(fault.error()))
    }
}

/// A blocking delay: it lets the chip's time pass and takes none.
struct Pause(SimulatedSensor);

impl DelayNs for Pause {
    fn delay_ns(&mut self, ns: u32) {
        self.0.lock().let_pass += Duration::from_nanos(ns.into());
    }
}
