//! The service side of the handle: what a back end does with a hub. Desired properties, methods, cloud-to-device
//! messages. Knows the parts that carry it out.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::cloud_to_device::{C2d, C2dState, QueueFull};
use crate::emulator::Emulator;
use crate::methods::{self, Call, MethodAnswer, MethodError};
use crate::twin;
use crate::twins::TwinError;
use crate::waiting::WaitError;

impl Emulator {
    /// `{"desired": {.., "$version"}, "reported": {.., "$version"}}`.
    pub fn twin(&self, device: &str) -> Value {
        self.core.hub.twins.get(device)
    }

    /// Merges `patch` into the desired properties (null removes) and pushes it; returns the new version.
    pub fn set_desired(&self, device: &str, patch: &Value) -> Result<i64, TwinError> {
        self.core.desire(device, patch, false)
    }

    /// Replaces all desired properties and pushes them; returns the new version.
    pub fn replace_desired(&self, device: &str, whole: &Value) -> Result<i64, TwinError> {
        self.core.desire(device, whole, true)
    }

    /// Pushes any text as if it were a change of desired properties; false if the device has not subscribed.
    pub fn push_raw(&self, device: &str, body: &str, version: Option<i64>) -> bool {
        twin::push(&self.core.hub, device, body, version)
    }

    /// Whether the device has subscribed to desired properties on a connection that is open.
    pub fn is_subscribed(&self, device: &str) -> bool {
        self.core.is_subscribed(device)
    }

    /// Calls a method; the device has to be online, and has `time_out` for the answer.
    pub async fn invoke(
        &self,
        device: &str,
        name: &str,
        payload: &Value,
        time_out: Duration,
    ) -> Result<MethodAnswer, MethodError> {
        let call = Call {
            name: name.to_owned(),
            payload: payload.to_string().into_bytes(),
            response_time_out: time_out,
            connect_time_out: Duration::ZERO,
        };
        self.invoke_call(device, call).await
    }

    /// The same with everything said: raw payload, time to come online.
    pub async fn invoke_call(&self, device: &str, call: Call) -> Result<MethodAnswer, MethodError> {
        methods::invoke(&self.core.hub, device, call).await
    }

    /// Queues a message to the device; the number is for [`Self::c2d`].
    pub fn send_c2d(
        &self,
        device: &str,
        body: &[u8],
        properties: impl IntoIterator<Item = (String, String)>,
    ) -> Result<u64, QueueFull> {
        let properties: BTreeMap<_, _> = properties.into_iter().collect();
        self.core.hub.queues.put(device, body, properties)
    }

    /// What became of a message to a device.
    pub fn c2d(&self, id: u64) -> Option<C2d> {
        self.core.hub.queues.list().into_iter().find(|message| message.id == id)
    }

    /// Waits until a message to a device is completed, rejected or dead-lettered.
    pub async fn wait_for_c2d(&self, id: u64, deadline: Duration) -> Result<C2d, WaitError> {
        let mut changes = self.core.hub.queues.changes();
        let settled = async {
            loop {
                changes.mark_unchanged();
                let message =
                    self.c2d(id).filter(|m| !matches!(m.state, C2dState::Queued | C2dState::Locked));
                if let Some(message) = message {
                    return message;
                }
                if changes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::time::timeout(deadline, settled).await.map_err(|_| self.late(0, 1, deadline))
    }
}
