//! What the station needs while nothing happens but weather.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::Extent;
use crate::bare::Bare;
use crate::machine::{resident, run_time, wakeups};
use crate::node::Node;
use crate::rig::{Process, config, hub};
use crate::table::Table;

pub async fn measure(station: &Path, extent: Extent, node: &Node, table: &mut Table) {
    let seconds = if extent == Extent::Short { 8 } else { 30 };
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(0);
    let process = Process::start(station, dir.path(), &config(dir.path(), &hub, hub.port(), "1s", ""));
    let bare = Bare::start(dir.path()).await;
    settle(&process).await;
    let (cpu, least, count) = (run_time(process.pid()), run_time(bare.pid()), hub.count());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let readings = hub.count() - count;
    let cpu = (run_time(process.pid()) - cpu).as_secs_f64() * 1000.0 / readings as f64;
    let least = (run_time(bare.pid()) - least).as_secs_f64() * 1000.0 / seconds as f64;
    drop(bare);
    table.judge(
        "CPU per reading, every second (all of it)",
        format!("{cpu:.2} ms"),
        format!("{readings} accepted; bare wake-ups, flush, packet: {least:.2} ms"),
        "1 ms",
        cpu <= 1.0,
        None,
    );
    let memory = resident(process.pid());
    table.judge(
        "memory, steady",
        format!("{memory:.1} MB"),
        format!("Node SDK, connected: {:.0} MB; 20,000 queued: {:.0} MB", node.connected, node.resident),
        "12 MB",
        memory <= 12.0,
        Some(memory < node.connected),
    );

    let pages: Vec<TcpStream> = open_pages(&process).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let more = resident(process.pid()) - memory;
    let count = pages.len();
    table.judge(
        "memory, ten pages open",
        format!("+{more:.1} MB"),
        format!("{count} live streams"),
        "+4 MB",
        more <= 4.0,
        None,
    );
    drop(pages);
    drop(process);

    let dir = tempfile::tempdir().unwrap();
    let process = Process::start(station, dir.path(), &config(dir.path(), &hub, hub.port(), "60s", ""));
    settle(&process).await;
    let cpu = run_time(process.pid());
    let woken = wakeups(process.pid(), Duration::from_secs(seconds)).await as f64 / seconds as f64;
    let cpu = (run_time(process.pid()) - cpu).as_secs_f64() * 1e6 / seconds as f64;
    table.state("wake-ups at a 60 s interval", format!("{woken:.1} a second, {cpu:.0} us CPU a second"));
}

async fn settle(process: &Process) {
    let every = Duration::from_millis(100);
    process
        .until("the first reading is accepted", Duration::from_secs(20), every, |status| {
            status["cloud"]["lastAccepted"].is_string()
        })
        .await;
    tokio::time::sleep(Duration::from_secs(3)).await;
}

async fn open_pages(process: &Process) -> Vec<TcpStream> {
    let mut pages = Vec::new();
    for _ in 0..10 {
        let mut stream = TcpStream::connect(process.page).await.unwrap();
        let request = format!("GET /api/stream HTTP/1.1\r\nhost: {}\r\n\r\n", process.page);
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        pages.push(stream);
    }
    pages
}
