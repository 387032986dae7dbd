//! Charts: the rollups say what the readings say, whatever happened in between.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::task::JoinSet;
use weather_station::reading::FromSensor;
use weather_station::store::Bucket;

use crate::support::{Place, Running, date, sample};

const STEPS: [u64; 5] = [60, 300, 3_600, 86_400, 1_800];

/// Sends readings with the clock moving between them, and keeps what a chart should say.
pub async fn record(
    place: &Place,
    store: &Running,
    from: u64,
    count: u64,
    every: Duration,
    model: &mut Vec<(DateTime<Utc>, f64)>,
) {
    for number in from..from + count {
        let sample = sample(store.timekeeper.stamp(), number);
        model.push((sample.stamp.time, sample.measurement.air_temperature.0));
        store.samples.send(FromSensor::Sample(sample)).await.unwrap();
        place.clock.advance(every);
    }
    store.synced(model.len() as u64).await;
}

pub fn expected(
    model: &[(DateTime<Utc>, f64)],
    since: DateTime<Utc>,
    until: DateTime<Utc>,
    step: u64,
) -> Vec<(i64, u32, f64, f64, f64)> {
    let step = i64::try_from(step).unwrap();
    let mut buckets = std::collections::BTreeMap::<i64, Vec<f64>>::new();
    for (time, value) in model.iter().filter(|(time, _)| *time >= since && *time < until) {
        buckets.entry(time.timestamp().div_euclid(step) * step).or_default().push(*value);
    }
    buckets
        .into_iter()
        .map(|(start, values)| {
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            (start, u32::try_from(values.len()).unwrap(), least, mean, greatest)
        })
        .collect()
}

pub fn assert_same(found: &[Bucket], expected: &[(i64, u32, f64, f64, f64)], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: number of buckets");
    for (bucket, (start, count, least, mean, greatest)) in found.iter().zip(expected) {
        let spread = bucket.air_temperature;
        assert_eq!((bucket.start.timestamp(), bucket.count), (*start, *count), "{what}");
        for (one, other) in [(spread.min.0, least), (spread.mean.0, mean), (spread.max.0, greatest)] {
            assert!((one - other).abs() < 1e-6, "{what}: {one} is not {other}");
        }
    }
}

async fn assert_charts(store: &Running, model: &[(DateTime<Utc>, f64)], what: &str) {
    let (since, until) = (date("2026-05-31T00:00:00Z"), date("2026-06-10T00:00:00Z"));
    for step in STEPS {
        let found = store.handle.history(since, until, Duration::from_secs(step)).await.unwrap();
        assert_same(&found, &expected(model, since, until, step), &format!("{what}, step {step}"));
    }
}

#[tokio::test]
async fn rollups_say_what_the_readings_say() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 3_000, Duration::from_secs(97), &mut model).await;
    assert_charts(&store, &model, "three days").await;
    let (since, until) = (date("2026-05-31T00:00:00Z"), date("2026-06-10T00:00:00Z"));
    // No whole number of buckets: rounded up.
    let found = store.handle.history(since, until, Duration::from_secs(450)).await.unwrap();
    assert_eq!(found[0].length, Duration::from_secs(600));
    assert_same(&found, &expected(&model, since, until, 600), "step 450");
    store.stop().await;
}

#[tokio::test]
async fn a_crash_leaves_no_bucket_out_and_counts_none_twice() {
    let place = Place::new();
    let mut model = Vec::new();
    for run in 0..12 {
        let store = place.start_again(&format!("run{run}")).await;
        record(&place, &store, run * 41, 41, Duration::from_secs(47), &mut model).await;
        assert_charts(&store, &model, &format!("run {run}")).await;
        // As a kill leaves it: nothing is written at the end.
        store.task.abort();
        assert!(store.task.await.unwrap_err().is_cancelled());
    }
}

