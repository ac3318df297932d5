//! IMAP framing (RFC 9051 section 2.2): reads bytes, returns complete responses, and bounds memory whatever the server
//! sends.
//!
//! Bodies are returned as slices of the read buffer, without a copy. Every await is cancel-safe: a partially read response
//! stays in the buffers until the next call.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;

use bytes::{Buf, Bytes, BytesMut};
use postroom_net::Stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tap::Tap;

/// A part of a response.
#[derive(Debug, Clone)]
pub(super) enum Piece {
    Text(Bytes),
    Literal(Literal),
}

/// A literal, or its beginning if it is longer than the limit.
#[derive(Debug, Clone)]
pub(super) struct Literal {
    pub bytes: Bytes,
    /// The length that the server stated and sent.
    pub len: u64,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error("the server closed the connection")]
    Closed,
    #[error("connection failed: {0}")]
    Io(#[from] io::Error),
    #[error("a response line longer than {LINE_BYTES} bytes")]
    LongLine,
    #[error("more than {ANSWER_BYTES} bytes of responses to one command")]
    TooLong,
    #[error("a response with more literal data than was requested")]
    TooMuch,
}

/// Reads and writes one connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// The offset up to which `input` was searched for a line end.
    searched: usize,
    output: BytesMut,
    response: Vec<Piece>,
    text_bytes: usize,
    literal_bytes: u64,
    state: State,
    keep: u64,
    /// The bytes of responses since the last command, without literals.
    spent: usize,
    tap: Option<Tap>,
}

/// The longest response, without literals. Honest ones are short; a folder's flags may take a few kilobytes.
const LINE_BYTES: usize = 256 * 1024;
/// The longest search result: a result with a million mails fits.
const SEARCH_BYTES: usize = 8 * 1024 * 1024;
/// The limit on a server's responses to one command, without literals. A listing takes 2 MB, and flag updates of other
/// mails may arrive with it.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
/// The size up to which literals are kept, unless a body is being fetched.
const KEEP_BYTES: u64 = 64 * 1024;
/// The size of the read buffer while bodies are fetched.
const BODIES_BUFFER_BYTES: usize = 128 * 1024;
/// The size of the read buffer otherwise.
const BUFFER_BYTES: usize = 4 * 1024;

#[derive(Clone, Copy)]
enum State {
    Text,
    Literal { len: u64 },
    Skip { left: u64 },
}

