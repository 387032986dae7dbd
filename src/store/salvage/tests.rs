//! What comes out of a damaged store, and in what steps.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use rusqlite::Connection;
use serde_json::json;

use super::super::Event;
use super::super::gaps::NO_ROOM;
use super::super::keeper::Keeper;
use super::*;
use crate::clock::{SystemClock, Timekeeper};
use crate::config;

pub fn open(path: &Path, generation: u64) -> Database {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
    let mut database = Database::open(path, false, generation, "", &timekeeper, &Arc::from("run")).unwrap();
    database.salvaging = generation > 1;
    database
}

pub fn begin(aside: &Path) -> Salvage {
    Salvage::begin(aside.to_owned(), Survey::of(aside), "the card".into(), None)
}

fn count(database: &Database) -> u64 {
    salvaged::count(&database.connection, 0, u64::MAX >> 1).unwrap()
}

/// The watchdog would end the station in a step that reads all of a large store, and the next one again.
#[test]
fn the_end_of_a_large_salvage_comes_in_several_steps() {
    const LAST: u64 = 25_000;
    const HOLES: [RangeInclusive<u64>; 3] = [9_990..=9_999, 12_000..=12_000, 20_001..=20_005];
    let folder = tempfile::tempdir().unwrap();
    let aside = folder.path().join("aside");
    let mut old = open(&aside, 1);
    let rows: Vec<Row> = (1..=LAST)
        .filter(|sequence| HOLES.iter().all(|hole| !hole.contains(sequence)))
        .map(Row::example)
        .collect();
    old.insert(&rows).unwrap();
    old.acknowledge(old.watermark.position(1_000)).unwrap();
    old.close(true).unwrap();
    let mut new = open(&folder.path().join("readings.db"), 2);
    let mut salvage = begin(&aside);
    let all = rows.len() as u64;
    let mut steps_at_the_end = 0;
    loop {
        steps_at_the_end += u64::from(count(&new) == all);
        let walked = |salvage: &Salvage| if let Phase::Walk(walk) = &salvage.phase { walk.count } else { 0 };
        let before = walked(&salvage);
        if !salvage.step(&mut new).unwrap() {
            break;
        }
        assert!(walked(&salvage) - before <= salvaged::STEP, "{before}, then {}", walked(&salvage));
    }
    assert!(
        steps_at_the_end > LAST / salvaged::STEP,
        "{steps_at_the_end} steps for the end of {all} readings"
    );
    assert_eq!(new.salvaged_pending, all - 1_000);
    new.salvaging = false;
    let events = new.pending_events(100).unwrap();
    let (last, gaps) = events.split_last().unwrap();
    let told: Vec<_> = gaps
        .iter()
        .map(|gap| gap.fields["first"].as_u64().unwrap()..=gap.fields["last"].as_u64().unwrap())
        .collect();
    assert_eq!(told, HOLES);
    assert_eq!((&*last.kind, last.fields["salvaged"].as_u64()), ("storeReplaced", Some(all)));
}

#[test]
fn what_is_let_go_while_the_end_is_under_way_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let aside = folder.path().join("aside");
    let mut old = open(&aside, 1);
    old.insert(&(1..=12_000).map(Row::example).collect::<Vec<_>>()).unwrap();
    old.close(true).unwrap();
    let mut new = open(&folder.path().join("readings.db"), 2);
    let mut salvage = begin(&aside);
    while !matches!(&salvage.phase, Phase::Walk(walk) if walk.count > 0) {
        assert!(salvage.step(&mut new).unwrap());
    }
    assert!(salvage.make_room(&mut new, true).unwrap());
    while salvage.step(&mut new).unwrap() {}
    assert_eq!((new.salvaged_pending, count(&new)), (11_500, 11_500));
    new.salvaging = false;
    let events = new.pending_events(100).unwrap();
    let [gap, replaced] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!((&gap.fields["first"], &gap.fields["last"]), (&1.into(), &500.into()));
    assert_eq!(replaced.fields["salvaged"], 11_500);
}

pub fn gap(event_sequence: u64, last: u64, undated: bool) -> Event {
    let mut fields = Gap { first: 1, last, from: None, until: None }.fields(NO_ROOM);
    if undated {
        fields.insert("undated".into(), json!({ "boot": "", "sinceBoot": 1 }));
    }
    let (run, store_id) = (Arc::from("run"), Arc::from("old"));
    Event { event_sequence, run, store_id, time: DateTime::UNIX_EPOCH, kind: "gap".into(), fields }
}

fn missed(event_sequence: u64, count: u64, undated: bool) -> Event {
    let mut event = Event { kind: "missedSamples".into(), ..gap(event_sequence, 1, undated) };
    event.fields.retain(|key, _| key == "undated");
    event.fields.insert("count".into(), count.into());
    event
}

