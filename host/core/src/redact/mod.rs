//! Redacts a mail, so that it can be kept as a test case: addresses, names, numbers and secrets get stand-ins;
//! everything else stays.
//!
//! Replaced are mail addresses (functions such as `support@` keep their local part), the hosts and query values of URLs,
//! host names of domains that occurred, telephone numbers, runs of six digits and more, IP and MAC addresses, account
//! numbers, the text after a label such as `password:`, random-looking texts of 20 characters and more, user accounts
//! (`C:\Users\NAME`, `DOMAIN\NAME`), and the names of the people in the address headers or beside an address in the text,
//! wherever they occur. Ordinary words stay, and so does a name that is beside no address: read a case before you keep it.

mod emit;
mod stand_ins;
mod text;

use bytes::Bytes;
use regex::Regex;

use crate::classify::{is_no_reply, is_program};
use crate::message::{Address, Attachment, Message};
use crate::parse::{self, ParseLimits};
use emit::Part;
use stand_ins::StandIns;

/// The depth down to which mails inside mails are redacted; below it their content becomes filler.
const DEPTH: usize = 3;
/// The filler of an attachment's content.
const FILLER: &[u8] = b"redacted ";

/// Prefixes of headers that only describe a mail's route.
const ROUTING: &[&str] = &[
    "arc-",
    "authentication-results",
    "dkim-",
    "domainkey-",
    "received",
    "thread-index",
    "x-antiabuse",
    "x-auth",
    "x-eopattributedmessage",
    "x-eoptenantattributedmessage",
    "x-exchange-",
    "x-forefront-",
    "x-gm-",
    "x-google-",
    "x-microsoft-",
    "x-ms-",
    "x-originating",
    "x-received",
    "x-ses-",
    "x-sg-",
];
/// A header with such a prefix that describes the mail itself: the mark of an Exchange delivery report.
const REPORT: &str = "x-ms-exchange-message-is-ndr";
/// Headers, in addition to those of [`Message`], that contain addresses with names.
const NAMING: &[&str] = &[
    "bcc",
    "disposition-notification-to",
    "errors-to",
    "mail-followup-to",
    "resent-cc",
    "resent-from",
    "resent-sender",
    "resent-to",
    "return-receipt-to",
    "sender",
    "x-original-from",
    "x-original-to",
    "x-sender",
];
/// Words of display names that belong to no person.
const NO_NAMES: &[&str] = &[
    "accounts",
    "admin",
    "administrator",
    "alert",
    "alerts",
    "alarm",
    "automation",
    "backup",
    "backups",
    "billing",
    "bot",
    "center",
    "centre",
    "cron",
    "daemon",
    "delivery",
    "desk",
    "fax",
    "help",
    "helpdesk",
    "info",
    "invoice",
    "mail",
    "mailer",
    "manager",
    "monitor",
    "monitoring",
    "nas",
    "network",
    "noreply",
    "notification",
    "notifications",
    "office",
    "postmaster",
    "replication",
    "report",
    "reports",
    "root",
    "sales",
    "scanner",
    "server",
    "service",
    "services",
    "storage",
    "subsystem",
    "support",
    "system",
    "team",
    "ticket",
    "ups",
    "voicemail",
    "webmaster",
];
/// Parts of a name that reveal nothing about the person.
const PARTICLES: &[&str] = &[
    "ag", "bv", "da", "de", "del", "der", "di", "dr", "du", "gmbh", "inc", "la", "le", "llc",
    "ltd", "mr", "mrs", "ms", "van", "via", "von",
];
/// Properties of a calendar that only hold times.
const TIMES: &[&str] = &["DTEND", "DTSTAMP", "DTSTART", "DURATION", "RECURRENCE-ID"];
/// A shorter part of a name is replaced in the address headers only.
const SHORTEST_NAME: usize = 3;
/// A shorter secret, or one without a digit, is replaced after its label only.
const SHORTEST_SECRET: usize = 6;
/// A shorter local part is replaced in its address only.
const SHORTEST_LOCAL: usize = 4;

