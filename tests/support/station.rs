//! The real binary as a child process: its configuration, its log, its status document, its signals.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::apart;

/// A running `weather-station run`; killed when dropped.
pub struct Station {
    child: Child,
    pub config: PathBuf,
    pub log: PathBuf,
    pub page: SocketAddr,
    environment: Vec<(String, String)>,
}

/// The binary under test.
pub fn binary() -> Command {
    let mut command = apart::command(env!("CARGO_BIN_EXE_weather-station"));
    command.env("TSS2_LOG", "all+NONE").stdin(Stdio::null());
    command
}

/// Weather from a table once a second, a TPM, a hub: everything but the showcase section. More keys of `[sensor]`,
/// then more sections, may follow.
pub fn config(dir: &Path, tcti: &str, hub_port: u16, ca_file: &Path) -> String {
    format!(
        r#"
        [identity]
        tcti = "{tcti}"
        [hub]
        transport = "amqp"
        port = {hub_port}
        ca_file = "{}"
        [store]
        path = "{}"
        [sensor]
        source = "simulated"
        interval = "1s"
        "#,
        ca_file.display(),
        dir.join("readings.db").display(),
    )
}

/// A loopback port that was free a moment ago; below the range from which the kernel takes ports for connections, so
/// that none of these has it before the station.
pub fn free_port() -> u16 {
    for _ in 0..1000 {
        let port = 22_000 + fastrand::u16(..10_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

impl Station {
    /// Writes `dir/station.toml` (a showcase section with a free port is added) and starts the station.
    pub fn start(dir: &Path, config: &str) -> Self {
        Self::start_on(dir, config, SocketAddr::from(([127, 0, 0, 1], free_port())))
    }

    /// The same with the page's address given, which may be taken.
    pub fn start_on(dir: &Path, config: &str, page: SocketAddr) -> Self {
        Self::start_with(dir, config, page, &[])
    }

    /// The same with variables in its environment.
    pub fn start_with(dir: &Path, config: &str, page: SocketAddr, environment: &[(&str, &str)]) -> Self {
        let file = dir.join("station.toml");
        std::fs::write(&file, format!("{config}\n[showcase]\nlisten = \"{page}\"\n")).unwrap();
        let log = dir.join("station.log");
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Self { child: spawn(dir, &file, &log, &environment), config: file, log, page, environment }
    }

    /// Starts it again with the same configuration, after it has ended.
    pub fn start_again(&mut self) {
        assert!(self.child.try_wait().unwrap().is_some(), "the station still runs");
        self.child = spawn(self.config.parent().unwrap(), &self.config, &self.log, &self.environment);
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL: no goodbye.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        assert!(Command::new("kill").arg(self.pid().to_string()).status().unwrap().success());
    }

    /// Waits for the end, at most as long as given.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        wait_for("the station to end", limit, || {
            let ended = self.child.try_wait().unwrap();
            async move { ended }
        })
        .await
    }

    /// The status document, or `None` while nobody answers.
    pub async fn status(&self) -> Option<Value> {
        get(self.page, "/api/status").await.and_then(|body| serde_json::from_str(&body).ok())
    }

    /// Waits until the status document satisfies the condition.
    pub async fn until(&self, what: &str, limit: Duration, condition: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            loop {
                if let Some(status) = self.status().await.filter(|status| condition(status)) {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(limit, found).await {
            Ok(status) => status,
            Err(_) => panic!(
                "{what} did not happen within {limit:?}; status {:?}; log:\n{}",
                self.status().await,
                self.log_text()
            ),
        }
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Station {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn spawn(dir: &Path, config: &Path, log: &Path, environment: &[(String, String)]) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
    binary()
        .arg("--config")
        .arg(config)
        .arg("run")
        .env("WEATHER_STATION_LOG", "debug")
        .env("RUNTIME_DIRECTORY", dir)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Polls a state, never an edge, until it is there.
pub async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    limit: Duration,
    mut state: impl FnMut() -> F,
) -> T {
    let poll = async {
        loop {
            if let Some(value) = state().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    match tokio::time::timeout(limit, poll).await {
        Ok(value) => value,
        Err(_) => panic!("waited {limit:?} for {what}"),
    }
}

/// A GET to the page; `None` unless it answers 200.
pub async fn get(address: SocketAddr, path: &str) -> Option<String> {
    request(address, "GET", path).await
}

/// A request without a body; `None` unless it is answered with 200.
pub async fn request(address: SocketAddr, method: &str, path: &str) -> Option<String> {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        if !head.starts_with("HTTP/1.1 200") {
            return None;
        }
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            return Some(unchunk(body));
        }
        Some(body.to_owned())
    };
    tokio::time::timeout(Duration::from_secs(5), exchange).await.ok()?
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        if size == 0 || rest.len() < size {
            break;
        }
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
    }
    whole
}
