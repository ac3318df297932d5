//! Classifies a mail (person, auto-reply, bounce, list, machine, calendar), so that no reply goes to a machine.

mod calendar;
mod delivery;
mod marks;
mod notice;
mod words;

use crate::fold::{starts_with, starts_with_any, without_tags};
use crate::message::{Classification, DeliveryReport, Message};
use delivery::Status;
use marks::{Marks, Report};
use notice::Notice;
use words::{
    AWAY, AWAY_WITHIN, CHALLENGE_PHRASES, CHALLENGE_SUBJECTS, DAEMON_NAMES, DAEMONS, DELIVERED,
    FAILURE, FAILURE_WITHIN, PROGRAM_ACCOUNTS, PROGRAMS, READ, SERVER_NAMES, SERVERS,
};

/// The reason for [`Classification::Person`].
const NO_MARK: &str = "no mark of a machine";
/// The longest value quoted in a reason, in characters.
const REASON_CHARS: usize = 80;

/// Judges a mail whose other fields are read, and sets `classification`, `classification_reason`, `challenge`, `delivery`
/// and `null_sender`. Only the mail's own headers and parts count, never those of a mail that it carries. The first that fits:
///
/// 1. bounce: a delivery status (RFC 3464) that reports a failure or a delay, X-Failed-Recipients, Exchange's mark, a
///    mailer daemon for a sender, or the words of a failure notice from a sender without a person's name;
/// 2. calendar: a part with a method of RFC 5546, without words of a person;
/// 3. machine: a server's report that a mail was delivered;
/// 4. auto-reply: Auto-Submitted `auto-replied` (RFC 3834), X-Autoreply and its kin, Precedence `auto_reply`, a read receipt
///    (RFC 8098), a challenge, or the subject of an out-of-office notice together with any mark of a machine;
/// 5. machine, by a strong mark: any other Auto-Submitted but `no`, or the X-Mailer or a header of a known monitoring, backup,
///    scheduling, telephone or ticket program. Such mails often say `Precedence: bulk` too, and are no list;
/// 6. auto-reply: a null return path, or Precedence `bulk` on an answer from no list, unless a program for people wrote it;
/// 7. list: List-Id, List-Post, List-Unsubscribe (RFC 2919, 2369), Precedence `list`, `bulk` or `junk`;
/// 8. machine, by a weak mark: X-Auto-Response-Suppress `All`, X-Loop, a no-reply or postmaster address, the account of a
///    program such as root, another report;
/// 9. person.
///
/// X-Auto-Response-Suppress alone is no mark: Exchange adds it to people's mail that passes a group.
pub(crate) fn judge(mail: &mut Message) {
    let judged = Case::of(mail).judge();
    mail.null_sender = judged.null_sender;
    mail.classification = judged.classification;
    mail.classification_reason = judged.reason;
    mail.challenge = judged.challenge;
    mail.delivery = judged.delivery;
}

/// Returns whether an address accepts no replies, such as a no-reply address.
pub fn is_no_reply(email: &str) -> bool {
    let local: String = local_part(email)
        .chars()
        .filter(|c| !matches!(c, '-' | '_' | '.'))
        .collect();
    [
        "noreply",
        "donotreply",
        "dontreply",
        "nepasrepondre",
        "nichtantworten",
        "neantworten",
    ]
    .iter()
    .any(|name| local.starts_with(name) || local.ends_with(name))
}

/// Returns whether a name begins with the name of a monitoring, backup or scheduling program.
pub(crate) fn is_program(name: &str) -> bool {
    starts_with_any(name, PROGRAMS)
}

/// Returns whether an id, without angle brackets, has the form `EVENT.MD5-IN-HEX.MEDIA.INSTANCE@zabbix.com`. Zabbix sets no
/// mark of a machine, but threads the mails of an event by such ids.
pub(crate) fn is_zabbix_event(id: &str) -> bool {
    let parts = id
        .strip_suffix("@zabbix.com")
        .and_then(|id| id.split_once('.'));
    parts.is_some_and(|(event, rest)| {
        !event.is_empty()
            && event.bytes().all(|b| b.is_ascii_digit())
            && rest.bytes().take_while(u8::is_ascii_hexdigit).count() == 32
    })
}

struct Judged {
    classification: Classification,
    reason: String,
    challenge: bool,
    delivery: Option<DeliveryReport>,
    null_sender: bool,
}

