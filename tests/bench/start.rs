//! From the process to the first accepted reading, with a TPM, a hub and TLS.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use weather_station::identity::provision::{Credentials, provision};

use crate::machine::median;
use crate::rig::{Process, config, hub, taken};
use crate::support::swtpm;
use crate::table::Table;

pub async fn measure(station: &Path, table: &mut Table) {
    let tpm = swtpm::Swtpm::new();
    let hub = hub(0);
    let key = hub.add_device("mast");
    let credentials = Credentials::new("localhost", "mast", &key).unwrap();
    provision(&tpm.tcti(), 0, &credentials, false).unwrap();
    let mut times = Vec::new();
    for _ in 0..5 {
        let dir = tempfile::tempdir().unwrap();
        let before = hub.count();
        let config = config(dir.path(), &hub, hub.port(), "1s", "");
        let config =
            config.replace("source = \"key-file\"", &format!("source = \"tpm\"\ntcti = \"{}\"", tpm.tcti()));
        let begin = Instant::now();
        let _process = Process::start(station, dir.path(), &config);
        taken(&hub, before + 1, Duration::from_secs(60), Duration::from_millis(1)).await;
        times.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    let time = median(times);
    table.judge(
        "process start to first reading accepted",
        format!("{time:.0} ms"),
        "",
        "500 ms",
        time <= 500.0,
        None,
    );
}
