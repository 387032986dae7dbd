//! The schedule: no drift, no burst, no pile; settings, requests and the watchdog's heartbeat on the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;
use weather_station::config::Oversampling;
use weather_station::reading::{FromSensor, SensorRequest};

use super::rig::Rig;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
/// What a sample may come off its due time: the timer counts milliseconds.
const TICK: Duration = Duration::from_millis(3);

#[tokio::test(start_paused = true)]
async fn a_day_of_samples_says_what_the_trace_says_and_does_not_drift() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let first = rig.sample().await;
    rig.assert_true(&first);
    for minute in 1..1440 {
        let sample = rig.sample().await;
        rig.assert_true(&sample);
        let since_first = sample.stamp.since_boot - first.stamp.since_boot;
        let late = since_first.abs_diff(MINUTE * minute);
        assert!(late < TICK, "sample {minute} came {late:?} off");
    }
    assert_eq!(rig.chip.conversions(), 1440);
    assert_eq!(rig.chip.begun_while_busy(), 0);
    let status = rig.status();
    assert_eq!((status.taken, status.missed), (1440, 0));
    assert!(status.jitter_worst <= 2.0, "{}", status.jitter_worst);
    let shown = serde_json::to_value(status.last_reading.unwrap()).unwrap();
    assert!(shown["currentTemperature"].is_number() && shown["currentPressure"].is_number(), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_suspend_brings_no_burst_and_what_it_cost_is_counted() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let before = rig.sample().await;
    sleep(MINUTE / 2).await;
    rig.clock.sleep(120 * MINUTE);
    let FromSensor::Missed { count, from, until, reason } = rig.next().await else {
        panic!("two hours of samples are missing");
    };
    assert_eq!((count, reason.as_str()), (120, "the machine was suspended"));
    assert!(from.since_boot > before.stamp.since_boot);
    assert!(until.since_boot - from.since_boot >= 120 * MINUTE);
    let after = rig.sample().await;
    let next = rig.sample().await;
    assert_eq!(rig.chip.conversions(), 3);
    assert!((next.stamp.since_boot - after.stamp.since_boot).abs_diff(MINUTE) < TICK);
}

#[tokio::test(start_paused = true)]
async fn short_suspends_add_up() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    for _ in 0..4 {
        sleep(6 * SECOND).await;
        rig.clock.sleep(MINUTE / 2);
    }
    let FromSensor::Missed { count, reason, .. } = rig.next().await else {
        panic!("two minutes are missing")
    };
    assert_eq!((count, reason.as_str()), (2, "the machine was suspended"));
}

#[tokio::test(start_paused = true)]
async fn samples_that_fell_due_while_the_station_could_not_run_are_blamed_on_no_request() {
    let mut rig = Rig::start(SECOND, |_| {});
    rig.sample().await;
    tokio::time::advance(4 * SECOND + SECOND / 2).await;
    rig.sample().await;
    let FromSensor::Missed { count, reason, .. } = rig.next().await else { panic!("samples are missing") };
    assert_eq!((count, reason.as_str()), (3, "the station could not run in time"));
}

