//! From the file's text to a checked [`Config`]: every key, its range, and what is said when it is wrong.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use toml::de::{DeTable, DeValue};

use super::section::{Findings, Section, leftovers, whole};
use super::{
    Config, Hub, Identity, IdentitySource, Provisioning, Sensor, Showcase, Station, Store, Telemetry, units,
};

/// The configuration is wrong: exit status 78.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error(
        "could not read the configuration {path}: write one (see /usr/share/doc/weather-station/station.toml) or name another with --config"
    )]
    Unreadable {
        path: String,
        #[source]
        source: std::io::Error,
    },
    /// It was read and says something that cannot be.
    #[error("the configuration {path} is wrong:\n  {}", problems.join("\n  "))]
    Wrong { path: String, problems: Vec<String> },
}

/// Reads and checks a file. Opens no device.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let name = path.display().to_string();
    let bytes =
        std::fs::read(path).map_err(|source| ConfigError::Unreadable { path: name.clone(), source })?;
    let parsed = match str::from_utf8(&bytes) {
        Ok(text) => parse(text),
        Err(error) => Err(vec![no_text(&bytes, error.valid_up_to())]),
    };
    match parsed {
        Ok(config) => Ok(Config { file: path.to_owned(), ..config }),
        Err(problems) => Err(ConfigError::Wrong { path: name, problems }),
    }
}

/// Another editor's encoding: `at` is the first byte that is none of UTF-8.
fn no_text(bytes: &[u8], at: usize) -> String {
    let line = bytes[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    format!(
        "line {line}: the byte {:#04x} is no UTF-8 text, expected a file that is saved as UTF-8",
        bytes[at]
    )
}

/// Checks a text; on failure every problem with its line.
pub fn parse(text: &str) -> Result<Config, Vec<String>> {
    let mut findings = Findings::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        for error in errors {
            findings.note(
                error.span().map_or(0, |span| span.start),
                format_args!("not TOML: {}", error.message()),
            );
        }
        return Err(findings.problems);
    }
    let mut root = root.into_inner();
    let mut config = Config::default();
    let f = &mut findings;
    station(&mut config.station, f.section("station", &mut root), f);
    sensor(&mut config.sensor, f.section("sensor", &mut root), f);
    identity(&mut config.identity, f.section("identity", &mut root), f);
    provisioning(&mut config.provisioning, f.section("provisioning", &mut root), f);
    hub(&mut config.hub, f.section("hub", &mut root), f);
    telemetry(&mut config.telemetry, f.section("telemetry", &mut root), f);
    store(&mut config.store, f.section("store", &mut root), f);
    showcase(&mut config.showcase, f.section("showcase", &mut root), f);
    leftovers(&root, &SECTIONS, f);
    if config.identity.source == IdentitySource::KeyFile && config.identity.key_file.as_os_str().is_empty() {
        f.problems.push("`identity.key_file` is empty, expected a file that holds a device connection string, because `identity.source` is \"key-file\"".into());
    }
    if !findings.problems.is_empty() {
        return Err(findings.problems);
    }
    config.set_in_file = findings.set_in_file;
    Ok(config)
}

const SECTIONS: [&str; 8] =
    ["station", "sensor", "identity", "provisioning", "hub", "telemetry", "store", "showcase"];

fn station<'i>(station: &mut Station, mut section: Section<'i>, f: &mut Findings<'i>) {
    station.altitude = section.number(f, "altitude", "metres above sea level, -500 to 9000", -500.0..=9000.0);
    section.finish(f);
}

