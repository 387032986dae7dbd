//! The page for the people beside the station, with its JSON, its live stream, `/metrics` and the TPM form.
//! Reads what the others say of themselves and asks the store for history; it owns nothing of theirs, and
//! nothing that happens to it may touch sampling or sending. It knows no SQL, no AMQP and no TPM commands.

mod admission;
mod assets;
mod configure;
mod configure_page;
mod connection;
mod desk;
mod history;
mod listener;
mod live;
mod metrics;
mod origin;
mod pulse;
mod read_now;
mod routes;
mod secret_form;
pub mod setup_code;
mod survey;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use self::desk::Desk;
use self::setup_code::SetupCode;
use crate::clock::Timekeeper;
use crate::config::Config;
use crate::reading::SensorRequest;
use crate::settings::Settings;
use crate::status::Board;
use crate::store::StoreHandle;

/// Time between two attempts to listen on an address that cannot be had.
const BIND_AGAIN: Duration = Duration::from_secs(30);

/// The showcase task: handed to `station`, which runs it.
pub struct Task {
    pub config: Arc<Config>,
    pub board: Arc<Board>,
    pub timekeeper: Timekeeper,
    pub store: StoreHandle,
    pub sensor: mpsc::Sender<SensorRequest>,
    pub settings: watch::Receiver<Settings>,
    /// Where the setup code is written: see [`setup_code::runtime_directory`].
    pub runtime_directory: PathBuf,
    /// True once the station ends.
    pub stop: watch::Receiver<bool>,
}

impl Task {
    /// Serves until `stop`. An address that cannot be had is a warning and another attempt every 30 s:
    /// the station records without its page. Ends at once where the page is turned off.
    pub async fn run(mut self) {
        let Some(address) = self.config.showcase.listen else { return };
        if let Some(listener) = bind(address, &mut self.stop).await {
            self.serve(listener).await;
        }
    }

    /// Serves on a listener that exists.
    pub async fn serve(self, listener: TcpListener) {
        match listener.local_addr() {
            Ok(address) => tracing::info!("the page is at http://{address}/"),
            Err(error) => tracing::warn!(%error, "the page's listener has no address"),
        }
        let code = SetupCode::in_directory(&self.runtime_directory);
        match code.renew() {
            Ok(()) => tracing::info!("the setup code for the TPM form is in {}", code.path().display()),
            Err(error) => tracing::warn!(
                %error,
                "could not write the setup code to {}: the TPM form is closed; use `weather-station provision`",
                code.path().display()
            ),
        }
        let (app, publisher) = routes::build(&self, Desk::new(code, self.config.identity.clone()));
        let survey = survey::run(&self.board, &self.settings, &self.config.store);
        let mut stop = self.stop.clone();
        tokio::select! {
            () = publisher.run() => {}
            () = survey => {}
            () = survey::name_tpm(&self.board, &self.config.identity) => {}
            () = listener::serve(listener, app) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

async fn bind(address: SocketAddr, stop: &mut watch::Receiver<bool>) -> Option<TcpListener> {
    let mut warned = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(error) if !warned => {
                warned = true;
                tracing::warn!(
                    %error,
                    "could not listen on {address} ([showcase] listen), so there is no page yet; \
                     the station goes on and tries again every {} s",
                    BIND_AGAIN.as_secs()
                );
            }
            Err(error) => tracing::debug!(%error, "could not listen on {address}"),
        }
        tokio::select! {
            () = tokio::time::sleep(BIND_AGAIN) => {}
            _ = stop.wait_for(|stop| *stop) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_becomes_free_is_taken_at_the_next_attempt() {
        let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = occupant.local_addr().unwrap();
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let (bound, ()) = tokio::join!(bind(address, &mut stopped), async {
            tokio::time::sleep(BIND_AGAIN * 3 / 2).await;
            drop(occupant);
        });
        assert_eq!(bound.unwrap().local_addr().unwrap(), address);
    }

    #[tokio::test(start_paused = true)]
    async fn a_station_that_ends_does_not_wait_for_an_address() {
        let occupant = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stop = watch::Sender::new(true);
        assert!(bind(occupant.local_addr().unwrap(), &mut stop.subscribe()).await.is_none());
    }
}
