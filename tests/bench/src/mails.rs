//! The mails of the bench, derived from their numbers alone, so that every run and every contender gets the same ones.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::chance::Chance;

/// The median size of all mails, in bytes.
const MEDIAN: f64 = 8.0 * 1024.0;
/// The standard deviation of the logarithm of the size: it puts the 90th percentile at four times the median (ln 4 /
/// 1.2816).
const SPREAD: f64 = 1.0817;
const SMALLEST: usize = 2 * 1024;
const LARGEST: usize = 1024 * 1024;
/// One mail in this many has an attachment.
const ATTACHED: u64 = 10;
/// The attachment's share of its mail's size.
const ATTACHMENT_SHARE: f64 = 0.6;
/// The least distance of a reply from the mail that it answers, which is certainly a ticket at that time.
const REPLY_DISTANCE: u32 = 1000;
/// The approximate size of the header section and of the lines between the parts, in bytes.
const FRAME: usize = 1200;

/// One mail and its right place.
pub struct Sample {
    pub message_id: String,
    pub bytes: Vec<u8>,
    /// The outcome and its distinguishing detail: an alert's key and state, a ticket's queue, the reason of an ignored
    /// mail.
    pub place: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nagios,
    Veeam,
    Volume,
    Zabbix,
    Certificate,
    OutOfOffice,
    Newsletter,
    Reply,
    Urgent,
    Invoice,
    Person,
}

/// The encoding of a text in a part.
#[derive(Clone, Copy)]
enum Encoding {
    SevenBit,
    QuotedPrintable,
    Base64,
}

/// The shares of each hundred mails.
const MIX: [(Kind, u64); 11] = [
    (Kind::Nagios, 22),
    (Kind::Veeam, 14),
    (Kind::Volume, 6),
    (Kind::Zabbix, 8),
    (Kind::Certificate, 3),
    (Kind::OutOfOffice, 4),
    (Kind::Newsletter, 8),
    (Kind::Reply, 8),
    (Kind::Urgent, 4),
    (Kind::Invoice, 5),
    (Kind::Person, 18),
];

const PEOPLE: [(&str, &str); 12] = [
    ("Dana Whitfield", "dana"),
    ("Jörg Müller", "joerg"),
    ("Priya Natarajan", "priya"),
    ("Tom Ashworth", "tom"),
    ("Zoë van Dijk", "zoe"),
    ("Amélie Laurent", "amelie"),
    ("Sam Okafor", "sam"),
    ("Katarzyna Nowak", "kasia"),
    ("Luis Ortega", "luis"),
    ("Hanna Lindqvist", "hanna"),
    ("Greg Palmer", "greg"),
    ("Mei Tanaka", "mei"),
];

const TOPICS: [&str; 10] = [
    "Printer on the second floor",
    "New laptop for Monday",
    "Shared calendar is empty",
    "Access to the accounts folder",
    "Drucker im Büro wählt falsches Papier",
    "VPN drops every hour",
    "Question about the phone system",
    "Mailbox of a colleague who left",
    "Zugriff für Frau Köhler",
    "Screen flickers since the update",
];

const SERVICES: [&str; 6] = ["HTTP", "Disk C:", "Load", "SMTP", "PostgreSQL", "Swap"];
const HOSTS: [&str; 6] = ["web", "db", "mail", "vpn", "files", "term"];
const CLIENT: &str = "acme.example";

/// The words that texts are filled with; none of them matches a pattern of the rules.
const WORDS: [&str; 64] = [
    "the",
    "server",
    "update",
    "since",
    "user",
    "morning",
    "screen",
    "network",
    "cable",
    "office",
    "and",
    "we",
    "have",
    "noticed",
    "that",
    "printing",
    "takes",
    "longer",
    "than",
    "before",
    "please",
    "look",
    "at",
    "this",
    "when",
    "there",
    "is",
    "time",
    "für",
    "Büro",
    "grüße",
    "naïve",
    "login",
    "folder",
    "shared",
    "drive",
    "mapped",
    "again",
    "after",
    "restart",
    "works",
    "fine",
    "colleague",
    "asked",
    "about",
    "account",
    "password",
    "changed",
    "yesterday",
    "client",
    "switch",
    "port",
    "rack",
    "backup",
    "window",
    "night",
    "report",
    "attached",
    "below",
    "regards",
    "thanks",
    "kind",
    "phone",
    "meeting",
];

