//! Steering from the cloud: the device twin, direct methods and messages to the device, on the connection that is
//! already open. Nothing here holds up telemetry or sampling: what the hub refuses is tried again later, what it does
//! not answer is given up, and what a method asks of other tasks has a deadline.
//!
//! # Map
//! [`Companion`] is the loop on one connection; [`Steering`] is what outlives it. `links` attaches (`attaching` when),
//! `receiving` takes and settles what comes, `disk` holds what the store is asked meanwhile, `wire` knows the forms of
//! messages; `twin`, `methods` and `inbox` know their meaning and no AMQP; `json` reads what came from the hub within
//! bounds.

mod attaching;
mod companion;
#[cfg(test)]
mod corpus;
mod device;
mod disk;
mod inbox;
mod json;
mod links;
mod methods;
mod receiving;
mod twin;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};

pub use self::companion::Companion;
use self::inbox::Inbox;
use self::links::LinkGroups;
pub use self::methods::Method;
use self::twin::{Desired, Reported};
use crate::clock::Timekeeper;
use crate::config::Config;
use crate::identity::Identity;
use crate::reading::SensorRequest;
use crate::settings::{Overlay, Settings};
use crate::status::Board;
use crate::store::StoreHandle;

/// The model that the station keeps to; it lies in `deploy/model`.
pub const MODEL_ID: &str = "dtmi:weatherstation:WeatherStation;1";
/// What every link that sends says of the device (IoT Plug and Play over AMQP).
pub const MODEL_PROPERTY: &str = "com.microsoft:model-id";
/// The reported properties that are not answers to desired ones.
pub const REPORTED: [&str; 9] = twin::OWN;

/// What it is made of.
pub struct Parts {
    pub config: Arc<Config>,
    /// What the last run kept, where it could be read: [`crate::settings::load`].
    pub overlay: Option<Overlay>,
    pub settings: watch::Sender<Settings>,
    pub board: Arc<Board>,
    pub timekeeper: Timekeeper,
    pub store: StoreHandle,
    pub sensor: mpsc::Sender<SensorRequest>,
    pub flush: Arc<Notify>,
    /// How long the hub may take to answer a request about the twin. IoT Hub over its quota answers none.
    pub answer: Duration,
    pub seed: u64,
}

/// What outlives a connection.
#[derive(Debug)]
pub struct Steering {
    desired: Desired,
    reported: Reported,
    inbox: Inbox,
    desk: Arc<methods::Desk>,
    groups: LinkGroups,
    answer: Duration,
    seed: u64,
}

impl Steering {
    /// Brings what the last run kept into force.
    pub fn new(parts: Parts) -> Self {
        let device = device::Device::look(&parts.config.store.path);
        let desk = methods::Desk {
            board: Arc::clone(&parts.board),
            timekeeper: parts.timekeeper.clone(),
            store: parts.store.clone(),
            sensor: parts.sensor,
            settings: parts.settings.subscribe(),
            flush: parts.flush,
        };
        Self {
            reported: Reported::new(device, &parts.timekeeper),
            inbox: Inbox::new(parts.store.clone(), Arc::clone(&parts.board)),
            desired: Desired::new(parts.config, parts.overlay, parts.settings, parts.board, parts.store),
            desk: Arc::new(desk),
            groups: LinkGroups::new(parts.seed),
            answer: parts.answer,
            seed: parts.seed,
        }
    }

    /// Who the station is was found out: before anything goes to a hub, what belongs to another identity is dropped.
    pub async fn identified(&mut self, identity: &Identity) {
        self.inbox.belongs_to(identity);
        self.desired.belongs_to(identity).await;
    }

    /// It was not: what the last run kept holds, once the store gives it.
    pub async fn unidentified(&mut self) {
        self.desired.read_kept().await;
    }
}
