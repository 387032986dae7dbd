//! The processor time of another process, from its own clock. The one place of the bench with `unsafe`: no crate in
//! use wraps clock_getcpuclockid.

#![allow(unsafe_code, reason = "clock_getcpuclockid(3) has no safe wrapper here; the argument is below")]

use std::time::Duration;

/// User and system time of all threads, also of those that have ended, in nanoseconds (`/proc/PID/stat` counts in
/// hundredths of a second, `/proc/PID/task` forgets a thread at its end). `None` when the process is gone.
/// Source: clock_getcpuclockid(3), clock_gettime(2).
pub fn process(pid: u32) -> Option<Duration> {
    let pid = libc::pid_t::try_from(pid).ok()?;
    // SAFETY: both calls write only into the two values that are passed, which are plain numbers and live on this
    // stack until the calls return.
    let time = unsafe {
        let mut clock: libc::clockid_t = 0;
        if libc::clock_getcpuclockid(pid, &raw mut clock) != 0 {
            return None;
        }
        let mut time: libc::timespec = std::mem::zeroed();
        if libc::clock_gettime(clock, &raw mut time) != 0 {
            return None;
        }
        time
    };
    Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
}
