//! Feeds systemd's watchdog while each loop turns. A failed attempt counts as turning: a missing sensor, a full
//! disk or a dead network never restarts the station; a loop that hangs does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// One loop's count of turns, bumped by the loop at least every few seconds.
pub struct Loop {
    pub name: &'static str,
    pub turns: Arc<AtomicU64>,
}

/// Runs until it is dropped. `every` is what systemd allows between two feeds.
pub async fn run(every: Duration, loops: Vec<Loop>, feed: impl Fn()) {
    let mut watch = Watch::new(every, loops, Instant::now());
    let mut tick = tokio::time::interval(every / 4);
    loop {
        tick.tick().await;
        if let Some(name) = watch.stuck(Instant::now()) {
            tracing::error!(task = name, "the task no longer turns: the watchdog is left to bite");
        } else {
            feed();
        }
    }
}

struct Watch {
    every: Duration,
    loops: Vec<(Loop, u64, Instant)>,
}

impl Watch {
    fn new(every: Duration, loops: Vec<Loop>, now: Instant) -> Self {
        let loops = loops.into_iter().map(|task| {
            let turns = task.turns.load(Ordering::Relaxed);
            (task, turns, now)
        });
        Self { every, loops: loops.collect() }
    }

    /// The first loop that has not turned for as long as the watchdog allows.
    fn stuck(&mut self, now: Instant) -> Option<&'static str> {
        let mut stuck = None;
        for (task, seen, at) in &mut self.loops {
            let turns = task.turns.load(Ordering::Relaxed);
            if turns != *seen {
                (*seen, *at) = (turns, now);
            } else if now.duration_since(*at) >= self.every {
                stuck = stuck.or(Some(task.name));
            }
        }
        stuck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> (Arc<AtomicU64>, Vec<Loop>) {
        let turns = Arc::new(AtomicU64::new(0));
        (turns.clone(), vec![Loop { name: "sensor", turns }])
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_turns_is_not_stuck_and_one_that_hangs_is() {
        let (turns, loops) = one();
        let mut watch = Watch::new(Duration::from_secs(60), loops, Instant::now());
        for _ in 0..10 {
            tokio::time::advance(Duration::from_secs(50)).await;
            turns.fetch_add(1, Ordering::Relaxed);
            assert_eq!(watch.stuck(Instant::now()), None);
        }
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(watch.stuck(Instant::now()), Some("sensor"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_watchdog_is_fed_only_while_all_loops_turn() {
        let (turns, loops) = one();
        let fed = Arc::new(AtomicU64::new(0));
        let count = fed.clone();
        let feed = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        let task = tokio::spawn(run(Duration::from_secs(40), loops, feed));
        for _ in 0..10 {
            tokio::time::sleep(Duration::from_secs(10)).await;
            turns.fetch_add(1, Ordering::Relaxed);
        }
        assert!(fed.load(Ordering::Relaxed) >= 10);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let stopped_at = fed.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(100)).await;
        assert_eq!(fed.load(Ordering::Relaxed), stopped_at);
        task.abort();
    }
}
