//! The text with which a server reports a failure: its phrases, the addresses that it names, and the copy below it.

use std::borrow::Cow;
use std::cell::OnceCell;

use super::delivery::{self, add, address, enhanced, one_line};
use super::words::{DELAY_PHRASES, FAILURE_PHRASES, RETURNED};
use crate::fold::starts_with_any;
use crate::message::{FailedRecipient, Message};

/// How much of a mail's text is searched for the words of a server.
const NOTICE_BYTES: usize = 16 * 1024;
/// How much of the text is searched for the Message-ID of the mail that came back.
const COPY_BYTES: usize = 64 * 1024;
/// Lines of the text at which a phrase counts as its beginning.
const FIRST_LINES: usize = 6;
/// The longest line that is read for addresses, in bytes.
const LINE_BYTES: usize = 2000;

/// The text of a mail that may be a server's notice. What is read of it is read once, when it is asked for.
pub(super) struct Notice<'m> {
    subject: &'m str,
    /// The text, without the rest that is not searched.
    text: &'m str,
    /// Where the copy of the returned mail begins in it.
    copy_at: OnceCell<usize>,
    folded: OnceCell<String>,
}

impl<'m> Notice<'m> {
    pub(super) fn of(mail: &'m Message) -> Self {
        let end = mail.text.floor_char_boundary(COPY_BYTES);
        Self {
            subject: &mail.subject,
            text: &mail.text[..end],
            copy_at: OnceCell::new(),
            folded: OnceCell::new(),
        }
    }

    /// Returns whether the text contains a phrase of a server that reports a failure or a delay.
    pub(super) fn reports_failure(&self) -> bool {
        contains_any(self.folded(), FAILURE_PHRASES)
    }

    /// Returns whether the first lines of the text contain such a phrase.
    pub(super) fn opens_with_failure(&self) -> bool {
        let folded = self.folded();
        let mut left = FIRST_LINES;
        let end = folded
            .split_inclusive('\n')
            .take_while(|line| {
                let room = left > 0;
                left -= usize::from(room && !line.trim().is_empty());
                room
            })
            .map(str::len)
            .sum();
        contains_any(&folded[..end], FAILURE_PHRASES)
    }

    pub(super) fn contains_any(&self, phrases: &[&str]) -> bool {
        contains_any(self.folded(), phrases)
    }

    /// Returns whether the text holds an answer of an SMTP server in figures: an enhanced status of failure, or a reply code
    /// at the start of a line or behind a colon.
    pub(super) fn has_code(&self) -> bool {
        self.own().lines().any(|line| {
            let line = &line[..line.floor_char_boundary(LINE_BYTES)];
            enhanced(line).is_some_and(|status| !status.starts_with('2'))
                || line.split(": ").any(|piece| reply_code(piece).is_some())
        })
    }

    pub(super) fn names_an_address(&self) -> bool {
        self.own().lines().any(|line| line.contains('@'))
    }

    /// Returns whether the server still tries.
    pub(super) fn is_delay(&self) -> bool {
        contains_any(&self.subject.to_lowercase(), DELAY_PHRASES)
            || contains_any(self.folded(), DELAY_PHRASES)
    }

    pub(super) fn has_status_fields(&self) -> bool {
        self.text.lines().any(|line| {
            line.len() > 16 && line.as_bytes()[..16].eq_ignore_ascii_case(b"final-recipient:")
        })
    }

