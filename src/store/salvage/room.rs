//! How a salvage gets by with the room there is: by `max_size`, and on a disk that holds the damaged file besides. Knows
//! what goes first; how rows are found is its parent's.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use rusqlite::params;
use rustix::fs::{FallocateFlags, fallocate};

use super::super::database::Database;
use super::super::keeper::Keeper;
use super::super::row::SALVAGED;
use super::super::schema::PAGE_SIZE;
use super::super::survey::pages;
use super::super::trouble::Trouble;
use super::super::{StoreError, prune, replace, room};
use super::{Phase, Salvage, UNREAD};

/// The least that a file system gives back, in pages.
const BLOCK: u64 = 4;
/// A disk that somebody has filled for a moment costs no reading: for so long a salvage waits for room. Meanwhile nothing
/// is sent, so it is not for ever.
const PATIENCE: Duration = Duration::from_secs(600);

impl Keeper {
    /// One step of the salvage that is under way, or of what gives it room. Returns true while there is more to do.
    pub(crate) fn salvage_step(&mut self) -> Result<bool, StoreError> {
        // What is left to do then takes a few pages: no reading goes for it where there are so many.
        if self.salvage.as_ref().is_some_and(Salvage::has_copied_all) {
            match self.go_on_with_salvage() {
                Err(error) if Trouble::of(&error) == Trouble::Full => {}
                done => return done,
            }
        }
        let path = &self.config.path;
        let (Some(salvage), Some(database)) = (&mut self.salvage, &mut self.database) else {
            return Ok(false);
        };
        let full = database.is_nearly_full()?;
        if full && database.evict_charts_over_their_share()? {
            return Ok(true);
        }
        // Before the disk is full: to let go of anything takes room as well.
        let mut short = room::is_short(path);
        if short && salvage.give_back() {
            let what = "the disk is full: the damaged file gives back the room of what is salvaged of it";
            if self.told.first_this_hour(what) {
                tracing::warn!(file = %salvage.aside().display(), "{what}");
            }
            short = room::is_short(path);
        }
        // What rows have left in the new file is room for the next ones.
        let short_of_pages = short && !database.has_free_pages()?;
        if (full || short_of_pages) && salvage.make_room(database, full)? {
            return Ok(true);
        }
        let scarce = room::is_scarce(path);
        let waits = salvage.waits(short, scarce, self.timekeeper.since_boot());
        if short_of_pages && scarce {
            if replace::give_up_oldest(path) || room::drop_ballast(path) {
                return Ok(true);
            }
            if waits {
                let what = "the disk is full: a salvage waits for room, and nothing is sent meanwhile";
                if self.told.first_this_hour(what) {
                    tracing::error!("{what}");
                }
                return Ok(false);
            }
            if salvage.make_room(database, true)? {
                return Ok(true);
            }
        }
        self.go_on_with_salvage()
    }

    fn go_on_with_salvage(&mut self) -> Result<bool, StoreError> {
        let path = &self.config.path;
        let (Some(salvage), Some(database)) = (&mut self.salvage, &mut self.database) else {
            return Ok(false);
        };
        if salvage.step(database)? {
            return Ok(true);
        }
        replace::done(path, salvage.aside())?;
        self.salvage = None;
        database.salvaging = false;
        // Another one may wait behind it.
        match replace::waiting(path).is_empty() {
            true => Ok(true),
            false => self.reopen().map(|()| true),
        }
    }
}

impl Salvage {
    /// Nothing more of the damaged file is to be written.
    fn has_copied_all(&self) -> bool {
        match &self.phase {
            Phase::Uncommitted(frames) => frames.is_empty(),
            Phase::Walk(_) => true,
            Phase::Names | Phase::Committed(_) | Phase::Pages(_) => false,
        }
    }

    /// The store is full before all is salvaged: the readings that were sent go, then the oldest of the others. False:
    /// there was nothing to let go. `pending`: those go too, after the ones that were sent.
    pub fn make_room(&mut self, into: &mut Database, pending: bool) -> Result<bool, StoreError> {
        let sent = self.sent();
        let last_of = |connection: &rusqlite::Connection, upto: u64| -> rusqlite::Result<Option<i64>> {
            let mut statement = connection.prepare_cached(
                "SELECT max(row) FROM (SELECT row FROM salvaged WHERE row <= ?1 ORDER BY row LIMIT ?2)",
            )?;
            statement.query_row(params![upto.cast_signed(), prune::STEP], |row| row.get(0))
        };
        let find = || match last_of(&into.connection, sent)? {
            None if pending => last_of(&into.connection, i64::MAX as u64),
            found => Ok(found),
        };
        let Some(last) = find().map_err(StoreError::doing("look for salvaged readings to let go"))? else {
            return Ok(false);
        };
        // No more than a step: those up to `last` are that many.
        let unsent = into.stretch(SALVAGED, sent, last.cast_unsigned())?;
        into.transaction("make room", |connection| {
            connection
                .execute("DELETE FROM salvaged WHERE row <= ?1", [last])
                .map_err(StoreError::doing("let salvaged readings go"))
        })?;
        self.note_let_go(unsent);
        self.floor = self.floor.max(last.cast_unsigned());
        self.walk_anew();
        Ok(true)
    }

