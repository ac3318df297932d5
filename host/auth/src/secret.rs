//! Secrets as types that cannot be printed by accident.

use std::fmt;

use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};
use url::form_urlencoded;

/// A client secret or a password. `Debug` and `Display` show nothing of it; the memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    pub fn new(value: impl Into<String>) -> Self {
        Self(SecretString::from(value.into()))
    }

    /// The secret itself, for the moment it goes onto the wire.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(value: String) -> Self {
        Self::new(value)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// An OAuth access token, opaque to us (RFC 6749 section 1.4). Printed redacted.
#[derive(Clone)]
pub struct AccessToken(Secret);

impl AccessToken {
    pub fn new(value: impl Into<String>) -> Self {
        Self(Secret::new(value))
    }

    /// The token itself, for the moment it goes onto the wire.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl PartialEq for AccessToken {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for AccessToken {}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Secrets that were sent to a server, to be taken out of what it answers: some quote what they do not like.
pub struct Sent(Vec<Zeroizing<String>>);

impl Sent {
    pub fn new<S: AsRef<str>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let mut forms: Vec<_> = secrets
            .into_iter()
            .filter(|secret| !secret.as_ref().is_empty())
            .flat_map(|secret| forms(secret.as_ref()))
            .collect();
        // One may stand inside another.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        Self(forms)
    }

    /// The text with `[redacted]` in the place of each secret, as it was or percent-encoded.
    pub fn redacted(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            text.replace(secret.as_str(), REDACTED)
        })
    }
}

/// A secret as it is, in a form (WHATWG URL section 5) and in an address (RFC 3986 section 2.1), with digits of either case.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let form: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    let mut address = String::new();
    for byte in secret.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                address.push(char::from(byte));
            }
            _ => address.push_str(&format!("%{byte:02X}")),
        }
    }
    [&form, &address]
        .into_iter()
        .flat_map(|encoded| [encoded.clone(), with_small_digits(encoded)])
        .chain([secret.to_owned()])
        .map(Zeroizing::new)
        .collect()
}

fn with_small_digits(encoded: &str) -> String {
    let mut digits = 0;
    encoded
        .chars()
        .map(|c| {
            if c == '%' {
                digits = 2;
            } else if digits > 0 {
                digits -= 1;
                return c.to_ascii_lowercase();
            }
            c
        })
        .collect()
}

const REDACTED: &str = "[redacted]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_secret_is_printed() {
        let secret = Secret::new("hunter2");
        let token = AccessToken::new("hunter2");
        for shown in [
            format!("{secret} {secret:?}"),
            format!("{token} {token:?}"),
            format!("{:?}", Some((secret.clone(), token.clone()))),
        ] {
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn what_was_sent_is_taken_out_of_what_comes_back() {
        let sent = Sent::new(["a b~/+*", "a b", "", "plain"]);
        for (text, expected) in [
            ("no 'a b~/+*' here", "no '[redacted]' here"),
            ("a+b%7E%2F%2B*", "[redacted]"),
            ("a+b%7e%2f%2b*", "[redacted]"),
            ("a%20b~%2F%2B%2A", "[redacted]"),
            ("a%20b~%2f%2b%2a plain", "[redacted] [redacted]"),
            (
                "a b, a+b and a%20b",
                "[redacted], [redacted] and [redacted]",
            ),
            ("a c", "a c"),
        ] {
            assert_eq!(sent.redacted(text), expected, "{text}");
        }
    }
}
