//! Checks the `registration` token. Own code: the station's is what is tested. Knows text and HMAC.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

/// Why a token was refused; None if it is good.
pub fn refusal(
    header: &str,
    key: &[u8],
    scope: &str,
    registration_id: &str,
    now: DateTime<Utc>,
) -> Option<&'static str> {
    let Some(rest) = header.strip_prefix("SharedAccessSignature ") else {
        return Some("not a shared access signature");
    };
    let field = |name: &str| {
        rest.split('&').find_map(|part| part.split_once('=').filter(|(key, _)| *key == name)).map(|(_, v)| v)
    };
    let (Some(sr), Some(sig), Some(se), Some(skn)) = (field("sr"), field("sig"), field("se"), field("skn"))
    else {
        return Some("sr, sig, se or skn is missing");
    };
    if skn != "registration" {
        return Some("skn is not registration");
    }
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    if !decode(sr).eq_ignore_ascii_case(&format!("{scope}/registrations/{registration_id}")) {
        return Some("sr is another registration");
    }
    let Ok(signature) = STANDARD.decode(decode(sig)) else { return Some("sig is not base64") };
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{sr}\n{se}").as_bytes());
    if mac.verify_slice(&signature).is_err() {
        return Some("the signature is not the key's");
    }
    match se.parse::<i64>() {
        Ok(se) if se > now.timestamp() => None,
        _ => Some("it has expired"),
    }
}
