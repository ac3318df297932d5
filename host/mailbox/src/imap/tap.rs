//! Records an IMAP conversation for a trace. Secrets are recognised by their position: everything that the client sends
//! during a sign-in.

use bytes::Bytes;
use postroom_net::trace::{self, Side, Trace};

use super::wire::Piece;

/// The trace of one connection.
pub(super) struct Tap {
    trace: Trace,
    /// Whether a sign-in command is running, up to its tagged end.
    signing_in: bool,
}

impl Tap {
    pub fn new(trace: Trace) -> Self {
        Self {
            trace,
            signing_in: false,
        }
    }

    /// Records a line of the client, with its end.
    pub fn sent(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let shown = if self.signing_in {
            trace::redacted(line.len())
        } else {
            self.command(line)
        };
        self.trace.record(Side::Client, shown.as_bytes());
    }

    fn command(&mut self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let mut words = text.splitn(3, ' ');
        let tag = words.next().unwrap_or_default();
        let name = words.next().unwrap_or_default();
        let rest = words.next();
        if name.eq_ignore_ascii_case("LOGIN") {
            self.signing_in = true;
            let secret = trace::redacted(rest.map_or(0, str::len));
            return format!("{tag} {name} {secret}");
        }
        if name.eq_ignore_ascii_case("AUTHENTICATE") {
            self.signing_in = true;
            let mut words = rest.unwrap_or_default().splitn(2, ' ');
            let mechanism = words.next().unwrap_or_default();
            let secret = words.next().map_or_else(String::new, |secret| {
                format!(" {}", trace::redacted(secret.len()))
            });
            return format!("{tag} {name} {mechanism}{secret}");
        }
        text.into_owned()
    }

    /// Records a complete response of the server.
    pub fn received(&mut self, response: &[Piece]) {
        let first: &Bytes = match response.first() {
            Some(Piece::Text(text)) => text,
            _ => return,
        };
        let shown = if self.signing_in && first.starts_with(b"+") {
            format!("+ {}", trace::challenge(&first[1..]))
        } else {
            if !first.starts_with(b"*") && !first.starts_with(b"+") {
                self.signing_in = false;
            }
            without_mail(response)
        };
        self.trace.record(Side::Server, shown.as_bytes());
    }
}

/// Returns a response with its literals replaced by their sizes, and its quoted strings as well if those may be parts of a
/// mail.
fn without_mail(response: &[Piece]) -> String {
    let mut shown = String::new();
    for piece in response {
        match piece {
            Piece::Text(text) => shown.push_str(&String::from_utf8_lossy(text)),
            Piece::Literal(literal) => shown.push_str(&format!("[{} bytes]", literal.len)),
        }
    }
    let is_fetch = shown
        .split(' ')
        .nth(2)
        .is_some_and(|word| word.eq_ignore_ascii_case("FETCH"));
    if is_fetch { unquoted(&shown) } else { shown }
}

/// Returns a text with each quoted string replaced by its size.
fn unquoted(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '"' {
            shown.push(c);
            continue;
        }
        let mut bytes = 0;
        while let Some(c) = chars.next() {
            match c {
                '"' => break,
                '\\' => bytes += chars.next().map_or(0, char::len_utf8),
                c => bytes += c.len_utf8(),
            }
        }
        shown.push_str(&format!("[{bytes} bytes]"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::imap::wire::Literal;

    /// Returns the recorded conversation; client lines begin with `C:`, server lines with `S:`.
    fn recorded(said: &[&str]) -> Vec<String> {
        let trace = Trace::new();
        let mut tap = Tap::new(trace.clone());
        for line in said {
            match line.split_once(": ") {
                Some(("C", line)) => tap.sent(format!("{line}\r\n").as_bytes()),
                Some((_, line)) => {
                    tap.received(&[Piece::Text(Bytes::copy_from_slice(line.as_bytes()))]);
                }
                None => panic!("{line}"),
            }
        }
        trace.take().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn nothing_that_the_client_says_in_a_sign_in_is_recorded() {
        let said = [
            "S: * OK ready",
            "C: P1 authenticate XOAUTH2 c2VjcmV0",
            "S: + eyJzdGF0dXMiOiI0MDEifQ==",
            "C: ",
            "S: P1 NO [AUTHENTICATIONFAILED] no",
            "C: P2 AUTHENTICATE PLAIN",
            "S: +",
            "C: c2VjcmV0",
            "S: * OK still checking",
            "C: c2VjcmV0",
            "S: P2 OK hello",
            "C: P3 LOGIN \"ann\" \"secret two\"",
            "S: P3 BAD no",
            "C: P4 SELECT \"INBOX\"",
        ];
        let shown = recorded(&said);
        assert!(
            shown
                .iter()
                .all(|line| !line.contains("c2Vj") && !line.contains("secret")),
            "{shown:#?}"
        );
        assert_eq!(
            shown,
            [
                "* OK ready",
                "P1 authenticate XOAUTH2 [redacted, 8 bytes]",
                "+ [decoded] {\"status\":\"401\"}",
                "[empty]",
                "P1 NO [AUTHENTICATIONFAILED] no",
                "P2 AUTHENTICATE PLAIN",
                "+",
                "[redacted, 8 bytes]",
                "* OK still checking",
                "[redacted, 8 bytes]",
                "P2 OK hello",
                "P3 LOGIN [redacted, 18 bytes]",
                "P3 BAD no",
                "P4 SELECT \"INBOX\"",
            ]
        );
    }

    #[test]
    fn of_mails_only_the_size_is_recorded() {
        let trace = Trace::new();
        let mut tap = Tap::new(trace.clone());
        let text = |text: &'static str| Piece::Text(Bytes::from_static(text.as_bytes()));
        let body = Literal {
            bytes: Bytes::from_static(b"private"),
            len: 9000,
        };
        tap.received(&[
            text(r#"* 3 FETCH (UID 7 BODY[]<0> "pri\"vate" X "#),
            Piece::Literal(body),
            text(")"),
        ]);
        assert_eq!(
            trace.take()[0].text,
            "* 3 FETCH (UID 7 BODY[]<0> [8 bytes] X [9000 bytes])"
        );
    }
}
