//! The hub as a device sees it: tokens, addresses, batches, limits, the record, stop and start.

use crate::client::{Client, LIMIT, batch, message, send, token};
use fe2o3_amqp::sasl_profile::SaslProfile;
use hub_emulator::{Emulator, Options};

#[tokio::test]
async fn a_batch_is_recorded_message_by_message_with_all_its_properties() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    for sasl in [None, Some(SaslProfile::Anonymous)] {
        let mut client = Client::connect(&hub, sasl).await.unwrap();
        let (status, _) = client.put_token(&token(&hub, "roof", 60), "localhost/devices/roof").await;
        assert_eq!(status, 200);
        let mut sender = client.telemetry("roof").await.unwrap();
        let messages = (0..300).map(|n| message(&format!("m-{n}"), &format!("{{\"sequence\":{n}}}")));
        assert_eq!(send(&mut sender, batch(messages)).await, "accepted");
    }
    hub.wait_for(600, LIMIT).await.unwrap();
    let messages = hub.messages_of("roof");
    assert_eq!(messages.len(), 600);
    let seventh = &messages[307];
    assert_eq!((seventh.transfer, seventh.position, seventh.of, seventh.batch), (2, 7, 300, true));
    assert_eq!(seventh.json()["sequence"], 7);
    assert_eq!(seventh.message_id.as_deref(), Some("m-7"));
    assert_eq!(seventh.content_type.as_deref(), Some("application/json"));
    assert_eq!(seventh.content_encoding.as_deref(), Some("utf-8"));
    assert_eq!(seventh.properties["iothub-creation-time-utc"], "2026-01-01T00:00:00Z");
    assert_eq!(hub.events_of("open").len(), 2);
}

#[tokio::test]
async fn without_a_good_token_no_link_of_the_device_attaches() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub.add_device("cellar");
    let mut client = Client::connect(&hub, None).await.unwrap();
    let expired = token(&hub, "roof", -301);
    let (status, text) = client.put_token(&expired, "localhost/devices/roof").await;
    assert_eq!(status, 401);
    assert!(text.contains("expired"), "{text}");
    let (status, _) = client.put_token(&token(&hub, "roof", 60), "localhost/devices/cellar").await;
    assert_eq!(status, 401);
    for null_terminus in [false, true] {
        hub.set_behaviour(|behaviour| behaviour.null_terminus = null_terminus);
        let mut client = Client::connect(&hub, None).await.unwrap();
        let refused = match client.telemetry("roof").await {
            Ok(mut sender) => format!("{:?}", sender.on_detach().await),
            Err(error) => error,
        };
        assert!(refused.contains("UnauthorizedAccess"), "{refused}");
    }
    let mut client = Client::signed_in(&hub, "roof").await;
    let other = client.telemetry("cellar").await;
    let refused = match other {
        Ok(mut sender) => format!("{:?}", sender.on_detach().await),
        Err(error) => error,
    };
    assert!(refused.contains("UnauthorizedAccess"), "{refused}");
    assert!(hub.messages().is_empty());
}

#[tokio::test]
async fn sasl_plain_is_checked_like_a_token() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let plain = |password: String| SaslProfile::Plain { username: "roof@sas.localhost".into(), password };
    let mut client = Client::connect(&hub, Some(plain(token(&hub, "roof", 60)))).await.unwrap();
    let mut sender = client.telemetry("roof").await.unwrap();
    assert_eq!(send(&mut sender, batch([message("a", "{}")])).await, "accepted");
    let refused = Client::connect(&hub, Some(plain("SharedAccessSignature sr=a&sig=b&se=1".into()))).await;
    let refused = refused.err().unwrap();
    assert!(refused.contains("Auth"), "{refused}");
}

