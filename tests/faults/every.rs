//! Runs the table of faults, by AMQP's own port and by WebSocket: one station and one hub a row, a dozen at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hub_emulator::{Cut, Emulator, Fault, Options};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use weather_station::config::Transport;
use weather_station::status::CloudState;

use crate::rig::{Plan, Rig, say};
use crate::table::{Notice, Row, seconds, table};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_noticed_and_recovered_from_in_time() {
    every_row(Transport::Amqp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_fault_is_noticed_and_recovered_from_in_time_over_websocket() {
    every_row(Transport::Websocket).await;
}

/// More of them on two processors would measure the processors.
const AT_ONCE: usize = 12;

/// `FAULT=half-open` runs only the rows with that in their name.
async fn every_row(transport: Transport) {
    let only = std::env::var("FAULT").unwrap_or_default();
    let rows: Vec<_> = table().into_iter().filter(|row| row.name.contains(&only)).collect();
    assert!(!rows.is_empty(), "no row has {only:?} in its name");
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let places = &places;
    let runs = rows.into_iter().map(|row| async move {
        let name = row.name;
        let places = Arc::clone(places);
        let run = tokio::spawn(async move {
            let _place = places.acquire_owned().await;
            run(row, transport).await
        });
        (name, run.await)
    });
    let mut failed = Vec::new();
    for (name, result) in join_all(runs).await {
        match result {
            Ok(line) => say(format_args!("{transport:?} {name:40} {line}")),
            Err(error) => failed.push(format!("{name}: {}", error.to_string().replace("\\n", " "))),
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn run(row: Row, transport: Transport) -> String {
    let mut options = Options::default();
    (row.behaviour)(&mut options.behaviour);
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    let mut plan = Plan::new(&hub);
    plan.config.hub.transport = transport;
    (row.more)(&mut plan);
    let idle = plan.every.is_none();
    let mut rig = Rig::start(&hub, plan);
    rig.append(100).await;
    rig.online(seconds(10)).await;
    hub.wait_for(100, seconds(10)).await.unwrap();
    if idle {
        // Its last word has come, too: nothing is in flight.
        rig.until("accepted", seconds(10), |s| s.last_accepted_sequence >= 100).await;
    }
    let before = rig.cloud().connections;
    for fault in (row.faults)() {
        if row.once {
            hub.fault(fault.times(1))
        } else {
            hub.fault(fault)
        };
    }
    if row.kick {
        hub.fault(Fault::Drop { how: Cut::Fin });
    }
    let injected = Instant::now();
    // Deliveries are in flight when it strikes, or come to be right after.
    rig.append(row.backlog.saturating_sub(100)).await;
    let left = row.noticed.saturating_sub(injected.elapsed()).max(Duration::from_millis(100));
    match row.notice {
        Notice::Offline => {
            rig.until("noticed", left, |s| s.state != CloudState::Online || s.connections != before).await;
        }
        Notice::Says(text) | Notice::HeldUp(text) => {
            rig.until(text, left, |s| s.reason.as_ref().is_some_and(|r| r.contains(text))).await;
        }
        Notice::Nothing => {
            rig.append(100).await;
            // The fault is there until it has met all of them.
            let all = rig.stored();
            rig.until("all accepted", row.recovered, |s| s.last_accepted_sequence >= all).await;
        }
    }
    let noticed = injected.elapsed();
    if matches!(row.notice, Notice::HeldUp(_)) {
        assert_eq!(rig.cloud().state, CloudState::Online, "the connection was given up");
    }
    if row.aside > 0 {
        rig.until_aside(row.aside, seconds(8)).await;
    }
    hub.clear_faults();
    let cleared = Instant::now();
    rig.append(20).await;
    rig.online(row.recovered).await;
    if matches!(row.notice, Notice::Nothing) {
        let cloud = rig.cloud();
        assert_eq!(
            (cloud.state, cloud.connections),
            (CloudState::Online, before),
            "it was to be seen: {cloud:?}"
        );
    }
    let account = rig.finish(&hub, row.recovered.saturating_sub(cleared.elapsed())).await;
    // A transfer that the hub gave back was overtaken by those that were on their way behind it.
    let given_back = matches!(row.notice, Notice::HeldUp(_)) || row.aside > 0;
    assert!(account.late == 0 || given_back, "{} readings came late", account.late);
    let dead_letters = account.events.iter().filter(|event| event["event"] == "deadLetter").count() as u64;
    assert_eq!((account.missing.len() as u64, dead_letters), (row.aside, row.aside));
    format!(
        "noticed {:5} ms, recovered {:5} ms, {} readings, {} duplicates",
        noticed.as_millis(),
        cleared.elapsed().as_millis(),
        account.readings,
        account.duplicates
    )
}
