//! The byte stream under AMQP, made so that it cannot hang: a write that the peer does not take in time is an
//! error (the AMQP library's loop would otherwise wait in it for ever, with its idle timer unheard), and the
//! owner can cut it, which ends the library's task at once. Knows nothing of the bytes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep};

/// Anything that carries AMQP.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Cuts the stream when it is dropped.
#[derive(Debug)]
pub struct Scissors {
    _held: oneshot::Sender<()>,
}

/// A stream whose writes end within a limit.
pub struct GuardedStream {
    io: Box<dyn Wire>,
    limit: Duration,
    /// Runs while a write is stuck.
    stuck: Option<Pin<Box<Sleep>>>,
    cut: oneshot::Receiver<()>,
    is_cut: bool,
}

impl GuardedStream {
    pub fn new(io: Box<dyn Wire>, limit: Duration) -> (Self, Scissors) {
        let (held, cut) = oneshot::channel();
        (Self { io, limit, stuck: None, cut, is_cut: false }, Scissors { _held: held })
    }

    /// Lets a write's result pass; a pending one starts, or looks at, the clock.
    fn watch<T>(&mut self, cx: &mut Context<'_>, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if poll.is_ready() {
            self.stuck = None;
            return poll;
        }
        let limit = self.limit;
        let sleep = self.stuck.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(sleep.as_mut().poll(cx));
        sleep.as_mut().reset(Instant::now() + limit);
        let text = format!("the peer took no byte for {} s", limit.as_secs_f64());
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)))
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.is_cut = self.is_cut || Pin::new(&mut self.cut).poll(cx).is_ready();
        if self.is_cut {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the station has given it up"));
        }
        Ok(())
    }
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        let poll = Pin::new(&mut self.io).poll_write(cx, bytes);
        self.watch(cx, poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let poll = Pin::new(&mut self.io).poll_flush(cx);
        self.watch(cx, poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(cx)?;
        let poll = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, poll)
    }
}

impl std::fmt::Debug for GuardedStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardedStream")
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_write_that_nobody_takes_ends_at_its_limit() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (mut stream, _scissors) = GuardedStream::new(Box::new(ours), Duration::from_secs(20));
        let started = Instant::now();
        let error = stream.write_all(&[0; 200]).await.unwrap_err();
        assert_eq!(started.elapsed().as_secs(), 20);
        assert_eq!(error.to_string(), "the peer took no byte for 20 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_that_takes_some_bytes_is_not_cut_off() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let (mut stream, _scissors) = GuardedStream::new(Box::new(ours), Duration::from_secs(20));
        let slow = async {
            let mut some = [0; 64];
            for _ in 0..10 {
                sleep(Duration::from_secs(15)).await;
                theirs.read_exact(&mut some).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(stream.write_all(&[0; 640]), slow);
        written.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn cutting_it_ends_a_waiting_read() {
        let (ours, _theirs) = tokio::io::duplex(64);
        let (mut stream, scissors) = GuardedStream::new(Box::new(ours), Duration::from_secs(20));
        let cut = async {
            sleep(Duration::from_secs(1)).await;
            drop(scissors);
        };
        let mut buffer = [0; 1];
        let (read, ()) = tokio::join!(stream.read(&mut buffer), cut);
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
