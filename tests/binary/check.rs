//! `check`: what it says of each part that is missing or wrong, and that it leaves a running station alone.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use hub_emulator::dps::{Dps, DpsOptions};
use hub_emulator::{Emulator, Fault, LinkKind, Options};
use serde_json::Value;

use super::read::another_program;
use super::support::station::{Station, binary, free_port};
use super::support::swtpm::{Swtpm, wait_until};
use super::{command, lonely, text, with_key_file};

/// `check --json`: the exit status, and the findings by name.
fn check(dir: &Path, config: &str) -> (Option<i32>, Value) {
    let output = command(dir, config, &["check", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", text(&output.stdout), text(&output.stderr)));
    (output.status.code(), document["checks"].clone())
}

fn finding<'a>(checks: &'a Value, name: &str) -> &'a Value {
    let mut found = checks.as_array().unwrap().iter().filter(|finding| finding["name"] == name);
    found.next().unwrap_or_else(|| panic!("no {name} in {checks}"))
}

/// Status, and a part of detail or remedy.
fn assert_says(checks: &Value, name: &str, status: &str, part: &str) {
    let finding = finding(checks, name);
    assert_eq!(finding["status"], status, "{checks}");
    let said = format!("{} {}", finding["detail"], finding["remedy"]);
    assert!(said.contains(part), "{name} says {said}, expected {part:?}");
    assert_eq!(finding["remedy"].is_string(), status != "ok", "a remedy wherever something is to be done");
}

#[test]
fn each_part_that_is_missing_or_wrong_is_found_with_how_far_it_goes() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let tpm = Swtpm::new();
    let good = with_key_file(dir.path(), &hub) + "[showcase]\nlisten = \"\"\n";
    let no_tpm = lonely(dir.path());
    let empty_tpm = no_tpm.replace("device:/dev/no-tpm", &tpm.tcti());
    let refused = good.replace(&format!("port = {}", hub.port()), &format!("port = {}", free_port()));
    let unknown_root = good.replace("ca_file", "# ca_file");
    // (configuration, exit status, finding, its status, what it says)
    let cases = [
        (&good, 0, "hub", "ok", "localhost lets roof in, by amqp: name, port, TLS and token are right"),
        (&good, 0, "tpm", "warning", "whoever reads the card can copy the key"),
        (&good, 0, "configuration", "ok", "86400 metered messages a day, one S1 unit takes them"),
        (&good, 0, "disk", "ok", "a synced write of 4 KiB takes "),
        (&no_tpm, 1, "tpm", "failed", "there is no /dev/no-tpm"),
        (&no_tpm, 1, "hub", "failed", "not tried: the station has no identity"),
        (&empty_tpm, 1, "tpm", "failed", "run `weather-station provision`"),
        (&refused, 1, "hub", "failed", "its name is found, its port does not answer: could not connect"),
        (&unknown_root, 1, "hub", "failed", "name and port are right, TLS is not: could not set TLS up"),
        (&unknown_root, 1, "hub", "failed", "into `hub.ca_file`"),
    ];
    for (config, code, name, status, part) in cases {
        let (ended, checks) = check(dir.path(), config);
        assert_eq!(ended, Some(code), "{checks}");
        assert_says(&checks, name, status, part);
        let names: Vec<_> = checks.as_array().unwrap().iter().map(|finding| &finding["name"]).collect();
        assert_eq!(names, ["configuration", "sensor", "tpm", "clock", "disk", "hub"]);
    }

    let key_file = dir.path().join("identity");
    let right = std::fs::read_to_string(&key_file).unwrap();
    std::fs::write(&key_file, right.replace("localhost", "no-such-hub.invalid")).unwrap();
    let (ended, checks) = check(dir.path(), &good);
    assert_eq!(ended, Some(1));
    assert_says(&checks, "hub", "failed", "no-such-hub.invalid: its name is not found");
    let key = right.split("SharedAccessKey=").nth(1).unwrap().trim();
    std::fs::write(&key_file, right.replace(key, "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=")).unwrap();
    let (ended, checks) = check(dir.path(), &good);
    assert_eq!(ended, Some(1));
    assert_says(&checks, "hub", "failed", "name, port and TLS are right, but it does not let this device in");
    assert_says(&checks, "hub", "failed", "401");

    std::fs::write(&key_file, &right).unwrap();
    // A server with a certificate for this name that is no hub: it answers 404 to whatever it does not know.
    let elsewhere = dir.path().join("elsewhere");
    let service = Dps::start(DpsOptions { dir: elsewhere, ..DpsOptions::default() }).unwrap();
    let port = service.endpoint().replace("localhost:", "");
    let no_hub = good
        .replace("transport = \"amqp\"", &format!("transport = \"websocket\"\nwebsocket_port = {port}"))
        .replace(&hub.ca_file().display().to_string(), &service.ca_file().display().to_string());
    let (ended, checks) = check(dir.path(), &no_hub);
    assert_eq!(ended, Some(1));
    assert_says(
        &checks,
        "hub",
        "failed",
        "name, port and TLS are right, the WebSocket is refused: could not open",
    );
    assert_says(&checks, "hub", "failed", "the hub answered 404");
    assert_says(&checks, "hub", "failed", "a proxy's page");

    let (ended, checks) = check(dir.path(), "[sensor]\ninterval = \"0s\"\n");
    assert_eq!((ended, checks.as_array().unwrap().len()), (Some(78), 1), "nothing is opened: {checks}");
    assert_says(&checks, "configuration", "failed", "line 2: `sensor.interval`");
    let no_trace = good.replace("interval = \"1s\"", "trace = \"/no/such/trace.csv\"");
    let (ended, checks) = check(dir.path(), &no_trace);
    assert_eq!((ended, checks.as_array().unwrap().len()), (Some(78), 1), "nothing is opened: {checks}");
    assert_says(&checks, "configuration", "failed", "`sensor.trace`");
}

