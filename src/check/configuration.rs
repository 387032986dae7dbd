//! Whether the file is well-formed, and which of its values the cloud overrides on the station that runs with it.

use std::path::Path;

use serde_json::Value;

use super::Finding;

/// `running`: the status document of the station that runs with this configuration, if one does.
pub fn check(file: &Path, running: Option<&Value>) -> Finding {
    let mut detail = format!("{} is well-formed", file.display());
    let overridden = running.map(overridden).unwrap_or_default();
    if !overridden.is_empty() {
        detail.push_str(&format!("; the twin sets {}", overridden.join(", ")));
    }
    Finding::ok("configuration", detail)
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
        let finding = check(Path::new("/etc/station.toml"), Some(&running));
        assert_eq!(
            finding.detail,
            "/etc/station.toml is well-formed; the twin sets sensor.interval = \"5s\""
        );
        assert_eq!(check(Path::new("f"), None).detail, "f is well-formed");
    }
}
