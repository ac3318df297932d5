//! The cost of reading a mail before rules see it: parsing, classification, reply text, and what threading takes from it.

use std::fmt::Write as _;
use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use postroom_core::{Classification, Message, ParseLimits, parse, ticket_numbers};

use crate::figures::{median, percentile, table, time};

/// The size of each mail in bytes.
const SIZE: usize = 20 * 1024;
/// Sizes may differ by this much, since a part ends with a whole line.
const SIZE_SLACK: usize = 1024;
/// The runs before measuring, in which patterns are compiled.
const WARM_UP: usize = 200;
const GOAL: &str = "<= 250 µs";

const SENTENCES: [&str; 6] = [
    "Since the update this morning the printer on the second floor takes far longer than before.",
    "Für Frau Köhler im Büro gilt das auch, sie hat den Rechner schon zweimal neu gestartet.",
    "We have noticed that the shared drive is mapped again after a restart, and works fine then.",
    "Could you please look at the switch in rack 4, port 17, when there is time for it?",
    "The account of our colleague was changed yesterday; she asked about her password again.",
    "Please find the report of last night's backup window attached, and call me if it is unclear.",
];

struct Case {
    name: &'static str,
    raw: Bytes,
    kind: Classification,
    goal: &'static str,
}

/// Reads each mail `runs` times, in turn, so that disturbances affect all alike.
pub fn run(runs: usize) -> Result<()> {
    println!(
        "Reading: parse, classify, reply text and references of a mail of {} KiB, {runs} runs each",
        SIZE / 1024
    );
    let case = |name, raw: String, kind, goal| Case {
        name,
        raw: raw.into(),
        kind,
        goal,
    };
    let cases = [
        case(
            "reply: text, HTML, attachment",
            reply(),
            Classification::Person,
            GOAL,
        ),
        case("HTML alone", html(), Classification::Person, ""),
        case(
            "bounce with the returned mail",
            bounce(),
            Classification::Bounce,
            "",
        ),
    ];
    let mut taken = vec![Vec::with_capacity(runs); cases.len()];
    for turn in 0..WARM_UP + runs {
        for (case, taken) in cases.iter().zip(&mut taken) {
            let (message, time) = read(&case.raw);
            if turn == 0 {
                check(case, &message)?;
            } else if turn >= WARM_UP {
                taken.push(time);
            }
        }
    }
    let rows: Vec<Vec<String>> = cases
        .iter()
        .zip(&taken)
        .map(|(case, taken)| {
            let (median, p99) = (median(taken), percentile(taken, 0.99));
            vec![
                case.name.to_owned(),
                time(median),
                time(p99),
                case.goal.to_owned(),
            ]
        })
        .collect();
    table(&["mail", "median", "p99", "goal (median)"], &rows);
    Ok(())
}

/// Reads a mail as the intake does. The time does not include dropping the message.
fn read(raw: &Bytes) -> (Message, Duration) {
    let limits = ParseLimits::default();
    let started = Instant::now();
    let message = parse(black_box(raw), &limits, &[]);
    black_box(ticket_numbers(&message.subject));
    let taken = started.elapsed();
    (message, taken)
}

/// Fails if a mail is not what its row says.
fn check(case: &Case, message: &Message) -> Result<()> {
    let (name, size) = (case.name, case.raw.len());
    ensure!(size.abs_diff(SIZE) <= SIZE_SLACK, "{name}: {size} bytes");
    ensure!(
        message.classification == case.kind,
        "{name}: {:?}",
        message.classification
    );
    ensure!(!message.text.is_empty(), "{name}: it has no text");
    if case.kind == Classification::Person {
        ensure!(
            message.reply.starts_with("Hello,"),
            "{name}: {:?}",
            message.reply
        );
        ensure!(
            message.reply.len() < message.text.len(),
            "{name}: nothing was taken for a quote"
        );
    }
    Ok(())
}

fn head(from: &str, subject: &str, content_type: &str) -> String {
    let mut head = String::from("Return-Path: <dana@contoso.example>\r\n");
    for hop in 1..=4 {
        let _ = write!(
            head,
            "Received: from relay{hop}.contoso.example (relay{hop}.contoso.example [192.0.2.{hop}])\r\n\
             \tby mx.acme.example (Postfix) with ESMTPS id 4TpQ{hop:04}\r\n\
             \tfor <support@acme.example>; Mon, 4 Mar 2024 10:15:0{hop} +0100\r\n"
        );
    }
    let _ = write!(
        head,
        "From: {from}\r\nTo: =?utf-8?Q?Acme_Unterst=C3=BCtzung?= <support@acme.example>\r\n\
         Cc: Tom Hill <tom@contoso.example>, \"Ashworth, Priya\" <priya@contoso.example>\r\n\
         Subject: {subject}\r\nDate: Mon, 4 Mar 2024 10:15:00 +0100\r\nMessage-ID: <m20.1709543700@contoso.example>\r\n\
         In-Reply-To: <m19.1709543700@acme.example>\r\n\
         References: <m17.1709543700@acme.example>\r\n <m18.1709543700@contoso.example>\r\n <m19.1709543700@acme.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n"
    );
    head
}

