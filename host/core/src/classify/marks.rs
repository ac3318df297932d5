//! The marks of machines and of people in a mail's own headers.

use super::words::{AUTO_REPLY_HEADERS, CHALLENGE_HEADERS, CLIENTS, PROGRAM_HEADERS, PROGRAMS};
use super::{is_zabbix_event, short};
use crate::fold::starts_with_any;
use crate::message::{Header, Message};

/// How much of a Content-Type is searched for its report type.
const CONTENT_TYPE_BYTES: usize = 1024;

/// The report that a multipart/report declares (RFC 6522).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Report {
    #[default]
    None,
    /// Of a delivery (RFC 3464).
    Delivery,
    /// Of what a recipient did (RFC 8098).
    Disposition,
    /// Of a complaint (RFC 5965).
    Feedback,
    Other,
}

/// What the headers say. A mark is kept with the header that sets it, as the reason.
#[derive(Default)]
pub(super) struct Marks {
    pub null_sender: bool,
    return_path_seen: bool,
    /// The return path is the daemon's own, as some servers write instead of a null one.
    pub daemon_path: bool,
    pub report: Report,
    pub bounce: Option<String>,
    pub failed_recipients: Vec<String>,
    pub auto_reply: Option<String>,
    /// Auto-Submitted `auto-replied` of a ticket system and the like.
    pub challenge: Option<String>,
    /// A rule of a mailbox wrote the mail.
    pub generated_reply: Option<String>,
    /// A rule of a mailbox wrote or passed on the mail.
    pub rules: Option<String>,
    pub machine: Option<String>,
    /// Auto-Submitted `auto-generated`.
    pub generated: Option<String>,
    pub list: Option<String>,
    /// List-Id or another header of a list, or a list's return path.
    pub is_list: bool,
    /// Precedence `bulk` or `junk`.
    pub bulk: Option<String>,
    pub weak: Option<String>,
    /// X-Auto-Response-Suppress with any value but `None`.
    pub suppress: Option<String>,
    /// In-Reply-To or References.
    pub answers: bool,
    /// The mail program is one in which people write.
    pub client: bool,
    pub calendar_program: bool,
    pub topic: Option<String>,
}

impl Marks {
    pub(super) fn of(mail: &Message) -> Self {
        let mut marks = Self {
            answers: !mail.references.is_empty(),
            ..Self::default()
        };
        for header in &mail.headers {
            marks.note(header);
        }
        if marks.list.is_none() {
            marks.list = marks.bulk.clone();
        }
        let other = (marks.report == Report::Other || marks.report == Report::Feedback)
            .then(|| "multipart/report".to_owned());
        marks.weak = marks.weak.take().or(other);
        marks
    }

