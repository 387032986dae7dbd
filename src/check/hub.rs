//! The hub: name, TLS, token. The running station has a connection: it is asked, because a second one would steal it.

use serde_json::Value;

use super::{Finding, Station, Status, text};
use crate::chain::chain;
use crate::clock::ClockState;
use crate::cloud::{self, Reached, Stopped};
use crate::config::Config;
use crate::identity;
use crate::station;

const NAME: &str = "hub";
const KEPT: &str = "readings are kept and sent later; let TCP 5671 or 443 out to the hub";
const NO_NAME: &str = "see the TPM above";

pub async fn check(config: &Config, station: &Station) -> Finding {
    match station {
        Station::Says(document) => return ask(document),
        Station::Mute { why, remedy } => return Finding::warning(NAME, why, *remedy),
        Station::Absent => {}
    }
    let timekeeper = station::timekeeper();
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
        return Finding::failed(NAME, "not tried: the station has no identity", NO_NAME);
    };
    let proxy = cloud::Proxy::from_environment();
    let trouble = proxy.trouble().map(str::to_owned);
    let finding = match cloud::probe(config, proxy, &timekeeper).await {
        Ok(way) => {
            let (host, device) = (name.host, name.device_id);
            Finding::ok(
                NAME,
                format!("{host} lets {device} in, by {way}: name, port, TLS and token are right"),
            )
        }
        Err(stopped) => stopped_at(&name.host, &stopped),
    };
    match trouble {
        None => finding,
        Some(trouble) if finding.status == Status::Ok => Finding::warning(NAME, finding.detail, trouble),
        Some(trouble) => Finding { detail: format!("{}; {trouble}", finding.detail), ..finding },
    }
}

/// How far it came, why not further, and what is to be done there.
fn stopped_at(host: &str, stopped: &Stopped) -> Finding {
    let (reached, remedy) = match stopped.reached {
        Reached::Here => ("it was not asked", "see the TPM above, and `hub.ca_file`"),
        Reached::Resolver => (
            "its name is not found",
            "readings are kept and sent later; see whether there is a network and a resolver (`resolvectl status`), \
             and whether this is the name of the hub",
        ),
        Reached::Name => ("its name is found, its port does not answer", KEPT),
        Reached::Port => (
            "name and port are right, TLS is not",
            "readings are kept and sent later; keep `ca-certificates` up to date, or put the root that the hub has, \
             or a proxy on the way, into `hub.ca_file`",
        ),
        Reached::Tls => (
            "name, port and TLS are right, the WebSocket is refused",
            "readings are kept and sent later; see whether this is a hub, or a proxy's page that answers in its place \
             (`https_proxy`, `hub.websocket_port`)",
        ),
        Reached::Wire => (
            "name, port and TLS are right, but it does not let this device in",
            "readings are kept and sent later; see in the portal whether the device is there and enabled, and \
             provision its key again with `--force`",
        ),
    };
    Finding::failed(NAME, format!("{host}: {reached}: {}", chain(&stopped.error)), remedy)
}

fn ask(document: &Value) -> Finding {
    let host = text(document, "/identity/host").unwrap_or("the hub");
    match text(document, "/cloud/state") {
        Some("online") => match text(document, "/cloud/reason") {
            None => Finding::ok(NAME, format!("{host} is online, says the running station")),
            // A spent quota, a throttled hub.
            Some(reason) => Finding::warning(
                NAME,
                format!("{host} is online, but accepts nothing: {reason}"),
                "readings are kept and sent later",
            ),
        },
        state => {
            let reason = text(document, "/cloud/reason").unwrap_or("no reason given");
            let state = state.unwrap_or("unknown");
            let remedy =
                if document.pointer("/identity/host").is_none_or(Value::is_null) { NO_NAME } else { KEPT };
            Finding::failed(NAME, format!("{host} is {state}: {reason}"), remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_running_station_that_is_online_and_sends_nothing_is_a_warning() {
        let mut document = serde_json::json!({
            "identity": {"host": "hub"},
            "cloud": {"state": "online", "reason": null},
        });
        assert_eq!(ask(&document).status, Status::Ok);
        document["cloud"]["reason"] = "the quota is spent".into();
        let finding = ask(&document);
        assert_eq!(finding.status, Status::Warning);
        assert_eq!(finding.detail, "hub is online, but accepts nothing: the quota is spent");
    }
}
