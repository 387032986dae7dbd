//! Keeps the number of messages in a second below a ceiling (100 is what one S1 unit of IoT Hub takes).

use std::time::Duration;

use tokio::time::Instant;

/// Spreads messages so that no second sees more than the ceiling.
#[derive(Debug)]
pub struct Pace {
    per_second: u32,
    next: Option<Instant>,
}

impl Pace {
    /// 0: no ceiling.
    pub fn new(per_second: u32) -> Self {
        Self { per_second, next: None }
    }

    /// When the next transfer may go, if it has to wait.
    pub fn wait(&self) -> Option<Instant> {
        self.next.filter(|next| *next > Instant::now())
    }

    /// Messages in one transfer at most: a quarter of a second's worth.
    pub fn most(&self) -> usize {
        match self.per_second {
            0 => usize::MAX,
            ceiling => usize::try_from(ceiling.div_ceil(4)).unwrap_or(usize::MAX),
        }
    }

    pub fn sent(&mut self, messages: usize) {
        if self.per_second > 0 {
            let now = Instant::now();
            #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
            let takes = Duration::from_secs_f64(messages as f64 / f64::from(self.per_second));
            self.next = Some(self.next.map_or(now, |next| next.max(now)) + takes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_the_ceiling() {
        let mut pace = Pace::new(100);
        let start = Instant::now();
        let mut sent = Vec::new();
        while start.elapsed() < Duration::from_secs(20) {
            match pace.wait() {
                Some(next) => tokio::time::sleep_until(next).await,
                None => {
                    sent.push((start.elapsed(), pace.most()));
                    pace.sent(pace.most());
                }
            }
        }
        let total: usize = sent.iter().map(|(_, messages)| messages).sum();
        assert!((1975..=2025).contains(&total), "{total}");
        for (from, _) in &sent {
            let within = sent.iter().filter(|(at, _)| at >= from && *at < *from + Duration::from_secs(1));
            assert!(within.map(|(_, messages)| messages).sum::<usize>() <= 100);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_ceiling_nothing_waits() {
        let mut pace = Pace::new(0);
        pace.sent(1_000_000);
        assert_eq!((pace.wait(), pace.most()), (None, usize::MAX));
    }
}
