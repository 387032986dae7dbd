//! The sensor task: samples on the schedule, answers requests, follows the settings, accounts for what it missed.
//! What comes out goes into a bounded channel; who takes it from there it does not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::device::{Device, Overcome, Taken};
use super::error::describe;
use super::missed::Missed;
use super::plausibility::Judge;
use super::schedule::{Jitter, Schedule};
use super::suspended::Suspended;
use super::{Source, with_offset};
use crate::clock::Timekeeper;
use crate::hourly::Hourly;
use crate::observation::LastReading;
use crate::reading::{FromSensor, Sample, SensorRequest, Stamp};
use crate::settings::Settings;
use crate::status::{Board, SensorState};

/// The watchdog sees a turn at least this often, however long the interval.
const LONGEST_TURN: Duration = Duration::from_secs(5);
/// A sample is tried for, and its chip repaired, for half the interval but no longer than this.
const LONGEST_TRY: Duration = Duration::from_secs(10);
/// Somebody waits for the answer.
const LONGEST_REQUEST: Duration = Duration::from_secs(3);
/// Requests answered from one measurement, at most.
const MOST_ANSWERED: usize = 64;
/// Samples missed in a row after which an open episode is logged.
const LONG_EPISODE: u64 = 3;
/// How long a stopping task still offers what it holds to the store.
const LAST_OFFER: Duration = Duration::from_secs(2);

/// What the task needs; [`Task::run`] ends when `stop` turns true, and drops the sender of the samples.
pub struct Task {
    pub source: Source,
    /// 0x76 or 0x77; none: whichever answers.
    pub address: Option<u8>,
    pub settings: watch::Receiver<Settings>,
    pub timekeeper: Timekeeper,
    pub board: Arc<Board>,
    pub samples: mpsc::Sender<FromSensor>,
    pub requests: mpsc::Receiver<SensorRequest>,
    pub stop: watch::Receiver<bool>,
    /// Counted up by every turn of the loop, for the watchdog.
    pub turns: Arc<AtomicU64>,
}

impl Task {
    pub async fn run(self) {
        Running::new(self).run().await;
    }
}

struct Running {
    task: Task,
    settings: Settings,
    device: Device,
    schedule: Schedule,
    jitter: Jitter,
    judge: Judge,
    missed: Missed,
    /// Overcome, and told.
    faults: Hourly,
    /// When the loop last turned.
    last_turn: Stamp,
    suspended: Suspended,
    /// A reading was asked for since the last one of the schedule.
    was_asked: bool,
}

/// Why the loop ends.
struct Ended;

impl Running {
    fn new(mut task: Task) -> Self {
        let settings = task.settings.borrow_and_update().clone();
        let (now, stamp) = (Instant::now(), task.timekeeper.stamp());
        Self {
            device: Device::new(task.source.clone(), task.address, task.timekeeper.clone()),
            schedule: Schedule::new(settings.sample_interval, now),
            jitter: Jitter::default(),
            judge: Judge::default(),
            missed: Missed::default(),
            faults: Hourly::default(),
            suspended: Suspended::begin(now, stamp.since_boot),
            last_turn: stamp,
            was_asked: false,
            settings,
            task,
        }
    }

    async fn run(mut self) {
        while self.turn().await.is_ok() {}
        if let Some(missed) = self.missed.end() {
            // Full: the store has stopped taking; then it cannot take this either.
            let _ = timeout(LAST_OFFER, self.task.samples.send(missed)).await;
        }
    }

    /// Waits for whatever comes first, and deals with it.
    async fn turn(&mut self) -> Result<(), Ended> {
        self.task.turns.fetch_add(1, Ordering::Relaxed);
        self.count_suspended();
        let due = self.schedule.due();
        let wake = self.task.timekeeper.end_of_turn(LONGEST_TURN, Some(due));
        let mut requests = Vec::new();
        tokio::select! {
            biased;
            () = stopped(&mut self.task.stop) => Err(Ended),
            changed = self.task.settings.changed() => {
                if changed.is_err() {
                    return Err(Ended);
                }
                self.follow_settings();
                Ok(())
            }
            // Before the requests: however many people ask, the schedule goes on.
            () = sleep_until(wake) => {
                if due <= Instant::now() { self.sample().await } else { Ok(()) }
            }
            1.. = self.task.requests.recv_many(&mut requests, MOST_ANSWERED) => self.answer(requests).await,
        }
    }

    /// One sample of the schedule.
    async fn sample(&mut self) -> Result<(), Ended> {
        let due = self.schedule.due();
        let started = Instant::now();
        let before = self.task.timekeeper.stamp();
        let patience = (self.settings.sample_interval / 2).min(LONGEST_TRY);
        let taken = match self.take(started + patience).await {
            Ok(taken) => taken,
            Err(Ended) => {
                // It belongs to what the last event tells. A lone one is begun anew by the next start.
                if self.missed.is_open() {
                    self.miss(1, before, "the station stopped".into());
                }
                return Err(Ended);
            }
        };
        match taken {
            Ok(taken) => {
                self.jitter.add(started.saturating_duration_since(due));
                self.deliver(taken).await?;
            }
            Err(reason) => self.miss(1, before, reason),
        }
        let passed = self.schedule.advance(Instant::now());
        let was_asked = std::mem::take(&mut self.was_asked);
        if passed > 0 {
            let late = started.saturating_duration_since(due);
            let reason = match (late < self.settings.sample_interval, was_asked) {
                (true, _) => "the sample before took longer than the interval",
                (false, true) => "a reading that was asked for took longer than the interval",
                (false, false) => "the station could not run in time",
            };
            self.miss(passed, before.earlier(late), reason.into());
        }
        Ok(())
    }

