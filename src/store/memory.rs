//! What waits in memory because it may (`max_loss`) or must (no room, no database). Bounded; what falls out is counted
//! and told later. Knows no disk.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::event_time;
use super::events::MISSED;
use crate::reading::{Sample, Stamp};

/// Readings at most: a week at one a minute.
const SAMPLES: usize = 10_000;
/// Events at most.
const EVENTS: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub samples: VecDeque<Sample>,
    pub events: VecDeque<(String, Map<String, Value>, DateTime<Utc>)>,
    /// Fell out: how many, and when the first and the last were taken.
    lost: Option<(u64, Stamp, Stamp)>,
}

impl Memory {
    pub fn is_full(&self) -> bool {
        self.samples.len() >= SAMPLES
    }

    /// The oldest one gives way.
    pub fn take(&mut self, sample: Sample) {
        if self.is_full()
            && let Some(oldest) = self.samples.pop_front()
        {
            if self.lost.is_none() {
                tracing::error!("no room on disk and none in memory: readings are lost");
            }
            let (count, from, _) = self.lost.unwrap_or((0, oldest.stamp, oldest.stamp));
            self.lost = Some((count + 1, from, oldest.stamp));
        }
        self.samples.push_back(sample);
    }

    pub fn keep_event(&mut self, kind: &str, mut fields: Map<String, Value>, now: &Stamp) {
        event_time::mark(&mut fields, now);
        if self.events.len() >= EVENTS
            && let Some((kind, fields, time)) = self.events.pop_front()
        {
            tracing::error!(kind, ?fields, %time, "no room on disk and none in memory: an event is lost");
        }
        self.events.push_back((kind.to_owned(), fields, now.time));
    }

    /// The station ends, and what is here ends with it.
    pub fn say_what_goes(&self) {
        if let Some((count, from, until)) = self.lost {
            let (from, until) = (from.time, until.time);
            tracing::error!(count, %from, %until, "readings were lost while there was no room");
        }
        if let (Some(first), Some(last)) = (self.samples.front(), self.samples.back()) {
            let (count, from, until) = (self.samples.len(), first.stamp.time, last.stamp.time);
            tracing::error!(count, %from, %until, "readings that could not be put on disk are lost");
        }
        for (kind, fields, time) in &self.events {
            tracing::error!(kind, ?fields, %time, "an event that could not be put on disk is lost");
        }
    }

    /// Makes an event of the readings that fell out.
    pub fn tell_what_was_lost(&mut self, now: &Stamp) {
        if let Some((count, from, until)) = self.lost.take() {
            let reason = "there was no room on the disk for longer than the memory lasted";
            let fields = event_time::missed(count, &from, &until, reason, now);
            self.keep_event(MISSED, fields, now);
        }
    }
}
