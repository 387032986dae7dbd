//! `verify`: what a hub exported is complete, or it is said what is missing and why.

use base64::Engine;
use serde_json::{Value, json};
use weather_station::store::verify::{Report, Span, Verifier};

pub fn reading(sequence: u64) -> Value {
    json!({
        "deviceId": "roof", "time": format!("2026-06-01T12:00:{:02}.000Z", sequence % 60), "storeId": "s-1",
        "sequence": sequence, "currentTemperature": 10.0, "currentHumidity": 50.0, "currentPressure": 100.0,
    })
}

pub fn verify(lines: impl IntoIterator<Item = String>) -> Report {
    let text: Vec<String> = lines.into_iter().collect();
    let mut verifier = Verifier::default();
    verifier.read(text.join("\n").as_bytes()).unwrap();
    verifier.report()
}

fn all(count: u64) -> Vec<String> {
    (1..=count).map(|sequence| reading(sequence).to_string()).collect()
}

#[test]
fn a_file_with_every_sequence_is_complete() {
    let report = verify(all(100));
    assert!(report.complete);
    assert_eq!(
        report.to_string(),
        "device roof, store s-1: 100 readings, 1 to 100\n\
         complete: 100 readings, no sequence missing without a reason"
    );
}

#[test]
fn holes_are_listed_one_by_one() {
    let mut lines = all(20);
    lines.remove(14);
    lines.drain(2..5);
    let report = verify(lines);
    assert!(!report.complete);
    assert_eq!(report.stores[0].holes, [Span { first: 3, last: 5 }, Span { first: 15, last: 15 }]);
    assert!(
        report.to_string().ends_with("not complete: 4 readings are missing and nothing says why"),
        "{report}"
    );
}

#[test]
fn a_file_that_begins_late_is_not_complete() {
    let report = verify(all(20).split_off(5));
    assert_eq!(report.stores[0].holes, [Span { first: 1, last: 5 }]);
    assert!(report.to_string().contains("missing: 1 to 5 (5) (the files begin at 6)"), "{report}");
}

#[test]
fn gap_and_dead_letter_events_explain_what_they_name_and_no_more() {
    let mut lines = all(20);
    lines.drain(2..10);
    let event = |event: &str, first: u64, last: u64, key: &str| json!({"deviceId": "roof", "storeId": "s-1", "event": event, "eventSequence": 1, "first": first, "last": last, key: "why"});
    lines.push(event("gap", 4, 6, "reason").to_string());
    lines.push(event("deadLetter", 8, 8, "condition").to_string());
    let report = verify(lines);
    let store = &report.stores[0];
    assert_eq!(
        store.holes,
        [Span { first: 3, last: 3 }, Span { first: 7, last: 7 }, Span { first: 9, last: 10 }]
    );
    let explained: Vec<_> =
        store.explained.iter().map(|gap| (gap.first, gap.last, gap.reason.as_str())).collect();
    assert_eq!(explained, [(4, 6, "why"), (8, 8, "refused by the hub: why")]);
}

#[test]
fn an_overlapping_and_a_nested_gap_explain_once() {
    let mut lines = all(20);
    lines.drain(2..10);
    for (first, last) in [(1, 8), (4, 5), (6, 12)] {
        lines.push(json!({"deviceId": "roof", "storeId": "s-1", "event": "gap", "first": first, "last": last, "reason": "r"}).to_string());
    }
    let report = verify(lines);
    assert!(report.complete, "{report}");
}

#[test]
fn duplicates_and_rolled_back_numbers_are_told_apart() {
    let mut lines = all(10);
    lines.push(reading(4).to_string());
    let mut other = reading(7);
    other["time"] = "2026-06-02T00:00:00.000Z".into();
    lines.push(other.to_string());
    let report = verify(lines);
    let store = &report.stores[0];
    assert!(report.complete);
    assert_eq!((store.duplicates, store.rolled_back.len()), (1, 1));
    assert_eq!((store.rolled_back[0].sequence, store.rolled_back[0].readings), (7, 2));
}

