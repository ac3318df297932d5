//! Removes secrets from the texts of servers, some of which quote the command or the field that they refuse.
//!
//! Every text of a server that ends up in an error, a log line, a trace or the database passes through [`TraceRedactor::redact`]
//! when it is received. A quoted secret may be encoded, and cut off anywhere; every piece of an encoding from
//! [`PIECE_BYTES`] on counts.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;
use url::form_urlencoded;

/// The replacement for a secret.
pub const REDACTED: &str = "[redacted]";

/// A shorter secret may occur in ordinary words: only the sign-in response that contains it is removed.
const SECRET_BYTES_MIN: usize = 4;
/// A piece of a secret, or of its encoding, of this length is removed. A shorter encoding is removed only as a whole.
const PIECE_BYTES: usize = 12;

/// Secrets that one trace removes: a token a day and its encodings for a month. The text of a trace is searched for each.
const SECRETS_MAX: usize = 64;

/// The secrets that were sent to a server.
#[derive(Clone, Default)]
pub struct TraceRedactor {
    secrets: Vec<Zeroizing<Vec<u8>>>,
    /// The base64 responses of a sign-in, which contain the user's name; in clear text that name is no secret.
    responses: Vec<Zeroizing<Vec<u8>>>,
}

impl TraceRedactor {
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let long = secrets
            .into_iter()
            .filter(|secret| secret.as_ref().len() >= SECRET_BYTES_MIN);
        Self {
            secrets: long
                .map(|secret| Zeroizing::new(secret.as_ref().to_vec()))
                .collect(),
            responses: Vec::new(),
        }
    }

    /// Adds a response of a sign-in (RFC 4422 section 3.4), which is removed in encoded form.
    pub fn with_response(mut self, response: impl AsRef<[u8]>) -> Self {
        self.responses
            .push(Zeroizing::new(response.as_ref().to_vec()));
        self
    }

    /// Adds the secrets of another. The oldest are forgotten beyond [`SECRETS_MAX`].
    pub fn extend(&mut self, other: &TraceRedactor) {
        for (known, new) in [
            (&mut self.secrets, &other.secrets),
            (&mut self.responses, &other.responses),
        ] {
            for secret in new {
                if !known.contains(secret) {
                    known.push(secret.clone());
                }
            }
            let over = known.len().saturating_sub(SECRETS_MAX);
            known.drain(..over);
        }
    }

    /// Returns the text with `[redacted]` in place of each secret, whether plain or in any usual encoding.
    pub fn redact(&self, text: &str) -> String {
        let bytes = text.as_bytes();
        if bytes.len() < SECRET_BYTES_MIN || (self.secrets.is_empty() && self.responses.is_empty())
        {
            return text.to_owned();
        }
        let mut cover = Cover::new(bytes);
        for secret in &self.secrets {
            for form in [secret.clone()].into_iter().chain(escaped(secret)) {
                cover.find(&form);
            }
        }
        for secret in self.secrets.iter().chain(&self.responses) {
            for form in encoded(secret) {
                cover.find(&form);
            }
        }
        cover.redacted(text)
    }
}

impl std::fmt::Debug for TraceRedactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The bytes of a text that belong to a secret.
struct Cover<'t> {
    text: &'t [u8],
    covered: Vec<bool>,
    /// The offsets of each piece of the text. A piece that was found is removed from the map, so that the work stays
    /// proportional to the text.
    pieces: HashMap<&'t [u8], Vec<usize>>,
}

impl<'t> Cover<'t> {
    fn new(text: &'t [u8]) -> Self {
        let mut pieces: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for (at, piece) in text.windows(PIECE_BYTES).enumerate() {
            pieces.entry(piece).or_default().push(at);
        }
        Self {
            text,
            covered: vec![false; text.len()],
            pieces,
        }
    }

    fn find(&mut self, form: &[u8]) {
        if form.len() < SECRET_BYTES_MIN {
            return;
        }
        if form.len() >= PIECE_BYTES {
            for piece in form.windows(PIECE_BYTES) {
                for at in self.pieces.remove(piece).unwrap_or_default() {
                    self.covered[at..at + PIECE_BYTES].fill(true);
                }
            }
            return;
        }
        for (at, piece) in self.text.windows(form.len()).enumerate() {
            if piece == form {
                self.covered[at..at + form.len()].fill(true);
            }
        }
    }

    fn redacted(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut in_secret = false;
        for (at, c) in text.char_indices() {
            let is_secret = self.covered[at..at + c.len_utf8()].contains(&true);
            match (is_secret, in_secret) {
                (false, _) => shown.push(c),
                (true, false) => shown.push_str(REDACTED),
                (true, true) => {}
            }
            in_secret = is_secret;
        }
        shown
    }
}

/// Returns a secret as text formats write it: a form (WHATWG URL section 5), a URL (RFC 3986 section 2.1), quoted-printable
/// (RFC 2045 section 6.7), JSON (RFC 8259 section 7).
fn escaped(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    let form: String = form_urlencoded::byte_serialize(secret).collect();
    let address = by_byte(secret, '%', is_unreserved);
    let printable = by_byte(secret, '=', |byte| {
        byte == b' ' || (byte.is_ascii_graphic() && byte != b'=')
    });
    let mut forms = vec![
        with_small_digits(&form, '%'),
        with_small_digits(&address, '%'),
        with_small_digits(&printable, '='),
        form,
        address,
        printable,
    ];
    if let Ok(text) = std::str::from_utf8(secret)
        && let Ok(quoted) = serde_json::to_string(text)
    {
        let inner = &quoted[1..quoted.len() - 1];
        forms.push(inner.replace('/', "\\/"));
        forms.push(inner.to_owned());
        forms.push(ascii_json(inner));
    }
    let forms = forms.into_iter().map(String::into_bytes);
    forms.map(Zeroizing::new).collect()
}