const PERSON: &str = "=?utf-8?Q?Dana_Wei=C3=9F?= <dana@contoso.example>";
const SUBJECT: &str = "Re: [T-4711] =?utf-8?Q?Drucker_im_B=C3=BCro?= prints nothing";

/// New words above, a quoted history of about `size` bytes below.
fn plain(size: usize) -> String {
    let mut text = String::from("Hello,\n\n");
    for sentence in &SENTENCES[..3] {
        text.push_str(sentence);
        text.push('\n');
    }
    text.push_str("\nOn Mon, 4 Mar 2024 at 09:12, Acme Support <support@acme.example> wrote:\n");
    for sentence in SENTENCES.iter().cycle() {
        if text.len() >= size {
            break;
        }
        let _ = writeln!(text, "> {sentence}");
    }
    text
}

/// The same as a page, of about `size` bytes.
fn page(size: usize) -> String {
    let mut page = String::from(
        "<html><head><style>p.MsoNormal {margin:0cm; font-size:11.0pt;}</style></head><body lang=\"EN-GB\">\n<p class=\"MsoNormal\">Hello,</p>\n",
    );
    for sentence in &SENTENCES[..3] {
        let _ = writeln!(
            page,
            "<p class=\"MsoNormal\"><span style=\"color:#1F497D\">{sentence}</span></p>"
        );
    }
    page.push_str("<div>On Mon, 4 Mar 2024 at 09:12, Acme Support &lt;support@acme.example&gt; wrote:</div>\n<blockquote><table>\n");
    for (at, sentence) in SENTENCES.iter().cycle().enumerate() {
        if page.len() >= size {
            break;
        }
        let _ = writeln!(
            page,
            "<tr><td>{at}&nbsp;</td><td>{sentence} <a href=\"https://acme.example/t/{at}\">see</a></td></tr>"
        );
    }
    page.push_str("</table></blockquote></body></html>\n");
    page
}

fn quoted_printable(text: &str) -> String {
    let mut encoded = String::new();
    for line in text.lines() {
        let mut width = 0;
        for byte in line.bytes() {
            if width >= 72 {
                encoded.push_str("=\r\n");
                width = 0;
            }
            if byte == b'=' || !(b' '..=b'~').contains(&byte) {
                let _ = write!(encoded, "={byte:02X}");
                width += 3;
            } else {
                encoded.push(char::from(byte));
                width += 1;
            }
        }
        encoded.push_str("\r\n");
    }
    encoded
}

fn base64(bytes: usize) -> String {
    let content: Vec<u8> = (0..bytes).map(|at| (at * 131 % 251) as u8).collect();
    let encoded = BASE64.encode(content);
    let lines: Vec<&str> = (0..encoded.len())
        .step_by(76)
        .map(|at| &encoded[at..(at + 76).min(encoded.len())])
        .collect();
    lines.join("\r\n") + "\r\n"
}

fn text_part(subtype: &str, content: &str) -> String {
    format!(
        "Content-Type: text/{subtype}; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        quoted_printable(content)
    )
}

fn reply() -> String {
    format!(
        "{}\r\n--mixed\r\nContent-Type: multipart/alternative; boundary=both\r\n\r\n--both\r\n{}--both\r\n{}--both--\r\n--mixed\r\n\
         Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\
         Content-Disposition: attachment; filename*=utf-8''Bericht%20M%C3%A4rz.pdf\r\n\r\n{}--mixed--\r\n",
        head(PERSON, SUBJECT, "multipart/mixed; boundary=mixed"),
        text_part("plain", &plain(3 * 1024)),
        text_part("html", &page(8 * 1024)),
        base64(4600),
    )
}

fn html() -> String {
    let head = head(PERSON, SUBJECT, "text/html; charset=utf-8");
    format!(
        "{head}Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        quoted_printable(&page(17 * 1024))
    )
}

fn bounce() -> String {
    let head = head(
        "Mail Delivery Subsystem <MAILER-DAEMON@mx.contoso.example>",
        "Undelivered Mail Returned to Sender",
        "multipart/report; report-type=delivery-status; boundary=report",
    );
    format!(
        "{}\r\n--report\r\nContent-Type: text/plain\r\n\r\nThis is the mail system at host mx.contoso.example.\r\n\r\n\
         <gone@contoso.example>: host 192.0.2.9 said: 550 5.1.1 User unknown\r\n--report\r\n\
         Content-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.contoso.example\r\n\r\n\
         Final-Recipient: rfc822; gone@contoso.example\r\nAction: failed\r\nStatus: 5.1.1\r\n\
         Diagnostic-Code: smtp; 550 5.1.1 User unknown\r\n--report\r\nContent-Type: message/rfc822\r\n\r\n\
         Message-ID: <m19.1709543700@acme.example>\r\nFrom: support@acme.example\r\nSubject: [T-4711] Printer\r\n{}--report--\r\n",
        head.replace("<dana@contoso.example>", "<>"),
        text_part("plain", &plain(17 * 1024)),
    )
}
