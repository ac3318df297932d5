//! SMTP replies (RFC 5321 section 4.2): bytes in, complete replies out, classified by their three digits, with bounded memory.

use bytes::{Buf, Bytes, BytesMut};

/// The longest line of a reply. RFC 5321 section 4.5.3.1.5 allows 512 bytes; servers with long lists of features exceed that.
pub(crate) const LINE_BYTES: usize = 8 * 1024;
/// The longest reply, all of its lines together.
pub(crate) const REPLY_BYTES: usize = 64 * 1024;

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub code: u16,
    /// The text after the code of each line, in the server's charset.
    pub lines: Vec<Bytes>,
}

/// Why the server's data is not a reply.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ReplyError {
    #[error("a reply line longer than {LINE_BYTES} bytes")]
    LongLine,
    #[error("a reply longer than {REPLY_BYTES} bytes")]
    LongReply,
    /// A line that does not begin with a code.
    #[error("this is no reply of a mail server")]
    Malformed(Bytes),
}

/// Extracts replies from the input.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    pub input: BytesMut,
    /// How far `input` has been searched for a line end.
    searched: usize,
    /// The lines of an incomplete reply.
    lines: Vec<Bytes>,
    bytes: usize,
}

impl Reply {
    pub fn is_positive(&self) -> bool {
        (200..300).contains(&self.code)
    }

    /// Returns the text on one line. Bytes that are not UTF-8 are replaced.
    pub fn text(&self) -> String {
        let lines: Vec<_> = self
            .lines
            .iter()
            .map(|line| String::from_utf8_lossy(line))
            .collect();
        lines.join(" ")
    }
}

impl Replies {
    /// Returns the next reply that is complete in the input.
    pub fn next(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.line()? {
            let Some((code, goes_on, text)) = parse(&line) else {
                return Err(ReplyError::Malformed(line));
            };
            self.lines.push(text);
            if !goes_on {
                self.bytes = 0;
                let lines = std::mem::take(&mut self.lines);
                return Ok(Some(Reply { code, lines }));
            }
        }
        Ok(None)
    }

    /// Returns whether no input is left over.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty() && self.lines.is_empty()
    }

    /// Returns the next line of the input, without its end.
    fn line(&mut self) -> Result<Option<Bytes>, ReplyError> {
        let found = self.input[self.searched..].iter().position(|b| *b == b'\n');
        let end = found.map_or(self.input.len(), |at| self.searched + at + 1);
        if end > LINE_BYTES {
            return Err(ReplyError::LongLine);
        }
        if self.bytes + end > REPLY_BYTES {
            return Err(ReplyError::LongReply);
        }
        if found.is_none() {
            self.searched = end;
            return Ok(None);
        }
        self.searched = 0;
        self.bytes += end;
        // Copied, because a slice would keep the whole read buffer.
        let line = Bytes::copy_from_slice(self.input[..end].trim_ascii_end());
        self.input.advance(end);
        Ok(Some(line))
    }
}

/// Returns the code, whether more lines follow, and the text.
fn parse(line: &Bytes) -> Option<(u16, bool, Bytes)> {
    let digits = line.get(..3)?;
    let is_code = matches!(digits[0], b'2'..=b'5') && digits.iter().all(u8::is_ascii_digit);
    let goes_on = match line.get(3) {
        None | Some(b' ') => false,
        Some(b'-') => true,
        Some(_) => return None,
    };
    if !is_code {
        return None;
    }
    let code = digits
        .iter()
        .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    Some((code, goes_on, line.slice(line.len().min(4)..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses bytes that arrive in chunks of every size: the result must not depend on them.
    fn read(bytes: &[u8]) -> Vec<Result<Reply, ReplyError>> {
        let mut all = Vec::new();
        for size in [1, 2, 3, 7, 64, 100_000] {
            let mut replies = Replies::default();
            let mut got = Vec::new();
            'bytes: for chunk in bytes.chunks(size) {
                replies.input.extend_from_slice(chunk);
                while let Some(next) = replies.next().transpose() {
                    let failed = next.is_err();
                    got.push(next);
                    if failed {
                        break 'bytes;
                    }
                }
                assert!(replies.input.len() <= LINE_BYTES + size);
            }
            all.push(got);
        }
        assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
        all.pop().unwrap()
    }

    #[test]
    fn a_reply_ends_with_its_last_line() {
        let got = read(b"220-one\r\n220 two\r\n250\n354 \r\n250-a\r\n250-\r\n250 c");
        let shown: Vec<(u16, String)> = got
            .into_iter()
            .map(|reply| reply.map(|reply| (reply.code, reply.text())).unwrap())
            .collect();
        let expected = [(220, "one two"), (250, ""), (354, "")];
        assert_eq!(shown, expected.map(|(code, text)| (code, text.to_owned())));
    }

    #[test]
    fn text_of_any_charset_is_taken() {
        let got = read(b"250 2.0.0 Nachricht f\xfcr Sie\r\n");
        let reply = got[0].as_ref().unwrap();
        assert_eq!(
            (reply.code, reply.text().as_str()),
            (250, "2.0.0 Nachricht f\u{fffd}r Sie")
        );
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for bytes in [
            &b"SSH-2.0\r\n"[..],
            b"\r\n",
            b"25\r\n",
            b"2500 x\r\n",
            b"199 x\r\n",
            b"600 x\r\n",
            b"25x y\r\n",
            b"\xff\xfe\xfd\r\n",
        ] {
            assert!(
                matches!(read(bytes)[..], [Err(ReplyError::Malformed(_))]),
                "{bytes:?}"
            );
        }
    }

    #[test]
    fn a_line_and_a_reply_are_bounded() {
        let line = |len: usize| {
            let mut line = b"250-".to_vec();
            line.resize(len - 2, b'x');
            line.extend(b"\r\n");
            line
        };
        let mut fits = line(LINE_BYTES).repeat(REPLY_BYTES / LINE_BYTES - 1);
        fits.extend(b"250 done\r\n");
        assert!(matches!(read(&fits)[..], [Ok(_)]));
        assert_eq!(read(&line(LINE_BYTES + 1)), [Err(ReplyError::LongLine)]);
        assert_eq!(read(&[b'x'; LINE_BYTES + 1]), [Err(ReplyError::LongLine)]);
        let endless = line(LINE_BYTES).repeat(REPLY_BYTES / LINE_BYTES + 1);
        assert_eq!(read(&endless), [Err(ReplyError::LongReply)]);
    }
}