#[tokio::test]
async fn a_clock_that_steps_back_adds_to_the_buckets_that_were_closed() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 200, Duration::from_secs(60), &mut model).await;
    place.clock.set(|hands| hands.wall -= TimeDelta::hours(2));
    record(&place, &store, 200, 300, Duration::from_secs(60), &mut model).await;
    place.clock.set(|hands| hands.wall += TimeDelta::hours(7));
    record(&place, &store, 500, 100, Duration::from_secs(60), &mut model).await;
    assert_charts(&store, &model, "jumps").await;
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn readings_that_get_their_time_late_are_in_the_charts() {
    let place = Place::new();
    place.clock.set(|hands| {
        hands.wall = date("1970-01-01T00:00:10Z");
        hands.synchronised = false;
    });
    let mut store = place.start();
    for _ in 0..90 {
        store.append(1).await;
        place.clock.advance(Duration::from_secs(60));
    }
    place.clock.synchronise("2026-06-01T12:00:00Z");
    assert_eq!(store.page().await.readings.len(), 90);
    let page = store.page().await;
    let mut model: Vec<_> = page
        .readings
        .iter()
        .map(|(_, reading)| (reading.sample.stamp.time, reading.sample.measurement.air_temperature.0))
        .collect();
    record(&place, &store, 90, 50, Duration::from_secs(60), &mut model).await;
    assert_charts(&store, &model, "late").await;
    store.stop().await;
}

/// After a stop in order the clock goes on where it was saved, hours behind, and nothing says that it is wrong.
#[tokio::test(start_paused = true)]
async fn readings_that_are_corrected_leave_the_charts_where_they_were() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 700, Duration::from_secs(13), &mut model).await;
    store.stop().await;
    place.clock.set(|hands| {
        (hands.boot, hands.synchronised, hands.since_boot) = (2, false, Duration::from_secs(20));
        hands.wall += TimeDelta::seconds(20);
    });
    let store = place.start_as("second").unwrap();
    record(&place, &store, 700, 1_300, Duration::from_secs(13), &mut model).await;
    assert_charts(&store, &model, "as it seemed").await;
    let off = TimeDelta::hours(31) + TimeDelta::seconds(7);
    place.clock.set(|hands| {
        hands.wall += off;
        hands.synchronised = true;
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    model.iter_mut().skip(700).for_each(|(time, _)| *time += off);
    assert_charts(&store, &model, "as it was").await;
    record(&place, &store, 2_000, 100, Duration::from_secs(13), &mut model).await;
    assert_charts(&store, &model, "and on").await;
    store.stop().await;
    let store = place.start_as("third").unwrap();
    assert_charts(&store, &model, "opened again").await;
    store.stop().await;
}

/// The kernel's time comes soon after the start, and differs by little.
#[tokio::test(start_paused = true)]
async fn readings_that_are_moved_within_their_five_minutes_count_once() {
    let place = Place::new();
    place.clock.set(|hands| {
        hands.wall += TimeDelta::seconds(30);
        hands.synchronised = false;
    });
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 40, Duration::from_secs(17), &mut model).await;
    let off = TimeDelta::seconds(20);
    place.clock.set(|hands| {
        hands.wall += off;
        hands.synchronised = true;
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    model.iter_mut().for_each(|(time, _)| *time += off);
    assert_charts(&store, &model, "moved by little").await;
    store.stop().await;
}

/// The power is cut in the afternoon, and in the morning the store is found damaged.
#[tokio::test(start_paused = true)]
async fn the_hour_and_the_day_in_which_a_store_was_damaged_are_in_the_charts_of_the_next() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 100, Duration::from_secs(60), &mut model).await;
    let damaged = place.copy();
    store.stop().await;
    damaged.be_of_a_later_version();
    damaged.clock.advance(Duration::from_secs(18 * 3_600));
    let store = damaged.start_as("second").unwrap();
    store.events().await;
    let (since, until) = (date("2026-06-01T00:00:00Z"), date("2026-06-02T00:00:00Z"));
    // The five minutes that were not over are in none.
    for (step, expected) in [(3_600, vec![60, 35]), (86_400, vec![95])] {
        let buckets = store.handle.history(since, until, Duration::from_secs(step)).await.unwrap();
        let counts: Vec<u32> = buckets.iter().map(|bucket| bucket.count).collect();
        assert_eq!(counts, expected, "{step} s");
    }
    store.stop().await;
}