/// One is in the database still, the other in the journal.
#[test]
fn of_two_versions_of_an_event_the_later_one_is_salvaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old");
    let mut old = open(&path, 1);
    let write = |old: &mut Database, event: &Event| {
        old.transaction("record", |connection| events::write(connection, event)).unwrap();
    };
    (1..=2).for_each(|number| write(&mut old, &gap(number, 500, true)));
    old.empty_journal().unwrap();
    let later = [gap(1, 1_000, true), gap(2, 500, false)];
    later.iter().for_each(|event| write(&mut old, event));
    let aside = folder.path().join("aside");
    for ending in ["", "-wal"] {
        std::fs::copy(beside(&path, ending), beside(&aside, ending)).unwrap();
    }
    let mut new = open(&folder.path().join("readings.db"), 2);
    let mut salvage = begin(&aside);
    while salvage.step(&mut new).unwrap() {}
    new.salvaging = false;
    let events: Vec<Event> =
        (1..=2).map(|number| events::stored(&new.connection, number).unwrap().unwrap()).collect();
    assert_eq!(events, later);
}

/// Pages lie in no order, and what SQLite has freed keeps what was there.
#[test]
fn the_order_in_which_versions_are_found_does_not_matter_and_another_event_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let new = open(&folder.path().join("readings.db"), 2);
    let gaps = [gap(1, 500, false), gap(1, 1_000, true), gap(1, 1_000, false)];
    let missed = [missed(1, 5, false), missed(1, 9, true), missed(1, 9, false)];
    for versions in [gaps, missed] {
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [1, 0, 2]] {
            events::forget(&new.connection, 1).unwrap();
            order.iter().for_each(|which| events::keep(&new.connection, &versions[*which]).unwrap());
            assert_eq!(events::stored(&new.connection, 1).unwrap().as_ref(), Some(&versions[2]), "{order:?}");
        }
    }
    let own = Event { store_id: Arc::from("new"), ..gap(2, 7, true) };
    events::write(&new.connection, &own).unwrap();
    events::keep(&new.connection, &gap(2, 500, false)).unwrap();
    assert_eq!(events::stored(&new.connection, 2).unwrap(), Some(own));
}

/// They wait for a hub, and on a slow card the station would be silent for minutes at each start.
#[test]
fn salvaged_readings_are_counted_in_steps_when_the_store_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let config = config::Store { path: folder.path().join("readings.db"), ..config::Store::default() };
    full_of_salvaged(&config.path);
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
    let pending = |keeper: &Keeper| keeper.database.as_ref().unwrap().salvaged_pending;
    let accept = |keeper: &mut Keeper, row: u64| {
        keeper.ask(|database| database.acknowledge(salvaged::position(salvaged::key(1, row)))).unwrap();
    };
    // Accepted are some of those that were counted, all of them, and more than that.
    for accepted in [100, 10_000, 12_000] {
        let mut keeper = Keeper::open(&config, &timekeeper, "run".into()).unwrap();
        assert!(pending(&keeper) <= salvaged::STEP, "{}", pending(&keeper));
        accept(&mut keeper, accepted);
        assert!(pending(&keeper) > 0, "what waits behind them would be passed over");
        while keeper.keep_house(Some(Duration::from_secs(86_400))).more {}
        assert_eq!(pending(&keeper), 25_000 - accepted);
        accept(&mut keeper, accepted + 1);
        assert_eq!(pending(&keeper), 25_000 - accepted - 1);
        keeper.close().unwrap();
    }
}

#[test]
fn a_salvaged_reading_that_is_lost_before_it_was_counted_is_not_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("readings.db");
    full_of_salvaged(&path);
    let mut database = open(&path, 2);
    database.salvaging = false;
    database.connection.execute("UPDATE salvaged SET temperature = 0 WHERE row % 100 = 0", []).unwrap();
    let position = |row| salvaged::position(salvaged::key(1, row));
    assert_eq!(database.pending(Some(position(19_000)), 100).unwrap().readings.len(), 99);
    while database.count_salvaged_step().unwrap() {}
    assert_eq!(database.salvaged_pending, 24_999);
    // Nor is it taken for the end of them where none that was counted is left.
    (database.salvaged_pending, database.salvaged_counted) = (0, Some(salvaged::key(1, 500)));
    let page = database.pending(Some(position(500)), 1).unwrap();
    assert_eq!(page.readings.first().map(|(position, _)| *position), Some(position(501)));
}

/// Those that were counted are gone, and the others wait to be counted.
#[test]
fn salvaged_readings_come_first_before_they_are_counted_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("readings.db");
    full_of_salvaged(&path);
    let mut database = open(&path, 2);
    database.salvaging = false;
    database.insert(&(1..=10).map(Row::example).collect::<Vec<_>>()).unwrap();
    (database.salvaged_pending, database.salvaged_counted) = (0, Some(0));
    assert!(database.evict(true).unwrap());
    let own: i64 =
        database.connection.query_row("SELECT count(*) FROM reading", [], |row| row.get(0)).unwrap();
    assert_eq!((count(&database), own), (24_500, 10));
    // Nor is one of this store accepted before those that come before it.
    (database.salvaged_pending, database.salvaged_counted) = (0, Some(salvaged::key(1, 500)));
    database.acknowledge(database.watermark.position(1)).unwrap();
    assert_eq!(database.watermark.salvaged, salvaged::key(1, 25_000));
}

/// A store that is closed.
fn full_of_salvaged(path: &Path) {
    let mut database = open(path, 2);
    let keep = |connection: &Connection| {
        (1..=25_000).try_for_each(|sequence| salvaged::keep(connection, 1, &Row::example(sequence)).map(drop))
    };
    database.transaction("keep", keep).unwrap();
    database.close(true).unwrap();
}
