//! Why a mail was not sent, typed so that the outbox knows whether to retry.

use std::fmt;

use postroom_auth::AuthError;
use postroom_core::harmless::harmless_chars;
use postroom_net::{FailedStep, Step, Unreachable};

use crate::smtp::submit::SHUTTING_DOWN;

/// How much of a server's own text is kept.
const TEXT_CHARS: usize = 500;

/// Reply codes that require a sign-in, a different one, or TLS, whatever the mail (RFC 4954 section 6, RFC 5248 section 2.4).
pub(crate) const ACCESS_CODES: [u16; 7] = [523, 524, 525, 530, 534, 535, 538];

/// The step of a submission (RFC 5321 section 3) that was in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpStep {
    /// Resolving the host's name and connecting over TCP.
    Connect,
    /// The handshake, including a preceding STARTTLS.
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
    /// The mail itself, until the server's final reply.
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
    /// Returns whether nothing about any mail had been sent yet.
    fn is_before_mail(self) -> bool {
        matches!(
            self,
            SmtpStep::Connect | SmtpStep::Tls | SmtpStep::Hello | SmtpStep::Login
        )
    }

    /// Returns the step of a probe that this is part of.
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
    /// Parses the code at the beginning of a reply's text.
    fn leading(text: &str) -> Option<Self> {
        let mut numbers = text.split_whitespace().next()?.split('.');
        let mut number = || numbers.next()?.parse().ok();
        let code = Self(number()?, number()?, number()?);
        numbers.next().is_none().then_some(code)
    }
}

/// Why a mail was not sent. Only [`SendError::Permanent`] is about the mail itself: everything else may pass or be fixed by
/// somebody, so the mail should be kept and retried.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No connection could be established.
    #[error("connecting: {problem}")]
    Unreachable { why: Unreachable, problem: String },
    #[error("{}: {problem}", SmtpStep::Tls)]
    Tls {
        problem: String,
        /// The TLS error, or `None` if TLS never began.
        cause: Option<rustls::Error>,
    },
    /// No reply within the time limit.
    #[error("{step}: no answer within {secs} s")]
    Timeout { step: SmtpStep, secs: u64 },
    /// A network failure, or the server's 4xx reply.
    #[error("{step}: {}{problem}", Coded(*.code))]
    Transient {
        step: SmtpStep,
        code: Option<u16>,
        problem: String,
    },
    /// The server's 5xx reply to this mail, or an invalid address (without a code).
    #[error("{step}: {}{problem}", Coded(*.code))]
    Permanent {
        step: SmtpStep,
        code: Option<u16>,
        problem: String,
    },
    /// The server lets nobody send without a different sign-in, such as 530 at MAIL FROM: no mail would fare better.
    #[error("{step}: {code} {problem}")]
    Denied {
        step: SmtpStep,
        code: u16,
        problem: String,
    },
    /// No access token could be obtained.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The server refused the login (RFC 4954 section 6), even with a new token.
    #[error("{user} may not sign in: {code} {text}{}", Challenge(.challenge))]
    RefusedLogin {
        user: String,
        code: u16,
        text: String,
        /// XOAUTH2's error JSON, if the server sent one.
        challenge: Option<String>,
    },
    /// The connection ended after the whole mail was sent and before the server's reply, so the mail may have been accepted. If
    /// it is sent again with the same Message-ID, it is recognised as the same mail.
    #[error("the answer to the mail was lost: {problem}")]
    Lost { problem: String },
    /// The server lacks something that is required for sending.
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
    /// Returns whether the problem is the outgoing's, and so the same for every mail: it occurred before anything about this mail
    /// was sent, or the server denies access altogether.
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

    /// Returns whether retrying the same mail is pointless.
    pub fn is_permanent(&self) -> bool {
        matches!(self, SendError::Permanent { .. })
    }

    /// Returns the step of a probe that failed: connect, TLS, hello, token, authenticate or send.
    pub fn step(&self) -> Step {
        match self {
            SendError::Unreachable { why, .. } => why.step(),
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

    /// Returns the enhanced status code of the server's reply, if it sent one.
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

    /// Returns whether the error is the server's reply, so that the server still listens.
    pub(crate) fn is_answer(&self) -> bool {
        matches!(
            self,
            SendError::Permanent { code: Some(_), .. }
                | SendError::Transient { code: Some(_), .. }
                | SendError::Denied { .. }
        )
    }

    /// Returns whether the server could serve nobody when a session was opened, so that another server may work.
    pub(crate) fn is_of_server(&self) -> bool {
        match self {
            SendError::Unreachable { .. } | SendError::Tls { .. } => true,
            SendError::Timeout { step, .. } | SendError::Transient { step, .. } => {
                step.is_before_mail()
            }
            _ => false,
        }
    }

    /// Returns whether the server ended an open session or no longer replies.
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

    /// Classifies an unexpected reply by its code and the step at which it came.
    pub(crate) fn refused(step: SmtpStep, code: u16, problem: String) -> Self {
        if step.is_before_mail() || code < 500 {
            // A 5xx greeting is about the server's state, not about this mail.
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

/// Returns a server's text on one line, truncated.
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
