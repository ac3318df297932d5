//! Reads what a bounce reports, from the fields of RFC 3464, the server's own words, and the copy of the returned mail.

use super::notice::{Notice, copied_field};
use crate::message::{Attachment, DeliveryReport, FailedRecipient, Message};
use crate::parse;

/// The most failed recipients kept of one mail.
pub(super) const RECIPIENTS_MAX: usize = 100;
/// How much is read of a part that holds fields: a delivery status, or the mail that came back.
const PART_BYTES: usize = 64 * 1024;
/// The longest diagnostic kept, in characters.
const DIAGNOSTIC_CHARS: usize = 500;
/// The longest address believed (RFC 5321 section 4.5.3.1).
const ADDRESS_BYTES: usize = 320;

/// The content of a mail's delivery-status parts.
#[derive(Default)]
pub(super) struct Status {
    /// The recipients that the mail did not reach, or not yet.
    pub failed: Vec<FailedRecipient>,
    /// Whether a recipient was reached (Action `delivered`, `relayed` or `expanded`).
    pub reached: bool,
    /// The action of the first recipient, as written.
    pub action: Option<String>,
    message_id: Option<String>,
}

/// The outcome for a recipient (RFC 3464 section 2.3.3).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Action {
    Failed,
    Delayed,
    Reached,
}

impl Status {
    pub(super) fn of(mail: &Message) -> Self {
        let mut status = Self::default();
        for part in mail.attachments.iter().filter(|part| is_status(part)) {
            status.read(&String::from_utf8_lossy(head(&part.bytes)));
        }
        status
    }

    /// Reads the fields of RFC 3464 section 2. Blank lines separate recipients; some servers write none, or too many.
    pub(super) fn read(&mut self, text: &str) {
        let mut group = Group::default();
        let mut host = None;
        for (name, value) in fields(text) {
            let Some(name) = name else {
                if group.is_whole() {
                    self.keep(std::mem::take(&mut group), host.as_deref());
                }
                continue;
            };
            match name.as_str() {
                "reporting-mta" => host = typed(&value).map(str::to_ascii_lowercase),
                "original-message-id" | "x-original-message-id" | "x-actual-message-id" => {
                    self.message_id = first_id(&value).or(self.message_id.take());
                }
                "final-recipient" if group.last.is_some() => {
                    self.keep(std::mem::take(&mut group), host.as_deref());
                    group.last = Some(value);
                }
                "final-recipient" => group.last = Some(value),
                "original-recipient" => group.first = Some(value),
                "x-actual-recipient" => group.actual = Some(value),
                "action" => group.action = Some(value),
                "status" => group.status = enhanced(&value),
                "diagnostic-code" => group.diagnostic = typed(&value).and_then(one_line),
                _ => {}
            }
        }
        self.keep(group, host.as_deref());
    }

    fn keep(&mut self, group: Group, host: Option<&str>) {
        let Some(email) = group.email(host) else {
            return;
        };
        let action = group.action();
        self.action = self.action.take().or(group.action);
        if action == Action::Reached {
            self.reached = true;
            return;
        }
        let later = group.status.as_deref().is_some_and(|s| s.starts_with('4'));
        add(
            &mut self.failed,
            FailedRecipient {
                email,
                permanent: action == Action::Failed && !later,
                status: group.status,
                diagnostic: group.diagnostic,
            },
        );
    }
}

/// The fields of one recipient.
#[derive(Default)]
struct Group {
    first: Option<String>,
    last: Option<String>,
    actual: Option<String>,
    action: Option<String>,
    status: Option<String>,
    diagnostic: Option<String>,
}

impl Group {
    fn is_whole(&self) -> bool {
        self.last.is_some() || self.first.is_some()
    }

