//! A hub for tests and the demo: what a device sees of Azure IoT Hub, over real TLS, with code of its own for every
//! check, and with everything that can go wrong on command. It shares no code with the station that it tests.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use hub_emulator::{Emulator, Fault, Cut, Options};
//! use std::time::Duration;
//!
//! let hub = Emulator::start(Options::default())?;            // own thread, own runtime, real time
//! let key = hub.add_device("roof");                          // base64 primary key
//! // Connect to `localhost`:hub.port(), trusting hub.ca_pem() (or hub.ca_file()), as device `roof` with `key`;
//! // hub.connection_string("roof") is the same as one line.
//! hub.wait_for(200, Duration::from_secs(20)).await?;         // 200 messages on record (all devices)
//! let first = &hub.messages()[0];
//! assert_eq!(first.json()["storeId"], "...");                // body; also message_id, properties, transfer, ...
//! let id = hub.fault(Fault::AckLost { how: Cut::Rst }.times(1).on("roof"));
//! hub.clear_fault(id);                                       // or hub.clear_faults()
//! hub.set_behaviour(|behaviour| behaviour.credit = 1);       // what real hubs do differently
//! hub.stop();                                                // ports closed, connections cut
//! hub.start_again()?;                                        // same ports, registry and record kept
//! # Ok(()) }
//! ```
//!
//! Layers, from below: `wire` (TCP with a switch), TLS (`certificates`), `frames`, the AMQP engine of fe2o3-amqp,
//! `connection`, `session`, one task per link (`cbs`, `telemetry`, ...). Shared state is in `hub`; `faults` and `behaviour` say what
//! goes wrong and what differs. `emulator` is the handle that tests hold, `control` the same over HTTP.
//! The provisioning service gets the device list through [`Registry`], whose clones are one registry.

mod behaviour;
mod cbs;
mod certificates;
mod cloud_to_device;
mod connection;
mod control;
mod control_service;
pub mod dps;
mod emulator;
mod error;
mod events;
mod fault;
mod frames;
mod https;
mod hub;
mod links;
mod listener;
mod meter;
mod methods;
mod node;
mod options;
mod proxy;
mod record;
mod registry;
mod running;
mod sasl;
mod service;
mod session;
mod telemetry;
mod token;
mod twin;
mod twins;
mod unpack;
mod values;
mod waiting;
mod wall;
mod websocket;
mod wire;

pub use behaviour::{Behaviour, Correlation, OnExpiry, OnStolen};
pub use certificates::Certificate;
pub use cloud_to_device::{C2d, C2dState, QueueFull};
pub use emulator::Emulator;
pub use error::HubError;
pub use events::Event;
pub use fault::{Arming, Fault, TokenAnswer};
pub use hub::{LinkInfo, Port};
pub use meter::Metered;
pub use methods::{Call, MethodAnswer, MethodError};
pub use node::LinkKind;
pub use options::Options;
pub use proxy::{Proxy, ProxyOptions};
pub use record::Message;
pub use registry::{Device, KeyError, Registry};
pub use running::{Connection, StartError};
pub use twins::TwinError;
pub use waiting::WaitError;
pub use wire::Cut;
