//! The least that a reading costs on this machine: a program that wakes for a sample and for the end of its conversion,
//! makes its three calls that may hang on a second thread (the conversion's beginning and its end, both empty here, and
//! one page and one flush), sends a packet and hears of it, and does nothing else. It runs beside the station.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::Instant;

/// What a reading takes on the wire, about.
const PACKET: usize = 400;
/// What an answer takes.
const ANSWER: usize = 60;

/// The program; killed when dropped.
pub struct Bare(Child);

impl Bare {
    /// This program once more, with its file in `dir`, and a peer for it.
    pub async fn start(dir: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut packet = [0; PACKET];
            // Until the program is killed.
            while stream.read_exact(&mut packet).await.is_ok() {
                stream.write_all(&packet[..ANSWER]).await.unwrap();
            }
        });
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("bare").arg(peer.to_string()).arg(dir.join("bare")).stdin(Stdio::null());
        Self(command.spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Once a second, until it is killed.
pub fn run(peer: SocketAddr, file: &Path) {
    let file = std::fs::File::create(file).unwrap();
    file.write_all_at(&[0; 4096 * 16], 0).unwrap();
    file.sync_all().unwrap();
    let (calls, made) = mpsc::sync_channel::<Option<u64>>(1);
    let (done, returned) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        for page in made {
            if let Some(page) = page {
                file.write_all_at(&[7; 4096], page % 16 * 4096).unwrap();
                file.sync_data().unwrap();
            }
            done.send(()).unwrap();
        }
    });
    let call = |page| {
        calls.send(page).unwrap();
        returned.recv().unwrap();
    };
    let mut stream = TcpStream::connect(peer).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut due = Instant::now();
    for page in 0.. {
        due += Duration::from_secs(1);
        wait(due - Instant::now());
        call(None);
        wait(Duration::from_millis(12));
        call(None);
        call(Some(page));
        stream.write_all(&[7; PACKET]).unwrap();
        stream.read_exact(&mut [0; ANSWER]).unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "what is measured is a thread that sleeps")]
fn wait(time: Duration) {
    std::thread::sleep(time);
}
