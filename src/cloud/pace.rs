//! Keeps the number of messages in a second below a ceiling (100 is what one S1 unit of IoT Hub takes).

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Spreads messages so that no second, wherever it begins, sees more than the ceiling.
#[derive(Debug)]
pub struct Pace {
    ceiling: usize,
    /// Evenly spread: when the next transfer may go.
    next: Option<Instant>,
    /// The transfers of the last second.
    sent: VecDeque<(Instant, usize)>,
}

impl Pace {
    /// 0: no ceiling.
    pub fn new(per_second: u32) -> Self {
        let ceiling = usize::try_from(per_second).unwrap_or(usize::MAX);
        Self { ceiling, next: None, sent: VecDeque::new() }
    }

    /// When the next transfer may go, if it has to wait.
    pub fn wait(&self) -> Option<Instant> {
        let now = Instant::now();
        let full = self.ceiling > 0 && self.room(now) == 0;
        let oldest = self.last_second(now).next().map(|(at, _)| *at + SECOND).filter(|_| full);
        self.next.max(oldest).filter(|until| *until > now)
    }

    /// Messages in one transfer at most: a quarter of a second's worth, and what is left of the last second.
    pub fn most(&self) -> usize {
        match self.ceiling {
            0 => usize::MAX,
            ceiling => ceiling.div_ceil(4).min(self.room(Instant::now())),
        }
    }

    pub fn sent(&mut self, messages: usize) {
        if self.ceiling > 0 {
            let now = Instant::now();
            while self.sent.front().is_some_and(|(at, _)| *at + SECOND <= now) {
                self.sent.pop_front();
            }
            self.sent.push_back((now, messages));
            #[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
            let takes = Duration::from_secs_f64(messages as f64 / self.ceiling as f64);
            self.next = Some(self.next.map_or(now, |next| next.max(now)) + takes);
        }
    }

    fn room(&self, now: Instant) -> usize {
        self.ceiling.saturating_sub(self.last_second(now).map(|(_, messages)| messages).sum())
    }

    fn last_second(&self, now: Instant) -> impl Iterator<Item = &(Instant, usize)> {
        self.sent.iter().filter(move |(at, _)| *at + SECOND > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_second_sees_more_than_the_ceiling() {
        for ceiling in (1..=30).chain([100, 333]) {
            let mut pace = Pace::new(ceiling);
            let ceiling = ceiling as usize;
            let mut random = fastrand::Rng::with_seed(7);
            for busy in [true, false] {
                let start = Instant::now();
                let mut sent = Vec::new();
                while start.elapsed() < Duration::from_secs(20) {
                    if let Some(next) = pace.wait() {
                        tokio::time::sleep_until(next).await;
                        continue;
                    }
                    // Not every transfer is full, and not every one goes at once.
                    let messages = if busy { pace.most() } else { random.usize(1..=pace.most()) };
                    sent.push((start.elapsed(), messages));
                    pace.sent(messages);
                    if !busy {
                        tokio::time::sleep(Duration::from_millis(random.u64(0..400))).await;
                    }
                }
                for (from, _) in &sent {
                    let within = sent.iter().filter(|(at, _)| at >= from && *at < *from + SECOND);
                    let within: usize = within.map(|(_, messages)| messages).sum();
                    assert!(within <= ceiling, "{within} of {ceiling}");
                }
                let total: usize = sent.iter().map(|(_, messages)| messages).sum();
                assert!(!busy || total * 10 >= ceiling * 20 * 9, "{total} of {ceiling} a second");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_ceiling_nothing_waits() {
        let mut pace = Pace::new(0);
        pace.sent(1_000_000);
        assert_eq!((pace.wait(), pace.most()), (None, usize::MAX));
    }
}
