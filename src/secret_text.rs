//! Reads text that is a secret into memory that is wiped, and recognises text that could be one, so that no message
//! repeats it. Knows letters and nothing else.

use std::io::{self, Read};

use zeroize::Zeroizing;

/// No connection string and no key is longer: they are a few hundred bytes.
const LONGEST: usize = 4096;

/// What Windows puts before a text that it saves as UTF-8; no part of the text.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Reads a connection string or a key to its end. What can be neither is `InvalidData`, and no part of it is in the
/// error. The buffer never grows, so no copy stays behind.
pub fn read(source: &mut impl Read) -> io::Result<Zeroizing<String>> {
    let unfit = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut bytes = Zeroizing::new(vec![0_u8; LONGEST + 1]);
    let mut length = 0;
    while length < bytes.len() {
        match source.read(&mut bytes[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if length > LONGEST {
        return Err(unfit(format!("it is longer than {LONGEST} bytes")));
    }
    let text = std::str::from_utf8(&bytes[..length]).map_err(|_| unfit("it is not text".into()))?;
    Ok(Zeroizing::new(text.trim_start_matches(BYTE_ORDER_MARK).to_owned()))
}

/// Whether a text looks like a device key: base64 of 16 to 64 bytes, padding forgotten or not. A serial number in
/// hexadecimal digits, of which device ids are made, does not.
pub fn could_be_a_key(text: &str) -> bool {
    let text = text.trim().trim_end_matches('=').as_bytes();
    (22..=86).contains(&text.len())
        && text.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
        && !text.iter().all(u8::is_ascii_hexdigit)
}

/// What kind of secret a text holds that should hold none; for a message that must not repeat it.
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
    fn a_secret_is_read_whole_and_what_is_none_is_refused_without_its_bytes() {
        let reads = |bytes: &[u8]| read(&mut &bytes[..]).map(|text| text.to_string());
        assert_eq!(reads("\u{feff}HostName=h\r\n".as_bytes()).unwrap(), "HostName=h\r\n");
        assert_eq!(reads(&[b'x'; LONGEST]).unwrap().len(), LONGEST);
        for (bytes, says) in [
            (&[b'x'; LONGEST + 1][..], "it is longer than 4096 bytes"),
            (b"secret\xff\xfe", "it is not text"),
        ] {
            let error = reads(bytes).unwrap_err();
            assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::InvalidData, says));
        }
    }

    #[test]
    fn a_signal_while_it_is_read_is_no_failure() {
        struct Interrupted(bool);
        impl Read for Interrupted {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    Ok(0)
                } else {
                    Err(io::ErrorKind::Interrupted.into())
                }
            }
        }
        let mut source = (&b"ke"[..]).chain(Interrupted(false)).chain(&b"y"[..]);
        assert_eq!(read(&mut source).unwrap().as_str(), "key");
    }

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
