//! What has to be shipped and built.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::table::Table;

pub fn measure(station: &Path, table: &mut Table) {
    let bytes = std::fs::metadata(station).unwrap().len();
    table.state("program, stripped", format!("{:.1} MB", bytes as f64 / 1e6));
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--prefix",
            "none",
            "--edges",
            "normal",
            "-p",
            "weather-station",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let crates: BTreeSet<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| Some(line.split(" (").next()?.to_owned()))
        .collect();
    table.state("crates in it", (crates.len() - 1).to_string());
}