/// The kind of address that a mail states as its author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    /// The daemon that returns mail.
    Daemon,
    /// A mail server.
    Server,
    /// No address, as in `From: <>`.
    Nobody,
    /// An address that takes no replies, or of a program.
    Program,
    /// An address with a name that is not a server's.
    Named,
    /// A bare address, or one with the name of a server, which administrators also use.
    Bare,
}

/// A mail with what decides about it.
struct Case<'m> {
    mail: &'m Message,
    marks: Marks,
    sender: Sender,
    /// The sender as the mail writes it, for reasons.
    author: String,
    /// The subject without the tags of gateways.
    subject: &'m str,
    notice: Notice<'m>,
}

impl<'m> Case<'m> {
    fn of(mail: &'m Message) -> Self {
        let (sender, author) = sender(mail);
        Self {
            mail,
            marks: Marks::of(mail),
            sender,
            author,
            subject: without_tags(&mail.subject),
            notice: Notice::of(mail),
        }
    }

    fn judge(&self) -> Judged {
        let status = Status::of(self.mail);
        let by_status = if status.reached && status.failed.is_empty() {
            let action = status.action.as_deref().unwrap_or("delivered");
            Some(format!("delivery status with Action: {}", short(action)))
        } else {
            None
        };
        if by_status.is_none()
            && let Some(reason) = self.bounce(&status)
        {
            let report = delivery::report(
                self.mail,
                status,
                &self.marks.failed_recipients,
                &self.notice,
            );
            return self.judged(Classification::Bounce, reason, Some(report));
        }
        let success = by_status.or_else(|| self.reports_success());
        let (classification, reason) = None
            .or_else(|| Some((Classification::Calendar, self.calendar()?)))
            .or_else(|| Some((Classification::Machine, success?)))
            .or_else(|| Some((Classification::AutoReply, self.auto_reply()?)))
            .or_else(|| Some((Classification::Machine, self.marks.machine.clone()?)))
            .or_else(|| Some((Classification::AutoReply, self.answers_quietly()?)))
            .or_else(|| Some((Classification::List, self.marks.list.clone()?)))
            .or_else(|| Some((Classification::Machine, self.weak_machine()?)))
            .unwrap_or_else(|| (Classification::Person, NO_MARK.to_owned()));
        self.judged(classification, reason, None)
    }

    fn judged(
        &self,
        classification: Classification,
        reason: String,
        delivery: Option<DeliveryReport>,
    ) -> Judged {
        let answers = classification == Classification::AutoReply;
        Judged {
            classification,
            reason,
            challenge: answers && self.asks_for_proof(),
            delivery,
            null_sender: self.marks.null_sender,
        }
    }

    fn bounce(&self, status: &Status) -> Option<String> {
        if self.marks.report == Report::Feedback {
            return None;
        }
        let daemon = self.sender == Sender::Daemon;
        let success = self.reports_success().is_some();
        let stated = !status.failed.is_empty();
        let report = self.marks.report == Report::Delivery;
        let from_server = daemon || self.sender == Sender::Server || self.unattended();
        if stated && (report || from_server || self.sender != Sender::Named) {
            let challenge = !from_server && self.asks_for_proof();
            let action = status.action.as_deref().unwrap_or("failed");
            return (!challenge).then(|| format!("delivery status with Action: {}", short(action)));
        }
        if let Some(mark) = &self.marks.bounce {
            return Some(mark.clone());
        }
        if report && !success {
            return Some("multipart/report of a delivery status".to_owned());
        }
        if daemon && !success {
            return Some(format!("sender {}", self.author));
        }
        if success || self.is_away(true) || self.marks.report == Report::Disposition {
            return None;
        }
        self.bounce_by_words(from_server)
    }

