//! The last moment of an orderly end. A thread that still ends while the libraries of the TPM clean up after the whole
//! process frees what they free ("double free or corruption", now and then).

use std::time::Duration;

use hub_emulator::{Emulator, Options};

use crate::record;
use crate::support::station::{Station, free_port};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_other_thread_is_left_when_the_process_ends() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let library = record::library(dir.path(), "at_exit");
    let counted = dir.path().join("threads");
    let environment = [("LD_PRELOAD", library.to_str().unwrap()), ("AT_EXIT", counted.to_str().unwrap())];
    let page = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
    let config = crate::config(dir.path(), &hub);
    let mut station = Station::start_with(dir.path(), &config, page, &environment);
    for life in 0..5 {
        if life > 0 {
            station.start_again();
        }
        station
            .until("a reading is accepted", Duration::from_secs(20), |status| {
                status["cloud"]["lastAccepted"].is_string()
            })
            .await;
        station.terminate();
        let ended = station.wait(Duration::from_secs(20)).await;
        assert!(ended.success(), "{ended}: {}", station.log_text());
        assert_eq!(std::fs::read_to_string(&counted).unwrap(), "1", "threads at the end of life {life}");
    }
}
