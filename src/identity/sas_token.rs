//! Shared access signatures: the text, what is signed, and when to renew. Pure apart from the signer.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{Identity, IdentityError, Signer};

/// Everything but RFC 3986's unreserved characters.
pub const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A signed permission to act as a device until `expiry`. `Debug` does not show the signature.
#[derive(Clone)]
pub struct SasToken {
    /// `SharedAccessSignature sr=..&sig=..&se=..`: a secret.
    text: zeroize::Zeroizing<String>,
    /// The encoded resource, as it stands behind `sr=`; also the audience of put-token.
    pub resource: String,
    pub made: DateTime<Utc>,
    pub expiry: DateTime<Utc>,
}

impl SasToken {
    /// The whole text. Give it to the hub (or, in `weather-station token`, to the user) and nobody else.
    pub fn secret_text(&self) -> &str {
        &self.text
    }

    /// When to renew: 80 % of the life.
    pub fn renew_at(&self) -> DateTime<Utc> {
        self.made + (self.expiry - self.made) * 4 / 5
    }
}

impl std::fmt::Debug for SasToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SasToken")
            .field("resource", &self.resource)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

/// A token for the device itself: `{host}/devices/{device id}`.
pub fn for_device(
    signer: &mut dyn Signer,
    identity: &Identity,
    now: DateTime<Utc>,
    lifetime: Duration,
) -> Result<SasToken, IdentityError> {
    let resource = format!("{}/devices/{}", identity.host, identity.device_id);
    sign(signer, &resource, None, now, lifetime)
}

/// A token for any resource. The signature covers the *encoded* resource, a line feed and the expiry
/// in whole seconds (IoT Hub, "Control access with shared access signatures").
pub fn sign(
    signer: &mut dyn Signer,
    resource: &str,
    key_name: Option<&str>,
    now: DateTime<Utc>,
    lifetime: Duration,
) -> Result<SasToken, IdentityError> {
    let resource = utf8_percent_encode(resource, RESERVED).to_string();
    let lifetime = TimeDelta::from_std(lifetime).unwrap_or(TimeDelta::MAX);
    let expiry = DateTime::from_timestamp((now + lifetime).timestamp(), 0).unwrap_or(now);
    let seconds = expiry.timestamp();
    let signature = STANDARD.encode(signer.sign(format!("{resource}\n{seconds}").as_bytes())?);
    let signature = utf8_percent_encode(&signature, RESERVED);
    let mut text = format!("SharedAccessSignature sr={resource}&sig={signature}&se={seconds}");
    if let Some(name) = key_name {
        text.push_str("&skn=");
        text.push_str(name);
    }
    Ok(SasToken { text: text.into(), resource, made: now, expiry })
}
