//! Forbids core dumps, for the commands that hold a secret. Knows the process, not the secret.

/// A token or a key in memory must not end up in a file: neither by a limit nor by a piped core pattern.
pub fn forbid() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    if let Err(error) = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }) {
        tracing::warn!(%error, "could not forbid core dumps by limit");
    }
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::warn!(%error, "could not forbid core dumps");
    }
}
