//! What is owed and what is known when a store is opened once more.

use std::path::Path;
use std::time::Duration;

use super::super::{event_time, salvaged};
use super::*;
use crate::reading::{Celsius, Hectopascal, Measurement, Percent, Quality, Sample};

/// The store as it is at this moment, but for one bit at the beginning of its journal: SQLite would drop all of that.
fn copy_with_a_damaged_journal(from: &Path, to: &Path) {
    for ending in ["", "-wal"] {
        let file = |folder: &Path| beside(&folder.join("readings.db"), ending);
        std::fs::copy(file(from), file(to)).unwrap();
    }
    let journal = beside(&to.join("readings.db"), "-wal");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[journal::HEADER + 500] ^= 1;
    std::fs::write(&journal, bytes).unwrap();
}

fn append(keeper: &mut Keeper, degrees: f64) {
    keeper.take([sample(keeper, degrees)]);
    keeper.sync().unwrap();
}

fn sample(keeper: &Keeper, degrees: f64) -> Sample {
    let measurement = Measurement {
        air_temperature: Celsius(degrees),
        relative_humidity: Percent(50.0),
        station_pressure: Hectopascal(1_000.0),
    };
    Sample { stamp: keeper.timekeeper.stamp(), measurement, quality: Quality::Good }
}

#[test]
fn a_check_that_was_not_made_is_owed_after_an_orderly_stop_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut killed = Keeper::in_folder(folder.path());
    append(&mut killed, 1.0);
    drop(killed);
    let mut stopped = Keeper::in_folder(folder.path());
    assert!(stopped.take_unchecked().is_some());
    stopped.close().unwrap();
    let mut checked = Keeper::in_folder(folder.path());
    let subject = checked.take_unchecked().expect("nobody has checked it");
    checked.checked(&subject, Ok(()));
    checked.close().unwrap();
    assert!(Keeper::in_folder(folder.path()).take_unchecked().is_none());
}

/// The run would not tell the second one from the first.
#[test]
fn a_number_that_the_file_has_lost_is_not_given_again_by_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::in_folder(folder.path());
    for number in 1..=3 {
        append(&mut keeper, f64::from(number));
    }
    drop(keeper.take_database());
    let connection = rusqlite::Connection::open(&keeper.config.path).unwrap();
    connection.execute("DELETE FROM reading WHERE sequence = 3", []).unwrap();
    drop(connection);
    keeper.reopen().unwrap();
    append(&mut keeper, 4.0);
    assert_eq!(keeper.last_sequence(), 4);
}

/// It is opened again after a read has failed, and its journal was damaged meanwhile.
#[test]
fn what_the_journal_had_lost_is_put_back_within_the_same_run_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::in_folder(folder.path());
    append(&mut keeper, 1.0);
    keeper.ask(|database| database.empty_journal()).unwrap();
    for number in 2..=4 {
        append(&mut keeper, f64::from(number));
    }
    keeper.keep_event("missedSamples", serde_json::Map::new());
    let files = ["", "-wal"].map(|ending| beside(&keeper.config.path, ending));
    let [database, mut journal] = files.each_ref().map(|file| std::fs::read(file).unwrap());
    journal[journal::HEADER + 10] ^= 1;
    drop(keeper.take_database());
    for (file, bytes) in files.iter().zip([database, journal]) {
        std::fs::write(file, bytes).unwrap();
    }
    keeper.reopen().unwrap();
    append(&mut keeper, 5.0);
    let page = keeper.ask(|database| database.pending(None, 100)).unwrap();
    let sequences: Vec<u64> = page.readings.iter().map(|(_, reading)| reading.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5]);
    assert_eq!(keeper.ask(|database| database.pending_events(10)).unwrap().len(), 1);
}

