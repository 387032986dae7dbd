//! What a test's own thread has told the log. For tests that run on one thread.

use std::cell::RefCell;
use std::io::Write;
use std::sync::Once;

use tracing::Level;

thread_local! {
    static LINES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Writes for the thread that it is on.
struct ThreadLog;

impl Write for ThreadLog {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.with_borrow_mut(|lines| lines.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The lines since the last call on this thread that are of `least`, INFO at least, or above; the first call begins.
pub fn take(least: Level) -> Vec<String> {
    // One subscriber for the whole process: a subscriber of one thread can miss what other threads have seen first.
    static BEGIN: Once = Once::new();
    BEGIN.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(|| ThreadLog)
            .with_max_level(Level::INFO)
            .with_ansi(false)
            .without_time()
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    let counts = |line: &&str| line.split_whitespace().next().unwrap().parse::<Level>().unwrap() <= least;
    String::from_utf8(LINES.take()).unwrap().lines().filter(counts).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    #[test]
    fn a_test_sees_its_own_lines_once() {
        super::take(Level::WARN);
        tracing::warn!("loud");
        tracing::info!("quiet");
        std::thread::spawn(|| tracing::warn!("somebody else's")).join().unwrap();
        assert_eq!(super::take(Level::WARN).len(), 1);
        assert_eq!(super::take(Level::WARN).len(), 0);
    }
}
