//! How readings flow: several in a message, the ceiling, the ETA, transfers that a link or a hub bounds, and the end.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_emulator::{Cut, Emulator, Fault, HubError, Options, TokenAnswer};
use tokio::time::Instant;
use weather_station::cloud::Limits;
use weather_station::status::{CloudState, CloudStatus};

use crate::rig::{Plan, Rig, say, write_key};

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub fn hub() -> Emulator {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub
}

/// No sensor: the test says what there is to send.
pub fn still(hub: &Emulator) -> Plan {
    Plan { every: None, ..Plan::new(hub) }
}

fn times(hub: &Emulator) -> Vec<DateTime<Utc>> {
    hub.messages().iter().map(|message| message.received.parse().unwrap()).collect()
}

#[test]
fn the_limits_of_the_field() {
    let limits = Limits::default();
    // A half-open connection is noticed in under 75 s, idle or not.
    assert!(limits.idle + limits.turn < seconds(75));
    assert!(limits.write < seconds(75) && limits.outcome < seconds(75) && limits.send < seconds(75));
    // The hub forgets a silent peer after 120 s; some box on the way after 240 s.
    assert!(limits.keep_alive <= seconds(60));
    // "A running station picks a new identity up within a minute."
    assert!(limits.look + limits.sign < seconds(60));
    assert_eq!(limits.hurry, 1);
}

