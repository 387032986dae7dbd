//! Checks a shared access signature with code of its own: signature over the resource exactly as written, scope by
//! path segment, expiry with the hub's tolerance. Knows the registry; never makes a token.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::registry::Registry;

/// What a good token allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grant {
    pub(crate) device: String,
    /// When the token itself ends; the hub's tolerance comes on top.
    pub(crate) expiry: DateTime<Utc>,
    /// Which key signed it: `primary` or `secondary`.
    pub(crate) key: &'static str,
}

/// Why a token was refused; `status` is what put-token answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("malformed token: {0}")]
    Malformed(&'static str),
    #[error("the token's resource `{0}` is not a device of this hub")]
    Scope(String),
    #[error("the token is for another device than the audience `{0}`")]
    Audience(String),
    #[error("the SAS token is expired: it ended {0}")]
    Expired(DateTime<Utc>),
    #[error("invalid signature: it matches neither key of the device")]
    Signature,
    #[error("device `{0}` is not registered")]
    Unknown(String),
    #[error("device `{0}` is disabled")]
    Disabled(String),
}

impl Refusal {
    /// 400 or 401, as put-token answers.
    pub(crate) fn status(&self) -> i32 {
        match self {
            Self::Malformed(_) => 400,
            _ => 401,
        }
    }
}

/// Checks `text`. `audience` is the name of put-token (either encoded or not) or none with SASL PLAIN.
/// `names` are the hub's host names, compared without regard to case.
pub(crate) fn check(
    text: &str,
    audience: Option<&str>,
    names: &[String],
    registry: &Registry,
    now: DateTime<Utc>,
    skew: TimeDelta,
) -> Result<Grant, Refusal> {
    let fields = Fields::parse(text)?;
    let decoded = decode(fields.resource).ok_or(Refusal::Malformed("sr is not UTF-8"))?;
    let device = device_of(&decoded, names, registry).ok_or_else(|| Refusal::Scope(decoded.clone()))?;
    if let Some(audience) = audience {
        let wanted = decode(audience).ok_or(Refusal::Malformed("audience is not UTF-8"))?;
        if device_of(&wanted, names, registry).as_ref() != Some(&device) {
            return Err(Refusal::Audience(wanted));
        }
    }
    let entry = registry.get(&device).ok_or_else(|| Refusal::Unknown(device.clone()))?;
    let signed = format!("{}\n{}", fields.resource, fields.expiry_text);
    let key = [("primary", &entry.primary), ("secondary", &entry.secondary)]
        .into_iter()
        .find(|(_, key)| verifies(key, signed.as_bytes(), &fields.signature))
        .map(|(name, _)| name)
        .ok_or(Refusal::Signature)?;
    if !entry.enabled {
        return Err(Refusal::Disabled(device));
    }
    if fields.expiry + skew <= now {
        return Err(Refusal::Expired(fields.expiry));
    }
    Ok(Grant { device, expiry: fields.expiry, key })
}

struct Fields<'a> {
    resource: &'a str,
    signature: Vec<u8>,
    expiry: DateTime<Utc>,
    expiry_text: &'a str,
}

impl<'a> Fields<'a> {
    fn parse(text: &'a str) -> Result<Self, Refusal> {
        let rest = text
            .strip_prefix("SharedAccessSignature ")
            .ok_or(Refusal::Malformed("it does not begin with SharedAccessSignature"))?;
        let field = |name: &str| {
            rest.split('&').filter_map(|part| part.split_once('=')).find(|(key, _)| *key == name).map(|f| f.1)
        };
        if field("skn").is_some_and(|name| !name.is_empty()) {
            return Err(Refusal::Malformed("skn names a policy: this hub knows only device keys"));
        }
        let resource = field("sr").ok_or(Refusal::Malformed("sr is missing"))?;
        let expiry_text = field("se").ok_or(Refusal::Malformed("se is missing"))?;
        let seconds: i64 = expiry_text.parse().map_err(|_| Refusal::Malformed("se is not a number"))?;
        let expiry = DateTime::from_timestamp(seconds, 0).ok_or(Refusal::Malformed("se is out of range"))?;
        let signature = field("sig")
            .and_then(decode)
            .and_then(|text| STANDARD.decode(text).ok())
            .ok_or(Refusal::Malformed("sig is missing or not base64"))?;
        Ok(Self { resource, signature, expiry, expiry_text })
    }
}

fn decode(text: &str) -> Option<String> {
    percent_decode_str(text).decode_utf8().ok().map(std::borrow::Cow::into_owned)
}

/// The device of `host/devices/id`. Compared by whole path segments; the id keeps its case, and may have been
/// percent-encoded once more inside the resource, as the C# SDK does.
fn device_of(resource: &str, names: &[String], registry: &Registry) -> Option<String> {
    let mut parts = resource.split('/');
    let host = parts.next()?;
    if !names.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return None;
    }
    if !parts.next()?.eq_ignore_ascii_case("devices") {
        return None;
    }
    let id = parts.next().filter(|id| !id.is_empty())?;
    if parts.next().is_some() {
        return None;
    }
    if registry.get(id).is_some() { Some(id.to_owned()) } else { decode(id) }
}

fn verifies(key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return false };
    mac.update(signed);
    mac.verify_slice(signature).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(key: &[u8], resource: &str, expiry: i64) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature = percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
        format!("SharedAccessSignature sig={signature}&sr={resource}&se={expiry}")
    }

    fn checked(text: &str, audience: Option<&str>) -> Result<Grant, Refusal> {
        let registry = Registry::default();
        registry.add_with_keys("roof", "a2V5", Some("b3RoZXI=")).unwrap();
        registry.add("roof-2");
        let now = DateTime::from_timestamp(1_000_000, 0).unwrap();
        check(text, audience, &["localhost".into()], &registry, now, TimeDelta::seconds(300))
    }

    #[test]
    fn a_token_of_either_key_is_good_encoded_or_not() {
        for resource in ["localhost%2Fdevices%2Froof", "localhost/devices/roof", "LOCALHOST%2fdevices%2froof"]
        {
            assert_eq!(checked(&token(b"key", resource, 1_000_001), Some(resource)).unwrap().key, "primary");
            assert_eq!(checked(&token(b"other", resource, 1_000_001), None).unwrap().key, "secondary");
        }
    }

    #[test]
    fn the_tolerance_is_five_minutes_and_no_more() {
        let resource = "localhost%2Fdevices%2Froof";
        assert!(checked(&token(b"key", resource, 999_701), None).is_ok());
        let refused = checked(&token(b"key", resource, 999_700), None).unwrap_err();
        assert!(matches!(refused, Refusal::Expired(_)), "{refused}");
        assert_eq!(refused.status(), 401);
    }

    #[test]
    fn another_device_host_or_key_is_refused() {
        let good = token(b"key", "localhost%2Fdevices%2Froof", 1_000_001);
        assert!(matches!(checked(&good, Some("localhost/devices/roof-2")), Err(Refusal::Audience(_))));
        assert!(matches!(checked(&good.replace("roof", "roof-2"), None), Err(Refusal::Signature)));
        let elsewhere = token(b"key", "example.org%2Fdevices%2Froof", 1_000_001);
        assert!(matches!(checked(&elsewhere, None), Err(Refusal::Scope(_))));
        let unknown = token(b"key", "localhost%2Fdevices%2Fcellar", 1_000_001);
        assert!(matches!(checked(&unknown, None), Err(Refusal::Unknown(_))));
        assert_eq!(checked("nonsense", None).unwrap_err().status(), 400);
    }
}
