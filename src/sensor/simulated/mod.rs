//! A BME280 without the hardware, at the level of its registers, behind embedded-hal's I2C: the driver cannot
//! tell. It replays recorded weather and can be made to fail in every way that the real one does.
//! It knows neither the driver nor the tasks.

mod bus;
mod chip;
mod factory;
mod faults;
mod trace;

pub use self::bus::SimulatedSensor;
pub use self::chip::ADDRESS;
pub use self::faults::{BusFault, Channel};
pub use self::trace::{Trace, TraceError};