#[test]
fn the_token_that_it_makes_is_in_no_core_dump() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    // It takes connections and says nothing: meanwhile the token waits in memory.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    silent.set_nonblocking(true).unwrap();
    let port = silent.local_addr().unwrap().port();
    let config =
        with_key_file(dir.path(), &hub).replace(&format!("port = {}", hub.port()), &format!("port = {port}"));
    let file = dir.path().join("command.toml");
    std::fs::write(&file, config + "[showcase]\nlisten = \"\"\n").unwrap();
    let mut child = binary()
        .arg("--config")
        .arg(&file)
        .arg("check")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut taken = None;
    wait_until("check asks the hub", || {
        taken = silent.accept().ok();
        taken.is_some()
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..], ["0", "0", "bytes"], "{core}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_cannot_be_asked_keeps_its_sensor_and_its_connection() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = with_key_file(dir.path(), &hub);
    let station = Station::start(dir.path(), &config);
    let online = |status: &Value| status["cloud"]["state"] == "online";
    let before = station.until("it is online", Duration::from_secs(20), online).await;
    let (ended, checks) = check(dir.path(), &(config.clone() + "[showcase]\nlisten = \"\"\n"));
    assert_eq!(ended, Some(0), "{checks}");
    for name in ["sensor", "hub"] {
        assert_says(&checks, name, "warning", "a station runs but cannot be asked");
        assert_says(&checks, name, "warning", "set `showcase.listen`");
    }
    let after = station.until("it is online", Duration::from_secs(5), online).await;
    assert!(before["cloud"]["connections"].is_number(), "{before}");
    assert_eq!(after["cloud"]["connections"], before["cloud"]["connections"]);
    // Asked, it tells.
    let listening = format!("{config}[showcase]\nlisten = \"{}\"\n", station.page);
    let (_, checks) = check(dir.path(), &listening);
    assert_says(&checks, "sensor", "ok", "read by the running station");
    assert_says(&checks, "hub", "ok", "localhost is online, says the running station");
    assert_says(&checks, "disk", "ok", "a cheap card lasts ");
    // `read` measures nothing beside it either.
    let read = command(dir.path(), &(config + "[showcase]\nlisten = \"\"\n"), &["read"]);
    assert_eq!(read.status.code(), Some(1), "{}", text(&read.stdout));
    assert!(text(&read.stderr).contains("the running station cannot be asked"), "{}", text(&read.stderr));
}

