//! The page's charts over a year of readings.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::Extent;
use crate::fill::fill;
use crate::rig::{Process, config, get, hub};
use crate::table::Table;

pub async fn measure(station: &Path, extent: Extent, table: &mut Table) {
    let (readings, every) = match extent {
        Extent::Short => (26_280, Duration::from_secs(1200)),
        _ => (525_600, Duration::from_secs(60)),
    };
    let dir = tempfile::tempdir().unwrap();
    fill(&dir.path().join("readings.db"), readings, every).await;
    let hub = hub(0);
    hub.stop();
    let process = Process::start(station, dir.path(), &config(dir.path(), &hub, hub.port(), "1s", ""));
    process
        .until("it runs", Duration::from_secs(30), Duration::from_millis(100), |status| {
            status["store"]["state"] == "ok"
        })
        .await;
    let mut times = Vec::new();
    for round in 0..200 {
        let path = match round % 4 {
            0 => "/api/readings",
            1 => "/api/readings?step=3600",
            2 => "/api/readings?step=21600",
            _ => "/api/readings?step=86400",
        };
        let begin = Instant::now();
        assert!(get(process.page, path).await.is_some(), "{path}");
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    table.judge(
        "/api/readings over a year",
        format!("p50 {p50:.1} ms, p99 {p99:.1} ms"),
        format!("{readings} readings"),
        "p99 50 ms",
        p99 <= 50.0,
        None,
    );
}
