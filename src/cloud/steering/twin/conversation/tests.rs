//! The order of requests, and what a hub does to it that is late, silent, out of order or hostile.

use serde_json::json;
use tracing::Level;

use super::*;
use crate::log_lines;

mod any_order;

const LIMIT: Duration = Duration::from_secs(60);

struct Talk {
    conversation: Conversation,
    now: Instant,
    wanted: Map<String, Value>,
}

impl Talk {
    fn new() -> Self {
        Self::seeded(1)
    }

    fn seeded(seed: u64) -> Self {
        let now = Instant::now();
        Self { conversation: Conversation::new(LIMIT, seed, now), now, wanted: Map::new() }
    }

    fn next(&mut self) -> Option<(Uuid, Request)> {
        self.conversation.next(self.now, &self.wanted, &[])
    }

    fn asked(&mut self) -> Option<Request> {
        self.next().map(|(_, request)| request)
    }

    fn answer(&mut self, id: Uuid, status: i64, body: &Value) -> Vec<Change> {
        let body = body.to_string();
        self.conversation.answered(self.now, id, Answer { status, version: None, body: body.as_bytes() })
    }

    fn push(&mut self, version: u64) -> Vec<Change> {
        let body = json!({"keepDays": version, "$version": version}).to_string();
        self.conversation.pushed(self.now, body.as_bytes(), None)
    }

    /// Subscribed, and the twin was read at this version.
    fn settled(version: u64) -> Self {
        Self::new().settle(version)
    }

    fn settle(mut self, version: u64) -> Self {
        let talk = &mut self;
        let (id, request) = talk.next().unwrap();
        assert_eq!(request, Request::Subscribe);
        assert_eq!(talk.answer(id, 200, &json!(null)), []);
        let (id, request) = talk.next().unwrap();
        assert_eq!(request, Request::Get);
        let changes = talk.answer(id, 200, &twin(version));
        assert!(matches!(&changes[..], [Change::Whole(twin)] if twin.version == version));
        self
    }

    /// Lets time pass until something is due again.
    fn wait(&mut self) -> Duration {
        let due = self.conversation.due(self.now).unwrap();
        let waited = due - self.now;
        self.now = due;
        waited
    }
}

fn twin(version: u64) -> Value {
    json!({"desired": {"$version": version}, "reported": {"theirs": 1, "$version": 1}})
}

fn versions(changes: &[Change]) -> Vec<u64> {
    changes
        .iter()
        .map(|change| match change {
            Change::Whole(twin) => twin.version,
            Change::Patch(push) => push.version,
        })
        .collect()
}

#[test]
fn it_subscribes_then_reads_then_reports_what_differs_once() {
    let mut talk = Talk::settled(4);
    assert_eq!(talk.asked(), None);
    talk.wanted = json!({"theirs": 1, "a": 2}).as_object().cloned().unwrap();
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Report(json!({"a": 2}).as_object().cloned().unwrap()));
    assert_eq!(talk.asked(), None, "one request is out at a time");
    talk.answer(id, 204, &json!(null));
    assert_eq!(talk.asked(), None, "the hub has it all");
}

#[test]
fn pushes_that_overtake_the_answer_to_get_wait_for_it_and_old_ones_are_dropped() {
    let mut talk = Talk::new();
    let (id, _) = talk.next().unwrap();
    talk.answer(id, 200, &json!(null));
    let (id, _) = talk.next().unwrap();
    for version in [6, 4, 5] {
        assert_eq!(talk.push(version), []);
    }
    let changes = talk.answer(id, 200, &twin(4));
    assert_eq!(versions(&changes), [4, 5, 6]);
    assert_eq!(talk.push(6), []);
    assert_eq!(versions(&talk.push(7)), [7]);
}

#[test]
fn a_version_that_was_skipped_leads_to_another_get() {
    let mut talk = Talk::settled(4);
    assert_eq!(talk.push(6), []);
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Get);
    assert_eq!(versions(&talk.answer(id, 200, &twin(5))), [5, 6]);
    assert_eq!(talk.asked(), None);
}

/// A replacement is pushed without nulls for what it removes.
#[test]
fn a_burst_of_pushes_leads_to_one_more_get_and_what_overtakes_it_to_another() {
    let mut talk = Talk::settled(4);
    for version in 5..9 {
        assert_eq!(versions(&talk.push(version)), [version]);
    }
    assert_eq!(talk.asked(), None);
    assert_eq!(talk.wait(), LIMIT);
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Get);
    assert_eq!(versions(&talk.push(9)), [9], "it holds at once all the same");
    assert_eq!(talk.answer(id, 200, &twin(8)), []);
    assert_eq!(talk.asked(), None);
    assert_eq!(talk.wait(), LIMIT);
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Get);
    assert_eq!(versions(&talk.answer(id, 200, &twin(9))), [9]);
    assert_eq!((talk.asked(), talk.conversation.due(talk.now)), (None, None));
}

#[test]
fn a_get_after_a_push_that_is_not_answered_is_asked_again() {
    let mut talk = Talk::settled(4);
    talk.push(5);
    talk.wait();
    assert_eq!(talk.asked(), Some(Request::Get));
    assert_eq!(talk.wait(), LIMIT);
    assert_eq!(talk.asked(), None, "given up");
    talk.wait();
    assert_eq!(talk.asked(), Some(Request::Get));
}

