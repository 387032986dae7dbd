//! The seam to the hardware: any embedded-hal I2C bus, and the one on a Linux device node, held under a lock so
//! that two processes never talk to the chip at once. Knows no chip.

use std::fs::{File, OpenOptions};
use std::path::Path;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorType, I2c, Operation};
use linux_embedded_hal::{Delay, I2cdev};
use rustix::fs::{FlockOperation, flock};

use super::error::{BusError, SensorError};

/// A bus and its name for people. The calls block for a few milliseconds: they belong in `spawn_blocking`.
pub trait Bus: I2c<Error = BusError> + Send {
    /// `/dev/i2c-1`.
    fn name(&self) -> &str;
    /// Waits of a millisecond or two, by the clock that the chip lives by.
    fn delay(&self) -> Box<dyn DelayNs>;
}

/// A bus behind `/dev/i2c-*`. Reopening means dropping it and opening another one.
pub struct DeviceBus {
    name: String,
    device: I2cdev,
    /// Holds the lock: `I2cdev` opens the node anew for each address, so the lock needs a handle of its own.
    _lock: File,
}

impl DeviceBus {
    /// Opens and locks the bus. The path is opened, never stat'ed: the error is the errno of `open`.
    pub fn open(path: &Path) -> Result<Self, SensorError> {
        let failed = |source| SensorError::Open { path: path.into(), source };
        let lock = OpenOptions::new().read(true).write(true).open(path).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(SensorError::Locked { path: path.into() }),
            Err(errno) => return Err(failed(errno.into())),
        }
        let device = I2cdev::new(path).map_err(|error| failed(error.into()))?;
        Ok(Self { name: path.display().to_string(), device, _lock: lock })
    }
}

impl Bus for DeviceBus {
    fn name(&self) -> &str {
        &self.name
    }

    fn delay(&self) -> Box<dyn DelayNs> {
        Box::new(Delay)
    }
}

impl ErrorType for DeviceBus {
    type Error = BusError;
}

impl I2c for DeviceBus {
    fn transaction(&mut self, address: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        I2c::<u8>::transaction(&mut self.device, address, operations).map_err(|error| {
            use linux_embedded_hal::i2cdev::linux::LinuxI2CError;
            match error.inner() {
                LinuxI2CError::Errno(errno) => BusError(*errno),
                LinuxI2CError::Io(error) => BusError(error.raw_os_error().unwrap_or(libc::EIO)),
            }
        })
    }
}
