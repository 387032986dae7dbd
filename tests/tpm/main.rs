//! The identity in a real (software) TPM, looked at from outside with tpm2-tools. One swtpm per test.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod at_once;
mod cuts;
mod dps;
mod dps_clock;
mod dps_cuts;
mod failures;
mod fleet;
mod layout;
mod memory;
mod running;
mod secrecy;
mod station;
#[path = "../support/mod.rs"]
mod support;
#[path = "../support/tpm_tap.rs"]
mod tpm_tap;

use self::support::{apart, swtpm};
use hmac::{Hmac, KeyInit, Mac};
use weather_station::identity::provision::Credentials;

/// Keys as the portal gives them out. The second is the longest there is.
pub const KEY_A: [u8; 32] = *b"first key of thirty-two bytes!!!";
pub const KEY_B: [u8; 64] = *b"second key of sixty-four bytes, which is the longest one there i";

/// An identity that has passed the checks.
pub fn request(host: &str, device_id: &str, key: &[u8]) -> Credentials {
    use base64::Engine as _;
    let key = base64::engine::general_purpose::STANDARD.encode(key);
    Credentials::new(host, device_id, &key).unwrap()
}

/// What a key must answer, by another implementation than the TPM's.
pub fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(key).unwrap();
    mac.update(data);
    mac.finalize().into_bytes().into()
}

/// Whether this is a run of `tests/run.sh --all`.
pub fn is_slow() -> bool {
    std::env::var_os("WEATHER_STATION_SLOW").is_some()
}

/// Whether this is no run of `tests/run.sh --all`, to which this is left; says so.
pub fn left_out(what: &str) -> bool {
    use std::io::Write as _;
    let left_out = !is_slow();
    if left_out {
        // Past the test harness, which would keep it to itself.
        let left = format!("left to `tests/run.sh --all`: {what}\n");
        std::io::stderr().write_all(left.as_bytes()).unwrap();
    }
    left_out
}
