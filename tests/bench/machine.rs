//! The kernel's accounting of one process.

use std::time::Duration;

/// Time on a processor, user and system, per thread as the scheduler counts it: finer than clock ticks.
/// A thread that has ended is no longer counted: the blocking pool keeps its threads for 30 s.
pub fn run_time(pid: u32) -> Duration {
    let nanoseconds = threads(pid).filter_map(|task| {
        let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

/// Times that a thread went to sleep and was woken.
pub fn wakeups(pid: u32) -> u64 {
    let counts = threads(pid).filter_map(|task| {
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    });
    counts.sum()
}

/// Resident memory in MB.
pub fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn threads(pid: u32) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}
