//! What the hub says when it refuses: a condition, a description, now and then how long to wait; and what follows
//! from each condition of IoT Hub. Nobody else reads an AMQP condition.

use std::fmt;
use std::time::Duration;

use fe2o3_amqp_types::definitions::{self, ErrorCondition};
use fe2o3_amqp_types::primitives::Symbol;

use super::error::{Cause, Class};

/// A condition with what the hub says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// `amqp:unauthorized-access`, `com.microsoft:device-container-throttled` and so on.
    pub condition: String,
    /// For people; IoT Hub often sends JSON.
    pub description: String,
    /// How long to wait, where the hub says so.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// The table of conditions. What is unknown is retried: a station that waits for a human loses readings.
    pub fn class(&self) -> Class {
        match self.condition.as_str() {
            "amqp:unauthorized-access" => Class::Renew,
            "amqp:not-found" | "amqp:resource-deleted" | "com.microsoft:iot-hub-not-found-error" => {
                Class::Identity
            }
            _ if self.is_about_the_quota() => Class::Quota,
            "com.microsoft:iot-hub-suspended" | "amqp:not-allowed" => Class::Quota,
            "com.microsoft:device-container-throttled" => Class::Slowly,
            "amqp:link:stolen" | "com.microsoft:link-creation-conflict" => Class::Stolen,
            "amqp:connection:forced" if self.says_taken_over() => Class::Stolen,
            "amqp:link:message-size-exceeded"
            | "amqp:decode-error"
            | "amqp:invalid-field"
            | "amqp:not-implemented"
            | "amqp:precondition-failed"
            | "com.microsoft:argument-error"
            | "com.microsoft:argument-out-of-range"
            | "com.microsoft:precondition-failed" => Class::SetAside,
            _ => Class::Soon,
        }
    }

    /// The day's messages are used up.
    pub fn is_about_the_quota(&self) -> bool {
        matches!(self.condition.as_str(), "amqp:resource-limit-exceeded" | "com.microsoft:quota-exceeded")
    }

    /// A connection that is closed for a limit: some hubs close one so that was silent for too long.
    pub fn closes_for_another_limit(&self) -> bool {
        let says_quota =
            self.description.contains("403002") || self.description.to_ascii_lowercase().contains("quota");
        self.condition == "amqp:resource-limit-exceeded" && !says_quota
    }

    /// A rejection without an error.
    pub fn unexplained() -> Self {
        Self {
            condition: "rejected without a condition".into(),
            description: String::new(),
            retry_after: None,
        }
    }

    /// What the link itself refuses before anything is sent.
    pub fn too_large(size: u64, limit: u64) -> Self {
        Self {
            condition: "amqp:link:message-size-exceeded".into(),
            description: format!("{size} bytes, the link takes {limit}"),
            retry_after: None,
        }
    }

    /// Error code 400027: ConnectionForcefullyClosedOnNewConnection.
    fn says_taken_over(&self) -> bool {
        self.description.contains("400027") || self.description.contains("OnNewConnection")
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the hub says {}", self.condition)?;
        if !self.description.is_empty() {
            write!(f, " ({})", self.description)?;
        }
        Ok(())
    }
}

impl From<definitions::Error> for Refusal {
    fn from(error: definitions::Error) -> Self {
        let symbol = match &error.condition {
            ErrorCondition::AmqpError(condition) => Symbol::from(condition),
            ErrorCondition::ConnectionError(condition) => Symbol::from(condition),
            ErrorCondition::SessionError(condition) => Symbol::from(condition),
            ErrorCondition::LinkError(condition) => Symbol::from(condition),
            ErrorCondition::Custom(condition) => condition.clone(),
        };
        let description = error.description.unwrap_or_default();
        let info = error.info.map(|info| format!("{info:?}")).unwrap_or_default();
        let retry_after = hint(&description).or_else(|| hint(&info));
        Self { condition: symbol.as_str().to_owned(), description: shortened(&description), retry_after }
    }
}

