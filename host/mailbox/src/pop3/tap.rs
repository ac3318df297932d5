//! Records a POP3 conversation for a trace. Secrets are recognised by their place: everything that the client sends during a
//! sign-in.

use postroom_net::trace::{self, Side, Trace};

/// Listens on one connection.
pub(super) struct Tap {
    trace: Trace,
    /// From an AUTH command to its end.
    signing_in: bool,
}

impl Tap {
    pub fn new(trace: Trace) -> Self {
        Self {
            trace,
            signing_in: false,
        }
    }

    /// Records a line from the client, with its end.
    pub fn sent(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\r\n").unwrap_or(line);
        let shown = match self.signing_in {
            true => trace::redacted(line.len()),
            false => self.command(line),
        };
        self.trace.record(Side::Client, shown.as_bytes());
    }

    /// Records a line from the server.
    pub fn received(&mut self, line: &[u8]) {
        if self.signing_in && line.starts_with(b"+ ") {
            let shown = format!("+ {}", trace::challenge(&line[2..]));
            self.trace.record(Side::Server, shown.as_bytes());
            return;
        }
        if line.starts_with(b"+OK") || line.starts_with(b"-ERR") {
            self.signing_in = false;
        }
        self.trace.record(Side::Server, line);
    }

    /// Records a mail from the server by its size alone.
    pub fn mail(&mut self, bytes: u64) {
        let shown = format!("[mail, {bytes} bytes]");
        self.trace.record(Side::Server, shown.as_bytes());
    }

    fn command(&mut self, line: &[u8]) -> String {
        let text = String::from_utf8_lossy(line);
        let mut words = text.splitn(3, ' ');
        let name = words.next().unwrap_or_default();
        if name.eq_ignore_ascii_case("PASS") {
            let secret = &text[name.len().min(text.len())..];
            return format!("{name} {}", trace::redacted(secret.trim_start().len()));
        }
        if name.eq_ignore_ascii_case("AUTH") {
            self.signing_in = true;
            let mechanism = words.next().unwrap_or_default();
            let secret = words.next().map_or_else(String::new, |secret| {
                format!(" {}", trace::redacted(secret.len()))
            });
            return format!("{name} {mechanism}{secret}");
        }
        text.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_the_client_says_in_a_sign_in_is_recorded() {
        let trace = Trace::new();
        let mut tap = Tap::new(trace.clone());
        for line in [
            "S: +OK ready",
            "C: USER ann",
            "S: +OK",
            "C: pass secret two",
            "S: -ERR no",
            "C: AUTH XOAUTH2",
            "S: + ",
            "C: c2VjcmV0",
            "S: + eyJzdGF0dXMiOiI0MDEifQ==",
            "C: ",
            "S: -ERR [AUTH] no",
            "C: AUTH XOAUTH2 c2VjcmV0",
            "S: +OK hello",
            "C: STAT",
        ] {
            match line.split_once(": ") {
                Some(("C", line)) => tap.sent(format!("{line}\r\n").as_bytes()),
                Some((_, line)) => tap.received(line.as_bytes()),
                None => panic!("{line}"),
            }
        }
        tap.mail(70);
        let shown: Vec<String> = trace.take().into_iter().map(|line| line.text).collect();
        assert_eq!(
            shown,
            [
                "+OK ready",
                "USER ann",
                "+OK",
                "pass [redacted, 10 bytes]",
                "-ERR no",
                "AUTH XOAUTH2",
                "+",
                "[redacted, 8 bytes]",
                "+ [decoded] {\"status\":\"401\"}",
                "[empty]",
                "-ERR [AUTH] no",
                "AUTH XOAUTH2 [redacted, 8 bytes]",
                "+OK hello",
                "STAT",
                "[mail, 70 bytes]",
            ]
        );
    }
}
