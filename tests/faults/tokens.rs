//! Tokens: renewed on the open connection, retried while the old one holds, and what a station does without a signer.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use hub_emulator::{Emulator, Fault, OnExpiry, Options, TokenAnswer};
use weather_station::status::{CloudState, Failure};

use crate::account::account;
use crate::rig::{Plan, Rig, stranger, write_key};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A hub that takes a token not a second longer than it says.
fn strict_hub() -> Emulator {
    let mut options = Options::default();
    options.behaviour.skew = 0;
    let hub = Emulator::start(options).unwrap();
    hub.add_device("roof");
    hub
}

fn tokens_taken(hub: &Emulator) -> usize {
    hub.events_of("put-token").len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_renewals_while_a_backlog_drains_lose_and_delay_nothing() {
    let hub = strict_hub();
    let mut plan = Plan::new(&hub);
    plan.config.hub.token_lifetime = seconds(3);
    plan.config.telemetry.max_messages_per_second = 400;
    plan.every = None;
    let mut rig = Rig::start(&hub, plan);
    rig.append(4000).await;
    // 4,000 at 400 a second: ten seconds, a renewal each 2.4 s.
    let account = rig_finish(rig, &hub, seconds(20)).await;
    assert!(tokens_taken(&hub) >= 4, "{} tokens", tokens_taken(&hub));
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
    assert_eq!((account.readings, account.duplicates, account.late), (4000, 0, 0));
    let gap = longest_gap(&hub);
    assert!(gap < seconds(1), "nothing came for {gap:?}");
}

/// Between two neighbouring messages on record.
fn longest_gap(hub: &Emulator) -> Duration {
    let times: Vec<chrono::DateTime<chrono::Utc>> =
        hub.messages().iter().map(|message| message.received.parse().unwrap()).collect();
    times.windows(2).map(|pair| (pair[1] - pair[0]).to_std().unwrap_or_default()).max().unwrap_or_default()
}

async fn rig_finish(rig: Rig, hub: &Emulator, limit: Duration) -> crate::account::Account {
    rig.online(seconds(10)).await;
    rig.finish(hub, limit).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_renewal_is_tried_again_while_the_old_token_holds() {
    for answer in [TokenAnswer::ServerError, TokenAnswer::Unauthorized] {
        let hub = strict_hub();
        let mut plan = Plan::new(&hub);
        plan.config.hub.token_lifetime = seconds(6);
        let rig = Rig::start(&hub, plan);
        rig.online(seconds(10)).await;
        rig.until("word of its token", seconds(5), |s| s.token_expires.is_some()).await;
        let first = rig.cloud().token_expires.unwrap();
        hub.fault(Fault::PutToken { answer }.times(2));
        rig.until("the renewed token", seconds(8), |s| s.token_expires.is_some_and(|e| e > first)).await;
        assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
        let account = rig_finish(rig, &hub, seconds(5)).await;
        assert_eq!((account.missing.len(), account.duplicates), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_token_leads_to_a_fresh_one_however_the_hub_says_so() {
    for on_expiry in [OnExpiry::Detach, OnExpiry::Close, OnExpiry::Drop] {
        let hub = strict_hub();
        hub.set_behaviour(|behaviour| behaviour.on_expiry = on_expiry);
        let mut plan = Plan::new(&hub);
        plan.config.hub.token_lifetime = seconds(3);
        let rig = Rig::start(&hub, plan);
        rig.online(seconds(10)).await;
        // No renewal passes until the token has ended.
        hub.fault(Fault::PutToken { answer: TokenAnswer::ServerError });
        rig.until("the end of the token", seconds(6), |s| s.state != CloudState::Online).await;
        hub.clear_faults();
        rig.online(seconds(5)).await;
        let account = rig_finish(rig, &hub, seconds(5)).await;
        assert!(account.missing.is_empty());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signer_that_is_away_costs_nothing_while_the_token_holds() {
    let hub = strict_hub();
    let mut plan = Plan::new(&hub);
    plan.config.hub.token_lifetime = seconds(10);
    plan.limits.keep_alive = seconds(1);
    let rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    rig.until("word of its token", seconds(5), |s| s.token_renew_at.is_some()).await;
    let first = rig.cloud();
    // A key that others can read signs nothing, and says nothing of the identity.
    let mode = |mode| std::fs::set_permissions(&rig.key_file, Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    // The renewal is due and fails; the token has two seconds left.
    let due = first.token_renew_at.unwrap() - rig.timekeeper.now();
    tokio::time::sleep(due.to_std().unwrap() + Duration::from_millis(500)).await;
    assert_eq!(rig.cloud().state, CloudState::Online);
    mode(0o600);
    rig.until("the renewed token", seconds(4), |s| s.token_expires > first.token_expires).await;
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
    rig_finish(rig, &hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_was_taken_away_is_given_up_and_one_that_is_just_being_replaced_is_not() {
    let hub = strict_hub();
    let mut plan = Plan::new(&hub);
    (plan.limits.keep_alive, plan.limits.look) = (seconds(1), seconds(3));
    let rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    let text = std::fs::read_to_string(&rig.key_file).unwrap();
    std::fs::remove_file(&rig.key_file).unwrap();
    // The first look has found nothing, and the second finds it there again.
    tokio::time::sleep(seconds(2)).await;
    write_key(&rig.key_file, &text);
    tokio::time::sleep(seconds(4)).await;
    assert_eq!((rig.cloud().state, hub.events_of("connect").len()), (CloudState::Online, 1));

    std::fs::remove_file(&rig.key_file).unwrap();
    rig.until("the reason", seconds(6), |s| {
        let reason = s.reason.as_deref().unwrap_or_default();
        s.state == CloudState::Offline && reason.contains("there is no such file")
    })
    .await;
    let mut identity = rig.board.identity.subscribe();
    let told =
        tokio::time::timeout(seconds(2), identity.wait_for(|i| i.identity.is_none() && i.reason.is_some()));
    assert!(told.await.is_ok(), "{:?}", rig.board.identity.borrow());
    write_key(&rig.key_file, &text);
    rig_finish(rig, &hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_without_an_identity_says_so_and_signs_in_when_it_gets_one() {
    let hub = strict_hub();
    let mut rig = Rig::start(&hub, Plan::new(&hub));
    let text = std::fs::read_to_string(&rig.key_file).unwrap();
    rig.online(seconds(10)).await;
    rig.stop_cloud().await;
    assert_eq!(rig.cloud().state, CloudState::Offline);
    assert_eq!(rig.cloud().reason.as_deref(), Some("the station is ending"));

    let rig = Rig::start(&hub, Plan { device: "wall".into(), ..Plan::new(&hub) });
    std::fs::remove_file(&rig.key_file).unwrap();
    rig.until("the reason", seconds(5), |s| {
        s.reason.as_ref().is_some_and(|reason| reason.contains("find out who the station is"))
    })
    .await;
    assert!(rig.board.identity.borrow().reason.is_some());
    hub.add_device("wall");
    write_key(&rig.key_file, &text.replace(text.trim(), &hub.connection_string("wall").unwrap()));
    rig.online(seconds(5)).await;
    rig_finish(rig, &hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_station_is_online_moments_after_the_right_key_was_put_in() {
    let hub = strict_hub();
    // The right key for the same name, and another name.
    for device in ["wall", "roof"] {
        let mut plan = Plan { device: "wall".into(), ..Plan::new(&hub) };
        // Unhurried and with this seed it waits for 59 s after the second refusal.
        (plan.limits.hurry, plan.seed) = (1, 14);
        let mut rig = Rig::start(&hub, plan);
        rig.until("it waits for a human", seconds(15), |s| {
            s.reason.as_ref().is_some_and(|reason| reason.contains("or provision it again"))
        })
        .await;
        hub.add_device(device);
        write_key(&rig.key_file, &hub.connection_string(device).unwrap());
        rig.online(seconds(4)).await;
        rig.stop_cloud().await;
        hub.remove_device("wall");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_identity_is_picked_up_on_the_open_connection() {
    let hub = strict_hub();
    hub.add_device("attic");
    let mut plan = Plan::new(&hub);
    plan.limits.keep_alive = seconds(1);
    let mut rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    hub.wait_for(5, seconds(5)).await.unwrap();
    write_key(&rig.key_file, &hub.connection_string("attic").unwrap());
    let identity = rig.board.identity.subscribe();
    rig.until("the new identity", seconds(6), |s| {
        s.state == CloudState::Online
            && identity.borrow().identity.as_ref().is_some_and(|i| i.device_id == "attic")
    })
    .await;
    rig.quiet().await;
    rig.all_accepted(seconds(5)).await;
    let last = rig.board.store.borrow().last_sequence;
    let (roof, attic) = (account(&hub, "roof", last), account(&hub, "attic", last));
    assert!(attic.readings > 0);
    assert!(
        roof.missing.iter().all(|sequence| !attic.missing.contains(sequence)),
        "a reading went to neither"
    );
    rig.stop_cloud().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_key_under_the_same_name_ends_the_connection_and_the_same_key_does_not() {
    let hub = strict_hub();
    let mut plan = Plan::new(&hub);
    plan.limits.keep_alive = seconds(1);
    let mut rig = Rig::start(&hub, plan);
    rig.online(seconds(10)).await;
    let right = hub.connection_string("roof").unwrap();
    write_key(&rig.key_file, &right);
    tokio::time::sleep(seconds(3)).await;
    assert_eq!((rig.cloud().state, hub.events_of("connect").len()), (CloudState::Online, 1));

    write_key(&rig.key_file, &stranger("roof"));
    rig.until("the hub's word on the new key", seconds(5), |s| s.failure == Some(Failure::Identity)).await;
    write_key(&rig.key_file, &right);
    rig.online(seconds(5)).await;
    rig.quiet().await;
    rig.finish(&hub, seconds(5)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_the_hub_gives_back_is_not_waited_for() {
    let hub = strict_hub();
    hub.fault(Fault::PutTokenReleased);
    let mut plan = Plan::new(&hub);
    plan.limits.put_token = seconds(60);
    let rig = Rig::start(&hub, plan);
    let given_back = |reason: &String| reason.contains("gave the request back");
    rig.until("the reason", seconds(10), |status| status.reason.as_ref().is_some_and(given_back)).await;
    assert_eq!(rig.cloud().failure, Some(Failure::Hub), "{:?}", rig.cloud());
    hub.clear_faults();
    rig.online(seconds(10)).await;
    rig.finish(&hub, seconds(10)).await;
}
