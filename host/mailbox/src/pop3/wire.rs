//! POP3 framing (RFC 1939 section 3): bytes in, lines and mails out, with bounded memory whatever the server sends.
//!
//! Every await is cancel-safe: partial input stays in the buffers until the next call.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use memchr::memchr;
use postroom_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tap::Tap;

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the server closed the connection")]
    Closed,
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("a line longer than {LINE_BYTES} bytes")]
    LongLine,
    #[error("more than {ANSWER_BYTES} bytes about one command")]
    TooLong,
    #[error("an answer to a command that was not sent")]
    OutOfStep,
}

/// Reads and writes one connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// How far `input` has been searched for a line end.
    searched: usize,
    output: BytesMut,
    /// The number of bytes in lines since the last command, without mails.
    spent: usize,
    tap: Option<Tap>,
}

/// A mail that is being read, with dot-stuffing removed.
pub(super) struct Body {
    pub bytes: Vec<u8>,
    /// The number of bytes that the server has sent so far, including those that are not kept.
    pub len: u64,
    keep: u64,
    most: u64,
    at_line_start: bool,
}

/// How far a mail has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// More follows.
    More,
    Ended,
    /// The server sent more than is allowed. The connection is out of step.
    Overrun,
}

/// The longest line outside of mails. Honest lines have at most 512 bytes (RFC 2449 section 4); the details of a refused token
/// have more.
const LINE_BYTES: usize = 16 * 1024;
/// The most bytes of a server's lines in reply to one command. A listing of 250,000 mails takes up to 20 MB.
const ANSWER_BYTES: usize = 24 * 1024 * 1024;
/// The size of the read buffer.
const BUFFER_BYTES: usize = 64 * 1024;
/// The most memory reserved for a mail in advance, since the server merely states how large the mail is.
const RESERVED_BYTES: u64 = 1024 * 1024;

impl Wire {
    /// Creates the connection's reader and writer. `tap` receives the whole conversation.
    pub fn new(stream: Box<dyn Stream>, tap: Option<Tap>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            searched: 0,
            output: BytesMut::new(),
            spent: 0,
            tap,
        }
    }

    /// Returns the stream itself if no input is left over. For STLS: bytes that arrived before the handshake could have been
    /// injected by anybody.
    pub fn into_stream(self) -> Option<Box<dyn Stream>> {
        self.input.is_empty().then_some(self.stream)
    }

    /// Begins a new command. Fails if the server has sent something unrequested.
    pub fn begin(&mut self) -> Result<(), WireError> {
        self.spent = 0;
        match self.input.is_empty() {
            true => Ok(()),
            false => Err(WireError::OutOfStep),
        }
    }

    /// Adds a line, with its end, to the send buffer.
    pub fn queue(&mut self, line: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.sent(line);
        }
        self.output.extend_from_slice(line);
    }

    /// Sends the contents of the send buffer.
    pub async fn flush(&mut self) -> Result<(), WireError> {
        while self.output.has_remaining() {
            if self.stream.write_buf(&mut self.output).await? == 0 {
                return Err(WireError::Closed);
            }
        }
        self.stream.flush().await?;
        Ok(())
    }

    /// Reads some more bytes from the server.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        if self.input.capacity() - self.input.len() < BUFFER_BYTES / 8 {
            self.input.reserve(BUFFER_BYTES);
        }
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// Returns the next complete line in the buffer, without its end.
    pub fn line(&mut self) -> Result<Option<Bytes>, WireError> {
        let found = memchr(b'\n', &self.input[self.searched..]);
        let end = found.map_or(self.input.len(), |at| self.searched + at + 1);
        if end > LINE_BYTES {
            return Err(WireError::LongLine);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        self.searched = 0;
        self.spent = self.spent.saturating_add(end);
        if self.spent > ANSWER_BYTES {
            return Err(WireError::TooLong);
        }
        let mut line = self.input.split_to(end).freeze();
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        if let Some(tap) = &mut self.tap {
            tap.received(&line);
        }
        Ok(Some(line))
    }

    /// Moves the part of a mail that has arrived into `body`, up to the line with the single dot.
    pub fn body(&mut self, body: &mut Body) -> Reading {
        let reading = loop {
            if body.len > body.most {
                break Reading::Overrun;
            }
            let end = memchr(b'\n', &self.input).map(|at| at + 1);
            if body.at_line_start && self.input.first() == Some(&b'.') {
                match (end, &self.input[..]) {
                    (Some(end @ 2), [_, b'\n', ..]) | (Some(end @ 3), [_, b'\r', b'\n', ..]) => {
                        self.input.advance(end);
                        break Reading::Ended;
                    }
                    // The next bytes will show whether it is the last line.
                    (None, [_]) | (None, [_, b'\r']) => break Reading::More,
                    _ => {}
                }
                self.input.advance(1);
                body.at_line_start = false;
                continue;
            }
            if self.input.is_empty() {
                break Reading::More;
            }
            // A line without an end is taken in pieces: it may be as long as the mail.
            let taken = end.unwrap_or(self.input.len());
            body.add(&self.input[..taken]);
            self.input.advance(taken);
            body.at_line_start = end.is_some();
        };
        if let (Reading::Ended | Reading::Overrun, Some(tap)) = (reading, &mut self.tap) {
            tap.mail(body.len);
        }
        reading
    }
}

