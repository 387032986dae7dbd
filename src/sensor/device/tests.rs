//! A call into the kernel that does not return. The rest of the device is tested through the task, in `tests/sensor`.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use chrono::DateTime;
use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorType, I2c, Operation};

use super::*;
use crate::clock::SystemClock;
use crate::sensor::Bus;
use crate::sensor::simulated::{SimulatedSensor, Trace};

/// A bus whose every transfer waits for a word from the test: a kernel call that does not return.
struct Hanging(Box<dyn Bus>, Arc<Mutex<mpsc::Receiver<()>>>);

impl Bus for Hanging {
    fn name(&self) -> &str {
        "a hanging bus"
    }

    fn delay(&self) -> Box<dyn DelayNs> {
        self.0.delay()
    }
}

impl ErrorType for Hanging {
    type Error = BusError;
}

impl I2c for Hanging {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        // Once the test has dropped its end, nothing hangs any more.
        let _ = self.1.lock().unwrap().recv();
        self.0.transaction(address, operations)
    }
}

#[tokio::test]
async fn a_call_that_does_not_return_is_an_error_and_no_second_one_is_started() {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
    let chip = SimulatedSensor::new(Trace::synthetic_day(), 1.0, timekeeper.clone());
    let (release, released) = mpsc::channel();
    let released = Arc::new(Mutex::new(released));
    let opened = Arc::new(Mutex::new(0));
    let source = Source::of({
        let opened = opened.clone();
        move || {
            *opened.lock().unwrap() += 1;
            Ok(Box::new(Hanging(chip.open()?, released.clone())))
        }
    });
    let mut device = Device::new(source, Some(0x76), timekeeper);
    device.longest_call = Duration::from_millis(50);
    let once = Oversampling::default();
    for _ in 0..3 {
        let error = device.take(once, Instant::now()).await.unwrap_err();
        assert!(matches!(error, SensorError::Hung { .. }), "{error}");
        assert!(error.to_string().starts_with("a transfer on the I2C bus has not returned for"));
    }
    assert_eq!(*opened.lock().unwrap(), 1, "one thread hangs, not one a sample");
    drop(release);
    device.longest_call = LONGEST_CALL;
    let deadline = Instant::now() + LONGEST_CALL;
    device.take(once, deadline).await.unwrap();
}

/// Counts how often whoever waits is woken.
async fn polls<T>(future: impl Future<Output = T>) -> (u32, T) {
    let mut future = std::pin::pin!(future);
    let mut polls = 0;
    let done = std::future::poll_fn(|context| {
        polls += 1;
        future.as_mut().poll(context)
    });
    let done = done.await;
    (polls, done)
}

/// Once for the end of the conversion, and once for the reading: not for the end of the call that began it.
#[tokio::test(start_paused = true)]
async fn a_measurement_wakes_its_task_twice() {
    let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
    let chip = SimulatedSensor::new(Trace::synthetic_day(), 1.0, timekeeper.clone());
    let mut device = Device::new(Source::of(move || chip.open()), Some(0x76), timekeeper);
    let once = Oversampling::default();
    let deadline = Instant::now() + LONGEST_CALL;
    device.take(once, deadline).await.unwrap();
    for _ in 0..10 {
        let (polls, taken) = polls(device.take(once, deadline)).await;
        taken.unwrap();
        assert!(polls <= 3, "polled {polls} times: when it began, and for each time it was woken");
    }
}