#[tokio::test]
async fn more_than_256_kib_is_rejected_and_more_than_1_mib_detaches() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let sized = |bytes: usize| batch([message("a", &"x".repeat(bytes))]);
    assert_eq!(send(&mut sender, sized(261_000)).await, "accepted");
    let rejected = send(&mut sender, sized(262_144)).await;
    assert!(rejected.contains("MessageSizeExceeded") && rejected.contains("262144"), "{rejected}");
    assert_eq!(sender.max_message_size(), Some(1024 * 1024));
    assert_eq!(send(&mut sender, batch([message("b", "{}")])).await, "accepted");
    assert_eq!(hub.count(), 2);
}

#[tokio::test]
async fn stopped_and_started_again_it_keeps_ports_registry_and_record() {
    let file = std::env::temp_dir().join(format!("hub-record-{}.jsonl", uuid::Uuid::new_v4()));
    let options = Options { record_file: Some(file.clone()), ..Options::default() };
    let hub = Emulator::start(options.clone()).unwrap();
    hub.add_device("roof");
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    assert_eq!(send(&mut sender, batch([message("a", "{}"), message("b", "\u{e9}")])).await, "accepted");
    hub.stop();
    assert!(Client::connect(&hub, None).await.is_err());
    hub.start_again().unwrap();
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    assert_eq!(send(&mut sender, batch([message("c", "{}")])).await, "accepted");
    assert_eq!(hub.count(), 3);
    let before = hub.messages();
    drop(hub);
    let hub = Emulator::start(options).unwrap();
    assert_eq!(hub.messages(), before);
    drop(std::fs::remove_file(file));
}

#[tokio::test]
async fn the_newer_connection_of_a_device_wins() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut older = Client::signed_in(&hub, "roof").await;
    let mut older_sender = older.telemetry("roof").await.unwrap();
    let mut newer = Client::signed_in(&hub, "roof").await;
    let mut newer_sender = newer.telemetry("roof").await.unwrap();
    let lost = format!("{:?}", older_sender.on_detach().await);
    assert!(lost.contains("Stolen"), "{lost}");
    let closed = format!("{:?}", older.connection.on_close().await);
    assert!(closed.contains("ConnectionForced"), "{closed}");
    assert_eq!(send(&mut newer_sender, batch([message("a", "{}")])).await, "accepted");
}

#[tokio::test]
async fn chunks_are_billed_bursts_are_let_through_and_more_is_refused() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub.set_behaviour(|behaviour| (behaviour.messages_per_second, behaviour.daily_quota) = (1, 30));
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let small = |count| batch((0..count).map(|n| message(&format!("m-{n}"), "{}")));
    assert_eq!(send(&mut sender, small(20)).await, "accepted");
    assert_eq!(send(&mut sender, batch([message("large", &"x".repeat(5000))])).await, "accepted");
    assert_eq!((hub.metered().paid, hub.metered().free), (22, 30));
    assert!(send(&mut sender, small(50)).await.contains("429001"));
    assert!(send(&mut sender, small(9)).await.contains("403002"));
    hub.new_day();
    assert_eq!(send(&mut sender, small(9)).await, "accepted");
}

/// A client that counts by the rules stands still after one window (5000 frames) if flows lack the next incoming id.
#[tokio::test]
async fn the_sessions_window_is_renewed_unless_flows_lack_the_next_incoming_id() {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    for (bare_flow, count) in [(false, 5200), (true, 4900)] {
        hub.set_behaviour(|behaviour| behaviour.bare_flow = bare_flow);
        hub.clear_messages();
        let mut client = Client::signed_in(&hub, "roof").await;
        let mut sender = client.telemetry("roof").await.unwrap();
        let mut flying = Vec::new();
        for n in 0..count {
            let one = message(&format!("m-{n}"), "{}");
            flying.push(tokio::time::timeout(LIMIT, sender.send_batchable(one)).await.unwrap().unwrap());
        }
        for delivery in flying {
            tokio::time::timeout(LIMIT, delivery).await.unwrap().unwrap();
        }
        assert_eq!(hub.count(), count);
        let messages = hub.messages();
        assert!(messages.iter().zip(0..).all(|(m, n)| m.message_id.as_deref() == Some(&format!("m-{n}"))));
    }
}
