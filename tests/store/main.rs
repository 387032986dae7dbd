//! The store on a real SQLite file: nothing that was synced is lost, and what is missing is known.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on stops here")]

mod charts;
mod charts_kept;
mod clock;
mod damage;
mod dates;
mod disk;
mod disk_salvage;
mod export;
mod journal;
mod kept_longer;
mod label;
mod model;
mod no_file;
mod queue;
mod replaced;
mod room;
mod scale;
mod support;
mod turns;
mod verify;
mod verify_hostile;
mod versions;
