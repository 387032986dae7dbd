//! Brings what the twin asks for into force: kept on disk, then in the settings that the other tasks watch, then in
//! the status document; the answers follow from it. Knows no AMQP.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::News;
use crate::config::Config;
use crate::identity::Identity;
use crate::settings::{self, Changes, Overlay, Settings};
use crate::status::Board;
use crate::store::StoreHandle;

/// The store answers within this time, or the values hold without being kept for the moment.
const LIMIT: Duration = Duration::from_secs(5);

/// The one writer of the settings in force.
#[derive(Debug)]
pub struct Desired {
    config: Arc<Config>,
    file: Settings,
    overlay: Overlay,
    settings: watch::Sender<Settings>,
    board: Arc<Board>,
    store: StoreHandle,
    /// What is in force is not on disk yet.
    unkept: bool,
}

impl Desired {
    /// `overlay`: what was kept by the last run ([`settings::load`]).
    pub fn new(
        config: Arc<Config>,
        overlay: Overlay,
        settings: watch::Sender<Settings>,
        board: Arc<Board>,
        store: StoreHandle,
    ) -> Self {
        let file = Settings::from_file(&config);
        let mut desired = Self { config, file, overlay, settings, board, store, unkept: false };
        desired.bring_into_force();
        desired
    }

    pub fn overlay(&self) -> &Overlay {
        &self.overlay
    }

    pub fn file(&self) -> &Settings {
        &self.file
    }

    /// The station is this one at this hub: the values of another identity's twin are dropped.
    pub async fn belongs_to(&mut self, identity: &Identity) {
        if self.overlay.belongs_to(identity) {
            return;
        }
        if self.overlay != Overlay::default() {
            tracing::info!(
                device = identity.device_id,
                "another identity: the old twin's values are dropped"
            );
        }
        self.overlay = Overlay::of(identity);
        self.unkept = true;
        self.bring_into_force();
        self.keep().await;
    }

    /// Takes in what was read or pushed.
    pub async fn take(&mut self, news: News) {
        let changes = match news {
            News::Whole(twin) => self.overlay.take_whole(&twin.desired, twin.version, &self.file),
            News::Changed(push) => self.overlay.take_patch(&push.patch, push.version, &self.file),
        };
        tell(&changes);
        self.unkept = true;
        self.keep().await;
        self.bring_into_force();
    }

    /// Writes what could not be written before. Until then the values hold, and a restart forgets them.
    pub async fn keep(&mut self) {
        if !self.unkept {
            return;
        }
        match tokio::time::timeout(LIMIT, settings::keep(&self.overlay, &self.store)).await {
            Ok(Ok(())) => self.unkept = false,
            Ok(Err(error)) => tracing::warn!(%error, "the twin's values could not be kept; trying again"),
            Err(_) => tracing::warn!("the store does not answer, so the twin's values are not kept yet"),
        }
    }

    fn bring_into_force(&mut self) {
        let settings = self.overlay.settings(&self.file);
        self.settings.send_if_modified(|old| {
            let changed = *old != settings;
            *old = settings;
            changed
        });
        let configuration = settings::in_force(&self.config, &self.overlay);
        self.board.configuration.send_if_modified(|old| {
            let changed = *old != configuration;
            *old = configuration;
            changed
        });
    }
}

fn tell(changes: &Changes) {
    for change in &changes.applied {
        tracing::info!("the twin: {change}");
    }
    for refusal in &changes.refused {
        tracing::warn!("the twin: {refusal}");
    }
}
