//! Sign-in by a person: the authorization code with PKCE (RFC 6749 section 4.1, RFC 7636) and the device code (RFC
//! 8628).

use std::fmt;
use std::time::{Duration, Instant};

use postroom_net::TraceRedactor;
use url::{Url, form_urlencoded};

use crate::grant::shortened;
use crate::{Account, AuthError, Secret, ServerRefusal};

/// The longest redirect or code read, in bytes; real ones stay below 4 KB.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A sign-in that waits for its redirect.
pub struct CodeSignIn {
    pub account: Account,
    /// The URL to open in a browser.
    pub url: String,
    /// The URL that the browser is sent to afterwards, exactly as registered.
    pub redirect: String,
    pub(crate) expected: Expected,
    /// Proves to the token endpoint that the code was requested here (RFC 7636 section 4.5).
    pub(crate) verifier: Secret,
}

/// The values that identify a redirect of this sign-in.
#[derive(Clone)]
pub(crate) struct Expected {
    pub account: Account,
    pub state: Secret,
    /// The issuer, if known by discovery.
    pub issuer: Option<Url>,
}

/// The code of a redirect, received or pasted.
#[derive(Debug)]
pub struct Code(pub(crate) Secret);

/// Why a redirect does not end this sign-in, which continues to wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error(
        "the state does not match this sign-in: the URL belongs to another sign-in, or is forged"
    )]
    WrongState,
    /// RFC 9207: otherwise one server could pass off another's code, or have ours sent to itself.
    #[error("it comes from another authorization server than that of this sign-in")]
    WrongIssuer,
    #[error("it contains no code")]
    NoCode,
    /// The page reported a refusal, such as a declined consent: the sign-in is over.
    #[error("{0}")]
    Refused(AuthError),
}

/// A sign-in that waits for a person who types a code on another device.
pub struct DeviceSignIn {
    pub account: Account,
    pub verification_url: String,
    pub user_code: String,
    /// The provider's text for the person, if it sent one.
    pub message: Option<String>,
    /// Counted from the start of the sign-in.
    pub expires_in: Duration,
    pub(crate) device_code: Secret,
    /// The shortest time between two polls.
    pub(crate) interval: Duration,
    pub(crate) begun: Instant,
}

impl CodeSignIn {
    /// Parses the result: the whole redirected URL, its query (as a listener receives it), or the bare code. The state is
    /// checked if there is a URL or query.
    pub fn answer(&self, text: &str) -> Result<Code, AnswerError> {
        self.expected.answer(text)
    }
}

impl Expected {
    /// Like [`CodeSignIn::answer`].
    pub(crate) fn answer(&self, text: &str) -> Result<Code, AnswerError> {
        let text = text
            .trim()
            .trim_matches(|c| matches!(c, '"' | '\'' | '<' | '>' | '`'))
            .trim();
        if text.len() > ANSWER_BYTES_MAX {
            return Err(AnswerError::NoCode);
        }
        if let Some((_, query)) = text.split_once('?') {
            let query = query.split('#').next().unwrap_or_default();
            return self.query(query);
        }
        if text.contains("://") {
            return Err(AnswerError::NoCode);
        }
        if text.contains('&') || text.starts_with("error=") || text.starts_with("state=") {
            return self.query(text);
        }
        let bare = text.strip_prefix("code=").unwrap_or(text);
        // Nobody writes a space as `+` by hand.
        let bare = format!("code={}", bare.replace('+', "%2B"));
        code(value(&bare, "code"))
    }

    /// Parses the redirect that a listener received. Any program on this machine can send one, so a refusal needs the state
    /// as well.
    pub(crate) fn redirected(&self, query: &str) -> Result<Code, AnswerError> {
        if value(query, "state").is_none() {
            return Err(match value(query, "code").or(value(query, "error")) {
                Some(_) => AnswerError::WrongState,
                None => AnswerError::NoCode,
            });
        }
        self.query(query)
    }

    fn query(&self, query: &str) -> Result<Code, AnswerError> {
        let error = value(query, "error").filter(|error| !error.is_empty());
        match (value(query, "state"), error) {
            (Some(state), _) if state != self.state.expose() => Err(AnswerError::WrongState),
            _ if self.is_of_another_issuer(query) => Err(AnswerError::WrongIssuer),
            // The server refuses without the state that it was given. A refusal contains nothing to steal.
            (_, Some(error)) => Err(AnswerError::Refused(self.refused(query, &error))),
            (None, None) if value(query, "code").is_some() => Err(AnswerError::WrongState),
            (_, None) => code(value(query, "code")),
        }
    }

    /// Returns whether the redirect names an issuer (RFC 9207 section 2) other than the one that was discovered.
    fn is_of_another_issuer(&self, query: &str) -> bool {
        match (&self.issuer, value(query, "iss")) {
            (Some(issuer), Some(named)) => Url::parse(&named).as_ref() != Ok(issuer),
            _ => false,
        }
    }

    /// Returns the page's refusal (RFC 6749 section 4.1.2.1). A redirect has no field for Microsoft's numbers: they are in
    /// its description, as `AADSTS65004: …`.
    fn refused(&self, query: &str, error: &str) -> AuthError {
        let code = value(query, "code").unwrap_or_default();
        let sent = TraceRedactor::new([self.state.expose(), &code]);
        let description = value(query, "error_description").map(|text| sent.redact(&text));
        let text = description.as_deref().unwrap_or_default();
        AuthError::Refused {
            account: self.account.clone(),
            refusal: Box::new(ServerRefusal {
                error: shortened(error),
                codes: aadsts(text),
                description: description.as_deref().map(shortened),
                correlation_id: after(text, "Correlation ID: "),
            }),
        }
    }
}

