//! Why a mail was not sent: typed, so that the outbox knows whether to try again.

use std::fmt;

use postroom_auth::AuthError;
use postroom_core::harmless::harmless_chars;
use postroom_net::{FailedStep, Step, Unreachable};

use crate::smtp::submit::SHUTTING_DOWN;

/// At most this much of a server's own words is kept.
const TEXT_CHARS: usize = 500;

/// Replies that want a sign-in, another one, or TLS, whatever the mail (RFC 4954 section 6, RFC 5248 section 2.4).
pub(crate) const ACCESS_CODES: [u16; 7] = [523, 524, 525, 530, 534, 535, 538];

/// The part of a submission (RFC 5321 section 3) that was under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpStep {
    /// The host's name and TCP.
    Connect,
    /// The handshake, and STARTTLS where it goes before.
    Tls,
    /// The greeting and EHLO.
    Hello,
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

impl fmt::Display for SmtpStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SmtpStep::Connect => "connecting",
            SmtpStep::Tls => "TLS",
            SmtpStep::Hello => "greeting",
            SmtpStep::Login => "signing in",
            SmtpStep::Sender => "MAIL FROM",
            SmtpStep::Recipient => "RCPT TO",
            SmtpStep::Data => "DATA",
            SmtpStep::Text => "sending the text",
        })
    }
}

impl SmtpStep {
    /// Whether nothing was said of any mail yet.
    fn is_before_mail(self) -> bool {
        matches!(
            self,
            SmtpStep::Connect | SmtpStep::Tls | SmtpStep::Hello | SmtpStep::Login
        )
    }

    /// The step of a probe that this is a part of.
    fn probed(self) -> Step {
        match self {
            SmtpStep::Connect => Step::Connect,
            SmtpStep::Tls => Step::Tls,
            SmtpStep::Hello => Step::Hello,
            SmtpStep::Login => Step::Authenticate,
            SmtpStep::Sender | SmtpStep::Recipient | SmtpStep::Data | SmtpStep::Text => Step::Send,
        }
    }
}

/// A server's enhanced status code (RFC 3463), such as 5.7.139.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EnhancedStatus(pub u16, pub u16, pub u16);

impl EnhancedStatus {
    /// The code that an answer's text begins with.
    fn leading(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().next()?.split('.');
        let mut number = || numbers.next()?.parse().ok();
        let code = Self(number()?, number()?, number()?);
        numbers.next().is_none().then_some(code)
    }
}

/// Why a mail was not sent. Only [`SendError::Permanent`] is about the mail itself: all else may
/// pass, or be cured by somebody, and the mail should be kept and tried again.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection comes about.
    #[error("{}: {problem}", SmtpStep::Connect)]
    Unreachable { why: Unreachable, problem: String },
    #[error("{}: {problem}", SmtpStep::Tls)]
    Tls {
        problem: String,
        /// The error of TLS itself; `None` if TLS never began.
        cause: Option<rustls::Error>,
    },
    /// No answer within the time limit.
    #[error("{step}: no answer within {secs} s")]
    Timeout { step: SmtpStep, secs: u64 },
    /// The network, or the server's 4xx answer.
    #[error("{step}: {}{problem}", Coded(*.code))]
    Transient {
        step: SmtpStep,
        code: Option<u16>,
        problem: String,
    },
    /// The server's 5xx answer to this mail, or an invalid address (without a code).
    #[error("{step}: {}{problem}", Coded(*.code))]
    Permanent {
        step: SmtpStep,
        code: Option<u16>,
        problem: String,
    },
    /// The server lets nobody send without another sign-in, such as 530 at MAIL FROM: no mail would fare better.
    #[error("{step}: {code} {problem}")]
    Denied {
        step: SmtpStep,
        code: u16,
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
    Unsupported {
        step: SmtpStep,
        feature: &'static str,
    },
    /// The settings cannot work.
    #[error("{problem}")]
    Settings { problem: String },
}

