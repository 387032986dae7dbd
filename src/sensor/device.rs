//! The chip from the async side: opens the bus, takes one measurement, repairs in three steps (again, set up,
//! reopen). Each call into the kernel is one short `spawn_blocking`; every wait is async.
//! It knows no schedule and nobody who wants the readings.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::driver::{Bme280, Fetched};
use super::error::{BusError, SensorError};
use super::registers::{RawTriple, longest_conversion};
use super::{Source, describe};
use crate::clock::Timekeeper;
use crate::config::Oversampling;
use crate::reading::{Measurement, Stamp};

/// After the longest conversion time the status bit is asked this often.
const POLL: Duration = Duration::from_millis(5);
/// And for this long, or once more the conversion time if that is longer, before the chip counts as stuck.
const PATIENCE: Duration = Duration::from_millis(100);
/// The first pause before another attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Most beginnings of a conversion take no longer than this: a dozen bytes at 100 kHz.
const BEGINNING: Duration = Duration::from_millis(2);
/// A transfer ends within a second by the kernel's own time-out: a call that takes this long hangs.
const LONGEST_CALL: Duration = Duration::from_secs(10);

/// One conversion, without offsets.
#[derive(Debug, Clone, PartialEq)]
pub struct Taken {
    /// Taken right before the conversion was begun.
    pub stamp: Stamp,
    pub raw: RawTriple,
    pub measurement: Measurement,
    /// What went wrong before it went right.
    pub overcome: Option<Overcome>,
}

/// A fault that another attempt overcame within one sample.
#[derive(Debug, Clone, PartialEq)]
pub struct Overcome {
    pub attempts: u32,
    pub reason: String,
}

/// The chip and the way to it.
pub struct Device {
    source: Source,
    address: Option<u8>,
    timekeeper: Timekeeper,
    state: State,
    /// Failures since the last measurement: how far up the ladder the next repair is.
    failures: u32,
    repair: Repair,
    answered: bool,
    longest_call: Duration,
}

enum State {
    Closed,
    Open(Bme280),
    /// A call has not returned. The chip comes back through the channel if it ever does; until then nothing
    /// else is opened, so that at most one thread can hang.
    Away(oneshot::Receiver<Bme280>, Instant),
}

/// What the next attempt does first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Repair {
    Nothing,
    SetUp,
    Reopen,
}

impl Device {
    pub fn new(source: Source, address: Option<u8>, timekeeper: Timekeeper) -> Self {
        Self {
            source,
            address,
            timekeeper,
            state: State::Closed,
            failures: 0,
            repair: Repair::Nothing,
            answered: false,
            longest_call: LONGEST_CALL,
        }
    }

    /// `BME280 at 0x76 on /dev/i2c-1`, once it has been found.
    pub fn chip(&self) -> Option<String> {
        match &self.state {
            State::Open(driver) => Some(driver.name()),
            _ => None,
        }
    }

    /// Whether the chip was ever there, with a reading or with something else.
    pub fn has_answered(&self) -> bool {
        self.answered
    }

    /// The next measurement opens the bus anew.
    pub fn close(&mut self) {
        self.repair = Repair::Reopen;
    }

