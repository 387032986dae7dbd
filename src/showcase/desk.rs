//! What the TPM form works with: the setup code, and the TPM, which is asked one thing at a time. A call to a TPM that
//! does not answer keeps its thread, one of those that the sensor and the store need: so it keeps the turn, too,
//! whoever has left meanwhile. Knows no HTTP.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;

use super::setup_code::SetupCode;
use crate::config;

/// A discrete TPM may take half a minute to make its storage root key.
const WORKING: Duration = Duration::from_secs(90);
/// How long a visitor waits for the one before, who is only looking as a rule.
const WAITING: Duration = Duration::from_secs(5);

/// One visitor at a time: the TPM is one.
pub struct Desk {
    pub code: SetupCode,
    pub identity: config::Identity,
    // Whoever waits for it does so for at most `WAITING`.
    turn: Arc<Mutex<()>>,
}

/// Whoever has it may ask the TPM, once.
pub struct Turn(OwnedMutexGuard<()>);

impl Desk {
    pub fn new(code: SetupCode, identity: config::Identity) -> Self {
        Self { code, identity, turn: Arc::default() }
    }

    /// The turn, if it is free.
    pub fn turn(&self) -> Option<Turn> {
        self.turn.clone().try_lock_owned().ok().map(Turn)
    }

    /// The turn, if it is free soon.
    pub async fn turn_soon(&self) -> Option<Turn> {
        timeout(WAITING, self.turn.clone().lock_owned()).await.ok().map(Turn)
    }

    /// Runs what blocks on the TPM; `work` gets its TCTI and the slot. The turn ends when `work` does, and not when
    /// nobody waits for it any more. The text of a failure is for people.
    pub async fn ask<T: Send + 'static>(
        &self,
        turn: Turn,
        work: impl FnOnce(&str, u8) -> T + Send + 'static,
    ) -> Result<T, String> {
        let config::Identity { tcti, slot, .. } = self.identity.clone();
        let call = move || {
            let Turn(_held) = turn;
            work(&tcti, slot)
        };
        match timeout(WORKING, tokio::task::spawn_blocking(call)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(_)) => Err("Talking to the TPM failed in a way that nobody foresaw: see the log.".into()),
            Err(_) => Err(format!("The TPM has not answered within {} seconds.", WORKING.as_secs())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_turn_ends_with_the_call_and_not_with_whoever_waits_for_it() {
        let desk = Desk::new(SetupCode::in_directory(Path::new("/nowhere")), config::Identity::default());
        let (begun_tx, begun) = oneshot::channel();
        let (answer, silent) = mpsc::channel::<()>();
        let blocks = move |_: &str, _| {
            begun_tx.send(()).unwrap();
            silent.recv()
        };
        let asked = desk.ask(desk.turn().unwrap(), blocks);
        // Time stands still while a call blocks, until it is moved on.
        let time = async {
            begun.await.unwrap();
            tokio::time::advance(WORKING).await;
        };
        let (given_up, ()) = tokio::join!(asked, time);
        assert!(given_up.unwrap_err().contains("has not answered within 90 seconds"));
        assert!(desk.turn().is_none(), "the call goes on");
        answer.send(()).unwrap();
        assert!(desk.turn_soon().await.is_some(), "the call has ended");

        // A visitor who leaves.
        let (begun_tx, begun) = oneshot::channel();
        let (answer, silent) = mpsc::channel::<()>();
        let blocks = move |_: &str, _| {
            begun_tx.send(()).unwrap();
            silent.recv()
        };
        tokio::select! {
            _ = desk.ask(desk.turn().unwrap(), blocks) => panic!("nothing was answered"),
            begun = begun => begun.unwrap(),
        }
        assert!(desk.turn().is_none(), "the call goes on");
        drop(answer);
        assert!(desk.turn_soon().await.is_some(), "the call has ended");
    }
}
