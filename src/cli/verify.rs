//! `verify`: reads what a hub exported and says complete, or what is missing.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::Context as _;

use super::{DONE, FAILED, output};
use crate::store::verify::Verifier;

/// 0 when nothing is missing, 1 when something is.
pub fn run(files: &[PathBuf]) -> anyhow::Result<u8> {
    let mut verifier = Verifier::default();
    for path in files {
        let file = File::open(path).with_context(|| {
            format!("could not open {}: expected a file of messages, one JSON value a line", path.display())
        })?;
        verifier.read(BufReader::new(file)).with_context(|| format!("could not read {}", path.display()))?;
    }
    let report = verifier.report();
    output::verdict(&report)?;
    Ok(if report.complete { DONE } else { FAILED })
}
