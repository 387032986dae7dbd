//! Every fault, as the device notices it.

use std::time::Duration;

use crate::client::{Client, LIMIT, batch, message, send, token};
use hub_emulator::{
    Certificate, Cut, Emulator, Fault, HubError, LinkKind, OnExpiry, Options, Port, TokenAnswer,
};
use tokio::time::timeout;

fn hub() -> Emulator {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub
}

fn one(
    id: &str,
) -> fe2o3_amqp::Sendable<fe2o3_amqp_types::messaging::Batch<fe2o3_amqp_types::messaging::Data>> {
    batch([message(id, &format!("{{\"id\":\"{id}\"}}"))])
}

#[tokio::test]
async fn every_outcome_of_a_transfer_can_be_had() {
    let hub = hub();
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    let server_busy = HubError::server_busy();
    for (fault, outcome, recorded) in [
        (Fault::Release, "released", false),
        (Fault::Modify, "modified", false),
        (Fault::Reject { error: server_busy }, "DetachForced", false),
        (Fault::Throttle { retry_after: Some(7) }, "Retry-After\"): Int(7)", false),
        (Fault::Throttle { retry_after: None }, "device-container-throttled", false),
        (Fault::QuotaSpent, "403002", false),
        (Fault::DispositionLate { millis: 50 }, "accepted", true),
    ] {
        let before = hub.count();
        hub.fault(fault.clone().times(1).on("roof"));
        let answer = send(&mut sender, one("a")).await;
        assert!(answer.contains(outcome), "{fault:?}: {answer}");
        assert_eq!(hub.count() - before, u64::from(recorded), "{fault:?}");
        assert_eq!(hub.faults(), []);
    }
    hub.fault(Fault::Poison { text: "\"bad\"".into(), error: HubError::new("amqp:decode-error") });
    assert_eq!(send(&mut sender, one("good")).await, "accepted");
    let both = batch([message("a", "{\"id\":\"good\"}"), message("b", "{\"id\":\"bad\"}")]);
    assert!(send(&mut sender, both).await.contains("DecodeError"));
    hub.clear_faults();
    hub.fault(Fault::DispositionNever);
    let never = timeout(Duration::from_millis(300), sender.send(one("never"))).await;
    assert!(never.is_err(), "{never:?}");
}

#[tokio::test]
async fn a_lost_acknowledgement_is_on_record_and_a_lost_transfer_is_not() {
    let hub = hub();
    for how in [Cut::Fin, Cut::Rst] {
        for (fault, recorded) in [(Fault::AckLost { how }, 1), (Fault::CutOnTransfer { how }, 0)] {
            let before = hub.count();
            let mut client = Client::signed_in(&hub, "roof").await;
            let mut sender = client.telemetry("roof").await.unwrap();
            hub.fault(fault.times(1));
            let pending = timeout(LIMIT, sender.send_batchable(one("a"))).await.unwrap().unwrap();
            timeout(LIMIT, client.connection.on_close()).await.unwrap().unwrap_err();
            drop((sender, pending));
            assert_eq!(hub.count() - before, recorded);
        }
        let mut client = Client::signed_in(&hub, "roof").await;
        hub.fault(Fault::Drop { how });
        timeout(LIMIT, client.connection.on_close()).await.unwrap().unwrap_err();
    }
}