impl Body {
    /// Creates a mail of which `keep` bytes are kept. More than `most` bytes are an overrun.
    pub fn new(stated: u64, keep: u64, most: u64) -> Self {
        let reserved = stated.min(keep).min(RESERVED_BYTES);
        Self {
            bytes: Vec::with_capacity(usize::try_from(reserved).unwrap_or_default()),
            len: 0,
            keep,
            most,
            at_line_start: true,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.len = self.len.saturating_add(bytes.len() as u64);
        let left = self.keep.saturating_sub(self.bytes.len() as u64);
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a mail that arrives in chunks of every size: the result must not depend on how it arrives.
    async fn read(sent: &[u8], keep: u64, most: u64) -> (Reading, Vec<u8>, u64) {
        let mut all = Vec::new();
        for size in [1, 2, 3, 7, 64, usize::MAX] {
            let (client, mut server) = tokio::io::duplex(1024 * 1024);
            let mut wire = Wire::new(Box::new(client), None);
            let mut body = Body::new(10, keep, most);
            let mut reading = Reading::More;
            for chunk in sent.chunks(size.min(sent.len())) {
                if reading != Reading::More {
                    break;
                }
                server.write_all(chunk).await.unwrap();
                wire.fill().await.unwrap();
                reading = wire.body(&mut body);
            }
            all.push((reading, body.bytes, body.len));
        }
        let ends: Vec<&Reading> = all.iter().map(|it| &it.0).collect();
        assert!(ends.windows(2).all(|pair| pair[0] == pair[1]), "{ends:?}");
        if *ends[0] == Reading::Ended {
            assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        }
        all.swap_remove(0)
    }

    #[tokio::test]
    async fn dots_of_the_transport_are_taken_out() {
        for (sent, expected) in [
            ("a\r\n.\r\n", "a\r\n"),
            (".\r\n", ""),
            ("..\r\n.\r\n", ".\r\n"),
            ("...a\r\n..b\r\n.\r\n", "..a\r\n.b\r\n"),
            ("a.\r\n.b\r\n.\r\n", "a.\r\nb\r\n"),
            ("a\n..\n.\n", "a\n.\n"),
            ("a\r\n.\rb\r\n.\r\n", "a\r\n\rb\r\n"),
            ("no end.\r\r\n.\r\n", "no end.\r\r\n"),
        ] {
            let (reading, bytes, len) = read(sent.as_bytes(), 100, 100).await;
            assert_eq!(reading, Reading::Ended, "{sent:?}");
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
            assert_eq!(len, expected.len() as u64);
        }
    }

    #[tokio::test]
    async fn a_mail_without_its_last_line_has_more_to_come() {
        for sent in ["a\r\n", "a\r\n.", "a\r\n.\r", "a\r\n..\r\n", "x"] {
            assert_eq!(read(sent.as_bytes(), 100, 100).await.0, Reading::More);
        }
    }

    #[tokio::test]
    async fn of_a_long_mail_the_beginning_is_kept_up_to_the_limit() {
        let sent = format!("{}\r\n.\r\n", "x".repeat(5000));
        let (reading, bytes, len) = read(sent.as_bytes(), 10, 6000).await;
        assert_eq!((reading, bytes.len(), len), (Reading::Ended, 10, 5002));
        let (reading, bytes, _) = read(sent.as_bytes(), 10, 4000).await;
        assert_eq!((reading, bytes.len()), (Reading::Overrun, 10));
    }

    #[tokio::test]
    async fn lines_and_answers_are_bounded() {
        let (client, mut server) = tokio::io::duplex(LINE_BYTES * 2);
        let mut wire = Wire::new(Box::new(client), None);
        server.write_all(&vec![b'x'; LINE_BYTES + 1]).await.unwrap();
        let error = loop {
            match wire.line() {
                Ok(None) => wire.fill().await.unwrap(),
                other => break other.unwrap_err(),
            }
        };
        assert!(matches!(error, WireError::LongLine));
    }

    #[tokio::test]
    async fn an_answer_to_nothing_is_noticed() {
        let (client, mut server) = tokio::io::duplex(100);
        let mut wire = Wire::new(Box::new(client), None);
        server.write_all(b"+OK\r\n+OK\r\n").await.unwrap();
        wire.begin().unwrap();
        wire.fill().await.unwrap();
        assert_eq!(&wire.line().unwrap().unwrap()[..], b"+OK");
        assert!(matches!(wire.begin(), Err(WireError::OutOfStep)));
    }
}
