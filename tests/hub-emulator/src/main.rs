//! The emulator as a program: reads its arguments, starts a hub, prints one line of JSON with its ports, and runs until
//! SIGINT or SIGTERM. Keys come from files, never from arguments.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;
use hub_emulator::dps::{Dps, DpsOptions};
use hub_emulator::{Emulator, Options};
use tokio::signal::unix::{SignalKind, signal};

/// An IoT Hub for tests: AMQP over TLS, with a control port on loopback.
#[derive(Parser)]
struct Arguments {
    /// AMQP port; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// HTTPS port (WebSocket, Date header); 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    https_port: u16,
    /// Control port, plain HTTP on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 0)]
    control: u16,
    /// Folder for ca.pem and the authority's key, which is used again at the next start.
    #[arg(long)]
    dir: PathBuf,
    /// Address to listen on.
    #[arg(long)]
    address: Option<std::net::IpAddr>,
    /// One more host name of the hub (may be given several times).
    #[arg(long)]
    name: Vec<String>,
    /// A device as ID=FILE; the file holds its primary key in base64 (may be given several times).
    #[arg(long, value_name = "ID=FILE")]
    device: Vec<String>,
    /// Plays the provisioning service as well, on this port (0 takes a free one); it assigns to this hub under its last
    /// `--name`, or `localhost`.
    #[arg(long)]
    dps_port: Option<u16>,
    /// An enrollment as DEVICE=FILE; the file holds what `weather-station provision --show-enrollment` prints (may be
    /// given several times).
    #[arg(long, value_name = "DEVICE=FILE", requires = "dps_port")]
    enroll: Vec<String>,
    /// Keeps the record in this file (JSON lines) and begins with what it holds.
    #[arg(long)]
    record: Option<PathBuf>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::WARN).init();
    let arguments = Arguments::parse();
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let dps = provisioning_service(&arguments)?;
    let hub = Emulator::start(Options {
        port: arguments.port,
        https_port: arguments.https_port,
        control_port: Some(arguments.control),
        address: arguments.address,
        names: arguments.name.clone(),
        dir: Some(arguments.dir),
        keep_authority: true,
        record_file: arguments.record,
        ..Options::default()
    })?;
    for device in &arguments.device {
        let (id, file) =
            device.split_once('=').with_context(|| format!("--device {device}: expected ID=FILE"))?;
        let key = std::fs::read_to_string(file).with_context(|| format!("reading the key file {file}"))?;
        hub.add_device_with_keys(id, key.trim(), None)?;
    }
    if let Some(dps) = &dps {
        dps.link(arguments.name.last().map_or("localhost", String::as_str), hub.registry());
    }
    println_line(&serde_json::json!({
        "dps": dps.as_ref().map(Dps::endpoint),
        "idScope": dps.as_ref().map(Dps::id_scope),
        "port": hub.port(),
        "httpsPort": hub.https_port(),
        "control": hub.control_port(),
        "ca": hub.ca_file(),
    }));
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The service with its enrollments, if it is asked for.
fn provisioning_service(arguments: &Arguments) -> anyhow::Result<Option<Dps>> {
    let Some(port) = arguments.dps_port else { return Ok(None) };
    let (dir, address, names) = (arguments.dir.clone(), arguments.address, arguments.name.clone());
    let dps = Dps::start(DpsOptions { dir, port, address, names, ..DpsOptions::default() })?;
    for enrollment in &arguments.enroll {
        let (device, file) = enrollment
            .split_once('=')
            .with_context(|| format!("--enroll {enrollment}: expected DEVICE=FILE"))?;
        let text = std::fs::read_to_string(file).with_context(|| format!("reading the enrollment {file}"))?;
        let value = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::trim).with_context(|| format!("{file} has no line that begins with `{name}`"))
        };
        dps.enroll(value("registration id")?, value("endorsement key")?, device)?;
    }
    Ok(Some(dps))
}

#[expect(clippy::print_stdout, reason = "the ports are what this program tells its starter")]
fn println_line(line: &serde_json::Value) {
    println!("{line}");
}
