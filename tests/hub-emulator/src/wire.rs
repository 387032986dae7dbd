//! The TCP stream under everything, with a switch: it can be cut by FIN or RST at once, or turned into a black hole
//! that neither reads nor writes. Knows bytes only.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

/// How a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cut {
    /// An orderly end of the TCP stream, without any AMQP or TLS goodbye.
    Fin,
    /// A reset.
    Rst,
}

/// The stream itself.
#[derive(Debug)]
pub(crate) struct Wire(Arc<Shared>);

/// The switch of a [`Wire`].
#[derive(Debug, Clone)]
pub(crate) struct Switch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// None once cut.
    tcp: Mutex<Option<TcpStream>>,
    hole: AtomicBool,
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wire {
    pub(crate) fn new(tcp: TcpStream, hole: bool) -> (Self, Switch) {
        let shared = Arc::new(Shared {
            tcp: Mutex::new(Some(tcp)),
            hole: AtomicBool::new(hole),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
        });
        (Self(shared.clone()), Switch(shared))
    }

    fn poll(
        &self,
        waker: &AtomicWaker,
        cx: &mut Context<'_>,
        operation: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        waker.register(cx.waker());
        let mut tcp = self.0.tcp.lock().expect("no code panics while it holds the stream");
        let Some(tcp) = tcp.as_mut() else {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionReset, "cut by the test")));
        };
        if self.0.hole.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        operation(Pin::new(tcp), cx)
    }
}

impl Switch {
    /// Ends the connection now, whatever it is doing. Must be called inside the runtime.
    pub(crate) fn cut(&self, how: Cut) {
        let tcp = self.0.tcp.lock().expect("no code panics while it holds the stream").take();
        if let Some(mut tcp) = tcp {
            match how {
                // A failure means that the peer has already gone.
                Cut::Rst => drop(tcp.set_zero_linger()),
                Cut::Fin => drop(tokio::spawn(async move {
                    // Unread bytes would turn the close into a reset: read them away for a moment.
                    let ended = tcp.shutdown().await.is_ok();
                    let mut rest = [0; 4096];
                    let drain = async { while ended && tcp.read(&mut rest).await.is_ok_and(|n| n > 0) {} };
                    drop(tokio::time::timeout(Duration::from_secs(2), drain).await);
                })),
            }
        }
        self.wake();
    }

    /// Opens or closes the black hole.
    pub(crate) fn set_hole(&self, hole: bool) {
        self.0.hole.store(hole, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        self.0.reader.wake();
        self.0.writer.wake();
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(&self.0.reader, cx, |tcp, cx| tcp.poll_read(cx, buf).map_ok(|()| 0)).map_ok(drop)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(&self.0.writer, cx, |tcp, cx| tcp.poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(&self.0.writer, cx, |tcp, cx| tcp.poll_flush(cx).map_ok(|()| 0)).map_ok(drop)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll(&self.0.writer, cx, |tcp, cx| tcp.poll_shutdown(cx).map_ok(|()| 0)).map_ok(drop)
    }
}
