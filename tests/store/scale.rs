//! What a backlog costs: memory, opening, append and page-out with many pending against few. Each size in a process of
//! its own, for memory is counted per process. Prints the ratios.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use weather_station::reading::FromSensor;
use weather_station::store::Position;

use crate::support::{Place, sample, slow};

const SIZE: &str = "STORE_TEST_PENDING";

fn measure(pending: u64) -> Value {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "scale::one_size", "--ignored", "--nocapture"])
        .env(SIZE, pending.to_string())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.split_once("measured ")).map(|(_, json)| json);
    serde_json::from_str(line.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr))))
        .unwrap()
}

/// Anonymous memory of this process in KiB.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[expect(clippy::print_stdout, reason = "a benchmark says what it found")]
fn a_backlog_costs_neither_memory_nor_time() {
    let many = if slow() { 1_000_000 } else { 100_000 };
    // Alternating, and the better of each: others use this machine too.
    let rounds: Vec<(Value, Value)> = (0..2).map(|_| (measure(1_000), measure(many))).collect();
    let best = |found: fn(&(Value, Value)) -> &Value| {
        let least = |key: &str| {
            rounds.iter().filter_map(|round| found(round)[key].as_f64()).fold(f64::INFINITY, f64::min)
        };
        json!({"open": least("open"), "append": least("append"), "page": least("page"), "memory": least("memory")})
    };
    let (few, many_found) = (best(|round| &round.0), best(|round| &round.1));
    let number = |found: &Value, key: &str| found[key].as_f64().unwrap();
    let ratio = |key: &str| number(&many_found, key) / number(&few, key);
    println!("{many} pending against 1,000:");
    println!("  append {:.2} x, page-out {:.2} x", ratio("append"), ratio("page"));
    println!(
        "  opening {:.1} ms, memory {:+} KiB",
        number(&many_found, "open"),
        number(&many_found, "memory") - number(&few, "memory")
    );
    assert!(number(&many_found, "memory") - number(&few, "memory") < 2048.0, "memory grows with the backlog");
    assert!(number(&many_found, "open") < 20.0 * MARGIN, "opening takes long");
    assert!(ratio("append") < 1.2 * MARGIN && ratio("page") < 1.2 * MARGIN, "a backlog slows the store down");
}

/// Shared machines and builds without optimisation are noisy, in the slow run as in the quick one.
const MARGIN: f64 = 2.5;

#[tokio::test]
#[ignore = "run by the test above, in a process of its own"]
#[expect(clippy::print_stdout, reason = "the answer for the test above")]
async fn one_size() {
    let pending: u64 = std::env::var(SIZE).unwrap().parse().unwrap();
    let place = Place::new();
    let store = place.start();
    for number in 1..=pending {
        store.samples.send(FromSensor::Sample(sample(store.timekeeper.stamp(), number))).await.unwrap();
        place.clock.advance(Duration::from_secs(1));
    }
    store.synced(pending).await;
    store.stop().await;
    let begin = Instant::now();
    let mut store = place.start_as("measured").unwrap();
    let open = begin.elapsed();
    let mut appends = Vec::new();
    for _ in 0..400 {
        let begin = Instant::now();
        store.append(1).await;
        appends.push(begin.elapsed());
    }
    let mut pages = Vec::new();
    let mut after = None;
    while pages.len() < 400 {
        let begin = Instant::now();
        // The few are read again and again.
        let page = store.handle.pending(after, 500).await.unwrap();
        // A short one at the end is quicker.
        let full = page.readings.len() == 500;
        if full {
            pages.push(begin.elapsed());
        }
        after = full.then_some(page.end);
    }
    store.handle.acknowledge(Position { generation: 1, row: pending / 2 }).await.unwrap();
    appends.sort_unstable();
    pages.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let found = json!({
        "open": open.as_secs_f64() * 1e3,
        "append": micros(appends[appends.len() / 5]),
        "page": micros(pages[pages.len() / 5]),
        "memory": memory(),
    });
    println!("measured {found}");
    store.stop().await;
}
