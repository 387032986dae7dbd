//! Quantities that follow from the measured ones: pure functions, each with its source.

use crate::reading::{Celsius, Hectopascal, Percent};

/// Pressure reduced to mean sea level. `altitude` in metres.
/// Source: WMO-No. 8 (CIMO guide), part I, chapter 3: hypsometric equation with the standard lapse rate.
pub fn sea_level_pressure(station: Hectopascal, air: Celsius, altitude: f64) -> Hectopascal {
    let kelvin = air.0 + 273.15 + 0.0065 * altitude / 2.0;
    Hectopascal(station.0 * (9.806_65 * altitude / (287.05 * kelvin)).exp())
}

/// Dew point over water; none at 0 %RH. Source: Magnus formula with the WMO-No. 8 annex 4.B constants.
pub fn dew_point(air: Celsius, humidity: Percent) -> Option<Celsius> {
    if humidity.0 <= 0.0 {
        return None;
    }
    let gamma = (humidity.0 / 100.0).ln() + 17.62 * air.0 / (243.12 + air.0);
    Some(Celsius(243.12 * gamma / (17.62 - gamma)))
}
