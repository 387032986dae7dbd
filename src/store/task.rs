//! The task that owns the store: takes samples in, answers questions, keeps house in between.
//! Every call of SQLite is one short blocking call; what is known without SQLite is answered without one. Knows
//! neither sensor nor network.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::StoreError;
use super::answer::{answer, answer_at_once};
use super::check::Check;
use super::database::Database;
use super::doubt::Unchecked;
use super::event_time;
use super::events::MISSED;
use super::handle::{Reply, Request, StoreHandle};
use super::house::{House, Rounds};
use super::keeper::Keeper;
use crate::clock::Timekeeper;
use crate::config;
use crate::reading::FromSensor;
use crate::settings::Settings;
use crate::status::Board;

/// Questions that may wait; those who ask wait with them.
const REQUESTS: usize = 64;
/// Samples that arrived while the disk was busy are synced together, at most so many.
const TOGETHER: usize = 256;
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
        rounds: Rounds::begin(timekeeper),
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
    rounds: Rounds,
}

impl StoreTask {
    /// Runs until the samples have ended and are synced, and then until no handle remains or
    /// [`StoreHandle::close`] was called. `turns` counts the turns of the loop, for the watchdog.
    pub async fn run(
        mut self,
        mut samples: mpsc::Receiver<FromSensor>,
        board: Arc<Board>,
        settings: watch::Receiver<Settings>,
        turns: Arc<AtomicU64>,
    ) -> Result<(), StoreError> {
        let mut sampling = true;
        let mut asked = true;
        let mut closing: Vec<Reply<()>> = Vec::new();
        let mut check = Check::default();
        let mut unchecked = self.with(&board, |_| ()).await.1;
        while sampling || (asked && closing.is_empty()) {
            if !check.is_running()
                && let Some(subject) = unchecked.take()
            {
                check.begin(subject);
            }
            turns.fetch_add(1, Ordering::Relaxed);
            let found = tokio::select! {
                received = samples.recv(), if sampling => {
                    sampling = received.is_some();
                    match received {
                        None => self.sync(&board).await,
                        Some(first) => {
                            let settings = settings.borrow().clone();
                            self.take(&board, first, &mut samples, &settings).await
                        }
                    }
                }
                request = self.requests.recv(), if asked => match request {
                    None => { asked = false; None }
                    Some(Request::Close { reply }) => { closing.push(reply); None }
                    Some(request) => self.answer(&board, request, &mut closing).await,
                },
                () = until(self.due), if self.due.is_some() => self.sync(&board).await,
                (subject, result) = check.done() => {
                    let unchecked = self.with(&board, move |keeper| keeper.checked(&subject, result)).await.1;
                    // Readings may have waited for it.
                    self.synced.send_modify(|_| {});
                    unchecked
                }
                () = sleep_until(self.rounds.due()) => {
                    let prune_after = settings.borrow().prune_after();
                    let keep_house = move |keeper: &mut Keeper| keeper.keep_house(prune_after);
                    let (house, unchecked) = self.with(&board, keep_house).await;
                    self.house_is_kept(house);
                    unchecked
                }
            };
            unchecked = found.or(unchecked);
        }
        check.stop().await;
        let closed = self.call(Keeper::close).await;
        for reply in closing {
            drop(reply.send(Ok(())));
        }
        closed
    }

    /// One question, and those that wait behind it up to the first that somebody looks at the charts with: of these one
    /// at a time, so that samples get their turn in between.
    async fn answer(
        &mut self,
        board: &Board,
        first: Request,
        closing: &mut Vec<Reply<()>>,
    ) -> Option<Unchecked> {
        let mut questions = Vec::new();
        let mut next = Some(first);
        while let Some(question) = next {
            let last = question.is_for_a_look() && !question.is_moot();
            match question {
                Request::Close { reply } => closing.push(reply),
                question if question.is_moot() => {}
                question if questions.is_empty() => questions.extend(self.answer_at_once(board, question)),
                question => questions.push(question),
            }
            next = if last { None } else { self.requests.try_recv().ok() };
        }
        if questions.is_empty() {
            return None;
        }
        let tells =
            |question: &Request| matches!(question, Request::RecordEvent { .. } | Request::DeadLetter { .. });
        let told = questions.iter().any(tells);
        let answer_all = move |keeper: &mut Keeper| {
            for question in questions {
                answer(keeper, question);
            }
        };
        let ((), unchecked) = self.with(board, answer_all).await;
        if told {
            self.synced.send_modify(|_| {});
        }
        unchecked
    }