/// Where many events wait one takes all of them in: the file has it with what had been counted until then.
#[test]
fn missed_samples_that_the_journal_had_lost_are_counted_all_the_same() {
    let (folder, damaged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut before = Keeper::in_folder(folder.path());
    let now = before.timekeeper.stamp();
    let miss = |keeper: &mut Keeper| {
        let fields = event_time::missed(1, &now, &now, "no answer", &now);
        keeper.ask(|database| database.record_event("missedSamples", fields, now.time)).unwrap();
    };
    (0..1_000).for_each(|_| miss(&mut before));
    before.ask(|database| database.empty_journal()).unwrap();
    (0..20).for_each(|_| miss(&mut before));
    copy_with_a_damaged_journal(folder.path(), damaged.path());
    let mut after = Keeper::in_folder(damaged.path());
    let events = after.ask(|database| database.pending_events(2_000)).unwrap();
    let told: u64 = events.iter().map(|event| event.fields["count"].as_u64().unwrap()).sum();
    assert_eq!((events.len(), told), (1_000, 1_020));
}

/// All that a salvage has found may be in the part of the journal that SQLite drops, and the damaged file is done with.
#[test]
fn salvaged_readings_that_the_journal_had_lost_are_put_back() {
    let (folder, damaged) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut before = Keeper::in_folder(folder.path());
    let degrees = |number: i32| f64::from(number) / 100.0;
    let samples: Vec<Sample> = (1..=2_000).map(|number| sample(&before, degrees(number))).collect();
    before.take(samples);
    before.sync().unwrap();
    before.replace(&StoreError::Damaged { what: "the card".into() }).unwrap();
    before.ask(|database| database.empty_journal()).unwrap();
    while before.holds_back() {
        before.keep_house(Some(Duration::from_secs(86_400)));
    }
    before.ask(|database| database.acknowledge(salvaged::position(salvaged::key(1, 10)))).unwrap();
    copy_with_a_damaged_journal(folder.path(), damaged.path());
    let mut after = Keeper::in_folder(damaged.path());
    let read = |keeper: &mut Keeper| {
        let page = keeper.ask(|database| database.pending(None, 3_000)).unwrap();
        let readings = page.readings.into_iter().map(|(_, reading)| {
            (reading.store_id.to_string(), reading.sequence, reading.sample.measurement.air_temperature.0)
        });
        readings.collect::<Vec<_>>()
    };
    let expected = read(&mut before);
    assert_eq!(expected.len(), 1_990);
    assert_eq!(read(&mut after), expected);
    assert_eq!(after.ask(|database| Ok(database.pending_count())).unwrap(), 1_990);
}

/// Its commit failed, and is in the damaged file all the same.
#[test]
fn a_reading_that_is_still_in_memory_is_not_salvaged_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::in_folder(folder.path());
    for number in 1..=3 {
        append(&mut keeper, f64::from(number));
    }
    keeper.in_doubt = Some(2);
    keeper.take([sample(&keeper, 3.0)]);
    keeper.replace(&StoreError::Damaged { what: "the card".into() }).unwrap();
    keeper.sync().unwrap();
    while keeper.holds_back() {
        keeper.keep_house(Some(Duration::from_secs(86_400)));
    }
    let page = keeper.ask(|database| database.pending(None, 100)).unwrap();
    let degrees: Vec<f64> =
        page.readings.iter().map(|(_, reading)| reading.sample.measurement.air_temperature.0).collect();
    assert_eq!(degrees, [1.0, 2.0, 3.0]);
}

/// On disk the watermark is behind, and the page that it stands on is lost.
#[test]
fn what_memory_knows_of_the_watermark_goes_along_with_a_store_that_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::in_folder(folder.path());
    (1..=5).for_each(|number| append(&mut keeper, f64::from(number)));
    keeper.ask(|database| database.empty_journal()).unwrap();
    keeper.ask(|database| database.acknowledge(database.watermark.position(4))).unwrap();
    let id = keeper.database.as_ref().unwrap().store_id.clone();
    let mut file = std::fs::read(&keeper.config.path).unwrap();
    for page in file.chunks_mut(1024) {
        if page.windows(id.len()).any(|window| window == id.as_bytes()) {
            page.fill(0x55);
        }
    }
    std::fs::write(&keeper.config.path, file).unwrap();
    keeper.replace(&StoreError::Damaged { what: "the card".into() }).unwrap();
    while keeper.holds_back() {
        keeper.keep_house(Some(Duration::from_secs(86_400)));
    }
    let page = keeper.ask(|database| database.pending(None, 100)).unwrap();
    let waits: Vec<_> =
        page.readings.iter().map(|(_, reading)| (&*reading.store_id, reading.sequence)).collect();
    assert_eq!(waits, [(&*id, 5)]);
}
