//! A hub that comes back to a hundred stations at once: how their connections spread. Real processes with tokens and
//! TLS of their own; not a thousand, which this machine would measure rather than the stations.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::rig::{Process, config, hub};
use crate::table::Table;

const STATIONS: usize = 100;
/// Long enough for every station's backoff to be at its ceiling of a minute: an hour would change nothing.
const OUTAGE: Duration = Duration::from_secs(150);
const BUCKET: u64 = 5_000;

pub async fn measure(station: &Path, table: &mut Table) {
    let hub = hub(0);
    let dir = tempfile::tempdir().unwrap();
    let devices: Vec<String> = (0..STATIONS).map(|number| format!("station-{number}")).collect();
    let mut processes = Vec::new();
    for device in &devices {
        let dir = dir.path().join(device);
        std::fs::create_dir(&dir).unwrap();
        let config = config(&dir, &hub, hub.port(), "10s", "");
        hub.add_device(device);
        std::fs::write(dir.join("identity"), hub.connection_string(device).unwrap()).unwrap();
        processes.push(Process::start(station, &dir, &config));
    }
    let counts = || -> Vec<u64> { devices.iter().map(|device| hub.count_of(device)).collect() };
    let all_above = async |least: &[u64], limit: Duration| {
        let end = Instant::now() + limit;
        loop {
            let late = counts().iter().zip(least).filter(|(now, least)| now <= least).count();
            if late == 0 {
                break;
            }
            assert!(Instant::now() < end, "{late} of {STATIONS} stations did not come within {limit:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    all_above(&[0; STATIONS], Duration::from_secs(180)).await;

    hub.stop();
    let before = counts();
    tokio::time::sleep(OUTAGE).await;
    let seen = hub.events_of("open").len();
    hub.start_again().unwrap();
    let begin = Instant::now();
    all_above(&before, Duration::from_secs(240)).await;
    let all = begin.elapsed();
    let opened: Vec<u64> = hub.events_of("open").iter().skip(seen).map(|event| event.millis).collect();
    let first = opened[0];
    let most = |width: u64| buckets(&opened, first, width).into_iter().max().unwrap_or(0);
    let peak = most(1_000);
    table.judge(
        "100 stations, hub back after 150 s",
        format!("all accepted after {:.0} s", all.as_secs_f64()),
        format!("at most {peak} connections in a second"),
        "a tenth of them a second",
        peak * 10 <= STATIONS,
        None,
    );
    let plot: String =
        buckets(&opened, first, BUCKET).into_iter().map(|count| bar(count, most(BUCKET))).collect();
    table.state("their connections, 5 s a mark", plot);
}

fn buckets(times: &[u64], first: u64, width: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    for time in times {
        let place = usize::try_from(time.saturating_sub(first) / width).unwrap();
        counts.resize(counts.len().max(place + 1), 0);
        counts[place] += 1;
    }
    counts
}

fn bar(count: usize, most: usize) -> char {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    BARS[(count * 8).div_ceil(most.max(1)).min(8)]
}
