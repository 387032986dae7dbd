//! One reading without a task, and the configuration's way to the simulated sensor.

use chrono::DateTime;
use tokio::time::Instant;
use weather_station::clock::Timekeeper;
use weather_station::config::{Config, Sensor, SensorSource};
use weather_station::reading::Sample;
use weather_station::sensor::simulated::Trace;
use weather_station::sensor::{SensorError, Source, describe, read_once};

use super::rig::{TRACE, TestClock};

fn timekeeper() -> Timekeeper {
    Timekeeper::new(TestClock::new(), DateTime::UNIX_EPOCH)
}

fn simulated(trace: Option<&str>) -> Config {
    let sensor =
        Sensor { source: SensorSource::Simulated, trace: trace.map(Into::into), ..Sensor::default() };
    Config { file: "station.toml".into(), sensor, ..Config::default() }
}

async fn read(config: &Config) -> Result<(Sample, String), SensorError> {
    let timekeeper = timekeeper();
    let source = Source::new(config, &timekeeper).unwrap();
    read_once(source, &config.sensor, &timekeeper).await
}

#[tokio::test(start_paused = true)]
async fn one_reading_is_what_the_trace_says_at_its_time_whatever_the_speed() {
    let trace = Trace::parse(TRACE).unwrap();
    for speed in [1.0, 60.0, 3600.0] {
        let mut config = simulated(Some("tests/data/jfk-2013-11.csv"));
        config.sensor.speed = speed;
        config.sensor.offset.pressure = 1.5;
        let (sample, chip) = read(&config).await.unwrap();
        assert_eq!(chip, "BME280 at 0x76 on the simulated bus");
        let expected = trace.at_time(sample.stamp.time, speed);
        let got = sample.measurement;
        assert!((got.air_temperature.0 - expected.air_temperature.0).abs() < 0.05, "{got:?} {expected:?}");
        assert!(
            (got.station_pressure.0 - expected.station_pressure.0 - 1.5).abs() < 0.1,
            "{got:?} {expected:?}"
        );
    }
    let (sample, _) = read(&simulated(None)).await.unwrap();
    let expected = Trace::synthetic_day().at_time(sample.stamp.time, 1.0);
    assert!((sample.measurement.air_temperature.0 - expected.air_temperature.0).abs() < 0.05);
}

#[test]
fn a_trace_that_is_not_there_is_a_wrong_configuration() {
    let Err(error) = Source::new(&simulated(Some("no-such-trace.csv")), &timekeeper()) else {
        panic!("there is no such trace");
    };
    assert_eq!(
        error.to_string(),
        "the configuration station.toml is wrong:\n  `sensor.trace`: expected a CSV file to replay; cannot replay \
         the trace no-such-trace.csv: cannot read the file: No such file or directory (os error 2)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wrong_address_is_tried_for_two_seconds_and_named() {
    let mut config = simulated(None);
    config.sensor.address = Some(0x77);
    let start = Instant::now();
    let error = read(&config).await.unwrap_err();
    assert_eq!(describe(&error), "no answer at 0x77 on the simulated bus (ENXIO)");
    assert!(start.elapsed().as_secs() < 2);
}
