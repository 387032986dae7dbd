//! A slow uplink: whatever it moves in a minute is delivered, in transfers as small as it takes.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::flow::{hub, seconds, still};
use crate::rig::{Plan, Rig, say};

/// All but the size of a transfer fits: a full one takes three seconds, and the hub's word is waited for two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_drains_over_an_uplink_that_moves_no_full_transfer_in_time() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.batch = 200;
    plan.limits.outcome = seconds(2);
    let uplink = behind_an_uplink(&mut plan, 25_000).await;
    let mut rig = Rig::start(&hub, plan);
    rig.append(600).await;
    let took = rig.all_accepted(seconds(45)).await;
    // The links beside telemetry were attached behind what was on its way, later than usual: that ended no session.
    let connects = hub.events_of("connect");
    say(format_args!("a slow uplink: {took:?}, {} connections", connects.len()));
    let last = connects.last().unwrap().connection;
    let attached = |event: &hub_emulator::Event| {
        event.kind == "attach" && event.detail["link"] == "methods" && event.connection == last
    };
    hub.wait_for_events(2, seconds(20), attached).await.unwrap();
    // One for each transfer that was too large, on a busy machine a smaller one too.
    assert!((2..=4).contains(&hub.events_of("connect").len()), "{:?}", hub.events_of("connect"));
    let account = rig.finish(&hub, seconds(5)).await;
    assert_eq!((account.readings, account.missing.len()), (600, 0));
    uplink.abort();
}

/// Each full transfer takes one and a half seconds and has its answer in time: four of them on their way would keep the
/// twin's answers, and all else of the session, for six.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_twin_is_read_while_a_backlog_drains_over_a_slow_uplink() {
    let hub = hub();
    let mut plan = still(&hub);
    plan.config.telemetry.batch = 100;
    plan.limits.twin = seconds(4);
    let uplink = behind_an_uplink(&mut plan, 25_000).await;
    let mut rig = Rig::start(&hub, plan);
    rig.append(1500).await;
    // What is reported differs from what the hub has: it was read.
    let reported = |event: &hub_emulator::Event| event.kind == "twin" && event.detail["operation"] == "PATCH";
    hub.wait_for_events(1, seconds(30), reported).await.unwrap();
    let pending = rig.board.store.borrow().pending;
    say(format_args!("the twin is read with {pending} pending"));
    assert!(pending > 0, "only when all was sent");
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
    rig.stop_cloud().await;
    uplink.abort();
}

/// The hub is reached by one of so many bytes a second, until that is aborted.
async fn behind_an_uplink(plan: &mut Plan, bytes_per_second: u32) -> JoinHandle<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let open = std::mem::replace(&mut plan.config.hub.port, listener.local_addr().unwrap().port());
    tokio::spawn(uplink(listener, open, bytes_per_second))
}

/// What comes to the listener goes to the port `to`, so many bytes a second; what comes back is not held up.
async fn uplink(listener: TcpListener, to: u16, bytes_per_second: u32) {
    let mut connections = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        connections.spawn(async move {
            let far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
            let (mut from_near, mut to_near) = near.into_split();
            let (mut from_far, mut to_far) = far.into_split();
            let up = async {
                let (mut chunk, mut next) = ([0; 1024], Instant::now());
                while let Ok(count @ 1..) = from_near.read(&mut chunk).await {
                    let takes = Duration::from_secs(1) / bytes_per_second * u32::try_from(count).unwrap();
                    next = next.max(Instant::now()) + takes;
                    tokio::time::sleep_until(next).await;
                    if to_far.write_all(&chunk[..count]).await.is_err() {
                        break;
                    }
                }
            };
            // How it ends is the business of the two ends.
            tokio::select! {
                () = up => {}
                _ = tokio::io::copy(&mut from_far, &mut to_near) => {}
            }
        });
    }
}
