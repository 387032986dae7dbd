//! An hour without the hub, and its return. The hour is simulated: the station runs in this process, on a runtime
//! whose clock is paused while nobody answers, and goes on by real time from the moment the hub is back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use weather_station::station;

use crate::rig::{config, free_port, hub, taken, until};
use crate::table::Table;

const HOUR: Duration = Duration::from_secs(3_600);

pub async fn measure(table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let hub = hub(0);
    let page = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let showcase = format!("[showcase]\nlisten = \"{page}\"\n");
    let text = config(dir.path(), &hub, hub.port(), "1s", &showcase);
    let config = weather_station::config::parse(&text).unwrap();
    let (stop, halt) = watch::channel(false);
    let (away, hub_is_away) = oneshot::channel();
    let (passed, hour_has_passed) = oneshot::channel();
    let station = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let station = tokio::spawn(station::run(config, halt));
            hub_is_away.await.unwrap();
            tokio::time::pause();
            tokio::time::sleep(HOUR).await;
            tokio::time::resume();
            passed.send(()).unwrap();
            station.await.unwrap().unwrap();
        });
    });
    taken(&hub, 1, Duration::from_secs(20), Duration::from_millis(10)).await;
    hub.stop();
    away.send(()).unwrap();
    hour_has_passed.await.unwrap();
    let before = hub.count();
    hub.start_again().unwrap();
    let begin = Instant::now();
    let every = Duration::from_millis(20);
    let online = |status: &serde_json::Value| status["cloud"]["state"] == "online";
    until(page, "it is online again", Duration::from_secs(90), every, online).await;
    let back = begin.elapsed();
    let sent = |status: &serde_json::Value| status["store"]["pending"] == 0;
    until(page, "all is accepted", Duration::from_secs(30), every, sent).await;
    let all = begin.elapsed();
    table.judge(
        "hub back after an hour: online, all accepted",
        format!("{:.1} s, {:.1} s", back.as_secs_f64(), all.as_secs_f64()),
        format!("{} readings waited", hub.count() - before),
        "one backoff step (60 s)",
        all <= Duration::from_secs(61),
        Some(all <= Duration::from_secs(90)),
    );
    stop.send_replace(true);
    station.join().unwrap();
}
