//! Brings what the twin asks for into force: in the settings that the other tasks watch, in the status document, and
//! on disk; the answers follow from it. Knows no AMQP.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;

use super::Change;
use crate::config::Config;
use crate::hourly::{Hourly, warn_hourly};
use crate::identity::Identity;
use crate::settings::{self, Acknowledgement, Changes, Overlay, Settings};
use crate::status::Board;
use crate::store::{StoreError, StoreHandle};

/// The store answers within this time, or the values hold without being kept for the moment.
const LIMIT: Duration = Duration::from_secs(5);

/// The one writer of the settings in force.
#[derive(Debug)]
pub struct Desired {
    config: Arc<Config>,
    file: Settings,
    overlay: Overlay,
    /// What is known to be on disk, in this store.
    kept: Option<Overlay>,
    store_id: String,
    /// What was on disk at the start was read, or the whole twin from the hub: nothing is lost by writing over it.
    may_write: bool,
    /// Another identity's values were dropped, and the hub has not said yet what this one's are.
    unread: bool,
    settings: watch::Sender<Settings>,
    board: Arc<Board>,
    store: StoreHandle,
    told: Hourly,
}

/// What became of a write: the values that are on disk.
pub type Written = Result<Overlay, StoreError>;

impl Desired {
    /// `kept`: by the last run, where that could be read ([`settings::load`]).
    pub fn new(
        config: Arc<Config>,
        kept: Option<Overlay>,
        settings: watch::Sender<Settings>,
        board: Arc<Board>,
        store: StoreHandle,
    ) -> Self {
        let file = Settings::from_file(&config);
        let overlay = kept.clone().unwrap_or_default();
        let (may_write, unread) = (kept.is_some(), false);
        let store_id = board.store.borrow().store_id.clone();
        let told = Hourly::default();
        let desired =
            Self { config, file, overlay, kept, store_id, may_write, unread, settings, board, store, told };
        desired.bring_into_force();
        desired
    }

    /// The answers that belong in the reported properties.
    pub fn acknowledgements(&self) -> BTreeMap<String, Acknowledgement> {
        self.overlay.acknowledgements(&self.file, self.kept.as_ref())
    }

    /// Reads what could not be read at the start. It holds whoever the station may be, as at a start.
    pub async fn read_kept(&mut self) {
        if self.may_write {
            return;
        }
        self.kept = match settings::load_or_why(&self.store).await {
            Ok(kept) => Some(kept),
            Err(error) => {
                self.tell(&error, "the twin's values could not be read: the file's hold for now");
                None
            }
        };
        self.may_write = self.kept.is_some();
        self.overlay = self.kept.clone().unwrap_or_default();
        self.bring_into_force();
    }

    /// The station is this one at this hub: the values of another identity's twin are dropped.
    pub async fn belongs_to(&mut self, identity: &Identity) {
        self.read_kept().await;
        if self.overlay.belongs_to(identity) {
            return;
        }
        if self.overlay != Overlay::default() {
            self.unread = true;
            tracing::info!(
                device = identity.device_id,
                "another identity: the old twin's values are dropped"
            );
        }
        self.overlay = Overlay::of(identity);
        self.bring_into_force();
        self.keep().await;
    }

    /// Takes in what was read or pushed. It holds at once; [`Desired::next_write`] has the write that it needs.
    pub fn take(&mut self, change: Change) {
        let changes = match change {
            Change::Whole(twin) => {
                (self.may_write, self.unread) = (true, false);
                self.overlay.take_whole(&twin.desired, twin.version, &self.file)
            }
            Change::Patch(push) => self.overlay.take_patch(&push.patch, push.version, &self.file),
        };
        self.tell_of(&changes);
        self.bring_into_force();
    }

    /// The write of what is not on disk yet: it ends with what is then. Until [`Desired::kept`] is told, the values
    /// hold, are not acknowledged as done, and a restart may forget them. What could not be read is not written over
    /// before the hub has said what the twin is.
    pub fn next_write(&mut self) -> Option<BoxFuture<'static, Written>> {
        let store_id = self.board.store.borrow().store_id.clone();
        if !store_id.is_empty() && store_id != self.store_id {
            if !self.store_id.is_empty() {
                // It took the place of a damaged one, out of which not everything may have been salvaged.
                self.kept = None;
            }
            self.store_id = store_id;
        }
        if !self.may_write || self.kept.as_ref().is_some_and(|kept| self.overlay.is_kept_by(kept)) {
            return None;
        }
        // A write that fails, or is late, leaves one or the other on the disk.
        self.kept = None;
        let (overlay, store) = (self.overlay.clone(), self.store.clone());
        Some(Box::pin(async move {
            let written = tokio::time::timeout(LIMIT, settings::keep(&overlay, &store)).await;
            let late = || Err(StoreError::Unavailable { reason: "it does not answer".into() });
            written.unwrap_or_else(|_| late()).map(|()| overlay)
        }))
    }

    /// What is on disk now, or that this is not known.
    pub fn kept(&mut self, written: Written) {
        if let Err(error) = &written {
            self.tell(error, "the twin's values could not be kept; trying again");
        }
        self.kept = written.ok();
    }

    async fn keep(&mut self) {
        if let Some(write) = self.next_write() {
            let written = write.await;
            self.kept(written);
        }
    }

    /// A store may not work for weeks.
    fn tell(&mut self, error: &StoreError, what: &str) {
        let first = self.told.first_this_hour(format!("{what}: {error}"));
        warn_hourly!(first, %error, "{what}");
    }

    /// What is wrong in a twin is there again each time it is read.
    fn tell_of(&mut self, changes: &Changes) {
        for change in &changes.applied {
            tracing::info!("the twin: {change}");
        }
        if !changes.refused.is_empty() && self.told.first_this_hour(changes.refused.join("; ")) {
            for refusal in &changes.refused {
                tracing::warn!("the twin: {refusal}");
            }
        }
    }

    fn bring_into_force(&self) {
        let keep_is_known = self.may_write && !self.unread;
        let settings = Settings { keep_is_known, ..self.overlay.settings(&self.file) };
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

#[cfg(test)]
mod tests;
