//! Which group comes next, and how long one waits.

use super::super::super::error::Refusal;
use super::*;
use crate::backoff::HEALTHY;

/// How long the group waits after being told this ten times.
fn wait_after_ten(cause: impl Fn() -> Cause) -> Duration {
    let mut group = Group::new(Kind::Twin, 1);
    for _ in 0..10 {
        group.lost(&CloudError::new("attach the twin links", cause()));
    }
    let now = Instant::now();
    group.due(now).unwrap_or(now) - now
}

#[tokio::test(start_paused = true)]
async fn the_group_that_has_no_answer_is_attached_last_on_the_next_connection_too() {
    let kinds = [Kind::Twin, Kind::Methods, Kind::Messages];
    let now = Instant::now();
    for told in [false, true] {
        let mut groups = kinds.map(|kind| Group::new(kind, 1));
        assert_eq!(next(&groups, now), Some(Kind::Twin));
        groups[0].asked();
        if told {
            groups[0].slow(&CloudError::new("attach the twin links", Cause::TooSlow(HEALTHY)));
        }
        groups.iter_mut().for_each(Group::disconnected);
        assert_eq!(next(&groups, now), Some(Kind::Methods));
        groups[1].asked();
        groups.iter_mut().for_each(Group::disconnected);
        assert_eq!(next(&groups, now), Some(Kind::Messages));
    }
    // One that fails waits behind one that does not, however long ago.
    let mut groups = kinds.map(|kind| Group::new(kind, 1));
    groups[0].lost(&CloudError::new("attach the twin links", Cause::IllegalState));
    assert_eq!(next(&groups, now + AGAIN.cap), Some(Kind::Methods));
    assert_eq!(next(&groups[..1], now), None, "not due");
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_the_connection_takes_along_counts_for_its_own_group_alone() {
    let mut groups = [Kind::Twin, Kind::Methods, Kind::Messages].map(|kind| Group::new(kind, 1));
    groups[0].asked();
    let broken = CloudError::new("attach the twin links", Cause::Lost("the connection broke".into()));
    groups.iter_mut().for_each(Group::rest);
    groups[0].attached(Err(broken)).unwrap();
    assert_eq!(next(&groups[1..], Instant::now()), None, "the end of the connection is about to be told");
    groups.iter_mut().for_each(Group::disconnected);
    let longest = Instant::now() + AGAIN.cap;
    assert_eq!(next(&groups, Instant::now()), Some(Kind::Methods));
    assert_eq!(next(&groups, longest), Some(Kind::Methods), "the twin comes last");
}

fn told(condition: &str, retry_after: Option<Duration>) -> Cause {
    Cause::Refused(Refusal { condition: condition.into(), description: String::new(), retry_after })
}

#[tokio::test(start_paused = true)]
async fn how_long_a_group_waits_depends_on_what_took_it_away() {
    let throttled = "com.microsoft:device-container-throttled";
    let seven = Duration::from_secs(7);
    assert_eq!(wait_after_ten(|| told(throttled, Some(seven))), seven, "the hub's wish");
    for (condition, longest) in
        [(throttled, 30), ("amqp:link:detach-forced", 60), ("com.microsoft:quota-exceeded", 300)]
    {
        let wait = wait_after_ten(|| told(condition, None));
        assert!(wait <= Duration::from_secs(longest), "{condition}: {wait:?}");
    }
    // A hub that has none of these links, or does not answer about them, is asked later and later.
    for cause in [
        || told("amqp:not-allowed", None),
        || told("amqp:not-found", None),
        || told("com.microsoft:argument-error", None),
        || Cause::TooSlow(Duration::from_secs(60)),
    ] {
        let longest = (1..20).map(|_| wait_after_ten(cause)).max();
        assert!(longest > Some(Duration::from_secs(300)), "{longest:?}");
    }
}
