//! SIGKILL at random moments, while the hub drops connections and loses acknowledgements: every reading that was synced
//! is in the hub in the end, no sequence is missing, and what came twice came under the same message-id.

use std::collections::BTreeMap;
use std::time::Duration;

use hub_emulator::{Cut, Emulator, Fault, Options};

use crate::support::station::{Station, request, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_synced_survives_any_number_of_kills() {
    kills(if crate::store::slow() { 240 } else { 60 }, "").await;
}

/// Readings that wait to be synced together are promised when they were.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_was_synced_together_survives_any_number_of_kills() {
    kills(if crate::store::slow() { 240 } else { 20 }, "max_loss = \"50ms\"").await;
}

async fn kills(kills: u32, settings: &str) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut random = fastrand::Rng::with_seed(20_261_124);
    let mut station =
        Station::start(dir.path(), &format!("{}\n{settings}\n", crate::config(dir.path(), &hub)));
    let mut promised = 0;
    for kill in 0..kills {
        if kill > 0 {
            station.start_again();
        }
        match random.u8(..4) {
            0 => drop(hub.fault(Fault::AckLost { how: Cut::Rst }.times(1))),
            1 => drop(hub.fault(Fault::AckLost { how: Cut::Fin }.times(2))),
            2 => drop(hub.fault(Fault::CutOnTransfer { how: Cut::Rst }.times(1))),
            _ => {}
        }
        if random.u8(..5) == 0 {
            // Killed while it starts.
            tokio::time::sleep(Duration::from_millis(random.u64(..150))).await;
        } else {
            promised = promised.max(live(&station, &hub, &mut random, promised).await);
        }
        station.kill();
        hub.clear_faults();
    }
    station.start_again();
    let status = station
        .until("everything is accepted", Duration::from_secs(60), |status| {
            status["store"]["pending"] == 0 && status["store"]["lastSequence"].as_u64() >= Some(promised)
        })
        .await;
    let store = status["station"]["storeId"].as_str().unwrap().to_owned();
    station.terminate();
    assert_eq!(station.wait(Duration::from_secs(10)).await.code(), Some(0));

    let mut first_seen: Vec<u64> = Vec::new();
    let mut seen: BTreeMap<u64, (String, String)> = BTreeMap::new();
    let mut duplicates = 0;
    for message in hub.messages_of("roof") {
        let body = message.json();
        assert_eq!(body["storeId"], store.as_str(), "the store was replaced: {}", station.log_text());
        assert!(body.get("event").is_none(), "an event: {body}");
        let sequence = body["sequence"].as_u64().unwrap();
        let named = (message.message_id.clone().unwrap(), message.text().to_owned());
        match seen.insert(sequence, named.clone()) {
            None => first_seen.push(sequence),
            Some(before) => {
                duplicates += 1;
                assert_eq!(before, named, "two readings share the sequence {sequence}");
            }
        }
    }
    assert!(promised > u64::from(kills), "only {promised} readings were synced in {kills} lives");
    assert_eq!(first_seen, (1..=first_seen.len() as u64).collect::<Vec<_>>(), "a hole, or out of order");
    assert!(first_seen.len() as u64 >= promised, "synced up to {promised}, the hub has {}", first_seen.len());
    assert!(duplicates > 0, "no acknowledgement was lost: the test tests nothing");
}

/// Takes readings until a random moment after the first synced one. Returns the sequence that the station says is on
/// disk.
async fn live(station: &Station, hub: &Emulator, random: &mut fastrand::Rng, before: u64) -> u64 {
    let page = station.page;
    let mut synced = before;
    let answering = wait_for("the station's page", Duration::from_secs(20), || async move {
        request(page, "POST", "/api/read").await
    });
    answering.await;
    for _ in 0..random.u32(1..12) {
        request(page, "POST", "/api/read").await;
        if let Some(status) = station.status().await {
            synced = synced.max(status["store"]["lastSequence"].as_u64().unwrap_or(0));
        }
        if random.u8(..10) == 0 {
            hub.fault(Fault::Drop { how: Cut::Rst });
        }
    }
    tokio::time::sleep(Duration::from_millis(random.u64(..60))).await;
    synced
}