/// Returns a secret in base64 (RFC 4648 sections 4 and 5) for every offset in its group of three bytes, and in hex.
fn encoded(secret: &[u8]) -> Vec<Zeroizing<Vec<u8>>> {
    // By itself, as AUTH LOGIN sends it, its last character counts as well.
    let mut forms = vec![
        STANDARD_NO_PAD.encode(secret).into_bytes(),
        URL_SAFE_NO_PAD.encode(secret).into_bytes(),
    ];
    for before in 0..3 {
        forms.push(aligned(&STANDARD_NO_PAD, secret, before));
        forms.push(aligned(&URL_SAFE_NO_PAD, secret, before));
    }
    let small: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    forms.push(small.to_ascii_uppercase().into_bytes());
    forms.push(small.into_bytes());
    forms.into_iter().map(Zeroizing::new).collect()
}

/// Returns the characters that depend on the secret alone if `before` bytes precede it, whatever follows.
fn aligned(engine: &impl Engine, secret: &[u8], before: usize) -> Vec<u8> {
    let mut whole = Zeroizing::new(vec![0; before]);
    whole.extend_from_slice(secret);
    let encoded = engine.encode(&*whole).into_bytes();
    let start = (before * 8).div_ceil(6);
    let end = whole.len() * 8 / 6;
    encoded.get(start..end).unwrap_or_default().to_vec()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Returns the text with each byte that must be escaped as `mark` and two hex digits.
fn by_byte(secret: &[u8], mark: char, is_plain: impl Fn(u8) -> bool) -> String {
    let mut text = String::new();
    for byte in secret {
        if is_plain(*byte) {
            text.push(char::from(*byte));
        } else {
            text.push_str(&format!("{mark}{byte:02X}"));
        }
    }
    text
}

fn with_small_digits(encoded: &str, mark: char) -> String {
    let mut digits = 0;
    encoded
        .chars()
        .map(|c| {
            if c == mark {
                digits = 2;
            } else if digits > 0 {
                digits -= 1;
                return c.to_ascii_lowercase();
            }
            c
        })
        .collect()
}

/// Returns JSON text with each character beyond ASCII as `\u` and its UTF-16 units.
fn ascii_json(inner: &str) -> String {
    let mut text = String::new();
    for c in inner.chars() {
        if c.is_ascii() {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            text.push_str(&format!("\\u{unit:04x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[test]
    fn a_secret_is_removed_in_every_encoding() {
        let secret = "a b~/+*\"ü";
        let redactor = TraceRedactor::new([secret, "", "plain"]);
        let quoted = |text: &str| redactor.redact(text);
        for text in [
            secret,
            "a+b%7E%2F%2B*%22%C3%BC",
            "a+b%7e%2f%2b*%22%c3%bc",
            "a%20b~%2F%2B%2A%22%C3%BC",
            "a%20b~%2f%2b%2a%22%c3%bc",
            "a b~/+*\"=C3=BC",
            "a b~/+*\\\"ü",
            "a b~\\/+*\\\"ü",
            "a b~/+*\\\"\\u00fc",
            "6120627e2f2b2a22c3bc",
            "6120627E2F2B2A22C3BC",
        ] {
            assert_eq!(
                quoted(&format!("no '{text}', plain")),
                "no '[redacted]', [redacted]"
            );
        }
        assert_eq!(quoted("a b is a c"), "a b is a c");
    }

    #[test]
    fn base64_is_removed_at_every_alignment_and_cut_off_anywhere() {
        let secret = "hunter2/hunter3?hunter4>";
        let redactor = TraceRedactor::new([secret]);
        for before in ["", "a", "ab", "abc"] {
            for whole in [
                STANDARD.encode(format!("{before}{secret}tail")),
                URL_SAFE_NO_PAD.encode(format!("{before}{secret}tail")),
            ] {
                let text = redactor.redact(&format!("syntax error: {whole}"));
                assert!(text.contains(REDACTED), "{text}");
                assert!(
                    text.len() < "syntax error: [redacted]".len() + 16,
                    "{text} of {whole}"
                );
            }
        }
        let response = format!("\0support@acme.example\0{secret}");
        let redactor = TraceRedactor::new([secret]).with_response(&response);
        let whole = STANDARD.encode(&response);
        for end in PIECE_BYTES..=whole.len() {
            let text = redactor.redact(&format!("501 AUTH PLAIN {}", &whole[..end]));
            let rest = text.strip_prefix("501 AUTH PLAIN [redacted]");
            // Padding may remain.
            assert!(rest.is_some_and(|rest| rest.len() <= 2), "{text}");
        }
        assert_eq!(
            redactor.redact("no such user support@acme.example"),
            "no such user support@acme.example"
        );
    }

    #[test]
    fn a_short_secret_does_not_eat_the_text() {
        let redactor = TraceRedactor::new(["", "a", "ab", "abc"]).with_response("\0ann\0abc");
        assert_eq!(
            redactor.redact("a cab for abc, ann: AGFubgBhYmM="),
            "a cab for abc, ann: [redacted]="
        );
    }

    #[test]
    fn the_work_does_not_grow_with_the_square_of_a_hostile_answer() {
        let redactor = TraceRedactor::new(["x".repeat(4096)]);
        let text = redactor.redact(&"x".repeat(512 * 1024));
        assert_eq!(text, REDACTED);
    }

    #[test]
    fn nothing_of_it_is_printed() {
        assert_eq!(format!("{:?}", TraceRedactor::new(["hunter2"])), REDACTED);
    }
}
