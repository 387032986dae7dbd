//! The setup code opens the TPM form: `status` tells it to whoever may read its file, and nothing that the station
//! answers over HTTP has it in it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::http::get;
use crate::rig;
use crate::support::station::binary;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_the_setup_code_and_no_answer_over_http_does() {
    let dir = tempfile::tempdir().unwrap();
    let station = rig::alone(dir.path(), 60.0).await;
    let file = std::fs::read_to_string(dir.path().join("setup-code")).unwrap();
    let code = file.trim();

    let status = |runtime_directory: &std::path::Path, more: &[&str]| {
        let mut command = binary();
        command.arg("--config").arg(&station.config).arg("status").args(more);
        let output = command.env("RUNTIME_DIRECTORY", runtime_directory).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let said = status(dir.path(), &[]);
    assert!(said.lines().any(|line| line.starts_with(&format!("setup code    {code} "))), "{said}");
    let elsewhere = tempfile::tempdir().unwrap();
    let said = status(elsewhere.path(), &[]);
    assert!(said.contains("sensor") && !said.contains("setup code"), "without the file: {said}");
    assert!(!holds(&status(dir.path(), &["--json"]), code), "the document is the one of the page");

    for path in [
        "/",
        "/api/status",
        "/api/readings?since=2020-01-01T00:00:00Z&step=86400",
        "/configuration",
        "/configure",
        "/healthz",
        "/metrics",
        "/app.js",
    ] {
        let answer = get(station.page, path).await;
        let (head, body) = (&answer.head, answer.text());
        assert!(!holds(head, code) && !holds(&body, code), "{path} tells the setup code");
    }
    let event = first_event(station.page).await;
    assert!(event.contains("storeId") && !holds(&event, code), "the stream: {event}");
}

/// The stream up to the end of its first document.
async fn first_event(page: SocketAddr) -> String {
    let begins = async {
        let mut stream = TcpStream::connect(page).await.unwrap();
        let request = format!("GET /api/stream HTTP/1.1\r\nhost: {page}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut all = String::new();
        while !all.contains("\ndata:") {
            all += "\n";
            all += &lines.next_line().await.unwrap().expect("the stream goes on");
        }
        all
    };
    tokio::time::timeout(Duration::from_secs(10), begins).await.expect("an event")
}

/// However it is written.
fn holds(text: &str, code: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_uppercase();
    plain(text).contains(&plain(code))
}