    /// Returns the address that the sender used, else the final one. Some servers write only a local name.
    fn email(&self, host: Option<&str>) -> Option<String> {
        let all = [&self.first, &self.last, &self.actual];
        let mut given = all.into_iter().flatten();
        given
            .clone()
            .find_map(|value| address(typed(value)?))
            .or_else(|| {
                let name = given.find_map(|value| typed(value))?;
                address(&format!("{name}@{}", host?))
            })
    }

    fn action(&self) -> Action {
        let said = self.action.as_deref().unwrap_or("").to_ascii_lowercase();
        let begins = |word: &str| said.starts_with(word);
        match self.status.as_deref().and_then(|s| s.chars().next()) {
            _ if begins("fail") => Action::Failed,
            _ if begins("delay") => Action::Delayed,
            _ if begins("deliver") || begins("relay") || begins("expand") => Action::Reached,
            Some('2') => Action::Reached,
            Some('4') => Action::Delayed,
            _ => Action::Failed,
        }
    }
}

/// Returns what a bounce reports. `named` are the addresses of X-Failed-Recipients.
pub(super) fn report(
    mail: &Message,
    mut status: Status,
    named: &[String],
    notice: &Notice<'_>,
) -> DeliveryReport {
    if status.failed.is_empty() && notice.has_status_fields() {
        // A multipart whose structure broke: its parts are text.
        status.read(notice.whole());
    }
    let mut recipients = std::mem::take(&mut status.failed);
    if recipients.is_empty() && !status.reached {
        let told = notice.recipients(mail);
        for email in named
            .iter()
            .take(RECIPIENTS_MAX)
            .filter_map(|email| address(email))
        {
            let same = told.iter().find(|one| same_address(&one.email, &email));
            add(
                &mut recipients,
                FailedRecipient {
                    email,
                    status: same.and_then(|one| one.status.clone()),
                    permanent: same.map_or(!notice.is_delay(), |one| one.permanent),
                    diagnostic: same.and_then(|one| one.diagnostic.clone()),
                },
            );
        }
        if recipients.is_empty() {
            recipients = told;
        }
    }
    DeliveryReport {
        message_id: original_id(mail, &status, notice),
        recipients,
    }
}

/// Returns the Message-ID of the mail that came back: from its copy, the report, or the answer's own references.
fn original_id(mail: &Message, status: &Status, notice: &Notice<'_>) -> Option<String> {
    let copy = mail.attachments.iter().filter(|part| is_copy(part));
    copy.map(|part| head(&part.bytes))
        .find_map(|bytes| parse::message_id(trim_blank_lines(bytes)))
        .or_else(|| status.message_id.clone())
        .or_else(|| notice.original_id())
        .or_else(|| {
            let mut texts = mail
                .attachments
                .iter()
                .filter(|part| part.content_type == "text/plain");
            let text = String::from_utf8_lossy(head(&texts.next()?.bytes));
            first_id(copied_field(&text, "message-id:")?)
        })
        .or_else(|| mail.references.first().cloned())
        .or_else(|| {
            let value = mail
                .headers("X-Original-Message-ID")
                .chain(mail.headers("X-Original-Id"))
                .next()?;
            first_id(value)
        })
}

/// Returns whether a part holds the fields of RFC 3464 or RFC 6533.
pub(super) fn is_status(part: &Attachment) -> bool {
    matches!(
        part.content_type.as_str(),
        "message/delivery-status" | "message/global-delivery-status"
    )
}

/// Returns whether a part is the mail that came back, or its headers.
pub(super) fn is_copy(part: &Attachment) -> bool {
    matches!(
        part.content_type.as_str(),
        "message/rfc822"
            | "message/global"
            | "message/global-headers"
            | "message/rfc822-headers"
            | "text/rfc822-headers"
            | "text/rfc822"
    )
}

/// Adds a recipient unless it is known or there are too many.
pub(super) fn add(recipients: &mut Vec<FailedRecipient>, one: FailedRecipient) {
    if recipients.len() < RECIPIENTS_MAX
        && !recipients
            .iter()
            .any(|known| same_address(&known.email, &one.email))
    {
        recipients.push(one);
    }
}

