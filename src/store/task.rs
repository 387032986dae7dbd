//! The task that owns the store: takes samples in, answers questions, keeps house in between.
//! Every call of SQLite is one short blocking call; knows neither sensor nor network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::StoreError;
use super::answer::answer;
use super::check::Check;
use super::handle::{Reply, Request, StoreHandle};
use super::keeper::{Keeper, Unchecked};
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
/// How often the house is kept when there is nothing to do.
const HOUSEKEEPING: Duration = Duration::from_secs(5);
/// What could not be put on disk is tried again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// Opens the store. It fails only when another station holds it: a store that is damaged is set aside, and where
/// there is no room or no folder the readings are kept in memory until there is.
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
        due: None,
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
    /// The time by which what is in memory has to be on disk.
    due: Option<Instant>,
}

impl StoreTask {
    /// Runs until the samples have ended and are synced, and then until no handle remains or
    /// [`StoreHandle::close`] was called. `turns` counts the turns of the loop, for the watchdog.
    pub async fn run(
        mut self,
        mut samples: mpsc::Receiver<FromSensor>,
        board: Arc<Board>,
        settings: watch::Receiver<Settings>,
        _timekeeper: Timekeeper,
        turns: Arc<AtomicU64>,
    ) -> Result<(), StoreError> {
        let mut sampling = true;
        let mut asked = true;
        let mut closing: Vec<Reply<()>> = Vec::new();
        let mut housekeeping = Instant::now();
        let mut check = Check::default();
        if let Some(unchecked) = self.publish(&board).await {
            check.begin(unchecked);
        }
        while sampling || (asked && closing.is_empty()) {
            turns.fetch_add(1, Ordering::Relaxed);
            tokio::select! {
                received = samples.recv(), if sampling => match received {
                    None => {
                        sampling = false;
                        self.sync().await.ok();
                    }
                    Some(first) => self.take(first, &mut samples).await,
                },
                request = self.requests.recv(), if asked => match request {
                    None => asked = false,
                    Some(Request::Close { reply }) => closing.push(reply),
                    Some(request) => {
                        let told = matches!(request, Request::RecordEvent { .. } | Request::DeadLetter { .. });
                        self.with(move |keeper| answer(keeper, request)).await;
                        if told {
                            self.synced.send_modify(|_| {});
                        }
                    }
                },
                () = until(self.due), if self.due.is_some() => drop(self.sync().await),
                (subject, result) = check.done() => {
                    self.with(move |keeper| keeper.checked(&subject, result)).await;
                }
                () = sleep_until(housekeeping) => {
                    let keep = settings.borrow().keep;
                    let held_back = self.with(|keeper| keeper.holds_back()).await;
                    let more = self.with(move |keeper| keeper.keep_house(keep)).await;
                    housekeeping = Instant::now() + if more { Duration::ZERO } else { HOUSEKEEPING };
                    if held_back && !self.with(|keeper| keeper.holds_back()).await {
                        self.synced.send_modify(|_| {});
                    }
                }
            }
            if let Some(unchecked) = self.publish(&board).await {
                check.begin(unchecked);
            }
        }
        check.stop().await;
        let closed = self.with(Keeper::close).await;
        for reply in closing {
            drop(reply.send(Ok(())));
        }
        closed
    }

    /// One sample and those that wait behind it.
    async fn take(&mut self, first: FromSensor, samples: &mut mpsc::Receiver<FromSensor>) {
        let mut taken = Vec::new();
        let mut missed = Vec::new();
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                FromSensor::Sample(sample) => taken.push(sample),
                FromSensor::Missed { count, from, until, reason } => missed.push(json!({
                    "count": count, "from": rfc3339(from.time), "until": rfc3339(until.time), "reason": reason,
                })),
            }
            next = if taken.len() < TOGETHER { samples.try_recv().ok() } else { None };
        }
        let told = !missed.is_empty();
        self.with(move |keeper| {
            for fields in missed {
                keeper.keep_event("missedSamples", fields.as_object().cloned().unwrap_or_default());
            }
            keeper.take(taken);
        })
        .await;
        if told {
            self.synced.send_modify(|_| {});
        }
        self.due = self.due.or(Some(Instant::now() + self.max_loss));
        if self.max_loss.is_zero() {
            self.sync().await.ok();
        }
    }

    /// What fails is tried again soon; the readings stay in memory meanwhile.
    async fn sync(&mut self) -> Result<(), StoreError> {
        let done = self.with(Keeper::sync).await;
        self.due = done.is_err().then(|| Instant::now() + AGAIN);
        done
    }

    /// Returns the database when it has to be checked.
    async fn publish(&mut self, board: &Board) -> Option<Unchecked> {
        let (status, last, unchecked) =
            self.with(|keeper| (keeper.status(), keeper.last_sequence(), keeper.take_unchecked())).await;
        board.store.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
        self.synced.send_if_modified(|old| std::mem::replace(old, last) != last);
        unchecked
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
            Err(error) => match error.try_into_panic() {
                // A panic below is a defect; the station ends with it and systemd starts it anew.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends before the call began: nobody waits for the answer.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
