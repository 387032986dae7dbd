//! Durations and sizes as people write them in the file: `60s`, `400d`, `512MiB`.

use std::time::Duration;

/// `90s`, `5m`, `1h 30m`, `400d`.
pub fn duration(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

/// The shortest form that [`duration`] reads back.
pub fn show_duration(duration: Duration) -> String {
    if duration.is_zero() {
        return "0s".into();
    }
    let seconds = duration.as_secs();
    match seconds {
        _ if duration.subsec_nanos() != 0 => humantime::format_duration(duration).to_string(),
        _ if seconds.is_multiple_of(86_400) => format!("{}d", seconds / 86_400),
        _ if seconds.is_multiple_of(3_600) => format!("{}h", seconds / 3_600),
        _ if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        _ => format!("{seconds}s"),
    }
}

const SIZES: [(&str, u64); 8] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// `512MiB`, `1.5 GB`: bytes.
pub fn size(text: &str) -> Option<u64> {
    let (unit, factor) = SIZES.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number: f64 = text.strip_suffix(unit)?.trim_end().parse().ok()?;
    let bytes = number * *factor as f64;
    (bytes >= 0.0 && bytes < u64::MAX as f64).then_some(bytes as u64)
}

/// The shortest form that [`size`] reads back.
pub fn show_size(bytes: u64) -> String {
    SIZES[..4]
        .iter()
        .rev()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
        .map_or_else(|| format!("{bytes}B"), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back() {
        for text in ["0s", "1s", "90s", "24h", "400d", "60m"] {
            let value = duration(text).unwrap();
            assert_eq!(duration(&show_duration(value)), Some(value), "{text}");
        }
        for (text, bytes) in [("512MiB", 512 << 20), ("1.5 GB", 1_500_000_000), ("7B", 7), ("2MiB", 2 << 20)]
        {
            assert_eq!(size(text), Some(bytes));
            assert_eq!(size(&show_size(bytes)), Some(bytes));
        }
        for text in ["", "MiB", "-1MiB", "12", "12 bananas", "NaNMiB"] {
            assert_eq!(size(text), None, "{text}");
        }
    }
}
