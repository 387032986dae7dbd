//! Moves the watermark: at once in memory, now and then on disk. On disk it may lag behind a little, for what is lost
//! of it costs duplicates and never a reading; each time it is written costs the card and the processor as much as a
//! reading does. Whatever deletes accepted rows writes it down first.

use std::time::Duration;

use super::database::{Database, greatest};
use super::{Position, StoreError, salvaged};

/// At most this many readings may be sent again after a sudden stop,
const MAX_LAG_ROWS: u64 = 100;
/// or those accepted within this time.
const MAX_LAG: Duration = Duration::from_secs(300);

/// How far the watermark on disk is behind.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lag {
    rows: u64,
    /// Since boot.
    since: Duration,
}

impl Database {
    /// Moves the watermark over everything up to `upto`; never back.
    pub fn acknowledge(&mut self, upto: Position) -> Result<(), StoreError> {
        if self.watermark.covers(upto) || self.acknowledge_in_memory(upto) {
            return Ok(());
        }
        let mut moved = self.watermark.clone();
        moved.advance(upto);
        if moved.is_of_this_store(upto) && self.has_salvaged()? {
            // They come first: whoever accepted this one has accepted them.
            moved.salvaged = moved.salvaged.max(greatest(&self.connection, "salvaged", "row")?);
        }
        let counted = self.salvaged_counted.unwrap_or(u64::MAX >> 1);
        let accepted = match self.salvaged_pending {
            0 => 0,
            _ => salvaged::count(&self.connection, self.watermark.salvaged, moved.salvaged.min(counted))?,
        };
        self.unsynced(|connection| moved.write(connection))?;
        self.salvaged_pending = self.salvaged_pending.saturating_sub(accepted);
        self.watermark = moved;
        self.lag = None;
        self.moved();
        // There may be more than were counted.
        self.has_salvaged().map(drop)
    }

    /// Needs no disk. False: it has moved so far, or over so much, that it has to be written.
    fn acknowledge_in_memory(&mut self, upto: Position) -> bool {
        let may_have_salvaged = self.salvaged_pending > 0 || self.salvaged_counted.is_some();
        if !self.watermark.is_of_this_store(upto) || may_have_salvaged {
            return false;
        }
        let further = upto.row.saturating_sub(self.watermark.acknowledged);
        let since = self.timekeeper.since_boot();
        let lag = self.lag.unwrap_or(Lag { rows: 0, since });
        let rows = lag.rows.saturating_add(further);
        if rows >= MAX_LAG_ROWS {
            return false;
        }
        self.lag = Some(Lag { rows, ..lag });
        self.watermark.advance(upto);
        self.moved();
        true
    }

    /// The usual case, everything accepted, where the disk is not needed. False: nothing was done.
    pub fn acknowledge_at_once(&mut self, upto: Position) -> bool {
        upto.row == self.last_sequence && self.acknowledge_in_memory(upto)
    }

    /// Writes the watermark where the one on disk is behind.
    pub fn write_down(&mut self) -> Result<(), StoreError> {
        if self.lag.is_some() {
            let watermark = self.watermark.clone();
            self.unsynced(|connection| watermark.write(connection))?;
            self.lag = None;
        }
        Ok(())
    }

    /// The same, where it has been behind for long.
    pub fn write_down_in_time(&mut self) -> Result<(), StoreError> {
        let now = self.timekeeper.since_boot();
        match self.lag {
            Some(lag) if now.saturating_sub(lag.since) >= MAX_LAG => self.write_down(),
            _ => Ok(()),
        }
    }

    fn moved(&mut self) {
        self.last_sequence = self.last_sequence.max(self.watermark.acknowledged);
        self.known.forget_upto(self.watermark.acknowledged);
        self.forget_dead();
    }

    /// Of those set aside only the ones that would otherwise be sent are remembered: above the watermark, and there.
    pub(super) fn forget_dead(&mut self) {
        let Self { watermark, known, dead, .. } = self;
        let is_missing = |position: &Position| {
            watermark.is_of_this_store(*position)
                && known.count(position.row.saturating_sub(1), position.row) > 0
        };
        dead.retain(|position| !watermark.covers(*position) && !is_missing(position));
    }
}
