//! What the commands `provision`, `provision --show` and `provision --clear` call, in one place.
//! Knows no arguments and prints nothing.

pub use super::connection_string::{
    Credentials, checked_device_id, checked_host, checked_identity, checked_key, parse_connection_string,
};
pub use super::tpm::provision::{clear, provision};
pub use super::tpm::show::{Shown, show};