/// Assigns stand-ins, the same for the same input during its lifetime.
#[derive(Debug, Default)]
pub struct Redactor {
    stand_ins: StandIns,
    names: Names,
}

/// The parts of people's names that occurred, and other texts that are replaced wherever they occur.
#[derive(Debug, Default)]
struct Names {
    parts: Vec<String>,
    /// Matches any of the parts; `None` if there are no parts.
    pattern: Option<Regex>,
    /// Matches any local part that reveals a name; `None` if there is none.
    locals: Option<Regex>,
    /// Matches any secret that is not a word; `None` if there is none.
    secrets: Option<Regex>,
    /// Cache key: the number of local parts and secrets known when these were built.
    known: (usize, usize),
    /// Whether parts were added after the pattern was built.
    stale: bool,
}

impl Redactor {
    /// Creates stand-ins that leave addresses and hosts of these domains unchanged.
    pub fn keeping(domains: &[String]) -> Self {
        Self {
            stand_ins: StandIns::keeping(domains),
            names: Names::default(),
        }
    }

    /// Rewrites the mail as UTF-8: text and HTML as alternatives, then the attachments. The content of an attachment
    /// becomes filler of the same size, unless it is text or a mail. Never fails, like parsing.
    pub fn mail(&mut self, raw: &Bytes) -> Vec<u8> {
        self.mail_at(raw, 0)
    }

    fn mail_at(&mut self, raw: &Bytes, depth: usize) -> Vec<u8> {
        let mail = parse::parse(raw, &ParseLimits::default(), &[]);
        // Names and domains found at the end of a mail are also replaced at its beginning.
        self.written(&mail, depth);
        self.written(&mail, depth)
    }

    fn written(&mut self, mail: &Message, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut seen: Vec<String> = Vec::new();
        for header in &mail.headers {
            let name = header.name.to_ascii_lowercase();
            if is_dropped(&name) {
                continue;
            }
            let (once, list): (bool, &[Address]) = match name.as_str() {
                "from" => (true, mail.from.as_slice()),
                "to" => (true, &mail.to),
                "cc" => (true, &mail.cc),
                "reply-to" => (true, &mail.reply_to),
                _ => (false, &[]),
            };
            if once && seen.contains(&name) {
                continue;
            }
            let more = match NAMING.contains(&name.as_str()) {
                true => parse::addresses_of(&header.value),
                false => Vec::new(),
            };
            let list = if list.is_empty() { &more } else { list };
            if !list.is_empty() {
                let list: Vec<String> = list.iter().map(|it| self.address(it)).collect();
                emit::header(&mut out, &header.name, &list.join(", "));
            } else if matches!(name.as_str(), "message-id" | "in-reply-to" | "references") {
                let ids = parse::message_ids(header.value.as_bytes());
                let ids: Vec<String> = ids
                    .iter()
                    .map(|id| format!("<{}>", self.stand_ins.message_id(id)))
                    .collect();
                emit::header(&mut out, &header.name, &ids.join(" "));
            } else if matches!(name.as_str(), "organization" | "organisation") {
                let value = self.display_name(&header.value);
                emit::header(&mut out, &header.name, &emit::unstructured(&value));
            } else if text::names_secret(&name) {
                let secret = self.stand_ins.secret(&header.value);
                emit::header(&mut out, &header.name, &secret);
            } else {
                let value = self.text(&header.value);
                emit::header(&mut out, &header.name, &emit::unstructured(&value));
            }
            seen.push(name);
        }
        self.body(mail, depth).write_top(&mut out);
        out
    }

