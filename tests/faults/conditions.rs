//! Every condition of IoT Hub, each as the reason of a detached link, an ended session and a closed connection; and
//! every manner in which a hub may turn out the older connection of a device. Two things follow from a condition:
//! whether the station is back by the usual steps or stays away for minutes, and that nothing is lost either way.

use std::time::Duration;

use futures_util::StreamExt as _;
use hub_emulator::{Behaviour, Emulator, Fault, HubError, OnStolen, Options};
use tokio::time::Instant;
use weather_station::status::CloudState;

use crate::rig::{Plan, Rig, say};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Divides the waits: two minutes are four seconds, the longest first wait of all others (30 s) is one.
const HURRY: u32 = 30;
const BETWEEN: Duration = Duration::from_millis(2_500);

/// What comes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stays {
    Online,
    /// Away by the usual steps, which begin with seconds.
    Seconds,
    /// Away so long that two holders of one identity do not fight.
    Minutes,
}

/// All that IoT Hub and AMQP 1.0 name, and one that nobody does.
const CONDITIONS: &[(&str, Stays)] = &[
    ("amqp:link:stolen", Stays::Minutes),
    ("com.microsoft:link-creation-conflict", Stays::Minutes),
    ("amqp:unauthorized-access", Stays::Seconds),
    ("amqp:not-found", Stays::Seconds),
    ("amqp:resource-limit-exceeded", Stays::Seconds),
    ("amqp:not-allowed", Stays::Seconds),
    ("amqp:link:message-size-exceeded", Stays::Seconds),
    ("amqp:link:detach-forced", Stays::Seconds),
    ("amqp:link:transfer-limit-exceeded", Stays::Seconds),
    ("amqp:link:redirect", Stays::Seconds),
    ("amqp:connection:redirect", Stays::Seconds),
    ("amqp:connection:forced", Stays::Seconds),
    ("amqp:connection:framing-error", Stays::Seconds),
    ("amqp:session:window-violation", Stays::Seconds),
    ("amqp:session:errant-link", Stays::Seconds),
    ("amqp:session:handle-in-use", Stays::Seconds),
    ("amqp:session:unattached-handle", Stays::Seconds),
    ("amqp:internal-error", Stays::Seconds),
    ("amqp:resource-locked", Stays::Seconds),
    ("amqp:resource-deleted", Stays::Seconds),
    ("amqp:precondition-failed", Stays::Seconds),
    ("com.microsoft:precondition-failed", Stays::Seconds),
    ("amqp:illegal-state", Stays::Seconds),
    ("amqp:invalid-field", Stays::Seconds),
    ("amqp:decode-error", Stays::Seconds),
    ("amqp:not-implemented", Stays::Seconds),
    ("amqp:frame-size-too-small", Stays::Seconds),
    ("amqp:transaction:rollback", Stays::Seconds),
    ("amqp:transaction:timeout", Stays::Seconds),
    ("amqp:transaction:unknown-id", Stays::Seconds),
    ("com.microsoft:timeout", Stays::Seconds),
    ("com.microsoft:device-container-throttled", Stays::Seconds),
    ("com.microsoft:message-lock-lost", Stays::Seconds),
    ("com.microsoft:argument-error", Stays::Seconds),
    ("com.microsoft:argument-out-of-range", Stays::Seconds),
    ("com.microsoft:iot-hub-suspended", Stays::Seconds),
    ("com.microsoft:iot-hub-not-found-error", Stays::Seconds),
    ("com.microsoft:quota-exceeded", Stays::Seconds),
    ("com.microsoft:device-already-exists", Stays::Seconds),
    ("com.example:news", Stays::Seconds),
];

