//! From raw counts to weather: the datasheet's formulas (BST-BME280-DS002 rev. 1.6, sections 4.2.3 and 8.1), in
//! double precision and without its clamping. Pure.
//!
//! The `bme280` crate has such formulas too, but they are private, clamp to the sensor's range (a broken sensor
//! then reports a plausible extreme), and its humidity has one factor more than the datasheet's, which shows
//! as soon as the calibration word H3 is not zero. So they are written here, and held against an independent
//! implementation of the datasheet's integer formulas in `tests/sensor.rs`.

use super::error::SensorError;
use super::registers::{CALIBRATION_H_LENGTH, CALIBRATION_T_P_LENGTH, RawTriple};
use crate::reading::{Celsius, Hectopascal, Measurement, Percent};

/// The datasheet's formula ends humidity at 0 and 100 %RH. In fog a good chip computes a little more than 100;
/// within its accuracy of 3 %RH (section 1.2, table 2) that *is* saturated air, and beyond it is an error.
pub const HUMIDITY_ACCURACY: f64 = 3.0;

/// The calibration words, named as in the datasheet (table 16), as numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Calibration {
    t: [f64; 3],
    p: [f64; 9],
    h: [f64; 6],
}

impl Calibration {
    /// From the bytes at 0x88 and 0xE1. The text of an error completes "the calibration ...".
    pub fn parse(
        t_p: &[u8; CALIBRATION_T_P_LENGTH],
        h: &[u8; CALIBRATION_H_LENGTH],
    ) -> Result<Self, &'static str> {
        for (nothing, what) in [(0x00, "reads as nothing but 0x00"), (0xFF, "reads as nothing but 0xFF")] {
            if t_p.iter().all(|byte| *byte == nothing) || h.iter().all(|byte| *byte == nothing) {
                return Err(what);
            }
        }
        let unsigned = |at: usize| u16::from_le_bytes([t_p[at], t_p[at + 1]]);
        let signed = |at: usize| f64::from(unsigned(at) as i16);
        if unsigned(0) == 0 || unsigned(6) == 0 {
            return Err("has a zero where it divides");
        }
        let h4 = i16::from(h[3] as i8) << 4 | i16::from(h[4] & 0x0F);
        let h5 = i16::from(h[5] as i8) << 4 | i16::from(h[4] >> 4);
        Ok(Self {
            t: [f64::from(unsigned(0)), signed(2), signed(4)],
            p: [
                f64::from(unsigned(6)),
                signed(8),
                signed(10),
                signed(12),
                signed(14),
                signed(16),
                signed(18),
                signed(20),
                signed(22),
            ],
            h: [
                f64::from(t_p[25]),
                f64::from(i16::from_le_bytes([h[0], h[1]])),
                f64::from(h[2]),
                f64::from(h4),
                f64::from(h5),
                f64::from(h[6] as i8),
            ],
        })
    }

    /// All three quantities, each within the sensor's range (section 1.1: -40 to 85 degC, 300 to 1100 hPa,
    /// 0 to 100 %RH) or an error.
    pub fn compensate(&self, raw: RawTriple) -> Result<Measurement, SensorError> {
        let fine = self.fine_temperature(raw.temperature);
        let temperature = within("a temperature", fine / 5120.0, "degC", -40.0, 85.0)?;
        let pressure = self.pascal(raw.pressure, fine) / 100.0;
        let pressure = within("a pressure", pressure, "hPa", 300.0, 1100.0)?;
        let humidity = self.percent(raw.humidity, fine);
        let at_an_end = (-HUMIDITY_ACCURACY..=100.0 + HUMIDITY_ACCURACY).contains(&humidity);
        let humidity = if at_an_end { humidity.clamp(0.0, 100.0) } else { humidity };
        let humidity = within("a humidity", humidity, "%RH", 0.0, 100.0)?;
        Ok(Measurement {
            air_temperature: Celsius(temperature),
            relative_humidity: Percent(humidity),
            station_pressure: Hectopascal(pressure),
        })
    }

    /// `t_fine`: temperature in 1/5120 degC, which the other two formulas need.
    pub(super) fn fine_temperature(&self, raw: u32) -> f64 {
        let [t1, t2, t3] = self.t;
        let raw = f64::from(raw);
        let linear = (raw / 16_384.0 - t1 / 1024.0) * t2;
        let square = (raw / 131_072.0 - t1 / 8192.0).powi(2) * t3;
        linear + square
    }

    /// Pascal; not finite where the calibration makes no sense.
    pub(super) fn pascal(&self, raw: u32, fine: f64) -> f64 {
        let [p1, p2, p3, p4, p5, p6, p7, p8, p9] = self.p;
        let x = fine / 2.0 - 64_000.0;
        let offset = (x * x * p6 / 32_768.0 + x * p5 * 2.0) / 4.0 + p4 * 65_536.0;
        let slope = (p3 * x * x / 524_288.0 + p2 * x) / 524_288.0;
        let slope = (1.0 + slope / 32_768.0) * p1;
        let linear = (1_048_576.0 - f64::from(raw) - offset / 4096.0) * 6250.0 / slope;
        linear + (p9 * linear * linear / 2_147_483_648.0 + linear * p8 / 32_768.0 + p7) / 16.0
    }

    /// Percent relative humidity, not limited.
    pub(super) fn percent(&self, raw: u32, fine: f64) -> f64 {
        let [h1, h2, h3, h4, h5, h6] = self.h;
        let x = fine - 76_800.0;
        let counts = f64::from(raw) - (h4 * 64.0 + h5 / 16_384.0 * x);
        let gain = h2 / 65_536.0 * (1.0 + h6 / 67_108_864.0 * x * (1.0 + h3 / 67_108_864.0 * x));
        let linear = counts * gain;
        linear * (1.0 - h1 * linear / 524_288.0)
    }
}

fn within(
    quantity: &'static str,
    value: f64,
    unit: &'static str,
    lowest: f64,
    highest: f64,
) -> Result<f64, SensorError> {
    // Written so that a value that is not a number is outside as well.
    if value >= lowest && value <= highest {
        Ok(value)
    } else {
        Err(SensorError::OutOfRange { quantity, value, unit, lowest, highest })
    }
}
