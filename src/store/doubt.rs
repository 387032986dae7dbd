//! When the whole file is to be checked, and what its findings mean for the store. The check itself is `check`'s.

use std::path::PathBuf;

use super::StoreError;
use super::database::Database;
use super::keeper::Keeper;
use super::pending::Soundness;
use super::trouble::is_unreadable;

/// A database that was not closed in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Unchecked {
    pub path: PathBuf,
    identity: (u64, u64),
}

impl Keeper {
    /// The database, once, when it has to be checked.
    pub fn take_unchecked(&mut self) -> Option<Unchecked> {
        let identity = self.identity;
        let asked = self.database.as_mut().is_some_and(Database::take_doubt);
        if std::mem::take(&mut self.unchecked) || asked {
            self.given_to_check = identity;
            return Some(Unchecked { path: self.config.path.clone(), identity });
        }
        None
    }

    /// The background check is done. Its findings are of no use when the file is another one by now.
    pub fn checked(&mut self, checked: &Unchecked, result: Result<(), StoreError>) {
        if checked.identity != self.identity {
            return;
        }
        match result {
            Ok(()) => {
                self.sound = self.identity;
                if let Some(database) = &mut self.database {
                    database.soundness = Soundness::Sound { upto: database.last_sequence };
                }
            }
            Err(error) if is_unreadable(&error) => {
                self.replace(&error).unwrap_or_else(|error| self.note(&error));
            }
            Err(error) => drop(self.cure(&error)),
        }
        if let Some(database) = &mut self.database {
            database.soundness.end_check();
        }
    }
}
