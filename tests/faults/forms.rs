//! What is not known of a real hub: the station has to pass with each known form.

use std::time::Duration;

use futures_util::future::join_all;
use hub_emulator::{Behaviour, Cut, Emulator, Fault, Options};

use crate::rig::{Plan, Rig};

type Form = (&'static str, fn(&mut Behaviour));

const FORMS: &[Form] = &[
    ("put-token answered 202", |hub| hub.put_token_status = 202),
    ("credit 1", |hub| hub.credit = 1),
    ("credit 2", |hub| hub.credit = 2),
    ("credit 7", |hub| hub.credit = 7),
    ("credit 1000", |hub| hub.credit = 1000),
    ("no idle time-out", |hub| hub.idle_time_out = 0),
    ("a strict idle time-out", |hub| hub.idle_time_out = 3000),
    ("idle time-out of 120 s", |hub| hub.idle_time_out = 120_000),
    ("TLS 1.2 only", |hub| hub.tls12_only = true),
    ("a client certificate is asked for", |hub| hub.ask_client_certificate = true),
    ("TLS 1.2 and a client certificate", |hub| {
        hub.tls12_only = true;
        hub.ask_client_certificate = true;
    }),
    ("refusals with a null terminus", |hub| hub.null_terminus = true),
    ("flows without next-incoming-id", |hub| hub.bare_flow = true),
    ("a link that takes 256 KB", |hub| hub.max_message_size = 262_144),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_station_passes_with_every_known_form_of_the_hub() {
    let runs = FORMS.iter().map(|(name, form)| async move { (*name, tokio::spawn(run(*form)).await) });
    let failed: Vec<_> = join_all(runs)
        .await
        .into_iter()
        .filter_map(|(name, result)| result.err().map(|error| format!("{name}: {error}")))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

async fn run(form: fn(&mut Behaviour)) {
    let mut options = Options::default();
    options.behaviour.skew = 0;
    form(&mut options.behaviour);
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    let mut plan = Plan::new(&hub);
    plan.config.hub.token_lifetime = Duration::from_secs(4);
    let mut rig = Rig::start(&hub, plan);
    rig.append(300).await;
    rig.online(Duration::from_secs(10)).await;
    hub.wait_for(300, Duration::from_secs(10)).await.unwrap();
    // Two renewals and a silence longer than the strictest time-out.
    rig.quiet().await;
    tokio::time::sleep(Duration::from_secs(7)).await;
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected: {:?}", hub.events());
    hub.fault(Fault::Drop { how: Cut::Rst });
    let account = {
        rig.until("the loss", Duration::from_secs(2), |status| status.connections > 1).await;
        rig.finish(&hub, Duration::from_secs(5)).await
    };
    assert!(account.missing.is_empty() && account.late == 0);
}

/// Whoever counts by the rules may then send 5,000 frames in one session.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_window_is_never_renewed_costs_a_new_connection_and_no_reading() {
    let mut options = Options::default();
    options.behaviour.bare_flow = true;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    let mut plan = Plan { every: None, ..Plan::new(&hub) };
    plan.config.telemetry.batch = 1;
    plan.limits.send = Duration::from_secs(1);
    let mut rig = Rig::start(&hub, plan);
    rig.append(5_050).await;
    rig.until("a second connection", Duration::from_secs(15), |status| status.connections == 2).await;
    let account = rig.finish(&hub, Duration::from_secs(10)).await;
    assert_eq!((account.readings, account.missing.len(), account.late), (5_050, 0, 0));
    assert_eq!(hub.events_of("connect").len(), 2);
}
