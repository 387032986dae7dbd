//! The writable properties of the twin, one by one: name, unit, range, and how each replaces a value of the file.
//! Pure: knows neither where a value came from nor who will be told.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::Settings;
use crate::config::Oversampling;

/// A property that the cloud may set. The names are those of the model in `deploy/model`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// Seconds. The twin asks for whole ones; the file's may have a fraction.
    SampleInterval,
    ReadingsPerMessage,
    /// degC.
    TemperatureOffset,
    /// %RH.
    HumidityOffset,
    /// hPa.
    PressureOffset,
    /// Metres.
    Altitude,
    /// An object with `temperature`, `pressure`, `humidity`, or one number for all three.
    Oversampling,
    /// Days. The twin asks for whole ones; the file's may have a fraction.
    KeepDays,
}

const DAY: u64 = 86_400;

impl Property {
    pub const ALL: [Self; 8] = [
        Self::SampleInterval,
        Self::ReadingsPerMessage,
        Self::TemperatureOffset,
        Self::HumidityOffset,
        Self::PressureOffset,
        Self::Altitude,
        Self::Oversampling,
        Self::KeepDays,
    ];

    /// As in the twin.
    pub fn name(self) -> &'static str {
        match self {
            Self::SampleInterval => "sampleInterval",
            Self::ReadingsPerMessage => "readingsPerMessage",
            Self::TemperatureOffset => "temperatureOffset",
            Self::HumidityOffset => "humidityOffset",
            Self::PressureOffset => "pressureOffset",
            Self::Altitude => "altitude",
            Self::Oversampling => "oversampling",
            Self::KeepDays => "keepDays",
        }
    }

    /// The inverse of [`Property::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|property| property.name() == name)
    }

    /// The key of the configuration file that it replaces, wholly or in part.
    pub fn key(self) -> &'static str {
        match self {
            Self::SampleInterval => "sensor.interval",
            Self::ReadingsPerMessage => "telemetry.readings_per_message",
            Self::TemperatureOffset | Self::HumidityOffset | Self::PressureOffset => "sensor.offset",
            Self::Altitude => "station.altitude",
            Self::Oversampling => "sensor.oversampling",
            Self::KeepDays => "store.keep",
        }
    }

    /// Type, unit and range, for people.
    pub fn expected(self) -> &'static str {
        match self {
            Self::SampleInterval => "a whole number of seconds, 1 to 86400",
            Self::ReadingsPerMessage => "a whole number, 1 to 1000",
            Self::TemperatureOffset => "a number of degrees Celsius, -20 to 20",
            Self::HumidityOffset => "a number of percent relative humidity, -50 to 50",
            Self::PressureOffset => "a number of hectopascal, -100 to 100",
            Self::Altitude => "a number of metres above sea level, -500 to 9000",
            Self::Oversampling => {
                "an object with temperature, pressure and humidity, each 1, 2, 4, 8 or 16 (or one of these numbers for all three)"
            }
            Self::KeepDays => "a whole number of days, 1 to 36500",
        }
    }

    /// Replaces the value in `settings`. `file` supplies what an object leaves out. A value of the wrong type or
    /// out of range changes nothing, and the error says what was expected.
    pub fn apply(self, asked: &Value, file: &Settings, settings: &mut Settings) -> Result<(), String> {
        self.try_apply(asked, file, settings)
            .ok_or_else(|| format!("{} is {}, expected {}", self.name(), brief(asked), self.expected()))
    }

    fn try_apply(self, asked: &Value, file: &Settings, settings: &mut Settings) -> Option<()> {
        match self {
            Self::SampleInterval => {
                settings.sample_interval = Duration::from_secs(whole(asked, 1, DAY)?);
            }
            Self::ReadingsPerMessage => {
                settings.readings_per_message = usize::try_from(whole(asked, 1, 1_000)?).ok()?;
            }
            Self::TemperatureOffset => settings.offset.temperature = number(asked, -20.0, 20.0)?,
            Self::HumidityOffset => settings.offset.humidity = number(asked, -50.0, 50.0)?,
            Self::PressureOffset => settings.offset.pressure = number(asked, -100.0, 100.0)?,
            Self::Altitude => settings.altitude = Some(number(asked, -500.0, 9_000.0)?),
            Self::Oversampling => settings.oversampling = oversampling(asked, file.oversampling)?,
            Self::KeepDays => settings.keep = Duration::from_secs(whole(asked, 1, 36_500)? * DAY),
        }
        Some(())
    }

    /// The value in `settings`, in the twin's units; null for an altitude that nobody gave.
    pub fn in_force(self, settings: &Settings) -> Value {
        match self {
            Self::SampleInterval => in_units(settings.sample_interval, 1),
            Self::ReadingsPerMessage => json!(settings.readings_per_message),
            Self::TemperatureOffset => json!(settings.offset.temperature),
            Self::HumidityOffset => json!(settings.offset.humidity),
            Self::PressureOffset => json!(settings.offset.pressure),
            Self::Altitude => json!(settings.altitude),
            Self::Oversampling => json!(settings.oversampling),
            Self::KeepDays => in_units(settings.keep, DAY),
        }
    }
}

/// Six places, so that the number is still the same when the hub sends it back.
fn in_units(duration: Duration, seconds: u64) -> Value {
    let number = (duration.as_secs_f64() / seconds as f64 * 1e6).round() / 1e6;
    if number.fract() == 0.0 { json!(number as u64) } else { json!(number) }
}

/// Whole, in any of JSON's notations: a tool may write 60 as 60.0.
fn whole(value: &Value, least: u64, most: u64) -> Option<u64> {
    let number = value.as_f64()?;
    let whole = number as u64;
    ((whole as f64).total_cmp(&number).is_eq() && (least..=most).contains(&whole)).then_some(whole)
}

