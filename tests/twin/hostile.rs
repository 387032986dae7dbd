//! A hub that is silent, refuses, forgets, or sends what no hub would: telemetry flows, and afterwards the station can
//! be steered as before.

use std::time::Duration;

use futures_util::future::join_all;
use hub_emulator::{Call, Cut, Fault, HubError, LinkKind};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bench::{Bench, DEVICE, SOON};

const SENSOR: &str = "[sensor]\nsource = \"simulated\"\ninterval = \"1s\"";

/// Readings go on being accepted from now on.
async fn telemetry_flows(bench: &Bench) {
    let before = bench.hub.messages_of(DEVICE).len() as u64;
    if let Err(error) = bench.hub.wait_for(before + 2, SOON).await {
        panic!("{error}\n{}", bench.station.log_text());
    }
}

/// A property that is set is answered, a method too.
async fn it_can_be_steered(bench: &Bench) {
    let days = 1 + bench.hub.messages_of(DEVICE).len();
    let answer = bench.desire(&json!({"keepDays": days, "sampleInterval": 1}), "keepDays").await;
    assert_eq!((&answer["value"], &answer["ac"]), (&json!(days), &json!(200)));
    assert_eq!(bench.call("flush", &Value::Null).await.status, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_answers_nothing_about_the_twin_holds_up_neither_telemetry_nor_methods() {
    let bench = Bench::start_offline(SENSOR, |hub| _ = hub.fault(Fault::TwinSilent));
    telemetry_flows(&bench).await;
    assert_eq!(bench.call("flush", &Value::Null).await.status, Some(200));
    let asked = bench.hub.events_of("twin");
    assert_eq!(asked.len(), 1, "one request is out, and it is not repeated in a hurry: {asked:?}");
    bench.hub.clear_faults();
    bench.hub.fault(Fault::Drop { how: Cut::Rst });
    it_can_be_steered(&bench).await;
}

/// Each request about the twin is refused, whatever it asks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_refuses_about_the_twin_is_asked_again_on_the_next_links() {
    let refusals = [(429, "{}"), (500, "no JSON"), (404, "")];
    join_all(refusals.map(|(status, body)| refuses_about_the_twin(status, body))).await;
}

async fn refuses_about_the_twin(status: i32, body: &str) {
    let body = body.to_owned();
    let begin = Instant::now();
    let bench = Bench::start_offline(SENSOR, |hub| _ = hub.fault(Fault::TwinError { status, body }));
    telemetry_flows(&bench).await;
    assert_eq!(bench.call("flush", &Value::Null).await.status, Some(200));
    let asked = bench.hub.events_of("twin");
    let most = 1 + begin.elapsed().as_secs() / 5;
    assert!((1..=most).contains(&(asked.len() as u64)), "it is not repeated in a hurry: {asked:?}");
    let log = bench.station.log_text();
    assert!(log.contains(&format!("status={status}")), "the log names the status {status}: {log}");
    bench.hub.clear_faults();
    let error = HubError::new("amqp:link:detach-forced");
    bench.hub.fault(Fault::DetachLinks { link: Some(LinkKind::Twin), error });
    it_can_be_steered(&bench).await;
    assert_eq!(bench.hub.connections().len(), 1, "it took no other connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_twins_still_takes_telemetry_and_calls_methods() {
    let bench = Bench::start_offline(SENSOR, |hub| {
        let error = HubError::new("amqp:not-allowed");
        hub.fault(Fault::RefuseAttach { link: Some(LinkKind::Twin), error });
    });
    telemetry_flows(&bench).await;
    assert_eq!(bench.call("flush", &Value::Null).await.status, Some(200));
    assert_eq!(bench.hub.connections().len(), 1, "one connection, and it is the first");
    let status = bench.station.status().await.unwrap();
    assert_eq!((&status["cloud"]["state"], &status["cloud"]["connections"]), (&json!("online"), &json!(1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_were_detached_come_back_on_the_same_connection_and_nothing_is_missed() {
    let bench = Bench::start(SENSOR).await;
    for link in [LinkKind::Twin, LinkKind::Methods, LinkKind::CloudToDevice] {
        let error = HubError::new("com.microsoft:device-container-throttled");
        bench.hub.fault(Fault::DetachLinks { link: Some(link), error });
    }
    telemetry_flows(&bench).await;
    // Throttled it waits 10 s at most; where its first attempt fails on a busy machine, 20 s more.
    let (response_time_out, connect_time_out) = (2 * SOON, 2 * SOON);
    let call = Call { name: "flush".into(), payload: Vec::new(), response_time_out, connect_time_out };
    assert_eq!(bench.hub.invoke_call(DEVICE, call).await.unwrap().status, Some(200));
    let id = bench.hub.send_c2d(DEVICE, b"hello", []).unwrap();
    bench.hub.wait_for_c2d(id, SOON).await.unwrap();
    it_can_be_steered(&bench).await;
    let status = bench.station.status().await.unwrap();
    assert_eq!(status["cloud"]["connections"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_was_away_is_told_why_the_connection_before_was_lost() {
    let bench = Bench::start(SENSOR).await;
    bench.hub.stop();
    bench.station.until("offline", SOON, |status| status["cloud"]["state"] == "offline").await;
    bench.hub.start_again().unwrap();
    let reason = |reported: &Value| reported["lastError"].as_str().unwrap_or_default().to_owned();
    let reported = bench.until_reported("the reason", |reported| !reason(reported).is_empty()).await;
    assert!(reason(&reported).starts_with("cloud: could not "), "{}", reason(&reported));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_form_of_the_hubs_answers_is_understood() {
    for (version, empty, annotated, status) in [(false, false, false, 204), (true, true, true, 200)] {
        let bench = Bench::start_offline(SENSOR, |hub| {
            hub.set_behaviour(|behaviour| {
                behaviour.twin_version = version;
                behaviour.twin_empty_body = empty;
                behaviour.push_annotations = annotated;
                behaviour.twin_patch_status = status;
                behaviour.null_terminus = !annotated;
            });
        });
        it_can_be_steered(&bench).await;
        it_can_be_steered(&bench).await;
        let gets = bench.hub.events_of("twin").into_iter().filter(|event| event.detail["operation"] == "GET");
        assert_eq!(gets.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_the_hostile_corpus_stops_the_station_or_leaves_a_setting_out_of_range() {
    let bench = Bench::start(SENSOR).await;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/hostile");
    let corpus: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    for bytes in &corpus {
        for method in ["readNow", "getReport", "no such method"] {
            let call = Call {
                name: method.into(),
                payload: bytes.clone(),
                response_time_out: Duration::from_secs(5),
                connect_time_out: SOON,
            };
            bench.hub.invoke_call(DEVICE, call).await.unwrap();
        }
        bench.hub.push_raw(DEVICE, &String::from_utf8_lossy(bytes), Some(90));
        bench.hub.send_c2d(DEVICE, bytes, []).ok();
    }
    // Larger than any link takes: it costs the link, not the memory.
    let large = Call {
        name: "flush".into(),
        payload: vec![b' '; 700_000],
        response_time_out: Duration::from_secs(1),
        connect_time_out: SOON,
    };
    bench.hub.invoke_call(DEVICE, large).await.unwrap_err();
    telemetry_flows(&bench).await;
    // As answers to GET each needs a connection of its own, and those are not made in a hurry: three of them.
    for bytes in corpus.iter().step_by(12) {
        let body = String::from_utf8_lossy(bytes).into_owned();
        bench.hub.clear_faults();
        bench.hub.fault(Fault::TwinBody { body }.times(1));
        let gets = |hub: &hub_emulator::Emulator| {
            hub.events_of("twin").iter().filter(|event| event.detail["operation"] == "GET").count()
        };
        let before = gets(&bench.hub);
        bench.hub.fault(Fault::Drop { how: Cut::Fin });
        let is_get = |event: &hub_emulator::Event| event.kind == "twin" && event.detail["operation"] == "GET";
        bench.hub.wait_for_events(before + 1, SOON, is_get).await.unwrap();
    }
    bench.hub.clear_faults();
    bench.hub.fault(Fault::Drop { how: Cut::Fin });
    it_can_be_steered(&bench).await;
    telemetry_flows(&bench).await;
    let log = bench.station.log_text();
    assert!(!log.contains("panicked"), "{log}");
}