#[test]
fn exports_that_overlap_are_counted_right() {
    let mut other = reading(7);
    other["time"] = "2026-06-02T00:00:00.000Z".into();
    let mut export = all(10);
    export.push(other.to_string());
    let report = verify(export.iter().chain(&export).cloned());
    let store = &report.stores[0];
    assert_eq!((store.duplicates, store.rolled_back[0].sequence, store.rolled_back[0].readings), (11, 7, 2));
}

#[test]
fn the_run_in_the_message_id_tells_readings_apart() {
    let wrapped = |sequence: u64, run: &str| {
        json!({"body": reading(sequence), "systemProperties": {"message-id": format!("s-1-{run}-{sequence}")}}).to_string()
    };
    let report = verify([wrapped(1, "abc"), wrapped(1, "abc"), wrapped(2, "abc"), wrapped(2, "xyz")]);
    assert_eq!((report.stores[0].duplicates, report.stores[0].rolled_back.len()), (1, 1));
}

#[test]
fn every_form_of_azure_is_understood() {
    let base64 = |value: Value| base64::engine::general_purpose::STANDARD.encode(value.to_string());
    let lines = vec![
        reading(1).to_string(),
        json!({"body": reading(2)}).to_string(),
        json!({"EnqueuedTimeUtc": "2026-06-01T12:00:00Z", "Properties": {}, "SystemProperties":
            {"connectionDeviceId": "roof", "contentType": "application/json"}, "Body": reading(3)})
        .to_string(),
        json!({"EnqueuedTimeUtc": "2026-06-01T12:00:00Z", "SystemProperties": {}, "Body": base64(reading(4))}).to_string(),
        json!({"SequenceNumber": 9, "Offset": "1", "Body": reading(5).to_string()}).to_string(),
        // One command prints its events over several lines.
        serde_json::to_string_pretty(&json!({"event": {"origin": "roof", "module": "", "payload": reading(6).to_string()}})).unwrap(),
        serde_json::to_string_pretty(&json!({"event": {"origin": "roof", "payload": reading(7)}})).unwrap(),
        // A packed message, bare and wrapped.
        json!([reading(8), reading(9)]).to_string(),
        json!({"Body": base64(json!([reading(10), reading(11)]))}).to_string(),
        // A file that is one array.
        json!([{"body": reading(12)}, {"Body": base64(reading(13))}]).to_string(),
    ];
    let report = verify(lines);
    assert!(report.complete, "{report}");
    assert_eq!((report.readings, report.unreadable_lines.len(), report.others), (13, 0, 0));
}

/// It names the branches of unions, and writes a body as a text of a letter a byte.
#[test]
fn a_capture_that_avro_tools_made_json_of_is_understood() {
    let wrapped = |sequence: u64, run: &str| {
        let mut body = reading(sequence);
        body.as_object_mut().unwrap().remove("deviceId");
        body["note"] = "12 °C".into();
        let letters: String = body.to_string().bytes().map(char::from).collect();
        json!({"SequenceNumber": 9, "Offset": "1", "Properties": {}, "Body": {"bytes": letters}, "SystemProperties": {
            "message-id": {"string": format!("s-1-{run}-{sequence}")},
            "iothub-connection-device-id": {"string": "roof"}, "x-opt-sequence-number": {"long": 9}}})
        .to_string()
    };
    let report = verify([wrapped(1, "abc"), wrapped(2, "abc"), wrapped(2, "xyz"), wrapped(3, "abc")]);
    assert!(report.complete, "{report}");
    let store = &report.stores[0];
    assert_eq!(
        (store.device_id.as_str(), store.readings, store.rolled_back.len()),
        ("roof", 3, 1),
        "{report}"
    );
}

