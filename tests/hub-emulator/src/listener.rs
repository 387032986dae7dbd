//! A listening port that can be closed and opened again on the same number. Knows TCP only.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Mutex;
use std::sync::mpsc;

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use crate::hub::lock;

/// The port; `open` and `close` may be called from any thread.
pub(crate) struct Listener {
    address: SocketAddr,
    runtime: Handle,
    running: Mutex<Option<Running>>,
}

struct Running {
    task: AbortHandle,
    /// Its other end is dropped with the socket.
    gone: mpsc::Receiver<()>,
}

impl Listener {
    /// Binds at once; port 0 takes a free one.
    pub(crate) fn bind(address: SocketAddr, runtime: Handle) -> io::Result<(Self, StdListener)> {
        let socket = StdListener::bind(address)?;
        let address = socket.local_addr()?;
        Ok((Self { address, runtime, running: Mutex::default() }, socket))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections; binds the same port again unless the socket is given.
    pub(crate) fn open<F>(
        &self,
        socket: Option<StdListener>,
        serve: impl Fn(TcpStream) -> F + Send + 'static,
    ) -> io::Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut running = lock(&self.running);
        if running.is_some() {
            return Ok(());
        }
        let socket = match socket {
            Some(socket) => socket,
            None => StdListener::bind(self.address)?,
        };
        socket.set_nonblocking(true)?;
        let (guard, gone) = mpsc::channel();
        let task = self.runtime.spawn(async move {
            // Dropped after the socket, for locals are dropped in reverse order.
            let _guard: mpsc::Sender<()> = guard;
            let listener = match TcpListener::from_std(socket) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "the port cannot be served"),
            };
            loop {
                match listener.accept().await {
                    Ok((tcp, _)) => drop(tokio::spawn(serve(tcp))),
                    Err(error) => {
                        tracing::warn!(%error, "accept failed");
                        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    }
                }
            }
        });
        *running = Some(Running { task: task.abort_handle(), gone });
        Ok(())
    }

    /// Closes the port; it is closed when this returns.
    pub(crate) fn close(&self) {
        if let Some(running) = lock(&self.running).take() {
            running.task.abort();
            // The answer is always an error: the task's end was dropped, and its socket before it.
            _ = running.gone.recv();
        }
    }
}
