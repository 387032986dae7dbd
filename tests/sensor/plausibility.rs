//! Quality flags, from the chip's registers through the task: the number is never changed, only marked.

use std::time::Duration;

use weather_station::config::Oversampling;
use weather_station::reading::{Celsius, Hectopascal, Measurement, Percent, Quality, Sample};
use weather_station::sensor::plausibility::{FROZEN_TRIPLES, HEATING_DUTY, duty};

use super::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn weather(temperature: f64, humidity: f64, pressure: f64) -> Measurement {
    Measurement {
        air_temperature: Celsius(temperature),
        relative_humidity: Percent(humidity),
        station_pressure: Hectopascal(pressure),
    }
}

async fn felt(rig: &mut Rig, temperature: f64, humidity: f64, pressure: f64) -> Sample {
    rig.chip.feel(Some(weather(temperature, humidity, pressure)));
    let sample = rig.sample().await;
    assert!((sample.measurement.air_temperature.0 - temperature).abs() < 0.01, "the number is not changed");
    sample
}

#[tokio::test(start_paused = true)]
async fn thirty_identical_raw_triples_are_suspect_and_twenty_nine_are_not() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.freeze(true);
    for _ in 2..FROZEN_TRIPLES {
        assert_eq!(rig.sample().await.quality, Quality::Good);
    }
    assert_eq!(rig.sample().await.quality, Quality::Frozen);
    assert_eq!(rig.sample().await.quality, Quality::Frozen);
    rig.chip.freeze(false);
    assert_eq!(rig.sample().await.quality, Quality::Good);
}

#[tokio::test(start_paused = true)]
async fn saturated_air_that_warms_for_hours_is_suspect() {
    let mut rig = Rig::start(10 * MINUTE, |_| {});
    // Three hours are eighteen intervals. A foggy night cools, and then warms a little: good.
    for step in 0..30 {
        let sample = felt(&mut rig, 8.0 - f64::from(step) * 0.1, 100.0, 1013.0).await;
        assert_eq!(sample.quality, Quality::Good);
    }
    assert_eq!(felt(&mut rig, 7.9, 100.0, 1013.0).await.quality, Quality::Good, "3 degC less a bit");
    assert_eq!(felt(&mut rig, 8.2, 100.0, 1013.0).await.quality, Quality::StuckHumidity);
    assert_eq!(felt(&mut rig, 9.0, 100.0, 1013.0).await.quality, Quality::StuckHumidity);
    assert_eq!(felt(&mut rig, 9.0, 98.0, 1013.0).await.quality, Quality::Good, "it has dried");
    assert_eq!(felt(&mut rig, 9.0, 100.0, 1013.0).await.quality, Quality::Good);
    assert_eq!(felt(&mut rig, 13.0, 100.0, 1013.0).await.quality, Quality::Good, "not for hours");
}

#[tokio::test(start_paused = true)]
async fn a_step_that_weather_does_not_make_within_a_minute_is_suspect() {
    let mut rig = Rig::start(MINUTE, |_| {});
    assert_eq!(felt(&mut rig, 10.0, 50.0, 1000.0).await.quality, Quality::Good);
    assert_eq!(felt(&mut rig, 14.9, 50.0, 1000.0).await.quality, Quality::Good);
    assert_eq!(felt(&mut rig, 20.1, 50.0, 1000.0).await.quality, Quality::Jump);
    assert_eq!(felt(&mut rig, 20.1, 50.0, 1000.0).await.quality, Quality::Good, "it stays there");
    assert_eq!(felt(&mut rig, 20.1, 79.9, 1000.0).await.quality, Quality::Good);
    assert_eq!(felt(&mut rig, 20.1, 49.5, 1000.0).await.quality, Quality::Jump);
    assert_eq!(felt(&mut rig, 20.1, 79.9, 1000.0).await.quality, Quality::Good, "a spike is not the measure");
    assert_eq!(felt(&mut rig, 20.1, 79.9, 1009.9).await.quality, Quality::Good);
    assert_eq!(felt(&mut rig, 20.1, 79.9, 999.8).await.quality, Quality::Jump);
}

#[tokio::test(start_paused = true)]
async fn a_slope_within_a_minute_is_a_jump_and_over_ten_minutes_it_is_not() {
    let mut rig = Rig::start(10 * SECOND, |_| {});
    let mut suspect = 0;
    for step in 0..6 {
        let sample = felt(&mut rig, 10.0 + 1.1 * f64::from(step), 50.0, 1000.0).await;
        suspect += u32::from(sample.quality == Quality::Jump);
    }
    assert_eq!(suspect, 1, "only the last is more than 5 degC from one of the last minute");
    let mut rig = Rig::start(10 * MINUTE, |_| {});
    felt(&mut rig, 10.0, 50.0, 1000.0).await;
    assert_eq!(felt(&mut rig, 16.0, 90.0, 1012.0).await.quality, Quality::Good);
}

#[tokio::test(start_paused = true)]
async fn an_interval_and_an_oversampling_that_heat_the_chip_are_suspect() {
    let mut rig = Rig::start(SECOND, |_| {});
    assert_eq!(rig.sample().await.quality, Quality::Good);
    let all = |factor| Oversampling { temperature: factor, pressure: factor, humidity: factor };
    rig.set(|settings| settings.oversampling = all(16));
    assert_eq!(rig.sample().await.quality, Quality::SelfHeating);
    rig.set(|settings| settings.oversampling = all(8));
    assert_eq!(rig.sample().await.quality, Quality::Good);
    // 112.8 ms a second are more than a tenth, 57.6 are not, and neither are 112.8 in two.
    assert!(duty(SECOND, all(16)) > HEATING_DUTY && duty(SECOND, all(8)) < HEATING_DUTY);
    assert!(duty(2 * SECOND, all(16)) < HEATING_DUTY);
}

#[tokio::test(start_paused = true)]
async fn an_offset_is_added_and_judged_as_if_it_were_not() {
    let mut rig = Rig::start(MINUTE, |_| {});
    felt(&mut rig, 10.0, 50.0, 1000.0).await;
    rig.set(|settings| {
        settings.offset.temperature = -6.5;
        settings.offset.pressure = 12.0;
        settings.offset.humidity = 31.0;
    });
    rig.chip.feel(Some(weather(10.0, 50.0, 1000.0)));
    let sample = rig.sample().await;
    let got = sample.measurement;
    assert!((got.air_temperature.0 - 3.5).abs() < 0.01, "{got:?}");
    assert!((got.station_pressure.0 - 1012.0).abs() < 0.05, "{got:?}");
    assert!((got.relative_humidity.0 - 81.0).abs() < 0.05, "{got:?}");
    assert_eq!(sample.quality, Quality::Good, "the owner's offset is no weather");
    for (felt, offset, most) in [(99.0, 3.0, 100.0), (1.0, -3.0, 0.0)] {
        rig.set(|settings| settings.offset.humidity = offset);
        rig.chip.feel(Some(weather(10.0, felt, 1000.0)));
        let humidity = rig.sample().await.measurement.relative_humidity.0;
        assert!((humidity - most).abs() < 1e-9, "{humidity} %RH");
    }
}
