//! What comes from the hub while a backlog goes to it: calls, changes of the twin, and many small frames either way.

use futures_util::future::join_all;
use hub_emulator::{C2dState, Call, Emulator, Event, Fault, HubError, LinkKind, Options};
use serde_json::{Value, json};

use crate::flow::{hub, seconds, still};
use crate::rig::{Plan, Rig};
use crate::support::station::wait_for;

/// Calls so often at the same time; how many were answered.
async fn burst(hub: &Emulator, calls: usize) -> usize {
    let calls = (0..calls).map(|_| hub.invoke("roof", "getStatus", &Value::Null, seconds(5)));
    join_all(calls).await.iter().filter(|answer| answer.is_ok()).count()
}

/// Waits until a change of the twin and a call would reach the station.
async fn until_steered(hub: &Emulator) {
    let (name, payload) = ("getStatus".to_owned(), b"null".to_vec());
    let call = Call { name, payload, response_time_out: seconds(10), connect_time_out: seconds(10) };
    hub.invoke_call("roof", call).await.unwrap();
    let subscribed = |event: &Event| event.kind == "twin" && event.detail["operation"] == "PUT";
    hub.wait_for_events(1, seconds(10), subscribed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_in_small_frames_and_what_comes_meanwhile_do_not_block_each_other() {
    let mut options = Options::default();
    options.behaviour.max_frame_size = 512;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    hub.fault(Fault::NoCredit);
    let mut plan = still(&hub);
    plan.config.telemetry.batch = 500;
    let mut rig = Rig::start(&hub, plan);
    rig.append(3000).await;
    until_steered(&hub).await;
    rig.until_stored(3000, seconds(20)).await;
    hub.clear_faults();
    let (mut asked, mut answered) = (0, 0);
    while rig.board.store.borrow().pending > 0 {
        for change in 0..30 {
            hub.set_desired("roof", &json!({ "unknown": asked + change })).unwrap();
        }
        answered += burst(&hub, 30).await;
        asked += 30;
    }
    let account = rig.finish(&hub, seconds(10)).await;
    assert_eq!((account.readings, account.duplicates), (3000, 0));
    assert_eq!(hub.events_of("connect").len(), 1, "the connection was given up");
    assert_eq!(answered, asked, "calls were lost");
}

/// A replacement is pushed as it is: what it removes only the whole twin tells.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replacement_of_the_twin_removes_goes_back_to_the_file_on_the_same_connection() {
    let hub = hub();
    let rig = Rig::start(&hub, still(&hub));
    until_steered(&hub).await;
    let mut settings = rig.settings.subscribe();
    let of_the_file = settings.borrow().keep;
    let days = |days: u64| seconds(days * 24 * 3600);
    let gets = |event: &Event| event.kind == "twin" && event.detail["operation"] == "GET";
    hub.set_desired("roof", &json!({"keepDays": 9, "altitude": 100})).unwrap();
    settings.wait_for(|now| now.keep == days(9)).await.unwrap();
    let version = hub.replace_desired("roof", &json!({"altitude": 200})).unwrap();
    settings.wait_for(|now| now.altitude == Some(200.0)).await.unwrap();
    let back = settings.wait_for(|now| now.keep == of_the_file);
    assert!(tokio::time::timeout(seconds(10), back).await.is_ok(), "{:?}", rig.settings.borrow());
    wait_for("the answer to what was removed", seconds(10), || async {
        let answer = hub.twin("roof")["reported"]["keepDays"].clone();
        (answer["ac"] == 200 && answer["av"] == version).then_some(())
    })
    .await;
    assert_eq!(hub.events_of("connect").len(), 1);
    assert_eq!(hub.events().into_iter().filter(gets).count(), 2, "once for both changes");
    rig.finish_events(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_of_a_burst_is_lost() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.batch = 1;
    let mut rig = Rig::start(&hub, plan);
    until_steered(&hub).await;
    for (round, calls) in [10, 20, 30, 50].into_iter().cycle().take(60).enumerate() {
        // With more to do than the station's task does in one go.
        rig.append(50).await;
        assert_eq!(burst(&hub, calls).await, calls, "round {round}");
    }
    assert_eq!(hub.events_of("connect").len(), 1);
}

/// Such a refusal makes the AMQP library detach twice, and the second time whatever has come to the place of the link.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_that_are_refused_cost_no_others_and_not_the_connection() {
    const STATIONS: usize = 12;
    let mut options = Options::default();
    options.behaviour.null_terminus = true;
    let hub = Emulator::start(options).unwrap();
    let error = HubError::new("amqp:internal-error");
    hub.fault(Fault::RefuseReceiver { link: LinkKind::Twin, error });
    let rigs: Vec<_> = (0..STATIONS)
        .map(|number| {
            let device = format!("roof-{number}");
            hub.add_device(&device);
            Rig::start(&hub, Plan { device, seed: number as u64, ..Plan::new(&hub) })
        })
        .collect();
    let refused = |event: &Event| event.kind == "attach-refused" && event.detail["link"] == "twin";
    hub.wait_for_events(3 * STATIONS, seconds(40), refused).await.unwrap();
    assert_eq!(hub.events_of("connect").len(), STATIONS, "connections were lost");
    for (number, rig) in rigs.into_iter().enumerate() {
        let answer = hub.invoke(&format!("roof-{number}"), "getStatus", &Value::Null, seconds(10)).await;
        assert_eq!(answer.map(|answer| answer.status), Ok(Some(200)), "{number}");
        rig.finish(&hub, seconds(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_cannot_be_kept_wait_on_their_link_and_cost_no_connection() {
    let hub = hub();
    let mut plan = still(&hub);
    let folder = tempfile::tempdir().unwrap();
    // The store cannot be opened for as long as this is there.
    let in_the_way = folder.path().join("readings.db.lock");
    std::fs::create_dir(&in_the_way).unwrap();
    plan.folder = Some(folder);
    let mut rig = Rig::start(&hub, plan);
    until_steered(&hub).await;
    let mut sent = Vec::new();
    for _ in 0..200 {
        // The hub keeps fifty at most.
        sent.extend(hub.send_c2d("roof", b"hello", []));
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert!(sent.len() >= 50, "{}", sent.len());
    let answer = hub.invoke("roof", "getStatus", &Value::Null, seconds(5)).await;
    assert_eq!(answer.map(|answer| answer.status), Ok(Some(200)));
    std::fs::remove_dir(&in_the_way).unwrap();
    for message in sent {
        let message = hub.wait_for_c2d(message, seconds(40)).await.unwrap();
        assert_eq!((message.state, message.delivery_count), (C2dState::Completed, 0));
    }
    assert_eq!(hub.events_of("connect").len(), 1, "the connection was given up");
    rig.stop_cloud().await;
}
