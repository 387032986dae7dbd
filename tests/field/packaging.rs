//! What the package ships and nobody types by hand: the default configuration, the manual pages, the completions,
//! the wiring diagram. Each is held against the code or the source it was made from.
//!
//! After a change of the command line: `UPDATE_GENERATED=1 cargo test --test packaging`.
#![expect(clippy::unwrap_used, reason = "a test that cannot read its own repository shall stop")]

use std::collections::BTreeSet;
use std::path::Path;

use clap::CommandFactory;
use weather_station::config::{Config, in_force, parse};

const DEFAULT_FILE: &str = include_str!("../../deploy/station.toml");
const GENERATED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/package/generated");

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

/// Compares one generated file, or writes it with `UPDATE_GENERATED=1`.
fn hold(name: &str, content: &[u8]) {
    let path = Path::new(GENERATED).join(name);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::create_dir_all(GENERATED).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    let kept = std::fs::read(&path).unwrap_or_default();
    assert!(
        kept == content,
        "{} is not what the command line says: run `UPDATE_GENERATED=1 cargo test --test packaging`",
        path.display()
    );
}

#[test]
fn the_manual_pages_are_what_the_command_line_says() {
    let pages = tempfile::tempdir().unwrap();
    let command = weather_station::cli::Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, pages.path()).unwrap();
    let mut names = BTreeSet::new();
    for page in std::fs::read_dir(pages.path()).unwrap() {
        let page = page.unwrap();
        let name = page.file_name().into_string().unwrap();
        hold(&name, &std::fs::read(page.path()).unwrap());
        names.insert(name);
    }
    assert!(
        names.contains("weather-station.1") && names.contains("weather-station-provision.1"),
        "{names:?}"
    );
}

#[test]
fn the_completions_are_what_the_command_line_says() {
    use clap_complete::Shell;
    for (shell, name) in [
        (Shell::Bash, "weather-station.bash"),
        (Shell::Zsh, "_weather-station"),
        (Shell::Fish, "weather-station.fish"),
    ] {
        let mut text = Vec::new();
        clap_complete::generate(
            shell,
            &mut weather_station::cli::Cli::command(),
            "weather-station",
            &mut text,
        );
        hold(name, &text);
    }
}

#[test]
fn the_wiring_diagram_is_what_its_source_says() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/hardware/wiring.py");
    let output = std::process::Command::new("python3").args([script, "--check"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
