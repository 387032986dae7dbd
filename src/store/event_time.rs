//! Events that were recorded before the clock could be trusted get their time once it can, as the readings do: by the
//! boot they are of and the time since it. Once, before they are handed out. Knows the mark that they carry meanwhile.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use super::Event;
use super::events::{self, MISSED};
use crate::observation::rfc3339;
use crate::reading::{Stamp, TimeQuality};

/// Among the fields of an event that waits for its time; never handed out.
const MARK: &str = "undated";

/// The fields of `missedSamples`. Both moments are told by one clock, that of `now`: it may have been set in between.
pub(crate) fn missed(
    count: u64,
    from: &Stamp,
    until: &Stamp,
    reason: &str,
    now: &Stamp,
) -> Map<String, Value> {
    let time = |moment: &Stamp| rfc3339(moment.shown_by(now));
    events::fields(json!({ "count": count, "from": time(from), "until": time(until), "reason": reason }))
}

/// Two events of missed samples as one, under the number of the first: it counts both, from the first until the last.
/// As in an episode, the first reason stays. None where they cannot be told by one clock.
pub(crate) fn joined(before: &Event, next: &Event) -> Option<Event> {
    let time = |event: &Event, key: &str| event.fields.get(key)?.as_str()?.parse::<DateTime<Utc>>().ok();
    let count = |event: &Event| event.fields.get("count").and_then(Value::as_u64);
    let since_boot = |event: &Event| event.fields.get(MARK).map(|mark| mark["sinceBoot"].as_i64());
    // Both wait for their time, by the clock of the second; or neither does.
    let set = match (since_boot(before), since_boot(next)) {
        (None, None) => TimeDelta::zero(),
        (Some(one), Some(other)) => next.time - before.time - TimeDelta::milliseconds(other? - one?),
        _ => return None,
    };
    let mut fields = next.fields.clone();
    fields.insert("count".into(), (count(before)? + count(next)?).into());
    fields.insert("from".into(), rfc3339(time(before, "from")? + set).into());
    fields.insert("reason".into(), before.fields.get("reason")?.clone());
    Some(Event { event_sequence: before.event_sequence, fields, ..next.clone() })
}

impl Event {
    /// One of the moment `now`. It waits for its time where that is not known.
    pub(crate) fn recorded(
        event_sequence: u64,
        run: &Arc<str>,
        store_id: &Arc<str>,
        kind: &str,
        mut fields: Map<String, Value>,
        now: &Stamp,
    ) -> Self {
        mark(&mut fields, now);
        let (run, store_id, kind) = (run.clone(), store_id.clone(), kind.to_owned());
        Self { event_sequence, run, store_id, time: now.time, kind, fields }
    }
}

/// Notes the moment where its time is not known.
pub(crate) fn mark(fields: &mut Map<String, Value>, stamp: &Stamp) {
    if stamp.time_quality == TimeQuality::Unknown {
        let boot = format!("{:032x}", stamp.boot.0);
        let since_boot = u64::try_from(stamp.since_boot.as_millis()).unwrap_or(u64::MAX);
        fields.insert(MARK.into(), json!({ "boot": boot, "sinceBoot": since_boot }));
    }
}

/// Whether it waits for its time.
pub(crate) fn is_undated(event: &Event) -> bool {
    event.fields.contains_key(MARK)
}

/// Gives it its time; `now` can be trusted. One of an earlier boot keeps the time it has, and says what that is worth.
pub(crate) fn date(event: &mut Event, now: &Stamp) {
    let Some(mark) = event.fields.remove(MARK) else { return };
    let of_this_boot = mark["boot"].as_str() == Some(format!("{:032x}", now.boot.0).as_str());
    let Some(since_boot) = mark["sinceBoot"].as_u64().filter(|_| of_this_boot) else {
        event.fields.insert("timeQuality".into(), "unknown".into());
        return;
    };
    let passed = i64::try_from(now.since_boot.as_millis()).unwrap_or(i64::MAX);
    let passed = passed.saturating_sub(i64::try_from(since_boot).unwrap_or(i64::MAX));
    let right = now.time - TimeDelta::milliseconds(passed);
    let off = right - event.time;
    event.time = right;
    // Those of missed samples were read from the same clock; those of a gap are the readings' own.
    if event.kind == MISSED {
        for key in ["from", "until"] {
            let text = event.fields.get(key).and_then(Value::as_str);
            if let Some(time) = text.and_then(|text| text.parse::<DateTime<Utc>>().ok()) {
                event.fields.insert(key.into(), rfc3339(time + off).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::BootId;

    fn stamp(since_boot: u64, time: &str, time_quality: TimeQuality) -> Stamp {
        let time = time.parse().expect("a time");
        Stamp { boot: BootId(1), since_boot: Duration::from_secs(since_boot), time, time_quality }
    }

    fn event(number: u64, count: u64, from: &Stamp, until: &Stamp, reason: &str) -> Event {
        let fields = missed(count, from, until, reason, until);
        Event::recorded(number, &Arc::from("run"), &Arc::from("store"), "missedSamples", fields, until)
    }

    /// The clock is set between the two, to a time that is as wrong as the first, and then right.
    #[test]
    fn missed_samples_that_are_told_together_get_their_times_together() {
        let unknown = TimeQuality::Unknown;
        let before = event(
            7,
            2,
            &stamp(100, "1970-01-01T00:01:40Z", unknown),
            &stamp(160, "1970-01-01T00:02:40Z", unknown),
            "no answer",
        );
        let next = event(
            9,
            3,
            &stamp(220, "1970-01-01T05:00:00Z", unknown),
            &stamp(280, "1970-01-01T05:01:00Z", unknown),
            "pulled out",
        );
        let mut both = joined(&before, &next).expect("one of both");
        assert!(is_undated(&both));
        let now = stamp(1_000, "2026-06-01T12:16:40Z", TimeQuality::Synchronised);
        date(&mut both, &now);
        let expected = json!({
            "count": 5, "reason": "no answer",
            "from": "2026-06-01T12:01:40.000Z", "until": "2026-06-01T12:04:40.000Z",
        });
        assert_eq!((both.event_sequence, Value::Object(both.fields)), (7, expected));
        let dated = event(10, 1, &now, &now, "no answer");
        assert!(joined(&before, &dated).is_none(), "one has its time, and the other waits for it");
    }
}
