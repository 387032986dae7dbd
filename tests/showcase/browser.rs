//! The page in a real Chromium, driven by `tests/browser/*.mjs`; this file gives them a whole station: real binary,
//! TPM, hub over TLS, a year of readings. `tests/run.sh` runs it: it needs Chromium and Node.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hub_emulator::{Emulator, Options};
use tokio::process::Command;

use crate::rig::{self, Past};
use crate::support::station::{Station, binary};
use crate::support::swtpm::Swtpm;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// A station that is online, and what a script may do to it.
struct Stage {
    dir: tempfile::TempDir,
    station: Station,
    hub: Emulator,
    _tpm: Swtpm,
}

impl Stage {
    async fn set(past: &Past, speed: f64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        rig::record(dir.path(), past, speed).await;
        let tpm = Swtpm::new();
        let hub = Emulator::start(Options { control_port: Some(0), ..Options::default() }).unwrap();
        let key = hub.add_device("roof");
        std::fs::write(dir.path().join("cellar.key"), hub.add_device("cellar")).unwrap();
        let config = rig::config(dir.path(), speed)
            + &format!(
                "[identity]\ntcti = \"{}\"\n[hub]\ntransport = \"amqp\"\nport = {}\nca_file = \"{}\"\n",
                tpm.tcti(),
                hub.port(),
                hub.ca_file().display()
            );
        provision(dir.path(), &config, &key).await;
        let station = Station::start(dir.path(), &config);
        station
            .until("everything is with the hub", Duration::from_secs(60), |status| {
                status["cloud"]["state"] == "online" && status["store"]["pending"].as_u64() < Some(3)
            })
            .await;
        Self { dir, station, hub, _tpm: tpm }
    }

    /// Runs a script and asserts that it ends well.
    async fn play(&self, script: &str, more: &[(&str, &Path)]) {
        let mut node = Command::new("node");
        node.arg(script)
            .current_dir(SCRIPTS)
            .env("PAGE", format!("http://{}/", self.station.page))
            .env("CONTROL", format!("http://127.0.0.1:{}", self.hub.control_port().unwrap()))
            .env("STATION_DIR", self.dir.path())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        for (name, value) in more {
            node.env(name, value);
        }
        let run = tokio::time::timeout(Duration::from_secs(300), node.status());
        let status = run.await.expect("the script ends within five minutes").expect("node is installed");
        assert!(status.success(), "{script}: {status}; the station's log:\n{}", self.station.log_text());
    }
}

async fn provision(dir: &Path, config: &str, key: &str) {
    let (config_file, key_file) = (dir.join("provision.toml"), dir.join("roof.key"));
    std::fs::write(&config_file, config).unwrap();
    std::fs::write(&key_file, key).unwrap();
    let arguments = ["provision", "--host", "localhost", "--device-id", "roof", "--key-file"];
    let output = binary().arg("--config").arg(config_file).args(arguments).arg(key_file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// What the scripts need from npm, in the versions of the lock file. Once, whichever test comes first.
async fn install() {
    static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    let _turn = TURN.lock().await;
    if !Path::new(SCRIPTS).join("node_modules").exists() {
        let arguments = ["ci", "--no-audit", "--no-fund", "--silent"];
        let npm = Command::new("npm").args(arguments).current_dir(SCRIPTS).status();
        assert!(npm.await.expect("npm is installed").success(), "npm ci in {SCRIPTS}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Chromium and Node: tests/run.sh runs it"]
async fn the_page_in_a_real_browser() {
    install().await;
    Stage::set(rig::YEAR, 60.0).await.play("page.mjs", &[]).await;
}

#[tokio::test]
#[ignore = "needs Chromium and Node: tests/run.sh runs it"]
async fn the_page_in_a_real_browser_and_rare_states() {
    install().await;
    let script = Command::new("node").arg("states.mjs").current_dir(SCRIPTS).kill_on_drop(true).status();
    let run = tokio::time::timeout(Duration::from_secs(300), script).await;
    assert!(run.expect("the script ends within five minutes").expect("node is installed").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "paints the README's picture: tests/browser/picture.sh runs it"]
async fn the_picture_for_the_readme() {
    install().await;
    let folder = std::env::var_os("PICTURES").map_or_else(|| PathBuf::from(SCRIPTS), PathBuf::from);
    Stage::set(rig::YEAR, 1.0).await.play("picture.mjs", &[("PICTURES", &folder)]).await;
}
