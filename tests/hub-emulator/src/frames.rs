//! The stream between TLS and the AMQP engine. It gives the protocol header back that was read to choose the
//! acceptor, reads the peer's `open` (which the engine does not show), and takes the engine's first credit of 200
//! out of the outgoing bytes, so that the hub alone says how much credit a link has. Knows frames, not links.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use fe2o3_amqp_types::performatives::{Flow, Open};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The credit that the engine grants by itself at attach (its `DEFAULT_CREDIT`); the hub never grants this number.
pub(crate) const ENGINE_CREDIT: u32 = 200;

const OPEN: u8 = 0x10;
const FLOW: u8 = 0x13;
/// No `open` is longer.
const TAP_LIMIT: usize = 65_536;

/// Where the peer's `open` is put once it has been read.
pub(crate) type PeerOpen = Arc<Mutex<Option<Open>>>;

/// The stream that the engine gets.
#[derive(Debug)]
pub(crate) struct Framed<Io> {
    io: Io,
    replay: Vec<u8>,
    /// None once `open` has been seen, or given up.
    tap: Option<Vec<u8>>,
    open: PeerOpen,
    /// Outgoing bytes that are not a whole frame yet.
    partial: Vec<u8>,
    /// Outgoing bytes that passed the filter and wait for the socket.
    ready: Vec<u8>,
    written: usize,
    /// Take `next-incoming-id` out of every flow.
    bare_flow: bool,
}

impl<Io> Framed<Io> {
    /// `header` are the bytes already read from `io`.
    pub(crate) fn new(io: Io, header: [u8; 8], open: PeerOpen, bare_flow: bool) -> Self {
        Self {
            io,
            replay: header.to_vec(),
            tap: Some(Vec::new()),
            open,
            partial: Vec::new(),
            ready: Vec::new(),
            written: 0,
            bare_flow,
        }
    }

    fn tap(&mut self, bytes: &[u8]) {
        let Some(seen) = &mut self.tap else { return };
        seen.extend_from_slice(bytes);
        let mut rest = seen.as_slice();
        while let Some((unit, after)) = split_unit(rest) {
            if performative(unit) == Some(OPEN) {
                let open = serde_amqp::from_slice::<Open>(&unit[8..]).ok();
                *self.open.lock().expect("no code panics while it holds the open") = open;
                self.tap = None;
                return;
            }
            rest = after;
        }
        if seen.len() > TAP_LIMIT {
            self.tap = None;
        }
    }

    /// Moves whole frames from `partial` to `ready`, without the engine's own first credit.
    fn filter(&mut self) {
        let mut rest = self.partial.as_slice();
        while let Some((unit, after)) = split_unit(rest) {
            match flow(unit) {
                Some(flow) if flow.handle.is_some() && flow.link_credit == Some(ENGINE_CREDIT) => {}
                Some(flow) if self.bare_flow => self.ready.extend(without_next_incoming_id(unit, flow)),
                _ => self.ready.extend_from_slice(unit),
            }
            rest = after;
        }
        let left = rest.len();
        self.partial.drain(..self.partial.len() - left);
    }
}

impl<Io: AsyncWrite + Unpin> Framed<Io> {
    fn poll_ready_bytes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.ready.len() {
            let count = ready!(Pin::new(&mut self.io).poll_write(cx, &self.ready[self.written..]))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.ready.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// One protocol header or one frame, and what follows.
fn split_unit(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let head = bytes.first_chunk::<4>()?;
    let length = if head == b"AMQP" { 8 } else { usize::try_from(u32::from_be_bytes(*head)).ok()?.max(8) };
    bytes.split_at_checked(length)
}

/// The performative's code of an AMQP frame: `size(4) doff(1) type(1) channel(2) 0x00 0x53 code`, or the code in eight
/// bytes (0x80).
fn performative(frame: &[u8]) -> Option<u8> {
    if frame.starts_with(b"AMQP") || *frame.get(4)? != 2 || *frame.get(5)? != 0 {
        return None;
    }
    match frame.get(8..10)? {
        [0x00, 0x53] => frame.get(10).copied(),
        [0x00, 0x80] => frame.get(17).copied(),
        _ => None,
    }
}

fn flow(frame: &[u8]) -> Option<Flow> {
    if performative(frame) != Some(FLOW) {
        return None;
    }
    serde_amqp::from_slice(&frame[8..]).ok()
}

/// The same frame with the field null; as it was, should it not encode.
fn without_next_incoming_id(frame: &[u8], mut flow: Flow) -> Vec<u8> {
    flow.next_incoming_id = None;
    let (Ok(body), Some(head)) = (serde_amqp::to_vec(&flow), frame.get(4..8)) else { return frame.to_vec() };
    let length = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
    [&length.to_be_bytes(), head, &body].concat()
}

impl<Io: AsyncRead + Unpin> AsyncRead for Framed<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.replay.is_empty() {
            ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        } else {
            let count = self.replay.len().min(buf.remaining());
            buf.put_slice(&self.replay[..count]);
            self.replay.drain(..count);
        }
        if self.tap.is_some() {
            self.tap(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for Framed<Io> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_ready_bytes(cx))?;
        self.partial.extend_from_slice(buf);
        self.filter();
        // The bytes are taken; what the socket does not take now goes out at the next write or flush.
        match self.poll_ready_bytes(cx) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(buf.len())),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready_bytes(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_ready_bytes(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
