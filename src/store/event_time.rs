//! Events that were recorded before the clock could be trusted get their time once it can, as the readings do: by the
//! boot they are of and the time since it. Once, before they are handed out. Knows the mark that they carry meanwhile.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};

use super::Event;
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
    let fields = json!({ "count": count, "from": time(from), "until": time(until), "reason": reason });
    fields.as_object().cloned().unwrap_or_default()
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
    let right = now.time - chrono::TimeDelta::milliseconds(passed);
    let off = right - event.time;
    event.time = right;
    // Those of missed samples were read from the same clock; those of a gap are the readings' own.
    if event.kind == "missedSamples" {
        for key in ["from", "until"] {
            let text = event.fields.get(key).and_then(Value::as_str);
            if let Some(time) = text.and_then(|text| text.parse::<DateTime<Utc>>().ok()) {
                event.fields.insert(key.into(), rfc3339(time + off).into());
            }
        }
    }
}
