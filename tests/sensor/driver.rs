//! The driver's rules, each against the chip's registers.

use std::time::Duration;

use chrono::DateTime;
use tokio::time::{advance, sleep};
use weather_station::clock::Timekeeper;
use weather_station::config::Oversampling;
use weather_station::sensor::registers::{self, RawTriple, longest_conversion};
use weather_station::sensor::simulated::{ADDRESS, BusFault, Channel, SimulatedSensor, Trace};
use weather_station::sensor::{Bme280, Bus, Fetched, SensorError, describe};

use super::rig::{TRACE, TestClock};

const ONCE: Oversampling = Oversampling { temperature: 1, pressure: 1, humidity: 1 };

fn chip() -> SimulatedSensor {
    let timekeeper = Timekeeper::new(TestClock::new(), DateTime::UNIX_EPOCH);
    SimulatedSensor::new(Trace::parse(TRACE).unwrap(), 1.0, timekeeper)
}

fn found(chip: &SimulatedSensor, oversampling: Oversampling) -> Bme280 {
    Bme280::find(chip.open().unwrap(), None, oversampling).unwrap()
}

fn why_not_found(chip: &SimulatedSensor) -> String {
    let found = Bme280::find(chip.open().unwrap(), None, ONCE);
    describe(&found.err().expect("it is not found"))
}

fn data(bus: &mut dyn Bus) -> RawTriple {
    let mut data = [0; 8];
    bus.write_read(ADDRESS, &[registers::DATA], &mut data).unwrap();
    RawTriple::parse(data)
}

async fn measured(driver: &mut Bme280) -> Result<RawTriple, SensorError> {
    assert!(!driver.is_busy()?);
    driver.begin()?;
    sleep(longest_conversion(driver.oversampling())).await;
    match driver.fetch()? {
        Fetched::Raw(raw) => Ok(raw),
        Fetched::StillMeasuring => panic!("the longest conversion time has passed"),
    }
}