    /// On a full disk what is copied and synced need not be there a second time; but for what the survey reads, should the
    /// station be killed now, and what could not be read. True: room went back to the disk.
    fn give_back(&mut self) -> bool {
        let copied = match &self.phase {
            Phase::Names | Phase::Committed(_) => 0,
            Phase::Pages(next) => *next,
            Phase::Uncommitted(_) | Phase::Walk(_) => self.file.as_ref().map_or(0, pages),
        };
        let copied = match self.unread.last() {
            Some(last) if self.unread.len() >= UNREAD => copied.min(*last),
            _ => copied,
        };
        let upto = copied / BLOCK * BLOCK;
        let from = self.given_back;
        if from >= upto {
            return false;
        }
        self.given_back = upto;
        let file = OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&self.aside);
        let Ok(file) = file else { return false };
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let mut given_back = false;
        let mut start = from;
        for block in (from..=upto).step_by(BLOCK as usize) {
            let stays = |page| self.survey.has_read(page) || self.unread.contains(&page);
            if block < upto && !(block..block + BLOCK).any(stays) {
                continue;
            }
            // Not every file system can.
            given_back |= start < block
                && fallocate(&file, flags, start * PAGE_SIZE, (block - start) * PAGE_SIZE).is_ok();
            start = block + BLOCK;
        }
        given_back
    }

    /// Whether it still waits for others to make room. Once it has waited long enough it goes on without, until there is
    /// plenty again.
    fn waits(&mut self, short: bool, scarce: bool, now: Duration) -> bool {
        match self.waits_since {
            _ if !short => self.waits_since = None,
            None if scarce => self.waits_since = Some(now),
            _ => {}
        }
        self.waits_since.is_some_and(|since| now.saturating_sub(since) < PATIENCE)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;

    use super::super::super::room::Limits;
    use super::super::super::row::Row;
    use super::super::tests::{begin, open};
    use super::*;

    /// There are fewer pages than a step of copying may need, and more than its end does.
    #[test]
    fn no_reading_goes_for_the_end_of_a_salvage() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut old = open(&folder.path().join("readings.db.salvage-1"), 1);
        old.insert(&(1..=12_000).map(Row::example).collect::<Vec<_>>()).expect("inserted");
        old.close(true).expect("closed");
        let mut keeper = Keeper::in_folder(folder.path());
        while !keeper.salvage.as_ref().expect("it is under way").has_copied_all() {
            assert!(keeper.salvage_step().expect("a step"));
        }
        let database = keeper.database.as_mut().expect("a database");
        let pages = database.number("page_count").expect("a number") + 40;
        database.limit(Limits { max_size: pages * PAGE_SIZE * 4 / 3 }).expect("limited");
        assert!(database.is_nearly_full().expect("a number"));
        while keeper.salvage.is_some() {
            keeper.salvage_step().expect("a step");
        }
        assert_eq!(keeper.database.as_ref().expect("a database").salvaged_pending, 12_000);
    }

    /// A card may give back another time what it does not give now.
    #[test]
    fn pages_that_could_not_be_read_stay_in_the_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let aside = folder.path().join("aside");
        let mut old = open(&aside, 1);
        old.insert(&(1..=20_000).map(Row::example).collect::<Vec<_>>()).expect("inserted");
        old.close(true).expect("closed");
        let room = || std::fs::metadata(&aside).expect("a file").blocks();
        let before = room();
        let mut new = open(&folder.path().join("readings.db"), 2);
        for fails in [true, false] {
            let mut salvage = begin(&aside);
            while salvage.step(&mut new).expect("a step") {
                let Phase::Pages(next @ 320..) = salvage.phase else { continue };
                // For a while no page is read.
                salvage.file = match fails && next < 640 {
                    true => OpenOptions::new().write(true).open(&aside).ok(),
                    false => File::open(&aside).ok(),
                };
                salvage.give_back();
            }
            assert_eq!(new.salvaged_pending == 20_000, !fails);
        }
        assert!(room() < before - 500, "{} of {before} blocks are left", room());
    }

    /// What a station knows of the file when it is started again is still there, and what was copied is in the new one.
    #[test]
    fn a_kill_after_room_was_given_back_costs_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let aside = folder.path().join("aside");
        let mut old = open(&aside, 1);
        let rows: Vec<Row> = (1..=30_000).filter(|sequence| *sequence != 20_000).map(Row::example).collect();
        old.insert(&rows).expect("inserted");
        old.acknowledge(old.watermark.position(5_000)).expect("acknowledged");
        old.close(true).expect("closed");
        let room = || std::fs::metadata(&aside).expect("a file").blocks();
        let (before, id) = (room(), begin(&aside).survey.store_id(1));
        let mut new = open(&folder.path().join("readings.db"), 2);
        for _ in 0..3 {
            let mut salvage = begin(&aside);
            while !matches!(salvage.phase, Phase::Pages(1_000..)) {
                assert!(salvage.step(&mut new).expect("a step"));
            }
            salvage.give_back();
        }
        assert!(room() < before - 1_000, "{} of {before} blocks are left", room());
        let mut salvage = begin(&aside);
        assert_eq!(salvage.survey.store_id(1), id);
        while salvage.step(&mut new).expect("a step") {}
        new.salvaging = false;
        assert_eq!(new.salvaged_pending, 24_999);
        let events = new.pending_events(10).expect("events");
        let [gap, replaced] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((&gap.fields["first"], &gap.fields["last"]), (&20_000.into(), &20_000.into()));
        assert_eq!(replaced.fields["salvaged"], 29_999);
    }
}
