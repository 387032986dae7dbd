//! The driver's formulas against an independent implementation of the datasheet's integer formulas (BST-BME280-DS002
//! rev. 1.6, section 4.2.3: 32-bit temperature and humidity, 64-bit pressure), written from the datasheet with its
//! names, and against the `bme280` crate where the two should agree.

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use proptest::prelude::*;
use weather_station::sensor::registers::RawTriple;
use weather_station::sensor::{Calibration, HUMIDITY_ACCURACY, SensorError};

/// The calibration words, as in table 16.
#[derive(Debug, Clone, Copy)]
#[allow(non_snake_case, reason = "the datasheet's names")]
struct Words {
    T1: u16,
    T: [i16; 2],
    P1: u16,
    P: [i16; 8],
    H1: u8,
    H2: i16,
    H3: u8,
    H4: i16,
    H5: i16,
    H6: i8,
}

/// Bosch's worked example for temperature and pressure; humidity as real parts have it.
const EXAMPLE: Words = Words {
    T1: 27504,
    T: [26435, -1000],
    P1: 36477,
    P: [-10685, 3024, 2855, 140, -7, 15500, -14600, 6000],
    H1: 75,
    H2: 362,
    H3: 0,
    H4: 313,
    H5: 50,
    H6: 30,
};

impl Words {
    fn bytes(&self) -> ([u8; 26], [u8; 7]) {
        let mut t_p = Vec::new();
        t_p.extend(self.T1.to_le_bytes());
        t_p.extend(self.T.iter().flat_map(|word| word.to_le_bytes()));
        t_p.extend(self.P1.to_le_bytes());
        t_p.extend(self.P.iter().flat_map(|word| word.to_le_bytes()));
        t_p.extend([0, self.H1]);
        let [h2_low, h2_high] = self.H2.to_le_bytes();
        let nibbles = (self.H4 & 0xF) as u8 | ((self.H5 & 0xF) << 4) as u8;
        let h =
            [h2_low, h2_high, self.H3, (self.H4 >> 4) as u8, nibbles, (self.H5 >> 4) as u8, self.H6 as u8];
        (t_p.try_into().unwrap(), h)
    }

    fn calibration(&self) -> Calibration {
        let (t_p, h) = self.bytes();
        Calibration::parse(&t_p, &h).unwrap()
    }

    /// `BME280_compensate_T_int32`: t_fine, and hundredths of a degree Celsius; in 64 bits, so that nothing
    /// overflows where no weather is.
    fn temperature(&self, adc: i32) -> (i32, i32) {
        let (adc, t1) = (i64::from(adc), i64::from(self.T1));
        let [t2, t3] = self.T.map(i64::from);
        let var1 = (((adc >> 3) - (t1 << 1)) * t2) >> 11;
        let var2 = (((((adc >> 4) - t1) * ((adc >> 4) - t1)) >> 12) * t3) >> 14;
        let fine = var1 + var2;
        (fine as i32, ((fine * 5 + 128) >> 8) as i32)
    }

    /// `BME280_compensate_P_int64`: 1/256 Pa.
    fn pressure(&self, adc: i32, fine: i32) -> i64 {
        let [p2, p3, p4, p5, p6, p7, p8, p9] = self.P.map(i64::from);
        let mut var1 = i64::from(fine) - 128_000;
        let mut var2 = var1 * var1 * p6;
        var2 += (var1 * p5) << 17;
        var2 += p4 << 35;
        var1 = ((var1 * var1 * p3) >> 8) + ((var1 * p2) << 12);
        var1 = (((1_i64 << 47) + var1) * i64::from(self.P1)) >> 33;
        if var1 == 0 {
            return 0;
        }
        let mut p = 1_048_576 - i64::from(adc);
        p = (((p << 31) - var2) * 3125) / var1;
        var1 = (p9 * (p >> 13) * (p >> 13)) >> 25;
        var2 = (p8 * p) >> 19;
        ((p + var1 + var2) >> 8) + (p7 << 4)
    }

    /// `BME280_compensate_H_int32`: 1/1024 %RH, limited to 0 to 100 as there; in 64 bits, so that nothing overflows.
    fn humidity(&self, adc: i32, fine: i32) -> i64 {
        let (h2, h3, h6) = (i64::from(self.H2), i64::from(self.H3), i64::from(self.H6));
        let (h4, h5) = (i64::from(self.H4), i64::from(self.H5));
        let x = i64::from(fine) - 76_800;
        let counts = ((i64::from(adc) << 14) - (h4 << 20) - h5 * x + 16_384) >> 15;
        let gain = ((((x * h6) >> 10) * (((x * h3) >> 11) + 32_768)) >> 10) + 2_097_152;
        let mut humidity = counts * ((gain * h2 + 8192) >> 14);
        humidity -= ((((humidity >> 15) * (humidity >> 15)) >> 7) * i64::from(self.H1)) >> 4;
        humidity.clamp(0, 419_430_400) >> 12
    }
}

