//! Protocol trace of a session, for an admin who tests a mailbox. Secrets are removed from a line by their position in
//! the protocol, and again wherever they occur. Nothing is recorded unless a trace was passed in.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_core::harmless::harmless_chars;
use url::Url;

use crate::TraceRedactor;

/// A trace that all parts of one test write to. Cheap to clone.
#[derive(Clone)]
pub struct Trace(Arc<Inner>);

struct Inner {
    started: Instant,
    kept: Mutex<Kept>,
    /// Takes each line instead of its being kept.
    sink: Option<Box<Sink>>,
}

type Sink = dyn Fn(Side, &str) + Send + Sync;

#[derive(Default)]
struct Kept {
    lines: Vec<TraceLine>,
    /// The number of lines recorded so far, including those taken out.
    count: usize,
    /// The secrets to remove from every line.
    secrets: TraceRedactor,
}

/// One line of a trace, free of control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceLine {
    /// The time since the trace began.
    pub at: Duration,
    pub side: Side,
    pub text: String,
}

/// The sender of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
    /// Neither side: a remark, such as on a token request.
    Note,
}

/// The most lines of a trace.
pub const LINES_MAX: usize = 2000;
/// The most characters of a line.
pub const LINE_CHARS_MAX: usize = 1000;

impl Trace {
    pub fn new() -> Self {
        Self::with(None)
    }

    /// A trace that keeps nothing: `sink` gets each line, without its secrets, in order.
    pub fn to(sink: impl Fn(Side, &str) + Send + Sync + 'static) -> Self {
        Self::with(Some(Box::new(sink)))
    }

    fn with(sink: Option<Box<Sink>>) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            kept: Mutex::default(),
            sink,
        }))
    }

    /// Removes these secrets from every line that is recorded from now on.
    pub fn hide(&self, secrets: &TraceRedactor) {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.secrets.extend(secrets);
    }

    /// Records a line. Secrets that were not passed to [`Trace::hide`] must already be removed.
    pub fn record(&self, side: Side, text: &[u8]) {
        let at = self.0.started.elapsed();
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sink) = &self.0.sink {
            let text = kept.secrets.redact(&String::from_utf8_lossy(text));
            sink(side, &shown(text.as_bytes()));
            return;
        }
        kept.count = kept.count.saturating_add(1);
        let line = match kept.count.cmp(&LINES_MAX) {
            std::cmp::Ordering::Less => TraceLine {
                at,
                side,
                text: shown(
                    kept.secrets
                        .redact(&String::from_utf8_lossy(text))
                        .as_bytes(),
                ),
            },
            std::cmp::Ordering::Equal => TraceLine {
                at,
                side: Side::Note,
                text: format!("the trace ends here, at {LINES_MAX} lines"),
            },
            std::cmp::Ordering::Greater => return,
        };
        kept.lines.push(line);
    }

    /// Records an HTTP request: its URL without the query, and its outcome. The bodies contain secrets.
    pub fn request(&self, method: &str, url: &str, outcome: &str) {
        let place = Url::parse(url).map_or_else(
            |_| "?".into(),
            |url| format!("{}{}", url.host_str().unwrap_or_default(), url.path()),
        );
        let text = format!("{method} {place} -> {outcome}");
        self.record(Side::Note, text.as_bytes());
    }

    /// Takes out the lines recorded since the last call.
    pub fn take(&self) -> Vec<TraceLine> {
        let mut kept = self.0.kept.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut kept.lines)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

impl fmt::Display for TraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>6} ms {} {}",
            self.at.as_millis(),
            self.side,
            self.text
        )
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Side::Client => "C:",
            Side::Server => "S:",
            Side::Note => "--",
        })
    }
}

/// Returns the replacement for a secret of this many bytes.
pub fn redacted(bytes: usize) -> String {
    match bytes {
        0 => "[empty]".into(),
        _ => format!("[redacted, {bytes} bytes]"),
    }
}

/// Returns a server's challenge (RFC 4422 section 3.6) in clear text: it explains why a token was refused, and contains no
/// secret.
pub fn challenge(text: &[u8]) -> String {
    match BASE64.decode(text.trim_ascii()) {
        Ok(decoded) if !decoded.is_empty() => format!("[decoded] {}", shown(&decoded)),
        _ => shown(text),
    }
}

fn shown(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let mut chars = harmless_chars(text.trim_end());
    let mut shown: String = chars.by_ref().take(LINE_CHARS_MAX).collect();
    if chars.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_bounded_in_lines_and_in_their_length() {
        let trace = Trace::new();
        trace.record(Side::Server, "ü\u{7}".repeat(5000).as_bytes());
        for n in 0..LINES_MAX * 2 {
            trace.record(Side::Client, n.to_string().as_bytes());
        }
        let lines = trace.take();
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines[0].text.chars().count(), LINE_CHARS_MAX);
        assert!(lines[0].text.starts_with("ü ü ") && lines[0].text.ends_with('…'));
        assert_eq!(lines[LINES_MAX - 1].side, Side::Note);
        trace.record(Side::Client, b"more");
        assert!(trace.take().is_empty());
    }

    #[test]
    fn a_trace_to_a_sink_has_no_end_and_no_secret() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = lines.clone();
        let trace =
            Trace::to(move |side, text| sink.lock().unwrap().push(format!("{side} {text}")));
        trace.hide(&TraceRedactor::new(["hunter2"]));
        for _ in 0..LINES_MAX + 2 {
            trace.record(Side::Server, b"hunter2?\r\n");
        }
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), LINES_MAX + 2);
        assert!(lines.iter().all(|line| line == "S: [redacted]?"));
    }

    #[test]
    fn a_hidden_secret_is_removed_wherever_it_stands() {
        let trace = Trace::new();
        trace.hide(&TraceRedactor::new(["hunter2"]));
        trace.record(Side::Server, b"501 AUTH LOGIN aHVudGVyMg== hunter2?");
        assert_eq!(
            trace.take()[0].text,
            "501 AUTH LOGIN [redacted]== [redacted]?"
        );
    }

    #[test]
    fn a_request_is_shown_without_its_query_and_a_challenge_in_clear() {
        let trace = Trace::new();
        let url = "https://u:pw@login.example/t/token?code=secret";
        trace.request("POST", url, "HTTP 200 OK");
        assert_eq!(
            trace.take()[0].text,
            "POST login.example/t/token -> HTTP 200 OK"
        );
        assert_eq!(
            challenge(b"eyJzdGF0dXMiOiI0MDEifQ=="),
            r#"[decoded] {"status":"401"}"#
        );
        assert_eq!(challenge(b"User Name"), "User Name");
    }
}