impl Wire {
    /// Creates the framing; `tap` receives the whole conversation.
    pub fn new(stream: Box<dyn Stream>, tap: Option<Tap>) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            searched: 0,
            output: BytesMut::new(),
            response: Vec::new(),
            text_bytes: 0,
            literal_bytes: 0,
            state: State::Text,
            keep: KEEP_BYTES,
            spent: 0,
            tap,
        }
    }

    /// Begins a new command: earlier data no longer counts towards the limit.
    pub fn begin(&mut self) {
        self.spent = 0;
    }

    /// Returns the stream itself, if no read bytes are left over (for STARTTLS: an attacker could have inserted bytes that
    /// arrived before the handshake).
    pub fn into_stream(self) -> Option<Box<dyn Stream>> {
        self.input.is_empty().then_some(self.stream)
    }

    /// Keeps literals up to this length complete from now on, and only the beginning of longer ones.
    pub fn keep_literals(&mut self, bytes: u64) {
        self.keep = bytes.max(KEEP_BYTES);
        // The buffer of a large mail must not stay allocated here.
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Puts a line, with its end, into the send buffer.
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

    /// Reads some more bytes from the server. A connection that waits for them holds no read buffer, since most connections
    /// are idle most of the time, and there may be thousands.
    pub async fn fill(&mut self) -> Result<(), WireError> {
        let buffer = if self.keep > KEEP_BYTES {
            BODIES_BUFFER_BYTES
        } else {
            BUFFER_BYTES
        };
        // While bodies are fetched, the rest of the buffer shares its memory with them.
        let may_wait_long = buffer == BUFFER_BYTES;
        let read = poll_fn(|cx| {
            if self.input.capacity() - self.input.len() < buffer / 8 {
                self.input.reserve(buffer);
            }
            let read = pin!(self.stream.read_buf(&mut self.input)).poll(cx);
            if read.is_pending() && may_wait_long && self.input.is_empty() {
                self.input = BytesMut::new();
            }
            read
        });
        match read.await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }

    /// Returns the next response that is complete in the buffer.
    pub fn response(&mut self) -> Result<Option<Vec<Piece>>, WireError> {
        loop {
            match self.state {
                State::Text => {
                    let Some(text) = self.line()? else {
                        return Ok(None);
                    };
                    match literal_length(&text).filter(|_| self.takes_literals(&text)) {
                        Some((start, len)) => {
                            self.literal_bytes =
                                self.literal_bytes.saturating_add(len.min(self.keep));
                            if self.literal_bytes > self.keep.saturating_add(KEEP_BYTES) {
                                return Err(WireError::TooMuch);
                            }
                            self.response.push(Piece::Text(text.slice(..start)));
                            self.state = State::Literal { len };
                        }
                        None => {
                            self.response.push(Piece::Text(text));
                            self.text_bytes = 0;
                            self.literal_bytes = 0;
                            let response = std::mem::take(&mut self.response);
                            if let Some(tap) = &mut self.tap {
                                tap.received(&response);
                            }
                            return Ok(Some(response));
                        }
                    }
                }
                State::Literal { len } => {
                    let wanted = if len <= self.keep { len } else { KEEP_BYTES };
                    // `wanted` fits: it is at most `keep`, which a buffer can hold or the reads fail first.
                    let Some(wanted) = usize::try_from(wanted).ok() else {
                        return Err(WireError::TooMuch);
                    };
                    if self.input.len() < wanted {
                        // Growing by doubling would hold a large mail twice.
                        self.input.reserve(wanted - self.input.len());
                        return Ok(None);
                    }
                    let bytes = self.input.split_to(wanted).freeze();
                    let left = len - bytes.len() as u64;
                    self.response.push(Piece::Literal(Literal { bytes, len }));
                    self.state = State::Skip { left };
                }
                State::Skip { left } => {
                    let here = usize::try_from(left)
                        .unwrap_or(usize::MAX)
                        .min(self.input.len());
                    self.input.advance(here);
                    let left = left - here as u64;
                    if left > 0 {
                        self.state = State::Skip { left };
                        return Ok(None);
                    }
                    self.state = State::Text;
                }
            }
        }
    }

    /// Returns the next line in the buffer, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, WireError> {
        let found = self.input[self.searched..].iter().position(|b| *b == b'\n');
        let end = found.map_or(self.input.len(), |at| self.searched + at + 1);
        if self.text_bytes + end > LINE_BYTES && self.text_bytes + end > self.longest() {
            return Err(WireError::LongLine);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        self.searched = 0;
        self.text_bytes += end;
        self.spent = self.spent.saturating_add(end);
        if self.spent > ANSWER_BYTES {
            return Err(WireError::TooLong);
        }
        let mut line = self.input.split_to(end).freeze();
        line.truncate(line.len() - 1);
        if line.last() == Some(&b'\r') {
            line.truncate(line.len() - 1);
        }
        Ok(Some(line))
    }

    /// Returns the length limit of the response that is being read.
    fn longest(&self) -> usize {
        const SEARCH: &[u8] = b"* SEARCH";
        let beginning = match self.response.first() {
            Some(Piece::Text(first)) => &first[..],
            _ => &self.input[..],
        };
        match beginning.get(..SEARCH.len()) {
            Some(word) if word.eq_ignore_ascii_case(SEARCH) => SEARCH_BYTES,
            _ => LINE_BYTES,
        }
    }

    /// Returns whether a response may contain literals: only data responses do, although the free text of a status response
    /// may end like one.
    fn takes_literals(&self, text: &[u8]) -> bool {
        let first = match self.response.first() {
            Some(Piece::Text(first)) => first,
            _ => text,
        };
        let Some(rest) = first.strip_prefix(b"* ") else {
            return false;
        };
        let word = rest.split(|b| *b == b' ').next().unwrap_or_default();
        ![&b"OK"[..], b"NO", b"BAD", b"BYE", b"PREAUTH"]
            .iter()
            .any(|status| word.eq_ignore_ascii_case(status))
    }
}

