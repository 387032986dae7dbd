//! What the status says of an outage and of each refusal, and the rate behind the ETA.

use std::sync::atomic::{AtomicBool, Ordering};

use super::super::error::Refusal;
use super::*;
use crate::clock::Clock;
use crate::identity::IdentityError;
use crate::identity::dps::Unassigned;
use crate::reading::BootId;

/// Shows this at its beginning, until somebody sets it.
struct Late {
    begun: Instant,
    shows: &'static str,
    set: AtomicBool,
}

impl Clock for Late {
    fn wall(&self) -> DateTime<Utc> {
        let begun = if self.set.load(Ordering::Relaxed) { "2026-06-01T12:00:00Z" } else { self.shows };
        begun.parse::<DateTime<Utc>>().unwrap() + self.begun.elapsed()
    }
    fn since_boot(&self) -> Duration {
        self.begun.elapsed()
    }
    fn boot(&self) -> BootId {
        BootId(1)
    }
    fn synchronised(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_do_not_make_an_outage_look_short() {
    // A clock that is wrong, and one that is three days behind and possible.
    for [shows, a_minute_later] in
        [["1970-01-01T00:00:00Z", "1970-01-01T00:01:00Z"], ["2026-05-29T12:00:00Z", "2026-05-29T12:01:00Z"]]
    {
        let clock = Arc::new(Late { begun: Instant::now(), shows, set: AtomicBool::new(false) });
        let timekeeper = Timekeeper::new(clock.clone(), "2026-01-01T00:00:00Z".parse().unwrap());
        let board = Arc::new(Board::default());
        let report = Reporter::new(board.clone(), timekeeper.clone(), None);
        let fails = async || {
            tokio::time::advance(Duration::from_secs(60)).await;
            report.connecting();
            report.offline(&CloudError::new("reach the hub", Cause::Lost("no network".into())), Class::Soon);
        };
        let since = || serde_json::to_value(board.document(&timekeeper)).unwrap()["cloud"]["since"].clone();
        for _ in 0..3 {
            fails().await;
        }
        assert_eq!(since(), a_minute_later);
        clock.set.store(true, Ordering::Relaxed);
        fails().await;
        assert_eq!(since(), "2026-06-01T12:01:00Z", "by the clock that is right by now");
        report.state(CloudState::Online, None, None, Some("amqp"));
        assert_eq!(since(), "2026-06-01T12:04:00Z");
        fails().await;
        fails().await;
        assert_eq!(since(), "2026-06-01T12:05:00Z");
    }
}

#[test]
fn the_rate_follows_what_is_accepted() {
    let start = Instant::now();
    let mut rate = Rate::new(start);
    for second in 1..=40 {
        rate.add(start + Duration::from_secs(second), 500);
    }
    assert!((rate.per_second() - 500.0).abs() < 1.0);
    for second in 41..=80 {
        rate.add(start + Duration::from_secs(second), 100);
    }
    assert!((rate.per_second() - 100.0).abs() < 20.0, "{}", rate.per_second());
}

#[tokio::test(start_paused = true)]
async fn a_station_that_keeps_up_has_nothing_to_catch_up_with() {
    let board = Arc::new(Board::default());
    let clock = Late { begun: Instant::now(), shows: "2026-06-01T12:00:00Z", set: AtomicBool::new(true) };
    let timekeeper = Timekeeper::new(Arc::new(clock), "2026-01-01T00:00:00Z".parse().unwrap());
    let mut report = Reporter::new(board.clone(), timekeeper, None);
    // The store knows of the reading's acceptance only after this.
    let mut accepts = async |pending: u64, readings: usize| {
        tokio::time::advance(Duration::from_secs(1)).await;
        board.store.send_modify(|status| status.pending = pending);
        report.accepted(Accepted { messages: readings, readings_count: readings, ..Accepted::default() });
        board.cloud.borrow().eta
    };
    for _ in 0..3 {
        assert_eq!(accepts(1, 1).await, None);
    }
    assert!(accepts(300, 100).await.is_some());
    assert_eq!(accepts(100, 100).await, None);
}

#[test]
fn the_advice_is_about_what_the_hub_says() {
    let told = |condition: &str| {
        Cause::Refused(Refusal { condition: condition.into(), description: String::new(), retry_after: None })
    };
    let unassigned = IdentityError::NotProvisioned { slot: 0, what: "an identity" };
    let quota = "; the hub's daily quota is spent, it is renewed at 00:00 UTC";
    let portal = "; the hub is suspended, or does not allow this: see its page in the portal";
    let device = "; check that the device exists and is enabled at the hub, or provision it again";
    for (cause, advice) in [
        (told("amqp:resource-limit-exceeded"), quota),
        (told("com.microsoft:quota-exceeded"), quota),
        (told("com.microsoft:iot-hub-suspended"), portal),
        (told("amqp:not-allowed"), portal),
        (told("amqp:not-found"), device),
        (told("com.microsoft:device-container-throttled"), "; the hub asks the station to slow down"),
        (told("amqp:internal-error"), ""),
        (Cause::Unassigned(Box::new(Unassigned::from(unassigned))), " (the station tries again by itself)"),
    ] {
        let error = CloudError::new("be let in", cause);
        assert_eq!(explain(&error, error.class()), format!("{error}{advice}"));
    }
}

#[test]
fn what_keeps_a_visit_has_a_reason_and_a_failure_that_fit_each_other() {
    let board = Arc::new(Board::default());
    let clock = Late { begun: Instant::now(), shows: "2026-06-01T12:00:00Z", set: AtomicBool::new(true) };
    let timekeeper = Timekeeper::new(Arc::new(clock), "2026-01-01T00:00:00Z".parse().unwrap());
    let report = Reporter::new(board.clone(), timekeeper, None);
    let said = || {
        let status = board.cloud.borrow().clone();
        (status.reason.unwrap(), status.failure)
    };
    let unknown = Cause::Token { status: 404, description: "device not found".into() };
    let unknown = CloudError::new("have the token accepted", unknown);
    report.offline(&unknown, unknown.class());
    assert_eq!(said().1, Some(Failure::Identity));
    let why = "asking the provisioning service: its name is not found; it is asked again".to_owned();
    report.trouble(Trouble { why: why.clone(), failure: Failure::Name });
    assert_eq!(said(), (why, Some(Failure::Name)));
    // Online is no failure, whatever the hub does not take.
    report.state(CloudState::Online, None, None, Some("amqp"));
    report.held_up(&CloudError::new("have readings accepted", Cause::Lost("given back".into())));
    assert_eq!(said(), ("could not have readings accepted: given back".into(), None));
}