    fn body(&mut self, mail: &Message, depth: usize) -> Part {
        let derived = mail.html.as_deref().is_some_and(|html| {
            let of_html = parse::text_of_html(html, ParseLimits::default().text_bytes);
            mail.text.split_whitespace().eq(of_html.split_whitespace())
        });
        let mut bodies = Vec::new();
        let only_html = derived || mail.text.is_empty() && mail.html.is_some();
        if parse::is_calendar_summary(mail) {
            // It is made again of the calendar.
            bodies.push(Part::text("plain", String::new()));
        } else if !only_html {
            bodies.push(Part::text("plain", self.text(&mail.text)));
        }
        if let Some(html) = &mail.html {
            bodies.push(Part::text("html", self.html(html)));
        }
        let body = match bodies.len() {
            1 => bodies.remove(0),
            _ => Part::multipart("alternative", bodies),
        };
        let report = mail
            .headers("Content-Type")
            .next()
            .filter(|value| value.to_ascii_lowercase().starts_with("multipart/report"));
        if mail.attachments.is_empty() && report.is_none() {
            return body;
        }
        let mut parts = vec![body];
        for attachment in &mail.attachments {
            parts.push(self.attachment(attachment, depth));
        }
        match report {
            Some(value)
                if value
                    .to_ascii_lowercase()
                    .contains("disposition-notification") =>
            {
                Part::multipart("report; report-type=disposition-notification", parts)
            }
            Some(value) if value.to_ascii_lowercase().contains("delivery-status") => {
                Part::multipart("report; report-type=delivery-status", parts)
            }
            Some(_) => Part::multipart("report", parts),
            None => Part::multipart("mixed", parts),
        }
    }

    fn attachment(&mut self, attachment: &Attachment, depth: usize) -> Part {
        let kind = attachment.content_type.as_str();
        let content = if kind == "message/rfc822" && depth < DEPTH {
            self.mail_at(&attachment.bytes, depth + 1)
        } else if is_text(kind) {
            let text = parse::text_of(&attachment.bytes, attachment.charset.as_deref(), usize::MAX);
            let mut text = text.replace("\r\n", "\n");
            if kind == "text/calendar" || kind.ends_with("vcard") {
                // Folded anywhere, even inside an address.
                text = text.replace("\n ", "").replace("\n\t", "");
            }
            let redacted = match kind {
                "text/html" | "application/xhtml+xml" => self.html(&text),
                "text/calendar" => self.calendar(&text),
                _ => self.text(&text),
            };
            redacted.into_bytes()
        } else {
            FILLER
                .iter()
                .copied()
                .cycle()
                .take(attachment.bytes.len())
                .collect()
        };
        Part::Attachment {
            content_type: kind.to_owned(),
            name: self.text(&attachment.name),
            inline: attachment.inline,
            content_id: attachment
                .content_id
                .as_deref()
                .map(|id| self.stand_ins.message_id(id)),
            content,
        }
    }

    /// Redacts a calendar but for its times, which look like numbers: without them it is no event.
    fn calendar(&mut self, text: &str) -> String {
        let lines =
            text.split('\n').map(
                |line| match TIMES.iter().any(|name| line.starts_with(name)) {
                    true => line.to_owned(),
                    false => self.text(line),
                },
            );
        lines.collect::<Vec<_>>().join("\n")
    }

    fn address(&mut self, address: &Address) -> String {
        let (local, domain) = match address.email.rsplit_once('@') {
            Some((local, domain)) => (local, Some(domain)),
            None => (address.email.as_str(), None),
        };
        let email = match domain {
            Some(domain) => self.stand_ins.email(local, domain),
            None => self.text(local),
        };
        let of_function = stand_ins::names_function(local) || is_no_reply(&address.email);
        let is_kept = domain.is_some_and(|domain| self.stand_ins.keeps(&domain.to_lowercase()));
        match &address.name {
            Some(name) => {
                let name = if of_function || is_kept {
                    self.text(name)
                } else {
                    self.display_name(name)
                };
                format!("{} <{email}>", emit::phrase(&name))
            }
            None => email,
        }
    }