    /// Judges by the words of subject and text, which people can write too: none of them suffices alone.
    fn bounce_by_words(&self, from_server: bool) -> Option<String> {
        let reason = |mark: &str| Some(format!("{mark}, with {}", self.who()));
        let subject = self.names_failure();
        if subject && self.unattended() {
            return reason("subject of a failure notice");
        }
        if self.sender == Sender::Named || self.marks.client {
            return None;
        }
        let machine = from_server || matches!(self.sender, Sender::Nobody | Sender::Program);
        if subject && machine {
            return reason("subject of a failure notice");
        }
        if from_server && self.notice.reports_failure() {
            return reason("words of a failure notice");
        }
        let copied = self.mail.attachments.iter().any(delivery::is_copy);
        if self.unattended()
            && self.marks.auto_reply.is_none()
            && (copied || self.notice.has_code() && self.notice.names_an_address())
        {
            return reason("the answer of a mail server");
        }
        if copied && self.notice.opens_with_failure() {
            return reason("words of a failure notice and the mail that came back");
        }
        let said = || match self.marks.list {
            Some(_) => self.notice.opens_with_failure(),
            None => self.notice.reports_failure(),
        };
        if subject && said() {
            return reason("subject and words of a failure notice");
        }
        None
    }

    fn auto_reply(&self) -> Option<String> {
        if let Some(mark) = &self.marks.challenge {
            return Some(mark.clone());
        }
        if self.marks.report == Report::Disposition {
            return Some("multipart/report of a read receipt".to_owned());
        }
        if let Some(mark) = &self.marks.auto_reply {
            return Some(mark.clone());
        }
        if let Some(mark) = &self.marks.generated_reply {
            return Some(mark.clone());
        }
        let mark = self.any_mark();
        if self.is_away(false)
            && let Some(mark) = &mark
        {
            return Some(format!("subject of an out-of-office notice, with {mark}"));
        }
        if self.is_away(true) && self.marks.answers && !self.marks.client {
            return Some("subject of an out-of-office notice, with In-Reply-To".to_owned());
        }
        let subject = self.mail.subject.to_lowercase();
        if subject.starts_with("auto:") && subject.contains("out of the office") {
            return Some("subject of an out-of-office notice".to_owned());
        }
        if starts_with_any(self.subject, READ)
            && let Some(mark) = &mark
        {
            return Some(format!("subject of a read receipt, with {mark}"));
        }
        if names_challenge(&subject)
            && let Some(mark) = mark
        {
            return Some(format!("subject of a challenge, with {mark}"));
        }
        if self.mail.attachments.iter().any(delivery::is_status) && self.asks_for_proof() {
            return Some("delivery status of a filter that asks for a confirmation".to_owned());
        }
        let prefixed = self.prefixes_topic() && self.marks.generated.is_some();
        prefixed.then(|| "Auto-Submitted: auto-generated, with a subject that answers".to_owned())
    }

    /// A program that answers sends with a null return path, or says `Precedence: bulk` and is no list.
    fn answers_quietly(&self) -> Option<String> {
        if self.marks.client {
            return None;
        }
        if self.marks.null_sender {
            return Some("null return path".to_owned());
        }
        let bulk = self.marks.bulk.clone()?;
        (self.marks.answers && !self.marks.is_list).then(|| format!("{bulk}, with In-Reply-To"))
    }

    fn calendar(&self) -> Option<String> {
        let method = calendar::method(self.mail)?;
        let by_program = self.marks.calendar_program
            || self.marks.machine.is_some()
            || self.marks.generated.is_some();
        (by_program || !calendar::has_words(self.mail))
            .then(|| format!("calendar part with METHOD:{}", short(&method)))
    }

    fn weak_machine(&self) -> Option<String> {
        if matches!(self.sender, Sender::Program | Sender::Server) {
            return Some(format!("sender {}", self.author));
        }
        self.marks.weak.clone().filter(|_| !self.marks.client)
    }

    /// The mark of a machine that the subject of an automatic answer needs.
    fn any_mark(&self) -> Option<String> {
        let marks = &self.marks;
        [
            &marks.machine,
            &marks.generated,
            &marks.bulk,
            &marks.list,
            &marks.weak,
            &marks.rules,
        ]
        .into_iter()
        .flatten()
        .next()
        .cloned()
        .or_else(|| marks.null_sender.then(|| "a null return path".to_owned()))
        .or_else(|| (self.sender == Sender::Program).then(|| format!("sender {}", self.author)))
    }

    /// Whether nobody gets an answer that goes to the return path.
    fn unattended(&self) -> bool {
        self.marks.null_sender || self.marks.daemon_path
    }

    fn who(&self) -> String {
        match self.sender {
            _ if self.marks.null_sender => "a null return path".to_owned(),
            _ if self.author.is_empty() => "no sender".to_owned(),
            _ => format!("sender {}", self.author),
        }
    }

