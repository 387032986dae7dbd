//! The clock: tokens and TLS depend on it.

use serde_json::Value;

use super::{Finding, text};
use crate::clock::ClockState;
use crate::station;

const NAME: &str = "clock";

pub fn check(running: Option<&Value>) -> Finding {
    if let Some(state) = running.and_then(|document| text(document, "/clock/state")) {
        let reason = running.and_then(|document| text(document, "/clock/reason")).unwrap_or_default();
        return judge(state, reason);
    }
    let status = station::timekeeper().status();
    let state = match status.state {
        ClockState::Synchronised => "synchronised",
        ClockState::Plausible => "plausible",
        ClockState::Wrong => "wrong",
    };
    judge(state, &status.reason)
}

fn judge(state: &str, reason: &str) -> Finding {
    let detail = format!("{state}: {reason}");
    match state {
        "synchronised" => Finding::ok(NAME, detail),
        "plausible" => Finding::warning(
            NAME,
            detail,
            "readings are marked `timeQuality: unsynchronised`; let NTP through (UDP 123) or fit a real-time clock, see `timedatectl`",
        ),
        _ => Finding::failed(
            NAME,
            detail,
            "no token can be made with it: let NTP through (UDP 123), or set it once with `timedatectl set-time`; with a network the station takes the time from the hub by itself",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn each_state_has_its_verdict() {
        for (state, status) in
            [("synchronised", Status::Ok), ("plausible", Status::Warning), ("wrong", Status::Failed)]
        {
            let document = serde_json::json!({"clock": {"state": state, "reason": "because"}});
            let finding = check(Some(&document));
            assert_eq!((finding.status, finding.detail), (status, format!("{state}: because")));
        }
    }
}
