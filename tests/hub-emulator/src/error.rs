//! The errors a hub sends: condition, description in the hub's JSON form, info map. Knows the list of conditions and
//! the numeric codes; not when they are sent.

use std::collections::BTreeMap;

use fe2o3_amqp_types::definitions::{Error as AmqpError, ErrorCondition, Fields};
use fe2o3_amqp_types::primitives::{Symbol, Value};
use serde::{Deserialize, Serialize};

/// An error as it goes over the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubError {
    /// For example `amqp:resource-limit-exceeded`.
    pub condition: String,
    /// Sent as it is.
    #[serde(default)]
    pub description: Option<String>,
    /// Whole numbers go out as int, everything else as string.
    #[serde(default)]
    pub info: BTreeMap<String, String>,
}

impl HubError {
    /// Any condition, without a description.
    pub fn new(condition: &str) -> Self {
        Self { condition: condition.into(), description: None, info: BTreeMap::new() }
    }

    /// With a description in plain text.
    pub fn describe(mut self, description: &str) -> Self {
        self.description = Some(description.into());
        self
    }

    /// With the hub's JSON description: `errorCode`, `trackingId`, `message`, `timestampUtc`.
    pub fn code(self, code: u32, message: &str) -> Self {
        let tracking = uuid::Uuid::new_v4().simple().to_string();
        let text = serde_json::json!({
            "errorCode": code,
            "trackingId": format!("{tracking}-G:0-TimeStamp:01/01/2026 00:00:00"),
            "message": message,
            "timestampUtc": "2026-01-01T00:00:00.0000000Z",
        });
        self.with("com.microsoft:tracking-id", &tracking).describe(&text.to_string())
    }

    /// With one more entry in the info map.
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.info.insert(key.into(), value.into());
        self
    }

    /// `amqp:unauthorized-access`, 401003.
    pub fn unauthorized(message: &str) -> Self {
        Self::new("amqp:unauthorized-access").code(401_003, message)
    }

    /// `amqp:not-found`, 404006.
    pub fn bad_address(address: &str) -> Self {
        Self::new("amqp:not-found").code(404_006, &format!("The link address `{address}` is not valid"))
    }

    /// `com.microsoft:device-container-throttled`, 429001; a hint is the info entry `Retry-After` in seconds.
    pub fn throttled(retry_after: Option<u32>) -> Self {
        let error = Self::new("com.microsoft:device-container-throttled")
            .code(429_001, "Operations are being throttled");
        match retry_after {
            Some(seconds) => error.with("Retry-After", &seconds.to_string()),
            None => error,
        }
    }

    /// `amqp:resource-limit-exceeded`, 403002: the day's messages are spent.
    pub fn quota() -> Self {
        Self::new("amqp:resource-limit-exceeded")
            .code(403_002, "Total number of messages on the hub exceeded the allocated quota")
    }

    /// `amqp:link:message-size-exceeded`, with both sizes.
    pub fn too_large(actual: usize, allowed: usize) -> Self {
        Self::new("amqp:link:message-size-exceeded").with("com.microsoft:is-filtered", "true").describe(&format!(
            "The received message (actual size: {actual} bytes) exceeds the limit ({allowed} bytes) currently allowed"
        ))
    }

    /// `amqp:link:stolen`, or what else the older connection is told.
    pub fn stolen(condition: &str) -> Self {
        Self::new(condition).code(400_027, "Another connection with the same device id took over")
    }

    /// `amqp:connection:forced`.
    pub fn forced(message: &str) -> Self {
        Self::new("amqp:connection:forced").code(400_027, message)
    }

    /// `amqp:link:detach-forced`: what a gateway says when it restarts.
    pub fn server_busy() -> Self {
        Self::new("amqp:link:detach-forced").describe("Server Busy. Please retry operation")
    }

    pub(crate) fn to_amqp(&self) -> AmqpError {
        let mut info = Fields::new();
        for (key, text) in &self.info {
            let value = text.parse().map_or_else(|_| Value::String(text.clone()), Value::Int);
            info.insert(Symbol::from(key.as_str()), value);
        }
        let condition = ErrorCondition::Custom(Symbol::from(self.condition.as_str()));
        AmqpError::new(condition, self.description.clone(), (!info.is_empty()).then_some(info))
    }
}