#[tokio::test]
async fn links_sessions_and_connections_end_with_any_condition() {
    let hub = hub();
    let error =
        HubError::new("com.microsoft:timeout").describe("too slow").with("com.microsoft:tracking-id", "t");
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    hub.fault(Fault::DetachLinks { link: Some(LinkKind::Telemetry), error: error.clone() });
    let lost = format!("{:?}", timeout(LIMIT, sender.on_detach()).await.unwrap());
    assert!(lost.contains("com.microsoft:timeout") && lost.contains("too slow"), "{lost}");
    let mut sender = client.telemetry("roof").await.unwrap();
    assert_eq!(send(&mut sender, one("a")).await, "accepted");
    hub.fault(Fault::EndSessions { error: error.clone() });
    let lost = format!("{:?}", timeout(LIMIT, client.session.on_end()).await.unwrap());
    assert!(lost.contains("com.microsoft:timeout"), "{lost}");
    hub.fault(Fault::CloseConnections { error: HubError::forced("restart") });
    let lost = format!("{:?}", timeout(LIMIT, client.connection.on_close()).await.unwrap());
    assert!(lost.contains("ConnectionForced") && lost.contains("restart"), "{lost}");
    hub.fault(Fault::RefuseAttach { link: None, error: HubError::quota() }.times(1));
    let mut client = Client::signed_in(&hub, "roof").await;
    let refused = match client.telemetry("roof").await {
        Ok(mut sender) => format!("{:?}", timeout(LIMIT, sender.on_detach()).await.unwrap()),
        Err(error) => error,
    };
    assert!(refused.contains("ResourceLimitExceeded"), "{refused}");
}

#[tokio::test]
async fn put_token_answers_what_it_is_told() {
    let hub = hub();
    let mut client = Client::connect(&hub, None).await.unwrap();
    let good = token(&hub, "roof", 60);
    for (answer, status, text) in [
        (TokenAnswer::Unauthorized, 401, "signature"),
        (TokenAnswer::Expired, 401, "expired"),
        (TokenAnswer::ServerError, 500, "Internal"),
        (TokenAnswer::TooMany, 500, "403005"),
    ] {
        hub.fault(Fault::PutToken { answer }.times(1));
        let (got, description) = client.put_token(&good, "localhost%2Fdevices%2Froof").await;
        assert_eq!(got, status);
        assert!(description.contains(text), "{description}");
    }
    hub.set_behaviour(|behaviour| behaviour.put_token_status = 202);
    hub.fault(Fault::PutTokenLate { millis: 100 }.times(1));
    assert_eq!(client.put_token(&good, "localhost%2Fdevices%2Froof").await.0, 202);
    hub.fault(Fault::PutToken { answer: TokenAnswer::Never }.on("roof"));
    let never =
        timeout(Duration::from_millis(300), client.put_token(&good, "localhost%2Fdevices%2Froof")).await;
    assert!(never.is_err());
}

#[tokio::test]
async fn a_token_that_ends_takes_the_links_or_the_connection_with_it() {
    let hub = hub();
    for manner in [OnExpiry::Detach, OnExpiry::Close, OnExpiry::Drop] {
        hub.set_behaviour(|behaviour| (behaviour.on_expiry, behaviour.skew) = (manner, 0));
        let mut client = Client::connect(&hub, None).await.unwrap();
        client.put_token(&token(&hub, "roof", 2), "localhost%2Fdevices%2Froof").await;
        let mut sender = client.telemetry("roof").await.unwrap();
        if manner == OnExpiry::Detach {
            let lost = format!("{:?}", timeout(LIMIT, sender.on_detach()).await.unwrap());
            assert!(lost.contains("UnauthorizedAccess"), "{lost}");
            assert_eq!(client.put_token(&token(&hub, "roof", 60), "localhost%2Fdevices%2Froof").await.0, 200);
            let mut sender = client.telemetry("roof").await.unwrap();
            assert_eq!(send(&mut sender, one("a")).await, "accepted");
        } else {
            let lost = format!("{:?}", timeout(LIMIT, client.connection.on_close()).await.unwrap());
            assert_eq!(lost.contains("UnauthorizedAccess"), manner == OnExpiry::Close, "{lost}");
        }
    }
}

