//! What the keeper does between the readings, and against trouble: salvage, re-dating, pruning, making room, opening
//! again. One step at a time, so that no reading waits long.

use std::time::Duration;

use tokio::time::Instant;

use super::StoreError;
use super::keeper::Keeper;
use super::trouble::{Trouble, is_unreadable};
use super::{replace, room};
use crate::chain::chain;
use crate::clock::Timekeeper;

/// How often the house is kept when there is nothing to do.
const OFTEN: Duration = Duration::from_secs(5);
/// A ballast that could not be made is tried again after this: each attempt may write all of it.
const AN_HOUR: Duration = Duration::from_secs(3_600);

/// When the house is kept.
#[derive(Debug)]
pub(crate) struct Rounds {
    timekeeper: Timekeeper,
    due: Instant,
}

/// What a round came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct House {
    /// There is more to do.
    pub more: bool,
    /// Readings that had to wait can be handed out.
    pub released: bool,
}

impl Rounds {
    pub fn begin(timekeeper: &Timekeeper) -> Self {
        Self { timekeeper: timekeeper.clone(), due: Instant::now() }
    }

    pub fn due(&self) -> Instant {
        self.due
    }

    /// A sample takes them along when the next one would come too late for it: a blocking call less.
    pub fn go_along_with_a_sample(&self, sample_interval: Duration) -> bool {
        Instant::now() + sample_interval > self.due
    }

    pub fn done(&mut self, more: bool) {
        let now = Instant::now();
        // Before their time they went along with a sample: the next ones are left to another.
        let after = if now < self.due { now + OFTEN } else { now };
        self.due = if more { now } else { self.timekeeper.next_turn(after, OFTEN) };
    }
}

impl Keeper {
    /// Whatever there is to do between the readings. `prune_after`: none prunes nothing by age.
    pub fn keep_house(&mut self, prune_after: Option<Duration>) -> House {
        let held_back = self.holds_back();
        let more = self.go_round(prune_after);
        House { more, released: held_back && !self.holds_back() }
    }

    fn go_round(&mut self, prune_after: Option<Duration>) -> bool {
        if self.database.is_some() && self.identity_on_disk() != self.identity {
            drop(self.take_database());
            self.note(&StoreError::Unavailable { reason: "the database was taken away".into() });
        }
        if self.database.is_none() {
            if let Err(error) = self.reopen() {
                self.note(&error);
                return false;
            }
            // Readings that waited tell whether it works again.
            if self.memory.samples.is_empty() {
                self.works();
            }
        }
        self.label_in_time();
        match self.one_step(prune_after) {
            Ok(more) => more,
            Err(error) => {
                self.cure(&error).ok();
                false
            }
        }
    }

    fn one_step(&mut self, prune_after: Option<Duration>) -> Result<bool, StoreError> {
        let Some(database) = &mut self.database else { return Ok(false) };
        database.copy_long_journal()?;
        if !database.has_room_in_journal()? {
            return Ok(false);
        }
        if self.salvage.is_some() {
            return self.salvage_step();
        }
        database.write_down_in_time()?;
        database.release_salvaged();
        let more = database.redate_step()?
            || database.correct_step()?
            || database.count_salvaged_step()?
            || prune_after.map_or(Ok(false), |keep| database.prune_old(keep))?
            || (database.is_nearly_full()? && database.evict(true)?)
            || database.shrink()?;
        if !more {
            self.take_on_ballast();
        }
        Ok(more)
    }

    /// Without ballast the store works as well, until the disk is full.
    pub(super) fn take_on_ballast(&mut self) {
        if self.no_ballast.is_some_and(|since| since.elapsed() < AN_HOUR) {
            return;
        }
        let done = room::take_on_ballast(&self.config.path);
        self.no_ballast = done.is_err().then(Instant::now);
        if let Err(error) = done {
            let error = chain(&error);
            if self.told.first_this_hour(&error) {
                tracing::warn!(error, "there is no ballast for a full disk");
            }
        }
    }