    fn names_failure(&self) -> bool {
        let folded = self.subject.to_lowercase();
        starts_with_any(self.subject, FAILURE)
            || self.subject.len() < self.mail.subject.len()
                && starts_with_any(&self.mail.subject, FAILURE)
            || FAILURE_WITHIN.iter().any(|words| folded.contains(words))
    }

    fn reports_success(&self) -> Option<String> {
        let automatic =
            self.unattended() || self.sender == Sender::Daemon || self.sender == Sender::Server;
        (automatic && starts_with_any(self.subject, DELIVERED))
            .then(|| "subject of a report of delivery".to_owned())
    }

    /// Returns whether the subject is an out-of-office notice's. In its strict form a colon or nothing follows the words; a
    /// person who asks about such notices continues the sentence.
    fn is_away(&self, strict: bool) -> bool {
        let whole = self.mail.subject.trim();
        [self.subject, whole.trim_start_matches('[')]
            .into_iter()
            .any(
                |subject| match AWAY.iter().find(|words| starts_with(subject, words)) {
                    Some(_) if !strict => true,
                    Some(_) => AWAY.iter().any(|words| {
                        starts_with(subject, words) && ends_phrase(subject, words.chars().count())
                    }),
                    None => false,
                },
            )
            || !strict && {
                let folded = whole.to_lowercase();
                AWAY_WITHIN.iter().any(|words| folded.contains(words))
            }
    }

    /// Returns whether the subject is a phrase, a colon, and the topic of the conversation, as Exchange writes an answer in
    /// any language.
    fn prefixes_topic(&self) -> bool {
        let Some(topic) = self.marks.topic.as_deref().filter(|topic| topic.len() > 2) else {
            return false;
        };
        self.subject
            .strip_suffix(topic)
            .map(|prefix| prefix.trim_end())
            .and_then(|prefix| prefix.strip_suffix([':', '：']))
            .is_some_and(|prefix| prefix.chars().count() > 3)
    }

    fn asks_for_proof(&self) -> bool {
        self.marks.challenge.is_some()
            || names_challenge(&self.mail.subject.to_lowercase())
            || self.notice.contains_any(CHALLENGE_PHRASES)
    }
}

fn names_challenge(subject: &str) -> bool {
    CHALLENGE_SUBJECTS
        .iter()
        .any(|words| subject.contains(words))
}

/// Returns whether a phrase of this many characters ends a subject, or its first part.
fn ends_phrase(subject: &str, chars: usize) -> bool {
    let rest: String = subject.chars().skip(chars).take(40).collect();
    let rest = rest.trim_start();
    let last = subject.chars().nth(chars.saturating_sub(1));
    rest.is_empty()
        || last == Some(':')
        || rest.starts_with([':', '：', ']', '!', '.', '*', '-', '–'])
}

fn sender(mail: &Message) -> (Sender, String) {
    let raw = mail.headers("From").next().unwrap_or("").trim();
    let (email, name) = match &mail.from {
        Some(from) => (from.email.as_str(), from.name.as_deref().unwrap_or("")),
        None => ("", raw),
    };
    let local = match local_part(email) {
        local if local.is_empty() => {
            let word = raw
                .split(['(', '<', '@', ' '])
                .find(|word| !word.is_empty());
            word.unwrap_or("").to_ascii_lowercase()
        }
        local => local,
    };
    let local = local.trim_matches('"');
    let author = match email {
        "" => short(raw),
        email => short(email),
    };
    let name = name.to_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| name.contains(word));
    let server = SERVERS.contains(&local) || local.starts_with("microsoftexchange");
    let sender = if DAEMONS.contains(&local) || any(DAEMON_NAMES) {
        Sender::Daemon
    } else if server {
        Sender::Server
    } else if email.is_empty() {
        Sender::Nobody
    } else if PROGRAM_ACCOUNTS.contains(&local) || is_no_reply(email) {
        Sender::Program
    } else if name.is_empty() || name.contains('@') || name == local || any(SERVER_NAMES) {
        Sender::Bare
    } else {
        Sender::Named
    };
    (sender, author)
}

/// Returns a value for a reason: on one line, shortened.
fn short(value: &str) -> String {
    let line = delivery::one_line(value).unwrap_or_default();
    match line.char_indices().nth(REASON_CHARS) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line,
    }
}

fn local_part(email: &str) -> String {
    email
        .rsplit_once('@')
        .map_or("", |(local, _)| local)
        .to_ascii_lowercase()
}