/// A station without a clock for long: opening its store does not read all of that again.
#[tokio::test(start_paused = true)]
async fn readings_of_unknown_time_are_passed_over_once() {
    let place = Place::new();
    let mut store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 50, Duration::from_secs(60), &mut model).await;
    place.clock.set(|hands| {
        hands.wall = date("1970-01-01T00:00:10Z");
        hands.boot = 2;
        hands.synchronised = false;
    });
    store.append(2_500).await;
    store.stop().await;
    let connection = rusqlite::Connection::open(place.path()).unwrap();
    let rolled_up: i64 =
        connection.query_row("SELECT rolled_up FROM progress", [], |row| row.get(0)).unwrap();
    assert!(rolled_up > 1_500, "{rolled_up}");
    drop(connection);
    place.clock.set(|hands| {
        hands.wall = date("2026-06-02T12:00:00Z");
        hands.since_boot += Duration::from_secs(60);
        hands.synchronised = true;
    });
    let store = place.start_as("second").unwrap();
    let page = store.handle.pending(None, 10_000).await.unwrap();
    assert_eq!(page.readings.len(), 2_550);
    model.extend(
        page.readings
            .iter()
            .skip(50)
            .map(|(_, reading)| (reading.sample.stamp.time, reading.sample.measurement.air_temperature.0)),
    );
    record(&place, &store, 50, 30, Duration::from_secs(60), &mut model).await;
    assert_charts(&store, &model, "unknown for long").await;
    store.stop().await;
}

/// In between there is a turn for a sample, and one that the watchdog sees.
#[tokio::test]
async fn of_many_who_look_at_charts_one_is_answered_at_a_time() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 10, Duration::from_secs(60), &mut model).await;
    let before = store.turns.load(Ordering::Relaxed);
    let mut visitors = JoinSet::new();
    for _ in 0..30 {
        let handle = store.handle.clone();
        let (since, until) = (date("2026-06-01T12:00:00Z"), date("2026-06-01T13:00:00Z"));
        visitors.spawn(async move { handle.history(since, until, Duration::from_secs(300)).await });
    }
    let expected = expected(&model, model[0].0, DateTime::<Utc>::MAX_UTC, 300);
    while let Some(found) = visitors.join_next().await {
        assert_same(&found.unwrap().unwrap(), &expected, "each");
    }
    let turns = store.turns.load(Ordering::Relaxed) - before;
    // The first was answered in the turn before.
    assert!(turns >= 29, "{turns} turns for 30 questions");
    store.stop().await;
}

#[tokio::test]
async fn a_report_counts_from_its_moment_on() {
    let place = Place::new();
    let store = place.start();
    let mut model = Vec::new();
    record(&place, &store, 0, 2_000, Duration::from_secs(97), &mut model).await;
    for since in
        ["2026-06-01T12:00:00Z", "2026-06-01T12:34:56Z", "2026-06-02T23:59:59Z", "2026-06-03T17:00:01Z"]
    {
        let since = date(since);
        let values: Vec<f64> =
            model.iter().filter(|(time, _)| *time >= since).map(|(_, value)| *value).collect();
        let report = store.handle.report(since).await.unwrap().unwrap();
        assert_eq!(report.count as usize, values.len(), "since {since}");
        let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!((report.air_temperature.max.0 - greatest).abs() < 1e-6);
    }
    assert_eq!(store.handle.report(place.clock.timekeeper().now()).await.unwrap(), None);
    store.stop().await;
}
