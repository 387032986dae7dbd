//! A software TPM for a test: its own process, ports, and state folder; gone when the test ends.
//! Knows how to run swtpm and tpm2-tools; knows nothing of the station.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::collections::BTreeSet;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::{Mutex, PoisonError};

use super::apart;

/// A running swtpm. Dropping it kills it and removes its state.
pub struct Swtpm {
    child: Option<Child>,
    state: tempfile::TempDir,
    port: u16,
}

impl Swtpm {
    /// A TPM as it comes from the factory, started.
    pub fn new() -> Self {
        let state = tempfile::Builder::new().prefix("swtpm-").tempdir().expect("a temporary folder");
        let mut tpm = Self { child: None, state, port: 0 };
        tpm.start();
        tpm
    }

    /// A copy of another TPM with all that is in it. The other one must be stopped.
    pub fn copy_of(other: &Swtpm) -> Self {
        assert!(other.child.is_none(), "a running TPM cannot be copied");
        let state = tempfile::Builder::new().prefix("swtpm-").tempdir().expect("a temporary folder");
        for entry in std::fs::read_dir(other.state.path()).expect("the state folder") {
            let entry = entry.expect("an entry of the state folder");
            std::fs::copy(entry.path(), state.path().join(entry.file_name())).expect("a copy of the state");
        }
        let mut tpm = Self { child: None, state, port: 0 };
        tpm.start();
        tpm
    }

    /// For `identity.tcti`, and for tpm2-tools.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Commands; one higher is the control port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it keeps what is in it (in clear: that is not the station's fault).
    pub fn state(&self) -> &Path {
        self.state.path()
    }

    /// Power on. On the same ports as before where they are free.
    pub fn start(&mut self) {
        self.start_with("not-need-init,startup-clear");
    }

    /// Power on with other flags, for example a TPM that nobody has started: `not-need-init`.
    pub fn start_with(&mut self, flags: &str) {
        for _ in 0..50 {
            let port = if self.port == 0 { free_pair() } else { self.port };
            let mut child = apart::command("swtpm")
                .args(["socket", "--tpm2", "--tpmstate"])
                .arg(format!("dir={}", self.state.path().display()))
                .args(["--server", &format!("type=tcp,port={port},bindaddr=127.0.0.1")])
                .args(["--ctrl", &format!("type=tcp,port={},bindaddr=127.0.0.1", port + 1)])
                .args(["--flags", flags])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("swtpm is installed (apt-get install swtpm)");
            let mut ended = false;
            wait_until("swtpm listens", || {
                ended = child.try_wait().expect("its state").is_some();
                ended || (listens(child.id(), port) && listens(child.id(), port + 1))
            });
            // Another test may have taken the port between the search and the start.
            if !ended {
                self.child = Some(child);
                self.port = port;
                return;
            }
            if self.port == 0 {
                continue;
            }
            pause();
        }
        panic!("swtpm does not start");
    }

    /// Power off, without warning.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("swtpm can be killed");
            child.wait().expect("swtpm ends");
        }
    }

    /// Runs one of tpm2-tools against it.
    pub fn tool(&self, name: &str, arguments: &[&str]) -> Output {
        self.tool_in(self.state.path(), name, arguments)
    }

    /// The same in a folder, where the files are that the arguments name.
    pub fn tool_in(&self, folder: &Path, name: &str, arguments: &[&str]) -> Output {
        apart::command(name)
            .args(arguments)
            .current_dir(folder)
            .env("TPM2TOOLS_TCTI", self.tcti())
            .stdin(Stdio::null())
            .output()
            .expect("tpm2-tools are installed (apt-get install tpm2-tools)")
    }

    /// Runs a tool that has to succeed, and gives its standard output.
    pub fn tool_ok(&self, folder: &Path, name: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.tool_in(folder, name, arguments);
        assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A TPM that takes calls and never answers.
pub struct MuteTpm {
    listeners: [TcpListener; 2],
    calls: Vec<TcpStream>,
    port: u16,
}

impl MuteTpm {
    pub fn new() -> Self {
        let (port, listeners) = bound_pair();
        for listener in &listeners {
            listener.set_nonblocking(true).expect("a listener that is asked");
        }
        Self { listeners, calls: Vec::new(), port }
    }

    /// For `identity.tcti`.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Whether it was called so far; the calls stay open as long as it lives.
    pub fn is_called(&mut self) -> bool {
        self.calls.extend(self.listeners.iter().filter_map(|listener| Some(listener.accept().ok()?.0)));
        !self.calls.is_empty()
    }
}

/// Two free ports next to each other: libtss2 expects the control port right above the other. Below the
/// range from which the kernel takes ports for connections, and apart from the ports of `station::free_port`. Each is
/// given once: to try one that another test was given would take it from the TPM that is about to listen there.
pub fn free_pair() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..1000 {
        let port = 10_000 + fastrand::u16(..6_000) * 2;
        if !given.insert(port) {
            continue;
        }
        let pair = (TcpListener::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port + 1)));
        if let (Ok(_), Ok(_)) = pair {
            return port;
        }
    }
    panic!("no two free ports next to each other");
}

/// The same, listening: for commands, and for control.
pub fn bound_pair() -> (u16, [TcpListener; 2]) {
    loop {
        let port = free_pair();
        let pair = (TcpListener::bind(("127.0.0.1", port)), TcpListener::bind(("127.0.0.1", port + 1)));
        if let (Ok(data), Ok(control)) = pair {
            return (port, [data, control]);
        }
    }
}

/// Whether this process listens at this port: swtpm opens its two one after the other, the control port first, and
/// takes one caller at a time, so that a call to find out would be in the way.
fn listens(process: u32, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's list of sockets");
    let mut listening = sockets.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let here = fields.get(1)?.ends_with(&format!(":{port:04X}")) && *fields.get(3)? == LISTEN;
        here.then(|| format!("socket:[{}]", fields[9]))
    });
    // Its files go with it: then it is not ready.
    let Ok(files) = std::fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let of_process: Vec<_> =
        files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok()).collect();
    listening.any(|socket| of_process.iter().any(|file| file.as_os_str() == socket.as_str()))
}

/// Waits for a state, at most thirty seconds.
pub fn wait_until(what: &str, mut state: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if state() {
            return;
        }
        pause();
    }
    panic!("not in thirty seconds: {what}");
}

#[expect(clippy::disallowed_methods, reason = "between two looks at another process; no timing is tested")]
fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(10));
}
