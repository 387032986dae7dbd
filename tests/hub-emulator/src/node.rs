//! Link addresses: which node of the hub an attach means. Knows the spelling rules; not who may attach.

use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};

/// The nodes that a device may attach to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkKind {
    Cbs,
    Telemetry,
    CloudToDevice,
    Twin,
    Methods,
}

/// A node and the device it belongs to (none: `$cbs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: LinkKind,
    pub(crate) device: Option<String>,
}

impl Node {
    /// Takes a bare path or a whole URI; path words in any case, the device id percent-encoded or not.
    pub(crate) fn parse(address: &str) -> Option<Self> {
        let path = match address.split_once("://") {
            Some((_, rest)) => rest.split_once('/')?.1,
            None => address.strip_prefix('/').unwrap_or(address),
        };
        if path.eq_ignore_ascii_case("$cbs") {
            return Some(Self { kind: LinkKind::Cbs, device: None });
        }
        let (devices, rest) = path.split_once('/')?;
        let (id, words) = rest.split_once('/')?;
        let kind = match words.to_ascii_lowercase().as_str() {
            "messages/events" | "messages/events/" => LinkKind::Telemetry,
            "messages/devicebound" | "messages/devicebound/" => LinkKind::CloudToDevice,
            "twin" | "twin/" => LinkKind::Twin,
            "methods/devicebound" | "methods/devicebound/" => LinkKind::Methods,
            _ => return None,
        };
        let device = percent_decode_str(id).decode_utf8().ok().filter(|id| !id.is_empty())?.into_owned();
        devices.eq_ignore_ascii_case("devices").then_some(Self { kind, device: Some(device) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdk_spelling_of_an_address_is_understood() {
        for (address, kind) in [
            ("/devices/roof%201/messages/events", LinkKind::Telemetry),
            ("amqps://localhost/devices/roof 1/messages/deviceBound", LinkKind::CloudToDevice),
            ("devices/roof%201/twin", LinkKind::Twin),
            ("/devices/roof 1/methods/devicebound", LinkKind::Methods),
        ] {
            assert_eq!(Node::parse(address), Some(Node { kind, device: Some("roof 1".into()) }), "{address}");
        }
        assert_eq!(Node::parse("/$cbs").map(|node| node.kind), Some(LinkKind::Cbs));
        for address in ["", "/devices/roof", "/devices//twin", "/devices/roof/other", "amqps://localhost"] {
            assert_eq!(Node::parse(address), None, "{address}");
        }
    }
}
