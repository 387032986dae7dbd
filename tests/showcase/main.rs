//! The page over real HTTP, from the real binary: its answers, its limits, its form, and (by `tests/run.sh`) in a
//! real browser.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod answers;
mod browser;
mod code;
mod form;
mod health;
mod http;
mod limits;
mod rig;
#[path = "../support/mod.rs"]
mod support;
