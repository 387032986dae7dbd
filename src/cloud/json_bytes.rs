//! The few JSON values that a reading needs, written into a buffer without allocating.

use std::io::Write as _;

use chrono::{DateTime, Datelike as _, Timelike as _, Utc};

/// What [`time`] writes.
pub const TIME_LENGTH: usize = 24;

/// RFC 3339, UTC, milliseconds: always 24 bytes (the years 0 to 9999).
pub fn time(out: &mut Vec<u8>, time: DateTime<Utc>) {
    let naive = time.naive_utc();
    let (date, clock) = (naive.date(), naive.time());
    let millisecond = (clock.nanosecond() / 1_000_000).min(999);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    digits(&mut text[0..4], date.year().clamp(0, 9999).unsigned_abs());
    digits(&mut text[5..7], date.month());
    digits(&mut text[8..10], date.day());
    digits(&mut text[11..13], clock.hour());
    digits(&mut text[14..16], clock.minute());
    digits(&mut text[17..19], clock.second());
    digits(&mut text[20..23], millisecond);
    out.extend_from_slice(&text);
}

fn digits(text: &mut [u8], mut number: u32) {
    for digit in text.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
    }
}

/// A JSON number rounded to `places` decimals, without needless zeros but always with one: `21.0`, `-3.25`.
pub fn number(out: &mut Vec<u8>, value: f64, places: usize) {
    if !value.is_finite() {
        out.extend_from_slice(b"null");
        return;
    }
    let steps = 10_i64.pow(u32::try_from(places).expect("2 or 3"));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        reason = "weather is far below 2^53"
    )]
    let scaled = (value * steps as f64).round() as i64;
    if scaled < 0 {
        out.push(b'-');
    }
    let scaled = scaled.unsigned_abs();
    let steps = steps.unsigned_abs();
    unsigned(out, scaled / steps);
    out.push(b'.');
    let mut fraction = [b'0'; 3];
    digits(&mut fraction[..places], u32::try_from(scaled % steps).expect("below 1000"));
    let mut length = places;
    while length > 1 && fraction[length - 1] == b'0' {
        length -= 1;
    }
    out.extend_from_slice(&fraction[..length]);
}

/// A whole number.
pub fn unsigned(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0; 20];
    let mut from = text.len();
    loop {
        from -= 1;
        text[from] = b'0' + u8::try_from(number % 10).expect("a digit");
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[from..]);
}

/// A JSON string; the slow way only where something has to be escaped.
pub fn string(out: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_') {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        wrote(write!(out, "{}", serde_json::Value::from(text)));
    }
}

/// Writing into memory does not fail.
pub fn wrote(result: std::io::Result<()>) {
    result.expect("writing into memory does not fail");
}