prop_compose! {
    /// Calibrations around the example, as wide as parts differ and wider; H3 is 0 on most parts.
    fn words()(
        t1 in 26_000_u16..29_500, t2 in 25_000_i16..28_000, t3 in -1200_i16..200,
        p1 in 34_000_u16..40_000, p2 in -11_200_i16..-10_000, p3 in 2_900_i16..3_200,
        p4 in -2_000_i16..12_000, p5 in -250_i16..250, p6 in -10_i16..0,
        p7 in 9_000_i16..16_000, p8 in -15_000_i16..-9_000, p9 in 4_000_i16..6_500,
        h1 in 0_u8..=100, h2 in 300_i16..420, h3 in prop_oneof![Just(0_u8), 0_u8..=40],
        h4 in 250_i16..400, h5 in -60_i16..60, h6 in 20_i8..40,
    ) -> Words {
        Words { T1: t1, T: [t2, t3], P1: p1, P: [p2, p3, p4, p5, p6, p7, p8, p9], H1: h1, H2: h2, H3: h3, H4: h4, H5: h5, H6: h6 }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(20_000) })]

    /// Over the whole range of all three converters: in range both say the same to the datasheet's resolution,
    /// out of range the driver says so.
    #[test]
    fn the_driver_agrees_with_the_datasheet_s_integer_formulas(
        words in words(), temperature in 0_u32..1 << 20, pressure in 0_u32..1 << 20, humidity in 0_u32..1 << 16,
    ) {
        check(words, RawTriple { pressure, temperature, humidity })?;
    }

    /// The same where weather is.
    #[test]
    fn the_driver_agrees_with_them_where_weather_is(
        words in words(), temperature in 330_000_u32..680_000, pressure in 150_000_u32..600_000, humidity in 18_000_u32..46_000,
    ) {
        check(words, RawTriple { pressure, temperature, humidity })?;
    }
}

fn check(words: Words, raw: RawTriple) -> Result<(), TestCaseError> {
    let (fine, hundredths) = words.temperature(raw.temperature as i32);
    let temperature = f64::from(hundredths) / 100.0;
    let at = |fine| {
        let pressure = words.pressure(raw.pressure as i32, fine) as f64 / 25_600.0;
        (pressure, words.humidity(raw.humidity as i32, fine) as f64 / 1024.0)
    };
    let (pressure, humidity) = at(fine);
    match words.calibration().compensate(raw) {
        Ok(measured) => {
            // Resolutions: 0.01 degC, 0.18 Pa, 0.008 %RH (tables 1 to 3). The integer temperature drops bits that
            // the other two would need to be compared so finely, so they get the same temperature here; and the
            // integer humidity drops a quarter of its own resolution.
            let measured_temperature = measured.air_temperature.0;
            let (pressure, humidity) = at((measured_temperature * 5120.0).round() as i32);
            prop_assert!((measured_temperature - temperature).abs() <= 0.01, "{measured:?} {temperature}");
            prop_assert!((measured.station_pressure.0 - pressure).abs() <= 0.0018, "{measured:?} {pressure}");
            prop_assert!((measured.relative_humidity.0 - humidity).abs() <= 0.01, "{measured:?} {humidity}");
        }
        Err(SensorError::OutOfRange { quantity: "a temperature", value, .. }) => {
            prop_assert!(!(-39.99..=84.99).contains(&temperature), "{value} {temperature}");
        }
        Err(SensorError::OutOfRange { quantity: "a pressure", value, .. }) => {
            prop_assert!(!(300.01..=1099.99).contains(&pressure), "{value} {pressure}");
        }
        Err(SensorError::OutOfRange { quantity: "a humidity", value, .. }) => {
            // The datasheet's formula ends at 0 and 100.
            prop_assert!(humidity == 0.0 || humidity == 100.0, "{value} {humidity}");
            prop_assert!(!(-HUMIDITY_ACCURACY..=100.0 + HUMIDITY_ACCURACY).contains(&value), "{value}");
        }
        Err(other) => prop_assert!(false, "{other}"),
    }
    Ok(())
}

