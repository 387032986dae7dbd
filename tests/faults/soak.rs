//! Faults of every kind at random, one after the other and over each other, from a seed: nothing is lost, nothing
//! leaks. Short by default; with WEATHER_STATION_SLOW=1 an hour of the field's time, a hundred thousand readings.

use std::time::Duration;

use hub_emulator::{Certificate, Cut, Emulator, Fault, HubError, Options, TokenAnswer};
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};
use weather_station::config::Transport;

use crate::rig::{Plan, Rig, say};

/// A fault of any kind that the table has, and whether it strikes once.
fn any(random: &mut fastrand::Rng, sequences: u32) -> (Fault, bool) {
    let how = if random.bool() { Cut::Fin } else { Cut::Rst };
    let conditions = [
        "amqp:link:detach-forced",
        "amqp:internal-error",
        "amqp:unauthorized-access",
        "amqp:not-found",
        "amqp:resource-limit-exceeded",
        "amqp:connection:forced",
        "amqp:link:stolen",
        "com.microsoft:device-container-throttled",
        "com.microsoft:timeout",
    ];
    let error = HubError::new(conditions[random.usize(..conditions.len())]);
    match random.u32(..26) {
        0 | 1 => (Fault::Drop { how }, true),
        2 => (Fault::DetachLinks { link: None, error }, true),
        3 => (Fault::EndSessions { error }, true),
        4 => (Fault::CloseConnections { error }, true),
        5 | 6 => (Fault::AckLost { how }, true),
        7 => (Fault::CutOnTransfer { how }, true),
        8 => (Fault::BlackHole { existing: true, new: random.bool() }, false),
        9 => (Fault::Refuse, false),
        10 => (Fault::Certificate { certificate: Certificate::Expired }, false),
        11 => (Fault::PutToken { answer: TokenAnswer::Unauthorized }, false),
        12 => (Fault::PutToken { answer: TokenAnswer::ServerError }, false),
        13 => (Fault::PutToken { answer: TokenAnswer::Never }, false),
        14 => (Fault::PutTokenLate { millis: 300 }, false),
        15 => (Fault::RefuseAttach { link: None, error }, false),
        16 => (Fault::NoCredit, false),
        17 => (Fault::DispositionLate { millis: 400 }, false),
        18 => (Fault::DispositionNever, false),
        19 => (Fault::Release, false),
        20 => (Fault::Modify, false),
        21 => (Fault::Throttle { retry_after: random.bool().then_some(2) }, false),
        22 => (Fault::QuotaSpent, false),
        23 => (Fault::SilentAfterOpen, false),
        24 => {
            let text = format!("\"sequence\":{}}}", random.u32(1..sequences));
            (Fault::Poison { text, error: HubError::new("amqp:decode-error") }, false)
        }
        _ => (Fault::Certificate { certificate: Certificate::UnknownRoot }, false),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_lose_nothing_and_leak_nothing() {
    let slow = std::env::var_os("WEATHER_STATION_SLOW").is_some();
    let (length, per_burst) =
        if slow { (Duration::from_secs(180), 60) } else { (Duration::from_secs(12), 20) };
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_124);
    say(format_args!("soak: seed {seed}, {length:?}"));
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device("roof");
    let mut plan = Plan::new(&hub);
    plan.seed = seed;
    plan.limits.hurry = 60;
    plan.config.hub.transport = Transport::Auto;
    plan.config.hub.token_lifetime = Duration::from_secs(20);
    let mut rig = Rig::start(&hub, plan);
    let mut random = fastrand::Rng::with_seed(seed);
    let (started, mut faults) = (Instant::now(), 0);
    while started.elapsed() < length {
        let (fault, once) = any(&mut random, if slow { 100_000 } else { 3_000 });
        let id = if once { hub.fault(fault.times(1)) } else { hub.fault(fault) };
        faults += 1;
        let until = Instant::now() + Duration::from_millis(random.u64(30..700));
        while Instant::now() < until {
            rig.append(per_burst).await;
            sleep(Duration::from_millis(100)).await;
        }
        // Now and then it stays while the next one comes.
        if random.u32(..4) > 0 {
            hub.clear_fault(id);
        }
        if random.u32(..6) == 0 {
            hub.clear_faults();
        }
    }
    hub.clear_faults();
    let recovering = Instant::now();
    let account = rig.finish(&hub, Duration::from_secs(30)).await;
    say(format_args!(
        "soak: {faults} faults, {} readings, {} set aside, {} duplicates, recovered in {:?}",
        account.readings,
        account.missing.len(),
        account.duplicates,
        recovering.elapsed()
    ));
    assert!(!slow || account.readings > 90_000, "{}", account.readings);
    // The tasks of abandoned connections end by themselves.
    let limit = Instant::now() + Duration::from_secs(15);
    while Handle::current().metrics().num_alive_tasks() > tasks_before + 2 {
        let alive = Handle::current().metrics().num_alive_tasks();
        assert!(Instant::now() < limit, "{alive} tasks are alive, {tasks_before} before");
        sleep(Duration::from_millis(100)).await;
    }
}