impl fmt::Debug for CodeSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CodeSignIn({})", self.account)
    }
}

impl fmt::Debug for DeviceSignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSignIn({})", self.account)
    }
}

fn value(query: &str, name: &str) -> Option<String> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == name)
        .map(|(_, value)| value.into_owned())
}

/// Checks that a code has only visible characters, as RFC 6749 appendix A.11 requires.
fn code(code: Option<String>) -> Result<Code, AnswerError> {
    code.filter(|code| !code.is_empty() && code.bytes().all(|b| b.is_ascii_graphic()))
        .map(|code| Code(Secret::new(code)))
        .ok_or(AnswerError::NoCode)
}

fn aadsts(text: &str) -> Vec<u32> {
    let mut codes = Vec::new();
    for rest in text.split("AADSTS").skip(1) {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        if let Some(code) = digits.and_then(|digits| digits.parse().ok())
            && !codes.contains(&code)
        {
            codes.push(code);
        }
    }
    codes
}

/// Returns the word after a label.
fn after(text: &str, label: &str) -> Option<String> {
    let (_, rest) = text.split_once(label)?;
    rest.split_whitespace().next().map(shortened)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        let expected = Expected {
            account: Account {
                profile: "acme".into(),
                login: None,
            },
            state: Secret::new("s+1"),
            issuer: Url::parse("https://id.example/a").ok(),
        };
        match expected.answer(text) {
            Ok(code) => code.0.expose().to_owned(),
            Err(AnswerError::Refused(error)) => {
                let refusal = error.refusal().unwrap();
                format!(
                    "refused {} {:?} {:?}",
                    refusal.error, refusal.codes, refusal.correlation_id
                )
            }
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn a_refusal_does_not_quote_the_state_or_a_code() {
        let expected = Expected {
            account: Account {
                profile: "acme".into(),
                login: None,
            },
            state: Secret::new("state+1"),
            issuer: None,
        };
        let said =
            "error=x&error_description=no+state%2B1+state%252B1+abcd&code=abcd&state=state%2B1";
        let Err(AnswerError::Refused(error)) = expected.redirected(said) else {
            panic!("not refused");
        };
        let description = error.refusal().unwrap().description.as_deref();
        assert_eq!(description, Some("no [redacted] [redacted] [redacted]"));
    }

    #[test]
    fn redirects_queries_and_bare_codes_are_read() {
        for (text, expected) in [
            ("http://localhost:1/?code=0.A-b&state=s%2B1", "0.A-b"),
            (
                "https://h/cb?state=s%2B1&session_state=x&code=4%2F0Ab#f",
                "4/0Ab",
            ),
            ("?code=abc&state=s%2B1", "abc"),
            ("code=abc&state=s%2B1", "abc"),
            (" \"http://h/?code=abc&state=s%2B1\"\r\n", "abc"),
            ("<http://h/?code=abc&state=s%2B1>", "abc"),
            ("abc", "abc"),
            ("'abc'", "abc"),
            ("code=abc", "abc"),
            ("4%2F0Ab", "4/0Ab"),
            ("4/0A+b=", "4/0A+b="),
            // The state of another sign-in.
            ("http://h/?code=abc&state=s1", "WrongState"),
            ("http://h/?code=abc", "WrongState"),
            ("?code=abc", "WrongState"),
            ("code=abc&session_state=x", "WrongState"),
            ("http://h/?error=access_denied&state=other", "WrongState"),
            (
                "http://h/?code=abc&state=s%2B1&iss=https%3A%2F%2Fid.example%2Fa",
                "abc",
            ),
            (
                "http://h/?code=abc&state=s%2B1&iss=https%3A%2F%2Fid.example%2Fb",
                "WrongIssuer",
            ),
            ("?error=access_denied&state=s%2B1&iss=x", "WrongIssuer"),
            ("?code=abc&state=s%2B1&iss=", "WrongIssuer"),
            // No code.
            ("", "NoCode"),
            ("\"\"", "NoCode"),
            ("code=", "NoCode"),
            ("two words", "NoCode"),
            ("http://h/", "NoCode"),
            ("http://h/?", "NoCode"),
            ("http://h/?state=s%2B1", "NoCode"),
            ("http://h/?code=&state=s%2B1", "NoCode"),
            ("http://h/?code=a%0Ab&state=s%2B1", "NoCode"),
            // Refused.
            (
                "?error=access_denied&state=s%2B1",
                "refused access_denied [] None",
            ),
            ("?error=access_denied", "refused access_denied [] None"),
            (
                "http://h/?error=access_denied&error_description=AADSTS65004%3a+User+declined.%0d%0aTrace+ID%3a+t%0d%0aCorrelation+ID%3a+c-1%0d%0aTimestamp%3a+x&state=s%2B1",
                "refused access_denied [65004] Some(\"c-1\")",
            ),
            (
                "?error=invalid_request&error_description=AADSTS90002+AADSTS900023,+AADSTS90002+AADSTSx&state=s%2B1",
                "refused invalid_request [90002, 900023] None",
            ),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(read(&"a".repeat(ANSWER_BYTES_MAX + 1)), "NoCode");
    }
}
