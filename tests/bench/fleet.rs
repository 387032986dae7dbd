//! A hub that comes back to a thousand stations at once: how their connections spread. All stations run in this
//! process, each with its own store, tokens, TLS and connection; the showcase is off.

use std::time::Duration;

use hub_emulator::Emulator;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use weather_station::{config, station};

use crate::machine::resident;
use crate::rig::{config_of, hub};
use crate::table::Table;

const STATIONS: usize = 1_000;
/// Long enough for every station's backoff to be at its ceiling of a minute: an hour would change nothing.
const OUTAGE: Duration = Duration::from_secs(150);
/// Connections a second that an S1 unit takes ("IoT Hub quotas and throttling": 12 a second and unit, at least 100).
const CEILING: usize = 100;
const BUCKET: u64 = 3_000;

pub async fn measure(table: &mut Table) {
    let hub = hub(0);
    let dir = tempfile::tempdir().unwrap();
    let devices: Vec<String> = (0..STATIONS).map(|number| format!("station-{number}")).collect();
    let before = resident(std::process::id());
    let (stop, halt) = watch::channel(false);
    let mut stations = JoinSet::new();
    for device in &devices {
        let dir = dir.path().join(device);
        std::fs::create_dir(&dir).unwrap();
        hub.add_device(device);
        let text = config_of(device, &dir, &hub, hub.port(), "10s", "[showcase]\nlisten = \"\"\n");
        stations.spawn(station::run(config::parse(&text).unwrap(), halt.clone()));
    }
    let mut opened = Opened::default();
    all_sent(&hub, &devices, &[0; STATIONS], &mut opened, Duration::from_secs(300)).await;
    let memory = (resident(std::process::id()) - before) / STATIONS as f64;
    table.state(
        "1,000 stations and their hub in one process",
        format!("{memory:.1} MB a station and its connection"),
    );

    hub.stop();
    tokio::time::sleep(OUTAGE).await;
    let counts = counts(&hub, &devices);
    opened.look(&hub);
    opened.millis.clear();
    hub.start_again().unwrap();
    let begin = Instant::now();
    all_sent(&hub, &devices, &counts, &mut opened, Duration::from_secs(240)).await;
    let all = begin.elapsed();
    let opened = opened.millis;
    assert!(opened.len() >= STATIONS, "{} connections of {STATIONS} stations were seen", opened.len());
    let peak = buckets(&opened, 1_000).into_iter().max().unwrap_or(0);
    table.judge(
        "1,000 stations, hub back after 150 s",
        format!("all accepted after {:.0} s", all.as_secs_f64()),
        format!("{} connections, at most {peak} in a second", opened.len()),
        "S1: 100 a second",
        peak <= CEILING,
        Some(peak <= 2 * CEILING),
    );
    let marks = buckets(&opened, BUCKET);
    let most = marks.iter().copied().max().unwrap_or(0);
    let plot: String = marks.into_iter().map(|count| bar(count, most)).collect();
    table.state("their connections, 3 s a mark", format!("{plot} (the highest: {most})"));

    stop.send_replace(true);
    while let Some(ended) = stations.join_next().await {
        // A thousand stores that close in one moment take this disk longer than one station allows itself.
        let _late = ended.unwrap();
    }
}

/// When connections were opened, in the hub's milliseconds. The hub keeps its newest events only: a look is due often.
#[derive(Default)]
struct Opened {
    next: u64,
    millis: Vec<u64>,
}

impl Opened {
    fn look(&mut self, hub: &Emulator) {
        for event in hub.events_since(self.next) {
            self.next = event.index + 1;
            if event.kind == "open" {
                self.millis.push(event.millis);
            }
        }
    }
}

/// Waits until each station has had a reading accepted that was not counted in `before`.
async fn all_sent(hub: &Emulator, devices: &[String], before: &[u64], opened: &mut Opened, limit: Duration) {
    let end = Instant::now() + limit;
    loop {
        opened.look(hub);
        let late = counts(hub, devices).iter().zip(before).filter(|(now, before)| now <= before).count();
        if late == 0 {
            // The last ones may have come since the look above.
            opened.look(hub);
            return;
        }
        assert!(Instant::now() < end, "{late} of {STATIONS} stations did not come within {limit:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn counts(hub: &Emulator, devices: &[String]) -> Vec<u64> {
    devices.iter().map(|device| hub.count_of(device)).collect()
}

fn buckets(times: &[u64], width: u64) -> Vec<usize> {
    let first = times.iter().copied().min().unwrap_or(0);
    let mut counts = Vec::new();
    for time in times {
        let place = usize::try_from((time - first) / width).unwrap();
        counts.resize(counts.len().max(place + 1), 0);
        counts[place] += 1;
    }
    counts
}

fn bar(count: usize, most: usize) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[(count * 8).div_ceil(most.max(1)).min(8)]
}
