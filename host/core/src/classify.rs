//! Classifies the sender (person, auto-reply, bounce, list, machine) from headers alone, so that no reply goes to a machine.

use crate::fold::{starts_with_any, without_tags};
use crate::message::{Address, Classification, Header};

/// Judges a mail. The first that fits:
///
/// 1. bounce: a delivery status report (RFC 3464), X-Failed-Recipients, Exchange's mark, or a mailer daemon for a sender;
/// 2. auto-reply: Auto-Submitted `auto-replied` (RFC 3834), X-Autoreply, X-Autorespond and their kin, Precedence
///    `auto_reply`, a read receipt (RFC 8098), or the subject of an out-of-office notice together with any mark of a machine;
/// 3. machine, by a strong mark: any other Auto-Submitted but `no`, or the X-Mailer or a header of a known monitoring, backup,
///    scheduling, telephone or ticket program. Such mails often say `Precedence: bulk` too, and are no list;
/// 4. list: List-Id, List-Post, List-Unsubscribe (RFC 2919, 2369), Precedence `list`, `bulk` or `junk`;
/// 5. bounce: a null return path;
/// 6. machine, by a weak mark: X-Auto-Response-Suppress, X-Loop, a no-reply or postmaster address, the account of a program
///    such as root, another report;
/// 7. person.
///
/// The second value is true for a null return path (`Return-Path: <>`).
pub fn classify(headers: &[Header], from: Option<&Address>) -> (Classification, bool) {
    let marks = Marks::of(headers, from);
    (marks.judge(), marks.null_sender)
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

#[derive(Default)]
struct Marks {
    null_sender: bool,
    return_path_seen: bool,
    bounce: bool,
    auto_reply: bool,
    away_subject: bool,
    machine: bool,
    list: bool,
    weak_machine: bool,
}

impl Marks {
    fn of(headers: &[Header], from: Option<&Address>) -> Self {
        let mut marks = Self::default();
        for header in headers {
            marks.note(header);
        }
        if let Some(from) = from {
            marks.sender(&from.email);
        }
        marks
    }

    fn note(&mut self, header: &Header) {
        let value = header.value.trim();
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        match header.name.len() {
            6 if is("X-Loop") => self.weak_machine = true,
            7 if is("List-Id") => self.list = true,
            7 if is("Subject") => self.away_subject = starts_with_any(without_tags(value), AWAY),
            8 if is("X-Mailer") => self.machine |= starts_with_any(value, PROGRAMS),
            9 if is("List-Post") => self.list = true,
            10 if is("Precedence") => match value.to_ascii_lowercase().as_str() {
                "list" | "bulk" | "junk" => self.list = true,
                "auto_reply" | "auto-reply" => self.auto_reply = true,
                _ => {}
            },
            10 if is("User-Agent") => self.machine |= starts_with_any(value, PROGRAMS),
            11 if is("Return-Path") && !self.return_path_seen => {
                self.return_path_seen = true;
                self.null_sender = value.split_whitespace().collect::<String>() == "<>";
            }
            11 if is("In-Reply-To") => {
                self.machine |= is_zabbix_event(value.trim_matches(['<', '>']));
            }
            11 if is("X-Autoreply") => self.auto_reply |= !value.eq_ignore_ascii_case("no"),
            12 if is("Content-Type") => self.report(value),
            13 if is("X-Autorespond") => self.auto_reply = true,
            14 if is("Auto-Submitted") => {
                let keyword = value.split([';', ' ', '(']).next().unwrap_or("");
                if keyword.eq_ignore_ascii_case("auto-replied") {
                    self.auto_reply = true;
                } else if !keyword.is_empty() && !keyword.eq_ignore_ascii_case("no") {
                    self.machine = true;
                }
            }
            15 if is("X-Autoresponder") => self.auto_reply = true,
            16 if is("List-Unsubscribe") => self.list = true,
            19 if is("X-Failed-Recipients") => self.bounce = true,
            28 if is("X-MS-Exchange-Message-Is-Ndr") => self.bounce = true,
            24 if is("X-Auto-Response-Suppress") => {
                self.weak_machine |= !value.eq_ignore_ascii_case("none") && !value.is_empty();
            }
            16 if is("X-Autoreply-From") || is("X-Mail-Autoreply") => self.auto_reply = true,
            _ => self.machine |= PROGRAM_HEADERS.iter().any(|name| is(name)),
        }
    }

    fn report(&mut self, content_type: &str) {
        const LONGEST: usize = 1024;
        let value = content_type[..content_type.floor_char_boundary(LONGEST)].to_ascii_lowercase();
        if !value.starts_with("multipart/report") {
            return;
        }
        if value.contains("disposition-notification") {
            self.auto_reply = true;
        } else if value.contains("delivery-status") {
            self.bounce = true;
        } else {
            self.weak_machine = true;
        }
    }

    fn sender(&mut self, email: &str) {
        let local = local_part(email);
        if ["mailer-daemon", "mailerdaemon", "mail-daemon"].contains(&local.as_str()) {
            self.bounce = true;
        } else if PROGRAM_ACCOUNTS.contains(&local.as_str()) || is_no_reply(email) {
            self.weak_machine = true;
        }
    }

    fn judge(&self) -> Classification {
        let automatic = self.machine || self.weak_machine || self.null_sender || self.list;
        if self.bounce {
            Classification::Bounce
        } else if self.auto_reply || self.away_subject && automatic {
            Classification::AutoReply
        } else if self.machine {
            Classification::Machine
        } else if self.list {
            Classification::List
        } else if self.null_sender {
            Classification::Bounce
        } else if self.weak_machine {
            Classification::Machine
        } else {
            Classification::Person
        }
    }
}

/// Returns whether a name begins with the name of a monitoring, backup or scheduling program.
pub(crate) fn is_program(name: &str) -> bool {
    starts_with_any(name, PROGRAMS)
}

/// Headers that only programs write.
const PROGRAM_HEADERS: &[&str] = &[
    "X-Asterisk-CallerID",
    "X-Cron-Env",
    "X-JIRA-FingerPrint",
    "X-OTRS-Loop",
    "X-RT-Loop-Prevention",
];

/// Local parts that programs send from by default; no person has them.
const PROGRAM_ACCOUNTS: &[&str] = &[
    "asterisk",
    "cron",
    "daemon",
    "icinga",
    "nagios",
    "nobody",
    "postmaster",
    "root",
    "www-data",
    "zabbix",
];

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

/// Prefixes of the X-Mailer or User-Agent of monitoring, backup and scheduling programs, in lower case.
const PROGRAMS: &[&str] = &[
    "acronis",
    "altaro",
    "apcupsd",
    "arcserve",
    "backup exec",
    "bacula",
    "centreon",
    "check_mk",
    "checkmk",
    "dattobackup",
    "grafana",
    "icinga",
    "idrac",
    "librenms",
    "logicmonitor",
    "mdadm",
    "monit ",
    "monit/",
    "munin",
    "n-able",
    "nagios",
    "nakivo",
    "netgear",
    "observium",
    "opsview",
    "paessler",
    "prtg",
    "proxmox",
    "qnap",
    "sensu",
    "smartd",
    "solarwinds",
    "synology",
    "truenas",
    "uptime kuma",
    "veeam",
    "veritas",
    "whatsup",
    "zabbix",
];

/// Prefixes of the subjects of out-of-office notices, in lower case.
const AWAY: &[&str] = &[
    "automatic reply",
    "auto-reply",
    "autoreply",
    "auto reply",
    "out of office",
    "out of the office",
    "automatische antwort",
    "abwesenheitsnotiz",
    "abwesend",
    "abwesenheit",
    "réponse automatique",
    "absence du bureau",
    "respuesta automática",
    "fuera de la oficina",
    "risposta automatica",
    "fuori sede",
    "automatisch antwoord",
    "automatische beantwoording",
    "afwezigheidsbericht",
    "niet aanwezig",
    "resposta automática",
    "automatiskt svar",
    "autosvar",
    "automatisk svar",
    "odpowiedź automatyczna",
    "automatická odpověď",
    "automatická odpoveď",
    "automatikus válasz",
    "automaattinen vastaus",
    "răspuns automat",
    "otomatik yanıt",
    "автоматический ответ",
    "автоматична відповідь",
    "αυτόματη απάντηση",
    "automatski odgovor",
    "samodejni odgovor",
    "resposta automàtica",
    "automatinis atsakymas",
    "automātiskā atbilde",
    "automaatvastus",
    "автоматичен отговор",
    "תשובה אוטומטית",
    "رد تلقائي",
    "자동 회신",
    "自動応答",
    "自动答复",
    "自動回覆",
];

fn local_part(email: &str) -> String {
    email
        .rsplit_once('@')
        .map_or(email, |(local, _)| local)
        .to_ascii_lowercase()
}
