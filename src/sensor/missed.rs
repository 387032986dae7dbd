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
    /// stays. True if this opens one.
    pub fn add(&mut self, count: u64, from: Stamp, until: Stamp, reason: impl FnOnce() -> String) -> bool {
        self.total += count;
        if let Some(episode) = &mut self.open {
            episode.count += count;
            episode.until = until;
            return false;
        }
        self.open = Some(Episode { count, from, until, reason: reason() });
        true
    }

    /// There is a reading again, or the station stops: hands the episode out.
    pub fn end(&mut self) -> Option<FromSensor> {
        let Episode { count, from, until, reason } = self.open.take()?;
        Some(FromSensor::Missed { count, from, until, reason })
    }

    pub fn total(&self) -> u64 {
        self.total
    }
}