/// In the field's own times with WEATHER_STATION_SLOW=1, else in a sixth of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_open_connection_is_noticed_in_75_seconds_at_the_fields_settings() {
    let share = if std::env::var_os("WEATHER_STATION_SLOW").is_some() { 1 } else { 6 };
    let half_open = |every: Option<Duration>| async move {
        let hub = hub();
        let mut plan = Plan { every, ..Plan::new(&hub) };
        let field = Limits::default();
        plan.limits = Limits {
            clock: Duration::ZERO,
            idle: field.idle / share,
            keep_alive: field.keep_alive / share,
            write: field.write / share,
            outcome: field.outcome / share,
            send: field.send / share,
            turn: field.turn / share,
            ..field
        };
        let mut rig = Rig::start(&hub, plan);
        rig.append(10).await;
        rig.online(seconds(10)).await;
        hub.wait_for(10, seconds(10)).await.unwrap();
        hub.fault(Fault::BlackHole { existing: true, new: true });
        rig.until("noticed", seconds(75), |status| status.state != CloudState::Online).await
    };
    let (idle, sending) = tokio::join!(half_open(None), half_open(Some(Duration::from_millis(50))));
    say(format_args!("half-open: noticed in {idle:?} idle, in {sending:?} while sending"));
    // Timers of the station, and no work: a busy machine is no excuse.
    assert!(idle < seconds(75) / share && sending < seconds(75) / share);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_readings_wait_until_the_message_is_full_or_asked_for() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.readings_per_message = 10;
    let mut rig = Rig::start(&hub, plan);
    rig.append(25).await;
    rig.online(seconds(10)).await;
    hub.wait_for(2, seconds(5)).await.unwrap();
    rig.settings.send_modify(|_| {});
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(hub.count(), 2, "a message that is not full went out");
    assert_eq!(hub.messages()[1].json().as_array().unwrap().len(), 10);
    rig.flush.notify_one();
    hub.wait_for(3, seconds(5)).await.unwrap();
    let last = hub.messages()[2].clone();
    let sequences: Vec<_> = last.json().as_array().unwrap().iter().map(|r| r["sequence"].clone()).collect();
    assert_eq!(sequences, [21, 22, 23, 24, 25]);
    let store_id = rig.board.store.borrow().store_id.clone();
    assert_eq!(last.message_id.as_deref(), Some(format!("{store_id}-run1-21-25").as_str()));
    let account = rig.finish(&hub, seconds(5)).await;
    assert_eq!((account.readings, account.duplicates), (25, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_not_full_goes_after_as_many_intervals_as_it_has_readings() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.readings_per_message = 10;
    plan.config.sensor.interval = Duration::from_millis(100);
    let mut rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    let appended = Instant::now();
    rig.append(3).await;
    hub.wait_for(1, seconds(5)).await.unwrap();
    let waited = appended.elapsed();
    assert!(waited > Duration::from_millis(900) && waited < seconds(3), "{waited:?}");
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_message_that_the_hub_would_not_take_goes_in_parts_at_once_and_the_batch_cuts_none() {
    let hub = hub();
    let device = "d".repeat(128);
    hub.add_device(&device);
    for (device, altitude, messages) in [(device.as_str(), Some(120.0), 2), ("roof", None, 1)] {
        let before = hub.count();
        let mut plan = Plan { device: device.into(), ..still(&hub) };
        plan.config.station.altitude = altitude;
        plan.config.telemetry.readings_per_message = if messages == 1 { 200 } else { 1000 };
        let count = plan.config.telemetry.readings_per_message as u64;
        let mut rig = Rig::start(&hub, plan);
        rig.append(count).await;
        rig.online(seconds(10)).await;
        // An interval is a minute.
        rig.all_accepted(seconds(10)).await;
        assert_eq!(hub.count() - before, messages);
        rig.stop_cloud().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_that_went_together_go_together_again() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.readings_per_message = 10;
    let mut rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    hub.fault(Fault::AckLost { how: Cut::Rst }.times(1));
    rig.append(4).await;
    // Who asks before all are on disk has those that are sent alone.
    rig.until_stored(4, seconds(5)).await;
    rig.flush.notify_one();
    rig.until("the loss", seconds(3), |status| status.state != CloudState::Online).await;
    rig.append(30).await;
    rig.until("the next connection", seconds(5), |status| status.connections == 2).await;
    rig.flush.notify_one();
    // Another message-id for one of the four would fail the account.
    let account = rig.finish(&hub, seconds(5)).await;
    assert_eq!((account.readings, account.duplicates), (34, 4));
}

/// The process before this one has noted it, and the store cannot be opened before this one is online.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_that_went_together_go_together_again_from_a_store_that_comes_late() {
    let hub = hub();
    let plan = || {
        let mut plan = still(&hub);
        plan.config.telemetry.readings_per_message = 10;
        plan
    };
    let mut rig = Rig::start(&hub, plan());
    rig.online(seconds(10)).await;
    hub.fault(Fault::AckLost { how: Cut::Rst }.times(1));
    hub.fault(Fault::BlackHole { existing: false, new: true });
    rig.append(4).await;
    rig.until_stored(4, seconds(5)).await;
    rig.flush.notify_one();
    hub.wait_for(1, seconds(5)).await.unwrap();
    let folder = rig.cut_off().await;
    hub.clear_faults();

    let lock = folder.path().join("readings.db.lock");
    std::fs::remove_file(&lock).unwrap();
    std::fs::create_dir(&lock).unwrap();
    let mut rig = Rig::start(&hub, Plan { folder: Some(folder), ..plan() });
    rig.append(30).await;
    rig.online(seconds(10)).await;
    rig.until("the store's trouble", seconds(5), |status| status.reason.is_some()).await;
    std::fs::remove_dir(&lock).unwrap();
    rig.until_stored(34, seconds(30)).await;
    rig.all_accepted(seconds(20)).await;
    // Another message-id for one of the four would fail the account.
    let account = rig.finish(&hub, seconds(5)).await;
    assert_eq!((account.readings, account.duplicates), (34, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_second_sees_more_messages_than_the_ceiling_and_the_backlog_has_an_eta() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.max_messages_per_second = 200;
    let mut rig = Rig::start(&hub, plan);
    rig.append(1000).await;
    rig.online(seconds(10)).await;
    rig.until("an ETA", seconds(4), |status| status.eta.is_some()).await;
    let (eta, pending) = (rig.cloud().eta.unwrap(), rig.board.store.borrow().pending);
    let left = (eta - rig.timekeeper.now()).num_milliseconds();
    let expected = i64::try_from(pending * 5).unwrap();
    assert!((left - expected).abs() < 2500, "ETA in {left} ms for {pending} readings at 200/s");
    rig.all_accepted(seconds(10)).await;
    rig.until("no ETA", seconds(2), |status| status.eta.is_none()).await;
    let account = rig.finish(&hub, seconds(10)).await;
    assert_eq!((account.readings, account.duplicates), (1000, 0));
    // The hub's clock sees them a little closer together than they were sent.
    assert_ceiling(&hub, 260);
}

fn assert_ceiling(hub: &Emulator, most: usize) {
    let times = times(hub);
    assert!(times.len() > most, "too few to tell: {}", times.len());
    for (index, time) in times.iter().enumerate() {
        let within =
            times[index..].iter().take_while(|t| **t - *time < chrono::TimeDelta::seconds(1)).count();
        assert!(within <= most, "{within} messages in one second");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_keep_below_the_ceiling_too() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.max_messages_per_second = 12;
    let rig = Rig::start(&hub, plan);
    for _ in 0..40 {
        rig.store.record_event("missedSamples", serde_json::Map::new()).await.unwrap();
    }
    let account = rig.finish_events(&hub, seconds(20)).await;
    assert_eq!(account.events.len(), 40);
    assert_ceiling(&hub, 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_takes_nothing_leaves_no_eta() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.max_messages_per_second = 100;
    let mut rig = Rig::start(&hub, plan);
    rig.append(1000).await;
    rig.online(seconds(10)).await;
    rig.until("an ETA", seconds(5), |status| status.eta.is_some()).await;
    hub.set_behaviour(|behaviour| behaviour.daily_quota = 1);
    let held_up = |status: &CloudStatus| status.reason.as_ref().is_some_and(|why| why.contains("quota"));
    rig.until("the quota is spent", seconds(10), held_up).await;
    rig.until("no ETA", seconds(1), |status| status.state == CloudState::Online && status.eta.is_none())
        .await;
    hub.set_behaviour(|behaviour| behaviour.daily_quota = 0);
    rig.finish(&hub, seconds(30)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_takes_less_gets_smaller_transfers() {
    let mut options = Options::default();
    options.behaviour.max_message_size = 9_000;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    let mut rig = Rig::start(&hub, still(&hub));
    rig.append(500).await;
    let account = {
        rig.online(seconds(10)).await;
        rig.finish(&hub, seconds(10)).await
    };
    assert_eq!((account.readings, account.duplicates, account.missing.len()), (500, 0, 0));
    assert_eq!(hub.events_of("connect").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_never_more_than_one_attempt_a_second() {
    let hub = hub();
    hub.fault(Fault::PutToken { answer: TokenAnswer::ServerError });
    let mut plan = still(&hub);
    plan.limits.hurry = 1;
    let mut rig = Rig::start(&hub, plan);
    rig.append(10).await;
    let connects = hub.wait_for_events(4, seconds(25), |event| event.kind == "connect").await.unwrap();
    for pair in connects.windows(2) {
        assert!(pair[1].millis - pair[0].millis >= 990, "{} and {}", pair[0].millis, pair[1].millis);
    }
    let turns = rig.turns.load(Ordering::Relaxed);
    assert!(turns > 10, "a failed attempt counts as turning: {turns}");
    rig.stop_cloud().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_flight_is_finished_before_the_end() {
    let hub = hub();
    hub.fault(Fault::DispositionLate { millis: 1000 });
    let mut rig = Rig::start(&hub, still(&hub));
    rig.append(30).await;
    hub.wait_for(30, seconds(10)).await.unwrap();
    let started = Instant::now();
    rig.stop_cloud().await;
    assert!(started.elapsed() < seconds(3));
    rig.all_accepted(seconds(1)).await;
    assert_eq!(rig.cloud().state, CloudState::Offline);
    let closed = hub.wait_for_events(1, seconds(2), |event| event.kind == "close").await;
    assert!(closed.is_ok(), "the connection was not closed politely: {:?}", hub.events());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_never_answers_does_not_hold_the_station_up() {
    let hub = hub();
    hub.fault(Fault::DispositionNever);
    let mut plan = still(&hub);
    plan.limits = Limits { clock: Duration::ZERO, ..Limits::default() };
    let mut rig = Rig::start(&hub, plan);
    rig.append(30).await;
    hub.wait_for(30, seconds(10)).await.unwrap();
    let started = Instant::now();
    rig.stop_cloud().await;
    assert!(started.elapsed() < seconds(7), "{:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_does_not_resolve_is_named_and_tried_again() {
    let hub = hub();
    let mut rig = Rig::start(&hub, still(&hub));
    rig.append(10).await;
    rig.online(seconds(10)).await;
    let good = std::fs::read_to_string(&rig.key_file).unwrap();
    write_key(&rig.key_file, &good.replace("localhost", "no-such-hub.invalid"));
    hub.fault(Fault::Drop { how: Cut::Fin });
    rig.until("the reason", seconds(5), |status| {
        status.reason.as_ref().is_some_and(|reason| reason.contains("looking up no-such-hub.invalid"))
    })
    .await;
    write_key(&rig.key_file, &good);
    rig.online(seconds(5)).await;
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_stations_with_one_identity_do_not_fight() {
    let hub = hub();
    let mut plan = still(&hub);
    // Minutes in the field, a twentieth of them here.
    plan.limits.hurry = 20;
    let first = Rig::start(&hub, plan);
    first.online(seconds(10)).await;
    let second = Rig::start(&hub, Plan { seed: 2, ..still(&hub) });
    second.online(seconds(10)).await;
    first
        .until("the theft", seconds(3), |status| {
            status.reason.as_ref().is_some_and(|reason| reason.contains("another station signs in"))
        })
        .await;
    tokio::time::sleep(seconds(4)).await;
    let connects = hub.events_of("connect").len();
    assert!(connects <= 3, "{connects} connections in a few seconds");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attach_that_is_refused_at_once_again_and_again_does_no_harm() {
    // A fast refusal makes the AMQP library send a detach that hits the next link (IllegalState): a new
    // connection mends it.
    let hub = hub();
    let error = HubError::throttled(None);
    hub.fault(Fault::RefuseAttach { link: None, error }.times(5));
    let mut rig = Rig::start(&hub, still(&hub));
    rig.append(50).await;
    let account = {
        rig.until("a delivery", seconds(20), |status| status.accepted > 0).await;
        rig.finish(&hub, seconds(5)).await
    };
    assert_eq!(account.readings, 50);
}