pub(super) fn same_address(a: &str, b: &str) -> bool {
    a.eq_ignore_ascii_case(b)
}

/// Returns the enhanced status code (RFC 3463) with which a text begins or that it contains as a word.
pub(super) fn enhanced(text: &str) -> Option<String> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .map(|word| word.trim_matches('.'))
        .find(|word| is_enhanced(word))
        .map(str::to_owned)
}

fn is_enhanced(word: &str) -> bool {
    let mut parts = word.split('.');
    let class = parts.next();
    let short = |part: Option<&str>| part.is_some_and(|part| (1..=3).contains(&part.len()));
    matches!(class, Some("2" | "4" | "5"))
        && short(parts.next())
        && short(parts.next())
        && parts.next().is_none()
}

/// Returns a text on one line, shortened; `None` if nothing is left.
pub(super) fn one_line(text: &str) -> Option<String> {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if line.len() > 4 * DIAGNOSTIC_CHARS {
            break;
        }
    }
    if let Some((at, _)) = line.char_indices().nth(DIAGNOSTIC_CHARS) {
        line.truncate(at);
    }
    (!line.is_empty()).then_some(line)
}

/// Returns the value behind its type: `rfc822; a@b.example` is `a@b.example`.
fn typed(value: &str) -> Option<&str> {
    let value = match value.split_once(';') {
        Some((kind, rest)) if !kind.contains('@') => rest,
        _ => value,
    };
    let value = value.trim();
    (!value.is_empty()).then_some(value)
}

/// Returns the address in a field's value, without brackets, comments and `SMTP:`.
pub(super) fn address(value: &str) -> Option<String> {
    let value = match (value.rfind('<'), value.rfind('>')) {
        (Some(open), Some(close)) if open < close => &value[open + 1..close],
        _ => value.split('(').next().unwrap_or(""),
    };
    let value = value.trim().trim_matches(['<', '>', '\'', ' ']);
    let value = match value.as_bytes().get(..5) {
        Some(kind) if kind.eq_ignore_ascii_case(b"smtp:") => &value[5..],
        _ => value,
    };
    let value = value.trim_end_matches(['.', ',', ';', ':']);
    let (local, domain) = value.rsplit_once('@')?;
    let clean = |text: &str| {
        !text.is_empty()
            && !text.starts_with('.')
            && !text
                .chars()
                .any(|c| c.is_whitespace() || c.is_control() || "<>()[],;".contains(c))
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let quoted = quoted && !local.contains(['\r', '\n', '<', '>']);
    ((quoted || clean(local)) && clean(domain) && value.len() <= ADDRESS_BYTES)
        .then(|| value.to_owned())
}

/// Returns the fields of a text in order: lower-case names and unfolded values; `None` for a blank line.
fn fields(text: &str) -> Vec<(Option<String>, String)> {
    let mut found: Vec<(Option<String>, String)> = Vec::new();
    for line in text.lines() {
        if line.trim().is_empty() {
            found.push((None, String::new()));
        } else if line.starts_with([' ', '\t']) {
            if let Some((Some(_), value)) = found.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            found.push((
                Some(name.trim().to_ascii_lowercase()),
                value.trim().to_owned(),
            ));
        }
    }
    found
}

/// Returns the first Message-ID of a field's value.
pub(super) fn first_id(value: &str) -> Option<String> {
    parse::message_ids(value.as_bytes()).into_iter().next()
}

/// Returns what is read of a part: whole lines.
pub(super) fn head(bytes: &[u8]) -> &[u8] {
    match bytes.get(..PART_BYTES) {
        Some(head) => &head[..memchr::memrchr(b'\n', head).unwrap_or(PART_BYTES)],
        None => bytes,
    }
}

fn trim_blank_lines(bytes: &[u8]) -> &[u8] {
    let blank = bytes.iter().take_while(|b| b"\r\n".contains(b)).count();
    &bytes[blank..]
}