fn sensor<'i>(sensor: &mut Sensor, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(&mut sensor.source, section.take(f, "source", "\"bme280\" or \"simulated\"", word));
    set(&mut sensor.bus, section.named_path(f, "bus", "a device such as \"/dev/i2c-1\""));
    let address = section.take(f, "address", "0x76 or 0x77", |value| {
        whole(value).filter(|address| [0x76, 0x77].contains(address))
    });
    sensor.address = address.and_then(|address| u8::try_from(address).ok());
    set(&mut sensor.interval, time(&mut section, f, "interval", "1s to 24h", SECOND..=DAY));

    let mut table = section.table(f, "oversampling", "sensor.oversampling");
    for (key, value) in [
        ("temperature", &mut sensor.oversampling.temperature),
        ("pressure", &mut sensor.oversampling.pressure),
        ("humidity", &mut sensor.oversampling.humidity),
    ] {
        let given = table.take(f, key, "1, 2, 4, 8 or 16", |value| {
            whole(value).filter(|times| [1, 2, 4, 8, 16].contains(times))
        });
        set(value, given.and_then(|times| u8::try_from(times).ok()));
    }
    table.finish(f);

    let mut table = section.table(f, "offset", "sensor.offset");
    set(&mut sensor.offset.temperature, table.number(f, "temperature", "degC, -20 to 20", -20.0..=20.0));
    set(&mut sensor.offset.pressure, table.number(f, "pressure", "hPa, -100 to 100", -100.0..=100.0));
    set(&mut sensor.offset.humidity, table.number(f, "humidity", "%RH, -50 to 50", -50.0..=50.0));
    table.finish(f);

    sensor.trace =
        section.path(f, "trace", "a CSV file to replay").filter(|path| !path.as_os_str().is_empty());
    set(&mut sensor.speed, section.number(f, "speed", "a factor of 0.001 to 100000", 0.001..=100_000.0));
    section.finish(f);
}

fn identity<'i>(identity: &mut Identity, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(&mut identity.source, section.take(f, "source", "\"tpm\" or \"key-file\"", word));
    let tcti = "\"device:/dev/tpmrm0\" or \"swtpm:host=127.0.0.1,port=2321\"";
    set(
        &mut identity.tcti,
        section.take(f, "tcti", tcti, |value| value.as_str().filter(|text| is_tcti(text)).map(str::to_owned)),
    );
    let slot = section.whole(f, "slot", "0 to 9", 0..=9);
    set(&mut identity.slot, slot.and_then(|slot| u8::try_from(slot).ok()));
    set(&mut identity.key_file, section.path(f, "key_file", "a file that holds a device connection string"));
    section.finish(f);
}

fn provisioning<'i>(provisioning: &mut Provisioning, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(
        &mut provisioning.id_scope,
        section.text(f, "id_scope", "the ID scope of the provisioning service, such as \"0ne00123ABC\""),
    );
    let expected = "a host or host:port";
    set(
        &mut provisioning.endpoint,
        section.take(f, "endpoint", expected, |value| {
            value.as_str().filter(|text| endpoint(text).is_some()).map(str::to_owned)
        }),
    );
    let expected = "at most 128 letters, digits, `-`, `.`, `_`, `:`, the last one a letter, a digit or `-`";
    set(
        &mut provisioning.registration_id,
        section.take(f, "registration_id", expected, |value| {
            value.as_str().filter(|text| is_registration_id(text)).map(str::to_owned)
        }),
    );
    section.finish(f);
}

fn hub<'i>(hub: &mut Hub, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(&mut hub.transport, section.take(f, "transport", "\"auto\", \"amqp\" or \"websocket\"", word));
    for (key, value) in [("port", &mut hub.port), ("websocket_port", &mut hub.websocket_port)] {
        let port = section.whole(f, key, "a TCP port, 1 to 65535", 1..=65_535);
        set(value, port.and_then(|port| u16::try_from(port).ok()));
    }
    hub.ca_file = section.path(f, "ca_file", "a PEM file").filter(|path| !path.as_os_str().is_empty());
    set(&mut hub.token_lifetime, time(&mut section, f, "token_lifetime", "2m to 24h", 2 * MINUTE..=DAY));
    section.finish(f);
}

