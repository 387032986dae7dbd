//! The way to IoT Hub: AMQP 1.0 over TLS, signed in with short-lived tokens, over and over. Readings go out in the
//! order of their sequence; only the hub's `accepted` moves the store's watermark. Knows the store by its handle and
//! the TPM by its signatures; never reads the bus.
//!
//! # Map
//! [`Task`] (task.rs) connects and, on each connection, runs side by side: `drain` (telemetry), `renew` (the token),
//! `steering` (twin, methods, messages). Under them: `batch`, `encode`, `window`, `poison`, `pace` are pure;
//! `connection`, `cbs`, `stream`, `tls`, `dial` are the wire; `deadline` makes every wait end; `assignment` is the
//! way to the provisioning service; `error` says what
//! follows from a failure.
//!
//! # Invariants
//! - No wait for the peer is without a deadline, and no delivery is awaited alone.
//! - One permit guards a window of transfers, a token refresh and a reconnect.
//! - What is in flight is bounded in count and bytes; a dead peer costs no more.

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
mod hub_time;
mod json_bytes;
mod library_errors;
mod link;
mod pace;
mod poison;
mod probe;
mod promises;
mod proxy;
mod refusal;
mod renew;
mod report;
mod steering;
mod stream;
mod task;
pub mod tls;
mod token;
mod websocket;
mod window;

pub use self::deadline::Limits;
pub use self::probe::probe;
pub use self::proxy::{Proxy, ProxyError};
pub use self::steering::{MODEL_ID, Method, Parts, REPORTED, Steering};
pub use self::task::Task;
