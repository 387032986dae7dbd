//! How much the hub takes: it must never be what limits a measurement of the station.

use hub_emulator::{Emulator, Options};
use tokio::time::Instant;

use crate::client::{Client, batch, message};

/// 200,000 messages in batches of 500, four in flight. A debug build is not measured, only tried.
#[tokio::test]
async fn it_takes_a_hundred_thousand_messages_a_second() {
    let transfers: u64 = if cfg!(debug_assertions) { 8 } else { 400 };
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub.set_behaviour(|behaviour| behaviour.recording = false);
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let body = format!("{{\"deviceId\":\"roof\",\"padding\":\"{}\"}}", "x".repeat(150));
    let one = batch((0..500).map(|n| message(&format!("m-{n}"), &body)));
    let start = Instant::now();
    let mut flying = std::collections::VecDeque::new();
    for _ in 0..transfers {
        if flying.len() == 4 {
            let oldest: fe2o3_amqp::link::delivery::DeliveryFut<_> = flying.pop_front().unwrap();
            let outcome: Result<fe2o3_amqp_types::messaging::Outcome, fe2o3_amqp::link::SendError> =
                oldest.await;
            outcome.unwrap();
        }
        flying.push_back(sender.send_batchable_ref(&one).await.unwrap());
    }
    for delivery in flying {
        delivery.await.unwrap();
    }
    let rate = (transfers * 500) as f64 / start.elapsed().as_secs_f64();
    assert_eq!(hub.count(), transfers * 500);
    assert!(cfg!(debug_assertions) || rate > 100_000.0, "{rate:.0} messages a second");
}
