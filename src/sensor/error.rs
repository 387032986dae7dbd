//! Everything that can keep the sensor from a reading, by name. Texts only: what to do about it is the task's
//! business.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::chain::chain;

/// Why there is no reading. None of these ever becomes a number.
#[derive(Debug, Error)]
pub enum SensorError {
    /// The bus device cannot be opened; the cause is the errno of `open`.
    #[error("cannot open the I2C bus {}; {}", path.display(), remedy(source))]
    Open { path: PathBuf, source: std::io::Error },
    /// Another process holds the lock on the bus: as a rule the running station.
    #[error("the I2C bus {} is in use by another process, most likely the running station", path.display())]
    Locked { path: PathBuf },
    /// The trace of the simulated sensor cannot be used.
    #[error("cannot replay the trace {}", path.display())]
    Trace { path: PathBuf, source: super::simulated::TraceError },
    /// A transfer failed.
    #[error("{} at {address:#04x} on {bus}", source.what())]
    Bus { bus: String, address: u8, source: BusError },
    /// Another chip answers.
    #[error("the chip at {address:#04x} on {bus} is {}, not a BME280 (0x60)", chip_name(*id))]
    NotBme280 { bus: String, address: u8, id: u8 },
    /// The calibration cannot be the one the factory wrote.
    #[error("the calibration of the chip at {address:#04x} on {bus} {what}: a bus fault or a broken chip")]
    Calibration { bus: String, address: u8, what: &'static str },
    /// The chip lost its settings (a brown-out or somebody else's reset); it has to be initialised again.
    #[error("the chip at {address:#04x} on {bus} was reset behind our back (a brown-out?)")]
    Reset { bus: String, address: u8 },
    /// A conversion does not end.
    #[error("the chip at {address:#04x} on {bus} was still busy {} ms after the longest conversion", over.as_millis())]
    StuckBusy { bus: String, address: u8, over: Duration },
    /// The registers hold what they hold after power-on.
    #[error("the chip at {address:#04x} on {bus} gave its power-on registers, which are no measurement")]
    PowerOn { bus: String, address: u8 },
    /// A channel was not measured.
    #[error("the chip at {address:#04x} on {bus} skipped the {channel} channel")]
    Skipped { bus: String, address: u8, channel: &'static str },
    /// The chip says something that it cannot measure.
    #[error("{quantity} of {value:.2} {unit} is outside the sensor's {lowest} to {highest} {unit}")]
    OutOfRange { quantity: &'static str, value: f64, unit: &'static str, lowest: f64, highest: f64 },
    /// The bus is not open (an earlier attempt to open it failed).
    #[error("the I2C bus is not open")]
    Closed,
    /// A call into the kernel does not return.
    #[error("a transfer on the I2C bus has not returned for {} s", after.as_secs())]
    Hung { after: Duration },
}

impl SensorError {
    /// Nobody is at that address.
    pub fn is_no_answer(&self) -> bool {
        matches!(self, Self::Bus { source: BusError::NO_ANSWER | BusError::NO_ANSWER_PI, .. })
    }

    /// A BME280 is there: it has said so, and then something that is no reading.
    pub fn is_answer(&self) -> bool {
        matches!(
            self,
            Self::Calibration { .. }
                | Self::Reset { .. }
                | Self::StuckBusy { .. }
                | Self::PowerOn { .. }
                | Self::Skipped { .. }
                | Self::OutOfRange { .. }
        )
    }
}

/// A transfer's failure as Linux reports it (<https://docs.kernel.org/i2c/fault-codes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{}", self.text())]
pub struct BusError(pub i32);

impl BusError {
    /// Nobody acknowledged the address.
    pub const NO_ANSWER: Self = Self(libc::ENXIO);
    /// The same, as the Raspberry Pi's controller says it.
    pub const NO_ANSWER_PI: Self = Self(libc::EREMOTEIO);
    pub const INPUT_OUTPUT: Self = Self(libc::EIO);
    pub const ARBITRATION_LOST: Self = Self(libc::EAGAIN);
    pub const TIMED_OUT: Self = Self(libc::ETIMEDOUT);
    /// The adapter behind an open device node has gone.
    pub const GONE: Self = Self(libc::ENODEV);

    fn what(self) -> &'static str {
        match self.0 {
            libc::ENXIO | libc::EREMOTEIO => "no answer",
            libc::EAGAIN => "arbitration lost",
            libc::ETIMEDOUT => "the bus timed out",
            libc::ENODEV => "the I2C adapter has gone",
            _ => "a transfer failed",
        }
    }

    fn text(self) -> String {
        let name = match self.0 {
            libc::ENXIO => "ENXIO",
            libc::EREMOTEIO => "EREMOTEIO",
            libc::EIO => "EIO",
            libc::EAGAIN => "EAGAIN",
            libc::ETIMEDOUT => "ETIMEDOUT",
            libc::ENODEV => "ENODEV",
            libc::EBUSY => "EBUSY",
            _ => return std::io::Error::from_raw_os_error(self.0).to_string(),
        };
        name.into()
    }
}

impl embedded_hal::i2c::Error for BusError {
    fn kind(&self) -> embedded_hal::i2c::ErrorKind {
        use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
        match self.0 {
            libc::ENXIO | libc::EREMOTEIO => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            libc::EAGAIN => ErrorKind::ArbitrationLoss,
            libc::EIO | libc::EBUSY => ErrorKind::Bus,
            _ => ErrorKind::Other,
        }
    }
}

/// The whole chain in one line, for people.
pub fn describe(error: &SensorError) -> String {
    match error {
        SensorError::Bus { source, .. } => format!("{error} ({source})"),
        _ => chain(error),
    }
}

fn chip_name(id: u8) -> String {
    match id {
        0x56..=0x58 => format!("a BMP280 ({id:#04x}, no humidity)"),
        0x61 => "a BME680 (0x61)".into(),
        0x00 | 0xFF => format!("unreadable (id {id:#04x}: the bus is stuck)"),
        _ => format!("unknown (id {id:#04x})"),
    }
}

fn remedy(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => {
            "switch I2C on (dtparam=i2c_arm=on, module i2c-dev) or correct sensor.bus"
        }
        Some(libc::EACCES | libc::EPERM) => "add the station's user to the group i2c",
        _ => "see the cause",
    }
}