fn number(value: &Value, least: f64, most: f64) -> Option<f64> {
    value.as_f64().filter(|number| (least..=most).contains(number))
}

fn oversampling(value: &Value, file: Oversampling) -> Option<Oversampling> {
    let times = |value: &Value| {
        let times = u8::try_from(whole(value, 1, 16)?).ok()?;
        times.is_power_of_two().then_some(times)
    };
    if value.is_number() {
        let all = times(value)?;
        return Some(Oversampling { temperature: all, pressure: all, humidity: all });
    }
    let mut result = file;
    for (channel, value) in value.as_object()? {
        let place = match channel.as_str() {
            "temperature" => &mut result.temperature,
            "pressure" => &mut result.pressure,
            "humidity" => &mut result.humidity,
            _ => return None,
        };
        *place = times(value)?;
    }
    Some(result)
}

/// A value for a message to people: short, whatever was sent.
pub fn brief(value: &Value) -> String {
    match value {
        Value::String(text) if text.chars().count() <= 40 => json!(text).to_string(),
        Value::String(_) => "a long text".into(),
        Value::Array(_) => "an array".into(),
        Value::Object(members) => brief_object(members),
        other => other.to_string(),
    }
}

fn brief_object(members: &Map<String, Value>) -> String {
    let flat = members.len() <= 4 && members.iter().all(|(key, value)| key.len() <= 20 && value.is_number());
    if flat { Value::Object(members.clone()).to_string() } else { "an object".into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn file() -> Settings {
        Settings::from_file(&Config::default())
    }

    fn applied(property: Property, asked: &Value) -> Result<Value, String> {
        let mut settings = file();
        property.apply(asked, &file(), &mut settings).map(|()| property.in_force(&settings))
    }

    #[test]
    fn each_property_takes_its_range_and_nothing_beyond() {
        let numeric: [(Property, &[Value], &[Value]); 7] = [
            (
                Property::SampleInterval,
                &[json!(1), json!(86_400), json!(60.0)],
                &[json!(0), json!(86_401), json!(1.5)],
            ),
            (Property::ReadingsPerMessage, &[json!(1), json!(1_000)], &[json!(0), json!(1_001), json!(-1)]),
            (Property::TemperatureOffset, &[json!(-20), json!(20.0)], &[json!(-20.01), json!(20.01)]),
            (Property::HumidityOffset, &[json!(-50), json!(50)], &[json!(-50.1), json!(51)]),
            (Property::PressureOffset, &[json!(-100), json!(100)], &[json!(-101), json!(1e300)]),
            (Property::Altitude, &[json!(-500), json!(9_000)], &[json!(-501), json!(9_001)]),
            (Property::KeepDays, &[json!(1), json!(36_500)], &[json!(0), json!(36_501), json!(0.5)]),
        ];
        for (property, good, bad) in numeric {
            for value in good {
                let result = applied(property, value).unwrap();
                assert_eq!(result.as_f64(), value.as_f64(), "{}", property.name());
            }
            let wrong_types = [json!("60"), json!(true), json!([60]), json!({"value": 60})];
            for value in bad.iter().chain(&wrong_types) {
                let error = applied(property, value).unwrap_err();
                assert!(error.contains(property.expected()), "{error}");
                assert!(error.starts_with(&format!("{} is ", property.name())), "{error}");
            }
        }
    }

    #[test]
    fn what_is_in_force_is_not_cut_to_a_whole_number() {
        let mut settings = file();
        settings.sample_interval = Duration::from_millis(1_500);
        for (hours, days) in [(1, json!(0.041667)), (36, json!(1.5)), (48, json!(2))] {
            settings.keep = Duration::from_secs(hours * 3_600);
            assert_eq!(Property::KeepDays.in_force(&settings), days);
        }
        assert_eq!(Property::SampleInterval.in_force(&settings), json!(1.5));
        assert_eq!(Property::SampleInterval.in_force(&file()), json!(60));
    }

    #[test]
    fn oversampling_is_an_object_or_one_number_for_all() {
        let all = |t, p, h| json!({"temperature": t, "pressure": p, "humidity": h});
        assert_eq!(applied(Property::Oversampling, &json!(4)), Ok(all(4, 4, 4)));
        assert_eq!(applied(Property::Oversampling, &all(1, 16, 2)), Ok(all(1, 16, 2)));
        assert_eq!(applied(Property::Oversampling, &json!({"pressure": 8})), Ok(all(1, 8, 1)));
        for bad in [json!(3), json!(0), json!(32), json!({"pressure": "4"}), json!({"wind": 1}), json!("4")] {
            let error = applied(Property::Oversampling, &bad).unwrap_err();
            assert!(error.contains("each 1, 2, 4, 8 or 16"), "{error}");
        }
    }

    #[test]
    fn a_refused_value_changes_nothing() {
        for property in Property::ALL {
            let mut settings = file();
            property.apply(&json!({"no": "value"}), &file(), &mut settings).unwrap_err();
            assert_eq!(settings, file());
            assert_eq!(Property::from_name(property.name()), Some(property));
        }
    }

    #[test]
    fn the_error_repeats_no_more_than_a_short_value() {
        let long = json!("x".repeat(4_000));
        let error = applied(Property::SampleInterval, &long).unwrap_err();
        assert_eq!(error, "sampleInterval is a long text, expected a whole number of seconds, 1 to 86400");
        let error = applied(Property::SampleInterval, &json!("fast")).unwrap_err();
        assert_eq!(error, "sampleInterval is \"fast\", expected a whole number of seconds, 1 to 86400");
    }
}