#[tokio::test]
async fn credit_is_given_as_told_and_held_back_on_command() {
    let hub = hub();
    hub.set_behaviour(|behaviour| behaviour.credit = 1);
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    for _ in 0..5 {
        assert_eq!(send(&mut sender, one("a")).await, "accepted");
    }
    hub.fault(Fault::NoCredit);
    // The credit that was given before is still good.
    assert_eq!(send(&mut sender, one("a")).await, "accepted");
    let held = timeout(Duration::from_millis(200), sender.send_batchable(one("b"))).await;
    assert!(held.is_err());
    let mut second = client.telemetry("roof").await.unwrap();
    let held = timeout(Duration::from_millis(200), second.send_batchable(one("b"))).await;
    assert!(held.is_err(), "no credit from the first attach on");
    hub.clear_faults();
    assert_eq!(send(&mut sender, one("c")).await, "accepted");
    assert_eq!(send(&mut second, one("d")).await, "accepted");
}

#[tokio::test]
async fn a_black_hole_swallows_and_gives_back() {
    let hub = hub();
    let mut client = Client::signed_in(&hub, "roof").await;
    let mut sender = client.telemetry("roof").await.unwrap();
    // The link's credit has come once a transfer was answered.
    assert_eq!(send(&mut sender, one("first")).await, "accepted");
    hub.fault(Fault::BlackHole { existing: true, new: true });
    let pending = sender.send_batchable(one("a")).await.unwrap();
    let stranger = timeout(Duration::from_millis(300), Client::connect(&hub, None)).await;
    assert!(stranger.is_err());
    assert_eq!(hub.count(), 1);
    hub.clear_faults();
    timeout(LIMIT, pending).await.unwrap().unwrap();
    assert_eq!(hub.count(), 2);
}

#[tokio::test]
async fn ports_and_certificates_can_be_bad() {
    let hub = hub();
    let id = hub.fault(Fault::RefusePort { port: Port::Amqp });
    let refused = Client::connect(&hub, None).await.err().unwrap();
    assert!(refused.contains("refused"), "{refused}");
    hub.clear_fault(id);
    for (certificate, text) in [
        (Certificate::UnknownRoot, "UnknownIssuer"),
        (Certificate::WrongName, "not valid for name"),
        (Certificate::Expired, "expired"),
        (Certificate::NotYetValid, "not valid yet"),
    ] {
        hub.fault(Fault::Certificate { certificate }.times(1));
        let refused = Client::connect(&hub, None).await.err().unwrap();
        assert!(refused.contains(text), "{certificate:?}: {refused}");
    }
    hub.set_behaviour(|b| (b.tls12_only, b.ask_client_certificate) = (true, true));
    let tls = crate::client::tls(&hub, hub.port()).await.unwrap();
    assert_eq!(tls.get_ref().1.protocol_version(), Some(tokio_rustls::rustls::ProtocolVersion::TLSv1_2));
    hub.fault(Fault::SilentAfterOpen.times(1));
    let silent = timeout(Duration::from_millis(300), Client::connect(&hub, None)).await;
    assert!(silent.is_err());
    assert!(Client::connect(&hub, None).await.is_ok());
}

#[tokio::test]
async fn a_peer_that_is_silent_for_too_long_is_cut_off() {
    let hub = hub();
    hub.set_behaviour(|behaviour| behaviour.idle_time_out = 300);
    let mut tls = crate::client::tls(&hub, hub.port()).await.unwrap();
    // A header and an `open` without an idle-time-out: what a peer sends that will send no heartbeats.
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    tls.write_all(b"AMQP\0\x01\0\0").await.unwrap();
    tls.write_all(b"\0\0\0\x15\x02\0\0\0\0\x53\x10\xc0\x08\x02\xa1\x03abc\x40\x40").await.unwrap();
    let mut all = Vec::new();
    // However it ends (close frame, or cut), it ends.
    drop(timeout(Duration::from_secs(5), tls.read_to_end(&mut all)).await.unwrap());
    hub.wait_for_events(1, LIMIT, |event| event.kind == "close").await.unwrap();
    assert_eq!(hub.events_of("open")[0].detail["containerId"], "abc");
}
