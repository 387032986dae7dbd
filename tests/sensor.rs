//! The sensor at the level of the chip's registers: every rule has a test here that fails without it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../src/log_lines.rs"]
mod log_lines;

mod sensor {
    mod bus;
    mod compensation;
    mod driver;
    mod faults;
    mod log;
    mod once;
    mod plausibility;
    mod rig;
    mod schedule;
    mod week;
}
