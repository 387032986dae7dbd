//! The rows as they are printed, and which of them missed their target.

use std::fmt;

pub struct Row {
    what: String,
    measured: String,
    beside: String,
    target: String,
    verdict: Option<bool>,
    /// Failing it fails `--gate` and `--long`: ratios and differences within the same run, and times and rates that the
    /// station's own pauses make, with a generous margin. A figure in milliseconds or megabytes says as much about the
    /// machine as about a change, and has none.
    gate: Option<bool>,
}

#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    /// A figure without a target: stated.
    pub fn state(&mut self, what: &str, measured: impl Into<String>) {
        self.rows.push(Row {
            what: what.into(),
            measured: measured.into(),
            beside: String::new(),
            target: String::new(),
            verdict: None,
            gate: None,
        });
    }

    /// A figure with a target. `gate` is the generous form of it, where it has one.
    pub fn judge(
        &mut self,
        what: &str,
        measured: impl Into<String>,
        beside: impl Into<String>,
        target: &str,
        met: bool,
        gate: Option<bool>,
    ) {
        self.rows.push(Row {
            what: what.into(),
            measured: measured.into(),
            beside: beside.into(),
            target: target.into(),
            verdict: Some(met),
            gate,
        });
    }

    /// Rows that a change has spoilt.
    pub fn failed(&self) -> usize {
        self.rows.iter().filter(|row| row.gate == Some(false)).count()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<44} {:<34} {:<44} {:<22} met",
            "figure", "measured", "beside, in the same run", "target"
        )?;
        for row in &self.rows {
            let met = match row.verdict {
                None => "",
                Some(true) => "yes",
                Some(false) => "NO",
            };
            writeln!(f, "{:<44} {:<34} {:<44} {:<22} {met}", row.what, row.measured, row.beside, row.target)?;
        }
        writeln!(f, "{} rows, {} far off", self.rows.len(), self.failed())
    }
}
