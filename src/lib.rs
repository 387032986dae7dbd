//! The weather station.
//!
//! # Map
//! One-way flow: [`sensor`] -> [`store`] -> [`cloud`]; [`station`] starts, supervises and stops them.
//! Each part writes its piece of [`status`]; [`showcase`] and the commands of [`cli`] read it.
//!
//! # Invariants
//! - The sensor never knows the network; the store never knows AMQP; the cloud never reads the bus.
//! - A reading is durable before anyone may send it; only the hub's `accepted` moves the watermark.
//! - The private key never enters this process in TPM mode, except on its way in while provisioning.
//! - Only [`clock`] reads the machine's time; only [`station`] spawns tasks, but for the page's
//!   connections and saves, which end with it; only [`cli`] prints.

pub mod backoff;
mod chain;
pub mod check;
pub mod cli;
pub mod clock;
pub mod cloud;
pub mod config;
pub mod derived;
mod hourly;
pub mod identity;
#[cfg(test)]
mod log_lines;
pub mod observation;
pub mod outlook;
pub mod reading;
mod secret_text;
pub mod sensor;
pub mod settings;
pub mod showcase;
pub mod station;
pub mod status;
pub mod store;
