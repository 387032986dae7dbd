//! What the keeper does between the readings, and against trouble: salvage, re-dating, pruning, making room, opening
//! again. One step at a time, so that no reading waits long.

use std::time::Duration;

use super::StoreError;
use super::keeper::Keeper;
use super::trouble::{Trouble, is_unreadable};
use super::{replace, room};
use crate::chain::chain;

impl Keeper {
    /// Whatever there is to do between the readings. Returns true while there is more.
    pub fn keep_house(&mut self, keep: Duration) -> bool {
        if self.database.is_some() && self.identity_on_disk() != self.identity {
            tracing::error!(path = %self.config.path.display(), "the database was taken away");
            drop(self.take_database());
            self.trouble = Some("the database was taken away".into());
        }
        if self.database.is_none() {
            if let Err(error) = self.reopen() {
                self.note(&error);
                return false;
            }
            // Readings that waited tell whether it works again.
            if self.memory.samples.is_empty() {
                self.trouble = None;
            }
        }
        match self.one_step(keep) {
            Ok(more) => more,
            Err(error) => {
                self.cure(&error).ok();
                false
            }
        }
    }

    fn one_step(&mut self, keep: Duration) -> Result<bool, StoreError> {
        let limits = self.limits();
        let path = self.config.path.clone();
        let Some(database) = &mut self.database else { return Ok(false) };
        if !database.has_room_in_journal(&path, limits)? {
            return Ok(false);
        }
        if let Some(salvage) = &mut self.salvage {
            if database.is_nearly_full(limits)? && salvage.make_room(database)? {
                return Ok(true);
            }
            if salvage.step(database)? {
                return Ok(true);
            }
            replace::done(&path, salvage.aside())?;
            self.salvage = None;
            database.salvaging = false;
            // Another one may wait behind it.
            return match replace::waiting(&path).is_empty() {
                true => Ok(true),
                false => self.reopen().map(|()| true),
            };
        }
        database.write_down_in_time()?;
        let more = database.redate_step()?
            || database.prune_old(keep)?
            || (database.is_nearly_full(limits)? && database.evict(true)?)
            || database.shrink(limits)?;
        if !more {
            room::take_on_ballast(&path);
        }
        Ok(more)
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
                tracing::warn!(error = %chain(error), "a read or write of the store failed: it is opened again");
                self.reopen().map(|()| true)
            }
            Trouble::Passing => Ok(false),
        };
        if !matches!(cured, Ok(true)) {
            self.note(error);
        }
        cured
    }

    /// By `max_size`: sent readings, then pending ones. On a disk that others have filled: copies of damaged stores, the
    /// ballast, sent readings, and pending ones only when the memory is full too.
    fn make_room(&mut self) -> Result<bool, StoreError> {
        let limits = self.limits();
        let full_memory = self.memory.is_full();
        let path = self.config.path.clone();
        let Some(database) = &mut self.database else { return Ok(false) };
        let by_size = database.is_nearly_full(limits)?;
        if !by_size && replace::give_up_oldest(&path) {
            return Ok(true);
        }
        if let Some(salvage) = &mut self.salvage
            && (by_size || full_memory)
            && salvage.make_room(database)?
        {
            return Ok(true);
        }
        let ballast = !by_size && room::drop_ballast(&path);
        Ok(database.evict(by_size || full_memory)? || ballast)
    }
}
