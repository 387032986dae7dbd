//! `/metrics` in the Prometheus text format. Every name carries its unit; `# HELP` says what it is.
//! Made anew from the status document at each scrape: no second set of counters that could differ.

use std::fmt::Error;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::routes::Shared;
use crate::clock::ClockState;
use crate::status::{CloudState, Document, SensorState, StoreState};

const KIND: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PREFIX: &str = "weather_station";

/// One scrape.
pub async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match text(shared.board.document(&shared.timekeeper)) {
        Ok(text) => ([(header::CONTENT_TYPE, KIND)], text).into_response(),
        Err(Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text(document: Document) -> Result<String, Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(Scrape(document)));
    let mut text = String::with_capacity(8 * 1024);
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct Scrape(Document);

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), Error> {
        let Self(document) = self;
        let mut page = Page(encoder);
        page.info("build", "Version of the station", vec![("version", document.version)])?;
        weather(&mut page, document)?;
        sensor(&mut page, document)?;
        store(&mut page, document)?;
        cloud(&mut page, document)?;
        let trusted = document.clock.state != ClockState::Wrong;
        page.flag("clock_trusted", "Whether the clock can be right (synchronised or plausible)", trusted)?;
        let synchronised = document.clock.state == ClockState::Synchronised;
        page.flag(
            "clock_synchronised",
            "Whether the kernel says that the clock is synchronised",
            synchronised,
        )?;
        outlook(&mut page, document)
    }
}

fn weather(page: &mut Page<'_>, document: &Document) -> Result<(), Error> {
    let Some(last) = &document.sensor.last_reading else { return Ok(()) };
    let shown = last.observation();
    let pascal = || Unit::Other("pascals".into());
    page.measured("air_temperature", "Last air temperature", Unit::Celsius, Some(shown.current_temperature))?;
    let humidity = Some(shown.current_humidity / 100.0);
    page.measured("relative_humidity", "Last relative humidity, 0 to 1", Unit::Ratios, humidity)?;
    let pressure = Some(shown.current_pressure * 1_000.0);
    page.measured("station_pressure", "Last pressure at the barometer", pascal(), pressure)?;
    let sea_level = shown.sea_level_pressure.map(|kilopascal| kilopascal * 1_000.0);
    page.measured("sea_level_pressure", "Last pressure reduced to sea level", pascal(), sea_level)?;
    page.measured("dew_point", "Last dew point", Unit::Celsius, shown.dew_point)?;
    let suspect = shown.quality.is_some();
    page.flag("last_reading_suspect", "Whether a plausibility rule doubts the last reading", suspect)?;
    let time = Some(last.sample.stamp.time);
    page.moment("last_reading_timestamp", "When the last reading was taken (Unix time)", time)
}

fn sensor(page: &mut Page<'_>, document: &Document) -> Result<(), Error> {
    let sensor = &document.sensor;
    page.flag("sensor_up", "Whether the sensor answers", sensor.state == SensorState::Ok)?;
    page.counted("readings_taken", "Readings taken since the process started", sensor.taken)?;
    page.counted("readings_missed", "Readings that were due and could not be taken", sensor.missed)?;
    let help = "How late the last samples began, median";
    page.measured("sample_delay_median", help, Unit::Seconds, Some(sensor.jitter_median / 1_000.0))?;
    let help = "How late the last samples began, worst";
    page.measured("sample_delay_worst", help, Unit::Seconds, Some(sensor.jitter_worst / 1_000.0))
}

fn store(page: &mut Page<'_>, document: &Document) -> Result<(), Error> {
    let store = &document.store;
    page.flag("store_up", "Whether the store takes readings", store.state == StoreState::Ok)?;
    // Before a store is open its number is not known, and a counter that falls to 0 would be one that began anew.
    if !store.store_id.is_empty() {
        page.counted(
            "readings_stored",
            "Sequence number of the newest reading on disk",
            store.last_sequence,
        )?;
    }
    page.plain("readings_pending", "Readings on disk that the hub has not accepted", store.pending)?;
    let help = "Readings in memory that are not yet on disk";
    page.plain("readings_in_memory", help, store.in_memory)?;
    page.plain("dead_letters", "Readings that the hub refuses, set aside", store.dead_letters)?;
    page.measured("store_size", "Database and journal", Unit::Bytes, Some(store.bytes as f64))?;
    let help = "When the oldest pending reading was taken (Unix time)";
    page.moment("oldest_pending_timestamp", help, store.oldest_pending_time)
}

fn cloud(page: &mut Page<'_>, document: &Document) -> Result<(), Error> {
    let cloud = &document.cloud;
    page.flag("cloud_online", "Whether the hub takes messages", cloud.state == CloudState::Online)?;
    page.counted("messages_accepted", "Messages that the hub accepted since the start", cloud.accepted)?;
    page.counted("connections", "Connections to the hub since the process started", cloud.connections)?;
    page.moment(
        "last_accepted_timestamp",
        "When the hub last accepted one (Unix time)",
        cloud.last_accepted,
    )?;
    page.moment("token_expiry_timestamp", "When the token runs out (Unix time)", cloud.token_expires)
}

fn outlook(page: &mut Page<'_>, document: &Document) -> Result<(), Error> {
    let Some(outlook) = &document.outlook else { return Ok(()) };
    let free = outlook.disk.map(|disk| disk.free as f64);
    page.measured("disk_free", "Free space on the store's file system", Unit::Bytes, free)?;
    let help = "Estimated bytes written to the disk in a day";
    page.measured("disk_written_per_day", help, Unit::Bytes, Some(outlook.written_per_day))
}

/// Writes one metric after the other.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn info(
        &mut self,
        name: &str,
        help: &str,
        labels: Vec<(&'static str, &'static str)>,
    ) -> Result<(), Error> {
        let info = Info::new(labels);
        info.encode(self.0.encode_descriptor(name, help, None, info.metric_type())?)
    }

    fn measured(&mut self, name: &str, help: &str, unit: Unit, value: Option<f64>) -> Result<(), Error> {
        let Some(value) = value else { return Ok(()) };
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, Some(&unit), gauge.metric_type())?)
    }

    fn moment(&mut self, name: &str, help: &str, time: Option<DateTime<Utc>>) -> Result<(), Error> {
        let seconds = time.map(|time| time.timestamp_millis() as f64 / 1_000.0);
        self.measured(name, help, Unit::Seconds, seconds)
    }

    fn plain(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let gauge = ConstGauge::new(value as f64);
        gauge.encode(self.0.encode_descriptor(name, help, None, gauge.metric_type())?)
    }

    fn flag(&mut self, name: &str, help: &str, value: bool) -> Result<(), Error> {
        self.plain(name, &format!("{help}: 1 or 0"), u64::from(value))
    }

    fn counted(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, counter.metric_type())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{SystemClock, Timekeeper};
    use crate::status::{Board, StoreStatus};

    #[test]
    fn the_number_of_stored_readings_is_left_out_while_no_store_is_open() {
        let board = Board::default();
        let timekeeper = Timekeeper::new(Arc::new(SystemClock::new()), DateTime::UNIX_EPOCH);
        let text = || text(board.document(&timekeeper)).unwrap();
        assert!(!text().contains("readings_stored"), "{}", text());
        board.store.send_replace(StoreStatus {
            store_id: "a".into(),
            last_sequence: 7,
            ..StoreStatus::default()
        });
        assert!(text().contains("weather_station_readings_stored_total 7\n"), "{}", text());
    }
}
