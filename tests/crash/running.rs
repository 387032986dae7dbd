//! The recorded station as a child process, and what it runs on. Knows how to begin and to end it, not what is proved.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hub_emulator::{Emulator, Options};

use crate::record;
use crate::support::station::{binary, free_port};

/// A folder for the store, a hub, and a configuration with a page.
pub struct Scene {
    pub dir: tempfile::TempDir,
    pub folder: PathBuf,
    pub hub: Emulator,
    pub page: SocketAddr,
    pub config: PathBuf,
    pub library: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("store");
        fs::create_dir(&folder).unwrap();
        let hub = Emulator::start(Options::default()).unwrap();
        hub.add_device("roof");
        let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = dir.path().join("station.toml");
        fs::write(&config, format!("{}\n[showcase]\nlisten = \"{page}\"\n", crate::config(dir.path(), &hub)))
            .unwrap();
        let library = record::recorder(dir.path());
        Self { dir, folder, hub, page, config, library }
    }
}

pub fn spawn(dir: &Path, config: &Path, library: &Path, folder: &Path, fail_sync: Option<&str>) -> Running {
    let mut command = command(dir, config, library, folder);
    if let Some(numbers) = fail_sync {
        command.env("FAIL_SYNC", numbers);
    }
    Running(command.spawn().unwrap())
}

/// A station that does not outlive its test, however that ends.
pub struct Running(pub Child);

impl Running {
    /// SIGKILL.
    pub fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }

    /// SIGTERM, and all is well.
    pub fn end_in_order(mut self) {
        assert!(Command::new("kill").arg(self.0.id().to_string()).status().unwrap().success());
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.0.kill();
        let _status = self.0.wait();
    }
}

pub fn command(dir: &Path, config: &Path, library: &Path, folder: &Path) -> Command {
    let mut command = binary();
    command
        .arg("--config")
        .arg(config)
        .arg("run")
        .env("LD_PRELOAD", library)
        .env("RECORD_FOLDER", folder)
        .env("RECORD_FILE", dir.join("record"))
        .env("RUNTIME_DIRECTORY", dir)
        .stdout(Stdio::null())
        .stderr(fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).unwrap());
    command
}

#[test]
fn a_station_does_not_outlive_a_test_that_fails() {
    let scene = Scene::new();
    let station = spawn(scene.dir.path(), &scene.config, &scene.library, &scene.folder, None);
    let process = PathBuf::from(format!("/proc/{}", station.0.id()));
    assert!(process.exists());
    let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _station = station;
        panic!("as an assertion that does not hold");
    }));
    assert!(failed.is_err() && !process.exists(), "it runs on");
}