#[tokio::test(start_paused = true)]
async fn every_oversampling_of_every_channel_is_done_after_the_longest_time_and_not_before() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    for temperature in [1, 2, 4, 8, 16] {
        for pressure in [1, 2, 4, 8, 16] {
            for humidity in [1, 2, 4, 8, 16] {
                let oversampling = Oversampling { temperature, pressure, humidity };
                driver.set_up(oversampling).unwrap();
                driver.begin().unwrap();
                // The timer of the runtime counts whole milliseconds; the chip counts exactly.
                advance(longest_conversion(oversampling) - Duration::from_micros(1)).await;
                assert_eq!(driver.fetch().unwrap(), Fetched::StillMeasuring, "{oversampling:?}");
                advance(Duration::from_micros(1)).await;
                assert!(matches!(driver.fetch().unwrap(), Fetched::Raw(_)), "{oversampling:?}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn data_read_before_the_conversion_has_ended_is_the_previous_one_s_and_is_not_taken() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    let mut bus = chip.open().unwrap();
    let first = measured(&mut driver).await.unwrap();
    driver.begin().unwrap();
    assert_eq!(data(bus.as_mut()), first, "the chip still shows the previous conversion");
    assert_eq!(driver.fetch().unwrap(), Fetched::StillMeasuring);
    sleep(longest_conversion(ONCE)).await;
    let Fetched::Raw(second) = driver.fetch().unwrap() else { panic!("it has ended") };
    assert_ne!(second, first);
    assert_eq!(data(bus.as_mut()), second);
}

#[tokio::test(start_paused = true)]
async fn a_busy_chip_says_so_before_anything_is_begun() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    driver.begin().unwrap();
    assert!(driver.is_busy().unwrap());
    sleep(longest_conversion(ONCE)).await;
    assert!(!driver.is_busy().unwrap());
    assert_eq!(chip.begun_while_busy(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_power_on_registers_are_never_a_reading() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    chip.deafen(true);
    let error = measured(&mut driver).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the chip at 0x76 on the simulated bus gave its power-on registers, which are no measurement"
    );
    // And they would have passed for weather: this is why the rule is there.
    let weather = driver.compensate(RawTriple::POWER_ON).unwrap();
    assert!((weather.air_temperature.0 - 26.9).abs() < 1.0, "{weather:?}");
}

#[tokio::test(start_paused = true)]
async fn a_skipped_channel_is_an_error_with_its_name() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    let channels = [
        (Channel::Pressure, "pressure"),
        (Channel::Temperature, "temperature"),
        (Channel::Humidity, "humidity"),
    ];
    for (channel, name) in channels {
        chip.kill_channel(Some(channel));
        let error = measured(&mut driver).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("the chip at 0x76 on the simulated bus skipped the {name} channel")
        );
    }
    chip.kill_channel(None);
    measured(&mut driver).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_chip_skips_a_channel_that_was_not_asked_for() {
    // The simulated chip itself: humidity oversampling is in force only with the next write to ctrl_meas.
    let chip = chip();
    let mut bus = chip.open().unwrap();
    bus.write(ADDRESS, &[registers::CTRL_MEAS, 0b0010_0101, registers::CTRL_HUM, 1]).unwrap();
    sleep(Duration::from_millis(20)).await;
    assert_eq!(data(bus.as_mut()).humidity, registers::SKIPPED_16_BIT);
    assert_ne!(data(bus.as_mut()).pressure, registers::SKIPPED_20_BIT);
    bus.write(ADDRESS, &[registers::CTRL_MEAS, 0b0010_0101]).unwrap();
    sleep(Duration::from_millis(20)).await;
    assert_ne!(data(bus.as_mut()).humidity, registers::SKIPPED_16_BIT);
}

#[tokio::test(start_paused = true)]
async fn a_brown_out_is_noticed_before_and_during_a_conversion() {
    const RESET: &str = "the chip at 0x76 on the simulated bus was reset behind our back (a brown-out?)";
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    measured(&mut driver).await.unwrap();
    chip.brown_out();
    sleep(registers::START_UP).await;
    assert_eq!(driver.is_busy().unwrap_err().to_string(), RESET);
    driver.set_up(ONCE).unwrap();
    driver.begin().unwrap();
    chip.brown_out();
    sleep(longest_conversion(ONCE)).await;
    assert_eq!(driver.fetch().unwrap_err().to_string(), RESET);
    driver.set_up(ONCE).unwrap();
    measured(&mut driver).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_chip_is_named() {
    let chip = chip();
    chip.become_bmp280();
    assert_eq!(
        why_not_found(&chip),
        "the chip at 0x76 on the simulated bus is a BMP280 (0x58, no humidity), not a BME280 (0x60)"
    );
    chip.stick_lines(0xFF);
    assert_eq!(
        why_not_found(&chip),
        "the chip at 0x76 on the simulated bus is unreadable (id 0xff: the bus is stuck), not a BME280 (0x60)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_calibration_of_nothing_is_a_bus_fault() {
    let chip = chip();
    for byte in [0x00, 0xFF] {
        chip.overwrite_calibration(Some(byte));
        assert_eq!(
            why_not_found(&chip),
            format!(
                "the calibration of the chip at 0x76 on the simulated bus reads as nothing but {byte:#04X}: \
                 a bus fault or a broken chip"
            )
            .replace("0X", "0x")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_calibration_that_reads_differently_each_time_does_not_count() {
    let chip = chip();
    chip.flip_calibration_bits();
    assert_eq!(
        why_not_found(&chip),
        "the calibration of the chip at 0x76 on the simulated bus reads differently each time: \
         a bus fault or a broken chip"
    );
}

#[tokio::test(start_paused = true)]
async fn a_bus_fault_says_what_and_where() {
    let chip = chip();
    let mut driver = found(&chip, ONCE);
    let faults = [
        (BusFault::NoAnswer, "no answer at 0x76 on the simulated bus (ENXIO)"),
        (BusFault::InputOutput, "a transfer failed at 0x76 on the simulated bus (EIO)"),
        (BusFault::ArbitrationLost, "arbitration lost at 0x76 on the simulated bus (EAGAIN)"),
        (BusFault::TimedOut, "the bus timed out at 0x76 on the simulated bus (ETIMEDOUT)"),
    ];
    for (fault, text) in faults {
        chip.fail(fault, 1);
        assert_eq!(describe(&driver.is_busy().unwrap_err()), text);
    }
    chip.unplug();
    assert_eq!(
        describe(&driver.is_busy().unwrap_err()),
        "the I2C adapter has gone at 0x76 on the simulated bus (ENODEV)"
    );
    let opened = chip.open().err().expect("the node has gone");
    assert!(describe(&opened).ends_with("(os error 2)"), "{}", describe(&opened));
    chip.plug_in();
    assert!(driver.is_busy().is_err(), "an old handle stays dead");
    found(&chip, ONCE);
}

#[tokio::test(start_paused = true)]
async fn set_up_writes_the_oversampling_that_was_asked_for() {
    let chip = chip();
    let mut bus = chip.open().unwrap();
    let mut driver = found(&chip, Oversampling { temperature: 2, pressure: 16, humidity: 4 });
    let mut control = [0; 4];
    bus.write_read(ADDRESS, &[registers::CTRL_HUM], &mut control).unwrap();
    assert_eq!(control, [0b011, 0, 0b0101_0100, 0]);
    driver.set_up(ONCE).unwrap();
    bus.write_read(ADDRESS, &[registers::CTRL_HUM], &mut control).unwrap();
    assert_eq!(control, [0b001, 0, 0b0010_0100, 0]);
}