    pub(super) fn whole(&self) -> &'m str {
        self.text
    }

    /// Returns the Message-ID in the headers that the text repeats.
    pub(super) fn original_id(&self) -> Option<String> {
        delivery::first_id(copied_field(self.text, "message-id:")?)
    }

    /// Returns the failed recipients that the text names: the addresses at the start of a line if there are any, else every
    /// one that is not an address of the mail itself.
    pub(super) fn recipients(&self, mail: &Message) -> Vec<FailedRecipient> {
        let delay = self.is_delay();
        let mut first = Vec::new();
        let mut all = Vec::new();
        let mut own = Vec::new();
        let mut bare = Vec::new();
        let mut heading = false;
        let mut open: Option<usize> = None;
        for line in self.own().lines() {
            let line = &line[..line.floor_char_boundary(LINE_BYTES)];
            if line.trim().is_empty() {
                open = None;
                continue;
            }
            let begins = leading_address(line);
            if let Some((email, rest)) = begins
                && !is_of_server(&email, mail)
            {
                let at = position(&first, &email).unwrap_or(first.len());
                add(&mut first, told(email, rest, delay));
                open = (at < first.len()).then_some(at);
            } else if let Some(one) = open.and_then(|at| first.get_mut(at)) {
                explain(one, line, delay);
            } else if heading && let Some(email) = bare_name(line, mail) {
                add(&mut bare, told(email, "", delay));
            }
            for email in addresses(line) {
                let group = if is_of_server(&email, mail) {
                    continue;
                } else if is_of_mail(&email, mail) {
                    &mut own
                } else if names_sender(line) {
                    continue;
                } else {
                    &mut all
                };
                add(group, told(email, line, delay));
            }
            heading = line.trim_end().ends_with([':', '：'])
                && contains_any(&line.to_lowercase(), &["following", "recipient", "address"]);
        }
        let ours = |one: &FailedRecipient| is_of_mail(&one.email, mail);
        if first.iter().any(|one| !ours(one)) {
            first.retain(|one| !ours(one));
        }
        if let Some(found) = [first, bare, all, own]
            .into_iter()
            .find(|found| !found.is_empty())
        {
            return self.with_status(found, delay);
        }
        // A server that names nobody returns a mail that does.
        let copy = mail.attachments.iter().find(|part| delivery::is_copy(part));
        let copy = copy.map(|part| String::from_utf8_lossy(delivery::head(&part.bytes)));
        let to = copied_field(copy.as_deref().unwrap_or(self.text), "to:").unwrap_or("");
        let mut named = addresses(to).into_iter();
        match (named.next(), named.next()) {
            (Some(email), None) if !is_of_mail(&email, mail) => vec![told(email, "", delay)],
            _ => Vec::new(),
        }
    }

    /// Gives the only recipient the status that the text states elsewhere.
    fn with_status(&self, mut found: Vec<FailedRecipient>, delay: bool) -> Vec<FailedRecipient> {
        if let [one] = found.as_mut_slice()
            && one.status.is_none()
            && let Some(line) = self.own().lines().find(|line| {
                line.len() <= LINE_BYTES
                    && (reply_code(line).is_some()
                        || enhanced(line).is_some_and(|status| !status.starts_with('2')))
            })
        {
            note_status(one, line, delay);
        }
        found
    }

    /// Returns the server's own words: the text above the copy of the returned mail.
    fn own(&self) -> &'m str {
        let end = *self.copy_at.get_or_init(|| copy_at(self.text));
        &self.text[..end]
    }

    fn folded(&self) -> &str {
        self.folded.get_or_init(|| {
            let own = self.own();
            // A phrase may be broken over two lines.
            own[..own.floor_char_boundary(NOTICE_BYTES)]
                .to_lowercase()
                .split('\n')
                .map(str::trim)
                .fold(String::new(), |mut all, line| {
                    if line.is_empty() {
                        all.push('\n');
                    } else {
                        if !all.is_empty() && !all.ends_with('\n') {
                            all.push(' ');
                        }
                        all.push_str(line);
                        if line.ends_with([':', '.']) {
                            all.push('\n');
                        }
                    }
                    all
                })
        })
    }
}

/// Returns the value of the first line that begins with `name`; the next line if the value is empty.
pub(super) fn copied_field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.trim_start_matches([' ', '\t', '>', '|', '*']);
        let begins = line.len() >= name.len()
            && line.as_bytes()[..name.len()].eq_ignore_ascii_case(name.as_bytes());
        if begins {
            let value = line[name.len()..].trim();
            return if value.is_empty() {
                lines.next()
            } else {
                Some(value)
            };
        }
    }
    None
}

/// Returns where the copy of the returned mail begins: at a line that announces it, or at its headers.
fn copy_at(text: &str) -> usize {
    const HEADERS: &[&str] = &[
        "received: ",
        "return-path:",
        "x-original-to:",
        "dkim-signature:",
    ];
    let mut at = 0;
    let mut written = false;
    for line in text.split_inclusive('\n') {
        let bare = line.trim_matches(|c: char| !c.is_alphanumeric());
        if at >= NOTICE_BYTES
            || written
                && (starts_with_any(bare, RETURNED) && is_separator(line)
                    || starts_with_any(line.trim_start_matches(['>', ' ']), HEADERS))
        {
            return at;
        }
        written |= bare.len() > 2;
        at += line.len();
    }
    at.min(text.len())
}

/// Returns whether a line looks like a separator or a heading, and not like the beginning of a sentence.
fn is_separator(line: &str) -> bool {
    let line = line.trim();
    line.starts_with(['-', '=', '_', '*', '|', '#'])
        || line.ends_with(['-', '=', '_', '*', '|', '#', ':', '.', '：', '。'])
        || line.chars().count() <= 40
}

/// Returns the address with which a line begins, behind bullets, brackets and quotes, and the rest of the line.
fn leading_address(line: &str) -> Option<(String, &str)> {
    let mut rest = line.trim_start_matches([
        ' ', '\t', '*', '-', '>', '<', '[', '(', '"', '\'', '•', '·', '|', '・', '\u{a0}',
    ]);
    for note in ["expanded from: ", "expanded from ", "generated from "] {
        rest = rest.strip_prefix(note).unwrap_or(rest);
    }
    rest = rest.trim_start_matches(['<', '"', '\'']);
    let end = rest
        .find(|c: char| c.is_whitespace() || "<>()[],;:\"'|".contains(c) || is_wide_sign(c))
        .unwrap_or(rest.len());
    let mut word = &rest[..end];
    let after = &rest[end..];
    if word.eq_ignore_ascii_case("smtp") || word.eq_ignore_ascii_case("rfc822") {
        return leading_address(after.get(1..)?);
    }
    // An address of X.400 that wraps one of SMTP.
    if word.eq_ignore_ascii_case("c=us") || word.to_ascii_lowercase().starts_with("c=") {
        let at = rest.to_ascii_lowercase().find("smtp=")?;
        return leading_address(rest.get(at + 5..)?);
    }
    word = word.trim_end_matches(['.', '!', '?']);
    if word.ends_with('@') {
        return None;
    }
    Some((address(word)?, after))
}

