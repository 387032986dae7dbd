//! Bytes at the socket, both ways, per reading: one by one, in batches, packed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

use crate::fill::fill;
use crate::node::Node;
use crate::rig::{Process, config, hub};
use crate::table::Table;

const READINGS: u64 = 2000;
/// A telemetry body of the filled stores, give or take a digit.
const BODY: f64 = 225.0;

pub async fn measure(station: &Path, node: &Node, table: &mut Table) {
    let nothing = bytes(station, 0, "").await;
    let per_reading = async |more: &str| (bytes(station, READINGS, more).await - nothing) / READINGS as f64;
    let single = per_reading("[telemetry]\nbatch = 1").await;
    let batched = per_reading("[telemetry]\nbatch = 100").await;
    let packed = per_reading("[telemetry]\nreadings_per_message = 50").await;
    table.state("wire, one by one", format!("{single:.0} B a reading"));
    table.judge(
        "wire, batches of 100",
        format!("{batched:.0} B a reading"),
        format!("Node SDK {:.0} B; over the body {:.0} B", node.wire, batched - BODY),
        "80 B over the body",
        batched - BODY <= 80.0,
        Some(batched < node.wire),
    );
    table.state("wire, 50 readings in a message", format!("{packed:.0} B a reading"));
}

/// All that crosses the socket until the backlog is accepted.
async fn bytes(station: &Path, readings: u64, more: &str) -> f64 {
    let dir = tempfile::tempdir().unwrap();
    if readings > 0 {
        fill(&dir.path().join("readings.db"), readings, Duration::from_secs(5)).await;
    }
    let hub = hub(0);
    let counted = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let proxy = tokio::spawn(forward(listener, hub.port(), counted.clone()));
    let process = Process::start(station, dir.path(), &config(dir.path(), &hub, port, "1h", more));
    let every = Duration::from_millis(50);
    process
        .until("all is accepted", Duration::from_secs(60), every, |status| {
            // Packed, the one reading that was taken since waits for company.
            status["cloud"]["lastAcceptedSequence"].as_u64() >= Some(readings.max(1))
        })
        .await;
    // The twin's answers are under way; they are the same with and without a backlog.
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.abort();
    counted.load(Ordering::Relaxed) as f64
}

async fn forward(listener: TcpListener, port: u16, counted: Arc<AtomicU64>) {
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        near.set_nodelay(true).unwrap();
        far.set_nodelay(true).unwrap();
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        tokio::spawn(copy(near_read, far_write, counted.clone()));
        tokio::spawn(copy(far_read, near_write, counted.clone()));
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, counted: Arc<AtomicU64>) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        counted.fetch_add(count as u64, Ordering::Relaxed);
    }
}
