//! The setup code: proof that whoever uses the TPM form may read a file of this station.
//! A stub as yet.

use std::path::PathBuf;

/// `$RUNTIME_DIRECTORY` (systemd sets it), else `/run/weather-station`.
pub fn runtime_directory() -> PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| "/run/weather-station".into(), PathBuf::from)
}
