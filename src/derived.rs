//! Quantities that follow from the measured ones: pure functions, each with its source.

use crate::reading::{Celsius, Hectopascal, Percent};

/// Pressure reduced to mean sea level. `altitude` of the barometer in metres.
///
/// Source: WMO-No. 8 (CIMO guide), volume I, chapter 3, "Adjustment of barometer readings to other levels", also in
/// DWD VuB 2 BUFR, page 28: the hypsometric equation over a column whose mean temperature
/// is the station's, with the standard lapse rate of 6.5 K/km and 0.12 K for each hectopascal of vapour pressure.
/// It is meant for stations below 750 m; above, every reduction is a convention.
pub fn sea_level_pressure(
    station: Hectopascal,
    air: Celsius,
    humidity: Percent,
    altitude: f64,
) -> Hectopascal {
    const GRAVITY: f64 = 9.806_65;
    const DRY_AIR: f64 = 287.05;
    let vapour = humidity.0 / 100.0 * saturation_vapour_pressure(air).0;
    let mean_kelvin = air.0 + 273.15 + 0.0065 * altitude / 2.0 + 0.12 * vapour;
    Hectopascal(station.0 * (GRAVITY * altitude / (DRY_AIR * mean_kelvin)).exp())
}

/// Dew point over water; none at 0 %RH.
///
/// Source: the inverse of [`saturation_vapour_pressure`].
pub fn dew_point(air: Celsius, humidity: Percent) -> Option<Celsius> {
    if humidity.0 <= 0.0 {
        return None;
    }
    let exponent = (humidity.0 / 100.0).ln() + 17.62 * air.0 / (243.12 + air.0);
    Some(Celsius(243.12 * exponent / (17.62 - exponent)))
}

/// Over water, also below freezing, as WMO defines relative humidity.
///
/// Source: WMO-No. 8 (CIMO guide), volume I, annex 4.B: `6.112 exp(17.62 t / (243.12 + t))` hPa, -45 to 60 degC.
pub fn saturation_vapour_pressure(air: Celsius) -> Hectopascal {
    Hectopascal(6.112 * (17.62 * air.0 / (243.12 + air.0)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ICAO Doc 7488/3, table of the standard atmosphere: geopotential altitude (m), temperature (degC),
    /// pressure (hPa). The air in it is dry, and at sea level it stands at 1013.25 hPa.
    const STANDARD_ATMOSPHERE: [(f64, f64, f64); 6] = [
        (-500.0, 18.25, 1074.77),
        (0.0, 15.0, 1013.25),
        (500.0, 11.75, 954.61),
        (1000.0, 8.5, 898.75),
        (2000.0, 2.0, 794.95),
        (3000.0, -4.5, 701.09),
    ];

    #[test]
    fn the_standard_atmosphere_has_one_pressure_at_sea_level() {
        for (altitude, air, pressure) in STANDARD_ATMOSPHERE {
            let reduced = sea_level_pressure(Hectopascal(pressure), Celsius(air), Percent(0.0), altitude);
            // The equation takes the mean temperature for the harmonic one: 0.15 hPa at 3,000 m.
            let tolerance = 0.02 + altitude.abs() / 20_000.0;
            assert!((reduced.0 - 1013.25).abs() < tolerance, "from {altitude} m: {reduced:?}");
        }
    }

    #[test]
    fn moist_air_is_lighter_so_it_adds_less() {
        let reduce =
            |humidity| sea_level_pressure(Hectopascal(960.0), Celsius(25.0), Percent(humidity), 500.0).0;
        // 31.7 hPa of vapour at 25 degC warm the column by 3.8 K in 300: 1.3 % of 56 hPa.
        assert!((reduce(0.0) - reduce(100.0) - 0.71).abs() < 0.02, "{} {}", reduce(0.0), reduce(100.0));
    }

    /// DIN 4108-3, table of dew points in its annex: air (degC), humidity (%RH), dew point (degC).
    const DEW_POINTS: [(f64, f64, f64); 14] = [
        (30.0, 30.0, 10.5),
        (30.0, 50.0, 18.4),
        (30.0, 80.0, 26.2),
        (25.0, 50.0, 13.9),
        (25.0, 60.0, 16.7),
        (22.0, 50.0, 11.1),
        (20.0, 30.0, 1.9),
        (20.0, 40.0, 6.0),
        (20.0, 50.0, 9.3),
        (20.0, 60.0, 12.0),
        (20.0, 80.0, 16.4),
        (20.0, 95.0, 19.2),
        (10.0, 50.0, 0.1),
        (10.0, 90.0, 8.4),
    ];

    #[test]
    fn dew_points_are_the_published_ones() {
        for (air, humidity, expected) in DEW_POINTS {
            let dew_point = dew_point(Celsius(air), Percent(humidity)).unwrap();
            assert!((dew_point.0 - expected).abs() <= 0.11, "{air} degC, {humidity} %RH: {dew_point:?}");
        }
    }

    #[test]
    fn saturated_air_is_at_its_dew_point_and_dry_air_has_none() {
        for air in [-40.0, -10.0, 0.0, 25.0, 60.0] {
            let dew_point = dew_point(Celsius(air), Percent(100.0)).unwrap();
            assert!((dew_point.0 - air).abs() < 1e-9);
        }
        assert_eq!(dew_point(Celsius(20.0), Percent(0.0)), None);
    }

    /// WMO-No. 8 (CIMO guide), volume I, annex 4.B is held against the Goff-Gratch values of the Smithsonian
    /// Meteorological Tables (1951), table 94: air (degC), saturation over water (hPa).
    #[test]
    fn saturation_vapour_pressure_is_the_tabulated_one() {
        let table =
            [(-20.0, 1.254), (-10.0, 2.863), (0.0, 6.108), (10.0, 12.27), (20.0, 23.37), (30.0, 42.43)];
        for (air, expected) in table {
            let pressure = saturation_vapour_pressure(Celsius(air)).0;
            assert!((pressure / expected - 1.0).abs() < 0.005, "{air} degC: {pressure}");
        }
    }
}
