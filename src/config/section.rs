//! One table of the file, read key by key: what is asked for is taken out, what is left is unknown.
//! Every problem is noted with its line, so that all are reported together.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::secret_text::{secret_in, secret_in_path};

/// Collects what is wrong and what was set.
pub(super) struct Findings<'i> {
    text: &'i str,
    pub problems: Vec<String>,
    pub set_in_file: BTreeSet<String>,
}

/// A table of the file with its name.
pub(super) struct Section<'i> {
    name: &'static str,
    table: DeTable<'i>,
    /// The keys that were asked for: what the message about an unknown one offers.
    known: Vec<&'static str>,
}

impl<'i> Findings<'i> {
    pub fn new(text: &'i str) -> Self {
        Self { text, problems: Vec::new(), set_in_file: BTreeSet::new() }
    }

    /// `offset` is a byte of the file.
    pub fn note(&mut self, offset: usize, problem: impl Display) {
        let line = self.text[..offset.min(self.text.len())].matches('\n').count() + 1;
        self.problems.push(format!("line {line}: {problem}"));
    }

    /// Takes a section out of the whole file; an absent one is empty.
    pub fn section(&mut self, name: &'static str, root: &mut DeTable<'i>) -> Section<'i> {
        let mut table = DeTable::new();
        if let Some(value) = root.remove(name) {
            let start = value.span().start;
            match value.into_inner() {
                DeValue::Table(found) => table = found,
                other => self
                    .note(start, format_args!("`{name}` is {}, expected a section `[{name}]`", kind(&other))),
            }
        }
        Section { name, table, known: Vec::new() }
    }
}

impl<'i> Section<'i> {
    /// The value under `key`, converted by `read`, which says what it expected otherwise.
    pub fn take<T>(
        &mut self,
        findings: &mut Findings<'i>,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&DeValue<'i>) -> Option<T>,
    ) -> Option<T> {
        self.known.push(key);
        let value = self.table.remove(key)?;
        findings.set_in_file.insert(format!("{}.{key}", self.name));
        let result = read(value.get_ref());
        if result.is_none() {
            let (name, got) = (self.name, show(value.get_ref()));
            findings.note(value.span().start, format_args!("`{name}.{key}` is {got}, expected {expected}"));
        }
        result
    }

    /// Any text but a secret: what stands in the file is shown in the status document and in the log.
    pub fn text(&mut self, findings: &mut Findings<'i>, key: &'static str, expected: &str) -> Option<String> {
        self.take(findings, key, expected, |value| {
            value.as_str().filter(|text| secret_in(text).is_none()).map(str::to_owned)
        })
    }

    /// The path of a file, and not what should be in it.
    pub fn path(
        &mut self,
        findings: &mut Findings<'i>,
        key: &'static str,
        expected: &str,
    ) -> Option<PathBuf> {
        self.take(findings, key, expected, path)
    }

    /// The same where there has to be one.
    pub fn named_path(
        &mut self,
        findings: &mut Findings<'i>,
        key: &'static str,
        expected: &str,
    ) -> Option<PathBuf> {
        self.take(findings, key, expected, |value| path(value).filter(|path| !path.as_os_str().is_empty()))
    }

    /// A number, whole or not, within the range.
    pub fn number(
        &mut self,
        findings: &mut Findings<'i>,
        key: &'static str,
        expected: &str,
        range: RangeInclusive<f64>,
    ) -> Option<f64> {
        self.take(findings, key, expected, |value| number(value).filter(|number| range.contains(number)))
    }

    /// A whole number within the range.
    pub fn whole(
        &mut self,
        findings: &mut Findings<'i>,
        key: &'static str,
        expected: &str,
        range: RangeInclusive<u64>,
    ) -> Option<u64> {
        self.take(findings, key, expected, |value| whole(value).filter(|number| range.contains(number)))
    }

    /// A table within the section, as a section of its own: `sensor.offset`.
    pub fn table(&mut self, findings: &mut Findings<'i>, key: &'static str, name: &'static str) -> Self {
        let table =
            self.take(findings, key, "a table", |value| value.as_table().cloned()).unwrap_or_default();
        Section { name, table, known: Vec::new() }
    }

    /// Notes what nobody asked for.
    pub fn finish(self, findings: &mut Findings<'i>) {
        for (key, _) in &self.table {
            let known = self.known.join(", ");
            let (section, name) = (self.name, show_name(key.get_ref()));
            let problem = format!("`{section}.{name}` is not a key; this section has: {known}");
            findings.note(key.span().start, problem);
        }
    }
}

fn path(value: &DeValue<'_>) -> Option<PathBuf> {
    value.as_str().filter(|text| secret_in_path(text).is_none()).map(PathBuf::from)
}

/// A whole number in any of TOML's notations.
pub(super) fn whole(value: &DeValue<'_>) -> Option<u64> {
    let integer = value.as_integer()?;
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|whole| whole as f64)
        }
        DeValue::Float(float) => float.as_str().parse().ok(),
        _ => None,
    }
}

/// What stands in the file, for the message: never more than a short value, so that a secret that was
/// pasted into the wrong place is not repeated.
fn show(value: &DeValue<'_>) -> String {
    if let Some(kind) = value.as_str().and_then(secret_in) {
        return kind.into();
    }
    match value {
        DeValue::String(text) if text.len() <= 32 => format!("{text:?}"),
        DeValue::String(_) => "a long string".into(),
        DeValue::Integer(integer) if integer.radix() == 16 => format!("0x{}", integer.as_str()),
        DeValue::Integer(integer) => integer.as_str().to_owned(),
        DeValue::Float(float) => float.as_str().to_owned(),
        DeValue::Boolean(truth) => truth.to_string(),
        other => kind(other),
    }
}

fn show_name(name: &str) -> &str {
    if secret_in(name).is_some() { "(not shown)" } else { name }
}

fn kind(value: &DeValue<'_>) -> String {
    let article = if value.type_str().starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {}", value.type_str())
}

/// The unknown sections of the file.
pub(super) fn leftovers(root: &DeTable<'_>, known: &[&str], findings: &mut Findings<'_>) {
    let names: Vec<(usize, String)> = root
        .iter()
        .map(|(key, _): (&Spanned<_>, _)| (key.span().start, show_name(key.get_ref()).to_owned()))
        .collect();
    for (start, name) in names {
        findings.note(start, format_args!("`{name}` is not a section; there are: {}", known.join(", ")));
    }
}
