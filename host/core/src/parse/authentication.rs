//! What the trusted boundary said of the sender: Authentication-Results (RFC 8601).

use crate::message::{Authentication, Verdict};

impl Authentication {
    /// Nobody trustworthy said anything.
    pub const UNKNOWN: Self = Self {
        spf: Verdict::None,
        dkim: Verdict::None,
        dmarc: Verdict::None,
    };
}

/// Reads the topmost Authentication-Results, when its authserv-id is one of the trusted. Any header further down may have
/// come with the mail.
pub(crate) fn authentication(topmost: Option<&str>, trusted: &[String]) -> Authentication {
    let mut out = Authentication::UNKNOWN;
    let Some(value) = topmost.filter(|_| !trusted.is_empty()) else {
        return out;
    };
    let value = without_comments(value);
    let mut statements = value.split(';');
    let server = statements
        .next()
        .and_then(|first| first.split_whitespace().next())
        .unwrap_or("");
    if !trusted
        .iter()
        .any(|known| known.eq_ignore_ascii_case(server))
    {
        return out;
    }
    for statement in statements {
        let Some((method, rest)) = statement.split_once('=') else {
            continue;
        };
        // `method/version=result`
        let method = method.split('/').next().unwrap_or("").trim();
        let result = rest.split_whitespace().next().unwrap_or("");
        let slot = if method.eq_ignore_ascii_case("spf") {
            &mut out.spf
        } else if method.eq_ignore_ascii_case("dkim") {
            &mut out.dkim
        } else if method.eq_ignore_ascii_case("dmarc") {
            &mut out.dmarc
        } else {
            continue;
        };
        // One valid signature of several is enough (RFC 6376 section 6.1).
        *slot = match (*slot, verdict(result)) {
            (Verdict::Pass, _) | (_, Verdict::Pass) => Verdict::Pass,
            (Verdict::Fail, _) | (_, Verdict::Fail) => Verdict::Fail,
            _ => Verdict::None,
        };
    }
    out
}

fn verdict(result: &str) -> Verdict {
    let is = |name| result.eq_ignore_ascii_case(name);
    if is("pass") {
        Verdict::Pass
    } else if is("fail") || is("softfail") || is("hardfail") || is("policy") {
        Verdict::Fail
    } else {
        Verdict::None
    }
}

fn without_comments(value: &str) -> String {
    let mut depth = 0usize;
    value
        .chars()
        .filter(|c| {
            match c {
                '(' => depth += 1,
                ')' if depth > 0 => {
                    depth -= 1;
                    return false;
                }
                _ => {}
            }
            depth == 0
        })
        .collect()
}
