//! What a rude visitor can do: nothing to sampling, nothing to memory, little to others.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{SecondsFormat, TimeDelta};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::http::{get, send};
use crate::rig;
use crate::support::station::{Station, wait_for};

/// RssAnon in bytes: what is the process's own.
fn memory(station: &Station) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", station.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_and_slow_readers_delay_no_sample_and_ten_pages_cost_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    rig::record(dir.path(), rig::YEAR, 60.0).await;
    let station = rig::alone(dir.path(), 60.0).await;
    let page = station.page;

    ten_pages_cost_at_most_4_mb(&station).await;
    oversized_requests_are_refused(page).await;
    the_forty_first_stream_is_told_to_come_back(page).await;

    let before = station.status().await.unwrap();
    let begin = Instant::now();
    let mut rude = JoinSet::new();
    for _ in 0..300 {
        rude.spawn(says_nothing(page));
    }
    for _ in 0..10 {
        rude.spawn(never_reads(page));
        rude.spawn(asks_all_the_time(page));
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    rude.abort_all();
    while rude.join_next().await.is_some() {}

    let after = station
        .until("the page answers again", Duration::from_secs(30), |status| status["sensor"]["state"] == "ok")
        .await;
    let taken = after["sensor"]["taken"].as_u64().unwrap() - before["sensor"]["taken"].as_u64().unwrap();
    let due = begin.elapsed().as_secs();
    assert!(taken + 2 >= due, "{taken} samples in {due} s");
    assert_eq!(after["sensor"]["missed"], before["sensor"]["missed"]);
    assert_eq!(after["store"]["inMemory"], 0, "{after}");
    let worst = after["sensor"]["jitterWorst"].as_f64().unwrap();
    assert!(worst < 500.0, "a sample began {worst} ms late");
}

async fn ten_pages_cost_at_most_4_mb(station: &Station) {
    let page = station.page;
    // One round first: what is allocated once for all is not a page's cost.
    open_page(page).await;
    let before = memory(station);
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(open_page(page).await);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let grown = memory(station).saturating_sub(before);
    assert!(grown <= 4 << 20, "{grown} bytes for ten pages");
}

/// What a browser does: everything that the page names, the history, and a stream that stays.
async fn open_page(page: SocketAddr) -> TcpStream {
    for path in ["/", "/style.css", "/app.js", "/charts.js", "/uplot.js", "/instrument-sans.woff2"] {
        assert_eq!(get(page, path).await.status, 200, "{path}");
    }
    for query in ["", "?step=300", "?step=60"] {
        assert_eq!(get(page, &format!("/api/readings{query}")).await.status, 200, "{query}");
    }
    stream(page).await.expect("a stream")
}

async fn the_forty_first_stream_is_told_to_come_back(page: SocketAddr) {
    let limit = Duration::from_secs(20);
    let mut streams = Vec::new();
    for _ in 0..40 {
        // Places that were given back a moment ago may take a moment to be free.
        streams.push(wait_for("a place", limit, || stream(page)).await);
    }
    let refused = get(page, "/api/stream").await;
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("30")));
    drop(streams);
    wait_for("a place that was given back", limit, || stream(page)).await;
}

/// A stream that has begun, or `None` where there is no place.
async fn stream(page: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(page).await.ok()?;
    let request = format!("GET /api/stream HTTP/1.1\r\nhost: {page}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut head = [0; 15];
    stream.read_exact(&mut head).await.ok()?;
    (&head == b"HTTP/1.1 200 OK").then_some(stream)
}

async fn oversized_requests_are_refused(page: SocketAddr) {
    let header = "x".repeat(100_000);
    let large = send(page, &format!("GET / HTTP/1.1\r\nhost: {page}\r\nx-large: {header}\r\n\r\n")).await;
    assert_eq!(large.status, 431);
    let form = "a".repeat(100_000);
    let large = format!(
        "POST /configuration HTTP/1.1\r\nhost: {page}\r\norigin: http://{page}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{form}",
        form.len()
    );
    assert_eq!(send(page, &large).await.status, 413);
}

/// Opens a connection and waits for ever.
async fn says_nothing(page: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(page).await else { return };
    let _half = stream.write_all(b"GET / HTTP/1.1\r\nhost:").await;
    let _closed = stream.read(&mut [0; 16]).await;
}

/// Asks for much and reads nothing.
async fn never_reads(page: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(page).await else { return };
    let request = format!("GET /uplot.js HTTP/1.1\r\nhost: {page}\r\n\r\n");
    for _ in 0..1_000 {
        if stream.write_all(request.as_bytes()).await.is_err() {
            break;
        }
    }
    std::future::pending::<()>().await;
}

async fn asks_all_the_time(page: SocketAddr) {
    loop {
        let Ok(mut stream) = TcpStream::connect(page).await else { continue };
        let request =
            format!("GET /api/readings?step=60 HTTP/1.1\r\nhost: {page}\r\nconnection: close\r\n\r\n");
        if stream.write_all(request.as_bytes()).await.is_ok() {
            let _whole = stream.read_to_end(&mut Vec::new()).await;
        }
    }
}

/// Their questions are many and dear, and nobody waits for an answer: readings go to the disk all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn visitors_who_ask_for_much_and_leave_keep_no_reading_from_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let past = rig::record(dir.path(), &[(TimeDelta::hours(66), TimeDelta::seconds(5))], 60.0).await;
    let station = rig::alone(dir.path(), 60.0).await;
    // What costs most: buckets that are made of single readings, nearly as many as may be looked at.
    let since = past[0].stamp.time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let query = format!("/api/readings?since={since}&step=160");
    let begin = Instant::now();
    assert_eq!(get(station.page, &query).await.status, 200);
    // On a slow machine all of it takes longer. 64 questions may wait, and one or two go before a sample.
    let limit = Duration::from_secs(5) + 16 * begin.elapsed();
    let mut visitors = JoinSet::new();
    for _ in 0..8 {
        visitors.spawn(asks_and_leaves(station.page, query.clone()));
    }
    // Each sample is synced by itself, or with the few that came while a question was answered.
    for _ in 0..3 {
        let last = |status: &Value| status["store"]["lastSequence"].as_u64().unwrap();
        let before = last(&station.status().await.unwrap());
        station.until("a reading on the disk", limit, |status| last(status) > before).await;
    }
    visitors.abort_all();
}

async fn asks_and_leaves(page: SocketAddr, query: String) {
    let request = format!("GET {query} HTTP/1.1\r\nhost: {page}\r\n\r\n");
    loop {
        let Ok(mut stream) = TcpStream::connect(page).await else { continue };
        let _sent = stream.write_all(request.as_bytes()).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_taken_costs_the_page_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = rig::config(dir.path(), 60.0) + "[identity]\ntcti = \"swtpm:host=127.0.0.1,port=1\"\n";
    let station = Station::start_on(dir.path(), &config, taken.local_addr().unwrap());
    wait_for("the warning and three readings", Duration::from_secs(20), || async {
        let log = station.log_text();
        (log.contains("so there is no page yet") && log.matches("sampled sample=").count() >= 3).then_some(())
    })
    .await;
}
