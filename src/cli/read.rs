//! `read`: one reading, from the running station where there is one (it holds the bus), else from the sensor itself.

use std::time::Duration;

use anyhow::{Context as _, bail};
use hyper::{Method, StatusCode};
use serde_json::Value;

use super::{DONE, daemon, output, runtime};
use crate::config::Config;
use crate::observation::Observation;
use crate::{identity, sensor, settings, station, store};

/// Longer than the station can take: a sample under way (10 s), then this request (3 s), each with an attempt that may
/// overrun.
const LIMIT: Duration = Duration::from_secs(20);

const UNASKED: &str = "the running station cannot be asked: set `showcase.listen` and restart it";

pub fn run(config: &Config, json: bool) -> anyhow::Result<u8> {
    let runtime = runtime::start()?;
    let reading = runtime.block_on(async {
        match ask(config).await? {
            Some(reading) => Ok(reading),
            None => measure(config).await,
        }
    });
    runtime::end(runtime);
    let reading = reading?;
    if json {
        output::line(&reading)?;
    } else {
        output::print(&in_words(&reading))?;
    }
    Ok(DONE)
}

/// Asks the running station; `None` where none runs, whoever else may listen at its address. Beside one that runs
/// nothing else may be measured, so whatever it answers is the answer.
async fn ask(config: &Config) -> anyhow::Result<Option<Value>> {
    let runs = store::is_held(&config.store.path).unwrap_or(false);
    let Some(address) = daemon::address(config) else {
        if runs {
            bail!(UNASKED);
        }
        return Ok(None);
    };
    let answer = match daemon::ask(address, Method::POST, "/api/read", LIMIT).await {
        Err(error) if runs => return Err(unanswered(error)),
        Err(_) => return Ok(None),
        Ok(answer) => answer,
    };
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if answer.status == StatusCode::OK && body.get("currentTemperature").is_some() {
        return Ok(Some(body));
    }
    // The statuses of `/api/read`. The lock does not always tell that a station runs: its own words do.
    let own = matches!(
        answer.status,
        StatusCode::FORBIDDEN | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE
    );
    match body.get("error").and_then(Value::as_str) {
        Some(error) if runs || own => bail!("the running station could not take a reading: {error}"),
        _ if !runs => Ok(None),
        _ => bail!(
            "{address} answered {}: the station is overloaded, or something else listens there (`showcase.listen`)",
            answer.status
        ),
    }
}

/// Nobody listens there, or the station has no answer yet.
fn unanswered(error: anyhow::Error) -> anyhow::Error {
    match daemon::nobody_listens(&error) {
        true => error.context(UNASKED),
        false => error.context("the running station did not answer: see `weather-station status`"),
    }
}

async fn measure(config: &Config) -> anyhow::Result<Value> {
    let timekeeper = station::timekeeper();
    let source = sensor::Source::new(config, &timekeeper)?;
    let asked = config.clone();
    // A reading needs neither: where there is an identity it is named, and where there is a store the values of the twin
    // that are kept in it hold.
    let (device_id, (settings, unread)) = tokio::task::spawn_blocking(move || {
        let name = identity::open(&asked.identity).and_then(|mut signer| signer.identity()).ok();
        let settings = settings::beside_the_station(&asked, name.as_ref());
        (name.map(|name| name.device_id).unwrap_or_default(), settings)
    })
    .await
    .context("identity and store could not be asked")?;
    if let Some(error) = unread {
        output::error(&anyhow::Error::new(error).context(settings::UNREAD));
    }
    let mut chip = config.sensor.clone();
    (chip.oversampling, chip.offset) = (settings.oversampling, settings.offset);
    let (sample, _chip) =
        sensor::read_once(source, &chip, &timekeeper).await.map_err(|error| match error {
            sensor::SensorError::Locked { .. } => anyhow::Error::new(error).context(UNASKED),
            error => {
                anyhow::Error::new(error).context("could not read the sensor: see `weather-station check`")
            }
        })?;
    Ok(serde_json::to_value(Observation::of_sample(&sample, &device_id, settings.altitude))?)
}

fn in_words(reading: &Value) -> String {
    let lines = [
        ("time", "time", ""),
        ("temperature", "currentTemperature", " degC"),
        ("humidity", "currentHumidity", " %RH"),
        ("pressure", "currentPressure", " kPa"),
        ("at sea level", "seaLevelPressure", " kPa"),
        ("dew point", "dewPoint", " degC"),
        ("time quality", "timeQuality", ""),
        ("quality", "quality", ""),
    ];
    lines
        .iter()
        .filter_map(|(name, key, unit)| match reading.get(key)? {
            Value::String(text) => Some(format!("{name:<14}{text}{unit}\n")),
            number => Some(format!("{name:<14}{number}{unit}\n")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_station_that_listens_and_does_not_answer_is_not_told_to_listen() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let ask = || daemon::ask(address, Method::POST, "/api/read", Duration::from_millis(200));
        let error = unanswered(ask().await.err().expect("nobody answers"));
        assert!(!format!("{error:#}").contains("showcase.listen"), "{error:#}");
        drop(listener);
        let error = unanswered(ask().await.err().expect("nobody listens"));
        assert!(format!("{error:#}").contains("showcase.listen"), "{error:#}");
    }
}
