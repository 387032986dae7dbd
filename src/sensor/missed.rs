//! Accounts for samples that were due and could not be taken: one episode at a time, from the first miss to the
//! next reading. Pure: the stamps are parameters.

use crate::reading::{FromSensor, Stamp};

/// The open episode, if there is one, and the count since the process started.
#[derive(Debug, Default)]
pub struct Missed {
    open: Option<Episode>,
    total: u64,
}

#[derive(Debug)]
struct Episode {
    count: u64,
    from: Stamp,
    until: Stamp,
    reason: String,
}

impl Missed {
    /// `count` samples that were due between the two stamps were not taken. The first reason of an episode
    /// stays. Returns how many the episode has missed by now.
    pub fn add(&mut self, count: u64, from: Stamp, until: Stamp, reason: &str) -> u64 {
        self.total += count;
        let new = || Episode { count: 0, from, until, reason: reason.into() };
        let episode = self.open.get_or_insert_with(new);
        episode.count += count;
        episode.until = until;
        episode.count
    }

    /// There is a reading again, or the station stops: hands the episode out.
    pub fn end(&mut self) -> Option<FromSensor> {
        let Episode { count, from, until, reason } = self.open.take()?;
        Some(FromSensor::Missed { count, from, until, reason })
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}
