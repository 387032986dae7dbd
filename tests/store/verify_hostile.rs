//! `verify` of what no station sends: numbers that no reading has, texts that would steer a terminal, very many gaps.

use serde_json::{Value, json};
use tokio::time::Instant;
use weather_station::store::verify::{Span, Verifier};

use super::verify::{reading, verify};

#[test]
fn an_event_or_a_reading_whose_numbers_cannot_be_is_counted_as_unreadable_and_explains_nothing() {
    let beyond = 1_u64 << 63;
    for (event, first, last) in [
        ("gap", json!(8), json!(2)),
        ("deadLetter", json!(8), json!(2)),
        ("gap", json!(0), json!(9)),
        ("gap", json!(2), json!(beyond)),
        ("gap", json!(u64::MAX), json!(u64::MAX)),
        ("gap", json!(-2), json!(8)),
        ("gap", json!(2.0), json!(8.0)),
        ("gap", json!(2), Value::Null),
    ] {
        let told = json!({"deviceId": "roof", "storeId": "s-1", "event": event, "first": first, "last": last, "count": 7});
        let report = verify([reading(1).to_string(), told.to_string(), reading(9).to_string()]);
        let store = &report.stores[0];
        assert_eq!(
            (&store.holes[..], store.explained.len()),
            (&[Span { first: 2, last: 8 }][..], 0),
            "{told}"
        );
        assert_eq!((report.events, &report.unreadable_lines[..]), (0, &[2][..]), "{told}");
        assert!(report.to_string().ends_with("not complete: 7 readings are missing and nothing says why"));
    }
    for sequence in [json!(0), json!(-1), json!(beyond), json!(u64::MAX), json!("3"), json!(1.5)] {
        let mut other = reading(2);
        other["sequence"] = sequence;
        let report = verify([reading(1).to_string(), other.to_string()]);
        assert_eq!(
            (report.readings, report.others, &report.unreadable_lines[..]),
            (1, 0, &[2][..]),
            "{other}"
        );
    }
}

#[test]
fn the_greatest_numbers_are_counted_right() {
    let last = i64::MAX.unsigned_abs();
    let mut lines: Vec<String> = Vec::new();
    for store in ["s-1", "s-2", "s-3"] {
        for sequence in [1, last, last, last] {
            let mut reading = reading(sequence);
            reading["storeId"] = store.into();
            lines.push(reading.to_string());
        }
    }
    let report = verify(lines);
    assert_eq!(report.stores[0].duplicated, [Span { first: last, last }]);
    let missing = 3 * (u128::from(last) - 2);
    assert!(
        report
            .to_string()
            .ends_with(&format!("not complete: {missing} readings are missing and nothing says why")),
        "{report}"
    );
}

#[test]
fn events_that_overlap_beyond_the_end_of_a_hole_explain_it_once() {
    let last = i64::MAX.unsigned_abs();
    let mut lines: Vec<String> = [1, 9, 10].map(|sequence| reading(sequence).to_string()).into();
    for (first, last) in [(1, 9), (2, 10), (2, last), (last, last)] {
        lines.push(json!({"deviceId": "roof", "storeId": "s-1", "event": "gap", "first": first, "last": last, "reason": "r"}).to_string());
    }
    let report = verify(lines);
    assert!(report.complete, "{report}");
    let explained: Vec<_> = report.stores[0].explained.iter().map(|gap| (gap.first, gap.last)).collect();
    assert_eq!(explained, [(2, 8), (11, last)]);
}

/// Each hole is held against the events that are near it, not against all.
#[test]
fn very_many_gaps_are_explained_in_the_time_of_their_number() {
    let mut lines: Vec<String> = (1..=60_000_u64).map(|n| reading(3 * n).to_string()).collect();
    lines.extend((0..60_000_u64).map(|n| {
        let (first, last) = (3 * n + 1, 3 * n + 2);
        json!({"deviceId": "roof", "storeId": "s-1", "event": "gap", "first": first, "last": last, "reason": "r"}).to_string()
    }));
    let mut verifier = Verifier::default();
    let begin = Instant::now();
    verifier.read(lines.join("\n").as_bytes()).unwrap();
    let reading = begin.elapsed();
    let report = verifier.report();
    assert!(report.complete);
    assert_eq!(report.stores[0].explained.len(), 60_000);
    assert!(begin.elapsed() < 4 * reading, "{:?}, {reading:?} of it for reading", begin.elapsed());
}

#[test]
fn what_the_messages_say_cannot_write_to_the_terminal() {
    let hostile = "\u{1b}[31m\r\ncomplete: \u{9b}2J°";
    let named = |sequence: u64| {
        let mut reading = reading(sequence);
        reading["storeId"] = hostile.into();
        reading["deviceId"] = hostile.into();
        reading.to_string()
    };
    let event = |event: &str, key: &str, sequence: u64| {
        json!({"deviceId": hostile, "storeId": hostile, "event": event, "first": sequence, "last": sequence,
            key: hostile})
        .to_string()
    };
    let report = verify([
        named(1),
        event("gap", "reason", 2),
        named(3),
        event("deadLetter", "condition", 4),
        named(5),
        event("storeReplaced", "previousStoreId", 0),
    ]);
    let said = report.to_string();
    assert_eq!((report.readings, said.lines().count()), (3, 5), "{said:?}");
    assert!(said.chars().all(|c| c == '\n' || !c.is_control()), "{said:?}");
    let shown = r"\u{1b}[31m\u{d}\u{a}complete: \u{9b}2J°";
    assert!(said.starts_with(&format!("device {shown}, store {shown}: 3 readings")), "{said}");
}
