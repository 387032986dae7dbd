//! How fast a backlog goes out, what a reading of it costs, and what it does to memory.

use std::path::Path;
use std::time::Duration;

use hub_emulator::Fault;

use crate::Extent;
use crate::fill::fill;
use crate::machine::{median, resident, run_time};
use crate::node::Node;
use crate::rig::{Process, config, hub, taken};
use crate::table::Table;

struct Drained {
    per_second: f64,
    cpu: Duration,
    /// MB: before, with all of it pending and no hub, and after.
    waiting: f64,
    resident: f64,
}

pub async fn measure(station: &Path, extent: Extent, node: &Node, table: &mut Table) {
    let count: u64 = if extent == Extent::Short { 60_000 } else { 200_000 };
    let runs = if extent == Extent::Short { 1 } else { 3 };
    let mut all = Vec::new();
    for _ in 0..runs {
        all.push(drain(station, count).await);
    }
    let rate = median(all.iter().map(|run| run.per_second).collect());
    let cpu = median(all.iter().map(|run| run.cpu.as_secs_f64() * 1e6 / count as f64).collect());
    let memory = median(all.iter().map(|run| run.resident).collect());
    let ratio = rate / node.per_second;
    table.judge(
        &format!("drain, {count} pending"),
        format!("{rate:.0} readings/s"),
        format!("Node SDK {:.0}/s at window {}: {ratio:.1}x", node.per_second, node.window),
        "5x the Node SDK",
        ratio >= 5.0,
        Some(ratio >= 2.0),
    );
    let share = cpu / node.cpu_microseconds;
    table.judge(
        "CPU per reading drained",
        format!("{cpu:.1} us"),
        format!("Node SDK {:.1} us: {share:.2} of it", node.cpu_microseconds),
        "8 us, and a fifth",
        cpu <= 8.0 && share <= 0.2,
        Some(share <= 0.5),
    );
    table.judge(
        "memory after draining",
        format!("{memory:.1} MB"),
        format!("Node SDK with 20,000 queued: {:.0} MB", node.resident),
        "",
        memory < node.resident,
        Some(memory < node.resident),
    );
    if extent == Extent::Long {
        let small = drain(station, 10_000).await;
        let large = drain(station, 1_000_000).await;
        let ratio = large.per_second / small.per_second;
        let measured = format!("{:.0} readings/s", large.per_second);
        table.judge(
            "drain, 1,000,000 pending",
            measured,
            format!("10,000 pending: {:.0}/s: {ratio:.2}x", small.per_second),
            "no slower",
            ratio >= 0.95,
            Some(ratio >= 0.6),
        );
        let more = large.waiting - small.waiting;
        table.judge(
            "memory, 1,000,000 pending, hub away",
            format!("{:.1} MB", large.waiting),
            format!("10,000 pending: {:.1} MB: {more:+.1} MB", small.waiting),
            "+2 MB",
            more <= 2.0,
            // Eight bytes for each reading that waits would be memory that grows with them.
            Some(more <= 8.0),
        );
    }
    dead_peer(station, extent, table).await;
}

async fn drain(station: &Path, count: u64) -> Drained {
    let dir = tempfile::tempdir().unwrap();
    fill(&dir.path().join("readings.db"), count, Duration::from_secs(5)).await;
    let hub = hub(0);
    hub.stop();
    let process = Process::start(station, dir.path(), &config(dir.path(), &hub, hub.port(), "1h", ""));
    process
        .until("the backlog is there", Duration::from_secs(20), Duration::from_millis(50), |status| {
            status["store"]["pending"].as_u64() >= Some(count)
        })
        .await;
    let waiting = resident(process.pid());
    let before = run_time(process.pid());
    hub.start_again().unwrap();
    let begin = taken(&hub, 1, Duration::from_secs(120), Duration::from_millis(1)).await;
    // A thousand a second is far off already.
    let limit = Duration::from_secs(60 + count / 1000);
    let took = taken(&hub, count, limit, Duration::from_millis(5)).await - begin;
    process
        .until("all is accepted", Duration::from_secs(20), Duration::from_millis(50), |status| {
            status["store"]["pending"] == 0
        })
        .await;
    let cpu = run_time(process.pid()) - before;
    Drained { per_second: count as f64 / took.as_secs_f64(), cpu, waiting, resident: resident(process.pid()) }
}

/// A peer that neither reads nor writes from the moment on that the station is online, with a backlog behind it.
async fn dead_peer(station: &Path, extent: Extent, table: &mut Table) {
    let count = if extent == Extent::Long { 1_000_000 } else { 100_000 };
    let hub = hub(0);
    let (mut figures, mut left) = (Vec::new(), 0);
    for pending in [0, count] {
        let dir = tempfile::tempdir().unwrap();
        if pending > 0 {
            fill(&dir.path().join("readings.db"), pending, Duration::from_secs(5)).await;
        }
        let process = Process::start(station, dir.path(), &config(dir.path(), &hub, hub.port(), "1h", ""));
        process
            .until("it is online", Duration::from_secs(20), Duration::from_millis(5), |status| {
                status["cloud"]["state"] == "online"
            })
            .await;
        let fault = (pending > 0).then(|| hub.fault(Fault::BlackHole { existing: true, new: true }));
        tokio::time::sleep(Duration::from_secs(5)).await;
        figures.push(resident(process.pid()));
        let status =
            process.until("it answers", Duration::from_secs(20), Duration::from_millis(50), |_| true);
        left = status.await["store"]["pending"].as_u64().unwrap();
        if let Some(fault) = fault {
            hub.clear_fault(fault);
        }
    }
    assert!(left > count / 4, "the backlog was gone before the peer was dead: {left} of {count} are left");
    let more = figures[1] - figures[0];
    table.judge(
        &format!("memory, dead peer, {left} pending"),
        format!("{:.1} MB", figures[1]),
        format!("idle, nothing pending: {:.1} MB: {more:+.1} MB", figures[0]),
        "+4 MB",
        more <= 4.0,
        Some(figures[1] <= 2.0 * figures[0]),
    );
}