#[test]
fn stores_and_devices_are_judged_apart() {
    let mut lines = all(5);
    for sequence in [1, 3] {
        let mut other = reading(sequence);
        other["storeId"] = "s-2".into();
        lines.push(other.to_string());
    }
    lines.push(json!({"deviceId": "roof", "storeId": "s-2", "event": "storeReplaced", "previousStoreId": "s-1", "salvaged": 5, "reason": "r"}).to_string());
    let report = verify(lines);
    assert_eq!(report.stores.len(), 2);
    assert_eq!(report.stores[1].holes, [Span { first: 2, last: 2 }]);
    assert_eq!(report.stores[1].replaces.as_deref(), Some("s-1"));
    assert!(report.to_string().contains("took the place of store s-1"), "{report}");
}

#[test]
fn rubbish_is_counted_and_an_empty_file_proves_nothing() {
    let report = verify(["{\"a\":".into(), "nonsense".into(), json!({"temperature": 1}).to_string()]);
    assert!(!report.complete);
    assert!(!report.unreadable_lines.is_empty());
    assert!(report.to_string().ends_with("not complete: there are no readings"), "{report}");
    assert!(!verify([]).complete);
}

#[test]
fn a_line_that_was_cut_short_costs_no_other_line() {
    for cut in ["{\"deviceId\":", "[", "[1,", "{\"a\":1", "{\"deviceId\":\"ro"] {
        let mut lines = all(5);
        lines.insert(2, cut.into());
        let report = verify(lines);
        assert!(report.complete, "{cut}: {report}");
        assert_eq!((report.readings, report.unreadable_lines.contains(&3)), (5, true), "{cut}");
    }
}

#[test]
fn an_array_over_many_lines_is_read_whole() {
    let all: Vec<Value> = (1..=2_000).map(reading).collect();
    let report = verify([serde_json::to_string_pretty(&all).unwrap()]);
    assert!(report.complete, "{report}");
    assert_eq!((report.readings, report.unreadable_lines.len()), (2_000, 0));
}

/// A new identity, or the card in another station: the store goes on.
#[test]
fn a_store_that_sent_under_two_names_is_judged_as_one() {
    let under = |device: &str, sequence: u64| {
        let mut reading = reading(sequence);
        reading["deviceId"] = device.into();
        reading.to_string()
    };
    let gap =
        json!({"deviceId": "mast", "storeId": "s-1", "event": "gap", "first": 3, "last": 4, "reason": "r"});
    let mut lines: Vec<String> = [1, 2, 5].map(|sequence| under("roof", sequence)).into();
    lines.extend([6, 7, 9, 10].map(|sequence| under("mast", sequence)));
    lines.push(gap.to_string());
    let report = verify(lines.clone());
    let [mast, roof] = &report.stores[..] else { panic!("{report}") };
    assert_eq!(mast.holes, [Span { first: 8, last: 8 }]);
    assert_eq!((roof.holes.len(), roof.explained.len()), (0, 1));
    lines.push(under("mast", 8));
    assert!(verify(lines.clone()).complete);
    // Two cards that go on from one copy hide nothing of each other.
    let mut other: Value = reading(7);
    other["time"] = "2026-07-01T00:00:00.000Z".into();
    lines.push(other.to_string());
    let report = verify(lines);
    assert_eq!(report.stores[1].holes, [Span { first: 3, last: 4 }, Span { first: 6, last: 6 }], "{report}");
}

#[test]
fn a_reading_in_two_forms_of_export_is_the_same_reading() {
    let wrapped = |sequence: u64, run: &str| {
        json!({"body": reading(sequence), "systemProperties": {"message-id": format!("s-1-{run}-{sequence}")}}).to_string()
    };
    let mut lines = all(3);
    lines.extend((1..=3).map(|sequence| wrapped(sequence, "abc")));
    lines.extend((1..=3).map(|sequence| wrapped(sequence, "abc")));
    let report = verify(lines.clone());
    let store = &report.stores[0];
    assert_eq!((store.duplicates, store.rolled_back.len()), (6, 0), "{report}");
    assert!(report.to_string().contains("duplicates: 6, of 1 to 3 (3)"), "{report}");
    lines.push(wrapped(2, "xyz"));
    assert_eq!(verify(lines).stores[0].rolled_back.len(), 1);
}
