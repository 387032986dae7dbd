//! What has to be shipped and built.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use tokio::time::Instant;

use crate::Extent;
use crate::table::Table;

pub fn measure(station: &Path, extent: Extent, table: &mut Table) {
    let bytes = std::fs::metadata(station).unwrap().len();
    table.state("program, stripped", format!("{:.1} MB", bytes as f64 / 1e6));
    let tree =
        ["tree", "--offline", "--locked", "--prefix", "none", "--edges", "normal", "-p", "weather-station"];
    let crates: BTreeSet<String> = String::from_utf8(cargo(&mut Command::new("cargo"), &tree))
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split(" (").next()?.to_owned()))
        .collect();
    table.state("crates in it", (crates.len() - 1).to_string());
    if extent == Extent::Long {
        build_anew(table);
    }
}

/// A build into an empty folder, with the symbols kept, which say whose code it is.
fn build_anew(table: &mut Table) {
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let build = ["build", "--release", "--offline", "--locked", "--bin", "weather-station"];
    // By its name: rustup's own says which compiler it is for, where a crate brings a wish of its own.
    cargo(
        Command::new("cargo")
            .env("CARGO_PROFILE_RELEASE_STRIP", "none")
            .env("CARGO_TARGET_DIR", folder.path()),
        &build,
    );
    let processors = std::thread::available_parallelism().unwrap();
    let took = begin.elapsed().as_secs();
    table.state("clean release build", format!("{took} s on {processors} processors, sources at hand"));
    let symbols = Command::new("nm")
        .args(["--demangle", "--print-size", "--defined-only", "--radix=d"])
        .arg(folder.path().join("release/weather-station"))
        .output()
        .unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let mut largest: Vec<(&str, u64)> = by_crate(&symbols).into_iter().collect();
    largest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    assert!(largest.len() > 10, "the symbols name {} crates only", largest.len());
    let listed: Vec<String> =
        largest.iter().take(10).map(|(name, size)| format!("{name} {}", size / 1000)).collect();
    table.state("the ten largest crates, kB of code and data", listed.join(", "));
}

/// Bytes by the crate that a symbol's path begins with. What is generic counts where it is written, not where it is
/// used. C has no paths: what is not ring's is SQLite's.
fn by_crate(symbols: &str) -> BTreeMap<&str, u64> {
    let mut sizes = BTreeMap::new();
    for line in symbols.lines() {
        // Address, size, kind, name; without a size it is a label.
        let mut fields = line.splitn(4, ' ');
        let (Some(_), Some(Ok(size)), Some(kind), Some(name)) =
            (fields.next(), fields.next().map(str::parse::<u64>), fields.next(), fields.next())
        else {
            continue;
        };
        if !"tTrRdDvVwW".contains(kind) {
            continue;
        }
        let path = name.trim_start_matches(['<', '&', '(', '[', '*']).trim_start_matches("mut ");
        let owner = match path.split_once("::") {
            Some((owner, _)) if owner.chars().all(|letter| letter.is_alphanumeric() || letter == '_') => {
                owner
            }
            Some(_) => "core",
            None if name.starts_with("ring_core") => "ring",
            None => "SQLite",
        };
        *sizes.entry(owner).or_default() += size;
    }
    sizes
}

fn cargo(command: &mut Command, arguments: &[&str]) -> Vec<u8> {
    let output = command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
