//! A reading as it is published: the JSON of telemetry, of `read --json`, of the page and of the export.
//! Names and units are the predecessor's: degrees Celsius, percent, kilopascal. Knows no transport.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Serialize, Serializer};

use crate::derived;
use crate::reading::{Reading, Sample};

/// One published reading. Numbers are rounded to what the chip resolves: 0.01 degC, 0.01 %RH, 0.001 kPa.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Observation<'a> {
    pub device_id: &'a str,
    /// RFC 3339, UTC, milliseconds: the moment of sampling.
    pub time: String,
    pub current_temperature: f64,
    pub current_humidity: f64,
    /// Kilopascal.
    pub current_pressure: f64,
    /// Kilopascal; only with an altitude.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sea_level_pressure: Option<f64>,
    /// Degrees Celsius; absent at 0 %RH, where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dew_point: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_quality: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quality: Option<&'static str>,
    /// Absent where the store has not numbered it: in what `read` and `readNow` answer, which do not wait for the
    /// disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
}

impl<'a> Observation<'a> {
    /// A stored reading. `altitude` in metres.
    pub fn of(reading: &'a Reading, device_id: &'a str, altitude: Option<f64>) -> Self {
        let observation = Self::of_sample(&reading.sample, device_id, altitude);
        Self { store_id: Some(&reading.store_id), sequence: Some(reading.sequence), ..observation }
    }

    /// A sample that no store has numbered.
    pub fn of_sample(sample: &Sample, device_id: &'a str, altitude: Option<f64>) -> Self {
        let measured = sample.measurement;
        let sea_level = altitude.map(|altitude| {
            derived::sea_level_pressure(
                measured.station_pressure,
                measured.air_temperature,
                measured.relative_humidity,
                altitude,
            )
        });
        Self {
            device_id,
            time: rfc3339(sample.stamp.time),
            current_temperature: round(measured.air_temperature.0, 100.0),
            current_humidity: round(measured.relative_humidity.0, 100.0),
            current_pressure: round(measured.station_pressure.kilopascal(), 1000.0),
            sea_level_pressure: sea_level.map(|pressure| round(pressure.kilopascal(), 1000.0)),
            dew_point: derived::dew_point(measured.air_temperature, measured.relative_humidity)
                .map(|dew_point| round(dew_point.0, 100.0)),
            time_quality: sample.stamp.time_quality.telemetry(),
            quality: sample.quality.telemetry(),
            store_id: None,
            sequence: None,
        }
    }
}

/// A sample and whose it is. Put into words only for whoever asks: it is taken more often than that.
#[derive(Debug, Clone, PartialEq)]
pub struct LastReading {
    pub sample: Sample,
    pub device_id: String,
    /// Metres.
    pub altitude: Option<f64>,
}

impl LastReading {
    pub fn observation(&self) -> Observation<'_> {
        Observation::of_sample(&self.sample, &self.device_id, self.altitude)
    }
}

impl Serialize for LastReading {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.observation().serialize(serializer)
    }
}

/// RFC 3339, UTC, milliseconds.
pub fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn round(value: f64, steps: f64) -> f64 {
    (value * steps).round() / steps
}
