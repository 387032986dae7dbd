//! Tokens are renewed on the open connection, and nothing that belongs to the connection is done again: here with a
//! token of a few seconds, shorter than the configuration takes.

use std::time::Duration;

use hub_emulator::{Emulator, Options};
use weather_station::config::{Config, IdentitySource, Transport};
use weather_station::settings::Overlay;

use crate::bench::{DEVICE, SOON, identify};
use crate::parts::start;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewed_token_costs_no_get_of_the_twin() {
    let dir = tempfile::tempdir().unwrap();
    let hub = Emulator::start(Options::default()).unwrap();
    hub.add_device(DEVICE);
    identify(dir.path(), &hub, DEVICE);
    let mut config = Config::default();
    config.store.path = dir.path().join("readings.db");
    config.identity.source = IdentitySource::KeyFile;
    config.identity.key_file = dir.path().join("key");
    config.hub.port = hub.port();
    config.hub.ca_file = Some(hub.ca_file().to_owned());
    config.hub.transport = Transport::Amqp;
    config.hub.token_lifetime = Duration::from_secs(3);
    let _parts = start(config, Some(Overlay::default()), 1);

    let taken = |event: &hub_emulator::Event| event.kind == "put-token";
    hub.wait_for_events(3, SOON, taken).await.unwrap();
    let gets = |event: &hub_emulator::Event| event.kind == "twin" && event.detail["operation"] == "GET";
    hub.wait_for_events(1, SOON, gets).await.unwrap();
    // One renewal later whatever the second one might have caused has been asked.
    hub.wait_for_events(4, SOON, taken).await.unwrap();
    assert_eq!(hub.events_of("connect").len(), 1, "reconnected");
    assert_eq!(hub.events().into_iter().filter(gets).count(), 1);
}