#[test]
fn a_value_outside_the_sensor_s_range_is_an_error_with_a_name_and_never_clamped() {
    let message = |raw| EXAMPLE.calibration().compensate(raw).unwrap_err().to_string();
    let fair = RawTriple { temperature: 519_888, pressure: 415_148, humidity: 30_000 };
    assert!(EXAMPLE.calibration().compensate(fair).is_ok());
    assert_eq!(
        message(RawTriple { temperature: 312_000, ..fair }),
        "a temperature of -40.54 degC is outside the sensor's -40 to 85 degC"
    );
    assert_eq!(
        message(RawTriple { temperature: 715_000, ..fair }),
        "a temperature of 85.78 degC is outside the sensor's -40 to 85 degC"
    );
    assert!(
        message(RawTriple { pressure: 1 << 19 | 1 << 18 | 1 << 17, ..fair })
            .contains("hPa is outside the sensor's 300 to 1100 hPa")
    );
    assert!(
        message(RawTriple { pressure: 200_000, ..fair })
            .contains("hPa is outside the sensor's 300 to 1100 hPa")
    );
    assert!(
        message(RawTriple { humidity: 0xFFFF, ..fair }).contains("%RH is outside the sensor's 0 to 100 %RH")
    );
    assert!(message(RawTriple { humidity: 0, ..fair }).contains("%RH is outside the sensor's 0 to 100 %RH"));
}

#[test]
fn a_little_over_a_hundred_percent_is_saturated_air_as_in_the_datasheet_s_formula() {
    let calibration = EXAMPLE.calibration();
    let humidity = |counts| {
        let raw = RawTriple { temperature: 519_888, pressure: 415_148, humidity: counts };
        calibration.compensate(raw).map(|measured| measured.relative_humidity.0)
    };
    let last_below =
        (0..=0xFFFF).rev().find(|counts| humidity(*counts).is_ok_and(|value| value < 100.0)).unwrap();
    assert_eq!(humidity(last_below + 1).unwrap(), 100.0);
    // 3 %RH more are 400 counts; 500 more are beyond the accuracy.
    assert_eq!(humidity(last_below + 300).unwrap(), 100.0);
    assert!(humidity(last_below + 600).is_err());
}

/// A register file for the crate: its formulas cannot be called otherwise.
struct Image([u8; 256]);

impl ErrorType for Image {
    type Error = std::convert::Infallible;
}

impl I2c for Image {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Self::Error> {
        if let [Operation::Write([register]), Operation::Read(into)] = operations {
            let from = usize::from(*register);
            into.copy_from_slice(&self.0[from..from + into.len()]);
        }
        Ok(())
    }
}

struct NoDelay;

impl embedded_hal::delay::DelayNs for NoDelay {
    fn delay_ns(&mut self, _: u32) {}
}

fn by_the_crate(words: &Words, raw: RawTriple) -> (f64, f64, f64) {
    let mut image = Image([0; 256]);
    let (t_p, h) = words.bytes();
    image.0[0x88..0xA2].copy_from_slice(&t_p);
    image.0[0xE1..0xE8].copy_from_slice(&h);
    image.0[0xD0] = 0x60;
    image.0[0xF7..0xFF].copy_from_slice(&raw.bytes());
    let mut chip = bme280::i2c::BME280::new_primary(image);
    chip.init(&mut NoDelay).unwrap();
    let measured = chip.measure(&mut NoDelay).unwrap();
    (measured.temperature.into(), f64::from(measured.pressure) / 100.0, measured.humidity.into())
}

/// Why the crate's formulas are not used: where H3 is not zero its humidity has a factor too many.
#[test]
fn the_crate_agrees_where_h3_is_zero_and_not_otherwise() {
    let raw = RawTriple { temperature: 600_000, pressure: 415_148, humidity: 30_000 };
    let both = |words: Words| {
        let (fine, _) = words.temperature(raw.temperature as i32);
        let datasheet = words.humidity(raw.humidity as i32, fine) as f64 / 1024.0;
        let ours = words.calibration().compensate(raw).unwrap();
        (ours, datasheet, by_the_crate(&words, raw))
    };
    let (ours, datasheet, (temperature, pressure, humidity)) = both(EXAMPLE);
    assert!((ours.air_temperature.0 - temperature).abs() < 0.01);
    assert!((ours.station_pressure.0 - pressure).abs() < 0.01);
    assert!((ours.relative_humidity.0 - humidity).abs() < 0.02);
    assert!((datasheet - humidity).abs() < 0.02);

    let (ours, datasheet, (_, _, humidity)) = both(Words { H3: 40, ..EXAMPLE });
    assert!((ours.relative_humidity.0 - datasheet).abs() < 0.02);
    assert!((humidity - datasheet).abs() > 2.0, "the crate says {humidity}, the datasheet {datasheet}");
}
