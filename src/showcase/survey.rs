//! Looks at the disk once a minute and at the settings when they change, and says what they cost; asks the TPM
//! once what it is.

use std::time::Duration;

use tokio::sync::watch;

use crate::config::{self, folder_of};
use crate::identity::provision::show;
use crate::outlook::{Disk, Outlook};
use crate::settings::Settings;
use crate::status::Board;

const EVERY: Duration = Duration::from_secs(60);

/// The station's own start comes first: a TPM serves one at a time.
const TPM_FIRST: Duration = Duration::from_secs(5);

/// Names the TPM on the board, as soon as there is one. Runs for ever.
pub async fn name_tpm(board: &Board, identity: &config::Identity) {
    if identity.source != config::IdentitySource::Tpm {
        return std::future::pending().await;
    }
    tokio::time::sleep(TPM_FIRST).await;
    loop {
        let (tcti, slot) = (identity.tcti.clone(), identity.slot);
        if let Ok(Ok(tpm)) = tokio::task::spawn_blocking(move || show(&tcti, slot)).await {
            let name = format!("{}, firmware {}", tpm.vendor, tpm.firmware);
            board.identity.send_modify(|status| status.tpm = Some(name));
            return std::future::pending().await;
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Runs for ever.
pub async fn run(board: &Board, settings: &watch::Receiver<Settings>, store: &config::Store) {
    let mut settings = settings.clone();
    loop {
        let (interval, per_message) = {
            let now = settings.borrow_and_update();
            (now.sample_interval, now.readings_per_message)
        };
        let folder = folder_of(&store.path).to_owned();
        let disk = tokio::task::spawn_blocking(move || Disk::at(&folder).ok()).await.ok().flatten();
        board.outlook.send_replace(Some(Outlook::of(interval, per_message, store.max_loss, disk)));
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            // A closed channel (the station is ending) must not turn this into a busy loop.
            changed = settings.changed() => if changed.is_err() { std::future::pending().await },
        }
    }
}
