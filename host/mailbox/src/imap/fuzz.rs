//! Entry points for the fuzz targets (`tests/fuzz`) to private functions.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::response::{self, Response, Untagged};
use super::wire::Wire;

/// A server that has sent all of its bytes; a read returns at most `chunk` of them.
struct Sent {
    left: Vec<u8>,
    at: usize,
    chunk: usize,
}

/// Returns each response in a server's bytes, and the error that ends them, as text. Literals up to `keep` bytes are kept
/// complete. The result must not depend on `chunk`.
pub fn responses(bytes: &[u8], chunk: usize, keep: u64) -> Vec<String> {
    let sent = Sent {
        left: bytes.to_vec(),
        at: 0,
        chunk: chunk.max(1),
    };
    let mut wire = Wire::new(Box::new(sent), None);
    wire.keep_literals(keep);
    let mut shown = Vec::new();
    loop {
        match wire.response() {
            Ok(Some(pieces)) => {
                let read = response::read(&pieces);
                if let Some(Response::Untagged(Untagged::Search(ids))) = &read {
                    shown.push(format!("{} ids", ids.iter().count()));
                }
                shown.push(format!("{read:?}"));
            }
            Ok(None) => {
                let fill = pin!(wire.fill()).poll(&mut Context::from_waker(Waker::noop()));
                if !matches!(fill, Poll::Ready(Ok(()))) {
                    return shown;
                }
            }
            Err(error) => {
                shown.push(error.to_string());
                return shown;
            }
        }
    }
}

impl AsyncRead for Sent {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = &self.left[self.at..];
        let read = left.len().min(self.chunk).min(buffer.remaining());
        buffer.put_slice(&left[..read]);
        self.at += read;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sent {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
