//! The Node program that plays the hub on rhea, as a child process: starts it with a certificate, keeps what it
//! tells, asks it to do what the service side does. Knows no station.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use serde_json::Value;

use crate::support::station::wait_for;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire");
const SOON: Duration = Duration::from_secs(30);

/// A running peer; killed when dropped.
pub struct Peer {
    child: Child,
    asks: ChildStdin,
    told: Arc<Mutex<Vec<Value>>>,
    /// The certificate, which is its own root.
    pub ca_file: PathBuf,
    pub port: u64,
}

/// A script of this folder with rhea in reach.
pub fn script(name: &str) -> Command {
    // Two tests want it at the same time; npm writes this file when all the others are there.
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        if !Path::new(SCRIPTS).join("node_modules/.package-lock.json").exists() {
            let arguments = ["ci", "--no-audit", "--no-fund", "--silent"];
            let npm = Command::new("npm").args(arguments).current_dir(SCRIPTS).status();
            assert!(npm.expect("npm is installed").success(), "npm ci in {SCRIPTS}");
        }
    });
    let mut command = Command::new("node");
    command.arg(name).current_dir(SCRIPTS).stdin(Stdio::null());
    command
}

impl Peer {
    /// Listens on a free port as `localhost`.
    pub async fn start(dir: &Path) -> Self {
        let (certificate, key) = (dir.join("hub.pem"), dir.join("hub.key"));
        certify(&certificate, &key);
        let mut command = script("peer.js");
        command.arg(&certificate).arg(&key).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("node is installed");
        let told = Arc::new(Mutex::new(Vec::new()));
        let (lines, keeps) = (BufReader::new(child.stdout.take().unwrap()).lines(), told.clone());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let line =
                    serde_json::from_str(&line).unwrap_or_else(|_| serde_json::json!({ "error": line }));
                keeps.lock().unwrap().push(line);
            }
        });
        let asks = child.stdin.take().unwrap();
        let mut peer = Self { child, asks, told, ca_file: certificate, port: 0 };
        peer.port = peer.until("the port", |line| line["port"].is_u64()).await["port"].as_u64().unwrap();
        peer
    }

    /// All that it has told up to now. An encoding that rhea does not take ends the test here.
    pub fn told(&self) -> Vec<Value> {
        let told = self.told.lock().unwrap().clone();
        if let Some(error) = told.iter().find(|line| line.get("error").is_some()) {
            panic!("the peer: {}", error["error"].as_str().unwrap_or_default());
        }
        told
    }

    /// The first line that satisfies the condition, once it is there.
    pub async fn until(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(what, 2 * SOON, || {
            let found = self.told().into_iter().find(&condition);
            async move { found }
        });
        match tokio::time::timeout(SOON, found).await {
            Ok(line) => line,
            Err(_) => panic!("{what} did not come; the peer read {:#?}", self.told()),
        }
    }

    /// Has it do something on the link of this address.
    pub fn ask(&mut self, asked: &Value) {
        writeln!(self.asks, "{asked}").unwrap();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A certificate for `localhost` that signs itself and is no authority, so that it serves as both.
fn certify(certificate: &Path, key: &Path) {
    let arguments = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -days 2 -subj /CN=localhost \
                     -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE";
    let mut openssl = Command::new("openssl");
    openssl.args(arguments.split_whitespace()).arg("-keyout").arg(key).arg("-out").arg(certificate);
    let output = openssl.output().expect("openssl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
