//! Reads a socket in large pieces below TLS, and holds no memory while it waits.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// The number of bytes read from a socket at once.
const READ_BYTES: usize = 16 * 1024;

/// A socket with a read buffer: rustls reads in small pieces, and a buffer below it saves most of the system calls.
///
/// Unlike tokio's `BufReader`, it frees the buffer when it has to wait: an idle connection would otherwise hold 16 KiB.
pub(super) struct ReadAhead<S> {
    inner: S,
    buffer: BytesMut,
}

impl<S> ReadAhead<S> {
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            buffer: BytesMut::new(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAhead<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.buffer.is_empty() {
            this.buffer.reserve(READ_BYTES);
            let read = pin!(this.inner.read_buf(&mut this.buffer)).poll(cx);
            if read.is_pending() {
                this.buffer = BytesMut::new();
            }
            ready!(read)?;
        }
        let taken = this.buffer.len().min(out.remaining());
        out.put_slice(&this.buffer[..taken]);
        this.buffer.advance(taken);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAhead<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn bytes_arrive_in_order_and_a_waiting_reader_holds_no_buffer() {
        let (client, mut server) = tokio::io::duplex(64 * 1024);
        let mut reader = ReadAhead::new(client);
        let sent: Vec<u8> = (0..50_000_u32).map(|number| number as u8).collect();
        server.write_all(&sent).await.unwrap();
        let mut got = Vec::new();
        let mut piece = [0; 4096];
        while got.len() < sent.len() {
            let read = reader.read(&mut piece).await.unwrap();
            got.extend_from_slice(&piece[..read]);
        }
        assert_eq!(got, sent);
        let waiting = reader.read(&mut piece);
        assert!(futures::poll!(pin!(waiting)).is_pending());
        assert_eq!(reader.buffer.capacity(), 0);
        server.write_all(b"more").await.unwrap();
        assert_eq!(reader.read(&mut piece).await.unwrap(), 4);
        assert_eq!(&piece[..4], b"more");
        drop(server);
        assert_eq!(reader.read(&mut piece).await.unwrap(), 0);
    }
}
