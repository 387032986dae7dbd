//! Reads the TPM form: `application/x-www-form-urlencoded` whose memory is overwritten after use. A key goes
//! from the socket's buffer into one wiped string and nowhere else. Knows no TPM.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt as _;
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

use super::connection::Connection;

/// Bytes of a form at most.
const MOST: usize = 4 * 1024;

/// The fields. No `Debug`: the key must not find its way into a log.
#[derive(Default)]
pub struct SecretForm {
    pub code: Zeroizing<String>,
    /// Wiped as the key is, which may have been pasted here.
    pub host: Zeroizing<String>,
    pub device_id: Zeroizing<String>,
    pub key: Zeroizing<String>,
    /// The box "replace the identity that is there" was ticked.
    pub replace: bool,
}

/// Why a form cannot be read.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FormError {
    #[error("expected application/x-www-form-urlencoded, as a browser sends it")]
    WrongType,
    #[error("the form is longer than {MOST} bytes")]
    TooLong,
    #[error("the form broke off or is not text")]
    Unreadable,
}

/// Reads and takes apart a request's body; its buffers are wiped when the connection ends.
pub async fn read(
    connection: &Connection,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<SecretForm, FormError> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
        return Err(FormError::WrongType);
    }
    // Room for all of it from the start: a buffer that grows leaves copies behind.
    let mut form = Zeroizing::new(Vec::with_capacity(MOST));
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame.map_err(|_| FormError::Unreadable)?.into_data() else { continue };
        connection.wipe_at_end(piece.clone());
        if form.len() + piece.len() > MOST {
            return Err(FormError::TooLong);
        }
        form.extend_from_slice(&piece);
    }
    parse(&form)
}

fn parse(form: &[u8]) -> Result<SecretForm, FormError> {
    let mut fields = SecretForm::default();
    for pair in form.split(|byte| *byte == b'&') {
        let mut sides = pair.splitn(2, |byte| *byte == b'=');
        let (name, value) = (sides.next().unwrap_or_default(), sides.next().unwrap_or_default());
        let value = decode(value)?;
        match name {
            b"code" => fields.code = value,
            b"host" => fields.host = Zeroizing::new(value.trim().to_owned()),
            b"device" => fields.device_id = Zeroizing::new(value.trim().to_owned()),
            b"key" => fields.key = value,
            b"replace" => fields.replace = true,
            _ => {}
        }
    }
    Ok(fields)
}

fn decode(value: &[u8]) -> Result<Zeroizing<String>, FormError> {
    let spaced: Zeroizing<Vec<u8>> =
        Zeroizing::new(value.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect());
    let mut text = Zeroizing::new(Vec::with_capacity(spaced.len()));
    text.extend(percent_decode(&spaced));
    let text = std::mem::take(&mut *text);
    match String::from_utf8(text) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(FormError::Unreadable)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(form in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _either = parse(&form);
        }

        #[test]
        fn what_was_encoded_comes_back(key in "\\PC{0,80}") {
            let encoded = percent_encoding::utf8_percent_encode(&key, percent_encoding::NON_ALPHANUMERIC);
            prop_assert_eq!(&**parse(format!("a=1&key={encoded}").as_bytes()).unwrap().key, &key);
        }
    }

    #[test]
    fn a_browser_s_form_is_taken_apart() {
        let form =
            parse(b"code=AB-CD&host=+hub.example+&device=a%2Bb&key=x%2By%2F%3D&replace=on&more=1").unwrap();
        assert_eq!((&**form.code, &**form.host, &**form.device_id), ("AB-CD", "hub.example", "a+b"));
        assert_eq!((&**form.key, form.replace), ("x+y/=", true));
        assert!(!parse(b"").unwrap().replace);
        assert_eq!(parse(b"key=%ff").err(), Some(FormError::Unreadable));
    }

    #[tokio::test]
    async fn only_a_short_form_of_the_right_type_is_read() {
        let connection = Connection::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:80".parse().unwrap());
        let mut headers = HeaderMap::new();
        let refused = read(&connection, &headers, Body::from("key=a")).await.err();
        assert_eq!(refused, Some(FormError::WrongType));
        headers.insert(header::CONTENT_TYPE, "application/x-www-form-urlencoded".parse().unwrap());
        assert!(read(&connection, &headers, Body::from("key=a")).await.is_ok());
        let long = "a".repeat(MOST + 1);
        assert_eq!(read(&connection, &headers, Body::from(long)).await.err(), Some(FormError::TooLong));
    }
}
