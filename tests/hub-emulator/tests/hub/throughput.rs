//! How much the hub takes: it must never be what limits a measurement of the station.

use std::collections::VecDeque;

use fe2o3_amqp::link::SendError;
use fe2o3_amqp::link::delivery::DeliveryFut;
use fe2o3_amqp_types::messaging::Outcome;
use hub_emulator::{Emulator, Options};

use crate::client::{Client, batch, message};

type Pending = DeliveryFut<Result<Outcome, SendError>>;

/// Batches of 500, four in flight. What counts is the processor time of the hub's thread: it does not depend on what
/// else the machine is doing. A debug build is only tried, not measured; run a release build with this test alone.
#[tokio::test]
async fn a_hundred_thousand_messages_cost_the_hub_less_than_a_second() {
    let transfers: u64 = if cfg!(debug_assertions) { 8 } else { 400 };
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub.set_behaviour(|behaviour| behaviour.recording = false);
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let body = format!("{{\"deviceId\":\"roof\",\"padding\":\"{}\"}}", "x".repeat(150));
    let one = batch((0..500).map(|n| message(&format!("m-{n}"), &body)));
    let before = hub_milliseconds();
    let mut flying: VecDeque<Pending> = VecDeque::new();
    for _ in 0..transfers {
        if flying.len() == 4 {
            flying.pop_front().unwrap().await.unwrap();
        }
        flying.push_back(sender.send_batchable_ref(&one).await.unwrap());
    }
    for delivery in flying {
        delivery.await.unwrap();
    }
    let spent = hub_milliseconds() - before;
    assert_eq!(hub.count(), transfers * 500);
    let limit = transfers * 500 / 100;
    assert!(cfg!(debug_assertions) || spent < limit, "{spent} ms for {} messages", hub.count());
}

/// User and system time of the threads called `hub-emulator` in this process; 10 ms are one tick.
fn hub_milliseconds() -> u64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let ticks = threads.filter_map(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).ok()?;
        let (name, numbers) = stat.rsplit_once(") ")?;
        let numbers: Vec<&str> = numbers.split(' ').collect();
        let time = numbers.get(11)?.parse::<u64>().ok()? + numbers.get(12)?.parse::<u64>().ok()?;
        name.ends_with("hub-emulator").then_some(time)
    });
    ticks.sum::<u64>() * 10
}
