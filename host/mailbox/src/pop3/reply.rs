//! POP3 replies: `+OK`, `-ERR` and challenges, with the response codes of RFC 2449 and RFC 3206.

use postroom_core::harmless::harmless_chars;
use postroom_net::Step;

use crate::SourceError;

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub is_ok: bool,
    /// The response code of an error.
    pub code: Option<Code>,
    /// The text in a form that may be shown, including the code.
    pub text: String,
}

/// A response code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Code {
    /// Another session has the mailbox (RFC 2449 section 8.1.2).
    InUse,
    /// The last session was too recent (RFC 2449 section 8.1.1).
    LoginDelay,
    /// A temporary failure (RFC 3206 section 4).
    Temporary,
    /// A failure that somebody has to fix.
    Permanent,
    /// The credentials are refused.
    Auth,
    Other(String),
}

/// The longest server text that is shown, in characters.
const SHOWN_CHARS: usize = 500;
/// The longest name of a response code that is kept, in characters.
const CODE_CHARS: usize = 40;

impl Reply {
    /// Parses a status line. Returns `None` for any other line.
    pub fn read(line: &[u8]) -> Option<Self> {
        let (is_ok, rest) = match (after(line, b"+OK"), after(line, b"-ERR")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let code = if is_ok { None } else { Code::read(rest) };
        let text = match shown(rest) {
            text if text.is_empty() && !is_ok => "no reason given".into(),
            text => text,
        };
        Some(Self { is_ok, code, text })
    }

    /// Turns a reply other than `+OK` into an error.
    pub fn accepted(self, step: Step) -> Result<Self, SourceError> {
        match self.is_ok {
            true => Ok(self),
            false => Err(self.refusal(step)),
        }
    }

    /// Returns the error of a refused command.
    pub fn refusal(self, step: Step) -> SourceError {
        let text = self.text;
        match self.code {
            Some(Code::InUse) => SourceError::InUse { text },
            Some(Code::LoginDelay) => SourceError::OverLimit {
                step,
                text,
                retry_after: None,
            },
            Some(Code::Temporary) => SourceError::Transient { step, reason: text },
            code => SourceError::Refused {
                step,
                code: code.map(Code::into_name),
                text,
            },
        }
    }
}

impl Code {
    /// Parses the code at the beginning of an error's text. Only the first levels of a code count: `SYS/TEMP/X` is a `SYS/TEMP`.
    fn read(text: &[u8]) -> Option<Self> {
        let inner = text.trim_ascii_start().strip_prefix(b"[")?;
        let end = inner.iter().position(|byte| *byte == b']')?;
        let name: String = String::from_utf8_lossy(&inner[..end])
            .to_ascii_uppercase()
            .chars()
            .filter(|c| c.is_ascii_graphic())
            .take(CODE_CHARS)
            .collect();
        let is = |known: &str| {
            name.strip_prefix(known)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        Some(match () {
            () if is("IN-USE") => Code::InUse,
            () if is("LOGIN-DELAY") => Code::LoginDelay,
            () if is("SYS/TEMP") => Code::Temporary,
            () if is("SYS/PERM") => Code::Permanent,
            () if is("AUTH") => Code::Auth,
            () => Code::Other(name),
        })
    }

    /// Returns the code as servers write it.
    pub fn into_name(self) -> String {
        match self {
            Code::InUse => "IN-USE".into(),
            Code::LoginDelay => "LOGIN-DELAY".into(),
            Code::Temporary => "SYS/TEMP".into(),
            Code::Permanent => "SYS/PERM".into(),
            Code::Auth => "AUTH".into(),
            Code::Other(name) => name,
        }
    }
}

/// Returns a server's text in a form that may be shown.
pub(super) fn shown(text: &[u8]) -> String {
    harmless_chars(String::from_utf8_lossy(text).trim())
        .take(SHOWN_CHARS)
        .collect()
}

/// Returns the rest of a line after its first word.
fn after<'l>(line: &'l [u8], word: &[u8]) -> Option<&'l [u8]> {
    let (start, rest) = line.split_at_checked(word.len())?;
    let is_word = rest.first().is_none_or(|byte| byte.is_ascii_whitespace());
    (start.eq_ignore_ascii_case(word) && is_word).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_apart() {
        for (line, code) in [
            ("-ERR [IN-USE] busy", Some(Code::InUse)),
            ("-ERR [LOGIN-DELAY] wait", Some(Code::LoginDelay)),
            ("-err [sys/temp] later", Some(Code::Temporary)),
            ("-ERR [SYS/TEMP/DISK] later", Some(Code::Temporary)),
            ("-ERR [SYS/PERM] broken", Some(Code::Permanent)),
            ("-ERR [AUTH] no", Some(Code::Auth)),
            ("-ERR [AUTHOR] no", Some(Code::Other("AUTHOR".into()))),
            ("-ERR [open", None),
            ("-ERR no [AUTH]", None),
            ("-ERR", None),
        ] {
            let reply = Reply::read(line.as_bytes()).unwrap();
            assert!(!reply.is_ok && !reply.text.is_empty());
            assert_eq!(reply.code, code, "{line}");
        }
        for line in [
            "",
            "+",
            "+OKAY",
            "OK",
            "-ERROR",
            "* OK",
            "+ abc",
            "220 ESMTP",
        ] {
            assert_eq!(Reply::read(line.as_bytes()), None, "{line}");
        }
        assert_eq!(Reply::read(b"+OK [AUTH] x").unwrap().code, None);
    }
}
