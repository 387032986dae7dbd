//! What the package ships and nobody types by hand: the default configuration, the manual pages, the completions,
//! the wiring diagram. Each is held against the code or the source it was made from.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its own repository shall stop")]

use std::collections::BTreeSet;

use weather_station::config::{Config, in_force, parse};

const DEFAULT_FILE: &str = include_str!("../../deploy/station.toml");

/// The default file with every `#key = value` made active; `# key = value` (an example without a default) stays a comment.
fn uncommented() -> String {
    DEFAULT_FILE
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| rest.starts_with(char::is_alphabetic)).unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// The keys named in the file, active or not, as `section.key`.
fn keys_named() -> BTreeSet<String> {
    let mut section = "";
    let mut keys = BTreeSet::new();
    for line in DEFAULT_FILE.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        }
        let rest = line.trim_start_matches(['#', ' ']);
        if let Some((key, _)) = rest.split_once(" = ")
            && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        {
            keys.insert(format!("{section}.{key}"));
        }
    }
    keys
}

#[test]
fn the_shipped_configuration_is_the_defaults() {
    assert_eq!(parse(DEFAULT_FILE).unwrap(), Config::default());
}

#[test]
fn the_defaults_shown_in_the_shipped_configuration_are_the_defaults() {
    let mut shown = parse(&uncommented()).unwrap();
    assert!(shown.set_in_file.len() > 20, "the file shows hardly any key: {:?}", shown.set_in_file);
    shown.set_in_file.clear();
    assert_eq!(shown, Config::default());
}

#[test]
fn the_shipped_configuration_names_every_key_and_no_other() {
    let known: BTreeSet<String> = in_force(&Config::default()).into_keys().collect();
    assert_eq!(keys_named(), known);
}

#[test]
fn the_wiring_diagram_is_what_its_source_says() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hardware/wiring.py");
    let output = std::process::Command::new("python3").args([script, "--check"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
