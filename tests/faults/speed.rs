//! How fast a backlog drains, and what it costs: run by hand (`--ignored --nocapture`), in release.

use std::time::Duration;

use hub_emulator::{Emulator, Options};
use tokio::time::Instant;

use crate::rig::{Plan, Rig, say};

/// CPU time of this process' threads, the hub's and the others', in microseconds.
fn cpu() -> (u64, u64) {
    let (mut hub, mut station) = (0, 0);
    for entry in std::fs::read_dir("/proc/self/task").unwrap() {
        let Ok(stat) = std::fs::read_to_string(entry.unwrap().path().join("stat")) else { continue };
        let (name, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<i64> = rest.split_whitespace().skip(1).filter_map(|f| f.parse().ok()).collect();
        let ticks = u64::try_from(fields[10] + fields[11]).unwrap();
        if name.contains("hub-emulator") { hub += ticks * 10_000 } else { station += ticks * 10_000 }
    }
    (hub, station)
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement, for release builds"]
fn a_backlog_drains() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let count: u64 = std::env::var("COUNT").ok().and_then(|c| c.parse().ok()).unwrap_or(200_000);
        let mut options = Options::default();
        options.behaviour.recording = false;
        let hub = Emulator::start(options).unwrap();
        hub.add_device("roof");
        hub.stop();
        let mut plan = Plan::new(&hub);
        plan.config.telemetry.batch = 500;
        plan.config.store.max_loss = Duration::from_secs(60);
        plan.limits = weather_station::cloud::Limits { hurry: 20, ..Default::default() };
        plan.every = None;
        let mut rig = Rig::start(&hub, plan);
        let started = Instant::now();
        rig.append(count).await;
        say(format_args!("appended {count} in {:?}", started.elapsed()));
        rig.quiet().await;
        while rig.board.store.borrow().pending < count {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let before = cpu();
        let memory = resident();
        hub.start_again().unwrap();
        rig.online(Duration::from_secs(20)).await;
        let started = Instant::now();
        rig.all_accepted(Duration::from_secs(100)).await;
        let took = started.elapsed();
        let after = cpu();
        say(format_args!(
            "{count} in {took:?}: {:.0} a second; station {:.2} us, hub {:.2} us a reading; RSS {memory} -> {} kB",
            count as f64 / took.as_secs_f64(),
            (after.1 - before.1) as f64 / count as f64,
            (after.0 - before.0) as f64 / count as f64,
            resident(),
        ));
    });
}
