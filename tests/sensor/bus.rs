//! The real bus device, as far as a machine without one can show: how it is opened and locked.

use std::fs::File;

use rustix::fs::{FlockOperation, flock};
use weather_station::sensor::{DeviceBus, SensorError, describe};

#[test]
fn the_error_of_a_missing_bus_is_the_errno_of_open_with_a_remedy() {
    let error = DeviceBus::open("/dev/i2c-that-is-not-there".as_ref()).err().unwrap();
    assert_eq!(
        describe(&error),
        "cannot open the I2C bus /dev/i2c-that-is-not-there; switch I2C on (dtparam=i2c_arm=on, module i2c-dev) \
         or correct sensor.bus: No such file or directory (os error 2)"
    );
}

#[test]
fn what_is_not_a_bus_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = DeviceBus::open(file.path()).err().unwrap();
    assert!(matches!(error, SensorError::Open { .. }), "{error}");
    assert!(describe(&error).contains("Inappropriate ioctl for device"), "{}", describe(&error));
}

#[test]
fn a_bus_that_another_process_holds_is_locked() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let held = File::open(file.path()).unwrap();
    flock(&held, FlockOperation::LockExclusive).unwrap();
    let error = DeviceBus::open(file.path()).err().unwrap();
    assert!(matches!(error, SensorError::Locked { .. }));
    assert_eq!(
        error.to_string(),
        format!(
            "the I2C bus {} is in use by another process, most likely the running station",
            file.path().display()
        )
    );
}
