//! The register map of the BME280 (datasheet BST-BME280-DS002 rev. 1.6, section 5.3) and what follows from it
//! alone: bit fields, power-on values, conversion times. Shared by the driver and by the simulated chip.

use std::time::Duration;

use crate::config::Oversampling;

/// Calibration words of temperature and pressure, 0x88 to 0xA1.
pub const CALIBRATION_T_P: u8 = 0x88;
pub const CALIBRATION_T_P_LENGTH: usize = 26;
pub const CHIP_ID: u8 = 0xD0;
/// Writing [`RESET_WORD`] here has the effect of a power cycle.
pub const RESET: u8 = 0xE0;
pub const RESET_WORD: u8 = 0xB6;
/// Calibration words of humidity, 0xE1 to 0xE7.
pub const CALIBRATION_H: u8 = 0xE1;
pub const CALIBRATION_H_LENGTH: usize = 7;
/// Takes effect only with the next write to [`CTRL_MEAS`] (section 5.4.3).
pub const CTRL_HUM: u8 = 0xF2;
pub const STATUS: u8 = 0xF3;
pub const CTRL_MEAS: u8 = 0xF4;
pub const CONFIG: u8 = 0xF5;
/// Pressure (3 bytes), temperature (3), humidity (2).
pub const DATA: u8 = 0xF7;

/// `CHIP_ID` of a BME280.
pub const BME280: u8 = 0x60;
/// `CHIP_ID` of a BMP280, which has no humidity sensor (samples: 0x56, 0x57).
pub const BMP280: u8 = 0x58;

/// Status: a conversion is running.
pub const MEASURING: u8 = 0b1000;
/// Status: the calibration is being copied out of the chip's memory.
pub const IM_UPDATE: u8 = 0b0001;
/// `CTRL_MEAS`, mode bits: one conversion, then back to sleep.
pub const FORCED: u8 = 0b01;
pub const MODE: u8 = 0b11;

/// What pressure and temperature hold after power-on, and when their channel is skipped.
pub const SKIPPED_20_BIT: u32 = 0x8_0000;
/// The same for humidity.
pub const SKIPPED_16_BIT: u32 = 0x8000;

/// From power-on or reset until the chip answers, at most (section 1.1, table 1).
pub const START_UP: Duration = Duration::from_millis(2);

/// The `osrs` code of 1, 2, 4, 8 or 16 (section 5.4.3, table 20).
pub fn code(oversampling: u8) -> u8 {
    oversampling.trailing_zeros() as u8 + 1
}

/// `CTRL_HUM` and `CTRL_MEAS` (asleep) for this oversampling.
pub fn control(oversampling: Oversampling) -> (u8, u8) {
    let control = code(oversampling.temperature) << 5 | code(oversampling.pressure) << 2;
    (code(oversampling.humidity), control)
}

/// The longest that a conversion takes: `1.25 + 2.3 T + (2.3 P + 0.575) + (2.3 H + 0.575)` ms (section 9.1).
pub fn longest_conversion(oversampling: Oversampling) -> Duration {
    let Oversampling { temperature, pressure, humidity } = oversampling;
    let samples = u64::from(temperature) + u64::from(pressure) + u64::from(humidity);
    Duration::from_micros(1_250 + 2 * 575 + 2_300 * samples)
}

/// One conversion as the chip gives it: 20, 20 and 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RawTriple {
    pub pressure: u32,
    pub temperature: u32,
    pub humidity: u32,
}

impl RawTriple {
    /// What the registers hold until the first conversion has ended.
    pub const POWER_ON: Self =
        Self { pressure: SKIPPED_20_BIT, temperature: SKIPPED_20_BIT, humidity: SKIPPED_16_BIT };

    /// From the eight bytes at [`DATA`].
    pub fn parse(data: [u8; 8]) -> Self {
        let twenty = |at: usize| {
            u32::from(data[at]) << 12 | u32::from(data[at + 1]) << 4 | u32::from(data[at + 2]) >> 4
        };
        Self {
            pressure: twenty(0),
            temperature: twenty(3),
            humidity: u32::from(data[6]) << 8 | u32::from(data[7]),
        }
    }

    /// The inverse of [`RawTriple::parse`].
    pub fn bytes(self) -> [u8; 8] {
        let twenty = |raw: u32| [(raw >> 12) as u8, (raw >> 4) as u8, (raw << 4) as u8];
        let [p0, p1, p2] = twenty(self.pressure);
        let [t0, t1, t2] = twenty(self.temperature);
        [p0, p1, p2, t0, t1, t2, (self.humidity >> 8) as u8, self.humidity as u8]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_conversion_follows_the_datasheet_for_every_oversampling() {
        let table = [(1, 9_300), (2, 16_200), (4, 30_000), (8, 57_600), (16, 112_800)];
        for (factor, microseconds) in table {
            let all = Oversampling { temperature: factor, pressure: factor, humidity: factor };
            assert_eq!(longest_conversion(all), Duration::from_micros(microseconds), "x{factor}");
        }
        // The default of the bme280 crate, which waits 40 ms.
        let crate_default = Oversampling { temperature: 2, pressure: 16, humidity: 1 };
        assert_eq!(longest_conversion(crate_default), Duration::from_micros(46_100));
    }

    #[test]
    fn a_raw_triple_survives_its_bytes() {
        let raw = RawTriple { pressure: 0x65_5AC, temperature: 0x7E_ED0, humidity: 0x7A31 };
        assert_eq!(RawTriple::parse(raw.bytes()), raw);
        let power_on = [0x80, 0, 0, 0x80, 0, 0, 0x80, 0];
        assert_eq!(RawTriple::parse(power_on), RawTriple::POWER_ON);
    }
}
