//! A wire tap between a program and its TPM: records every command and answer, and can cut the line after
//! any of them. Knows the swtpm transport (bare TPM commands over TCP, a control port next to it) and the
//! TPM command header; knows nothing of the station.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use super::swtpm::{Swtpm, bound_pair};

/// A running tap. Its listeners live until the test program ends.
pub struct TpmTap {
    port: u16,
    line: Arc<Mutex<Line>>,
}

struct Line {
    tpm: u16,
    /// Both directions, in order.
    recorded: Vec<u8>,
    /// Command codes, in order.
    commands: Vec<u32>,
    /// How many more commands pass before the line is cut; `None`: all.
    left: Option<usize>,
    /// What happens at the cut.
    on_cut: Option<Box<dyn FnOnce() + Send>>,
    /// What happens before the next command of this code passes.
    before: Option<(u32, Box<dyn FnOnce() + Send>)>,
}

impl Line {
    fn to(tpm: &Swtpm) -> Self {
        let tpm = tpm.port();
        Self { tpm, recorded: vec![], commands: vec![], left: None, on_cut: None, before: None }
    }
}

impl TpmTap {
    /// Between the caller and `tpm`.
    pub fn new(tpm: &Swtpm) -> Self {
        let (port, [data, control]) = bound_pair();
        let line = Arc::new(Mutex::new(Line::to(tpm)));
        for (listener, is_data) in [(data, true), (control, false)] {
            let line = Arc::clone(&line);
            std::thread::spawn(move || {
                for client in listener.incoming().flatten() {
                    let line = Arc::clone(&line);
                    std::thread::spawn(move || {
                        let tpm = line.lock().expect("the line").tpm;
                        // A broken connection on either side simply ends this one.
                        let _ = if is_data {
                            commands(client, tpm, &line)
                        } else {
                            control_line(client, tpm + 1)
                        };
                    });
                }
            });
        }
        Self { port, line }
    }

    /// For `identity.tcti`.
    pub fn tcti(&self) -> String {
        format!("swtpm:host=127.0.0.1,port={}", self.port)
    }

    /// Points the tap at another TPM, forgets the record, and lets everything through again.
    pub fn reset(&self, tpm: &Swtpm) {
        *self.line.lock().expect("the line") = Line::to(tpm);
    }

    /// After `commands` more commands have been carried out, the answer to the last one is withheld, `then`
    /// is run, and nothing passes any more. With 0 not even the first one passes.
    pub fn cut_after(&self, commands: usize, then: impl FnOnce() + Send + 'static) {
        let mut line = self.line.lock().expect("the line");
        line.left = Some(commands);
        line.on_cut = Some(Box::new(then));
    }

    /// Runs `then` before the next command of this code passes, while nothing else does.
    pub fn before(&self, code: u32, then: impl FnOnce() + Send + 'static) {
        self.line.lock().expect("the line").before = Some((code, Box::new(then)));
    }

    /// Everything that crossed, both ways.
    pub fn recorded(&self) -> Vec<u8> {
        self.line.lock().expect("the line").recorded.clone()
    }

    /// The codes of the commands that were carried out (TPM 2.0 Part 2, 6.5.2).
    pub fn commands(&self) -> Vec<u32> {
        self.line.lock().expect("the line").commands.clone()
    }
}

fn commands(mut client: TcpStream, tpm: u16, line: &Mutex<Line>) -> std::io::Result<()> {
    let mut upstream: Option<TcpStream> = None;
    loop {
        let command = message(&mut client)?;
        let mut line = line.lock().expect("the line");
        if line.left == Some(0) {
            if let Some(then) = line.on_cut.take() {
                then();
            }
            return Ok(());
        }
        let code = u32::from_be_bytes(command[6..10].try_into().expect("four bytes"));
        if let Some((_, then)) = line.before.take_if(|(wanted, _)| *wanted == code) {
            then();
        }
        let upstream = match &mut upstream {
            Some(upstream) => upstream,
            none => none.insert(TcpStream::connect(("127.0.0.1", tpm))?),
        };
        upstream.write_all(&command)?;
        let answer = message(upstream)?;
        line.recorded.extend_from_slice(&command);
        line.recorded.extend_from_slice(&answer);
        line.commands.push(code);
        if let Some(left) = &mut line.left {
            *left -= 1;
            if *left == 0 {
                if let Some(then) = line.on_cut.take() {
                    then();
                }
                return Ok(());
            }
        }
        client.write_all(&answer)?;
    }
}

/// One command or answer: tag (2 bytes), size of the whole (4 bytes), code (4 bytes), the rest.
fn message(from: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 10];
    from.read_exact(&mut message)?;
    let size = u32::from_be_bytes(message[2..6].try_into().expect("four bytes")) as usize;
    message.resize(size.max(10), 0);
    from.read_exact(&mut message[10..])?;
    Ok(message)
}

fn control_line(client: TcpStream, tpm: u16) -> std::io::Result<()> {
    let upstream = TcpStream::connect(("127.0.0.1", tpm))?;
    let (mut from, mut to) = (client.try_clone()?, upstream.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
    let (mut from, mut to) = (upstream, client);
    std::io::copy(&mut from, &mut to)?;
    to.shutdown(std::net::Shutdown::Both)
}
