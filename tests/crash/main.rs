//! Sudden ends of the real binary: killed at any moment, and the power cut at any moment.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod ending;
mod kill;
mod powercut;
mod record;
mod running;
#[path = "../store/support.rs"]
#[allow(dead_code, reason = "the store's tests use all of it")]
mod store;
#[path = "../support/mod.rs"]
mod support;
mod unwritable;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use hub_emulator::Emulator;

/// Identity in a key file: what these tests are about does not depend on the TPM.
fn config(dir: &Path, hub: &Emulator) -> String {
    let key_file = dir.join("key");
    std::fs::write(&key_file, hub.connection_string("roof").unwrap()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    format!(
        r#"
        [sensor]
        source = "simulated"
        interval = "1s"
        [identity]
        source = "key-file"
        key_file = "{}"
        [hub]
        transport = "amqp"
        port = {}
        ca_file = "{}"
        [telemetry]
        batch = 20
        [store]
        path = "{}"
        "#,
        key_file.display(),
        hub.port(),
        hub.ca_file().display(),
        dir.join("store/readings.db").display(),
    )
}