#[tokio::test(start_paused = true)]
async fn samples_that_fell_due_during_a_request_are_missed_when_they_were_due() {
    let interval = SECOND / 2;
    let mut rig = Rig::start(interval, |_| {});
    let first = rig.sample().await;
    sleep(SECOND / 10).await;
    rig.chip.unplug();
    let (answer, answered) = oneshot::channel();
    rig.requests.send(SensorRequest::ReadNow(answer)).await.unwrap();
    sleep(SECOND).await;
    rig.chip.plug_in();
    answered.await.unwrap().unwrap();
    rig.sample().await;
    rig.sample().await;
    let FromSensor::Missed { count, from, until, reason } = rig.next().await else {
        panic!("a sample is missing");
    };
    let second = first.stamp.since_boot + interval;
    assert!(from.since_boot.abs_diff(second) < TICK, "{from:?}");
    assert!(until.since_boot >= second + 2 * interval, "{until:?}");
    assert_eq!(count, 2);
    assert_eq!(reason, "a reading that was asked for took longer than the interval");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_take_samples_costs_samples_and_no_burst_follows() {
    let mut rig = Rig::start(SECOND, |_| {});
    // Sixteen fit into the channel, one waits in the task's hand.
    sleep(100 * SECOND + SECOND / 2).await;
    assert_eq!(rig.chip.conversions(), 17);
    for _ in 0..17 {
        let sample = rig.sample().await;
        rig.assert_true(&sample);
    }
    let FromSensor::Missed { count, reason, .. } = rig.next().await else {
        panic!("84 samples are missing");
    };
    assert_eq!((count, reason.as_str()), (84, "the sample before took longer than the interval"));
    let after = rig.sample().await;
    assert_eq!(after.stamp.since_boot.as_secs(), 101);
    assert_eq!(rig.status().missed, 84);
}

#[tokio::test(start_paused = true)]
async fn a_chip_slower_than_the_interval_does_not_pile_samples_up() {
    // 16 x 112.8 ms would be 1.8 s: longer than the task waits for, and than the interval.
    let all = Oversampling { temperature: 16, pressure: 16, humidity: 16 };
    let mut rig = Rig::start(SECOND, |chip| chip.slow_down(16));
    rig.set(|settings| settings.oversampling = all);
    sleep(20 * SECOND + SECOND / 2).await;
    assert!(rig.chip.conversions() <= 63, "at most three attempts a sample: {}", rig.chip.conversions());
    assert_eq!(rig.chip.begun_while_busy(), 0);
    rig.chip.slow_down(1);
    let FromSensor::Missed { count, reason, .. } = rig.next().await else { panic!("all are missing") };
    assert_eq!(count, 21);
    assert_eq!(
        reason,
        "the chip at 0x76 on the simulated bus was still busy 112 ms after the longest conversion"
    );
    let sample = rig.sample().await;
    assert_eq!(sample.stamp.since_boot.as_secs(), 21);
}

#[tokio::test(start_paused = true)]
async fn settings_take_effect_at_once_and_cost_no_sample() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let first = rig.sample().await;
    sleep(5 * SECOND).await;
    rig.set(|settings| settings.sample_interval = 10 * SECOND);
    let second = rig.sample().await;
    assert!((second.stamp.since_boot - first.stamp.since_boot).abs_diff(10 * SECOND) < TICK);
    rig.set(|settings| settings.oversampling.pressure = 16);
    rig.set(|settings| settings.offset.temperature = 2.0);
    let third = rig.sample().await;
    assert!((third.stamp.since_boot - second.stamp.since_boot).abs_diff(10 * SECOND) < TICK);
    let expected = rig.trace.at_time(third.stamp.time, 1.0).air_temperature.0 + 2.0;
    assert!((third.measurement.air_temperature.0 - expected).abs() < 0.05);
    rig.set(|settings| settings.sample_interval = 30 * SECOND);
    let fourth = rig.sample().await;
    assert!((fourth.stamp.since_boot - third.stamp.since_boot).abs_diff(30 * SECOND) < TICK);
    assert_eq!(rig.status().missed, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reading_on_request_is_one_more_and_does_not_move_the_schedule() {
    let mut rig = Rig::start(MINUTE, |_| {});
    let first = rig.sample().await;
    sleep(20 * SECOND).await;
    let (answer, answered) = oneshot::channel();
    rig.requests.send(SensorRequest::ReadNow(answer)).await.unwrap();
    let asked_for = answered.await.unwrap().unwrap();
    rig.assert_true(&asked_for);
    assert_eq!(rig.sample().await, asked_for, "it goes the way of every other sample");
    let second = rig.sample().await;
    assert!((second.stamp.since_boot - first.stamp.since_boot).abs_diff(MINUTE) < TICK);
}

#[tokio::test(start_paused = true)]
async fn people_who_ask_all_the_time_delay_no_sample_of_the_schedule() {
    let mut rig = Rig::start(SECOND, |_| {});
    // More than are answered at once, so that somebody always waits.
    let mut people = JoinSet::new();
    for _ in 0..12 {
        let requests = rig.requests.clone();
        people.spawn(async move {
            loop {
                let (answer, answered) = oneshot::channel();
                requests.send(SensorRequest::ReadNow(answer)).await.unwrap();
                answered.await.unwrap().unwrap();
            }
        });
    }
    let first = rig.sample().await;
    let mut last = first;
    while last.stamp.since_boot - first.stamp.since_boot < MINUTE {
        last = rig.sample().await;
    }
    people.shutdown().await;
    // What was held up would show now.
    sleep(5 * SECOND).await;
    let status = rig.status();
    assert_eq!(status.missed, 0);
    let (median, worst) = (status.jitter_median, status.jitter_worst);
    assert!(worst < 20.0, "each began after at most one measurement, {median} ms to {worst} ms late");
    assert_eq!(rig.chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn all_who_wait_are_answered_from_one_measurement() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        let (answer, answered) = oneshot::channel();
        rig.requests.try_send(SensorRequest::ReadNow(answer)).unwrap();
        waiting.push(answered);
    }
    let sample = rig.sample().await;
    for answered in waiting {
        assert_eq!(answered.await.unwrap().unwrap(), sample);
    }
    assert_eq!(rig.chip.conversions(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_resets_the_chip_and_says_whether_it_worked() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    let (answer, answered) = oneshot::channel();
    rig.requests.send(SensorRequest::Restart(answer)).await.unwrap();
    assert_eq!(answered.await.unwrap(), Ok(()));
    rig.sample().await;
    rig.chip.unplug();
    let (answer, answered) = oneshot::channel();
    rig.requests.send(SensorRequest::Restart(answer)).await.unwrap();
    let reason = answered.await.unwrap().unwrap_err();
    assert!(reason.starts_with("cannot open the I2C bus"), "{reason}");
    assert_eq!(rig.status().missed, 0, "nothing was due");
}

#[tokio::test(start_paused = true)]
async fn the_heart_beats_whatever_the_interval_and_whatever_is_wrong() {
    let mut rig = Rig::start(24 * 60 * MINUTE, |_| {});
    rig.sample().await;
    let mut last = rig.turns.load(Ordering::Relaxed);
    for hour in 0..48 {
        if hour == 12 {
            rig.chip.unplug();
        }
        sleep(MINUTE / 4).await;
        let turns = rig.turns.load(Ordering::Relaxed);
        assert!(turns > last, "no turn in 15 s");
        last = turns;
        sleep(60 * MINUTE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_when_it_is_told_to_and_drops_the_sender() {
    let mut rig = Rig::start(MINUTE, |_| {});
    rig.sample().await;
    rig.stop.send_replace(true);
    assert_eq!(rig.samples.recv().await, None);
    rig.task.await.unwrap();
}
