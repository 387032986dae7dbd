//! The end of a salvage: what is missing, and that there is a new store, are told in one transaction.

use std::sync::Arc;

use serde_json::json;

use super::super::database::Database;
use super::super::gaps::{DAMAGED, Gap, NO_ROOM};
use super::super::holes::{self, Walk};
use super::super::{Event, StoreError, events, replace, rollups};
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
        let mut told: Vec<Event> =
            holes.iter().map(|(of, hole)| event(&names.name(*of), "gap", hole.fields(DAMAGED))).collect();
        for (of, gap) in &self.let_go {
            let name = names.name(*of);
            let before = told_before.entry(name.clone()).or_default();
            for (first, last) in before.unknown_in(gap.first, gap.last) {
                told.push(event(&name, "gap", Gap { first, last, ..*gap }.fields(NO_ROOM)));
            }
        }
        if !replacement_told {
            let previous = names.name(generation);
            let fields = json!({"previousStoreId": *previous, "salvaged": count, "reason": self.reason});
            let fields = fields.as_object().cloned().unwrap_or_default();
            told.push(event(&into.store_id, "storeReplaced", fields));
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
