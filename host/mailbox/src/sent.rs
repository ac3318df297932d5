//! A server for fuzz targets that has already sent all of its bytes and accepts whatever the client sends.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The bytes of the server; each read returns at most `chunk` of them.
pub(crate) struct Sent {
    left: Vec<u8>,
    at: usize,
    chunk: usize,
}

impl Sent {
    pub fn new(bytes: &[u8], chunk: usize) -> Self {
        Self {
            left: bytes.to_vec(),
            at: 0,
            chunk: chunk.max(1),
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
