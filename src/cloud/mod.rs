//! The way to IoT Hub: AMQP 1.0 over TLS, signed in with short-lived tokens, over and over. Readings go out in the
//! order of their sequence; only the hub's `accepted` moves the store's watermark. Knows the store by its handle and
//! the TPM by its signatures; never reads the bus.
//!
//! # Map
//! [`Task`] (task.rs) signs in and, on each connection (task/serve.rs), runs side by side: `drain` (telemetry), `renew`
//! (the token), `steering` (twin, methods, messages). `shared` outlives a connection; `report` tells the status.
//! - Telemetry: `feed` (what the store has given), `batch`, `groups` and `encode` (with `amqp_bytes`, `json_bytes`),
//!   `window`, `acknowledge`, `poison`, `uplink`, `pace`.
//! - The wire: `dial` chooses the way, `tls`, `any_time`, `proxy`, `websocket`, `stream`; on top `connection` and `cbs`.
//! - Who and when: `token`, `assignment` (the provisioning service), `hub_time`. `probe` is one visit, for `check`.
//! - What goes wrong: `error` classes it, task/failure.rs does what follows, `outage` knows what is worth a line in the
//!   log; `refusal` and `library_errors` read what was said; `deadline` makes every wait end.
//!
//! # Invariants
//! - No wait for the peer is without a deadline, and no delivery is awaited alone.
//! - One permit guards a window of transfers, a token refresh and a reconnect.
//! - What is in flight is bounded in count and bytes; a dead peer costs no more.

mod acknowledge;
mod amqp_bytes;
mod any_time;
mod assignment;
mod batch;
mod cbs;
mod connection;
mod deadline;
mod dial;
mod drain;
mod encode;
mod error;
mod feed;
#[cfg(test)]
mod golden;
mod groups;
mod hub_time;
mod json_bytes;
mod library_errors;
mod outage;
mod pace;
mod poison;
mod probe;
mod proxy;
mod refusal;
mod renew;
mod report;
mod shared;
mod steering;
mod stream;
mod task;
pub mod tls;
mod token;
mod uplink;
mod websocket;
mod window;

pub use self::assignment::visit as visit_provisioning_service;
pub use self::deadline::Limits;
pub use self::probe::{Reached, Stopped, probe};
pub use self::proxy::{Proxy, ProxyError};
pub use self::steering::{MODEL_ID, Method, Parts, REPORTED, Steering};
pub use self::task::Task;
