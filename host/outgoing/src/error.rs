//! Why a mail was not sent: typed, so that the outbox knows whether to try again.

use std::error::Error as _;
use std::fmt;

use lettre::transport::smtp;
use postroom_auth::AuthError;

/// At most this much of a server's own words is kept.
const TEXT_CHARS: usize = 500;

/// The part of a submission (RFC 5321 section 3) that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// TCP, TLS where it comes first, the greeting and EHLO.
    Connect,
    StartTls,
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, before any of the mail's text.
    Data,
    /// The mail itself, until the server's last answer.
    Text,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Connect => "connecting",
            Step::StartTls => "STARTTLS",
            Step::Login => "signing in",
            Step::Sender => "MAIL FROM",
            Step::Recipient => "RCPT TO",
            Step::Data => "DATA",
            Step::Text => "sending the text",
        })
    }
}

/// Why a mail was not sent. Only [`SendError::Permanent`] is about the mail itself: all else may
/// pass, or be cured by somebody, and the mail should be kept and tried again.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The network, a time limit, or the server's 4xx answer.
    #[error("{step}: {}{problem}", Coded(*.code))]
    Transient {
        step: Step,
        code: Option<u16>,
        problem: String,
    },
    /// The server's 5xx answer to this mail, or an address that is none (then without a code).
    #[error("{step}: {}{problem}", Coded(*.code))]
    Permanent {
        step: Step,
        code: Option<u16>,
        problem: String,
    },
    /// No access token was to be had.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The server refused the login (RFC 4954 section 6), with a new token too.
    #[error("{user} may not sign in: {code} {text}{}", Challenge(.challenge))]
    RefusedLogin {
        user: String,
        code: u16,
        text: String,
        /// XOAUTH2's error JSON, where the server gave one.
        challenge: Option<String>,
    },
    /// The connection ended after the whole mail was sent and before the server's answer: it may
    /// have been accepted. Sent again under the same Message-ID, it is recognised as the same mail.
    #[error("the answer to the mail was lost: {problem}")]
    Lost { problem: String },
    /// The server lacks something without which nothing is sent to it.
    #[error("the server does not offer {feature}")]
    Unsupported { feature: &'static str },
    /// The settings cannot work.
    #[error("{problem}")]
    Settings { problem: String },
}

impl SendError {
    /// Whether trying the same mail again is pointless.
    pub fn is_permanent(&self) -> bool {
        matches!(self, SendError::Permanent { .. })
    }

    /// Whether the server said so, and hence still listens.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            SendError::Permanent { code: Some(_), .. } | SendError::Transient { code: Some(_), .. }
        )
    }

    /// Judges lettre's error by the server's code and the step it came at.
    pub(crate) fn at(step: Step, error: &smtp::Error) -> Self {
        let code = error.status().map(u16::from);
        let problem = match code {
            Some(_) => error.source().map(|s| s.to_string()).unwrap_or_default(),
            None => error.to_string(),
        };
        let problem = tidy(&problem);
        // A 5xx greeting speaks of the server's state, not of this mail.
        let about_mail = !matches!(step, Step::Connect | Step::StartTls | Step::Login);
        match code {
            Some(500..) if about_mail => SendError::Permanent {
                step,
                code,
                problem,
            },
            _ => SendError::Transient {
                step,
                code,
                problem,
            },
        }
    }
}

/// A server's words on one line, capped.
pub(crate) fn tidy(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(TEXT_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

struct Coded(Option<u16>);

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(code) => write!(f, "{code} "),
            None => Ok(()),
        }
    }
}

struct Challenge<'a>(&'a Option<String>);

impl fmt::Display for Challenge<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(json) => write!(f, " ({json})"),
            None => Ok(()),
        }
    }
}
