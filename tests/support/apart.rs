//! Processes that hold nothing of the test program but their three standard streams.
//!
//! libtss2 opens its sockets without close-on-exec. A process that is started while another test talks to
//! its TPM inherits that connection, and swtpm, which serves one at a time, then waits on it for as long as
//! the process lives: two tests that meet like this wait for each other for ever.

use std::ffi::OsStr;
use std::process::Command;

/// Closes what was inherited, and becomes the program: same process, same arguments.
const CLOSE_AND_BECOME: &str = r#"
    for fd in /proc/self/fd/*; do fd=${fd##*/}; if [ "$fd" -gt 2 ]; then eval "exec $fd>&-"; fi; done
    exec "$@"
"#;

/// Like [`Command::new`]; what is inherited is closed in the new process before the program begins.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", CLOSE_AND_BECOME, "apart"]).arg(program);
    command
}
