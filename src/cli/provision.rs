//! `provision`: identity into the TPM, shown, removed. A key comes from a file or standard input, never as an argument.

use std::fs::File;
use std::future::Future;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::arguments::{self, Checked};
use super::{DONE, core_dumps, output, runtime};
use crate::chain::chain;
use crate::cloud::tls::Tls;
use crate::cloud::{self, Proxy};
use crate::config::{Config, IdentitySource};
use crate::hourly::Hourly;
use crate::identity::provision::{self, Credentials};
use crate::identity::{self, Identity, dps};
use crate::{secret_text, station};

/// One of five things to do.
#[derive(Debug, Args)]
#[group(skip)]
#[command(group(ArgGroup::new("what").required(true).args([
    "connection_string_file",
    "host",
    "show",
    "clear",
    "dps",
    "show_enrollment",
])))]
pub struct Arguments {
    /// A file that holds a device connection string; `-` for standard input
    #[arg(long, value_name = "FILE", value_parser = Checked(arguments::file))]
    connection_string_file: Option<PathBuf>,
    /// Host name or IP of the hub
    #[arg(long, requires_all = ["device_id", "key_file"], value_name = "HOST", value_parser = Checked(arguments::host))]
    host: Option<String>,
    /// The device's id at the hub
    #[arg(long, requires = "host", value_name = "ID", value_parser = Checked(arguments::device_id))]
    device_id: Option<String>,
    /// A file that holds the device's primary key in base64; `-` for standard input
    #[arg(long, requires = "host", value_name = "FILE", value_parser = Checked(arguments::file))]
    key_file: Option<PathBuf>,
    /// Show what the TPM holds (never a secret)
    #[arg(long)]
    show: bool,
    /// Remove key and name from the TPM; the storage root key stays
    #[arg(long)]
    clear: bool,
    /// Let the Device Provisioning Service provision the TPM
    #[arg(long)]
    dps: bool,
    /// Print registration id and endorsement key as the Device Provisioning Service wants them
    #[arg(long)]
    show_enrollment: bool,
    /// Replace another identity
    #[arg(long)]
    force: bool,
}

pub fn run(config: &Config, arguments: Arguments) -> anyhow::Result<u8> {
    core_dumps::forbid();
    // The enrollment is the TPM's own, whatever the station signs with.
    if config.identity.source == IdentitySource::KeyFile && !arguments.show_enrollment {
        return with_key_file(config, &arguments);
    }
    let (tcti, slot) = (&config.identity.tcti, config.identity.slot);
    if arguments.show {
        output::line(provision::show(tcti, slot)?)?;
    } else if arguments.clear {
        provision::clear(tcti, slot)?;
        output::line(format_args!("slot {slot} of the TPM is empty"))?;
    } else if arguments.dps {
        by_the_service(config)?;
    } else if arguments.show_enrollment {
        output::line(dps::enrollment(&config.identity, &config.provisioning)?)?;
    } else {
        let credentials = credentials(&arguments)?;
        provision::provision(tcti, slot, &credentials, arguments.force)?;
        let Identity { host, device_id } = &credentials.identity;
        output::line(format_args!("slot {slot} of the TPM is {device_id} at {host}"))?;
    }
    Ok(DONE)
}

/// On a station without a TPM. The file is its owner's: it is neither written nor removed here.
fn with_key_file(config: &Config, arguments: &Arguments) -> anyhow::Result<u8> {
    let file = config.identity.key_file.display();
    if arguments.show {
        let Identity { host, device_id } = identity::open(&config.identity)?.identity()?;
        output::line(format_args!(
            "host              {host}\ndevice id         {device_id}\nkey file          {file}"
        ))?;
        return Ok(DONE);
    }
    if arguments.clear {
        bail!(
            "this station keeps its key in a file (identity.source = \"key-file\"): delete {file}, or set \
             identity.source = \"tpm\" first to clear a TPM"
        );
    }
    bail!(
        "this station keeps its key in a file (identity.source = \"key-file\") and would go on with that one: \
         put the connection string into {file}, or set identity.source = \"tpm\" first"
    );
}

