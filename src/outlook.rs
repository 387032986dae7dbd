//! What the present settings cost: messages and data a day, bytes written to the card, the card's expected
//! life. Estimates from measured figures, each stated; knows no network, and of the disk its size only.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

/// Bytes that one synced commit makes the device write, and each further reading in the same commit. Measured on a
/// private ext4 device, a commit every 10 ms: 5,540 B alone, 701 B each by twelve.
const COMMIT: f64 = 5_300.0;
const ROW: f64 = 260.0;
/// What the file system's own journal adds at a station's pace each time it writes down that the files have changed:
/// twice a commit, with what it later copies into place, and at most every [`FLUSH`], for its timer of five seconds
/// begins with the first change. Fits what was measured of a station that sends (`tests/bench.sh --long device`), every
/// 5 s: 12,561 B a reading, and 2,048 B with `max_loss = "60s"`.
const JOURNAL: f64 = 8_100.0;
const FLUSH: f64 = 5.8;
/// What a card's controller writes for each byte of small random writes: the pessimistic end of what makers
/// of industrial cards publish.
const AMPLIFICATION: f64 = 8.0;
/// How often the whole of a consumer's card can be overwritten: cheap TLC, pessimistic.
const OVERWRITES: f64 = 300.0;
/// Body and properties of a message with one reading, as IoT Hub meters them.
const MESSAGE: f64 = 340.0;
/// Each further reading in a packed message.
const PACKED: f64 = 290.0;
/// AMQP, TLS and TCP/IP around one transfer, its acknowledgement included.
const TRANSFER: f64 = 330.0;
/// IoT Hub meters a message in pieces of 4 KiB, on the free tier of 0.5 KiB (Microsoft, "quotas and
/// throttling").
const PIECE: f64 = 4_096.0;
const FREE_PIECE: f64 = 512.0;
/// Messages a day that one unit of a tier takes (same page).
const TIERS: [(&str, f64); 3] = [("S1", 400_000.0), ("S2", 6_000_000.0), ("S3", 300_000_000.0)];
const FREE: f64 = 8_000.0;

/// The file system that the store is on, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    pub size: u64,
    /// What an ordinary user may still write.
    pub free: u64,
}

impl Disk {
    /// The file system that a folder is on.
    pub fn at(folder: &Path) -> io::Result<Self> {
        let there = rustix::fs::statvfs(folder)?;
        Ok(Self {
            size: there.f_blocks.saturating_mul(there.f_frsize),
            free: there.f_bavail.saturating_mul(there.f_frsize),
        })
    }
}

/// `outlook` of the status document.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outlook {
    pub readings_per_day: f64,
    /// Messages as the station sends them.
    pub messages_per_day: f64,
    /// Messages as a paid hub counts them (pieces of 4 KiB).
    pub metered_per_day: f64,
    /// Messages as a free hub counts them (pieces of 0.5 KiB).
    pub metered_per_day_free: f64,
    /// The smallest tier whose one unit takes that: `free`, `S1`, `S2`, `S3`.
    pub tier: &'static str,
    /// Bytes on the wire.
    pub data_per_day: f64,
    /// Bytes written to the disk.
    pub written_per_day: f64,
    pub disk: Option<Disk>,
    /// Years until a cheap card of this size is worn out by the station alone.
    pub card_life_years: Option<f64>,
}

impl Outlook {
    /// `interval` between samples, readings packed into one message, and `max_loss`: how long readings may be
    /// gathered before they are synced.
    pub fn of(interval: Duration, per_message: usize, max_loss: Duration, disk: Option<Disk>) -> Self {
        let readings = 86_400.0 / interval.as_secs_f64().max(1.0);
        let packed = per_message.max(1) as f64;
        let messages = readings / packed;
        let size = MESSAGE + (packed - 1.0) * PACKED;
        let metered = messages * (size / PIECE).ceil();
        let metered_free = messages * (size / FREE_PIECE).ceil();
        let tier = if metered_free <= FREE {
            "free"
        } else {
            TIERS.iter().find(|(_, most)| metered <= *most).map_or("several S3 units", |(name, _)| name)
        };
        let per_commit = (max_loss.as_secs_f64() / interval.as_secs_f64().max(1.0)).floor().max(1.0);
        let commits = readings / per_commit;
        let journal = (2.0 * commits).min(86_400.0 / FLUSH);
        let written = commits * COMMIT + readings * ROW + journal * JOURNAL;
        Self {
            readings_per_day: readings,
            messages_per_day: messages,
            metered_per_day: metered,
            metered_per_day_free: metered_free,
            tier,
            data_per_day: messages * (size + TRANSFER),
            written_per_day: written,
            disk,
            card_life_years: disk
                .map(|disk| disk.size as f64 * OVERWRITES / (written * AMPLIFICATION) / 365.25),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CARD: Disk = Disk { size: 16 << 30, free: 8 << 30 };

    fn every(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_reading_a_minute_fits_the_free_tier_and_spares_the_card() {
        let outlook = Outlook::of(every(60), 1, Duration::ZERO, Some(CARD));
        assert_eq!(outlook.readings_per_day, 1_440.0);
        assert_eq!((outlook.metered_per_day, outlook.metered_per_day_free), (1_440.0, 1_440.0));
        assert_eq!(outlook.tier, "free");
        assert!(outlook.card_life_years.unwrap() > 30.0, "{outlook:?}");
    }

    #[test]
    fn a_reading_a_second_needs_a_paid_hub_and_wears_the_card() {
        let outlook = Outlook::of(every(1), 1, Duration::ZERO, Some(CARD));
        assert_eq!(outlook.tier, "S1");
        assert!((2.0..6.0).contains(&outlook.card_life_years.unwrap()), "{outlook:?}");
        let gathered = Outlook::of(every(1), 1, every(60), Some(CARD));
        assert!(gathered.written_per_day < outlook.written_per_day / 8.0, "{gathered:?}");
    }

    #[test]
    fn what_is_written_is_what_was_measured() {
        for (max_loss, measured) in [(0, 12_561.0), (60, 2_048.0)] {
            let outlook = Outlook::of(every(5), 1, every(max_loss), None);
            let estimate = outlook.written_per_day / outlook.readings_per_day;
            assert!((0.9..1.1).contains(&(estimate / measured)), "{estimate} against {measured}");
        }
    }

    #[test]
    fn packing_is_metered_by_size() {
        let outlook = Outlook::of(every(5), 12, Duration::ZERO, None);
        assert_eq!(outlook.messages_per_day, 1_440.0);
        assert_eq!(outlook.metered_per_day, 1_440.0);
        assert_eq!(outlook.metered_per_day_free, 7.0 * 1_440.0);
        assert_eq!((outlook.tier, outlook.card_life_years), ("S1", None));
    }
}
