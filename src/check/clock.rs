//! The clock: tokens and TLS depend on it.

use serde::Deserialize as _;
use serde_json::Value;

use super::Finding;
use crate::clock::{ClockState, ClockStatus};
use crate::station;

const NAME: &str = "clock";

pub fn check(running: Option<&Value>) -> Finding {
    let told = running.and_then(|document| ClockStatus::deserialize(document.get("clock")?).ok());
    let ClockStatus { state, reason } = told.unwrap_or_else(|| station::timekeeper().status());
    let detail = format!("{state}: {reason}");
    match state {
        ClockState::Synchronised => Finding::ok(NAME, detail),
        ClockState::Plausible => Finding::warning(
            NAME,
            detail,
            "readings are marked `timeQuality: unsynchronised`; let NTP through (UDP 123) or fit a real-time clock, see `timedatectl`",
        ),
        ClockState::Wrong => Finding::failed(
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