/// Returns the mail of this number.
pub fn sample(number: u32) -> Sample {
    let mut chance = Chance::new(u64::from(number));
    let size = size(&mut chance);
    let attached = chance.below(ATTACHED) == 0;
    let content = content(number, &mut chance);
    Sample {
        bytes: assemble(number, &content, size, attached, &mut chance),
        message_id: message_id(number),
        place: content.place,
    }
}

/// Returns a mail's size in bytes: log-normal.
fn size(chance: &mut Chance) -> usize {
    let size = MEDIAN * (SPREAD * chance.normal()).exp();
    (size as usize).clamp(SMALLEST, LARGEST)
}

/// The content of one mail, before it is put into parts.
struct Content {
    from: String,
    subject: String,
    /// Additional header lines, each ended by CRLF.
    headers: String,
    /// The text in the middle of the filling.
    core: String,
    html: bool,
    encoding: Encoding,
    place: String,
}

fn kind(number: u32) -> Kind {
    // Separate from the sample's own random numbers, so that a reply can look up its target's kind.
    let mut draw = Chance::new(u64::from(number) ^ 0x6b69_6e64).below(100);
    let drawn = MIX.iter().find_map(|(kind, share)| {
        if draw < *share {
            return Some(*kind);
        }
        draw -= share;
        None
    });
    match drawn {
        Some(Kind::Reply) if target(number).is_none() => Kind::Person,
        Some(kind) => kind,
        None => Kind::Person,
    }
}

/// Returns the mail that the reply with this number answers.
fn target(number: u32) -> Option<u32> {
    let newest = number.checked_sub(REPLY_DISTANCE)?;
    (newest.saturating_sub(100)..=newest)
        .rev()
        .find(|&earlier| matches!(kind(earlier), Kind::Person | Kind::Urgent | Kind::Invoice))
}

/// Returns whether the mail with this number answers one with a lower number than `first`.
pub fn answers_before(number: u32, first: u32) -> bool {
    matches!(kind(number), Kind::Reply) && target(number).is_some_and(|target| target < first)
}

fn person(number: u32) -> (&'static str, &'static str) {
    PEOPLE[number as usize % PEOPLE.len()]
}

fn message_id(number: u32) -> String {
    format!("{number}.bench@mail.{CLIENT}")
}

fn topic(number: u32) -> String {
    let topic = TOPICS[number as usize % TOPICS.len()];
    format!("{topic} ({number})")
}

