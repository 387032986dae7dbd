//! A damaged card: bytes flipped and files cut, database and journal. The station goes on; a flipped byte never becomes
//! weather; what is missing is known to be missing.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use weather_station::reading::{FromSensor, Sample};
use weather_station::status::StoreState;
use weather_station::store::{Event, Position};

use crate::support::{Place, Running, sample, slow};

const READINGS: u64 = 10_000;
const SENT: u64 = 2_000;
const PAGE: usize = 1024;
/// Rows on one page, and a page more for those around it.
const A_PAGE: usize = 40;

/// Rows that a page holds at most.
const ON_A_PAGE: usize = 20;

/// A store as a kill leaves it: with a journal that is not copied into the database yet.
struct Original {
    database: Vec<u8>,
    journal: Vec<u8>,
    samples: Vec<Sample>,
    store_id: String,
}

async fn original() -> Original {
    let place = Place::new();
    let store = place.start();
    let mut samples = Vec::new();
    for number in 1..=READINGS {
        let sample = sample(store.timekeeper.stamp(), number);
        samples.push(sample);
        store.samples.send(FromSensor::Sample(sample)).await.unwrap();
        place.clock.advance(Duration::from_secs(60));
        if number == READINGS - 500 {
            store.synced(number).await;
            store.handle.acknowledge(Position { generation: 1, row: SENT }).await.unwrap();
        }
        // The last ones one by one, as a station writes them.
        if number > READINGS - 100 {
            store.synced(number).await;
        }
    }
    let store_id = store.status(|status| status.last_sequence == READINGS).await.store_id;
    let copy = |path| fs::read(path).unwrap();
    Original {
        database: copy(place.path().to_owned()),
        journal: copy(place.beside("-wal")),
        samples,
        store_id,
    }
}

/// What came out of a damaged store.
struct Outcome {
    missing: Vec<u64>,
    unexplained: Vec<u64>,
    replaced: bool,
}

