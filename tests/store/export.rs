//! Export beside the running station.

use weather_station::store::export::{Exported, Format, Selection, export};

use crate::support::{Place, date};

const ALL: Selection<'static> =
    Selection { since: None, until: None, format: Format::Json, device_id: "roof", altitude: None };

#[tokio::test]
async fn the_export_is_what_was_stored_while_the_station_runs() {
    let place = Place::new();
    let mut store = place.start();
    store.append(1_234).await;
    let mut out = Vec::new();
    let exported = export(place.path(), ALL, &mut out).unwrap();
    assert_eq!(exported, Exported { readings: 1_234, damaged: 0 });
    let text = String::from_utf8(out).unwrap();
    let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(
        (
            &first["deviceId"],
            &first["sequence"],
            &first["time"],
            &first["currentTemperature"],
            &first["currentPressure"]
        ),
        (&"roof".into(), &1.into(), &"2026-06-01T12:00:00.000Z".into(), &10.01.into(), &100.01.into())
    );
    let sequences: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["sequence"].as_u64().unwrap())
        .collect();
    assert_eq!(sequences, (1..=1_234).collect::<Vec<_>>());
    store.stop().await;
    // And after it has stopped.
    assert_eq!(export(place.path(), ALL, std::io::sink()).unwrap().readings, 1_234);
}

#[tokio::test]
async fn a_table_has_a_header_and_only_the_times_that_were_asked_for() {
    let place = Place::new();
    let mut store = place.start();
    for _ in 0..5 {
        store.append(1).await;
        place.clock.advance(std::time::Duration::from_secs(60));
    }
    store.stop().await;
    let selection = Selection {
        since: Some(date("2026-06-01T12:01:00Z")),
        until: Some(date("2026-06-01T12:03:00Z")),
        format: Format::Csv,
        altitude: Some(120.0),
        ..ALL
    };
    let mut out = Vec::new();
    export(place.path(), Selection { device_id: "roof,1", ..selection }, &mut out).unwrap();
    assert!(String::from_utf8(out).unwrap().lines().nth(1).unwrap().starts_with("\"roof,1\",2026-"));
    let mut out = Vec::new();
    export(place.path(), selection, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(
        lines[0]
            .starts_with("deviceId,time,currentTemperature,currentHumidity,currentPressure,seaLevelPressure")
    );
    assert!(lines[1].starts_with("roof,2026-06-01T12:01:00.000Z,10.02,40.04,100.02,101."), "{}", lines[1]);
    assert!(lines[1].ends_with(",2"), "{}", lines[1]);
}

#[test]
fn an_export_of_nothing_says_what_it_could_not_open() {
    let place = Place::new();
    let error = export(place.path(), ALL, std::io::sink()).unwrap_err();
    assert_eq!(error.to_string(), "could not open the database for reading");
}