    /// Does what can be done about an error. True: it is worth another try.
    pub(super) fn cure(&mut self, error: &StoreError) -> Result<bool, StoreError> {
        let cured = match Trouble::of(error) {
            Trouble::Full => self.make_room(),
            Trouble::Damaged => self.replace(error).map(|()| true),
            Trouble::Broken => {
                // Nobody knows what of the page cache is on the card after that.
                self.distrusted = true;
                if is_unreadable(error) {
                    // Where the card does not give back what lies there the check will find it.
                    self.given_to_check = (0, 0);
                }
                // Told by itself: that it does not work any more may have to be told with the same reason.
                if self.told.first_this_hour(&format!("opened again: {}", chain(error))) {
                    tracing::warn!(error = %chain(error), "a read or write of the store failed: it is opened again");
                }
                self.reopen().map(|()| true)
            }
            Trouble::Passing => Ok(false),
        };
        if !matches!(cured, Ok(true)) {
            self.note(error);
        }
        cured
    }

    /// By `max_size`: charts over their share, sent readings, then pending ones. On a disk that others have filled: copies
    /// of damaged stores, the ballast, sent readings, and pending ones only when the memory is full too.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let full_memory = self.memory.is_full();
        let path = &self.config.path;
        let Some(database) = &mut self.database else { return Ok(false) };
        let by_size = database.is_nearly_full()?;
        if !by_size && replace::give_up_oldest(path) {
            return Ok(true);
        }
        // Without a salvage it is `evict` that looks at the charts first.
        if let Some(salvage) = &mut self.salvage
            && ((by_size && database.evict_charts_over_their_share()?)
                || salvage.make_room(database, by_size || full_memory)?)
        {
            return Ok(true);
        }
        let ballast = !by_size && room::drop_ballast(path);
        Ok(database.evict(by_size || full_memory)? || ballast)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use chrono::DateTime;
    use tracing::Level;

    use super::*;
    use crate::clock::SystemClock;
    use crate::log_lines;

    /// Runs for a minute with a sample each `interval`; counts the rounds that samples took along, and the others.
    async fn rounds(interval: Duration) -> (u32, u32) {
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        tokio::time::advance(Duration::from_millis(700)).await;
        let mut rounds = Rounds::begin(&timekeeper);
        rounds.done(false);
        let (mut along, mut alone) = (0, 0);
        let end = Instant::now() + Duration::from_secs(60);
        let mut sample = Instant::now() + interval;
        while sample.min(rounds.due()) < end {
            tokio::time::sleep_until(sample.min(rounds.due())).await;
            if Instant::now() >= rounds.due() {
                alone += 1;
                rounds.done(false);
            }
            if Instant::now() >= sample {
                sample += interval;
                if rounds.go_along_with_a_sample(interval) {
                    along += 1;
                    rounds.done(false);
                }
            }
        }
        (along, alone)
    }

    /// A folder of somebody's, a card that does not take it: half a mebibyte each time, and a line.
    #[tokio::test(start_paused = true)]
    async fn a_ballast_that_cannot_be_made_is_tried_and_told_once_an_hour() {
        let folder = tempfile::tempdir().expect("a folder");
        let ballast = folder.path().join("readings.db.ballast");
        std::fs::create_dir(&ballast).expect("a folder");
        log_lines::take(Level::WARN);
        let mut keeper = Keeper::in_folder(folder.path());
        for _ in 0..12 {
            keeper.keep_house(Some(Duration::from_secs(86_400)));
            tokio::time::advance(OFTEN).await;
        }
        let lines = log_lines::take(Level::WARN);
        assert_eq!(lines.iter().filter(|line| line.contains("ballast")).count(), 1, "{lines:?}");
        std::fs::remove_dir(&ballast).expect("removed");
        keeper.keep_house(Some(Duration::from_secs(86_400)));
        assert!(!ballast.exists(), "within a minute of the first time");
        tokio::time::advance(Duration::from_secs(3_600)).await;
        keeper.keep_house(Some(Duration::from_secs(86_400)));
        assert!(ballast.is_file());
    }

    #[tokio::test(start_paused = true)]
    async fn samples_take_the_rounds_along_where_they_come_often_enough() {
        for (interval, all) in [(1, 12), (2, 10), (5, 11)] {
            let (along, alone) = rounds(Duration::from_secs(interval)).await;
            // One may be due before the first sample.
            assert!(along >= all && alone <= 1, "every {interval} s: {along} along, {alone} alone");
        }
        // They are not made less often because nothing is sampled.
        let (along, alone) = rounds(Duration::from_secs(300)).await;
        assert!((11..=12).contains(&alone) && along == 0, "{along} along, {alone} alone");
    }
}
