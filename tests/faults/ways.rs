//! The ways to the hub: the WebSocket, a proxy in between, and `auto`, which takes what is open; and what a station
//! with a wrong clock does.

use std::time::Duration;

use chrono::TimeDelta;
use hub_emulator::{Certificate, Cut, Emulator, Event, Fault, Options, ProxyOptions};
use weather_station::clock::ClockState;
use weather_station::cloud::Proxy;
use weather_station::config::Transport;
use weather_station::status::CloudState;

use crate::rig::{Hands, Plan, Rig};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn hub() -> Emulator {
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    hub
}

fn by(hub: &Emulator, transport: Transport) -> Plan {
    let mut plan = Plan::new(hub);
    plan.config.hub.transport = transport;
    plan
}

async fn delivers(mut rig: Rig, hub: &Emulator, way: &str) {
    rig.append(100).await;
    rig.until(way, seconds(10), |s| s.state == CloudState::Online && s.transport == Some(way)).await;
    let account = rig.finish(hub, seconds(5)).await;
    assert!(account.readings >= 100 && account.missing.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_may_be_cut_in_any_way() {
    for chunk in [1, 7, 100, 4096] {
        let hub = hub();
        hub.set_behaviour(|behaviour| behaviour.websocket_chunk = chunk);
        delivers(Rig::start(&hub, by(&hub, Transport::Websocket)), &hub, "websocket").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_lets_the_websocket_through() {
    let hub = hub();
    let options = ProxyOptions { credentials: None, route: None };
    let proxy = hub_emulator::Proxy::start(options).unwrap();
    let mut plan = by(&hub, Transport::Websocket);
    plan.proxy = Proxy::parse(Some(&format!("http://127.0.0.1:{}", proxy.port())), None).unwrap();
    delivers(Rig::start(&hub, plan), &hub, "websocket").await;
    assert_eq!(proxy.requests(), [format!("CONNECT localhost:{} 200", hub.https_port())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_wants_credentials_gets_them_or_is_named() {
    let hub = hub();
    let options = ProxyOptions { credentials: Some(("me".into(), "p@ss".into())), route: None };
    let proxy = hub_emulator::Proxy::start(options).unwrap();
    let mut plan = by(&hub, Transport::Websocket);
    plan.proxy = Proxy::parse(Some(&format!("http://127.0.0.1:{}", proxy.port())), None).unwrap();
    let rig = Rig::start(&hub, plan);
    rig.until("the reason", seconds(5), |status| {
        status.reason.as_ref().is_some_and(|reason| reason.contains("it wants a user and a password"))
    })
    .await;
    let mut plan = by(&hub, Transport::Websocket);
    plan.device = "wall".into();
    hub.add_device("wall");
    let text = format!("http://me:p%40ss@127.0.0.1:{}", proxy.port());
    plan.proxy = Proxy::parse(Some(&text), None).unwrap();
    delivers(Rig::start(&hub, plan), &hub, "websocket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_takes_amqp_where_it_is_open() {
    let hub = hub();
    delivers(Rig::start(&hub, by(&hub, Transport::Auto)), &hub, "amqp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_goes_by_websocket_when_amqp_is_closed_and_comes_back_to_it() {
    let hub = hub();
    let mut plan = by(&hub, Transport::Auto);
    // A firewall: nothing listens on the AMQP port until the end.
    let open = plan.config.hub.port;
    let firewall = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    plan.config.hub.port = firewall.local_addr().unwrap().port();
    drop(firewall);
    let closed = plan.config.hub.port;
    plan.limits.hurry = 200;
    let mut rig = Rig::start(&hub, plan);
    rig.append(50).await;
    rig.until("the WebSocket", seconds(10), |status| status.transport == Some("websocket")).await;
    hub.wait_for(50, seconds(5)).await.unwrap();
    let tunnel = tokio::spawn(tunnel(closed, open));
    rig.until("AMQP", seconds(10), |status| status.transport == Some("amqp")).await;
    let account = rig.finish(&hub, seconds(5)).await;
    assert!(account.missing.is_empty() && account.late == 0);
    tunnel.abort();
}

/// A firewall that looks at what is in TLS, or only seems to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_stays_on_the_websocket_while_tls_stands_on_the_amqp_port_and_amqp_does_not() {
    let hub = hub();
    hub.fault(Fault::SilentAfterTls);
    let mut plan = by(&hub, Transport::Auto);
    plan.limits.hurry = 1_000;
    plan.limits.open = Duration::from_millis(500);
    let rig = Rig::start(&hub, plan);
    let tried = |event: &Event| event.kind == "connect" && event.detail["port"] == "amqp";
    hub.wait_for_events(5, seconds(20), tried).await.unwrap();
    let status = rig.cloud();
    assert_eq!((status.connections, status.transport), (1, Some("websocket")));
    hub.clear_faults();
    rig.until("AMQP", seconds(10), |status| status.transport == Some("amqp")).await;
    rig.finish(&hub, seconds(5)).await;
}

/// What comes to `from` goes to `to`.
async fn tunnel(from: u16, to: u16) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", from)).await.unwrap();
    let mut tunnels = tokio::task::JoinSet::new();
    loop {
        let (mut near, _) = listener.accept().await.unwrap();
        tunnels.spawn(async move {
            let mut far = tokio::net::TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            // How it ends is the business of the two ends.
            drop(tokio::io::copy_bidirectional(&mut near, &mut far).await);
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn auto_goes_by_websocket_when_amqp_is_silent() {
    let hub = hub();
    let mut plan = by(&hub, Transport::Auto);
    // Accepts and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    plan.config.hub.port = silent.local_addr().unwrap().port();
    delivers(Rig::start(&hub, plan), &hub, "websocket").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_clock_is_put_right_by_the_hubs_date() {
    let hub = hub();
    // Before the floor: wrong, and known to be.
    let mut plan = Plan::new(&hub);
    plan.clock = Hands::wrong_by(TimeDelta::days(-3650));
    let rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    assert_eq!(rig.timekeeper.state(), ClockState::Plausible);
    let off =
        rig.timekeeper.now() - chrono::DateTime::parse_from_rfc3339(&hub.events()[0].time).unwrap().to_utc();
    assert!(off.num_seconds().abs() < 20, "{off}");
    rig.finish(&hub, seconds(5)).await;
}

/// Somebody sets it back, and nobody synchronises it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_becomes_wrong_on_an_open_connection_is_put_right_on_it() {
    let hub = hub();
    let mut rig = Rig::start(&hub, Plan { every: None, ..Plan::new(&hub) });
    rig.append(1).await;
    rig.all_accepted(seconds(10)).await;
    *rig.clock.lock().unwrap() = Hands::wrong_by(TimeDelta::seconds(-30));
    assert_eq!(rig.timekeeper.state(), ClockState::Wrong);
    rig.append(1).await;
    rig.until_stored(2, seconds(5)).await;
    rig.all_accepted(seconds(5)).await;
    assert_eq!(rig.timekeeper.state(), ClockState::Plausible);
    assert_eq!(rig.cloud().connections, 1);
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_plausible_and_behind_is_put_right_when_the_hub_calls_fresh_tokens_expired() {
    let hub = hub();
    let mut plan = Plan::new(&hub);
    plan.clock = Hands::wrong_by(TimeDelta::days(-20));
    let rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    rig.finish(&hub, seconds(5)).await;
}

/// A time server of the field has another time than the world.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_synchronised_clock_that_the_hub_contradicts_is_blamed_and_not_the_device() {
    let hub = hub();
    let mut plan = Plan::new(&hub);
    plan.clock.off = TimeDelta::hours(-2);
    let rig = Rig::start(&hub, plan);
    let refused = |times: usize| hub.events_of("put-token").len() >= times;
    rig.until("the clock's blame", seconds(10), |status| {
        status.reason.as_ref().is_some_and(|reason| {
            refused(3)
                && reason.contains(
                    "the machine's clock is 2h behind the hub's, though the system calls it synchronised",
                )
                && !reason.contains("provision it again")
        })
    })
    .await;
    assert_eq!(rig.timekeeper.state(), ClockState::Synchronised, "the kernel's word stands");
}

/// Three minutes are no reason for a refusal: the hub allows more, and the device is what it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_a_little_behind_does_not_take_the_blame_from_the_device() {
    let hub = hub();
    let mut plan = Plan::new(&hub);
    plan.clock.off = TimeDelta::minutes(-3);
    plan.device = "stranger".into();
    let rig = Rig::start(&hub, plan);
    rig.until("both reasons", seconds(10), |status| {
        status.reason.as_ref().is_some_and(|reason| {
            reason.contains("provision it again") && reason.contains("the machine's clock is 3m behind")
        })
    })
    .await;
}

/// The clock went on where it was saved, and the hub's certificate was renewed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_behind_the_hubs_certificate_is_put_right() {
    let hub = hub();
    hub.fault(Fault::Certificate { certificate: Certificate::Fresh });
    let mut plan = Plan::new(&hub);
    plan.clock = Hands::wrong_by(TimeDelta::days(-20));
    let rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_date_of_a_hub_with_a_bad_certificate_is_not_taken() {
    for certificate in [Certificate::UnknownRoot, Certificate::WrongName, Certificate::Expired] {
        let hub = hub();
        hub.fault(Fault::Certificate { certificate });
        let mut plan = Plan::new(&hub);
        plan.clock = Hands::wrong_by(TimeDelta::days(-3650));
        let rig = Rig::start(&hub, plan);
        rig.until("the refusal", seconds(5), |status| {
            status.reason.as_ref().is_some_and(|reason| reason.contains("ask for the time by HTTPS"))
        })
        .await;
        assert_eq!(rig.timekeeper.state(), ClockState::Wrong, "{certificate:?}");
        hub.clear_faults();
        hub.fault(Fault::Drop { how: Cut::Fin });
        rig.online(seconds(5)).await;
    }
}

/// The hub moves to another root: whoever puts that into the file need not start the station anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_that_were_replaced_are_read_anew() {
    let (hub, other) = (hub(), hub());
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::copy(other.ca_file(), &roots).unwrap();
    let mut plan = Plan::new(&hub);
    plan.config.hub.ca_file = Some(roots.clone());
    let rig = Rig::start(&hub, plan);
    rig.until("the refusal", seconds(5), |status| {
        status.reason.as_ref().is_some_and(|reason| reason.contains("invalid peer certificate"))
    })
    .await;
    std::fs::copy(hub.ca_file(), &roots).unwrap();
    rig.online(seconds(8)).await;
    rig.finish(&hub, seconds(5)).await;
}