type Way = (&'static str, fn(HubError) -> Fault);

const WAYS: [Way; 3] = [
    ("detach", |error| Fault::DetachLinks { link: None, error }),
    ("end", |error| Fault::EndSessions { error }),
    ("close", |error| Fault::CloseConnections { error }),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_condition_on_link_session_and_connection_has_its_wait_and_loses_nothing() {
    let hub = Emulator::start(Options::default()).unwrap();
    let taken_over = HubError::new("amqp:connection:forced").code(400_027, "a newer connection");
    let cases = CONDITIONS.iter().map(|(condition, stays)| (HubError::new(condition), *stays));
    let cases: Vec<_> = std::iter::once((taken_over, Stays::Minutes))
        .chain(cases)
        .flat_map(|(error, stays)| WAYS.map(|(way, fault)| (way, fault(error.clone()), error.clone(), stays)))
        .collect();
    let hub = &hub;
    let runs = cases.into_iter().enumerate().map(|(number, (way, fault, error, stays))| async move {
        let device = format!("{way}-{number}");
        hub.add_device(&device);
        let rig = Rig::start(hub, plan(hub, &device));
        let strike = async || _ = hub.fault(fault.on(&device));
        (format!("{way}: {}", error.condition), run(rig, hub, stays, strike).await)
    });
    // As many at a time as two processors carry.
    let results: Vec<_> = futures_util::stream::iter(runs).buffer_unordered(40).collect().await;
    judge(results);
}

/// How the hub does it, with which condition, and what follows.
const TAKE_OVERS: &[(OnStolen, &str, Stays)] = &[
    (OnStolen::Detach, "amqp:link:stolen", Stays::Minutes),
    (OnStolen::Detach, "com.microsoft:link-creation-conflict", Stays::Minutes),
    (OnStolen::Detach, "amqp:connection:forced", Stays::Minutes),
    (OnStolen::Detach, "amqp:internal-error", Stays::Seconds),
    (OnStolen::DetachThenClose, "amqp:link:stolen", Stays::Minutes),
    (OnStolen::DetachThenClose, "com.microsoft:link-creation-conflict", Stays::Minutes),
    (OnStolen::DetachThenClose, "amqp:connection:forced", Stays::Minutes),
    (OnStolen::Close, "amqp:link:stolen", Stays::Minutes),
    (OnStolen::Drop, "amqp:link:stolen", Stays::Seconds),
    (OnStolen::Tolerate, "amqp:link:stolen", Stays::Online),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_station_with_the_identity_is_made_way_for_however_the_hub_says_so() {
    let runs = TAKE_OVERS.iter().map(|(manner, condition, stays)| async move {
        let mut options = Options::default();
        let behaviour: &mut Behaviour = &mut options.behaviour;
        (behaviour.on_stolen, behaviour.stolen_condition) = (*manner, (*condition).to_owned());
        let hub = Emulator::start(options).unwrap();
        hub.add_device("roof");
        let rig = Rig::start(&hub, plan(&hub, "roof"));
        let strike = async || {
            // It has nothing to send: all that arrives is the first one's.
            let mut second = Rig::start(&hub, plan(&hub, "roof"));
            second.online(seconds(10)).await;
            second.stop_cloud().await;
        };
        (format!("{manner:?} with {condition}"), run(rig, &hub, *stays, strike).await)
    });
    judge(futures_util::future::join_all(runs).await);
}

fn plan(hub: &Emulator, device: &str) -> Plan {
    let mut plan = Plan { device: device.to_owned(), every: None, ..Plan::new(hub) };
    plan.limits.hurry = HURRY;
    plan
}

/// Readings before, while it is away, and after; `strike` ends the connection, or not.
async fn run(mut rig: Rig, hub: &Emulator, stays: Stays, strike: impl AsyncFnOnce()) -> Result<(), String> {
    rig.append(5).await;
    rig.online(seconds(10)).await;
    rig.all_accepted(seconds(10)).await;
    strike().await;
    let (seen, reason) = if stays == Stays::Online {
        rig.append(5).await;
        rig.all_accepted(seconds(5)).await;
        let met = if rig.cloud().connections == 1 { Stays::Online } else { Stays::Seconds };
        (met, rig.cloud().reason)
    } else {
        rig.until("noticed", seconds(5), |s| s.state != CloudState::Online || s.connections > 1).await;
        let (noticed, reason) = (Instant::now(), rig.cloud().reason);
        rig.append(5).await;
        rig.until("an attempt", seconds(8), |s| s.state != CloudState::Offline).await;
        let met = if noticed.elapsed() > BETWEEN { Stays::Minutes } else { Stays::Seconds };
        (met, reason)
    };
    rig.online(seconds(5)).await;
    rig.append(5).await;
    let account = rig.finish(hub, seconds(5)).await;
    let reason = reason.unwrap_or_default();
    if seen != stays {
        return Err(format!("{seen:?}, expected {stays:?}; {reason}"));
    }
    if (stays == Stays::Minutes) != reason.contains("another station signs in with this identity") {
        return Err(format!("the reason is {reason:?}"));
    }
    match (account.readings, account.missing.len(), account.late) {
        (15, 0, 0) => Ok(()),
        (readings, missing, late) => Err(format!("{readings} readings, {missing} missing, {late} late")),
    }
}

fn judge(results: Vec<(String, Result<(), String>)>) {
    let count = results.len();
    let failed: Vec<_> = results
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|what| format!("{name}: {what}")))
        .collect();
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
    say(format_args!("{count} ways to lose a connection"));
}
