//! Signed reply tokens: they name a ticket in the mails that Postroom sends, so that an answer finds it however it was written.
//!
//! A token is `t-12-` and the first 24 digits of an HMAC over the client and the ticket with the installation's secret. It stands
//! in the address that answers go to, and in the text. It shows that its sender has seen a mail of the ticket; whether they may
//! write to the ticket is another question.

use crate::identity::InstallationSecret;
use crate::message::Message;
use crate::thread::{ticket_name, ticket_number};

/// The digits of the signature: 96 bits.
const CODE_DIGITS: usize = 24;
/// Longest ticket number, in digits.
const MOST_DIGITS: usize = 9;
/// The most tokens taken from one mail.
const MOST_TOKENS: usize = 10;
/// Bytes of a text that are searched for tokens. An answer has its newest token near the beginning.
const SEARCHED: usize = 1024 * 1024;
/// The longest local part of an address (RFC 5321 section 4.5.3.1.1).
const LOCAL_PART: usize = 64;

/// A token as found in a mail. Anybody may have written it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedToken {
    pub ticket: i64,
    code: String,
}

impl ClaimedToken {
    /// Returns whether this installation signed it for a ticket of this client.
    pub fn is_signed(&self, secret: &InstallationSecret, tenant: &str) -> bool {
        // Takes the same time for every wrong code.
        let expected = secret.ticket_code(tenant, self.ticket);
        let expected = expected[..CODE_DIGITS].bytes();
        let differing = expected.zip(self.code.bytes()).map(|(a, b)| a ^ b);
        differing.fold(0, |all, one| all | one) == 0
    }
}

/// Returns the token of a ticket, such as `t-12-0123456789abcdef01234567`.
pub fn reply_token(secret: &InstallationSecret, tenant: &str, ticket: &str) -> Option<String> {
    let code = secret.ticket_code(tenant, ticket_number(ticket)?);
    Some(format!(
        "{}-{}",
        ticket.to_lowercase(),
        &code[..CODE_DIGITS]
    ))
}

/// Returns an address with a token as its tag: `support+t-12-…@acme.example`. Returns `None` if the address becomes too long or has a
/// tag already.
pub fn with_token(email: &str, token: &str) -> Option<String> {
    let (local, domain) = email.rsplit_once('@')?;
    let fits = local.len() + 1 + token.len() <= LOCAL_PART;
    (fits && !local.contains(['+', '"'])).then(|| format!("{local}+{token}@{domain}"))
}

/// Returns the text with its token below it.
pub fn signed_text(text: &str, token: &str) -> String {
    format!("{}\n\n[{token}]", text.trim_end())
}

/// Returns the HTML with its token in it, where no reader sees it.
pub fn signed_html(html: &str, token: &str) -> String {
    let mark = format!("<div style=\"display:none\">[{token}]</div>");
    let lower = html.to_ascii_lowercase();
    match lower.rfind("</body>") {
        Some(end) => format!("{}{mark}{}", &html[..end], &html[end..]),
        None => format!("{html}{mark}"),
    }
}

/// Returns the tokens of a mail, each once: those of its recipients first, then those of its text and HTML.
pub fn claimed_tokens(mail: &Message) -> Vec<ClaimedToken> {
    let mut found = Vec::new();
    let people = mail.to.iter().chain(&mail.cc);
    for address in people {
        if let Some((_, tag)) = address.email.split_once('+') {
            find(tag, &mut found);
        }
    }
    for name in ["Delivered-To", "X-Original-To"] {
        for value in mail.headers(name) {
            if let Some((_, tag)) = value.split_once('+') {
                find(tag, &mut found);
            }
        }
    }
    find(&mail.text, &mut found);
    if let Some(html) = &mail.html {
        find(html, &mut found);
    }
    found
}

fn find(text: &str, found: &mut Vec<ClaimedToken>) {
    let bytes = text.as_bytes();
    let bytes = &bytes[..bytes.len().min(SEARCHED)];
    for start in memchr::memchr_iter(b'-', bytes) {
        if found.len() == MOST_TOKENS {
            return;
        }
        let begins = match start.checked_sub(1).map(|at| bytes[at]) {
            Some(b't' | b'T') => start < 2 || !bytes[start - 2].is_ascii_alphanumeric(),
            _ => false,
        };
        let token = begins.then(|| token_at(&bytes[start + 1..])).flatten();
        if let Some(token) = token
            && !found.contains(&token)
        {
            found.push(token);
        }
    }
}

