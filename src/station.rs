//! Starts, supervises and stops the tasks; the only place that spawns. Stop the source first, let the channels
//! drain, finish the disk, give the cloud what is left of the deadline.

mod watchdog;

use chrono::{DateTime, Utc};

/// The day this program was built: no right clock shows less.
pub fn build_date() -> DateTime<Utc> {
    let days: i64 = env!("WEATHER_STATION_BUILD_DAY").parse().unwrap_or_default();
    DateTime::from_timestamp(days * 86_400, 0).unwrap_or_default()
}

/// Runs until `stop` becomes true and everything is on disk.
pub async fn run(
    _config: crate::config::Config,
    mut stop: tokio::sync::watch::Receiver<bool>,
) -> anyhow::Result<()> {
    stop.wait_for(|stop| *stop).await?;
    Ok(())
}
