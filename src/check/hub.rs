//! The hub: name, TLS, token. The running station has a connection: it is asked, because a second one would steal it.

use std::sync::Arc;

use serde_json::Value;

use super::{Finding, chain, text};
use crate::clock::{ClockState, SystemClock, Timekeeper};
use crate::config::Config;
use crate::{cloud, identity, station};

const NAME: &str = "hub";
const REMEDY: &str = "readings are kept and sent later; let TCP 5671 or 443 out to the hub";

pub async fn check(config: &Config, running: Option<&Value>) -> Finding {
    if let Some(document) = running {
        return ask(document);
    }
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), station::build_date());
    if timekeeper.state() == ClockState::Wrong {
        return Finding::failed(
            NAME,
            "not tried: no token can be made with a wrong clock",
            "see the clock above",
        );
    }
    let settings = config.identity.clone();
    let named = tokio::task::spawn_blocking(move || identity::open(&settings)?.identity()).await;
    let Ok(Ok(name)) = named else {
        return Finding::failed(NAME, "not tried: the station has no identity", "see the TPM above");
    };
    match cloud::probe(config, &timekeeper).await {
        Ok(way) => Finding::ok(NAME, format!("{} lets {} in, by {way}", name.host, name.device_id)),
        Err(error) => Finding::failed(NAME, chain(&error), REMEDY),
    }
}

fn ask(document: &Value) -> Finding {
    let host = text(document, "/identity/host").unwrap_or("the hub");
    match text(document, "/cloud/state") {
        Some("online") => Finding::ok(NAME, format!("{host} is online, says the running station")),
        state => {
            let reason = text(document, "/cloud/reason").unwrap_or("no reason given");
            let state = state.unwrap_or("unknown");
            Finding::failed(NAME, format!("{host} is {state}: {reason}"), REMEDY)
        }
    }
}
