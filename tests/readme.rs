//! The README is true: its commands are commands, its configuration is one, its files are there. So is what
//! hardware/README.md shows of config.txt.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use clap::Parser as _;
use clap::error::ErrorKind;
use weather_station::cli::Cli;
use weather_station::config;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn readme() -> String {
    std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap()
}

/// The blocks of one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(&format!("\n```{language}\n")) {
        let (block, after) = after.split_once("\n```").unwrap();
        blocks.push(block.to_owned());
        rest = after;
    }
    blocks
}

/// The words of a shell line after `program`, up to a comment, a pipe or a redirection.
fn arguments<'a>(line: &'a str, program: &str) -> Option<Vec<&'a str>> {
    let line = line.split(" #").next().unwrap().trim();
    let words: Vec<&str> = line.split_whitespace().skip_while(|word| *word != program).collect();
    let end = words.iter().position(|word| ["|", "<", ">", "&&", ";"].contains(word)).unwrap_or(words.len());
    (!words.is_empty()).then(|| words[..end].to_vec())
}

#[test]
fn the_configuration_is_one_and_shows_every_key() {
    let text = readme();
    let examples = blocks(&text, "toml");
    let whole = config::parse(&examples[0]).unwrap();
    let shown = whole.set_in_file.iter().filter(|key| key.matches('.').count() == 1).count();
    let left_out = ["sensor.trace", "sensor.speed", "identity.key_file"];
    let expected = config::in_force(&whole).len() - left_out.len();
    assert_eq!(shown, expected, "a key is missing from the README, or one too many is there");
    for example in examples {
        config::parse(&example).unwrap_or_else(|problems| panic!("{problems:?} in\n{example}"));
    }
}

#[test]
fn every_command_of_the_station_is_one() {
    let text = readme();
    let lines: Vec<String> = blocks(&text, "sh")
        .iter()
        .flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    let inline = text
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.starts_with("weather-station "))
        .map(str::to_owned);
    let mut checked = 0;
    for line in lines.iter().cloned().chain(inline) {
        let Some(words) = arguments(&line, "weather-station") else { continue };
        if words.len() < 2
            || line.contains("systemctl")
            || line.contains("journalctl")
            || line.contains("apt")
        {
            continue;
        }
        if let Err(error) = Cli::try_parse_from(&words) {
            // In running text a command may be named without its arguments.
            let named = !lines.contains(&line) && error.kind() == ErrorKind::MissingRequiredArgument;
            assert!(named || !error.use_stderr(), "{line:?} is in the README: {error}");
        }
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} commands found");
}

/// The firmware of a Pi takes a comment behind a setting for a part of the value.
#[test]
fn no_setting_of_config_txt_has_a_comment_behind_it() {
    let text = std::fs::read_to_string(Path::new(ROOT).join("hardware/README.md")).unwrap();
    let settings: Vec<&str> = text
        .lines()
        .map(|line| line.trim_start_matches('#'))
        .filter(|line| line.starts_with("dtparam=") || line.starts_with("dtoverlay="))
        .collect();
    assert!(settings.len() >= 2, "config.txt is not shown any more");
    for setting in settings {
        assert!(!setting.contains('#'), "{setting:?} has a comment behind it");
    }
}

#[test]
fn every_file_that_is_named_is_there_and_scripts_can_be_run() {
    let text = readme();
    let links = text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned());
    let scripts = blocks(&text, "sh")
        .join("\n")
        .split_whitespace()
        .filter(|word| word.ends_with(".sh"))
        .map(str::to_owned)
        .collect::<Vec<_>>();
    for link in links.filter(|link| !link.starts_with("http") && !link.starts_with('#')) {
        assert!(Path::new(ROOT).join(&link).exists(), "the README names {link}, which is not there");
    }
    assert!(scripts.iter().any(|script| script == "tests/run.sh"), "the two commands are missing");
    for script in scripts {
        let mode = std::fs::metadata(Path::new(ROOT).join(&script))
            .unwrap_or_else(|_| panic!("{script} is not there"))
            .permissions()
            .mode();
        assert_eq!(mode & 0o111, 0o111, "{script} cannot be run");
    }
}
