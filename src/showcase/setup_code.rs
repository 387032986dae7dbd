//! The setup code: proof that whoever uses the TPM form may read a file of this station. It lies in the
//! runtime directory, mode 0600, and is never sent anywhere. Knows nothing of the form.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;
use zeroize::Zeroizing;

const FILE: &str = "setup-code";
/// Letters and digits that nobody confuses on a screen or on the telephone: 8 of them are 39 bits.
const ALPHABET: &[u8; 29] = b"23456789ABCDEFGHJKMNPQRTUVWXY";
const LENGTH: usize = 8;
/// The pause after the first wrong code; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// `$RUNTIME_DIRECTORY` (systemd sets it), else `/run/weather-station`.
pub fn runtime_directory() -> PathBuf {
    std::env::var_os("RUNTIME_DIRECTORY").map_or_else(|| "/run/weather-station".into(), PathBuf::from)
}

/// The code of the running station, for `weather-station status`: only who may read the file gets it.
pub fn read(runtime_directory: &Path) -> std::io::Result<String> {
    Ok(std::fs::read_to_string(runtime_directory.join(FILE))?.trim().to_owned())
}

/// The code in force, and how often it was missed. Its file is removed when this is dropped.
pub struct SetupCode {
    path: PathBuf,
    // Held to compare or to replace; nobody waits while holding it.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    code: Option<Zeroizing<String>>,
    wrong: u32,
    again_at: Option<Instant>,
}

/// What a try came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Right,
    /// Not the code: the next try is looked at after this long.
    Wrong {
        tries: u32,
        pause: Duration,
    },
    /// Not looked at, right or wrong: this much of the pause is left.
    TooSoon(Duration),
    /// There is no code: its file could not be written.
    NoCode,
}

impl SetupCode {
    /// No code yet: [`SetupCode::renew`] makes one.
    pub fn in_directory(runtime_directory: &Path) -> Self {
        Self { path: runtime_directory.join(FILE), state: Mutex::default() }
    }

    /// Where the code can be read.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts a new code in place of the old one. Blocks for a small write.
    pub fn renew(&self) -> std::io::Result<()> {
        let code = random_code()?;
        let written = self.write(&code);
        let mut state = self.state();
        *state = State { code: written.is_ok().then_some(code), ..State::default() };
        written
    }

    /// Compares, in constant time and whatever the case, blanks and dashes.
    pub fn try_code(&self, given: &str) -> Verdict {
        let mut state = self.state();
        let now = Instant::now();
        if let Some(left) =
            state.again_at.and_then(|at| at.checked_duration_since(now)).filter(|d| !d.is_zero())
        {
            return Verdict::TooSoon(left);
        }
        let Some(code) = &state.code else { return Verdict::NoCode };
        if alike(code, given) {
            (state.wrong, state.again_at) = (0, None);
            return Verdict::Right;
        }
        state.wrong += 1;
        let pause = (FIRST_PAUSE * 2_u32.saturating_pow((state.wrong - 1).min(16))).min(LONGEST_PAUSE);
        state.again_at = Some(now + pause);
        Verdict::Wrong { tries: state.wrong, pause }
    }

    /// Under another name first: a reader never sees half a code, and the mode holds from the first byte.
    fn write(&self, code: &str) -> std::io::Result<()> {
        if let Some(directory) = self.path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let new = self.path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(code.as_bytes())?;
        file.write_all(b"\n")?;
        std::fs::rename(&new, &self.path)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for SetupCode {
    fn drop(&mut self) {
        // A file that is gone already is what was wanted.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `K7QF-M2XP`
fn random_code() -> std::io::Result<Zeroizing<String>> {
    let mut code = Zeroizing::new(String::with_capacity(LENGTH + 1));
    // The largest multiple of the alphabet's length: above it a byte would favour the first letters.
    let fair = u8::MAX - u8::MAX % ALPHABET.len() as u8;
    let mut letters = 0;
    while letters < LENGTH {
        let mut byte = [0];
        getrandom::fill(&mut byte).map_err(std::io::Error::other)?;
        if byte[0] < fair {
            if letters == LENGTH / 2 {
                code.push('-');
            }
            code.push(char::from(ALPHABET[usize::from(byte[0]) % ALPHABET.len()]));
            letters += 1;
        }
    }
    Ok(code)
}

fn alike(code: &str, given: &str) -> bool {
    let plain = |text: &str| {
        let letters = text.chars().filter(|c| !c.is_whitespace() && *c != '-').take(LENGTH + 1);
        Zeroizing::new(letters.map(|c| c.to_ascii_uppercase()).collect::<String>())
    };
    let (code, given) = (plain(code), plain(given));
    code.len() == given.len() && code.bytes().zip(given.bytes()).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn code() -> (tempfile::TempDir, SetupCode) {
        let directory = tempfile::tempdir().unwrap();
        let code = SetupCode::in_directory(&directory.path().join("run"));
        code.renew().unwrap();
        (directory, code)
    }

    #[tokio::test(start_paused = true)]
    async fn the_code_is_in_a_file_that_only_the_owner_reads() {
        let (_directory, code) = code();
        let mode = std::fs::metadata(code.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = read(code.path().parent().unwrap()).unwrap();
        assert_eq!((text.len(), text.as_bytes()[4]), (9, b'-'), "{text}");
        assert_eq!(code.try_code(&text), Verdict::Right);
        assert_eq!(code.try_code(&format!(" {} ", text.to_lowercase().replace('-', ""))), Verdict::Right);
        let path = code.path().to_owned();
        drop(code);
        assert!(!path.exists());
    }

    #[tokio::test(start_paused = true)]
    async fn wrong_codes_slow_down_and_even_the_right_one_waits() {
        let (_directory, code) = code();
        let right = read(code.path().parent().unwrap()).unwrap();
        let mut pauses = Vec::new();
        for n in 1..=9 {
            let Verdict::Wrong { tries, pause } = code.try_code("2222-222") else { panic!("try {n}") };
            assert_eq!(tries, n);
            assert_eq!(code.try_code(&right), Verdict::TooSoon(pause));
            pauses.push(pause.as_secs());
            tokio::time::advance(pause).await;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(code.try_code(&right), Verdict::Right);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_code_makes_the_old_one_worthless() {
        let (_directory, code) = code();
        let old = read(code.path().parent().unwrap()).unwrap();
        code.renew().unwrap();
        assert!(matches!(code.try_code(&old), Verdict::Wrong { .. }));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_file_there_is_no_code_and_nothing_is_right() {
        let code = SetupCode::in_directory(Path::new("/proc/nowhere"));
        assert!(code.renew().is_err());
        assert_eq!(code.try_code(""), Verdict::NoCode);
    }
}