/// Returns the token whose number begins here.
fn token_at(bytes: &[u8]) -> Option<ClaimedToken> {
    let digits = bytes
        .iter()
        .take(MOST_DIGITS + 1)
        .take_while(|b| b.is_ascii_digit());
    let digits = digits.count();
    if digits == 0 || digits > MOST_DIGITS || bytes.get(digits) != Some(&b'-') {
        return None;
    }
    let code = bytes.get(digits + 1..digits + 1 + CODE_DIGITS)?;
    let ends = bytes
        .get(digits + 1 + CODE_DIGITS)
        .is_none_or(|b| !b.is_ascii_alphanumeric());
    if !ends || !code.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let number = std::str::from_utf8(&bytes[..digits]).ok()?.parse().ok()?;
    let code = String::from_utf8_lossy(code).to_lowercase();
    (ticket_name(number).len() == digits + 2).then_some(ClaimedToken {
        ticket: number,
        code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn secret() -> InstallationSecret {
        InstallationSecret::new([3; 32])
    }

    fn tokens(mail: &str) -> Vec<ClaimedToken> {
        let mail = bytes::Bytes::copy_from_slice(mail.as_bytes());
        claimed_tokens(&parse(&mail, &Default::default(), &[]))
    }

    #[test]
    fn a_token_is_found_wherever_an_answer_keeps_it() {
        let token = reply_token(&secret(), "acme", "T-12").unwrap();
        let address = with_token("support@msp.example", &token).unwrap();
        assert_eq!(address, format!("support+{token}@msp.example"));
        let html = signed_html("<html><body>Hi</body></html>", &token);
        let quoted = signed_text("We have it.\n", &token).replace('\n', "\r\n> ");
        for mail in [
            format!("To: {address}\r\nSubject: x\r\n\r\nx"),
            format!("Cc: <{}>\r\nSubject: x\r\n\r\nx", address.to_uppercase()),
            format!("Delivered-To: {address}\r\nSubject: x\r\n\r\nx"),
            format!("Subject: x\r\n\r\nThanks\r\n> {quoted}"),
            format!("Subject: x\r\nContent-Type: text/html\r\n\r\n{html}"),
        ] {
            let found = tokens(&mail);
            assert_eq!(found.len(), 1, "{mail}");
            assert!(found[0].is_signed(&secret(), "acme"), "{mail}");
        }
    }

    #[test]
    fn a_token_holds_for_one_ticket_of_one_client_of_one_installation() {
        let token = reply_token(&secret(), "acme", "T-12").unwrap();
        let other = token.replace("t-12-", "t-13-");
        let text = format!("Subject: x\r\n\r\n{token} {other}");
        let [real, moved] = &tokens(&text)[..] else {
            panic!("{text}");
        };
        assert!(real.is_signed(&secret(), "acme"));
        assert!(!real.is_signed(&secret(), "globex"));
        assert!(!real.is_signed(&InstallationSecret::new([4; 32]), "acme"));
        assert!(!moved.is_signed(&secret(), "acme"));
        assert_eq!(reply_token(&secret(), "acme", "12"), None);
    }

    #[test]
    fn text_that_only_looks_like_a_token_is_none() {
        for odd in [
            "t-12-0123456789abcdef0123456",
            "t-12-0123456789abcdef012345678",
            "at-12-0123456789abcdef01234567",
            "t-0012-0123456789abcdef01234567",
            "t-1234567890-0123456789abcdef01234567",
            "t-12-0123456789abcdefg1234567",
            "t--0123456789abcdef01234567",
        ] {
            assert!(
                tokens(&format!("Subject: x\r\n\r\n{odd}")).is_empty(),
                "{odd}"
            );
        }
        let far = format!("{} t-1-0123456789abcdef01234567", "-".repeat(SEARCHED));
        assert!(tokens(&format!("Subject: x\r\n\r\n{far}")).is_empty());
        let many = "t-1-0123456789abcdef01234567 ".repeat(10_000);
        assert_eq!(tokens(&format!("Subject: x\r\n\r\n{many}")).len(), 1);
        let many: String = (0..50)
            .map(|n| format!("t-{}-0123456789abcdef01234567 ", n + 1))
            .collect();
        assert_eq!(
            tokens(&format!("Subject: x\r\n\r\n{many}")).len(),
            MOST_TOKENS
        );
    }

    #[test]
    fn an_address_gets_a_token_only_where_it_fits() {
        let token = reply_token(&secret(), "acme", "T-12").unwrap();
        for odd in ["support+desk@a.example", "\"a b\"@a.example", "nobody"] {
            assert_eq!(with_token(odd, &token), None, "{odd}");
        }
        let long = format!("{}@a.example", "x".repeat(50));
        assert_eq!(with_token(&long, &token), None);
    }
}
