//! What the task does about faults: within the sample if it can, with an account of what it missed if it cannot.

use std::time::Duration;

use tokio::time::sleep;
use weather_station::config::Oversampling;
use weather_station::reading::{Celsius, FromSensor, Hectopascal, Measurement, Percent};
use weather_station::sensor::simulated::{BusFault, Channel, SimulatedSensor};
use weather_station::status::SensorState;

use super::rig::Rig;

const MINUTE: Duration = Duration::from_secs(60);
/// Between two samples, when nothing is being tried.
const HALF: Duration = Duration::from_secs(30);

/// The account of an episode, and that the next thing is a right sample.
async fn missed(rig: &mut Rig) -> (u64, Duration, String) {
    let FromSensor::Missed { count, from, until, reason } = rig.next().await else {
        panic!("an episode should have ended");
    };
    let sample = rig.sample().await;
    rig.assert_true(&sample);
    assert!(from.since_boot <= until.since_boot && until.since_boot < sample.stamp.since_boot);
    (count, until.since_boot - from.since_boot, reason)
}

#[tokio::test(start_paused = true)]
async fn a_short_bus_fault_of_any_kind_costs_no_sample() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    let kinds = [BusFault::NoAnswer, BusFault::InputOutput, BusFault::ArbitrationLost, BusFault::TimedOut];
    for fault in kinds {
        // One failure is tried again, two are set up again, five open the bus again.
        for transfers in [1, 2, 3, 5] {
            rig.chip.fail(fault, transfers);
            let sample = rig.sample().await;
            rig.assert_true(&sample);
        }
    }
    assert_eq!(rig.status().missed, 0);
    assert_eq!(rig.chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_failed_after_it_reached_the_chip_begins_nothing_twice() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    // The first transfer of a sample asks whether the chip is busy, the second begins.
    rig.chip.fail_after(1, BusFault::InputOutput, 1);
    let conversions = rig.chip.conversions();
    let sample = rig.sample().await;
    rig.assert_true(&sample);
    assert_eq!(rig.chip.conversions(), conversions + 2, "one that was given up, one that counts");
    assert_eq!(rig.chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_was_given_up_is_waited_for_before_the_next_is_begun() {
    let all = Oversampling { temperature: 16, pressure: 16, humidity: 16 };
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.set(|settings| settings.oversampling = all);
    rig.sample().await;
    // It reaches the chip, which measures for 112.8 ms; the task tries again after 100 ms.
    rig.chip.fail_after(1, BusFault::InputOutput, 1);
    let conversions = rig.chip.conversions();
    let sample = rig.sample().await;
    rig.assert_true(&sample);
    assert_eq!(rig.chip.begun_while_busy(), 0);
    assert_eq!(rig.chip.conversions(), conversions + 2, "one that was given up, one that counts");
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_between_two_samples_is_repaired_within_one() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let before = rig.sample().await;
    rig.chip.brown_out();
    let after = rig.sample().await;
    rig.assert_true(&after);
    let apart = after.stamp.since_boot - before.stamp.since_boot;
    assert!(apart.abs_diff(MINUTE) < Duration::from_millis(20), "without a pause: {apart:?}");
    assert_eq!(rig.status().missed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_during_a_conversion_is_repaired_within_the_sample() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    sleep(MINUTE - Duration::from_millis(5)).await;
    rig.chip.brown_out();
    let sample = rig.sample().await;
    rig.assert_true(&sample);
    assert_eq!(rig.status().missed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_chip_that_is_stuck_busy_is_reset_within_the_sample() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.stick_busy();
    let sample = rig.sample().await;
    rig.assert_true(&sample);
    assert_eq!(rig.status().missed, 0);
    assert_eq!(rig.chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_conversion_that_takes_longer_than_the_datasheet_allows_is_waited_for() {
    let mut rig = Rig::start(MINUTE, |chip| chip.slow_down(5));
    for _ in 0..3 {
        let sample = rig.sample().await;
        rig.assert_true(&sample);
    }
    assert_eq!(rig.chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_absent_sensor_at_the_start_is_not_fatal() {
    let mut rig = Rig::start(MINUTE, |chip| chip.unplug());
    sleep(10 * MINUTE + HALF).await;
    let status = rig.status();
    assert_eq!((status.state, status.missed, status.taken), (SensorState::Absent, 11, 0));
    assert!(status.reason.unwrap().starts_with("cannot open the I2C bus"));
    rig.chip.plug_in();
    let (count, lasted, reason) = missed(&mut rig).await;
    assert_eq!(count, 11);
    assert!(lasted.abs_diff(10 * MINUTE) < Duration::from_secs(30), "{lasted:?}");
    assert!(reason.contains("No such file or directory"), "{reason}");
    let status = rig.status();
    assert_eq!((status.state, status.reason, status.taken), (SensorState::Ok, None, 1));
    assert_eq!(status.chip.unwrap(), "BME280 at 0x76 on the simulated bus");
}

/// What happens to a chip before the task starts.
type Fate<'a> = &'a dyn Fn(&SimulatedSensor);

/// It has not given a reading yet, and yet it is there.
#[tokio::test(start_paused = true)]
async fn a_chip_that_answers_with_what_is_no_reading_fails_and_is_not_absent() {
    let hot = Measurement {
        air_temperature: Celsius(187.55),
        station_pressure: Hectopascal(1000.0),
        relative_humidity: Percent(50.0),
    };
    let fates: [(&str, Fate<'_>, SensorState); 5] = [
        ("outside the sensor's -40 to 85 degC", &|chip| chip.feel(Some(hot)), SensorState::Failing),
        ("skipped the", &|chip| chip.kill_channel(Some(Channel::Humidity)), SensorState::Failing),
        ("the calibration", &|chip| chip.overwrite_calibration(Some(0)), SensorState::Failing),
        ("not a BME280", &|chip| chip.become_bmp280(), SensorState::Absent),
        ("the bus is stuck", &|chip| chip.stick_lines(0), SensorState::Absent),
    ];
    for (reason, fate, state) in fates {
        let rig = Rig::start(MINUTE, fate);
        sleep(MINUTE + HALF).await;
        let status = rig.status();
        let said = status.reason.unwrap();
        assert!(said.contains(reason), "{said}");
        assert_eq!((status.state, status.taken), (state, 0), "{said}");
        // It stays one that was there.
        rig.chip.unplug();
        sleep(MINUTE).await;
        let status = rig.status();
        assert_eq!(status.state, state, "{:?}", status.reason);
    }
}

#[tokio::test(start_paused = true)]
async fn a_bus_that_goes_and_comes_back_is_opened_again() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.unplug();
    sleep(5 * MINUTE + HALF).await;
    assert_eq!(rig.status().state, SensorState::Failing);
    rig.chip.plug_in();
    let (count, _, reason) = missed(&mut rig).await;
    assert_eq!(count, 5);
    assert!(reason.starts_with("cannot open the I2C bus"), "{reason}");
    assert_eq!(rig.status().missed, 5);
}

#[tokio::test(start_paused = true)]
async fn a_dead_bus_is_tried_a_bounded_number_of_times_a_sample() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.fail(BusFault::NoAnswer, u64::MAX);
    sleep(10 * MINUTE + HALF).await;
    let transfers = u64::MAX - rig.chip.faults_left();
    assert!((100..=300).contains(&transfers), "{transfers} transfers in ten samples");
    rig.chip.heal();
    let (count, _, reason) = missed(&mut rig).await;
    assert_eq!((count, reason.as_str()), (10, "no answer at 0x76 on the simulated bus (ENXIO)"));
}

#[tokio::test(start_paused = true)]
async fn what_the_chip_cannot_measure_is_missed_and_never_a_number() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let fair = rig.sample().await.measurement;
    let mut hot = fair;
    hot.air_temperature.0 = 90.0;
    rig.chip.feel(Some(hot));
    sleep(3 * MINUTE + HALF).await;
    rig.chip.feel(None);
    let (count, _, reason) = missed(&mut rig).await;
    assert_eq!(count, 3);
    assert_eq!(reason, "a temperature of 90.00 degC is outside the sensor's -40 to 85 degC");
    rig.chip.kill_channel(Some(Channel::Humidity));
    sleep(2 * MINUTE + HALF).await;
    rig.chip.kill_channel(None);
    let (count, _, reason) = missed(&mut rig).await;
    assert_eq!(
        (count, reason.as_str()),
        (2, "the chip at 0x76 on the simulated bus skipped the humidity channel")
    );
}

#[tokio::test(start_paused = true)]
async fn an_exchanged_chip_is_named_and_the_right_one_taken_up_again() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.become_bmp280();
    rig.chip.brown_out();
    sleep(2 * MINUTE + HALF).await;
    assert_eq!(
        rig.status().reason.unwrap(),
        "the chip at 0x76 on the simulated bus is a BMP280 (0x58, no humidity), not a BME280 (0x60)"
    );
    rig.chip.become_bme280();
    assert_eq!(missed(&mut rig).await.0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_try_that_the_end_of_the_station_cuts_short_belongs_to_the_open_episode() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.unplug();
    // A sample is tried for ten seconds.
    sleep(4 * MINUTE + Duration::from_secs(3)).await;
    rig.stop.send_replace(true);
    let FromSensor::Missed { count, .. } = rig.next().await else { panic!("an episode was open") };
    assert_eq!(count, 4);
    rig.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_open_episode_is_accounted_for_when_the_station_stops() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.chip.unplug();
    sleep(3 * MINUTE + HALF).await;
    rig.stop.send_replace(true);
    let FromSensor::Missed { count, .. } = rig.next().await else { panic!("an episode was open") };
    assert_eq!(count, 3);
    assert_eq!(rig.samples.recv().await, None, "the sender has gone");
    rig.task.await.unwrap();
}