#[tokio::test]
async fn beside_a_station_whose_port_another_program_has_nobody_is_told_to_set_what_is_set() {
    let dir = tempfile::tempdir().unwrap();
    let config = lonely(dir.path());
    let station = Station::start(dir.path(), &config);
    station.until("it runs", Duration::from_secs(15), |status| status["store"]["state"] == "ok").await;
    let taken = "something else listens there (`showcase.listen`)";
    let page = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n<title>My printer</title>";
    let refusal = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    for (listen, expected) in [
        (another_program(page), taken),
        (another_program(refusal), taken),
        (another_program("no HTTP at all\n"), "gave no answer of one"),
        (format!("127.0.0.1:{}", free_port()), "does not listen at 127.0.0.1:"),
    ] {
        let listening = format!("{config}[showcase]\nlisten = \"{listen}\"\n");
        let (_, checks) = check(dir.path(), &listening);
        for name in ["sensor", "hub"] {
            assert_says(&checks, name, "warning", expected);
            assert_says(&checks, name, "warning", &listen);
            assert!(!checks.to_string().contains("set `showcase.listen`"), "{checks}");
        }
    }
}

/// Each in a folder of its own: the station, and what `check` says beside it once there is a reason.
async fn beside_an_offline_station(change: impl Fn(&Path, String) -> String, reason: &str, remedy: &str) {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = change(dir.path(), with_key_file(dir.path(), &hub));
    let station = Station::start(dir.path(), &config);
    let says = |status: &Value| status["cloud"]["reason"].as_str().is_some_and(|why| why.contains(reason));
    station.until(reason, Duration::from_secs(40), says).await;
    let (ended, checks) = check(dir.path(), &format!("{config}[showcase]\nlisten = \"{}\"\n", station.page));
    assert_eq!(ended, Some(1), "{checks}");
    assert_says(&checks, "hub", "failed", reason);
    assert_says(&checks, "hub", "failed", remedy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_an_offline_station_the_remedy_is_that_of_its_failure() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let other_key = |dir: &Path, config: String| {
        let key_file = dir.join("identity");
        let right = std::fs::read_to_string(&key_file).unwrap();
        let key = right.split("SharedAccessKey=").nth(1).unwrap().trim();
        let wrong = right.replace(key, "YW5vdGhlciBrZXkgb2YgdGhpcnR5LXR3byBieXRlcyE=");
        std::fs::write(&key_file, wrong).unwrap();
        config
    };
    let no_root = |_: &Path, config: String| config.replace("ca_file", "# ca_file");
    let no_name = |dir: &Path, config: String| {
        let key_file = dir.join("identity");
        let right = std::fs::read_to_string(&key_file).unwrap();
        std::fs::write(&key_file, right.replace("localhost", "no-such-hub.invalid")).unwrap();
        config
    };
    // It takes connections and says nothing.
    let silence = |_: &Path, config: String| {
        let hub = config.lines().find(|line| line.starts_with("port = ")).unwrap().to_owned();
        config.replace(&hub, &format!("port = {port}"))
    };
    tokio::join!(
        beside_an_offline_station(other_key, "401", "provision its key again with `--force`"),
        beside_an_offline_station(no_root, "invalid peer certificate", "into `hub.ca_file`"),
        beside_an_offline_station(no_name, "looking up no-such-hub.invalid", "`resolvectl status`"),
        beside_an_offline_station(silence, "did not answer within", "let TCP 5671 or 443 out"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_still_signs_in_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = with_key_file(dir.path(), &hub);
    hub.fault(Fault::PutTokenLate { millis: 3_000 });
    let station = Station::start(dir.path(), &config);
    station.until("it signs in", Duration::from_secs(20), |s| s["cloud"]["state"] == "connecting").await;
    let listening = format!("{config}[showcase]\nlisten = \"{}\"\n", station.page);
    let (ended, checks) = check(dir.path(), &listening);
    assert_eq!(ended, Some(0), "{checks}");
    assert_says(&checks, "hub", "ok", "localhost is online, says the running station");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_that_has_no_reason_yet_and_is_not_online_has_failed() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    let config = with_key_file(dir.path(), &hub);
    // Each step has its own limit: the first reason comes when `check` waits no longer.
    hub.fault(Fault::PutTokenLate { millis: 10_000 });
    hub.fault(Fault::AttachLate { link: LinkKind::Telemetry, millis: 60_000 });
    let station = Station::start(dir.path(), &config);
    station.until("it signs in", Duration::from_secs(20), |s| s["cloud"]["state"] == "connecting").await;
    let listening = format!("{config}[showcase]\nlisten = \"{}\"\n", station.page);
    let (ended, checks) = check(dir.path(), &listening);
    assert_eq!(ended, Some(1), "{checks}");
    assert_says(&checks, "hub", "failed", "localhost is ");
}
