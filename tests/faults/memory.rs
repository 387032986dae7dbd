//! What connections leave behind: the real process through connection after connection, and its memory.

use std::time::Duration;

use hub_emulator::{Cut, Emulator, Fault, HubError, Options};

use crate::rig::{say, write_key};
use crate::support::station::Station;

/// Of the process, in kilobytes.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Two connections by default; with WEATHER_STATION_SLOW=1 as many as fit into four minutes of the field's pauses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_over_connections_that_break() {
    let slow = std::env::var_os("WEATHER_STATION_SLOW").is_some();
    let mut options = Options::default();
    options.behaviour.recording = false;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("identity");
    write_key(&key_file, &hub.connection_string("roof").unwrap());
    let config = format!(
        "[sensor]\nsource = \"simulated\"\ninterval = \"1s\"\n[identity]\nsource = \"key-file\"\nkey_file = \"{}\"\n\
         [hub]\ntransport = \"amqp\"\nport = {}\nca_file = \"{}\"\n[store]\npath = \"{}\"\n",
        key_file.display(),
        hub.port(),
        hub.ca_file().display(),
        folder.path().join("readings.db").display()
    );
    let station = Station::start(folder.path(), &config);
    let started = tokio::time::Instant::now();
    let length = Duration::from_secs(if slow { 240 } else { 4 });
    let mut after: Vec<u64> = Vec::new();
    let faults = [
        Fault::Drop { how: Cut::Rst },
        Fault::EndSessions { error: HubError::new("amqp:internal-error") },
        Fault::Drop { how: Cut::Fin },
        Fault::CloseConnections { error: HubError::new("amqp:connection:forced") },
        Fault::DetachLinks { link: None, error: HubError::new("amqp:link:detach-forced") },
    ];
    while started.elapsed() < length || after.len() < 2 {
        let connections = after.len() as u64 + 1;
        station
            .until("online again, with everything accepted", Duration::from_secs(90), |status| {
                status["cloud"]["connections"].as_u64() >= Some(connections)
                    && status["cloud"]["state"] == "online"
                    && status["store"]["pending"] == 0
            })
            .await;
        after.push(resident(station.pid()));
        hub.fault(faults[after.len() % faults.len()].clone());
    }
    let third = after.len().div_ceil(3);
    let (first, last) =
        (after[..third].iter().max().unwrap(), after[after.len() - third..].iter().max().unwrap());
    say(format_args!(
        "memory: {} connections, {first} kB at most in the first third, {last} in the last",
        after.len()
    ));
    assert!(!slow || after.len() >= 6, "{} connections", after.len());
    assert!(*last <= first + 1024, "it grows: {after:?}");
}