async fn drain(store: &Running, original: &Original, what: &str) -> (BTreeMap<u64, ()>, Vec<Event>) {
    let mut found = BTreeMap::new();
    let mut at_rest = false;
    for _ in 0..400 {
        let page = match store.handle.pending(None, 5_000).await {
            Ok(page) => page,
            Err(_) => {
                // It is being replaced.
                tokio::time::sleep(Duration::from_secs(1)).await;
                continue;
            }
        };
        for (_, reading) in &page.readings {
            let stored = usize::try_from(reading.sequence)
                .unwrap()
                .checked_sub(1)
                .and_then(|index| original.samples.get(index));
            assert_eq!(
                Some(&reading.sample),
                stored,
                "{what}: sequence {} became other weather",
                reading.sequence
            );
            found.insert(reading.sequence, ());
        }
        if !page.readings.is_empty() {
            store.handle.acknowledge(page.end).await.unwrap();
            at_rest = false;
            continue;
        }
        let events = store.handle.pending_events(1_000).await.unwrap();
        let status = store.board.store.borrow().clone();
        let replaced = status.store_id != original.store_id;
        // What cannot be found waits for a check of the file before it is told.
        let rests = status.pending == 0 && status.state == StoreState::Ok;
        if rests && !replaced || events.iter().any(|event| event.kind == "storeReplaced") {
            // The salvage may have ended after the page was read.
            if at_rest {
                return (found, events);
            }
            at_rest = true;
            continue;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    panic!("{what}: the store never came to rest: {:?}", store.board.store.borrow());
}

async fn outcome(original: &Original, database: &[u8], journal: Option<&[u8]>, what: &str) -> Outcome {
    let place = Place::new();
    fs::write(place.path(), database).unwrap();
    if let Some(journal) = journal {
        fs::write(place.beside("-wal"), journal).unwrap();
    }
    let mut store = place.start_as("after").unwrap();
    let (found, events) = drain(&store, original, what).await;
    let replaced = events.iter().any(|event| event.kind == "storeReplaced");
    let told = |sequence: u64| {
        events.iter().any(|event| {
            let number = |key: &str| event.fields[key].as_u64().unwrap();
            event.kind == "gap" && (number("first")..=number("last")).contains(&sequence)
        })
    };
    let missing: Vec<u64> = (SENT + 1..=READINGS).filter(|sequence| !found.contains_key(sequence)).collect();
    let unexplained = missing.iter().copied().filter(|sequence| !told(*sequence)).collect();
    // And it goes on.
    store.send(1).await;
    let last = store.handle.clone();
    store.status(|status| status.in_memory == 0 && status.pending > 0).await;
    drop(last);
    store.stop().await;
    Outcome { missing, unexplained, replaced }
}

/// Nothing is missing in silence: but for the newest readings, whose number nobody can know.
fn assert_known(outcome: &Outcome, what: &str) {
    let tail = (READINGS + 1 - outcome.unexplained.len() as u64..=READINGS).collect::<Vec<_>>();
    assert!(
        outcome.unexplained == tail,
        "{what}: {} missing and not told, from {:?} on",
        tail.len(),
        outcome.unexplained.first()
    );
}

/// Not left over from before the journal last started over: of those a few are enough.
fn counts(journal: &[u8], frame: usize) -> bool {
    let at = 32 + frame * (PAGE + 24);
    journal[at + 8..at + 16] == journal[16..24] || frame.is_multiple_of(64)
}

/// Every page in the slow run, every some in the plain one.
fn stride(pages: usize) -> usize {
    if slow() { 1 } else { pages / 24 + 1 }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_anywhere_in_the_database_never_becomes_weather() {
    let original = original().await;
    let pages = original.database.len() / PAGE;
    let mut random = fastrand::Rng::with_seed(7);
    for page in (0..pages).step_by(stride(pages)) {
        let mut database = original.database.clone();
        let at = page * PAGE + random.usize(..PAGE);
        database[at] ^= 1 << random.u8(..8);
        let what = format!("byte {at} of the database");
        let outcome = outcome(&original, &database, Some(&original.journal), &what).await;
        assert_known(&outcome, &what);
        assert!(outcome.missing.len() <= A_PAGE, "{what}: {} are missing", outcome.missing.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_flipped_byte_anywhere_in_the_journal_costs_at_most_a_page() {
    let original = original().await;
    let frames = (original.journal.len() - 32) / (PAGE + 24);
    let mut random = fastrand::Rng::with_seed(8);
    let frames: Vec<usize> = (0..frames).filter(|frame| counts(&original.journal, *frame)).collect();
    for &frame in frames.iter().step_by(stride(frames.len())) {
        let mut journal = original.journal.clone();
        let at = 32 + frame * (PAGE + 24) + random.usize(..PAGE + 24);
        journal[at] ^= 1 << random.u8(..8);
        let what = format!("byte {at} of the journal");
        let outcome = outcome(&original, &original.database, Some(&journal), &what).await;
        assert_known(&outcome, &what);
        assert!(outcome.missing.len() <= A_PAGE, "{what}: {} are missing", outcome.missing.len());
    }
    for at in 0..32 {
        let mut journal = original.journal.clone();
        journal[at] ^= 1;
        let what = format!("byte {at} of the journal's header");
        let outcome = outcome(&original, &original.database, Some(&journal), &what).await;
        assert_known(&outcome, &what);
        assert!(outcome.missing.len() <= A_PAGE, "{what}: {} are missing", outcome.missing.len());
        if !slow() && at == 3 {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_cut_at_any_page_is_replaced_and_what_is_left_is_salvaged() {
    let original = original().await;
    let pages = original.database.len() / PAGE;
    for page in (0..pages).step_by(stride(pages) * 2) {
        let what = format!("the database cut at page {page}");
        let outcome =
            outcome(&original, &original.database[..page * PAGE], Some(&original.journal), &what).await;
        // The journal may hold all that was cut off: then nothing is wrong.
        assert!(outcome.replaced || (page + 8 >= pages && outcome.missing.is_empty()), "{what}: not noticed");
        assert_known(&outcome, &what);
        let most = (pages - page) * ON_A_PAGE;
        assert!(outcome.missing.len() <= most, "{what}: {} are missing", outcome.missing.len());
    }
    let frames = (original.journal.len() - 32) / (PAGE + 24);
    let frames: Vec<usize> = (0..frames).filter(|frame| counts(&original.journal, *frame)).collect();
    for &frame in frames.iter().step_by(stride(frames.len()) * 2) {
        let what = format!("the journal cut in frame {frame}");
        let cut = 32 + frame * (PAGE + 24) + 100;
        let outcome = outcome(&original, &original.database, Some(&original.journal[..cut]), &what).await;
        assert_known(&outcome, &what);
        let present = frames.iter().filter(|other| **other >= frame).count();
        let most = present * ON_A_PAGE;
        assert!(outcome.missing.len() <= most, "{what}: {} are missing", outcome.missing.len());
    }
}

#[tokio::test(start_paused = true)]
async fn salvaged_readings_keep_their_names_and_go_out_first() {
    let original = original().await;
    let place = Place::new();
    fs::write(place.path(), &original.database[..original.database.len() / 2 / PAGE * PAGE]).unwrap();
    fs::write(place.beside("-wal"), &original.journal).unwrap();
    let mut store = place.start_as("after").unwrap();
    store.status(|status| !status.store_id.is_empty() && status.store_id != original.store_id).await;
    store.send(5).await;
    store.status(|status| status.last_sequence == 5).await;
    let mut page = store.page().await;
    while page.readings.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        page = store.page().await;
    }
    let first = &page.readings[0].1;
    assert_eq!(
        (&*first.store_id, first.sequence, &*first.run),
        (original.store_id.as_str(), SENT + 1, "first")
    );
    // A restart in the middle of it changes nothing.
    store.handle.acknowledge(page.end).await.unwrap();
    store.stop().await;
    let store = place.start_as("later").unwrap();
    let next = store.page().await;
    assert_eq!(next.readings[0].1.sequence, SENT + 501);
    let mut after = None;
    let mut last = Vec::new();
    loop {
        let page = store.handle.pending(after, 2_000).await.unwrap();
        if page.readings.is_empty() {
            break;
        }
        after = Some(page.end);
        last = page.readings;
    }
    let (_, newest) = last.last().unwrap();
    assert_eq!((newest.sequence, &*newest.run), (5, "after"));
    assert_ne!(&*newest.store_id, original.store_id);
    store.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_that_comes_after_the_replacement_means_the_same_readings() {
    let original = original().await;
    let place = Place::new();
    // The damage is in the index of the readings: the pages at the beginning can be handed out.
    fs::write(place.path(), &original.database).unwrap();
    fs::write(place.beside("-wal"), &original.journal).unwrap();
    let store = place.start_as("after").unwrap();
    let page = store.page().await;
    let before = store.board.store.borrow().store_id.clone();
    store.stop().await;
    let mut database = fs::read(place.path()).unwrap();
    database.truncate(database.len() / 2);
    fs::write(place.path(), &database).unwrap();
    let mut store = place.start_as("later").unwrap();
    store.status(|status| !status.store_id.is_empty() && status.store_id != before).await;
    store.handle.acknowledge(page.end).await.unwrap();
    store.send(1).await;
    let mut next = store.page().await;
    while next.readings.is_empty() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        next = store.page().await;
    }
    assert_eq!(next.readings[0].1.sequence, page.readings.last().unwrap().1.sequence + 1);
    assert_eq!(&*next.readings[0].1.store_id, original.store_id);
    store.stop().await;
}
