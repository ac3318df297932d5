//! Shared parts of the stand's own servers: the accept loop, and the queue of failures ordered by tests.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};

/// A server on a free loopback port; dropping it ends it and its connections.
pub(crate) struct Listener {
    pub(crate) port: u16,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Listens, and runs `serve` for each connection.
    pub(crate) fn start<F, C>(runtime: &Handle, serve: F) -> Result<Self>
    where
        F: Fn(TcpStream) -> C + Send + 'static,
        C: Future<Output = ()> + Send + 'static,
    {
        let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0)))?;
        let port = listener.local_addr()?.port();
        let accepting = runtime.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        if let Ok((stream, _)) = accepted {
                            connections.spawn(serve(stream));
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { port, accepting })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Failures to produce, first in, first out.
pub(crate) struct Failures<F>(Mutex<VecDeque<F>>);

impl<F: Clone> Failures<F> {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(VecDeque::new()))
    }

    pub(crate) fn order(&self, count: usize, failure: F) {
        locked(&self.0).extend(std::iter::repeat_n(failure, count));
    }

    /// Takes the first failure if it `fits`.
    pub(crate) fn take_if(&self, fits: impl FnOnce(&F) -> bool) -> Option<F> {
        locked(&self.0).pop_front_if(|failure| fits(failure))
    }

    /// Takes the first failure that `fits`; those before it wait for requests of their own.
    pub(crate) fn take_fitting(&self, fits: impl Fn(&F) -> bool) -> Option<F> {
        let mut failures = locked(&self.0);
        let at = failures.iter().position(fits)?;
        failures.remove(at)
    }

    pub(crate) fn clear(&self) {
        locked(&self.0).clear();
    }
}

/// Returns a lock, even if a test panicked while holding it.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends nothing more, until the other side disconnects.
pub(crate) async fn hang(stream: &mut (impl AsyncRead + Unpin)) {
    let mut ignored = [0; 4096];
    while matches!(stream.read(&mut ignored).await, Ok(1..)) {}
}
