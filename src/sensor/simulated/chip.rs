//! The chip itself: registers, modes and timing, as in the datasheet (BST-BME280-DS002, sections 3.3, 4.1, 5.3).
//! It knows no bus; it is told what time it is.

use super::bus::ChipTime;
use super::factory;
use super::faults::Channel;
use crate::config::Oversampling;
use crate::reading::Measurement;
use crate::sensor::compensation::Calibration;
use crate::sensor::registers::{self, RawTriple};

/// SDO is strapped low.
pub const ADDRESS: u8 = 0x76;

pub(super) struct Chip {
    pub id: u8,
    /// What was written to `CTRL_HUM`; `humidity_in_force` follows with the next write to `CTRL_MEAS`.
    humidity_written: u8,
    humidity_in_force: u8,
    control: u8,
    config: u8,
    /// The last finished conversion: a running one does not show.
    data: RawTriple,
    running: Option<Conversion>,
    /// The calibration is being copied until then.
    starting_until: ChipTime,
    calibration: Calibration,
    pub stuck_busy: bool,
    pub frozen: bool,
    pub deaf: bool,
    pub slowness: u32,
    pub dead_channel: Option<Channel>,
    pub overwritten_calibration: Option<u8>,
    pub flips_calibration_bits: bool,
    flips: u8,
    /// The status register was read, and no conversion has been begun since: what it said.
    said_idle: bool,
    /// For tests: conversions begun, and those begun on a chip that had not been seen idle since the one before.
    pub begun: u64,
    pub begun_while_busy: u64,
}

struct Conversion {
    ends: ChipTime,
    result: RawTriple,
}

impl Chip {
    pub fn powered_on(now: ChipTime) -> Self {
        Self {
            id: registers::BME280,
            humidity_written: 0,
            humidity_in_force: 0,
            control: 0,
            config: 0,
            data: RawTriple::POWER_ON,
            running: None,
            starting_until: now,
            calibration: Calibration::parse(&factory::T_P, &factory::H).expect("the factory's is sound"),
            stuck_busy: false,
            frozen: false,
            deaf: false,
            slowness: 1,
            dead_channel: None,
            overwritten_calibration: None,
            flips_calibration_bits: false,
            flips: 0,
            said_idle: false,
            begun: 0,
            begun_while_busy: 0,
        }
    }

    /// A power cycle, or 0xB6 in the reset register.
    pub fn reset(&mut self, now: ChipTime) {
        self.humidity_written = 0;
        self.humidity_in_force = 0;
        self.control = 0;
        self.config = 0;
        self.data = RawTriple::POWER_ON;
        self.running = None;
        self.stuck_busy = false;
        self.starting_until = now + registers::START_UP;
    }

    /// One register; `weather` is asked when a conversion begins.
    pub fn write(&mut self, register: u8, value: u8, now: ChipTime, weather: impl FnOnce() -> Measurement) {
        self.settle(now);
        match register {
            registers::RESET if value == registers::RESET_WORD => self.reset(now),
            registers::CTRL_HUM => self.humidity_written = value & 0b111,
            registers::CONFIG => self.config = value,
            registers::CTRL_MEAS => self.write_control(value, now, weather),
            _ => {}
        }
    }

    pub fn read(&mut self, register: u8, now: ChipTime) -> u8 {
        self.settle(now);
        self.flips = self.flips.wrapping_add(u8::from(self.flips_calibration_bits));
        let calibration = |factory: u8| match self.overwritten_calibration {
            _ if now < self.starting_until => 0,
            Some(byte) => byte,
            None => factory ^ self.flips,
        };
        match register {
            0x88..=0xA1 => calibration(factory::T_P[usize::from(register - 0x88)]),
            0xE1..=0xE7 => calibration(factory::H[usize::from(register - 0xE1)]),
            registers::CHIP_ID => self.id,
            registers::CTRL_HUM => self.humidity_written,
            registers::STATUS => {
                self.said_idle = !self.is_measuring();
                let measuring = if self.said_idle { 0 } else { registers::MEASURING };
                let starting = if now < self.starting_until { registers::IM_UPDATE } else { 0 };
                measuring | starting
            }
            registers::CTRL_MEAS => self.control,
            registers::CONFIG => self.config,
            0xF7..=0xFE => self.data.bytes()[usize::from(register - registers::DATA)],
            _ => 0,
        }
    }

    fn is_measuring(&self) -> bool {
        self.running.is_some() || self.stuck_busy
    }

    fn write_control(&mut self, value: u8, now: ChipTime, weather: impl FnOnce() -> Measurement) {
        let begins = matches!(value & registers::MODE, 0b01 | 0b10);
        if self.is_measuring() {
            // A real chip's answer to this is not documented. This one keeps going, and keeps count; nobody is to
            // blame for a chip that got stuck after it was seen idle.
            self.begun_while_busy += u64::from(begins && !self.said_idle);
            return;
        }
        self.humidity_in_force = self.humidity_written;
        self.control = value;
        if begins && self.deaf {
            self.control &= !registers::MODE;
        } else if begins {
            (self.begun, self.said_idle) = (self.begun + 1, false);
            let result = self.convert(weather());
            self.running = Some(Conversion { ends: now + self.longest() * self.slowness, result });
        }
    }

    fn settle(&mut self, now: ChipTime) {
        if self.stuck_busy || self.running.as_ref().is_none_or(|running| running.ends > now) {
            return;
        }
        if let Some(Conversion { result, .. }) = self.running.take() {
            self.data = result;
            self.control &= !registers::MODE;
        }
    }

    fn convert(&self, weather: Measurement) -> RawTriple {
        if self.frozen && self.data != RawTriple::POWER_ON {
            return self.data;
        }
        let mut raw = factory::counts(&self.calibration, weather, self.oversampling());
        let dead = |channel| self.dead_channel == Some(channel);
        if self.control >> 2 & 0b111 == 0 || dead(Channel::Pressure) {
            raw.pressure = registers::SKIPPED_20_BIT;
        }
        if self.control >> 5 == 0 || dead(Channel::Temperature) {
            raw.temperature = registers::SKIPPED_20_BIT;
        }
        if self.humidity_in_force == 0 || dead(Channel::Humidity) {
            raw.humidity = registers::SKIPPED_16_BIT;
        }
        raw
    }

    /// 0 where a channel is skipped; 5 and above mean 16.
    fn oversampling(&self) -> Oversampling {
        let factor = |code: u8| if code == 0 { 0 } else { 1 << (code.min(5) - 1) };
        Oversampling {
            temperature: factor(self.control >> 5),
            pressure: factor(self.control >> 2 & 0b111),
            humidity: factor(self.humidity_in_force),
        }
    }

    /// This chip is a slow one: it always takes the longest time that the datasheet allows. A skipped
    /// channel takes none, not even its 0.575 ms.
    fn longest(&self) -> std::time::Duration {
        let Oversampling { temperature, pressure, humidity } = self.oversampling();
        let set_up = 575 * (u64::from(pressure > 0) + u64::from(humidity > 0));
        let samples = u64::from(temperature) + u64::from(pressure) + u64::from(humidity);
        std::time::Duration::from_micros(1_250 + set_up + 2_300 * samples)
    }
}
