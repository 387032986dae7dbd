//! The kernel's accounting of one process.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::cpu_clock;

/// Time on a processor, user and system, of all threads that the process has and has had.
pub fn run_time(pid: u32) -> Duration {
    cpu_clock::process(pid).expect("the process runs")
}

/// Times that a thread of the process goes to sleep and is woken in the next `period`. The kernel keeps the count by
/// thread and forgets it with the thread (the blocking pool ends its threads after 30 s of nothing), so it is looked
/// at often, and the last count of a thread that is gone stays.
pub async fn wakeups(pid: u32, period: Duration) -> u64 {
    let mut counts = HashMap::new();
    look(pid, &mut counts);
    let begin: u64 = counts.values().sum();
    let end = Instant::now() + period;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        look(pid, &mut counts);
    }
    counts.values().sum::<u64>() - begin
}

fn look(pid: u32, counts: &mut HashMap<std::ffi::OsString, u64>) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process runs") {
        // A thread may end between the two reads.
        let Ok(task) = task else { continue };
        let Ok(status) = std::fs::read_to_string(task.path().join("status")) else { continue };
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"));
        let Some(count) = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()) else {
            continue;
        };
        let last = counts.entry(task.file_name()).or_insert(0_u64);
        *last = (*last).max(count);
    }
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

/// The accounting itself, tried on this process: the work of a thread that has ended must be in it.
pub fn prove() {
    let before = run_time(std::process::id());
    let work = Duration::from_millis(30);
    let thread = std::thread::spawn(move || {
        let begin = run_time(std::process::id());
        while run_time(std::process::id()) - begin < work {
            std::hint::spin_loop();
        }
    });
    thread.join().unwrap();
    assert!(run_time(std::process::id()) - before >= work, "the work of an ended thread is not counted");
}