    /// Without a blocking call; the question comes back where that cannot be.
    fn answer_at_once(&mut self, board: &Board, question: Request) -> Option<Request> {
        let Some(keeper) = &mut self.keeper else { return Some(question) };
        let left = answer_at_once(keeper, question).err();
        if left.is_none() {
            let pending = keeper.database.as_ref().map_or(0, Database::pending_count);
            board.store.send_if_modified(|status| {
                let all_accepted = pending == 0 && status.pending > 0;
                if all_accepted {
                    (status.pending, status.oldest_pending_time) = (0, None);
                }
                all_accepted
            });
        }
        left
    }

    /// One sample and those that wait behind it.
    async fn take(
        &mut self,
        board: &Board,
        first: FromSensor,
        samples: &mut mpsc::Receiver<FromSensor>,
        settings: &Settings,
    ) -> Option<Unchecked> {
        let mut taken = Vec::new();
        let mut missed = Vec::new();
        let mut next = Some(first);
        while let Some(item) = next {
            match item {
                FromSensor::Sample(sample) => taken.push(sample),
                FromSensor::Missed { count, from, until, reason } => {
                    missed.push((count, from, until, reason))
                }
            }
            next = if taken.len() < TOGETHER { samples.try_recv().ok() } else { None };
        }
        let told = !missed.is_empty();
        let at_once = self.max_loss.is_zero();
        let prune_after = settings.prune_after();
        let with_house = self.rounds.go_along_with_a_sample(settings.sample_interval);
        let keep = move |keeper: &mut Keeper| {
            for (count, from, until, reason) in missed {
                let now = keeper.timekeeper.stamp();
                let fields = event_time::missed(count, &from, &until, &reason, &now);
                keeper.keep_event(MISSED, fields);
            }
            keeper.take(taken);
            let synced = at_once.then(|| keeper.sync());
            (synced, with_house.then(|| keeper.keep_house(prune_after)))
        };
        let ((synced, house), unchecked) = self.with(board, keep).await;
        if let Some(house) = house {
            self.house_is_kept(house);
        }
        if told {
            self.synced.send_modify(|_| {});
        }
        match synced {
            Some(done) => self.try_again_after(&done),
            None => self.due = self.due.or(Some(Instant::now() + self.max_loss)),
        }
        unchecked
    }

    async fn sync(&mut self, board: &Board) -> Option<Unchecked> {
        let (done, unchecked) = self.with(board, Keeper::sync).await;
        self.try_again_after(&done);
        unchecked
    }

    fn house_is_kept(&mut self, House { more, released }: House) {
        self.rounds.done(more);
        if released {
            self.synced.send_modify(|_| {});
        }
    }

    /// What fails is tried again soon; the readings stay in memory meanwhile.
    fn try_again_after(&mut self, done: &Result<(), StoreError>) {
        self.due = done.is_err().then(|| Instant::now() + AGAIN);
    }

    /// One short blocking call on the store; then the board says how it is. Returns the database, too, when it has to
    /// be checked.
    async fn with<T: Send + 'static>(
        &mut self,
        board: &Board,
        work: impl FnOnce(&mut Keeper) -> T + Send + 'static,
    ) -> (T, Option<Unchecked>) {
        let (done, (status, last, unchecked)) = self
            .call(|keeper| (work(keeper), (keeper.status(), keeper.last_sequence(), keeper.take_unchecked())))
            .await;
        board.store.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
        self.synced.send_if_modified(|old| std::mem::replace(old, last) != last);
        (done, unchecked)
    }

    async fn call<T: Send + 'static>(&mut self, work: impl FnOnce(&mut Keeper) -> T + Send + 'static) -> T {
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
