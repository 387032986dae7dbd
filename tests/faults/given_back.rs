//! What the hub does not take, takes late, or the store cannot note: it comes again, once, and nothing is passed over.

use std::cell::RefCell;
use std::time::Duration;

use chrono::{DateTime, Utc};
use hub_emulator::{Cut, Emulator, Fault, HubError, LinkKind, Options};
use weather_station::status::CloudState;

use crate::flow::{hub, seconds, still};
use crate::rig::{Plan, Rig};

/// A transfer is refused while the next one waits for credit: what was refused is behind no watermark.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_back_while_the_next_waits_for_credit_is_sent_again() {
    let poison = Fault::Poison { text: "\"sequence\":10}".into(), error: HubError::new("amqp:decode-error") };
    let refusals = [
        (Fault::Release.times(1), 0),
        (Fault::Modify.times(1), 0),
        (Fault::Throttle { retry_after: None }.times(1), 0),
        (poison.into(), 1),
    ];
    for (refusal, aside) in refusals {
        let mut options = Options::default();
        options.behaviour.credit = 1;
        let hub = Emulator::start(options).unwrap();
        hub.add_device("roof");
        let mut rig = Rig::start(&hub, still(&hub));
        rig.online(seconds(10)).await;
        // Online is who has the link; the hub grants the credit after that.
        hub.wait_for_events(1, seconds(5), |event| event.kind == "first-credit").await.unwrap();
        let held = hub.fault(Fault::NoCredit);
        hub.fault(refusal.clone());
        rig.append(200).await;
        // The first transfer has the credit of the attach; it is back before the second one gets any.
        let refused = |event: &hub_emulator::Event| matches!(event.kind, "rejected" | "given-back");
        hub.wait_for_events(1, seconds(5), refused).await.unwrap();
        // So that the credit comes in a packet of its own.
        tokio::time::sleep(Duration::from_millis(200)).await;
        hub.clear_fault(held);
        let account = rig.finish(&hub, seconds(10)).await;
        assert_eq!((account.readings, account.missing.len()), (200 - aside, aside as usize), "{refusal:?}");
    }
}

/// The card's trouble is not the hub's: the connection stays, and nothing is sent twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_cannot_be_written_breaks_no_connection() {
    let hub = hub();
    let mut rig = Rig::start(&hub, still(&hub));
    rig.online(seconds(10)).await;
    let late = hub.fault(Fault::DispositionLate { millis: 800 });
    rig.append(100).await;
    hub.wait_for(100, seconds(5)).await.unwrap();
    // Somebody else writes, for seconds.
    let other = rusqlite::Connection::open(rig.store_path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    rig.until("the store's trouble", seconds(5), |status| {
        status.reason.as_ref().is_some_and(|reason| reason.contains("move the watermark"))
    })
    .await;
    hub.clear_fault(late);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!((rig.cloud().state, rig.cloud().connections, hub.count()), (CloudState::Online, 1, 100));
    other.execute_batch("ROLLBACK").unwrap();
    rig.append(50).await;
    let account = rig.finish(&hub, seconds(10)).await;
    assert_eq!((account.readings, account.duplicates), (150, 0));
    assert_eq!(hub.events_of("connect").len(), 1);
}

/// A hub that ends the link for what is in a transfer would end it for ever. Where several are on their way nobody knows
/// which it means: the next ones go one by one, and none is set aside for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_link_is_detached_for_is_set_aside_once_it_is_alone() {
    for (count, in_flight, aside) in [(20, 4, 0), (1, 1, 1)] {
        let hub = hub();
        let mut plan = still(&hub);
        plan.config.telemetry.batch = 1;
        let mut rig = Rig::start(&hub, plan);
        rig.online(seconds(10)).await;
        let never = hub.fault(Fault::DispositionNever);
        rig.append(count).await;
        hub.wait_for(in_flight, seconds(5)).await.unwrap();
        let error = HubError::new("amqp:link:message-size-exceeded");
        hub.fault(Fault::DetachLinks { link: Some(LinkKind::Telemetry), error });
        hub.clear_fault(never);
        rig.until_aside(aside, seconds(5)).await;
        // The hub had it, and has said neither yes nor no.
        let board = rig.board.clone();
        let account = rig.finish(&hub, seconds(10)).await;
        assert_eq!((account.readings, account.missing.len()), (count, 0), "{in_flight} on their way");
        assert_eq!(board.store.borrow().dead_letters, aside, "{in_flight} on their way");
        assert_eq!(hub.events_of("connect").len(), 2, "not again and again");
    }
}

