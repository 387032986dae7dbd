//! The task that owns the store: takes samples in, answers questions, keeps house in between.
//! Every call of SQLite is one short blocking call; knows neither sensor nor network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::StoreError;
use super::handle::{Request, StoreHandle};
use super::keeper::Keeper;
use crate::clock::Timekeeper;
use crate::config;
use crate::observation::rfc3339;
use crate::reading::FromSensor;
use crate::settings::Settings;
use crate::status::Board;

/// Questions that may wait; those who ask wait with them.
const REQUESTS: usize = 64;
/// Samples that arrived while the disk was busy are synced together, at most so many.
const TOGETHER: usize = 256;
/// How often the house is kept when nothing else happens.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// Opens the store. It fails only when another station holds it: a store that cannot be opened is set aside, and
/// where there is no room or no folder the readings are kept in memory until there is.
pub fn open(
    config: &config::Store,
    timekeeper: &Timekeeper,
    run: Arc<str>,
) -> Result<(StoreTask, StoreHandle), StoreError> {
    let keeper = Keeper::open(config, timekeeper, run)?;
    let (requests_tx, requests_rx) = mpsc::channel(REQUESTS);
    let (synced_tx, synced_rx) = watch::channel(keeper.last_sequence());
    let task = StoreTask {
        max_loss: config.max_loss,
        keeper: Some(keeper),
        requests: requests_rx,
        synced: synced_tx,
    };
    Ok((task, StoreHandle { requests: requests_tx, synced: synced_rx }))
}

/// See [`open`].
#[derive(Debug)]
pub struct StoreTask {
    max_loss: Duration,
    /// Away only while a blocking call has it.
    keeper: Option<Keeper>,
    requests: mpsc::Receiver<Request>,
    synced: watch::Sender<u64>,
}

impl StoreTask {
    /// Runs until the samples have ended and are synced, and then until no handle remains or
    /// [`StoreHandle::close`] was called. `turns` counts the turns of the loop, for the watchdog.
    pub async fn run(
        mut self,
        mut samples: mpsc::Receiver<FromSensor>,
        board: Arc<Board>,
        _settings: watch::Receiver<Settings>,
        timekeeper: Timekeeper,
        turns: Arc<AtomicU64>,
    ) -> Result<(), StoreError> {
        let mut sampling = true;
        let mut asked = true;
        let mut closing: Vec<oneshot::Sender<Result<(), StoreError>>> = Vec::new();
        // The time by which what is in memory has to be on disk.
        let mut due: Option<Instant> = None;
        let mut housekeeping = Instant::now();
        while sampling || (asked && closing.is_empty()) {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or(housekeeping)), if due.is_some() => {
                    self.with(|keeper| keeper.sync()).await.ok();
                    due = None;
                }
                received = samples.recv(), if sampling => match received {
                    None => {
                        sampling = false;
                        self.with(|keeper| keeper.sync()).await.ok();
                        due = None;
                    }
                    Some(first) => {
                        self.take(first, &mut samples, &timekeeper).await;
                        due = due.or(Some(Instant::now() + self.max_loss));
                        if self.max_loss.is_zero() {
                            self.with(|keeper| keeper.sync()).await.ok();
                            due = None;
                        }
                    }
                },
                request = self.requests.recv(), if asked => match request {
                    None => asked = false,
                    Some(Request::Close { reply }) => closing.push(reply),
                    Some(request) => self.with(move |keeper| answer(keeper, request)).await,
                },
                () = sleep_until(housekeeping) => housekeeping = Instant::now() + HOUSEKEEPING,
            }
            self.publish(&board).await;
        }
        let result = self.with(|keeper| keeper.sync()).await;
        for reply in closing {
            reply.send(Ok(())).ok();
        }
        result
    }

    async fn take(
        &mut self,
        first: FromSensor,
        samples: &mut mpsc::Receiver<FromSensor>,
        timekeeper: &Timekeeper,
    ) {
        let mut next = Some(first);
        let mut taken = Vec::new();
        while let Some(item) = next {
            match item {
                FromSensor::Sample(sample) => taken.push(sample),
                FromSensor::Missed { count, from, until, reason } => {
                    let fields = json!({
                        "count": count, "from": rfc3339(from.time), "until": rfc3339(until.time), "reason": reason,
                    });
                    let fields = fields.as_object().cloned().unwrap_or_default();
                    let now = timekeeper.now();
                    self.with(move |keeper| record(keeper, "missedSamples", fields, now)).await.ok();
                }
            }
            next = if taken.len() < TOGETHER { samples.try_recv().ok() } else { None };
        }
        self.with(move |keeper| keeper.take(taken)).await;
    }

    async fn publish(&mut self, board: &Board) {
        let (status, last) = self.with(|keeper| (keeper.status(), keeper.last_sequence())).await;
        board.store.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
        self.synced.send_if_modified(|old| std::mem::replace(old, last) != last);
    }

    /// One short blocking call on the store.
    async fn with<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Keeper) -> T + Send + 'static) -> T {
        let mut keeper = self.keeper.take().expect("the keeper is back before the next call");
        let call = tokio::task::spawn_blocking(move || {
            let done = work(&mut keeper);
            (keeper, done)
        });
        match call.await {
            Ok((keeper, done)) => {
                self.keeper = Some(keeper);
                done
            }
            // A panic below is a defect; the station ends with it and systemd starts it anew.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

fn record(
    keeper: &mut Keeper,
    kind: &str,
    fields: Map<String, Value>,
    now: chrono::DateTime<chrono::Utc>,
) -> Result<(), StoreError> {
    keeper.open_database()?.record_event(kind, fields, now)
}

/// Whoever asked may have gone; then nobody wants the answer.
fn answer(keeper: &mut Keeper, request: Request) {
    let now = keeper.timekeeper.now();
    match request {
        Request::Pending { after, limit, reply } => drop(reply.send(keeper.pending(after, limit))),
        Request::Acknowledge { upto, reply } => {
            drop(reply.send(keeper.open_database().and_then(|database| database.acknowledge(upto))));
        }
        Request::DeadLetter { positions, condition, reply } => {
            let done =
                keeper.open_database().and_then(|database| database.dead_letter(&positions, &condition, now));
            drop(reply.send(done));
        }
        Request::RecordEvent { kind, fields, reply } => drop(reply.send(record(keeper, &kind, fields, now))),
        Request::PendingEvents { limit, reply } => {
            drop(reply.send(keeper.open_database().and_then(|database| database.pending_events(limit))));
        }
        Request::AcknowledgeEvents { upto, reply } => {
            drop(reply.send(keeper.open_database().and_then(|database| database.acknowledge_events(upto))));
        }
        Request::GetValue { key, reply } => {
            let value =
                keeper.open_database().and_then(|database| super::values::read(&database.connection, &key));
            drop(reply.send(value));
        }
        Request::SetValue { key, value, reply } => {
            let done = keeper
                .open_database()
                .and_then(|database| super::values::write(&database.connection, &key, value.as_deref()));
            drop(reply.send(done));
        }
        Request::History { since, until, step, reply } => {
            drop(
                reply.send(keeper.open_database().and_then(|database| database.history(since, until, step))),
            );
        }
        Request::Latest { reply } => {
            drop(reply.send(keeper.open_database().and_then(|database| database.latest())));
        }
        Request::Close { reply } => drop(reply.send(Ok(()))),
    }
}
