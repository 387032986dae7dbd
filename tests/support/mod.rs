//! What the integration tests share. Each test binary uses a part of it.

#![allow(dead_code, reason = "each test binary uses a part")]

pub mod apart;
pub mod memory;
pub mod station;
pub mod swtpm;
