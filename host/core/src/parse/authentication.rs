//! Verdicts of the trusted boundary on the sender: Authentication-Results (RFC 8601).

use super::headers::Field;
use crate::message::{AuthVerdict, Authentication};

/// Represents a boundary that writes no authserv-id, as Exchange Online may, in the list of trusted ones. No authserv-id
/// contains parentheses.
pub const NO_AUTHSERV_ID: &str = "(none)";

impl Authentication {
    /// The verdicts if no trusted server gave any.
    pub const UNKNOWN: Self = Self {
        spf: AuthVerdict::None,
        dkim: AuthVerdict::None,
        dmarc: AuthVerdict::None,
        arc: AuthVerdict::None,
    };

    /// Returns whether the mail is proven to come from the domain of its From. Only DMARC compares that domain (RFC 7489
    /// section 3.1).
    pub fn confirms_sender(&self) -> bool {
        self.dmarc == AuthVerdict::Pass
    }

    /// Returns whether the boundary reports that the mail does not come from the domain of its From. SPF and DKIM do not
    /// show this: both fail for mail that a provider forwards.
    pub fn disowns_sender(&self) -> bool {
        self.dmarc == AuthVerdict::Fail
    }
}

/// Collects the verdicts of the trusted boundary while a mail's headers are read from the top.
///
/// The topmost Authentication-Results counts if its authserv-id is trusted, and so do those below it with the same id, up
/// to the next Received: a boundary that checks SPF, DKIM and DMARC with different programs writes one field for each. If
/// two fields name the same method, the upper one holds. Among fields without an authserv-id, which anybody could have
/// written, only the topmost counts. All others may have come with the mail: according to RFC 8601 section 5 the boundary
/// removes forged ones, and section 7.1 warns that not every boundary does.
pub(crate) struct Boundary<'a> {
    trusted: &'a [String],
    /// The authserv-id whose fields are read.
    server: Option<String>,
    closed: bool,
    spf: Option<AuthVerdict>,
    dkim: Option<AuthVerdict>,
    dmarc: Option<AuthVerdict>,
    arc: Option<AuthVerdict>,
}

impl<'a> Boundary<'a> {
    /// Creates the collector; `trusted` is a list of authserv-ids.
    pub(crate) fn new(trusted: &'a [String]) -> Self {
        Self {
            trusted,
            server: None,
            closed: trusted.is_empty(),
            spf: None,
            dkim: None,
            dmarc: None,
            arc: None,
        }
    }

    pub(crate) fn note(&mut self, field: &Field<'_>) {
        if self.closed {
            return;
        }
        if field.is("Received") {
            self.closed = self.server.is_some();
        } else if field.is("Authentication-Results") {
            self.read(&String::from_utf8_lossy(field.value));
        }
    }

    /// Returns whether any server is trusted.
    pub(crate) fn is_configured(&self) -> bool {
        !self.trusted.is_empty()
    }

    pub(crate) fn said(&self) -> Authentication {
        Authentication {
            spf: self.spf.unwrap_or(AuthVerdict::None),
            dkim: self.dkim.unwrap_or(AuthVerdict::None),
            dmarc: self.dmarc.unwrap_or(AuthVerdict::None),
            arc: self.arc.unwrap_or(AuthVerdict::None),
        }
    }

    fn read(&mut self, value: &str) {
        let (plain, is_sound) = without_comments(value);
        let mut statements = plain.split(';').peekable();
        let is_nameless = statements.peek().is_some_and(|first| first.contains('='));
        let server = match is_nameless {
            true => NO_AUTHSERV_ID,
            false => {
                let first = statements.next().unwrap_or("");
                first
                    .split_whitespace()
                    .next()
                    .unwrap_or("")
                    .trim_matches('"')
            }
        };
        let is = |id: &String| id.eq_ignore_ascii_case(server);
        let is_ours = match &self.server {
            Some(above) => is(above),
            None => self.trusted.iter().any(is),
        };
        if !is_ours {
            self.closed = true;
            return;
        }
        self.server = Some(server.to_owned());
        self.closed = is_nameless;
        let found = if is_sound {
            verdicts(statements)
        } else {
            // The rest of the field is inside a quoted string or a comment that does not end.
            [Some(AuthVerdict::Fail); 4]
        };
        let slots = [
            &mut self.spf,
            &mut self.dkim,
            &mut self.dmarc,
            &mut self.arc,
        ];
        for (slot, found) in slots.into_iter().zip(found) {
            *slot = slot.or(found);
        }
    }
}

/// Returns the SPF, DKIM, DMARC and ARC verdicts of one field.
fn verdicts<'s>(statements: impl Iterator<Item = &'s str>) -> [Option<AuthVerdict>; 4] {
    let mut found = [None; 4];
    for statement in statements {
        let Some((method, rest)) = statement.split_once('=') else {
            continue;
        };
        // `method/version=result`
        let method = method.split('/').next().unwrap_or("").trim();
        let result = rest.split_whitespace().next().unwrap_or("");
        let named = ["spf", "dkim", "dmarc", "arc"]
            .iter()
            .position(|name| method.eq_ignore_ascii_case(name));
        if let Some(at) = named {
            // One valid signature of several is enough (RFC 6376 section 6.1).
            found[at] = Some(match (found[at], verdict(result)) {
                (Some(AuthVerdict::Pass), _) | (_, AuthVerdict::Pass) => AuthVerdict::Pass,
                (Some(AuthVerdict::Fail), _) | (_, AuthVerdict::Fail) => AuthVerdict::Fail,
                _ => AuthVerdict::None,
            });
        }
    }
    found
}

fn verdict(result: &str) -> AuthVerdict {
    let is = |name| result.eq_ignore_ascii_case(name);
    if is("pass") {
        AuthVerdict::Pass
    } else if is("fail") || is("softfail") || is("hardfail") || is("policy") {
        AuthVerdict::Fail
    } else {
        AuthVerdict::None
    }
}

/// Returns the value without comments, and whether all its comments and quoted strings end. The sender chooses the text
/// inside quotes, such as the local part of `smtp.mailfrom="; dmarc=pass"@evil.example`, so quoted text must not separate
/// or state anything.
fn without_comments(value: &str) -> (String, bool) {
    let mut plain = String::with_capacity(value.len());
    let mut depth = 0usize;
    let mut quoted = false;
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted || depth > 0 => {
                chars.next();
            }
            '"' if depth == 0 => {
                quoted = !quoted;
                plain.push(c);
            }
            _ if quoted => plain.push(match c {
                ';' | '=' => '_',
                c if c.is_whitespace() => '_',
                c => c,
            }),
            '(' => depth += 1,
            ')' if depth > 0 => depth -= 1,
            _ if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    (plain, depth == 0 && !quoted)
}
