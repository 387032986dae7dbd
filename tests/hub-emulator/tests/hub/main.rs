//! The emulator's own tests: a device made of the AMQP engine's client side against a hub over real TLS.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod client;
mod device;
mod faults;
mod program;
mod service;
mod throughput;
mod web;