    fn note(&mut self, header: &Header) {
        let value = header.value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        let denied = ["no", "none", "false", "0", ""]
            .iter()
            .any(|no| value.eq_ignore_ascii_case(no));
        let says = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        let set = |mark: &mut Option<String>| {
            mark.get_or_insert_with(|| named(header));
        };
        match header.name.len() {
            6 if is("X-Loop") => set(&mut self.weak),
            6 if is("Sender") => {
                self.calendar_program |= value.contains("calendar-notification@");
            }
            7 if is("List-Id") => self.note_list(header),
            11 if is("X-BeenThere") => self.note_list(header),
            14 if is("X-Mailing-List") => self.note_list(header),
            8 | 10 if is("X-Mailer") || is("User-Agent") => {
                if starts_with_any(value, PROGRAMS) {
                    set(&mut self.machine);
                }
                self.client |= starts_with_any(value, CLIENTS);
            }
            9 if is("List-Post") => self.note_list(header),
            10 | 12 if is("Precedence") || is("X-Precedence") || is("Preference") => {
                if says(&["auto_reply", "auto-reply", "autoreply"]) {
                    set(&mut self.auto_reply);
                } else if says(&["list"]) {
                    set(&mut self.list);
                } else if says(&["bulk", "junk"]) {
                    set(&mut self.bulk);
                }
            }
            11 if is("Return-Path") && !self.return_path_seen => self.return_path(value),
            11 if is("In-Reply-To") => {
                self.answers = true;
                if is_zabbix_event(value.trim_matches(['<', '>'])) {
                    set(&mut self.machine);
                }
            }
            12 if is("Content-Type") && self.report == Report::None => self.report = report(value),
            12 if is("Delivered-To") => {
                if says(&["autoresponder"]) {
                    set(&mut self.auto_reply);
                }
            }
            12 if is("Thread-Topic") => self.topic = Some(value.to_owned()),
            14 if is("Auto-Submitted") => self.auto_submitted(header, value),
            15 if is("X-Autogenerated") => {
                if says(&["reply"]) {
                    set(&mut self.auto_reply);
                } else if !denied {
                    set(&mut self.machine);
                }
            }
            15 if is("X-Delivery-Agent") => {
                if value.contains("TMDA") && self.answers {
                    set(&mut self.challenge);
                }
            }
            16 if is("List-Unsubscribe") => self.note_list(header),
            19 if is("X-Failed-Recipients") => {
                set(&mut self.bounce);
                let all = value.split([',', ' ']).filter(|word| word.contains('@'));
                self.failed_recipients.extend(all.map(str::to_owned));
            }
            19 if is("X-POST-MessageClass") => {
                if value.to_ascii_lowercase().contains("autoresponder") {
                    set(&mut self.auto_reply);
                }
            }
            24 if is("X-Auto-Response-Suppress") && !denied => {
                set(&mut self.suppress);
                if says(&["all"]) {
                    set(&mut self.weak);
                }
            }
            28 if is("X-MS-Exchange-Message-Is-Ndr") => set(&mut self.bounce),
            31 if is("X-MS-Exchange-Inbox-Rules-Loop") => set(&mut self.rules),
            39 if is("X-MS-Exchange-Generated-Message-Source") => {
                if value.to_ascii_lowercase().contains("mailbox rules agent") {
                    set(&mut self.generated_reply);
                } else {
                    set(&mut self.machine);
                }
            }
            _ if AUTO_REPLY_HEADERS.iter().any(|name| is(name)) => {
                if !denied {
                    set(&mut self.auto_reply);
                }
            }
            _ if CHALLENGE_HEADERS.iter().any(|name| is(name)) => {
                if !denied {
                    set(&mut self.challenge);
                }
            }
            _ if PROGRAM_HEADERS.iter().any(|name| is(name)) => set(&mut self.machine),
            _ => {}
        }
    }

    fn note_list(&mut self, header: &Header) {
        self.is_list = true;
        self.list.get_or_insert_with(|| named(header));
    }

    /// Reads the topmost Return-Path. An empty field is none: forwarding servers leave it so.
    fn return_path(&mut self, value: &str) {
        self.return_path_seen = true;
        let bare: String = value.split_whitespace().collect();
        self.null_sender = bare == "<>";
        let bare = bare.trim_matches(['<', '>']).to_ascii_lowercase();
        let local = bare.split('@').next().unwrap_or("");
        self.is_list |= local.starts_with("owner-")
            || local.ends_with("-owner")
            || local.ends_with("-bounces")
            || local.contains("-bounces+");
        self.daemon_path = bare == "mailer-daemon" || bare.starts_with("mailer-daemon@");
    }

    fn auto_submitted(&mut self, header: &Header, value: &str) {
        let keyword = value.split([';', ' ', '(']).next().unwrap_or("");
        let is = |word: &str| keyword.eq_ignore_ascii_case(word);
        if is("auto-replied") || is("auto-reply") || is("autoreply") {
            self.auto_reply.get_or_insert_with(|| named(header));
        } else if !keyword.is_empty() && !is("no") {
            self.machine.get_or_insert_with(|| named(header));
            self.generated.get_or_insert_with(|| named(header));
        }
    }
}

/// Returns `Name: value`, for a reason.
fn named(header: &Header) -> String {
    format!("{}: {}", header.name, short(&header.value))
}

fn report(content_type: &str) -> Report {
    let value =
        content_type[..content_type.floor_char_boundary(CONTENT_TYPE_BYTES)].to_ascii_lowercase();
    if !value.starts_with("multipart/report") {
        Report::None
    } else if value.contains("disposition-notification") {
        Report::Disposition
    } else if value.contains("delivery-status") {
        Report::Delivery
    } else if value.contains("feedback-report") {
        Report::Feedback
    } else {
        Report::Other
    }
}
