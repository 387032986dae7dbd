//! Asks the kernel whether the wall clock is synchronised. The one place with `unsafe`:
//! no crate in use wraps adjtimex.

#![allow(unsafe_code, reason = "adjtimex(2) has no safe wrapper; the argument is below")]

/// True when NTP disciplines the clock. A sandbox that refuses the call counts as no.
/// Source: adjtimex(2); `modes = 0` only reads.
pub fn synchronised() -> bool {
    // SAFETY: `timex` is plain old data for which all zero is valid; the kernel writes only
    // inside the struct that is passed, which lives on this stack until the call returns.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    state >= 0 && state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0
}