/// Returns every address of a line but those behind `from`.
fn addresses(line: &str) -> Vec<String> {
    let mut before = "";
    line.split(|c: char| {
        c.is_whitespace() || "<>()[],;:\"'|=".contains(c) || c == '\u{a0}' || is_wide_sign(c)
    })
    .filter(|word| !word.is_empty())
    .filter(|word| {
        let sends = before.eq_ignore_ascii_case("from") || before.eq_ignore_ascii_case("contact");
        before = word;
        word.contains('@') && !word.ends_with('@') && !sends
    })
    .filter_map(|word| address(word.trim_matches(['.', '!', '?', '*', '-', '`', '/'])))
    .filter(|email| {
        email
            .rsplit_once('@')
            .is_some_and(|(_, domain)| domain.contains('.'))
    })
    .collect()
}

fn is_wide_sign(c: char) -> bool {
    matches!(c, '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}' | '\u{ff1a}'..='\u{ff20}' | '“' | '”' | '‘' | '’' | '«' | '»')
}

/// Returns the address of a mailbox whose name stands alone on a line. Its domain is that of the server.
fn bare_name(line: &str, mail: &Message) -> Option<String> {
    let name = line.trim();
    let domain = mail.from.as_ref()?.domain();
    let fits = (2..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    (fits && !domain.is_empty()).then(|| format!("{name}@{domain}"))
}

fn told(email: String, rest: &str, delay: bool) -> FailedRecipient {
    let rest = rest.trim_start_matches(['>', ':', ')', ']', '"', '\'', ' ', '.', ',', '：']);
    let mut one = FailedRecipient {
        email,
        status: None,
        permanent: !delay,
        diagnostic: None,
    };
    explain(&mut one, rest, delay);
    one
}

/// Adds a line of the server's words to a recipient.
fn explain(one: &mut FailedRecipient, line: &str, delay: bool) {
    if one.status.is_none() {
        note_status(one, line, delay);
    }
    let before = one.diagnostic.take().map_or(Cow::Borrowed(""), Cow::Owned);
    one.diagnostic = one_line(&format!("{before} {line}"));
}

fn note_status(one: &mut FailedRecipient, line: &str, delay: bool) {
    one.status = enhanced(line).filter(|status| !status.starts_with('2'));
    let class = one.status.as_deref().and_then(|s| s.bytes().next());
    let class = class.or_else(|| reply_code(line));
    one.permanent = !delay && class != Some(b'4') && (one.permanent || class == Some(b'5'));
}

/// Returns the class of the SMTP reply code with which a text begins.
fn reply_code(text: &str) -> Option<u8> {
    let text = text.trim_start().as_bytes();
    let digits = text.len() >= 3 && text[..3].iter().all(u8::is_ascii_digit);
    let ends = text.get(3).is_none_or(|b| b" -#.:".contains(b));
    (digits && ends && (b'4'..=b'5').contains(&text[0]) && text[1] <= b'5').then(|| text[0])
}

fn position(found: &[FailedRecipient], email: &str) -> Option<usize> {
    found
        .iter()
        .position(|one| delivery::same_address(&one.email, email))
}

/// Returns whether an address belongs to the server that writes, whom one may ask for help.
fn is_of_server(email: &str, mail: &Message) -> bool {
    let local = super::local_part(email);
    [
        "postmaster",
        "mailer-daemon",
        "abuse",
        "hostmaster",
        "helpdesk",
    ]
    .contains(&local.as_str())
        || mail
            .from
            .as_ref()
            .is_some_and(|from| delivery::same_address(&from.email, email))
}

fn is_of_mail(email: &str, mail: &Message) -> bool {
    mail.to
        .iter()
        .chain(&mail.cc)
        .any(|to| delivery::same_address(&to.email, email))
}

/// Returns whether the addresses of a line are the sender's of the returned mail, or of somebody who may be asked.
fn names_sender(line: &str) -> bool {
    starts_with_any(
        line.trim_start_matches(|c: char| !c.is_alphanumeric()),
        &[
            "from:",
            "from ",
            "sender:",
            "von:",
            "de :",
            "de:",
            "message-id",
            "references",
            "in-reply-to",
            "please contact",
            "contact ",
            "mail from",
        ],
    )
}

fn contains_any(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| text.contains(phrase))
}
