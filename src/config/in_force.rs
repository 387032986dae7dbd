//! The configuration as `status` shows it: each key with its value and whether the file or a default set it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Config, units};
use crate::status::InForce;

/// Every key of the file, as `section.key`.
pub fn in_force(config: &Config) -> BTreeMap<String, InForce> {
    let Config {
        station,
        sensor,
        identity,
        provisioning,
        hub,
        telemetry,
        store,
        showcase,
        set_in_file,
        file: _,
    } = config;
    let entries: [(&str, Value); 29] = [
        ("station.altitude", json!(station.altitude)),
        ("sensor.source", json!(sensor.source)),
        ("sensor.bus", json!(sensor.bus)),
        ("sensor.address", json!(sensor.address)),
        ("sensor.interval", json!(units::show_duration(sensor.interval))),
        ("sensor.oversampling", json!(sensor.oversampling)),
        ("sensor.offset", json!(sensor.offset)),
        ("sensor.trace", json!(sensor.trace)),
        ("sensor.speed", json!(sensor.speed)),
        ("identity.source", json!(identity.source)),
        ("identity.tcti", json!(identity.tcti)),
        ("identity.slot", json!(identity.slot)),
        ("identity.key_file", json!(identity.key_file)),
        ("provisioning.id_scope", json!(provisioning.id_scope)),
        ("provisioning.endpoint", json!(provisioning.endpoint)),
        ("provisioning.registration_id", json!(provisioning.registration_id)),
        ("hub.transport", json!(hub.transport)),
        ("hub.port", json!(hub.port)),
        ("hub.websocket_port", json!(hub.websocket_port)),
        ("hub.ca_file", json!(hub.ca_file)),
        ("hub.token_lifetime", json!(units::show_duration(hub.token_lifetime))),
        ("telemetry.batch", json!(telemetry.batch)),
        ("telemetry.max_messages_per_second", json!(telemetry.max_messages_per_second)),
        ("telemetry.readings_per_message", json!(telemetry.readings_per_message)),
        ("store.path", json!(store.path)),
        ("store.max_size", json!(units::show_size(store.max_size))),
        ("store.keep", json!(units::show_duration(store.keep))),
        ("store.max_loss", json!(units::show_duration(store.max_loss))),
        ("showcase.listen", json!(showcase.listen.map(|address| address.to_string()).unwrap_or_default())),
    ];
    entries
        .into_iter()
        .map(|(key, value)| {
            let from = if set_in_file.contains(key) { "file" } else { "default" };
            (key.to_owned(), InForce { value, from })
        })
        .collect()
}