#[test]
fn a_silent_hub_is_asked_again_later_and_later() {
    let mut talk = Talk::new();
    let mut waits = Vec::new();
    for _ in 0..12 {
        let (id, request) = talk.next().unwrap();
        assert_eq!(request, Request::Subscribe);
        assert_eq!(talk.wait(), LIMIT);
        assert_eq!(talk.asked(), None, "given up");
        waits.push(talk.wait());
        assert_eq!(talk.answer(id, 200, &json!(null)), [], "too late");
    }
    assert!(waits.iter().all(|wait| (5..=3_600).contains(&wait.as_secs())), "{waits:?}");
    assert!(waits.iter().any(|wait| wait.as_secs() > 600), "{waits:?}");
    assert!(waits[0].as_secs() <= 60);
}

#[test]
fn a_throttled_report_is_repeated_and_one_that_is_wrong_is_not() {
    let mut talk = Talk::settled(1);
    talk.wanted = json!({"a": 2}).as_object().cloned().unwrap();
    let (id, _) = talk.next().unwrap();
    talk.answer(id, 429, &json!({"message": "slow down"}));
    assert_eq!(talk.asked(), None);
    talk.wait();
    let (id, _) = talk.next().unwrap();
    talk.answer(id, 400, &json!({"message": "too deep"}));
    talk.wait();
    assert_eq!(talk.asked(), None, "the same would be refused again");
    talk.push(2);
    talk.wait();
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Get);
    talk.answer(id, 200, &twin(2));
    assert_eq!(talk.asked(), None, "also when the twin was read again meanwhile");
    talk.wanted = json!({"a": 3}).as_object().cloned().unwrap();
    assert!(matches!(talk.asked(), Some(Request::Report(_))));
}

#[test]
fn a_hub_that_throttles_or_fails_is_asked_again_within_half_a_minute_and_one_over_its_quota_within_five() {
    for (status, longest) in [(429, 30), (500, 30), (503, 30), (403, 300)] {
        let mut talk = Talk::settled(1);
        talk.wanted = json!({"a": 2}).as_object().cloned().unwrap();
        for _ in 0..10 {
            let (id, request) = talk.next().unwrap();
            assert!(matches!(request, Request::Report(_)), "{status}: {request:?}");
            talk.answer(id, status, &json!(null));
            let wait = talk.wait().as_secs();
            assert!((5..=longest).contains(&wait), "{status}: {wait} s");
        }
        assert!(matches!(talk.asked(), Some(Request::Report(_))), "{status}: it is sent again");
    }
}

/// A hub that throttles a fleet throttles all of them in the same moment.
#[tokio::test(start_paused = true)]
async fn a_hub_that_refuses_for_a_day_is_told_of_each_hour_on_other_links_too() {
    let mut talk = Talk::new();
    let begun = talk.now;
    let mut refusals = 0;
    log_lines::take(Level::WARN);
    while refusals < 5_000 {
        if let Some((id, _)) = talk.next() {
            talk.answer(id, 500, &json!(null));
            refusals += 1;
        }
        let wait = talk.wait();
        tokio::time::advance(wait).await;
        if refusals % 100 == 0 {
            talk.conversation.begin_again(1, talk.now);
        }
    }
    let hours = (talk.now - begun).as_secs() / 3_600;
    let lines = log_lines::take(Level::WARN);
    assert!(hours > 10 && lines.len() as u64 <= hours + 1, "{hours} hours: {}", lines.len());
}

#[test]
fn two_stations_that_have_read_their_twins_do_not_wait_equally_long() {
    let waits = [1, 2].map(|seed| {
        let mut talk = Talk::seeded(seed).settle(1);
        talk.wanted = json!({"a": 2}).as_object().cloned().unwrap();
        let (id, _) = talk.next().unwrap();
        talk.answer(id, 429, &json!({"message": "slow down"}));
        talk.wait()
    });
    assert_ne!(waits[0], waits[1]);
}

#[test]
fn a_twin_that_cannot_be_read_is_read_again_after_a_while() {
    let mut talk = Talk::settled(1);
    let now = talk.now;
    assert_eq!(talk.conversation.pushed(now, b"{\"$version\":2,\"$version\":3}", None), []);
    assert_eq!(talk.asked(), None);
    talk.wait();
    let (id, request) = talk.next().unwrap();
    assert_eq!(request, Request::Get);
    assert_eq!(talk.answer(id, 200, &json!({"desired": []})), []);
    assert_eq!(talk.asked(), None);
    talk.wait();
    assert_eq!(talk.asked(), Some(Request::Get));
}

#[test]
fn a_flood_of_pushes_before_the_answer_is_bounded_and_ends_in_another_get() {
    let mut talk = Talk::new();
    let (id, _) = talk.next().unwrap();
    talk.answer(id, 200, &json!(null));
    let (id, _) = talk.next().unwrap();
    for version in 2..1_000 {
        talk.push(version);
    }
    assert_eq!(talk.conversation.early.len(), EARLY);
    talk.answer(id, 200, &twin(1));
    assert_eq!(talk.asked(), Some(Request::Get));
}
