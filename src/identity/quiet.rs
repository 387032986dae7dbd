//! Keeps libtss2 from writing to standard error. It logs every response code it meets, expected ones
//! too, and it has no switch but the environment variable `TSS2_LOG`, which it reads at its first use.

use std::os::unix::process::CommandExt;

/// Call it first thing in `main`. If `TSS2_LOG` is not set, it starts this program anew in the same
/// process (same pid, same arguments) with the variable set: setting a variable in place is `unsafe`
/// once there are threads. The systemd unit sets it and so avoids the second start. If the program
/// cannot be started anew, it goes on and is merely noisy.
pub fn quiet_libtss2() {
    const VARIABLE: &str = "TSS2_LOG";
    if std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let Some(name) = arguments.next() else { return };
    let Ok(program) = std::env::current_exe() else { return };
    // Comes back only when it fails.
    let _ = std::process::Command::new(program).arg0(name).args(arguments).env(VARIABLE, "all+NONE").exec();
}
