//! One accepted socket: what a handler may know of it, and a reader that stops reading is cut off.
//! Knows bytes and time, not HTTP.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use zeroize::Zeroize as _;

/// How long a peer may take nothing of what is being sent to it.
pub const STALL: Duration = Duration::from_secs(20);

/// What a handler finds in the request's extensions.
#[derive(Clone, Debug)]
pub struct Connection {
    pub peer: SocketAddr,
    /// The socket's own end.
    pub here: SocketAddr,
    streaming: Arc<AtomicBool>,
    // Locked for a push or a take; nobody waits while holding it.
    secrets: Arc<Mutex<Vec<Bytes>>>,
}

impl Connection {
    pub fn new(peer: SocketAddr, here: SocketAddr) -> Self {
        Self { peer, here, streaming: Arc::default(), secrets: Arc::default() }
    }

    /// True for a peer that came over loopback (as `ssh -L` does).
    pub fn is_loopback(&self) -> bool {
        self.peer.ip().to_canonical().is_loopback()
    }

    /// True for a peer on this machine, over loopback or by the machine's own address on the network.
    pub fn is_local(&self) -> bool {
        self.is_loopback() || self.peer.ip().to_canonical() == self.here.ip().to_canonical()
    }

    /// The answer on this connection has no end: the limit on a connection's life does not hold for it.
    pub fn mark_streaming(&self) {
        self.streaming.store(true, Ordering::Relaxed);
    }

    pub fn is_streaming(&self) -> bool {
        self.streaming.load(Ordering::Relaxed)
    }

    /// Keeps bytes that held a key until the connection is gone: hyper's read buffer shares their memory,
    /// so before that they cannot be overwritten.
    pub fn wipe_at_end(&self, secret: Bytes) {
        self.secrets.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(secret);
    }

    /// Overwrites what [`Connection::wipe_at_end`] kept. Call it when the connection has been dropped.
    /// Returns how many pieces somebody else still held, which were therefore left as they are.
    pub fn wipe(&self) -> usize {
        let secrets =
            std::mem::take(&mut *self.secrets.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
        let mut held = 0;
        for secret in secrets {
            match secret.try_into_mut() {
                Ok(mut secret) => secret.as_mut().zeroize(),
                Err(_) => held += 1,
            }
        }
        held
    }
}

/// A socket whose writes fail when the peer has taken nothing for [`STALL`].
pub struct Impatient {
    socket: TcpStream,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, stalled: None }
    }

    fn judge<T>(
        &mut self,
        context: &mut Context<'_>,
        outcome: Poll<std::io::Result<T>>,
    ) -> Poll<std::io::Result<T>> {
        if outcome.is_ready() {
            self.stalled = None;
            return outcome;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(std::io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.judge(context, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let outcome = Pin::new(&mut self.socket).poll_write_vectored(context, pieces);
        self.judge(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
