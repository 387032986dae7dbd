//! One provisioning of a TPM at a time, whoever does it: a command, the page's form, the provisioning service's visitor.
//! Knows the TPM by the name that the configuration gives it, and nothing of what is done under the lock.
//!
//! # The lock
//! A socket's name in Linux's abstract namespace, which only one process can have. It needs no folder and no
//! permission, so that root's command and the service's user take the same one, and it is gone with its process,
//! however that ends. No file would do: the unit has a /tmp of its own, its runtime directory is there only while the
//! station runs, and a simulator has no device node. The unit allows AF_UNIX and leaves the station in the machine's
//! network namespace, to which these names belong. Two with networks of their own (containers) do not see each other's;
//! for them, and for other tools, a provisioning looks at the end whether the slot holds what it put there.
//!
//! One lock for all slots: they share the storage root key.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::identity::IdentityError;

/// A discrete TPM may take half a minute to make a storage root key for the one before.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two tries.
const AGAIN: Duration = Duration::from_millis(100);

/// Held as long as this lives.
pub struct Lock {
    /// `None` where there can be no lock: that is no reason not to provision.
    _name: Option<UnixDatagram>,
}

impl Lock {
    /// Waits for whoever provisions this TPM at this moment. Blocks.
    pub fn take(tcti: &str) -> Result<Self, IdentityError> {
        Self::take_within(tcti, PATIENCE)
    }

    fn take_within(tcti: &str, patience: Duration) -> Result<Self, IdentityError> {
        let take = || {
            let name = SocketAddr::from_abstract_name(format!("weather-station/provision/{tcti}"))?;
            UnixDatagram::bind_addr(&name)
        };
        let mut waited = Duration::ZERO;
        loop {
            match take() {
                Ok(name) => return Ok(Self { _name: Some(name) }),
                Err(error) if error.kind() != ErrorKind::AddrInUse => {
                    tracing::debug!(%error, tcti, "there is no lock against a second provisioning");
                    return Ok(Self { _name: None });
                }
                Err(_) if waited >= patience => break,
                Err(_) => {}
            }
            // Counted, not measured: where tests let time stand still it does so here, too.
            std::thread::park_timeout(AGAIN);
            waited += AGAIN;
        }
        Err(IdentityError::failed(
            format!("waiting for the TPM {tcti}"),
            format!(
                "another provisioning of it (by `weather-station provision`, the page's form or the provisioning \
                 service) has not come to its end within {} s; try again when it has",
                patience.as_secs()
            ),
        ))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    #[test]
    fn the_second_one_waits_for_the_end_of_the_first_or_says_why_it_does_not() {
        let tcti = format!("test:{}", std::process::id());
        let first = Lock::take(&tcti).unwrap();
        let refused = Lock::take_within(&tcti, AGAIN).err().expect("it is held").to_string();
        assert!(
            refused.starts_with(&format!("waiting for the TPM {tcti}: another provisioning")),
            "{refused}"
        );
        let _of_another_tpm = Lock::take_within(&format!("{tcti}0"), Duration::ZERO).unwrap();
        let (taken_tx, taken) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| taken_tx.send(Lock::take(&tcti).map(drop)).unwrap());
            assert_eq!(taken.recv_timeout(AGAIN * 3).err(), Some(RecvTimeoutError::Timeout));
            drop(first);
            taken.recv().unwrap().unwrap();
        });
    }

    #[test]
    fn where_there_can_be_no_lock_a_provisioning_goes_on_without() {
        // Longer than the name of a socket may be.
        let tcti = "device:".to_owned() + &"x".repeat(200);
        let first = Lock::take(&tcti).unwrap();
        let _second = Lock::take_within(&tcti, Duration::ZERO).unwrap();
        assert!(first._name.is_none());
    }
}