fn content(number: u32, chance: &mut Chance) -> Content {
    let kind = kind(number);
    let machine = |from: &str, subject: String, core: String, place: String| Content {
        from: from.to_owned(),
        subject,
        headers: "Auto-Submitted: auto-generated\r\n".into(),
        core,
        html: false,
        encoding: Encoding::SevenBit,
        place,
    };
    let (name, local) = person(number);
    let human = |subject: String, core: String, place: String| Content {
        from: format!("{} <{local}@{CLIENT}>", word(name)),
        subject,
        headers: "X-Mailer: Microsoft Outlook 16.0\r\n".into(),
        core,
        html: true,
        encoding: if number.is_multiple_of(3) {
            Encoding::Base64
        } else {
            Encoding::QuotedPrintable
        },
        place,
    };
    let host = format!(
        "{}-{:02}",
        HOSTS[chance.below(HOSTS.len() as u64) as usize],
        chance.below(40)
    );
    match kind {
        Kind::Nagios => {
            let service = SERVICES[chance.below(SERVICES.len() as u64) as usize];
            let (state, status, what) = match chance.below(5) {
                0 | 1 => ("resolved", "OK", "RECOVERY"),
                2 => ("firing", "WARNING", "PROBLEM"),
                _ => ("firing", "CRITICAL", "PROBLEM"),
            };
            machine(
                "Nagios <nagios@monitor.acme.example>",
                format!("** {what} Service Alert: {host}/{service} is {status} **"),
                format!(
                    "***** Nagios *****\n\nNotification Type: {what}\nService: {service}\nHost: {host}\nState: {status}\n\nAdditional Info: response time {} ms\n",
                    chance.below(9000)
                ),
                format!("alert nagios/{host}/{service} {state}"),
            )
        }
        Kind::Veeam => {
            let (state, result) = match chance.below(4) {
                0 => ("firing", "Failed"),
                _ => ("resolved", "Success"),
            };
            let job = format!("Backup {host} daily");
            let mut content = machine(
                "Veeam Backup <backup@acme.example>",
                format!("[{result}] {job} ({} machines)", 1 + chance.below(20)),
                format!(
                    "Backup job: {job}\nResult: {result}\nTransferred: {} GB\n",
                    chance.below(900)
                ),
                format!("alert backup/{job} {state}"),
            );
            content.html = true;
            content.encoding = Encoding::QuotedPrintable;
            content
        }
        Kind::Volume => {
            let (volume, percent) = (1 + chance.below(4), 50 + chance.below(50));
            let state = if percent >= 80 { "firing" } else { "resolved" };
            let mut content = machine(
                "Synology NAS <nas@acme.example>",
                format!("[{host}] Storage report"),
                format!("Volume {volume} on {host} is {percent}% full\n"),
                format!("alert disk/{host}/{volume} {state}"),
            );
            content.encoding = Encoding::QuotedPrintable;
            content
        }
        Kind::Zabbix => {
            let (what, state) = match chance.below(2) {
                0 => ("Problem", "firing"),
                _ => ("Resolved", "resolved"),
            };
            let trouble = "High CPU utilization";
            let mut content = machine(
                "Zabbix <zabbix@monitor.acme.example>",
                format!("{what}: {trouble} on {host}"),
                format!(
                    "{what} started at 04:12:00\nProblem name: {trouble}\nHost: {host}\nSeverity: Average\n"
                ),
                format!("alert zabbix/{host}/{trouble} {state}"),
            );
            content.encoding = Encoding::Base64;
            content
        }
        Kind::Certificate => machine(
            "certbot <root@web.acme.example>",
            format!("Renewal notice for {host}"),
            format!(
                "Certificate for {host}.acme.example expires in {} days\n",
                chance.below(30)
            ),
            "ticket Certificates".into(),
        ),
        Kind::OutOfOffice => {
            let mut content = human(
                format!("Automatic reply: {}", topic(number)),
                "I am away and read mail next week.\n".into(),
                "ignored out of office".into(),
            );
            content.headers =
                "Auto-Submitted: auto-replied\r\nX-Auto-Response-Suppress: All\r\n".into();
            content
        }
        Kind::Newsletter => {
            let mut content = human(
                format!("Ten tips for your cloud, issue {number}"),
                "Read the newest tips in your browser.\n".into(),
                "ignored newsletter".into(),
            );
            content.from = "Cloud Weekly <news@cloudweekly.example>".into();
            content.headers = "List-Unsubscribe: <https://cloudweekly.example/u/1>\r\nList-Id: <weekly.cloudweekly.example>\r\nPrecedence: bulk\r\n".into();
            content
        }
        Kind::Reply => {
            let target = target(number).unwrap_or_default();
            let (name, local) = person(target);
            let id = message_id(target);
            let mut content = human(
                format!("Re: {}", subject_of_ticket(target)),
                "That did it. One more thing: the second screen stays black.\n".into(),
                "note".into(),
            );
            content.from = format!("{} <{local}@{CLIENT}>", word(name));
            let _ = write!(
                content.headers,
                "In-Reply-To: <{id}>\r\nReferences: <{id}>\r\n"
            );
            content
        }
        Kind::Urgent => human(
            subject_of_ticket(number),
            "This is urgent: nobody here gets any mail.\n".into(),
            "ticket Urgent".into(),
        ),
        Kind::Invoice => human(
            subject_of_ticket(number),
            format!(
                "Could you send invoice no. {} once more?\n",
                10_000 + number
            ),
            "ticket Billing".into(),
        ),
        Kind::Person => human(
            subject_of_ticket(number),
            "Could somebody come by this week?\n".into(),
            "ticket Service desk".into(),
        ),
    }
}

