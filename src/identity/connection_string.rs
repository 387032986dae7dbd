//! Device connection strings, and the checks of host, device id and key that every way in shares.
//! Knows text; knows no TPM and no file. A key is never part of an error.

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Identity, IdentityError};
use crate::secret_text::secret_in;

/// The longest key that HMAC-SHA256 takes without hashing it first, and that IoT Hub gives out.
const MAX_KEY: usize = 64;

/// The longest device id (IoT Hub, "Identity registry").
const MAX_DEVICE_ID: usize = 128;

/// A checked identity with its key, on the way into a TPM or in a key file's signer.
pub struct Credentials {
    pub identity: Identity,
    /// 1 to 64 bytes; wiped on drop.
    pub key: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Credentials {
    /// Checks the three parts; the key is base64, as the portal shows it.
    pub fn new(host: &str, device_id: &str, key_base64: &str) -> Result<Self, IdentityError> {
        Ok(Self { identity: checked_identity(host, device_id)?, key: checked_key(key_base64)? })
    }
}

/// Takes `HostName=..;DeviceId=..;SharedAccessKey=..` apart, in any order, blanks around it allowed.
pub fn parse_connection_string(text: &str) -> Result<Credentials, IdentityError> {
    let (mut host, mut device_id, mut key) = (None, None, None);
    for part in text.trim().split(';').map(str::trim).filter(|part| !part.is_empty()) {
        // The value of a key may hold `=`: only the first one separates.
        let Some((name, value)) = part.split_once('=') else {
            return Err(malformed("a part without `=`"));
        };
        let place = match name.trim().to_ascii_lowercase().as_str() {
            "hostname" => &mut host,
            "deviceid" => &mut device_id,
            "sharedaccesskey" => &mut key,
            "sharedaccesskeyname" => {
                return Err(malformed(
                    "`SharedAccessKeyName`: this is the connection string of the hub, not of a device",
                ));
            }
            "gatewayhostname" | "moduleid" | "x509" => {
                return Err(malformed(
                    "`GatewayHostName`, `ModuleId` or `x509`, which a station does not use",
                ));
            }
            // The name of an unknown part could be half a key: it is not shown.
            _ => return Err(malformed("a part with an unknown name")),
        };
        if place.replace(value.trim()).is_some() {
            return Err(malformed("one of its parts twice"));
        }
    }
    match (host, device_id, key) {
        (None, ..) => Err(malformed("no `HostName`")),
        (_, None, _) => Err(malformed("no `DeviceId`")),
        (.., None) => Err(malformed("no `SharedAccessKey`")),
        (Some(host), Some(device_id), Some(key)) => Credentials::new(host, device_id, key),
    }
}

/// Checks what stands behind `HostName` and `DeviceId`.
pub fn checked_identity(host: &str, device_id: &str) -> Result<Identity, IdentityError> {
    Ok(Identity { host: checked_host(host)?, device_id: checked_device_id(device_id)? })
}

/// Any host name or IP is right: a sovereign cloud, a gateway and a test hub are no less hubs.
pub fn checked_host(host: &str) -> Result<String, IdentityError> {
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    if bare.parse::<IpAddr>().is_err() && !is_host_name(bare) {
        return Err(IdentityError::failed(
            format!("checking the host name {:?}", shown(host)),
            "expected a host name such as my-hub.azure-devices.net or an IP address, without scheme, port \
             or path; copy `HostName` from the device's connection string",
        ));
    }
    Ok(bare.to_owned())
}

/// What IoT Hub allows as the id of a device.
pub fn checked_device_id(device_id: &str) -> Result<String, IdentityError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-.+%_#*?!(),:=@$'".contains(c);
    if device_id.is_empty() || device_id.len() > MAX_DEVICE_ID || !device_id.chars().all(legal) {
        return Err(IdentityError::failed(
            format!("checking the device id {:?}", shown(device_id)),
            format!(
                "expected 1 to {MAX_DEVICE_ID} characters out of A-Z a-z 0-9 and - . + % _ # * ? ! ( ) , : = \
                 @ $ '; copy `DeviceId` from the device's connection string"
            ),
        ));
    }
    Ok(device_id.to_owned())
}

/// Decodes a key as the portal shows it.
pub fn checked_key(base64: &str) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    const DOING: &str = "reading the device key (not shown)";
    let text = base64.trim();
    // Room for the whole key from the start: a buffer that grows leaves copies behind.
    let mut key = Zeroizing::new(vec![0; text.len() / 4 * 3 + 3]);
    let length = STANDARD.decode_slice(text, &mut key).map_err(|_| {
        // The decoder's own error quotes a byte of the key.
        IdentityError::failed(
            DOING,
            "expected base64, as the portal shows it (44 characters that end in `=` for the usual 32 bytes); \
             copy the primary key again, whole",
        )
    })?;
    if length == 0 || length > MAX_KEY {
        return Err(IdentityError::failed(
            DOING,
            format!(
                "expected base64 of 1 to {MAX_KEY} bytes, but it is {length} bytes long; give the device's \
                 primary or secondary key, not a token or a certificate"
            ),
        ));
    }
    key.truncate(length);
    Ok(key)
}

/// RFC 1123 labels, the underscore tolerated because private networks use it.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    !host.is_empty() && host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(label)
}

/// The beginning of a rejected value: a key or a whole connection string in the wrong place is not repeated.
fn shown(value: &str) -> String {
    match secret_in(value) {
        Some(kind) => format!("({kind})"),
        None => value.chars().take(64).collect(),
    }
}

fn malformed(what: &str) -> IdentityError {
    IdentityError::failed(
        format!("reading the connection string (not shown): it has {what}"),
        "expected HostName=<hub>;DeviceId=<device>;SharedAccessKey=<base64>; copy the device's primary \
         connection string from the portal, whole and on one line",
    )
}