fn telemetry<'i>(telemetry: &mut Telemetry, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(
        &mut telemetry.batch,
        section.whole(f, "batch", "1 to 10000 readings", 1..=10_000).map(|count| count as usize),
    );
    let ceiling = section.whole(f, "max_messages_per_second", "0 (no ceiling) to 100000", 0..=100_000);
    set(&mut telemetry.max_messages_per_second, ceiling.and_then(|ceiling| u32::try_from(ceiling).ok()));
    let packed = section.whole(f, "readings_per_message", "1 to 1000", 1..=1_000);
    set(&mut telemetry.readings_per_message, packed.map(|count| count as usize));
    section.finish(f);
}

fn store<'i>(store: &mut Store, mut section: Section<'i>, f: &mut Findings<'i>) {
    set(
        &mut store.path,
        section.named_path(f, "path", "a file such as \"/var/lib/weather-station/readings.db\""),
    );
    let size = section.take(f, "max_size", "1MiB to 1TiB, such as \"512MiB\"", |value| {
        value.as_str().and_then(units::size).filter(|size| (1 << 20..=1 << 40).contains(size))
    });
    set(&mut store.max_size, size);
    set(&mut store.keep, time(&mut section, f, "keep", "1s to 36500d", SECOND..=36_500 * DAY));
    set(&mut store.max_loss, time(&mut section, f, "max_loss", "0s to 10m", Duration::ZERO..=10 * MINUTE));
    section.finish(f);
}

fn showcase<'i>(showcase: &mut Showcase, mut section: Section<'i>, f: &mut Findings<'i>) {
    let listen =
        section.take(f, "listen", "\"ADDRESS:PORT\" or \"\" for no page", |value| match value.as_str()? {
            "" => Some(None),
            text => text.parse::<SocketAddr>().ok().map(Some),
        });
    set(&mut showcase.listen, listen);
    section.finish(f);
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

fn set<T>(value: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *value = given;
    }
}

/// One of the words of an enum.
fn word<'i, T: Deserialize<'i>>(value: &DeValue<'i>) -> Option<T> {
    let text = StrDeserializer::<serde::de::value::Error>::new(value.as_str()?);
    T::deserialize(text).ok()
}

fn time<'i>(
    section: &mut Section<'i>,
    f: &mut Findings<'i>,
    key: &'static str,
    expected: &str,
    range: std::ops::RangeInclusive<Duration>,
) -> Option<Duration> {
    section.take(f, key, expected, |value| {
        value.as_str().and_then(units::duration).filter(|time| range.contains(time))
    })
}

/// What tss-esapi understands: other texts make it fall back to another TPM without a word.
fn is_tcti(text: &str) -> bool {
    if let Some(device) = text.strip_prefix("device:") {
        return device.starts_with('/');
    }
    let Some(options) = text.strip_prefix("swtpm:").or_else(|| text.strip_prefix("mssim:")) else {
        return false;
    };
    options.split(',').all(|option| match option.split_once('=') {
        Some(("host", host)) => is_host(host),
        Some(("port", port)) => port_of(port).is_some(),
        _ => false,
    })
}

/// Host and port of an endpoint: 443 where it names none. An address stays as it is written, in brackets or not.
pub fn endpoint(text: &str) -> Option<(&str, u16)> {
    let (host, port) = match text.rfind(']') {
        Some(end) if text.starts_with('[') => text.split_at(end + 1),
        // More than one colon: an address without a port.
        _ if text.matches(':').count() > 1 => (text, ""),
        _ => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let is_right = if address.contains(':') { address.parse::<Ipv6Addr>().is_ok() } else { is_host(host) };
    let port = if port.is_empty() { Some(443) } else { port.strip_prefix(':').and_then(port_of) };
    port.filter(|_| is_right).map(|port| (host, port))
}

fn port_of(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port| *port > 0)
}

/// Neither a URL nor a connection string.
fn is_host(host: &str) -> bool {
    !host.is_empty() && !host.contains(['/', ' ', '@', '=', ';', '[', ']'])
}

/// Device Provisioning Service, "registration ID": up to 128 characters, the last one a letter, a digit or `-`.
/// Empty: derived from the endorsement key.
pub fn is_registration_id(text: &str) -> bool {
    text.len() <= 128
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c))
        && !text.ends_with(['.', '_', ':'])
}
