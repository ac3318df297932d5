//! Records an SMTP conversation for a trace. Secrets are recognised by their place: everything that the client sends during a
//! sign-in, and the text of a mail.

use postroom_net::trace::{self, Side, Trace};

/// The longest line that is kept. Longer lines are truncated, and the rest is only counted.
const LINE_BYTES_MAX: usize = 8 * 1024;
/// The end of a mail's text (RFC 5321 section 4.1.1.4).
const TEXT_END: &[u8] = b"\r\n.\r\n";

/// Listens on one connection.
pub(crate) struct Tap {
    trace: Trace,
    state: State,
    client: Pending,
    server: Pending,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Commands,
    /// From AUTH (RFC 4954) to its final reply.
    SigningIn,
    /// DATA was sent, and its reply has not arrived.
    DataAsked,
    /// Within the mail's text: how many bytes of it have passed, and how many of those may be its end.
    Text {
        bytes: usize,
        ended: usize,
    },
}

/// An incomplete line.
#[derive(Default)]
struct Pending {
    line: Vec<u8>,
    /// Its length, including what was not kept.
    bytes: usize,
    last: u8,
}

impl Tap {
    pub(crate) fn new(trace: Trace) -> Self {
        Self {
            trace,
            state: State::Commands,
            client: Pending::default(),
            server: Pending::default(),
        }
    }

    pub(crate) fn sent(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let State::Text { bytes, ended } = self.state {
                self.text(*byte, bytes + 1, ended);
            } else if let Some((line, bytes)) = self.client.push(*byte) {
                self.command(&line, bytes);
            }
        }
    }

    fn text(&mut self, byte: u8, bytes: usize, ended: usize) {
        let ended = match byte {
            byte if byte == TEXT_END[ended] => ended + 1,
            b'\r' => 1,
            _ => 0,
        };
        if ended < TEXT_END.len() {
            self.state = State::Text { bytes, ended };
            return;
        }
        let shown = format!("[mail, {} bytes]", bytes - TEXT_END.len());
        self.trace.record(Side::Client, shown.as_bytes());
        self.trace.record(Side::Client, b".");
        self.state = State::Commands;
    }

    fn command(&mut self, line: &[u8], bytes: usize) {
        if self.state == State::SigningIn {
            let shown = trace::redacted(bytes);
            return self.trace.record(Side::Client, shown.as_bytes());
        }
        let text = String::from_utf8_lossy(line);
        let mut words = text.splitn(3, ' ');
        let name = words.next().unwrap_or_default();
        if name.eq_ignore_ascii_case("AUTH") {
            self.state = State::SigningIn;
            let mechanism = words.next().unwrap_or_default();
            let said = name.len() + 1 + mechanism.len() + 1;
            let secret = words.next().map_or_else(String::new, |_| {
                format!(" {}", trace::redacted(bytes.saturating_sub(said)))
            });
            let shown = format!("{name} {mechanism}{secret}");
            return self.trace.record(Side::Client, shown.as_bytes());
        }
        if name.eq_ignore_ascii_case("DATA") {
            self.state = State::DataAsked;
        }
        self.trace.record(Side::Client, line);
    }

    pub(crate) fn received(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if let Some((line, _)) = self.server.push(*byte) {
                self.answer(&line);
            }
        }
    }

    fn answer(&mut self, line: &[u8]) {
        if self.state == State::SigningIn && line.starts_with(b"334") {
            let shown = format!("334 {}", trace::challenge(&line[3..]));
            return self.trace.record(Side::Server, shown.as_bytes());
        }
        self.trace.record(Side::Server, line);
        let is_last = line.get(3) != Some(&b'-');
        match self.state {
            State::SigningIn if is_last => self.state = State::Commands,
            State::DataAsked if is_last && line.starts_with(b"354") => {
                // The text may consist of its end alone: the line before it counts as ended.
                self.state = State::Text { bytes: 2, ended: 2 };
            }
            State::DataAsked if is_last => self.state = State::Commands,
            _ => {}
        }
    }
}

impl Pending {
    /// Takes a byte. If it ends a line, returns the kept part of that line without its end, and the line's length.
    fn push(&mut self, byte: u8) -> Option<(Vec<u8>, usize)> {
        let before = std::mem::replace(&mut self.last, byte);
        if byte != b'\n' {
            self.bytes += 1;
            if self.line.len() < LINE_BYTES_MAX {
                self.line.push(byte);
            }
            return None;
        }
        let mut line = std::mem::take(&mut self.line);
        let mut bytes = std::mem::take(&mut self.bytes);
        if before == b'\r' {
            bytes -= 1;
            line.truncate(bytes);
        }
        Some((line, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a conversation in chunks of this size and returns the records. Client lines begin with `C: `, and server lines
    /// with `S: `.
    fn recorded(said: &[&str], chunk: usize) -> Vec<String> {
        let trace = Trace::new();
        let mut tap = Tap::new(trace.clone());
        for line in said {
            let bytes = format!("{}\r\n", &line[3..]).into_bytes();
            for part in bytes.chunks(chunk) {
                match &line[..1] {
                    "C" => tap.sent(part),
                    _ => tap.received(part),
                }
            }
        }
        trace.take().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn neither_a_sign_in_nor_a_mail_is_recorded() {
        let long = format!("C: auth PLAIN {}", "c2Vj".repeat(5000));
        let said = [
            "S: 220 ready",
            "C: EHLO me",
            "S: 250-hello",
            "S: 250 AUTH XOAUTH2",
            "C: AUTH XOAUTH2 c2VjcmV0",
            "S: 334 eyJzdGF0dXMiOiI0MDAifQ==",
            "C: ",
            "S: 535-5.7.3 no",
            "S: 535 5.7.3 really",
            "C: AUTH LOGIN",
            "S: 334 VXNlcm5hbWU6",
            "C: c2VjcmV0",
            "S: 235 ok",
            &long,
            "S: 235 ok",
            "C: DATA",
            "S: 503 not yet",
            "C: DATA",
            "S: 354 go",
            "C: private",
            "C: ..",
            "C: .",
            "S: 250 queued",
            "C: DATA",
            "S: 354 go",
            "C: .",
            "C: QUIT",
        ];
        for chunk in [1, 2, 3, 7, 100_000] {
            let shown = recorded(&said, chunk);
            assert_eq!(
                shown,
                [
                    "220 ready",
                    "EHLO me",
                    "250-hello",
                    "250 AUTH XOAUTH2",
                    "AUTH XOAUTH2 [redacted, 8 bytes]",
                    "334 [decoded] {\"status\":\"400\"}",
                    "[empty]",
                    "535-5.7.3 no",
                    "535 5.7.3 really",
                    "AUTH LOGIN",
                    "334 [decoded] Username:",
                    "[redacted, 8 bytes]",
                    "235 ok",
                    "auth PLAIN [redacted, 20000 bytes]",
                    "235 ok",
                    "DATA",
                    "503 not yet",
                    "DATA",
                    "354 go",
                    "[mail, 13 bytes]",
                    ".",
                    "250 queued",
                    "DATA",
                    "354 go",
                    "[mail, 0 bytes]",
                    ".",
                    "QUIT",
                ],
                "chunks of {chunk}"
            );
        }
    }
}
