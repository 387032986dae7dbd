//! Tells text that could be a secret, so that no message repeats it. Knows letters and nothing else.

/// Whether a text looks like a device key: base64 of 16 to 64 bytes, padding forgotten or not. A serial number in
/// hexadecimal digits, of which device ids are made, does not.
pub fn could_be_a_key(text: &str) -> bool {
    let text = text.trim().trim_end_matches('=').as_bytes();
    (22..=86).contains(&text.len())
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        && !text.iter().all(u8::is_ascii_hexdigit)
}

/// What kind of secret a text that is none by its place holds, for a message that must not repeat it.
pub fn secret_in(text: &str) -> Option<&'static str> {
    let lower = text.to_ascii_lowercase();
    // The names alone are none: a file may be called so.
    let holds = |name: &str, sign: fn(&str) -> bool| {
        lower.match_indices(name).any(|(at, _)| lower.get(at + name.len()..).is_some_and(sign))
    };
    if holds("sharedaccesskey", |rest| rest.trim_start().starts_with('=')) {
        Some("a connection string")
    } else if holds("sharedaccesssignature", |rest| rest.starts_with(|c: char| c.is_whitespace() || c == '='))
    {
        Some("a token")
    } else if could_be_a_key(text) {
        Some("what could be a key")
    } else {
        None
    }
}

/// The same of the path of a file. The names in a path may have a key's letters only: what begins with `/` or lacks the
/// capitals and digits that random bytes have is a path, unless padding stands behind it.
pub fn secret_in_path(path: &str) -> Option<&'static str> {
    let random =
        |text: &str| text.bytes().any(|b| b.is_ascii_uppercase()) && text.bytes().any(|b| b.is_ascii_digit());
    let plain = !path.trim_end().ends_with('=') && (path.starts_with('/') || !random(path));
    secret_in(path).filter(|_| !(plain && could_be_a_key(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_of_plain_names_is_none_and_a_key_in_its_place_is() {
        for path in [
            "/etc/weather-station/SharedAccessKey.txt",
            "/etc/weatherstation/identity",
            "secrets/weatherstationkey",
            "data/jfk-2013-11.csv",
            "/dev/i2c-1",
        ] {
            assert_eq!(secret_in_path(path), None, "{path}");
        }
        let key = "3q2xQ7h5Yt9LkPz0aBcDeFgHiJkLmNoPqRsTuVwXyZ0=";
        for secret in [
            key,
            key.trim_end_matches('='),
            "/q2xQ7h5Yt9LkPz0aBcDeFgHiJkLmNoPqRsTuVwXyZ0=",
            "HostName=h;SharedAccessKey=a",
            "SharedAccessSignature sr=h&sig=a&se=1",
        ] {
            assert!(secret_in_path(secret).is_some(), "{secret}");
        }
    }
}