fn subject_of_ticket(number: u32) -> String {
    topic(number)
}

/// Assembles headers and parts, filled up to about `size` bytes.
fn assemble(
    number: u32,
    content: &Content,
    size: usize,
    attached: bool,
    chance: &mut Chance,
) -> Vec<u8> {
    let body = size.saturating_sub(FRAME).max(256);
    let (attachment, text) = if attached {
        let share = (body as f64 * ATTACHMENT_SHARE) as usize;
        (Some(share), body - share)
    } else {
        (None, body)
    };
    let mut out = headers(number, content);
    let mut inner = String::new();
    if content.html {
        // A third is the plain text; the rest is its HTML version, as mail programs send it.
        let plain = filled(
            &content.core,
            decoded(text / 3, content.encoding),
            content.encoding,
            chance,
        );
        let html = html(
            &plain,
            decoded(text - text / 3, Encoding::QuotedPrintable),
            chance,
        );
        let boundary = format!("alt-{number}-{:016x}", chance.draw());
        let _ = write!(
            inner,
            "Content-Type: multipart/alternative; boundary=\"{boundary}\"\r\n\r\n"
        );
        let _ = write!(inner, "--{boundary}\r\n");
        part(
            &mut inner,
            "text/plain; charset=utf-8",
            content.encoding,
            &plain,
        );
        let _ = write!(inner, "\r\n--{boundary}\r\n");
        part(
            &mut inner,
            "text/html; charset=utf-8",
            Encoding::QuotedPrintable,
            &html,
        );
        let _ = write!(inner, "\r\n--{boundary}--\r\n");
    } else {
        let plain = filled(
            &content.core,
            decoded(text, content.encoding),
            content.encoding,
            chance,
        );
        part(
            &mut inner,
            "text/plain; charset=utf-8",
            content.encoding,
            &plain,
        );
    }
    match attachment {
        None => out.push_str(&inner),
        Some(share) => {
            let boundary = format!("mix-{number}-{:016x}", chance.draw());
            let _ = write!(
                out,
                "Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n\r\n"
            );
            let _ = write!(out, "--{boundary}\r\n{inner}\r\n--{boundary}\r\n");
            let _ = write!(
                out,
                "Content-Type: application/pdf; name=\"report-{number}.pdf\"\r\nContent-Disposition: attachment; filename=\"report-{number}.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"
            );
            let bytes: Vec<u8> = (0..decoded(share, Encoding::Base64))
                .map(|_| chance.draw() as u8)
                .collect();
            wrapped_base64(&mut out, &bytes);
            let _ = write!(out, "\r\n--{boundary}--\r\n");
        }
    }
    out.into_bytes()
}

fn headers(number: u32, content: &Content) -> String {
    let mut out = String::with_capacity(4096);
    for hop in 1..=3 {
        let _ = write!(
            out,
            "Received: from mx{hop}.{CLIENT} (mx{hop}.{CLIENT} [192.0.2.{hop}])\r\n\tby relay{hop}.outside.example (Postfix) with ESMTPS id {number:08X}{hop}\r\n\tfor <support@{CLIENT}>; Mon, 16 Nov 2026 09:05:0{hop} +0000 (UTC)\r\n"
        );
    }
    let _ = write!(
        out,
        "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={CLIENT}; s=s1;\r\n\th=from:to:subject:date:message-id; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb={}\r\n",
        BASE64.encode([number.to_le_bytes()[0]; 96])
    );
    let _ = write!(
        out,
        "From: {}\r\nTo: Support <support@{CLIENT}>\r\nSubject: {}\r\nDate: Mon, 16 Nov 2026 09:05:{:02} +0000\r\nMessage-ID: <{}>\r\n{}MIME-Version: 1.0\r\n",
        content.from,
        word(&content.subject),
        number % 60,
        message_id(number),
        content.headers
    );
    out
}

