//! The hub: name, TLS, token. The running station has a connection: it is asked, because a second one would steal it.

use serde::Deserialize as _;
use serde_json::Value;

use super::{Finding, Station, Status, text};
use crate::chain::chain;
use crate::clock::ClockState;
use crate::cloud::{self, Reached, Stopped};
use crate::config::Config;
use crate::identity;
use crate::station;
use crate::status::Failure;

const NAME: &str = "hub";
const KEPT: &str = "readings are kept and sent later";
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

/// What is to be done about a failure of this kind.
fn remedy(failure: Failure) -> &'static str {
    match failure {
        Failure::Station => "see the TPM above, and `hub.ca_file`",
        Failure::Clock => "see the clock above",
        Failure::Name => {
            "readings are kept and sent later; see whether there is a network and a resolver (`resolvectl status`), \
             and whether the name is right"
        }
        Failure::Network => "readings are kept and sent later; let TCP 5671 or 443 out to the hub",
        Failure::Tls => {
            "readings are kept and sent later; keep `ca-certificates` up to date, or put the root that the hub has, \
             or a proxy on the way, into `hub.ca_file`"
        }
        Failure::Websocket => {
            "readings are kept and sent later; see whether this is a hub, or a proxy's page that answers in its place \
             (`https_proxy`, `hub.websocket_port`)"
        }
        Failure::Identity => {
            "readings are kept and sent later; see in the portal whether the device is there and enabled, and \
             provision its key again with `--force`"
        }
        Failure::Stolen => {
            "readings are kept and sent later; give each station an identity of its own (`weather-station provision`)"
        }
        Failure::Hub => KEPT,
    }
}

/// How far it came, why not further, and what is to be done there.
fn stopped_at(host: &str, stopped: &Stopped) -> Finding {
    let (reached, failure) = match stopped.reached {
        Reached::Nothing => ("it was not asked", Failure::Station),
        Reached::Resolver => ("its name is not found", Failure::Name),
        Reached::Name => ("its name is found, its port does not answer", Failure::Network),
        Reached::Port => ("name and port are right, TLS is not", Failure::Tls),
        Reached::Tls => ("name, port and TLS are right, the WebSocket is refused", Failure::Websocket),
        Reached::Wire => {
            ("name, port and TLS are right, but it does not let this device in", Failure::Identity)
        }
    };
    Finding::failed(NAME, format!("{host}: {reached}: {}", chain(&stopped.error)), remedy(failure))
}

fn ask(document: &Value) -> Finding {
    let host = text(document, "/identity/host").unwrap_or("the hub");
    match text(document, "/cloud/state") {
        Some("online") => match text(document, "/cloud/reason") {
            None => Finding::ok(NAME, format!("{host} is online, says the running station")),
            // A spent quota, a throttled hub.
            Some(reason) => {
                Finding::warning(NAME, format!("{host} is online, but accepts nothing: {reason}"), KEPT)
            }
        },
        state => {
            let state = state.unwrap_or("unknown");
            let Some(reason) = text(document, "/cloud/reason") else {
                // It was waited for: this is no word of one that can reach its hub.
                let detail = format!("{host} is {state}: the running station has just begun to sign in");
                return Finding::failed(NAME, detail, Station::BEGINS);
            };
            let named = !document.pointer("/identity/host").is_none_or(Value::is_null);
            let failure = document.pointer("/cloud/failure").and_then(|word| Failure::deserialize(word).ok());
            let remedy = if named { failure.map_or(KEPT, remedy) } else { NO_NAME };
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

    #[test]
    fn a_running_station_that_is_not_online_and_does_not_say_why_has_failed_so_far() {
        for state in ["offline", "connecting"] {
            let document = serde_json::json!({
                "identity": {"host": null},
                "cloud": {"state": state, "reason": null},
            });
            let finding = ask(&document);
            assert_eq!(finding.status, Status::Failed, "{state}");
            assert_eq!(finding.remedy.as_deref(), Some("check again in a minute"), "{state}");
        }
    }

    #[test]
    fn each_failure_of_a_running_station_has_its_remedy() {
        for (failure, part) in [
            (serde_json::json!("clock"), "the clock above"),
            (serde_json::json!("name"), "resolvectl"),
            (serde_json::json!("network"), "let TCP 5671 or 443 out"),
            (serde_json::json!("tls"), "hub.ca_file"),
            (serde_json::json!("websocket"), "a proxy's page"),
            (serde_json::json!("identity"), "provision its key again"),
            (serde_json::json!("stolen"), "an identity of its own"),
            (serde_json::json!("hub"), "readings are kept and sent later"),
            // Of a station of another version.
            (serde_json::json!("comet"), "readings are kept and sent later"),
            (Value::Null, "readings are kept and sent later"),
        ] {
            let document = serde_json::json!({
                "identity": {"host": "hub"},
                "cloud": {"state": "offline", "reason": "it is so", "failure": failure},
            });
            let finding = ask(&document);
            assert_eq!(finding.status, Status::Failed);
            let remedy = finding.remedy.unwrap_or_default();
            assert!(remedy.contains(part), "{failure}: {remedy}");
            let says_firewall = remedy.contains("5671");
            assert_eq!(says_firewall, failure == "network", "{failure}: {remedy}");
        }
    }
}