/// Visits the Device Provisioning Service.
fn by_the_service(config: &Config) -> anyhow::Result<()> {
    let timekeeper = station::timekeeper();
    let proxy = Proxy::from_environment();
    if let Some(trouble) = proxy.trouble() {
        bail!("the proxy of the environment cannot be used: {trouble}");
    }
    let service = dps::Service {
        identity: config.identity.clone(),
        provisioning: config.provisioning.clone(),
        tls: Tls::load(config.hub.ca_file.as_deref(), timekeeper.clone())?.through(proxy),
        timekeeper,
        limits: dps::Limits::default(),
        trouble: watch::Sender::default(),
    };
    let limits = cloud::Limits::default();
    let visit = cloud::visit_provisioning_service(&service, &limits);
    let visit = telling(visit, service.trouble.subscribe(), |why| {
        output::note(format_args!("{why}, Ctrl-C ends it"));
    });
    // In one line: what is behind it says the same once more, and a connection that broke is no reader that has left.
    let Identity { host, device_id } =
        runtime::start()?.block_on(visit).map_err(|error| anyhow::Error::msg(chain(&error)))?;
    output::line(format_args!("slot {} of the TPM is {device_id} at {host}", config.identity.slot))
}

/// A visit may take a quarter of an hour: whoever waits for it is told why, each reason once.
async fn telling<T>(
    visit: impl Future<Output = T>,
    mut trouble: watch::Receiver<Option<dps::Trouble>>,
    mut tell: impl FnMut(&str),
) -> T {
    let mut told = Hourly::default();
    tokio::pin!(visit);
    loop {
        tokio::select! {
            visited = &mut visit => return visited,
            Ok(()) = trouble.changed() => {
                let why = trouble.borrow_and_update().as_ref().map(|trouble| trouble.why.clone());
                if let Some(why) = why && told.first_this_hour(why.clone()) {
                    tell(&why);
                }
            }
        }
    }
}

fn credentials(arguments: &Arguments) -> anyhow::Result<Credentials> {
    if let Some(file) = &arguments.connection_string_file {
        let text = secret(file)?;
        return provision::parse_connection_string(&text)
            .with_context(|| format!("{} does not do", file.display()));
    }
    let (Some(host), Some(device_id), Some(key_file)) =
        (&arguments.host, &arguments.device_id, &arguments.key_file)
    else {
        bail!("--host, --device-id and --key-file go together");
    };
    let key = secret(key_file)?;
    Credentials::new(host, device_id, key.trim())
        .with_context(|| format!("the identity with the key in {} does not do", key_file.display()))
}

fn secret(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let mut source = if file == Path::new("-") {
        // Not through `std::io::stdin()`: its buffer is never wiped.
        let input = std::io::stdin().as_fd().try_clone_to_owned();
        File::from(input.context("could not read standard input")?)
    } else {
        File::open(file).with_context(|| {
            format!("could not open {}: expected a readable file, or `-` for standard input", file.display())
        })?
    };
    secret_text::read(&mut source).with_context(|| {
        format!("could not read {}: expected a device connection string or a key in base64", file.display())
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::sleep;

    use super::*;
    use crate::status::Failure;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_for_the_service_is_told_each_reason_once_and_as_it_comes() {
        let begin = tokio::time::Instant::now();
        let trouble = watch::Sender::default();
        let reasons = trouble.subscribe();
        let visit = async {
            for why in ["no connection", "no connection", "it is busy", "no connection"] {
                sleep(Duration::from_secs(60)).await;
                trouble.send_replace(Some(dps::Trouble { why: why.into(), failure: Failure::Network }));
            }
            sleep(Duration::from_secs(60)).await;
            "assigned"
        };
        let mut told = Vec::new();
        let visited =
            telling(visit, reasons, |why| told.push((begin.elapsed().as_secs(), why.to_owned()))).await;
        assert_eq!(visited, "assigned");
        assert_eq!(told, [(60, "no connection".to_owned()), (180, "it is busy".to_owned())]);
    }
}
