//! The sensor: a chip that answers, is a BME280 and gives a reading. The running station holds the bus: it is asked.

use super::{Finding, Station, configuration, text};
use crate::chain::chain;
use crate::config::{Config, SensorSource};
use crate::sensor::{self, SensorError, Source};
use crate::station;

const NAME: &str = "sensor";
const REMEDY: &str = "see the wiring in hardware/ and `i2cdetect -y 1`; the station records again by itself once the sensor answers";

pub async fn check(config: &Config, station: &Station) -> Finding {
    if let Station::Mute { why, remedy } = station {
        return Finding::warning(NAME, why, *remedy);
    }
    if let Some(document) = station.document() {
        let chip = text(document, "/sensor/chip").unwrap_or("a sensor");
        return match text(document, "/sensor/state") {
            Some("ok") => Finding::ok(NAME, format!("{chip}, read by the running station")),
            Some("starting") => {
                Finding::warning(NAME, "the running station has not read its sensor yet", Station::BEGINS)
            }
            state => {
                let reason =
                    text(document, "/sensor/reason").or(state).unwrap_or("it says nothing of its sensor");
                Finding::failed(NAME, format!("the running station: {reason}"), REMEDY)
            }
        };
    }
    let timekeeper = station::timekeeper();
    let source = match Source::new(config, &timekeeper) {
        Ok(source) => source,
        // Only where the trace has changed since the configuration was checked.
        Err(error) => return Finding::failed(NAME, chain(&error), configuration::REMEDY),
    };
    match sensor::read_once(source, &config.sensor, &timekeeper).await {
        Ok((sample, chip)) => {
            let measured = sample.measurement;
            let detail = format!(
                "{chip}: {:.2} degC, {:.2} %RH, {:.2} hPa",
                measured.air_temperature.0, measured.relative_humidity.0, measured.station_pressure.0
            );
            match config.sensor.source {
                SensorSource::Bme280 => Finding::ok(NAME, detail),
                SensorSource::Simulated => Finding::warning(
                    NAME,
                    detail,
                    "this is recorded weather: set `sensor.source = \"bme280\"` for real weather",
                ),
            }
        }
        // Another process holds the bus: a station, of this configuration or of another one.
        Err(error @ SensorError::Locked { .. }) => Finding::warning(NAME, chain(&error), Station::MUTE),
        Err(error) => Finding::failed(NAME, chain(&error), REMEDY),
    }
}
