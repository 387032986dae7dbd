//! The hub: name, TLS, token. The running station has a connection: it is asked, because a second one would steal it.

use serde_json::Value;

use super::{Finding, text};
use crate::config::Config;

const NAME: &str = "hub";

pub async fn check(_config: &Config, running: Option<&Value>) -> Finding {
    if let Some(document) = running {
        let state = text(document, "/cloud/state").unwrap_or("unknown");
        let host = text(document, "/identity/host").unwrap_or("the hub");
        return match state {
            "online" => Finding::ok(NAME, format!("{host} is online, says the running station")),
            _ => {
                let reason = text(document, "/cloud/reason").unwrap_or("no reason given");
                Finding::failed(
                    NAME,
                    format!("{host} is {state}: {reason}"),
                    "readings are kept and sent later; let TCP 5671 or 443 through to the hub",
                )
            }
        };
    }
    Finding::warning(NAME, "not tried", "start the station")
}