/// The process died between setting them aside and moving the watermark over them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readings_set_aside_at_the_head_of_the_queue_do_not_hold_it_up() {
    let hub = hub();
    let down = hub.fault(Fault::Refuse);
    let mut plan = still(&hub);
    plan.config.telemetry.batch = 1;
    let mut rig = Rig::start(&hub, plan);
    rig.append(10).await;
    rig.until_stored(10, seconds(5)).await;
    let head = rig.store.pending(None, 3).await.unwrap();
    let positions = head.readings.iter().map(|(position, _)| *position).collect();
    rig.store.dead_letter(positions, "amqp:decode-error".into()).await.unwrap();
    hub.clear_fault(down);
    let account = rig.finish(&hub, seconds(10)).await;
    assert_eq!((account.readings, account.missing), (7, vec![1, 2, 3]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_hubs_own_hint_is_waited_for() {
    let hub = hub();
    let mut rig = Rig::start(&hub, still(&hub));
    rig.online(seconds(10)).await;
    // A minute in the field, three seconds at this pace; without the hint it would be half a second at most.
    hub.fault(Fault::Throttle { retry_after: Some(60) }.times(1));
    rig.append(10).await;
    let throttled = hub.wait_for_events(1, seconds(5), |event| event.kind == "rejected").await.unwrap();
    hub.wait_for(10, seconds(10)).await.unwrap();
    let received: DateTime<Utc> = hub.messages()[0].received.parse().unwrap();
    let waited = received - throttled[0].time.parse::<DateTime<Utc>>().unwrap();
    assert!(waited >= chrono::TimeDelta::milliseconds(2_900), "{waited}");
    assert_eq!(hub.events_of("connect").len(), 1);
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_out_once_however_many_wait() {
    let hub = hub();
    let rig = Rig::start(&hub, still(&hub));
    for number in 0..120 {
        let fields = serde_json::json!({ "number": number });
        rig.store.record_event("gap", fields.as_object().unwrap().clone()).await.unwrap();
    }
    let account = rig.finish_events(&hub, seconds(4)).await;
    let numbers: Vec<_> = account.events.iter().map(|event| event["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..120).collect::<Vec<_>>());
}

/// A throttled hub answers when it can; what was asked for and given up would cost the session when it comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_attached_late_costs_no_connection() {
    let hub = hub();
    let mut plan = Plan::new(&hub);
    // A machine that stands still for a while costs no connection either.
    (plan.limits.outcome, plan.limits.write, plan.limits.idle) = (seconds(20), seconds(20), seconds(20));
    let late = plan.limits.attach + seconds(1);
    let millis = u64::try_from(late.as_millis()).unwrap();
    hub.fault(Fault::AttachLate { link: LinkKind::Twin, millis }.times(1));
    let rig = Rig::start(&hub, plan);
    // The twin's two links, then the others.
    let of = |event: &hub_emulator::Event, link: &str| event.kind == "attach" && event.detail["link"] == link;
    hub.wait_for_events(2, seconds(10), |event| of(event, "twin")).await.unwrap();
    hub.wait_for_events(2, seconds(5), |event| of(event, "methods")).await.unwrap();
    let account = rig.finish(&hub, seconds(5)).await;
    assert_eq!((account.missing.len(), account.duplicates), (0, 0));
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
}

/// A group is waited for as long as a hub may be throttled: on the next connection the others do not wait behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_without_an_answer_keeps_the_methods_from_no_second_connection() {
    let hub = hub();
    hub.fault(Fault::AttachLate { link: LinkKind::Twin, millis: 60_000 });
    let rig = Rig::start(&hub, Plan::new(&hub));
    hub.wait_for_events(1, seconds(10), |event| event.kind == "attach-held").await.unwrap();
    hub.fault(Fault::Drop { how: Cut::Rst });
    let methods = |event: &hub_emulator::Event| event.kind == "attach" && event.detail["link"] == "methods";
    hub.wait_for_events(2, seconds(20), methods).await.unwrap();
    assert!(hub.events_of("connect").len() > 1, "it was dropped");
    rig.finish(&hub, seconds(5)).await;
}

thread_local! {
    /// What the station of a test with one thread has told the log, where that test listens.
    static LOG: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

struct ThreadLog;

impl std::io::Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOG.with_borrow_mut(|log| log.as_mut().map_or(Ok(bytes.len()), |log| log.write(bytes)))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The store may not do it for weeks, and the hub is asked again and again.
#[tokio::test]
async fn that_a_reading_is_set_aside_is_told_when_it_is() {
    let subscriber = tracing_subscriber::fmt().with_writer(|| ThreadLog).with_ansi(false).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let told =
        || LOG.with_borrow(|log| String::from_utf8_lossy(log.as_ref().unwrap()).matches("set aside").count());
    LOG.set(Some(Vec::new()));
    let hub = hub();
    hub.fault(Fault::Poison { text: "\"sequence\":1}".into(), error: HubError::new("amqp:decode-error") });
    let mut rig = Rig::start(&hub, still(&hub));
    rig.online(seconds(10)).await;
    rig.append(1).await;
    rig.until_stored(1, seconds(5)).await;
    let other = rusqlite::Connection::open(rig.store_path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    hub.wait_for_events(3, seconds(30), |event| event.kind == "rejected").await.unwrap();
    assert_eq!(told(), 0);
    other.execute_batch("ROLLBACK").unwrap();
    rig.until_aside(1, seconds(20)).await;
    assert_eq!(told(), 1);
}
