//! A simulated week with seeded random faults of every kind: every sample that comes out is right, and every one
//! that was due and did not come is accounted for.

use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use weather_station::reading::{FromSensor, Quality, Stamp};
use weather_station::sensor::simulated::{BusFault, Channel, SimulatedSensor};

use super::rig::Rig;

const INTERVAL: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 86_400);

/// One random misfortune, at a random moment or just when a conversion runs, for a random while.
async fn misfortune(chip: &SimulatedSensor, start: Instant, random: &mut fastrand::Rng) {
    sleep(Duration::from_millis(random.u64(1_000..30 * 60_000))).await;
    if random.bool() {
        let samples = start.elapsed().as_secs() / INTERVAL.as_secs() + 1;
        sleep_until(start + INTERVAL * samples as u32 + Duration::from_millis(random.u64(0..12))).await;
    }
    let buses = [BusFault::NoAnswer, BusFault::InputOutput, BusFault::ArbitrationLost, BusFault::TimedOut];
    let while_it_lasts = Duration::from_millis(1 << random.u64(0..22));
    match random.u8(0..12) {
        0 | 1 => chip.fail(random.choice(buses).unwrap(), u64::MAX),
        2 | 3 => chip.fail_after(random.u64(0..9), random.choice(buses).unwrap(), random.u64(1..12)),
        4 => chip.brown_out(),
        5 => chip.stick_busy(),
        6 => chip.unplug(),
        7 => chip.become_bmp280(),
        8 => {
            chip.overwrite_calibration(random.choice([Some(0x00), Some(0xFF)]).unwrap());
            chip.brown_out();
        }
        9 => chip.stick_lines(random.choice([0x00, 0xFF]).unwrap()),
        10 => chip.kill_channel(random.choice([Channel::Pressure, Channel::Temperature, Channel::Humidity])),
        _ => chip.slow_down(random.u32(1..40)),
    }
    sleep(while_it_lasts).await;
    chip.heal();
    chip.plug_in();
    chip.become_bme280();
    chip.overwrite_calibration(None);
    chip.kill_channel(None);
    chip.slow_down(1);
}

/// The due time that a stamp belongs to. A sample may come up to half an interval late, by repairs.
fn slot(stamp: Stamp, first: Stamp) -> u64 {
    let since_first = stamp.since_boot.saturating_sub(first.since_boot) + Duration::from_secs(1);
    since_first.as_secs() / INTERVAL.as_secs()
}

async fn week(seed: u64) -> (u64, u64) {
    let mut rig = Rig::start(INTERVAL, |_| {});
    let (start, chip) = (Instant::now(), rig.chip.clone());
    let mut random = fastrand::Rng::with_seed(seed);
    let fate = tokio::spawn(async move {
        loop {
            misfortune(&chip, start, &mut random).await;
        }
    });
    let first = rig.sample().await;
    let (mut taken, mut missed, mut open, mut last) = (1, 0, 0, first);
    let end = first.stamp.since_boot + WEEK;
    while last.stamp.since_boot < end {
        match rig.next().await {
            FromSensor::Sample(sample) => {
                rig.assert_true(&sample);
                assert_eq!(sample.quality, Quality::Good, "seed {seed} at {}", sample.stamp.time);
                let passed = slot(sample.stamp, first.stamp) - slot(last.stamp, first.stamp) - 1;
                assert_eq!(
                    passed, open,
                    "seed {seed}: missing between {:?} and {:?}",
                    last.stamp, sample.stamp
                );
                (taken, open, last) = (taken + 1, 0, sample);
            }
            FromSensor::Missed { count, from, until, reason } => {
                assert!(count > 0 && !reason.is_empty());
                assert!(from.since_boot > last.stamp.since_boot && from.since_boot <= until.since_boot);
                (missed, open) = (missed + count, open + count);
            }
        }
    }
    fate.abort();
    assert_eq!(taken + missed, slot(last.stamp, first.stamp) + 1, "seed {seed}: every due time, once");
    assert_eq!(rig.chip.begun_while_busy(), 0, "seed {seed}");
    let status = rig.status();
    assert!(status.taken >= taken && status.missed >= missed);
    (taken, missed)
}

#[tokio::test(start_paused = true)]
async fn a_week_of_random_faults_ends_with_every_value_right_and_every_miss_accounted_for() {
    for seed in [1, 2] {
        let (taken, missed) = week(seed).await;
        assert!(taken > 8_000, "seed {seed}: most samples are taken, {taken}");
        assert!(missed > 50, "seed {seed}: the faults are felt, {missed}");
    }
}
