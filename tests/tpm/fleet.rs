//! A fleet that nobody sets up: as many TPMs as stations, the real binary, a provisioning service, two hubs.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use hub_emulator::dps::{Dps, DpsOptions};
use hub_emulator::{Emulator, Options};

use crate::left_out;
use crate::support::station::{self, Station, binary, wait_for};
use crate::swtpm::Swtpm;

struct Member {
    station: Station,
    _tpm: Swtpm,
    folder: tempfile::TempDir,
    device: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_fleet_goes_from_empty_tpms_to_telemetry() {
    let folder = tempfile::tempdir().unwrap();
    let (dps, first, _) = services(folder.path());
    let mut fleet = enrolled_fleet(3, folder.path(), &dps, &first);
    all_accepted(&fleet, &first, 3, Duration::from_secs(120)).await;
    end(&mut fleet).await;
    assert_complete(&fleet, &[&first]);
}

/// Takes a quarter of an hour, because a station asks the service again after ten minutes at the earliest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_stations_set_themselves_up_and_move_when_their_hub_disappears() {
    if left_out("a fleet of twenty and its reassignment (15 minutes)") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (dps, first, second) = services(folder.path());
    let mut fleet = enrolled_fleet(20, folder.path(), &dps, &first);
    all_accepted(&fleet, &first, 5, Duration::from_secs(240)).await;
    // The hub is gone, and the service links another one.
    first.stop();
    dps.link("127.0.0.2", second.registry());
    all_accepted(&fleet, &second, 5, Duration::from_secs(25 * 60)).await;
    // With what had piled up: the newest reading is on its way within moments.
    for member in &fleet {
        let what = format!("{} to send its backlog", member.device);
        member
            .station
            .until(&what, Duration::from_secs(120), |status| status["store"]["pending"].as_u64() <= Some(5))
            .await;
    }
    end(&mut fleet).await;
    assert_complete(&fleet, &[&first, &second]);
}

/// A provisioning service that assigns to the first of two hubs; all under one authority, the hubs on one port.
fn services(folder: &Path) -> (Dps, Emulator, Emulator) {
    let dps = Dps::start(DpsOptions { dir: folder.into(), ..DpsOptions::default() }).unwrap();
    let hub = |address: [u8; 4], port| {
        let address = IpAddr::V4(Ipv4Addr::from(address));
        Emulator::start(Options {
            port,
            address: Some(address),
            names: vec![address.to_string()],
            dir: Some(folder.into()),
            keep_authority: true,
            ..Options::default()
        })
    };
    // The service names a host, no port.
    let (first, second) = (0..50)
        .find_map(|_| {
            let first = hub([127, 0, 0, 1], 0).unwrap();
            hub([127, 0, 0, 2], first.port()).ok().map(|second| (first, second))
        })
        .expect("a port that is free on both addresses");
    dps.link("127.0.0.1", first.registry());
    (dps, first, second)
}

fn enrolled_fleet(size: usize, folder: &Path, dps: &Dps, hub: &Emulator) -> Vec<Member> {
    (0..size)
        .map(|number| {
            let tpm = Swtpm::new();
            let own = tempfile::tempdir().unwrap();
            let config = config(own.path(), &tpm, folder, dps, hub);
            let device = format!("station-{number:02}");
            // What a person does, once and before the station is in the field: enter what it prints.
            let file = own.path().join("enroll.toml");
            std::fs::write(&file, &config).unwrap();
            let shown = binary()
                .arg("--config")
                .arg(&file)
                .args(["provision", "--show-enrollment"])
                .output()
                .unwrap();
            assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
            let shown = String::from_utf8(shown.stdout).unwrap();
            let value = |name: &str| shown.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
            dps.enroll(value("registration id"), value("endorsement key"), &device).unwrap();
            Member { station: Station::start(own.path(), &config), _tpm: tpm, folder: own, device }
        })
        .collect()
}

fn config(own: &Path, tpm: &Swtpm, authority: &Path, dps: &Dps, hub: &Emulator) -> String {
    station::config(own, &tpm.tcti(), hub.port(), &authority.join("ca.pem"))
        + &format!("[provisioning]\nid_scope = \"{}\"\nendpoint = \"{}\"\n", dps.id_scope(), dps.endpoint())
}

/// Waits until the hub has taken so many readings of each.
async fn all_accepted(fleet: &[Member], hub: &Emulator, readings: u64, limit: Duration) {
    wait_for("every station's readings at the hub", limit, || async {
        fleet.iter().all(|member| hub.count_of(&member.device) >= readings).then_some(())
    })
    .await;
}

/// SIGTERM to all: each ends in order.
async fn end(fleet: &mut [Member]) {
    fleet.iter().for_each(|member| member.station.terminate());
    for member in fleet {
        let status = member.station.wait(Duration::from_secs(60)).await;
        assert!(status.success(), "{}: {status}; log:\n{}", member.device, member.station.log_text());
    }
}

/// Every sequence number from 1 on is at one of the hubs, and the log holds neither token nor key.
fn assert_complete(fleet: &[Member], hubs: &[&Emulator]) {
    for member in fleet {
        let mut sequences: Vec<u64> = hubs
            .iter()
            .flat_map(|hub| hub.messages_of(&member.device))
            .filter_map(|message| message.json()["sequence"].as_u64())
            .collect();
        sequences.sort_unstable();
        sequences.dedup();
        let last = *sequences.last().unwrap();
        assert_eq!(sequences, (1..=last).collect::<Vec<_>>(), "{}", member.device);
        let log = std::fs::read_to_string(member.folder.path().join("station.log")).unwrap();
        for secret in ["SharedAccessSignature", "sig=", "authenticationKey"] {
            assert!(!log.contains(secret), "{secret} in the log of {}", member.device);
        }
    }
}
