//! What can be wrong with the simulated chip and its bus at run time. Set from outside, through
//! [`SimulatedSensor`]; the driver sees only what a real one would see.

use super::bus::SimulatedSensor;
use super::chip::Chip;
use crate::reading::Measurement;
use crate::sensor::BusError;
use crate::sensor::registers::{BME280, BMP280};

/// How a transfer fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BusFault {
    /// Nobody acknowledges; nothing reaches the chip.
    NoAnswer,
    /// The chip has done what it was told, and the acknowledgement was lost.
    InputOutput,
    /// Another master won; nothing reaches the chip.
    ArbitrationLost,
    /// The chip has done what it was told, then the clock line stayed low.
    TimedOut,
}

impl BusFault {
    pub(super) fn error(self) -> BusError {
        match self {
            Self::NoAnswer => BusError::NO_ANSWER,
            Self::InputOutput => BusError::INPUT_OUTPUT,
            Self::ArbitrationLost => BusError::ARBITRATION_LOST,
            Self::TimedOut => BusError::TIMED_OUT,
        }
    }

    pub(super) fn reaches_the_chip(self) -> bool {
        matches!(self, Self::InputOutput | Self::TimedOut)
    }
}

/// One of the three things that the chip measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Pressure,
    Temperature,
    Humidity,
}

/// The faults in force.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub bus: Option<Failing>,
    /// The device node and the adapter have gone.
    pub unplugged: bool,
    /// Every byte that is read.
    pub stuck_lines: Option<u8>,
    /// Instead of the trace.
    pub weather: Option<Measurement>,
}

/// A bus fault: after how many good transfers, and for how many.
#[derive(Debug)]
pub(super) struct Failing {
    fault: BusFault,
    after: u64,
    transfers: u64,
}

impl Faults {
    /// How the next transfer fails, if it does.
    pub(super) fn next_failure(&mut self) -> Option<BusFault> {
        let failing = self.bus.as_mut()?;
        if failing.after > 0 {
            failing.after -= 1;
            return None;
        }
        failing.transfers = failing.transfers.checked_sub(1)?;
        Some(failing.fault)
    }
}

/// # Faults
impl SimulatedSensor {
    /// The next `transfers` on the bus fail.
    pub fn fail(&self, fault: BusFault, transfers: u64) {
        self.fail_after(0, fault, transfers);
    }

    /// The same after so many that do not.
    pub fn fail_after(&self, after: u64, fault: BusFault, transfers: u64) {
        self.lock().faults.bus = Some(Failing { fault, after, transfers });
    }

    /// How many transfers are still to fail.
    pub fn faults_left(&self) -> u64 {
        self.lock().faults.bus.as_ref().map_or(0, |failing| failing.transfers)
    }

    /// The bus works again; every byte is its own again; the weather is the trace's.
    pub fn heal(&self) {
        let mut state = self.lock();
        let unplugged = state.faults.unplugged;
        state.faults = Faults { unplugged, ..Faults::default() };
    }

    /// The supply dips: all registers are back at their power-on values.
    pub fn brown_out(&self) {
        self.with_chip(|chip, now| chip.reset(now));
    }

    /// The adapter is pulled out: its device node goes, handles that are open turn useless for good.
    pub fn unplug(&self) {
        let mut state = self.lock();
        state.faults.unplugged = true;
        state.generation += 1;
    }

    /// The adapter is back, its chip freshly powered.
    pub fn plug_in(&self) {
        self.lock().faults.unplugged = false;
        self.brown_out();
    }

    /// Conversions no longer end, until the chip is reset.
    pub fn stick_busy(&self) {
        self.with_chip(|chip, _| chip.stuck_busy = true);
    }

    /// Conversions take `factor` times the datasheet's longest.
    pub fn slow_down(&self, factor: u32) {
        self.with_chip(|chip, _| chip.slowness = factor);
    }

    /// Somebody has soldered a BMP280 in.
    pub fn become_bmp280(&self) {
        self.with_chip(|chip, _| chip.id = BMP280);
    }

    /// And the BME280 back.
    pub fn become_bme280(&self) {
        self.with_chip(|chip, _| chip.id = BME280);
    }

    /// All calibration bytes read as `byte`; none: what the factory wrote.
    pub fn overwrite_calibration(&self, byte: Option<u8>) {
        self.with_chip(|chip, _| chip.overwritten_calibration = byte);
    }

    /// From now on every reading of the calibration has another bit wrong.
    pub fn flip_calibration_bits(&self) {
        self.with_chip(|chip, _| chip.flips_calibration_bits = true);
    }

    /// Every byte read from the bus is `byte`, whatever the chip says.
    pub fn stick_lines(&self, byte: u8) {
        self.lock().faults.stuck_lines = Some(byte);
    }

    /// This channel is dead: it holds its skipped value whatever is asked for.
    pub fn kill_channel(&self, channel: Option<Channel>) {
        self.with_chip(|chip, _| chip.dead_channel = channel);
    }

    /// The chip takes every write and begins no conversion.
    pub fn deafen(&self, deaf: bool) {
        self.with_chip(|chip, _| chip.deaf = deaf);
    }

    /// Conversions end with the counts of the last one.
    pub fn freeze(&self, frozen: bool) {
        self.with_chip(|chip, _| chip.frozen = frozen);
    }

    /// The sensor feels this instead of the trace, without noise; none: the trace again.
    pub fn feel(&self, weather: Option<Measurement>) {
        self.lock().faults.weather = weather;
    }

    fn with_chip(&self, change: impl FnOnce(&mut Chip, super::bus::ChipTime)) {
        let mut state = self.lock();
        let now = state.now();
        change(&mut state.chip, now);
    }
}
