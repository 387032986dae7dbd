//! Every fault of the link, on a whole station against the hub's emulator over real TLS: how fast it is noticed, how
//! fast the station is back, and that everything is delivered, in order, with duplicates only under one message-id.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../support/mod.rs"]
mod support;

mod account;
mod both_ways;
mod conditions;
mod every;
mod flow;
mod forms;
mod given_back;
mod memory;
mod rig;
mod slow;
mod soak;
mod speed;
mod table;
mod tokens;
mod ways;