impl From<definitions::Error> for Cause {
    fn from(error: definitions::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// Reads "retry after N" in the spellings met: `Retry-After: 7`, `"retryAfter":7`, `retry-after-ms` and so on.
fn hint(text: &str) -> Option<Duration> {
    let text = text.to_ascii_lowercase();
    let from = ["retry-after", "retryafter", "retry_after", "retry after"]
        .iter()
        .find_map(|name| text.find(name).map(|at| at + name.len()))?;
    let rest = &text[from..];
    let digits = rest.find(|c: char| c.is_ascii_digit()).filter(|at| *at < 20)?;
    let (unit, number) = rest.split_at(digits);
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let value: u64 = number[..end].parse().ok().filter(|value| *value > 0)?;
    let wait = if unit.contains("ms") || unit.contains("milli") {
        Duration::from_millis(value)
    } else {
        Duration::from_secs(value)
    };
    Some(wait.min(Duration::from_secs(3600)))
}

/// A hub's text is kept readable and short.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(condition: &str) -> Class {
        Refusal { condition: condition.into(), description: String::new(), retry_after: None }.class()
    }

    #[test]
    fn each_condition_has_its_class() {
        let table = [
            ("amqp:unauthorized-access", Class::Renew),
            ("amqp:not-found", Class::Identity),
            ("amqp:resource-deleted", Class::Identity),
            ("com.microsoft:iot-hub-not-found-error", Class::Identity),
            ("amqp:resource-limit-exceeded", Class::Quota),
            ("com.microsoft:quota-exceeded", Class::Quota),
            ("com.microsoft:iot-hub-suspended", Class::Quota),
            ("amqp:not-allowed", Class::Quota),
            ("com.microsoft:device-container-throttled", Class::Slowly),
            ("amqp:link:stolen", Class::Stolen),
            ("com.microsoft:link-creation-conflict", Class::Stolen),
            ("amqp:link:message-size-exceeded", Class::SetAside),
            ("amqp:decode-error", Class::SetAside),
            ("amqp:invalid-field", Class::SetAside),
            ("com.microsoft:argument-error", Class::SetAside),
            ("amqp:link:detach-forced", Class::Soon),
            ("amqp:connection:forced", Class::Soon),
            ("amqp:connection:framing-error", Class::Soon),
            ("amqp:internal-error", Class::Soon),
            ("amqp:resource-locked", Class::Soon),
            ("amqp:session:window-violation", Class::Soon),
            ("amqp:illegal-state", Class::Soon),
            ("com.microsoft:timeout", Class::Soon),
            ("com.example:never-heard-of", Class::Soon),
        ];
        for (condition, expected) in table {
            assert_eq!(class(condition), expected, "{condition}");
        }
    }

    #[test]
    fn a_connection_closed_for_a_newer_one_is_a_stolen_identity() {
        let refusal = Refusal {
            condition: "amqp:connection:forced".into(),
            description: "{\"errorCode\":400027,\"message\":\"closed\"}".into(),
            retry_after: None,
        };
        assert_eq!(refusal.class(), Class::Stolen);
    }

    #[test]
    fn a_retry_hint_is_read_and_nothing_else_is_taken_for_one() {
        let seconds = Some(Duration::from_secs(7));
        assert_eq!(hint("Retry-After: 7"), seconds);
        assert_eq!(hint("{\"errorCode\":429001,\"retryAfter\":7}"), seconds);
        assert_eq!(hint("{Symbol(\"Retry-After\"): Int(7)}"), seconds);
        assert_eq!(hint("retry-after-ms: 1500"), Some(Duration::from_millis(1500)));
        assert_eq!(hint("Server Busy. Please retry operation, 2026-01-01"), None);
        assert_eq!(hint("retry after the weekend, that is in a long while, on 7 May"), None);
    }
}
