//! Whether the file is well-formed, with the trace that it may name, which of its values the cloud overrides on the
//! station that runs with it, and how many messages the hub will count.

use std::path::Path;

use serde_json::Value;

use super::{Finding, Station};
use crate::chain::chain;
use crate::config::{Config, ConfigError};
use crate::sensor::Source;
use crate::station;

const NAME: &str = "configuration";
pub const REMEDY: &str = "correct the file, then check again";

/// What a wrong configuration is: nothing else can be looked at then.
pub fn wrong(error: &ConfigError) -> Finding {
    Finding::failed(NAME, chain(error), REMEDY)
}

pub fn check(file: &Path, config: &Config, station: &Station) -> Finding {
    // A station that runs has read its trace, in the folder that it was started in.
    if matches!(station, Station::Absent)
        && let Err(error) = Source::new(config, &station::timekeeper())
    {
        return wrong(&error);
    }
    let mut detail = format!("{} is well-formed", file.display());
    if let Some(metered) = metered(&super::outlook(config, station)) {
        detail.push_str(&format!("; {metered}"));
    }
    let overridden = station.document().map(overridden).unwrap_or_default();
    if !overridden.is_empty() {
        detail.push_str(&format!("; the twin sets {}", overridden.join(", ")));
    }
    Finding::ok(NAME, detail)
}

/// From `outlook` of the status document: what the hub will count, and what that needs.
pub fn metered(outlook: &Value) -> Option<String> {
    let tier = outlook.get("tier")?.as_str()?;
    let (key, needs) = match tier {
        "free" => ("meteredPerDayFree", "the free tier takes them".into()),
        "S1" | "S2" | "S3" => ("meteredPerDay", format!("one {tier} unit takes them")),
        more => ("meteredPerDay", format!("they take {more}")),
    };
    Some(format!("{:.0} metered messages a day, {needs}", outlook.get(key)?.as_f64()?))
}

/// `sensor.interval = "5s"` and so on: the keys whose value in force comes from the device twin.
pub fn overridden(running: &Value) -> Vec<String> {
    let entries = running.pointer("/configuration").and_then(Value::as_object).into_iter().flatten();
    entries
        .filter(|(_, entry)| entry["from"] == "twin")
        .map(|(key, entry)| format!("{key} = {}", entry["value"]))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_values_of_the_twin_are_named() {
        let running = json!({"configuration": {
            "sensor.interval": {"value": "5s", "from": "twin"},
            "store.keep": {"value": "400d", "from": "default"},
        }});
        let finding = check(Path::new("/etc/station.toml"), &Config::default(), &Station::Says(running));
        assert_eq!(
            finding.detail,
            "/etc/station.toml is well-formed; 1440 metered messages a day, the free tier takes them; \
             the twin sets sensor.interval = \"5s\""
        );
    }

    #[test]
    fn what_the_hub_counts_is_told_by_the_file_or_by_the_running_station() {
        let mut config = Config::default();
        config.sensor.interval = std::time::Duration::from_secs(1);
        let says = |station: &Station| check(Path::new("f"), &config, station).detail;
        assert_eq!(
            says(&Station::Absent),
            "f is well-formed; 86400 metered messages a day, one S1 unit takes them"
        );
        let running = json!({"outlook": {"tier": "several S3 units", "meteredPerDay": 4e8}});
        assert!(
            says(&Station::Says(running))
                .ends_with("400000000 metered messages a day, they take several S3 units")
        );
    }
}