impl SendError {
    /// Whether it is the way's trouble, the same for every mail: it came before anything was said of this one, or the server
    /// denies access at all.
    pub fn is_before_mail(&self) -> bool {
        match self {
            SendError::Unreachable { .. }
            | SendError::Tls { .. }
            | SendError::Auth(_)
            | SendError::Denied { .. }
            | SendError::RefusedLogin { .. }
            | SendError::Settings { .. } => true,
            SendError::Timeout { step, .. }
            | SendError::Transient { step, .. }
            | SendError::Permanent { step, .. }
            | SendError::Unsupported { step, .. } => step.is_before_mail(),
            SendError::Lost { .. } => false,
        }
    }

    /// Whether trying the same mail again is pointless.
    pub fn is_permanent(&self) -> bool {
        matches!(self, SendError::Permanent { .. })
    }

    /// Returns the step of a probe that failed: connect, TLS, hello, token, authenticate or send.
    pub fn step(&self) -> Step {
        match self {
            SendError::Unreachable { .. } => SmtpStep::Connect.probed(),
            SendError::Tls { .. } => SmtpStep::Tls.probed(),
            SendError::Timeout { step, .. }
            | SendError::Transient { step, .. }
            | SendError::Permanent { step, .. }
            | SendError::Denied { step, .. }
            | SendError::Unsupported { step, .. } => step.probed(),
            SendError::Auth(_) => Step::Token,
            SendError::RefusedLogin { .. } => SmtpStep::Login.probed(),
            SendError::Lost { .. } | SendError::Settings { .. } => SmtpStep::Text.probed(),
        }
    }

    /// The enhanced status code of the server's answer, where it gave one.
    pub fn enhanced_status(&self) -> Option<EnhancedStatus> {
        match self {
            SendError::Transient {
                code: Some(_),
                problem: text,
                ..
            }
            | SendError::Permanent {
                code: Some(_),
                problem: text,
                ..
            }
            | SendError::Denied { problem: text, .. }
            | SendError::RefusedLogin { text, .. } => EnhancedStatus::leading(text),
            _ => None,
        }
    }

    /// Whether it is the server's answer, so that the server still listens.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            SendError::Permanent { code: Some(_), .. }
                | SendError::Transient { code: Some(_), .. }
                | SendError::Denied { .. }
        )
    }

    /// Whether the server could not serve anybody when a session was opened, so that another server may.
    pub(crate) fn is_of_server(&self) -> bool {
        match self {
            SendError::Unreachable { .. } | SendError::Tls { .. } => true,
            SendError::Timeout { step, .. } | SendError::Transient { step, .. } => {
                step.is_before_mail()
            }
            _ => false,
        }
    }

    /// Whether the server ended an open session, or does not answer any more.
    pub(crate) fn ended_session(&self) -> bool {
        matches!(
            self,
            SendError::Timeout { .. }
                | SendError::Lost { .. }
                | SendError::Transient {
                    code: None | Some(SHUTTING_DOWN),
                    ..
                }
        )
    }

    /// Judges a reply that is not the hoped-for one by its code and the step it came at.
    pub(crate) fn refused(step: SmtpStep, code: u16, problem: String) -> Self {
        if step.is_before_mail() || code < 500 {
            // A 5xx greeting speaks of the server's state, not of this mail.
            return SendError::Transient {
                step,
                code: Some(code),
                problem,
            };
        }
        if ACCESS_CODES.contains(&code) {
            return SendError::Denied {
                step,
                code,
                problem,
            };
        }
        SendError::Permanent {
            step,
            code: Some(code),
            problem,
        }
    }
}

impl FailedStep for SendError {
    fn failed_step(&self) -> Step {
        self.step()
    }
}

/// A server's words on one line, capped.
pub(crate) fn tidy(text: &str) -> String {
    harmless_chars(text)
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
