//! Whether the file is well-formed, with the trace that it may name, which of its values the cloud overrides, and how
//! many messages the hub will count.

use std::path::Path;

use serde_json::Value;

use super::{Finding, InForce, Station};
use crate::chain::chain;
use crate::config::{Config, ConfigError};
use crate::sensor::Source;
use crate::{settings, station};

const NAME: &str = "configuration";
pub const REMEDY: &str = "correct the file, then check again";

const UNREAD_REMEDY: &str =
    "run this as root or as the user of the station; a damaged store is salvaged when the station starts";

/// What a wrong configuration is: nothing else can be looked at then.
pub fn wrong(error: &ConfigError) -> Finding {
    Finding::failed(NAME, chain(error), REMEDY)
}

/// What the file names and cannot be used: as wrong as the file itself. A station that runs has read its trace, in the
/// folder that it was started in.
pub fn unusable(config: &Config, station: &Station) -> Option<Finding> {
    let source = matches!(station, Station::Absent).then(|| Source::new(config, &station::timekeeper()));
    source?.err().map(|error| wrong(&error))
}

pub fn check(file: &Path, in_force: &InForce, station: &Station) -> Finding {
    let mut detail = format!("{} is well-formed", file.display());
    if let Some(metered) = metered(&super::outlook(&in_force.config, station)) {
        detail.push_str(&format!("; {metered}"));
    }
    if !in_force.twin.is_empty() {
        detail.push_str(&format!("; the twin sets {}", in_force.twin.join(", ")));
    }
    match &in_force.unread {
        None => Finding::ok(NAME, detail),
        Some(why) => {
            let detail = format!("{detail}; {}: {why}", settings::UNREAD);
            Finding::warning(NAME, detail, UNREAD_REMEDY)
        }
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::in_force::overridden;
    use super::*;

    /// As of a station that says this.
    fn of(config: &Config, document: Value) -> Finding {
        let in_force = InForce { config: config.clone(), twin: overridden(&document), ..InForce::default() };
        check(Path::new("/etc/station.toml"), &in_force, &Station::Says(document))
    }

    #[test]
    fn the_values_of_the_twin_are_named() {
        let running = json!({"configuration": {
            "sensor.interval": {"value": "5s", "from": "twin"},
            "store.keep": {"value": "400d", "from": "default"},
        }});
        let finding = of(&Config::default(), running);
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
        let in_force = InForce { config: config.clone(), ..InForce::default() };
        assert_eq!(
            check(Path::new("f"), &in_force, &Station::Absent).detail,
            "f is well-formed; 86400 metered messages a day, one S1 unit takes them"
        );
        let running = json!({"outlook": {"tier": "several S3 units", "meteredPerDay": 4e8}});
        assert!(
            of(&config, running)
                .detail
                .ends_with("400000000 metered messages a day, they take several S3 units")
        );
    }

    #[test]
    fn values_of_the_twin_that_cannot_be_read_are_a_warning() {
        let in_force = InForce { unread: Some("permission denied".into()), ..InForce::default() };
        let finding = check(Path::new("f"), &in_force, &Station::Absent);
        assert_eq!(finding.status, super::super::Status::Warning);
        assert!(finding.detail.ends_with("the file's values hold: permission denied"), "{}", finding.detail);
    }
}