    /// Replaces a person's name word by word; the name of a function stays unchanged.
    fn display_name(&mut self, name: &str) -> String {
        let is_word = |c: char| c.is_alphanumeric() || c == '-' || c == '\'' || c == '’';
        let words: Vec<&str> = name
            .split(|c: char| !is_word(c))
            .filter(|w| !w.is_empty())
            .collect();
        let of_function = words
            .iter()
            .any(|word| NO_NAMES.contains(&word.to_lowercase().as_str()) || is_program(word));
        if name.contains('@') || of_function {
            return self.text(name);
        }
        let mut out = String::new();
        let mut rest = name;
        for word in words {
            let at = rest.find(word).unwrap_or(0);
            out.push_str(&rest[..at]);
            out.push_str(&self.name_part(word));
            rest = &rest[at + word.len()..];
        }
        out + rest
    }

    fn name_part(&mut self, word: &str) -> String {
        let letters = word.chars().filter(|c| c.is_alphabetic()).count();
        if letters < 2 || PARTICLES.contains(&word.to_lowercase().as_str()) {
            return word.to_owned();
        }
        if letters >= SHORTEST_NAME && !self.names.parts.iter().any(|part| part == word) {
            self.names.parts.push(word.to_owned());
            self.names.stale = true;
        }
        self.stand_ins.name(word)
    }
}

impl Names {
    /// Builds the pattern of all parts, as written and in capitals.
    fn build(&mut self, stand_ins: &StandIns) {
        let known = (stand_ins.locals().len(), stand_ins.secrets().len());
        if !std::mem::take(&mut self.stale) && self.known == known {
            return;
        }
        self.known = known;
        self.secrets = stand_ins::any_of(stand_ins.secrets().filter(|secret| {
            secret.len() >= SHORTEST_SECRET && secret.contains(|c: char| c.is_ascii_digit())
        }));
        let small: Vec<String> = self.parts.iter().map(|it| it.to_lowercase()).collect();
        // `buyers` may be a word; `j.doe`, or `jdoe` for a Jane Doe, is not.
        let is_name = |local: &&str| {
            local.len() >= SHORTEST_LOCAL
                && (local.contains(['.', '_', '-'])
                    || small.iter().any(|part| local.contains(part.as_str())))
        };
        let forms = stand_ins.locals().filter(is_name).flat_map(|local| {
            let variants = [local.to_owned(), local.replace('.', "_")];
            variants
                .into_iter()
                .flat_map(|it| [it.to_uppercase(), capitalised(&it), it])
        });
        let forms: Vec<String> = forms.collect();
        self.locals = stand_ins::any_of(forms.iter().map(String::as_str));
        let forms: Vec<String> = self
            .parts
            .iter()
            .flat_map(|part| [part.clone(), part.to_uppercase()])
            .collect();
        // Too many names for one pattern: the earlier pattern stays in use.
        if let Some(pattern) = stand_ins::any_of(forms.iter().map(String::as_str)) {
            self.pattern = Some(pattern);
        }
    }
}

/// Returns `jane.doe` as `Jane.Doe`.
fn capitalised(text: &str) -> String {
    let mut begins = true;
    let capital = |c: char| {
        let first = std::mem::replace(&mut begins, !c.is_alphanumeric());
        if first { c.to_ascii_uppercase() } else { c }
    };
    text.chars().map(capital).collect()
}

fn is_dropped(name: &str) -> bool {
    name.starts_with("content-")
        || name == "mime-version"
        || (name != REPORT && ROUTING.iter().any(|start| name.starts_with(start)))
}

fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/")
        || content_type.starts_with("message/")
        || content_type.ends_with("+xml")
        || content_type.ends_with("+json")
        || matches!(
            content_type,
            "application/json" | "application/xml" | "application/csv" | "application/x-ndjson"
        )
}