    /// A measurement, or why there is none; ends at once when the station stops.
    async fn take(&mut self, deadline: Instant) -> Result<Result<Taken, String>, Ended> {
        let mut take = std::pin::pin!(self.device.take(self.settings.oversampling, deadline));
        loop {
            tokio::select! {
                biased;
                () = stopped(&mut self.task.stop) => return Err(Ended),
                taken = &mut take => return Ok(taken.map_err(|error| describe(&error))),
                // Its waits are bounded, so that this is a turn as well.
                () = sleep(LONGEST_TURN) => self.task.turns.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Offsets, judgement, status; then the channel.
    async fn deliver(&mut self, taken: Taken) -> Result<Sample, Ended> {
        let Taken { stamp, raw, measurement, overcome } = taken;
        let Settings { sample_interval, oversampling, offset, altitude, .. } = self.settings;
        let quality = self.judge.judge(stamp.since_boot, raw, measurement, sample_interval, oversampling);
        let sample = Sample { stamp, measurement: with_offset(measurement, offset), quality };
        if let Some(missed) = self.missed.end() {
            if let FromSensor::Missed { count, from, reason, .. } = &missed {
                let seconds = stamp.since_boot.saturating_sub(from.since_boot).as_secs_f32();
                tracing::warn!(missed = count, seconds, reason, "the sensor is back");
            }
            self.offer(missed).await?;
        } else if let Some(Overcome { attempts, reason }) = overcome
            && self.faults.first_this_hour(reason.clone())
        {
            // A loose wire may have thousands a day.
            tracing::warn!(attempts, reason, "a fault of the sensor cost another attempt and no sample");
        }
        tracing::debug!(?sample, "sampled");
        let last_reading = LastReading { sample, device_id: self.task.board.device_id(), altitude };
        let (jitter_median, jitter_worst) = self.jitter.milliseconds();
        let chip = self.device.chip();
        self.task.board.sensor.send_modify(|status| {
            status.state = SensorState::Ok;
            status.reason = None;
            status.chip = chip;
            status.last_reading = Some(last_reading);
            status.taken += 1;
            status.jitter_median = jitter_median;
            status.jitter_worst = jitter_worst;
        });
        self.offer(FromSensor::Sample(sample)).await?;
        Ok(sample)
    }

    /// Into the bounded channel. While it is full the sensor waits, and the due times that pass are counted: the
    /// store decides what happens to readings, not this task.
    async fn offer(&mut self, message: FromSensor) -> Result<(), Ended> {
        loop {
            self.task.turns.fetch_add(1, Ordering::Relaxed);
            match timeout(LONGEST_TURN, self.task.samples.reserve()).await {
                Ok(Ok(permit)) => {
                    permit.send(message);
                    return Ok(());
                }
                Ok(Err(_)) => return Err(Ended),
                Err(_) if *self.task.stop.borrow() => {
                    tracing::error!("the store did not take the last sample before the station stopped");
                    return Err(Ended);
                }
                Err(_) => tracing::debug!("the store does not take samples at the moment"),
            }
        }
    }

    fn miss(&mut self, count: u64, from: Stamp, reason: String) {
        let until = self.task.timekeeper.stamp();
        let so_far = self.missed.add(count, from, until, &reason);
        let ever_read = self.task.board.sensor.borrow().taken > 0;
        // A short episode is told by the line at its end. A long one should not stay unknown until then.
        let (before_this, worth_a_line) = (so_far - count, if ever_read { LONG_EPISODE } else { 1 });
        if before_this < worth_a_line && so_far >= worth_a_line {
            tracing::warn!(missed = so_far, reason, "no readings from the sensor; it is tried again");
        }
        let (total, answered) = (self.missed.total(), self.device.has_answered());
        self.task.board.sensor.send_modify(|status| {
            status.missed = total;
            // Absent until it has once been there.
            status.state = if answered { SensorState::Failing } else { SensorState::Absent };
            status.reason = Some(reason);
        });
    }

    fn count_suspended(&mut self) {
        let (now, stamp) = (Instant::now(), self.task.timekeeper.stamp());
        let before = std::mem::replace(&mut self.last_turn, stamp);
        let slept_through =
            self.suspended.slept_through(self.settings.sample_interval, now, stamp.since_boot);
        if slept_through > 0 {
            self.miss(slept_through, before, "the machine was suspended".into());
        }
    }

    fn follow_settings(&mut self) {
        let settings = self.task.settings.borrow_and_update().clone();
        if settings.sample_interval != self.settings.sample_interval {
            let now = Instant::now();
            self.schedule.set_interval(settings.sample_interval, now);
            self.suspended = Suspended::begin(now, self.task.timekeeper.since_boot());
        }
        // The chip is set up for another oversampling before the next sample; offsets apply to it as well.
        self.settings = settings;
    }

    /// All of them from one measurement, which begins after they were asked.
    async fn answer(&mut self, requests: Vec<SensorRequest>) -> Result<(), Ended> {
        self.was_asked = true;
        let deadline = Instant::now() + LONGEST_REQUEST;
        if requests.iter().any(|request| matches!(request, SensorRequest::Restart(_))) {
            self.device.close();
        }
        let sample = match self.take(deadline).await? {
            Ok(taken) => Ok(self.deliver(taken).await?),
            Err(reason) => Err(reason),
        };
        for request in requests {
            match request {
                // Whoever asked may have gone.
                SensorRequest::ReadNow(answer) => drop(answer.send(sample.clone())),
                SensorRequest::Restart(answer) => drop(answer.send(sample.clone().map(drop))),
            }
        }
        Ok(())
    }
}

/// Returns when the station stops, also when whoever would say so has gone.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