    /// One measurement. Tries again, and repairs, until `deadline`; the error is the last one.
    pub async fn take(
        &mut self,
        oversampling: Oversampling,
        deadline: Instant,
    ) -> Result<Taken, SensorError> {
        let mut overcome = None;
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match self.try_once(oversampling).await {
                Ok(taken) => {
                    (self.failures, self.answered) = (0, true);
                    return Ok(Taken { overcome, ..taken });
                }
                Err(error) => error,
            };
            self.failures += 1;
            self.answered |= error.is_answer();
            self.repair = repair_for(&error, self.failures);
            tracing::debug!(error = describe(&error), attempt = self.failures, next = ?self.repair, "no measurement");
            // A reset is put right at once: it is no reason to wait.
            let wait =
                if self.failures == 1 && self.repair == Repair::SetUp { Duration::ZERO } else { pause };
            if Instant::now() + wait >= deadline || matches!(error, SensorError::Locked { .. }) {
                return Err(error);
            }
            let reason = || Overcome { attempts: 1, reason: describe(&error) };
            overcome.get_or_insert_with(reason).attempts += 1;
            sleep(wait).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    async fn try_once(&mut self, oversampling: Oversampling) -> Result<Taken, SensorError> {
        self.make_ready(oversampling).await?;
        let longest = longest_conversion(oversampling);
        let patience = PATIENCE.max(longest);
        let (stamp, begun) = self.begin(longest, patience).await?;
        sleep_until(begun + longest).await;
        let late = Instant::now() + patience;
        loop {
            let fetched = self.call(|driver| match driver.fetch()? {
                Fetched::StillMeasuring => Ok(None),
                Fetched::Raw(raw) => Ok(Some((raw, driver.compensate(raw)?))),
            });
            if let Some((raw, measurement)) = fetched.await? {
                return Ok(Taken { stamp, raw, measurement, overcome: None });
            }
            self.wait_for_chip(late, patience).await?;
        }
    }

    /// Begins a conversion, never while another one is running.
    async fn begin(
        &mut self,
        longest: Duration,
        patience: Duration,
    ) -> Result<(Stamp, Instant), SensorError> {
        let late = Instant::now() + patience;
        loop {
            let timekeeper = self.timekeeper.clone();
            let begun = self.call_unhurried(longest + BEGINNING, move |driver| {
                if driver.is_busy()? {
                    return Ok(None);
                }
                let stamp = timekeeper.stamp();
                driver.begin()?;
                Ok(Some((stamp, Instant::now())))
            });
            if let Some(begun) = begun.await? {
                return Ok(begun);
            }
            self.wait_for_chip(late, patience).await?;
        }
    }

    async fn wait_for_chip(&mut self, late: Instant, patience: Duration) -> Result<(), SensorError> {
        if Instant::now() >= late {
            return self.call(move |driver| Err(driver.stuck_busy(patience))).await;
        }
        sleep(POLL).await;
        Ok(())
    }

    async fn make_ready(&mut self, oversampling: Oversampling) -> Result<(), SensorError> {
        let repair = std::mem::replace(&mut self.repair, Repair::Nothing);
        let fits = match &self.state {
            State::Open(driver) if repair != Repair::Reopen => driver.oversampling() == oversampling,
            State::Open(_) | State::Closed => return self.open(oversampling).await,
            State::Away(..) => return self.call(|_| Ok(())).await,
        };
        if repair == Repair::SetUp || !fits {
            self.call(move |driver| driver.set_up(oversampling)).await?;
        }
        Ok(())
    }

    async fn open(&mut self, oversampling: Oversampling) -> Result<(), SensorError> {
        // The old handle goes first: it holds the lock.
        self.state = State::Closed;
        let (source, address) = (self.source.clone(), self.address);
        let (back, returned) = oneshot::channel();
        let opened = tokio::task::spawn_blocking(move || {
            let driver = Bme280::find(source.open()?, address, oversampling)?;
            // Nobody waits for it when the station is stopping.
            let _ = back.send(driver);
            Ok(())
        });
        self.finish(opened, returned).await
    }

    /// Runs a short blocking call on the open chip.
    async fn call<T: Send + 'static>(
        &mut self,
        call: impl FnOnce(&mut Bme280) -> Result<T, SensorError> + Send + 'static,
    ) -> Result<T, SensorError> {
        self.call_unhurried(Duration::ZERO, call).await
    }

    /// Like `call`, but sleeps `wait` before it looks: the task is not woken for the end of the call alone.
    async fn call_unhurried<T: Send + 'static>(
        &mut self,
        wait: Duration,
        call: impl FnOnce(&mut Bme280) -> Result<T, SensorError> + Send + 'static,
    ) -> Result<T, SensorError> {
        let mut driver = self.chip_back()?;
        let (back, returned) = oneshot::channel();
        let called = tokio::task::spawn_blocking(move || {
            let result = call(&mut driver);
            let _ = back.send(driver);
            result
        });
        if !wait.is_zero() {
            sleep(wait).await;
        }
        self.finish(called, returned).await
    }

    async fn finish<T>(
        &mut self,
        call: tokio::task::JoinHandle<Result<T, SensorError>>,
        mut returned: oneshot::Receiver<Bme280>,
    ) -> Result<T, SensorError> {
        let started = Instant::now();
        let Ok(joined) = timeout(self.longest_call, call).await else {
            self.state = State::Away(returned, started);
            return Err(SensorError::Hung { after: started.elapsed() });
        };
        if let Ok(driver) = returned.try_recv() {
            self.state = State::Open(driver);
        }
        joined.expect("a call on the bus does not panic and is not cancelled")
    }

    fn chip_back(&mut self) -> Result<Bme280, SensorError> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Open(driver) => Ok(driver),
            State::Closed => Err(SensorError::Closed),
            State::Away(mut returned, since) => match returned.try_recv() {
                Ok(driver) => Ok(driver),
                Err(oneshot::error::TryRecvError::Closed) => Err(SensorError::Closed),
                Err(oneshot::error::TryRecvError::Empty) => {
                    self.state = State::Away(returned, since);
                    Err(SensorError::Hung { after: since.elapsed() })
                }
            },
        }
    }
}

/// The ladder: again, set up, reopen; errors that say more start higher.
fn repair_for(error: &SensorError, failures: u32) -> Repair {
    match error {
        SensorError::Bus { source: BusError::GONE, .. } | SensorError::Closed => Repair::Reopen,
        _ if failures >= 3 => Repair::Reopen,
        SensorError::Reset { .. } | SensorError::PowerOn { .. } | SensorError::StuckBusy { .. } => {
            Repair::SetUp
        }
        _ if failures == 2 => Repair::SetUp,
        _ => Repair::Nothing,
    }
}

#[cfg(test)]
mod tests;
