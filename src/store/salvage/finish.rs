//! The end of a salvage: what is missing, and that there is a new store, are told in one transaction.

use std::sync::Arc;

use serde_json::json;

use super::super::database::Database;
use super::super::events::{self, GAP, STORE_REPLACED};
use super::super::gaps::{DAMAGED, Gap, NO_ROOM};
use super::super::holes::{self, Walk};
use super::super::{Event, StoreError, replace, rollups};
use super::Salvage;

impl Salvage {
    /// Watermarks, holes and the event, in one transaction: a repeated salvage comes to the same end, and tells it once.
    pub(super) fn finish(&self, walk: &Walk, into: &mut Database) -> Result<(), StoreError> {
        let generation = self.survey.generation();
        let old = self.survey.watermark.as_ref();
        let Walk { count, pending, holes, names, .. } = walk;
        let mut told_before = holes::already_told(&into.connection)?;
        let replacement_told = holes::is_replacement_told(&into.connection, &names.name(generation))?;
        let mut watermark = into.watermark.clone();
        watermark.salvaged = walk.sent;
        watermark.events = watermark.events.max(old.map_or(0, |old| old.events));
        let mut number = into.last_event.max(watermark.events);
        let stamp = into.timekeeper.stamp();
        let mut event = |store_id: &Arc<str>, kind: &str, fields| {
            number += 1;
            Event::recorded(number, &into.run, store_id, kind, fields, &stamp)
        };
        // What one store has not may be in the next one: the walk of the last one goes over them all. Where the watermark is
        // lost it would not know where this one begins.
        let is_last = old.is_none() || replace::waiting(&into.path).iter().all(|path| *path == self.aside);
        let holes: &[_] = if is_last { holes } else { &[] };
        let mut told: Vec<Event> =
            holes.iter().map(|(of, hole)| event(&names.name(*of), GAP, hole.fields(DAMAGED))).collect();
        for (of, gap) in &self.let_go {
            let name = names.name(*of);
            let before = told_before.entry(name.clone()).or_default();
            for (first, last) in before.unknown_in(gap.first, gap.last) {
                told.push(event(&name, GAP, Gap { first, last, ..*gap }.fields(NO_ROOM)));
            }
        }
        if !replacement_told {
            let previous = names.name(generation);
            let fields = json!({"previousStoreId": *previous, "salvaged": count, "reason": self.reason});
            told.push(event(&into.store_id, STORE_REPLACED, events::fields(fields)));
        }
        let mut progress = into.progress.clone();
        progress.salvage.clear();
        into.transaction("finish the salvage", |connection| {
            told.iter().try_for_each(|event| events::write(connection, event))?;
            watermark.write(connection)?;
            rollups::end_salvaged(connection)?;
            progress.write(connection)
        })?;
        (into.watermark, into.lag) = (watermark, None);
        into.progress = progress;
        into.last_event = number;
        into.origins = names.clone();
        (into.salvaged_pending, into.salvaged_counted) = (*pending, None);
        tracing::error!(
            salvaged = count, holes = holes.len(), reason = self.reason,
            kept = %replace::name_when_done(&self.aside).display(),
            "the store was damaged: a new one has taken its place with what could be read"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::super::super::database::beside;
    use super::super::super::row::Row;
    use super::super::super::salvaged;
    use super::super::Phase;
    use super::super::tests::{begin, gap, open};
    use super::*;

    /// Damaged twice before its readings were sent: what the second damage took is named by the first store's name.
    #[test]
    fn readings_of_an_older_store_that_are_lost_now_are_told_under_its_name() {
        // Accepted of the first store, told as missing of it before, and what is to be told.
        let cases = [
            (0, None, vec![(1, 19), (40, 50)]),
            (45, None, vec![(46, 50)]),
            (0, Some(43), vec![(1, 19), (40, 42), (44, 50)]),
        ];
        for (accepted, told_before, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let aside = folder.path().join("aside");
            let mut middle = open(&aside, 2);
            let of_the_first = |connection: &Connection| {
                salvaged::write_origin(connection, 1, "first")?;
                if let Some(sequence) = told_before {
                    let only = Gap::only(sequence, None);
                    let (store_id, fields) = (Arc::from("first"), only.fields(DAMAGED));
                    events::write(connection, &Event { store_id, fields, ..gap(1, 1, false) })?;
                }
                (20..=100)
                    .filter(|sequence| !(40..=50).contains(sequence))
                    .try_for_each(|sequence| salvaged::keep(connection, 1, &Row::example(sequence)).map(drop))
            };
            middle.transaction("keep", of_the_first).unwrap();
            middle.count_salvaged_step().unwrap();
            middle.insert(&(3..=10).map(Row::example).collect::<Vec<_>>()).unwrap();
            if accepted > 0 {
                middle.acknowledge(salvaged::position(salvaged::key(1, accepted))).unwrap();
            }
            let middle_id = middle.store_id.clone();
            middle.close(true).unwrap();
            let mut new = open(&folder.path().join("readings.db"), 3);
            let mut salvage = begin(&aside);
            while salvage.step(&mut new).unwrap() {}
            new.salvaging = false;
            let events = new.pending_events(100).unwrap();
            let of = |store: &str| {
                let gaps = events.iter().filter(|event| event.kind == "gap" && *event.store_id == *store);
                gaps.map(|gap| (gap.fields["first"].as_u64().unwrap(), gap.fields["last"].as_u64().unwrap()))
                    .filter(|(first, _)| told_before != Some(*first))
                    .collect::<Vec<_>>()
            };
            assert_eq!(of("first"), expected, "{events:?}");
            assert_eq!(of(&middle_id), [(1, 2)], "{events:?}");
        }
    }

    /// Damaged again before its salvage of the first store was done: what one of them has not is in the other, and what
    /// the hub has is not lost.
    #[test]
    fn what_is_lost_of_two_stores_is_told_when_both_are_salvaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("readings.db");
        let [first, second] = ["1", "2"].map(|date| beside(&path, &format!(".salvage-{date}")));
        let lost = |sequence: u64| [100, 210, 240].contains(&(sequence / 10 * 10));
        let mut old = open(&first, 1);
        let rows = (1..=300).filter(|sequence| !lost(*sequence)).map(Row::example);
        old.insert(&rows.collect::<Vec<_>>()).unwrap();
        old.acknowledge(old.watermark.position(200)).unwrap();
        let first_id = old.store_id.clone();
        old.close(true).unwrap();
        let mut middle = open(&second, 2);
        let of_the_first = |connection: &Connection| {
            salvaged::write_origin(connection, 1, &first_id)?;
            (1..=230)
                .filter(|sequence| !lost(*sequence) || sequence / 10 == 21)
                .try_for_each(|sequence| salvaged::keep(connection, 1, &Row::example(sequence)).map(drop))
        };
        middle.transaction("keep", of_the_first).unwrap();
        middle.insert(&(1..=10).map(Row::example).collect::<Vec<_>>()).unwrap();
        middle.close(true).unwrap();
        let mut new = open(&path, 3);
        for aside in [&first, &second] {
            let mut salvage = begin(aside);
            while salvage.step(&mut new).unwrap() {}
            replace::done(&path, aside).unwrap();
        }
        new.salvaging = false;
        assert_eq!(new.salvaged_pending, 100 - 10 + 10);
        let told: Vec<_> = new.pending_events(100).unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|event| {
                (&*event.kind, &event.store_id, event.fields.get("first").and_then(|at| at.as_u64()))
            })
            .collect();
        let replaced = ("storeReplaced", &new.store_id, None);
        assert_eq!(told, [replaced, ("gap", &first_id, Some(240)), replaced]);
    }

    /// Killed between its end and the last name of the file, or that name could not be given.
    #[test]
    fn a_salvage_that_is_made_once_more_is_told_once() {
        let folder = tempfile::tempdir().unwrap();
        let aside = folder.path().join("aside");
        let mut old = open(&aside, 1);
        let rows = (1..=1_200).filter(|sequence| *sequence != 1_000).map(Row::example);
        old.insert(&rows.collect::<Vec<_>>()).unwrap();
        old.close(true).unwrap();
        let mut new = open(&folder.path().join("readings.db"), 2);
        for _ in 0..2 {
            let mut salvage = begin(&aside);
            while !matches!(&salvage.phase, Phase::Walk(_)) {
                assert!(salvage.step(&mut new).unwrap());
            }
            assert!(salvage.make_room(&mut new, true).unwrap());
            while salvage.step(&mut new).unwrap() {}
        }
        new.salvaging = false;
        let events = new.pending_events(100).unwrap();
        let told = events.iter().map(|event| {
            (&*event.kind, event.fields.get("first").and_then(|first| first.as_u64()).unwrap_or(0))
        });
        assert_eq!(told.collect::<Vec<_>>(), [("gap", 1_000), ("gap", 1), ("storeReplaced", 0)]);
    }
}