/// Returns an encoded word (RFC 2047) if the text is not ASCII.
fn word(text: &str) -> String {
    if text.is_ascii() {
        text.to_owned()
    } else {
        format!("=?utf-8?B?{}?=", BASE64.encode(text))
    }
}

/// Returns the length of text that gives `encoded` bytes in this encoding.
fn decoded(encoded: usize, encoding: Encoding) -> usize {
    match encoding {
        Encoding::SevenBit => encoded,
        Encoding::QuotedPrintable => encoded * 93 / 100,
        Encoding::Base64 => encoded * 72 / 100,
    }
}

/// Returns text of about `size` bytes with `core` after its first quarter; only ASCII if the encoding accepts nothing else.
fn filled(core: &str, size: usize, encoding: Encoding, chance: &mut Chance) -> String {
    let mut text = String::with_capacity(size + 100);
    let size = size.saturating_sub(core.len());
    fill(
        &mut text,
        size / 4,
        matches!(encoding, Encoding::SevenBit),
        chance,
    );
    text.push_str("\n\n");
    text.push_str(core);
    text.push('\n');
    fill(
        &mut text,
        size - size / 4,
        matches!(encoding, Encoding::SevenBit),
        chance,
    );
    text.push('\n');
    text
}

/// Appends words in lines of the usual length in mails.
fn fill(text: &mut String, size: usize, ascii: bool, chance: &mut Chance) {
    let end = text.len() + size;
    let mut column = 0;
    while text.len() < end {
        let word = WORDS[chance.below(WORDS.len() as u64) as usize];
        if ascii && !word.is_ascii() {
            continue;
        }
        if column + word.len() > 72 {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
        }
        text.push_str(word);
        column += word.len() + 1;
    }
}

/// Returns the text as the HTML of a mail program, with styles up to about `size` bytes.
fn html(plain: &str, size: usize, chance: &mut Chance) -> String {
    let mut out = String::from("<html><head><style>\n");
    let styles = size.saturating_sub(plain.len() * 2) / 2;
    while out.len() < styles {
        let _ = writeln!(
            out,
            "p.c{:x} {{ margin: {}px; font-family: Calibri; }}",
            chance.below(4096),
            chance.below(40)
        );
    }
    out.push_str("</style></head><body>\n");
    for line in plain.lines() {
        let _ = writeln!(
            out,
            "<p class=\"MsoNormal\"><span lang=\"EN\">{line}</span></p>"
        );
        if out.len() > size {
            break;
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn part(out: &mut String, content_type: &str, encoding: Encoding, text: &str) {
    let name = match encoding {
        Encoding::SevenBit => "7bit",
        Encoding::QuotedPrintable => "quoted-printable",
        Encoding::Base64 => "base64",
    };
    let _ = write!(
        out,
        "Content-Type: {content_type}\r\nContent-Transfer-Encoding: {name}\r\n\r\n"
    );
    match encoding {
        Encoding::SevenBit => out.push_str(&text.replace('\n', "\r\n")),
        Encoding::QuotedPrintable => quoted_printable(out, text),
        Encoding::Base64 => wrapped_base64(out, text.as_bytes()),
    }
}

/// Encodes as in RFC 2045 section 6.8.
fn wrapped_base64(out: &mut String, bytes: &[u8]) {
    for line in bytes.chunks(57) {
        BASE64.encode_string(line, out);
        out.push_str("\r\n");
    }
}

/// Encodes as in RFC 2045 section 6.7.
fn quoted_printable(out: &mut String, text: &str) {
    for line in text.split_terminator('\n') {
        let mut column = 0;
        for byte in line.bytes() {
            let plain = matches!(byte, b' '..=b'~') && byte != b'=';
            let width = if plain { 1 } else { 3 };
            if column + width > 75 {
                out.push_str("=\r\n");
                column = 0;
            }
            if plain {
                out.push(char::from(byte));
            } else {
                let _ = write!(out, "={byte:02X}");
            }
            column += width;
        }
        out.push_str("\r\n");
    }
}
