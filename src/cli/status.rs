//! `status`: what the running station is doing, in words or as its own document.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::Method;
use serde_json::Value;

use super::{DONE, daemon, output, runtime};
use crate::check;
use crate::config::Config;
use crate::showcase;

/// No listener or no daemon: exit status 1 with the remedy.
pub fn run(config: &Config, json: bool) -> anyhow::Result<u8> {
    let Some(address) = daemon::address(config) else {
        bail!(
            "the running station cannot be asked: `showcase.listen` is empty; set it to an address such as \"127.0.0.1:8080\" and restart the station"
        );
    };
    let answer = runtime::start()?
        .block_on(daemon::ask(address, Method::GET, "/api/status", Duration::from_secs(10)))
        .context("no running station answers: start it with `systemctl start weather-station`, or see `journalctl -u weather-station` for why it ended")?;
    if answer.status != 200 {
        bail!(
            "{address} answered {}: something else than this station listens there (`showcase.listen`)",
            answer.status
        );
    }
    let document: Value = serde_json::from_slice(&answer.body)
        .with_context(|| format!("{address} did not answer with a status document"))?;
    if json {
        output::line(serde_json::to_string_pretty(&document)?)?;
    } else {
        output::print(&in_words(&document))?;
        if let Ok(code) = showcase::setup_code::read(&showcase::setup_code::runtime_directory()) {
            output::line(format_args!("setup code    {code} (for the TPM form on the page)"))?;
        }
    }
    Ok(DONE)
}

/// One line a part: what it is, and why where it is not well.
fn in_words(document: &Value) -> String {
    let text = |pointer: &str| match document.pointer(pointer) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    };
    let moment = |pointer: &str| text(pointer).map(|time| to_the_second(&time));
    let get = |pointer: &str| text(pointer).unwrap_or_else(|| "-".into());
    let because = |pointer: &str| text(pointer).map(|reason| format!(": {reason}")).unwrap_or_default();
    let mut words = String::new();
    let mut part = |name: &str, line: String| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(words, "{name:<14}{line}");
    };
    part("station", format!("weather-station {}, store {}", get("/version"), get("/station/storeId")));
    let identity = match (text("/identity/host"), text("/identity/deviceId")) {
        (Some(host), Some(device)) => format!("{device} at {host} ({})", get("/identity/source")),
        _ => format!("none{}", because("/identity/reason")),
    };
    part("identity", identity);
    part(
        "sensor",
        format!(
            "{}, {} samples missed{}",
            get("/sensor/state"),
            get("/sensor/missed"),
            because("/sensor/reason")
        ),
    );
    if document.pointer("/sensor/lastReading").is_some_and(Value::is_object) {
        let reading = |key: &str| get(&format!("/sensor/lastReading/{key}"));
        let line = format!(
            "{} degC, {} %RH, {} kPa at {}",
            reading("currentTemperature"),
            reading("currentHumidity"),
            reading("currentPressure"),
            reading("time"),
        );
        part("last reading", line);
    }
    let bytes = document.pointer("/store/bytes").and_then(Value::as_f64).unwrap_or_default();
    // Said only where there are some: readings that a power cut would cost, and readings that the hub refused.
    let some = |pointer: &str, words: &str| match document.pointer(pointer).and_then(Value::as_u64) {
        Some(count @ 1..) => format!(", {count} {words}"),
        _ => String::new(),
    };
    part(
        "store",
        format!(
            "{}, last sequence {}, {} pending{}{}, {:.1} MB{}",
            get("/store/state"),
            get("/store/lastSequence"),
            get("/store/pending"),
            some("/store/inMemory", "only in memory"),
            some("/store/deadLetters", "set aside"),
            bytes / 1e6,
            because("/store/reason"),
        ),
    );
    let since = moment("/cloud/since").map(|since| format!(" since {since}")).unwrap_or_default();
    part("cloud", format!("{}{since}{}", get("/cloud/state"), because("/cloud/reason")));
    if let Some(accepted) = moment("/cloud/lastAccepted") {
        part("accepted", format!("last at {accepted}"));
    }
    if let Some(eta) = moment("/cloud/eta") {
        part("caught up", format!("at about {eta}"));
    }
    if let Some(expires) = moment("/cloud/tokenExpires") {
        part("token", format!("expires {expires}"));
    }
    if let Some(metered) = document.get("outlook").and_then(check::configuration::metered) {
        part("messages", metered);
    }
    part("clock", format!("{}{}", get("/clock/state"), because("/clock/reason")));
    let overridden = check::in_force::overridden(document);
    if !overridden.is_empty() {
        part("twin sets", overridden.join(", "));
    }
    words
}

/// A time in UTC without its fraction.
fn to_the_second(time: &str) -> String {
    match time.split_once('.') {
        Some((whole, fraction)) if fraction.ends_with('Z') => format!("{whole}Z"),
        _ => time.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_store_s_line_tells_what_is_only_in_memory_and_what_was_set_aside_where_there_is_any() {
        let line = |in_memory: u64, dead_letters: u64| {
            let store = json!({"state": "ok", "lastSequence": 9, "pending": 2, "bytes": 4_100_000,
                "inMemory": in_memory, "deadLetters": dead_letters});
            let words = in_words(&json!({ "store": store }));
            words.lines().find_map(|line| line.strip_prefix("store ")).unwrap().trim().to_owned()
        };
        assert_eq!(line(0, 0), "ok, last sequence 9, 2 pending, 4.1 MB");
        assert_eq!(line(50, 0), "ok, last sequence 9, 2 pending, 50 only in memory, 4.1 MB");
        assert_eq!(to_the_second("2026-11-28T07:40:08.572454414Z"), "2026-11-28T07:40:08Z");
        assert_eq!(line(1, 500), "ok, last sequence 9, 2 pending, 1 only in memory, 500 set aside, 4.1 MB");
    }
}
