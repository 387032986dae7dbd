//! The calibration that this chip left the factory with, and the way back from weather to raw counts: the sensing
//! elements. Uses the driver's formulas, which tests hold against the datasheet's on their own.

use crate::config::Oversampling;
use crate::reading::Measurement;
use crate::sensor::compensation::Calibration;
use crate::sensor::registers::{CALIBRATION_H_LENGTH, CALIBRATION_T_P_LENGTH, RawTriple};

/// Words T1..T3 and P1..P9 of Bosch's worked example (BMP280 datasheet BST-BMP280-DS001, section 3.12), which
/// the BME280 shares; then a reserved byte and H1.
pub(super) const T_P: [u8; CALIBRATION_T_P_LENGTH] = {
    let words: [u16; 12] = [
        27504,
        26435,
        -1000_i16 as u16,
        36477,
        -10685_i16 as u16,
        3024,
        2855,
        140,
        -7_i16 as u16,
        15500,
        -14600_i16 as u16,
        6000,
    ];
    let mut bytes = [0; CALIBRATION_T_P_LENGTH];
    let mut word = 0;
    while word < words.len() {
        [bytes[2 * word], bytes[2 * word + 1]] = words[word].to_le_bytes();
        word += 1;
    }
    bytes[25] = 75;
    bytes
};

/// H2 = 362, H3 = 0, H4 = 313, H5 = 50, H6 = 30: of the size that real parts have.
pub(super) const H: [u8; CALIBRATION_H_LENGTH] = [0x6A, 0x01, 0x00, 0x13, 0x29, 0x03, 0x1E];

/// The raw counts from which the formulas give this weather, in the resolution that the oversampling has
/// without a filter: 16 bits at 1 to 20 bits at 16 (datasheet, sections 3.4.1 to 3.4.3).
pub(super) fn counts(
    calibration: &Calibration,
    weather: Measurement,
    oversampling: Oversampling,
) -> RawTriple {
    let temperature =
        search(1 << 20, weather.air_temperature.0 * 5120.0, |raw| calibration.fine_temperature(raw));
    let temperature = resolved(temperature, oversampling.temperature);
    let fine = calibration.fine_temperature(temperature);
    // Pressure falls as its counts rise.
    let pressure = search(1 << 20, -100.0 * weather.station_pressure.0, |raw| -calibration.pascal(raw, fine));
    let humidity = search(1 << 16, weather.relative_humidity.0, |raw| calibration.percent(raw, fine));
    RawTriple { temperature, pressure: resolved(pressure, oversampling.pressure), humidity }
}

/// The smallest of `range` counts for which a rising `formula` reaches `value`.
fn search(range: u32, value: f64, formula: impl Fn(u32) -> f64) -> u32 {
    let (mut below, mut above) = (0, range - 1);
    while below < above {
        let middle = (below + above) / 2;
        if formula(middle) < value { below = middle + 1 } else { above = middle }
    }
    below
}

fn resolved(raw: u32, oversampling: u8) -> u32 {
    let step = 16 >> oversampling.trailing_zeros().min(4);
    ((raw + step / 2) / step * step).min((1 << 20) - step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::{Celsius, Hectopascal, Percent};

    #[test]
    fn what_the_driver_computes_from_the_counts_is_the_weather_over_the_whole_range() {
        let calibration = Calibration::parse(&T_P, &H).unwrap();
        for oversampling in [1, 2, 4, 8, 16] {
            let oversampling =
                Oversampling { temperature: oversampling, pressure: oversampling, humidity: oversampling };
            for t in (-39..=84).step_by(3) {
                for h in (1..100).step_by(7) {
                    for p in (301..1100).step_by(47) {
                        let weather = Measurement {
                            air_temperature: Celsius(t.into()),
                            relative_humidity: Percent(h.into()),
                            station_pressure: Hectopascal(p.into()),
                        };
                        let raw = counts(&calibration, weather, oversampling);
                        let back = calibration.compensate(raw).unwrap();
                        assert!(
                            (back.air_temperature.0 - f64::from(t)).abs() < 0.006,
                            "{weather:?} {back:?}"
                        );
                        assert!(
                            (back.relative_humidity.0 - f64::from(h)).abs() < 0.03,
                            "{weather:?} {back:?}"
                        );
                        assert!(
                            (back.station_pressure.0 - f64::from(p)).abs() < 0.03,
                            "{weather:?} {back:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn bosch_s_worked_example_comes_out() {
        let calibration = Calibration::parse(&T_P, &H).unwrap();
        let fine = calibration.fine_temperature(519_888);
        assert!((fine / 5120.0 - 25.08).abs() < 0.005);
        assert!((calibration.pascal(415_148, fine) - 100_653.27).abs() < 0.1);
    }
}
