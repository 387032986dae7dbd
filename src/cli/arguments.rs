//! Arguments that may be a secret in the wrong place: what is refused is not repeated, for standard error goes into
//! the journal of whoever runs the command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;

use crate::identity::provision;
use crate::secret_text::{secret_in, secret_in_path};

/// A value that is checked before any file is opened. A plain function as the parser would do the same, but then a
/// refused value is repeated whole.
#[derive(Clone)]
pub struct Checked<T>(pub fn(&OsStr) -> Result<T, String>);

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Checked<T> {
    type Value = T;

    fn parse_ref(
        &self,
        command: &clap::Command,
        argument: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<T, clap::Error> {
        let Self(check) = self;
        check(value).map_err(|error| {
            let argument = argument.map(ToString::to_string).unwrap_or_default();
            clap::Error::raw(ErrorKind::ValueValidation, format_args!("{argument}: {error}\n"))
                .with_cmd(command)
        })
    }
}

/// The name of a hub. Bytes that are no text become a character that it may not have.
pub fn host(value: &OsStr) -> Result<String, String> {
    provision::checked_host(&value.to_string_lossy()).map_err(|error| error.to_string())
}

/// The name of a device, likewise.
pub fn device_id(value: &OsStr) -> Result<String, String> {
    provision::checked_device_id(&value.to_string_lossy()).map_err(|error| error.to_string())
}

/// The path of a file, and not what should be in it. A file that is there may be called what it likes.
pub fn file(value: &OsStr) -> Result<PathBuf, String> {
    match secret_in_path(&value.to_string_lossy()) {
        Some(kind) if !Path::new(value).exists() => {
            Err(format!("expected the path of a file, and this is {kind} (not shown)"))
        }
        _ => Ok(PathBuf::from(value)),
    }
}

/// What to say of wrong arguments where clap would repeat a secret that is among them.
pub fn instead(error: &clap::Error, arguments: &[OsString]) -> Option<String> {
    let said = error.to_string();
    let repeated = |part: &&str| said.contains(part.trim_end_matches('='));
    let kind = arguments.iter().find_map(|argument| {
        let text = argument.to_string_lossy();
        parts(&text).into_iter().filter(repeated).find_map(secret_in)
    })?;
    Some(format!(
        "error: an argument is {kind} (not shown), and no command takes one: put it into a file, or on standard input \
         (`weather-station provision --help`)\n"
    ))
}

/// An argument, and what may be repeated of it alone: an option's name, and its value.
fn parts(argument: &str) -> [&str; 3] {
    let value = argument.split_once('=').map_or(argument, |(_, value)| value);
    [argument, argument.trim_start_matches('-'), value]
}