/// Returns the offset of a literal's `{n}` at the end of a line, and its n.
fn literal_length(line: &[u8]) -> Option<(usize, u64)> {
    let inner = line.strip_suffix(b"}")?;
    let start = inner.iter().rposition(|b| *b == b'{')?;
    let digits = inner[start + 1..]
        .strip_suffix(b"+")
        .unwrap_or(&inner[start + 1..]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let len = std::str::from_utf8(digits).ok()?.parse().ok()?;
    // A literal8 (RFC 3516) has a tilde before the brace.
    let start = start - usize::from(start > 0 && line[start - 1] == b'~');
    Some((start, len))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds the bytes in chunks of every size: the responses must not depend on how they arrive.
    async fn responses(bytes: &[u8], keep: u64) -> Vec<Result<Vec<Piece>, WireError>> {
        let mut shown: Vec<String> = Vec::new();
        let mut last = Vec::new();
        for size in [1, 2, 3, 7, 64, 4096, usize::MAX] {
            let (client, mut server) = tokio::io::duplex(16 * 1024 * 1024);
            let mut wire = Wire::new(Box::new(client), None);
            wire.keep_literals(keep);
            let mut got = Vec::new();
            for chunk in bytes.chunks(size.min(bytes.len())) {
                server.write_all(chunk).await.unwrap();
                wire.fill().await.unwrap();
                while let Some(next) = wire.response().transpose() {
                    let failed = next.is_err();
                    got.push(next);
                    if failed {
                        break;
                    }
                }
            }
            shown.push(format!("{got:?}"));
            last = got;
        }
        assert!(shown.windows(2).all(|pair| pair[0] == pair[1]), "{shown:?}");
        last
    }

    fn text(piece: &Piece) -> &[u8] {
        match piece {
            Piece::Text(text) => text,
            Piece::Literal(literal) => &literal.bytes,
        }
    }

    #[tokio::test]
    async fn literals_are_cut_out_of_their_line() {
        let got = responses(b"* 1 FETCH (A {3}\r\na\r\n B ~{0}\r\n C {2+}\r\nxy)\r\n* OK done {5}\r\nP1 OK {5}\r\n+ {5}\r\n", 0).await;
        let first: Vec<&[u8]> = got[0].as_ref().unwrap().iter().map(text).collect();
        assert_eq!(
            first,
            [
                &b"* 1 FETCH (A "[..],
                b"a\r\n",
                b" B ",
                b"",
                b" C ",
                b"xy",
                b")"
            ]
        );
        assert_eq!(got.len(), 4);
        assert_eq!(text(&got[1].as_ref().unwrap()[0]), b"* OK done {5}");
    }

    #[tokio::test]
    async fn of_a_long_literal_the_beginning_is_kept() {
        let mut bytes = b"* 1 FETCH (BODY[] {200000}\r\n".to_vec();
        bytes.extend(std::iter::repeat_n(b'x', 200_000));
        bytes.extend(b")\r\nP1 OK\r\n");
        let (client, mut server) = tokio::io::duplex(1024);
        let mut wire = Wire::new(Box::new(client), None);
        let sending = tokio::spawn(async move { server.write_all(&bytes).await });
        let mut got = Vec::new();
        while got.len() < 2 {
            match wire.response().unwrap() {
                Some(response) => got.push(response),
                None => wire.fill().await.unwrap(),
            }
        }
        sending.await.unwrap().unwrap();
        let Piece::Literal(literal) = &got[0][1] else {
            panic!("no literal")
        };
        assert_eq!(
            (literal.bytes.len() as u64, literal.len),
            (KEEP_BYTES, 200_000)
        );
    }

    #[tokio::test]
    async fn a_waiting_connection_holds_no_read_buffer() {
        let (client, mut server) = tokio::io::duplex(1024);
        let mut wire = Wire::new(Box::new(client), None);
        server.write_all(b"* OK\r\n* BY").await.unwrap();
        wire.fill().await.unwrap();
        assert!(wire.response().unwrap().is_some() && wire.response().unwrap().is_none());
        assert!(futures::poll!(pin!(wire.fill())).is_pending());
        server.write_all(b"E\r\n").await.unwrap();
        wire.fill().await.unwrap();
        assert_eq!(text(&wire.response().unwrap().unwrap()[0]), b"* BYE");
        assert!(futures::poll!(pin!(wire.fill())).is_pending());
        assert_eq!(wire.input.capacity(), 0);
    }

    #[tokio::test]
    async fn too_many_kept_literals_are_an_error() {
        let mut bytes = b"* 1 FETCH (".to_vec();
        for _ in 0..3 {
            bytes.extend(b"{60000}\r\n");
            bytes.extend(std::iter::repeat_n(b'x', 60_000));
        }
        let (client, mut server) = tokio::io::duplex(1024 * 1024);
        let mut wire = Wire::new(Box::new(client), None);
        server.write_all(&bytes).await.unwrap();
        let error = loop {
            match wire.response() {
                Ok(Some(_)) => panic!("a response"),
                Ok(None) => wire.fill().await.unwrap(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, WireError::TooMuch));
    }

    #[test]
    fn lengths() {
        assert_eq!(literal_length(b"BODY[] {12}"), Some((7, 12)));
        assert_eq!(literal_length(b"{12+}"), Some((0, 12)));
        assert_eq!(literal_length(b"~{12}"), Some((0, 12)));
        for none in [
            &b"{}"[..],
            b"{1",
            b"1}",
            b"{-1}",
            b"{99999999999999999999999}",
            b"}",
        ] {
            assert_eq!(literal_length(none), None);
        }
    }
}
