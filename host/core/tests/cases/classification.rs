//! Siblings of the mails in tests/cases/mail: how a mail is classified by few headers and words.

use bytes::Bytes;
use postroom_core::{Classification, Message};

use crate::parse;
use Classification::{AutoReply, Bounce, Calendar, List, Machine, Person};

/// The headers of a person's mail, with which each row that does not begin with `From` begins.
const NORA: &str = "From: Nora Weiss <nora.weiss@quill.example>\n";

/// Headers, text, and what is expected: the class and the reason.
type Row = (&'static str, &'static str, Classification, &'static str);

const ROWS: &[Row] = &[
    // People.
    (
        "Subject: Printer\n",
        "It is broken.",
        Person,
        "no mark of a machine",
    ),
    (
        "Return-Path:\nSubject: Re: [T-41] Printer\n",
        "Still broken.",
        Person,
        "no mark",
    ),
    (
        "Return-Path: \t \nX-Forwarded-To: help@larch.example\nSubject: Printer\n",
        "Hi.",
        Person,
        "no mark",
    ),
    (
        "Return-Path: <>\nX-Mailer: Microsoft Outlook 16.0\nIn-Reply-To: <a@larch.example>\nSubject: RE: Printer\n",
        "Works again.",
        Person,
        "no mark",
    ),
    (
        "X-Auto-Response-Suppress: DR, OOF, AutoReply\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-Auto-Response-Suppress: All\nX-Mailer: Microsoft Outlook 16.0\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-Auto-Response-Suppress: OOF\nSubject: Out of office reply goes out twice\n",
        "Please help.",
        Person,
        "no mark",
    ),
    (
        "X-Auto-Response-Suppress: DR, OOF, AutoReply\nSubject: Abwesenheitsnotiz einrichten\n",
        "Wie geht das?",
        Person,
        "no mark",
    ),
    (
        "Subject: Réponse automatique ne fonctionne plus\n",
        "Aidez-moi.",
        Person,
        "no mark",
    ),
    (
        "Subject: Undeliverable: what does this mean?\n",
        "Every mail I send could not be delivered.",
        Person,
        "no mark",
    ),
    (
        "Subject: Unzustellbar?\n",
        "Meine Mail konnte nicht zugestellt werden, 550 5.1.1.",
        Person,
        "no mark",
    ),
    (
        "Subject: FW: Undelivered Mail Returned to Sender\n",
        "See below.\n\nThis is the mail system at host x.",
        Person,
        "no mark",
    ),
    (
        "Subject: Mail delivery failed again\n",
        "A message that I sent could not be delivered. Why?",
        Person,
        "no mark",
    ),
    (
        "Subject: Fwd: failure notice\nContent-Type: multipart/mixed; boundary=b\n",
        "--b\n\nWhat is this?\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n--b--",
        Person,
        "no mark",
    ),
    (
        "Subject: Re: Automatic reply: Printer\n",
        "When is she back?",
        Person,
        "no mark",
    ),
    (
        "Auto-Submitted: no\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-Autoreply: no\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-Loop: forward@quill.example\nUser-Agent: Mozilla Thunderbird\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-MS-Exchange-Inbox-Rules-Loop: nora.weiss@quill.example\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "From: Administrator <administrator@quill.example>\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "X-Auto-Response-Suppress: DR, OOF, AutoReply\nSubject: Out of office: how do I stop it?\n",
        "It goes out twice.",
        Person,
        "no mark",
    ),
    (
        "From: Norman Mailer <norman@quill.example>\nSubject: Printer\n",
        "Broken.",
        Person,
        "no mark",
    ),
    (
        "From: System Administrator <it@quill.example>\nSubject: Mails of Nora\n",
        "Her mail could not be delivered to our dealer.",
        Person,
        "no mark",
    ),
    (
        "From: bare@quill.example\nSubject: Undeliverable goods\n",
        "Our parcel is late.",
        Person,
        "no mark",
    ),
    // Lists, people behind them included.
    (
        "List-Id: <users.larch.example>\nSubject: Undeliverable\n",
        "My mail bounced.",
        List,
        "List-Id: <users.larch.example>",
    ),
    (
        "Precedence: list\nSubject: Hi\n",
        "Hi.",
        List,
        "Precedence: list",
    ),
    (
        "Precedence: bulk\nSubject: News\n",
        "Hi.",
        List,
        "Precedence: bulk",
    ),
    (
        "Precedence: bulk\nX-Mailing-List: kernel@vger.example\nIn-Reply-To: <a@b.example>\nSubject: Re: patch\n",
        "Acked.",
        List,
        "X-Mailing-List",
    ),
    (
        "Return-Path: <owner-mm@kvack.example>\nPrecedence: bulk\nIn-Reply-To: <a@b.example>\nSubject: Re: patch\n",
        "Acked.",
        List,
        "Precedence: bulk",
    ),
    // Answers by a header.
    (
        "Auto-Submitted: auto-replied (zimbra; vacation)\nSubject: Re: x\n",
        "Away.",
        AutoReply,
        "Auto-Submitted: auto-replied",
    ),
    (
        "X-Autoreply: yes\nSubject: Re: x\n",
        "Away.",
        AutoReply,
        "X-Autoreply: yes",
    ),
    (
        "X-Autorespond: Ich bin nicht da\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-Autorespond",
    ),
    (
        "X-Autoresponder: 1\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-Autoresponder",
    ),
    (
        "X-Mail-Autoreply: true\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-Mail-Autoreply",
    ),
    (
        "X-AutoReply-From: a@b.example\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-AutoReply-From",
    ),
    (
        "X-POST-MessageClass: 9; Autoresponder\nSubject: Re: [T-41] x\n",
        "Thanks.",
        AutoReply,
        "X-POST-MessageClass: 9; Autoresponder",
    ),
    (
        "Delivered-To: Autoresponder\nSubject: Re: x\n",
        "Im Urlaub.",
        AutoReply,
        "Delivered-To: Autoresponder",
    ),
    (
        "Precedence: auto_reply\nSubject: x\n",
        "Away.",
        AutoReply,
        "Precedence: auto_reply",
    ),
    (
        "Precedence: auto-reply\nSubject: x\n",
        "Away.",
        AutoReply,
        "Precedence: auto-reply",
    ),
    (
        "X-Precedence: auto_reply\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-Precedence: auto_reply",
    ),
    (
        "Preference: auto_reply\nSubject: x\n",
        "Away.",
        AutoReply,
        "Preference: auto_reply",
    ),
    (
        "X-Autogenerated: Reply\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-Autogenerated: Reply",
    ),
    (
        "X-FC-MachineGenerated: true\nSubject: x\n",
        "Away.",
        AutoReply,
        "X-FC-MachineGenerated",
    ),
    (
        "X-MS-Exchange-Generated-Message-Source: Mailbox Rules Agent\nX-MS-Exchange-Inbox-Rules-Loop: n@q.example\nSubject: Thanks\n",
        "We got it.",
        AutoReply,
        "Mailbox Rules Agent",
    ),
    // Answers by their subject and a mark.
    (
        "X-Auto-Response-Suppress: All\nSubject: Automatic reply: x\n",
        "Away.",
        AutoReply,
        "with X-Auto-Response-Suppress: All",
    ),
    (
        "In-Reply-To: <a@larch.example>\nX-Auto-Response-Suppress: DR, OOF\nSubject: Automatische Antwort: x\n",
        "Weg.",
        AutoReply,
        "out-of-office notice",
    ),
    (
        "Return-Path: <>\nSubject: Abwesenheitsnotiz: x\n",
        "Weg.",
        AutoReply,
        "with a null return path",
    ),
    (
        "Auto-Submitted: auto-generated\nSubject: Réponse automatique : x\n",
        "Absent.",
        AutoReply,
        "out-of-office",
    ),
    (
        "Precedence: junk\nSubject: [Automatyczna odpowiedź] test\n",
        "Nie ma mnie.",
        AutoReply,
        "out-of-office",
    ),
    (
        "Precedence: bulk\nSubject: Respuesta automática: x\n",
        "No estoy.",
        AutoReply,
        "out-of-office",
    ),
    (
        "In-Reply-To: <a@larch.example>\nSubject: Risposta automatica: x\n",
        "Assente.",
        AutoReply,
        "with In-Reply-To",
    ),
    (
        "Return-Path: <>\nSubject: 自動応答: x\n",
        "不在です。",
        AutoReply,
        "out-of-office",
    ),
    (
        "Return-Path: <>\nSubject: 自动回复：x\n",
        "不在。",
        AutoReply,
        "out-of-office",
    ),
    (
        "Return-Path: <>\nSubject: Автоматический ответ: x\n",
        "Нет.",
        AutoReply,
        "out-of-office",
    ),
    (
        "Return-Path: <>\nSubject: Automaattinen vastaus: x\n",
        "Poissa.",
        AutoReply,
        "out-of-office",
    ),
    (
        "Return-Path: <>\nSubject: Otomatik yanıt: x\n",
        "Yokum.",
        AutoReply,
        "out-of-office",
    ),
    (
        "X-Auto-Response-Suppress: All\nAuto-Submitted: auto-generated\nThread-Topic: Drucker\nSubject: Sjálfkrafa svar hér: Drucker\n",
        "Fjarverandi.",
        AutoReply,
        "with a subject that answers",
    ),
    (
        "Subject: AUTO: Weiss, Nora is out of the office. (returning 05/01/2024)\n",
        "Away.",
        AutoReply,
        "out-of-office",
    ),
    (
        "Precedence: bulk\nIn-Reply-To: <a@larch.example>\nSubject: Re: Printer\n",
        "Back soon.",
        AutoReply,
        "Precedence: bulk, with In-Reply-To",
    ),
    (
        "Return-Path: <>\nSubject: Thank you for your e-mail\n",
        "I answer soon.",
        AutoReply,
        "null return path",
    ),
    // Receipts.
    (
        "Subject: Gelesen: x\nContent-Type: multipart/report; report-type=disposition-notification; boundary=b\n",
        "--b\n\nGelesen.\n--b--",
        AutoReply,
        "read receipt",
    ),
    (
        "X-Auto-Response-Suppress: All\nSubject: Gelesen: x\n",
        "Gelesen.",
        AutoReply,
        "read receipt",
    ),
    (
        "Return-Path: <>\nSubject: Lu : x\n",
        "Lu.",
        AutoReply,
        "read receipt",
    ),
    // Machines.
    (
        "Auto-Submitted: auto-generated\nSubject: Job done\n",
        "Ok.",
        Machine,
        "Auto-Submitted: auto-generated",
    ),
    (
        "X-Zendesk-From-Account-Id: 4a\nSubject: Request received\n",
        "Hi.",
        Machine,
        "X-Zendesk-From-Account-Id",
    ),
    (
        "X-RT-Loop-Prevention: rt\nPrecedence: bulk\nIn-Reply-To: <a@b.example>\nSubject: [rt #4] x\n",
        "Hi.",
        Machine,
        "X-RT-Loop-Prevention",
    ),
    (
        "From: no-reply@quill.example\nSubject: Your order\n",
        "Could not be delivered to your door.",
        Machine,
        "sender no-reply@quill.example",
    ),
    (
        "From: root@db1.quill.example\nSubject: Cron <root@db1> backup\n",
        "Done.",
        Machine,
        "sender root@db1",
    ),
    (
        "X-Auto-Response-Suppress: All\nSubject: Disk full\n",
        "90 %",
        Machine,
        "X-Auto-Response-Suppress: All",
    ),
    (
        "From: postmaster@quill.example\nSubject: Quarantine summary\n",
        "Three mails wait.",
        Machine,
        "sender postmaster@quill.example",
    ),
    (
        "From: fbl@isp.example\nSubject: complaint\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\n",
        "--b\n\nAbuse.\n--b--",
        Machine,
        "multipart/report",
    ),
    // Reports of success.
    (
        "From: MAILER-DAEMON@mx.quill.example\nReturn-Path: <>\nSubject: Successful Mail Delivery Report\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n",
        "--b\n\nDelivered.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; x.example\n\nFinal-Recipient: rfc822; a@b.example\nAction: relayed\nStatus: 2.1.5\n--b--",
        Machine,
        "Action: relayed",
    ),
    (
        "From: MAILER-DAEMON@mx.quill.example\nReturn-Path: <>\nSubject: Zugestellt: x\n",
        "Ihre Nachricht wurde zugestellt.",
        Machine,
        "report of delivery",
    ),
    // Bounces.
    (
        "From: MAILER-DAEMON (Mail Delivery System)\nAuto-Submitted: auto-replied\nSubject: x\n",
        "No.",
        Bounce,
        "sender MAILER-DAEMON",
    ),
    (
        "From: <MAILER-DAEMON>\nSubject: x\n",
        "No.",
        Bounce,
        "sender",
    ),
    (
        "From: \"Mail Delivery Subsystem\" <bounces-17@mx.example>\nSubject: x\n",
        "No.",
        Bounce,
        "sender bounces-17@mx.example",
    ),
    (
        "From: someone@quill.example\nX-Failed-Recipients: a@b.example\nSubject: x\n",
        "No.",
        Bounce,
        "X-Failed-Recipients: a@b.example",
    ),
    (
        "From: Microsoft Outlook <MicrosoftExchange329e71ec88ae4615bbc36ab6ce41109e@quill.example>\nSubject: Nedoručitelné: x\n",
        "Ne.",
        Bounce,
        "subject of a failure notice",
    ),
    (
        "From: System Administrator <postmaster@quill.example>\nSubject: x\n",
        "Your message\n\ndid not reach the following recipient(s):\n\na@b.example on Monday",
        Bounce,
        "words of a failure notice",
    ),
    (
        "From: PostMaster <PostMaster@qq.example>\nSubject: 来自QQ邮箱的退信\n",
        "收件人不存在",
        Bounce,
        "subject of a failure notice",
    ),
    (
        "From: \"=?UTF-8?B?57O757uf566h55CG5ZGY?=\" <sys@163.example>\nSubject: 系统退信\n",
        "无法送达",
        Bounce,
        "failure notice",
    ),
    (
        "From: no-reply@x1.dion.example\nSubject: メールエラー通知\nContent-Type: multipart/mixed; boundary=b\n",
        "--b\n\n送信できませんでした。\nYour mail could not be delivered to: <a@b.example>\n--b\nContent-Type: message/rfc822\n\nMessage-ID: <o@larch.example>\n\nHi\n--b--",
        Bounce,
        "subject of a failure notice",
    ),
    (
        "From: gateway@quill.example\nSubject: Delivery failure notification\n",
        "Your message could not be delivered to the following recipients:\na@b.example",
        Bounce,
        "subject and words",
    ),
    (
        "From: <>\nReturn-Path: <>\nAuto-Submitted: auto-replied\nSubject:\n",
        "You sent mail to a@b.example. That's not a valid user here.",
        Bounce,
        "with a null return path",
    ),
    (
        "From: srv@quill.example\nReturn-Path: <>\nSubject: Κάτι\n",
        "550 5.1.1 a@b.example",
        Bounce,
        "answer of a mail server",
    ),
    (
        "From: x@quill.example\nReturn-Path: <MAILER-DAEMON@quill.example>\nSubject: Non remis : x\n",
        "Non.",
        Bounce,
        "subject of a failure notice",
    ),
    (
        "From: list-admin@quill.example\nList-Id: <users.quill.example>\nPrecedence: bulk\nSubject: Mail could not be delivered\n",
        "The following mail could not be delivered.\nReason: Exceeded Maximum Delivery Attempts.",
        Bounce,
        "subject and words",
    ),
];

pub fn mail(headers: &str, body: &str) -> Message {
    let first = if headers.contains("From:") { "" } else { NORA };
    let raw = format!("{first}To: Larch Help Desk <help@larch.example>\n{headers}\n{body}\n");
    parse(&Bytes::from(raw))
}

#[test]
fn mails_are_classified_by_their_own_marks() {
    let mut trouble = Vec::new();
    for (headers, body, expected, reason) in ROWS {
        let mail = mail(headers, body);
        let (found, by) = (mail.classification, &mail.classification_reason);
        if found != *expected || !by.contains(reason) || by.contains('\n') {
            trouble.push(format!(
                "{headers}{found:?} by {by}, not {expected:?} by {reason}"
            ));
        }
        assert_eq!(mail.delivery.is_some(), found == Bounce, "{headers}");
    }
    assert!(trouble.is_empty(), "{}", trouble.join("\n\n"));
}

#[test]
fn a_challenge_is_an_answer_that_says_so() {
    for (headers, body, expected) in [
        (
            "Preference: auto_reply\nSubject: Your email requires verification verify#kq81nn\n",
            "Answer once.",
            true,
        ),
        (
            "X-Bluebottle-Request: <1234>\nSubject: RE: x\n",
            "Click the link.",
            true,
        ),
        (
            "X-Delivery-Agent: TMDA/1.1\nIn-Reply-To: <a@b.example>\nSubject: Re: x\n",
            "Hi.",
            true,
        ),
        (
            "Return-Path: <>\nSubject: Please confirm your message\n",
            "Reply to this mail.",
            true,
        ),
        (
            "Auto-Submitted: auto-replied\nSubject: Re: x\n",
            "This mailbox is protected by a filter; prove that you are a human.",
            true,
        ),
        (
            "Auto-Submitted: auto-replied\nSubject: Re: x\n",
            "I am away.",
            false,
        ),
    ] {
        let mail = mail(headers, body);
        assert_eq!(mail.classification, AutoReply, "{headers}");
        assert_eq!(mail.challenge, expected, "{headers}");
    }
    let person = mail("Subject: Please confirm your message\n", "Did you get it?");
    assert_eq!((person.classification, person.challenge), (Person, false));
}

#[test]
fn a_calendar_part_counts_unless_a_person_writes() {
    let invite = |method: &str, text: &str, headers: &str| {
        mail(
            &format!(
                "{headers}Subject: Server move\nContent-Type: multipart/alternative; boundary=b\n"
            ),
            &format!(
                "--b\nContent-Type: text/plain; charset=utf-8\n\n{text}\n--b\nContent-Type: text/calendar; method={method}\n\n\
                 BEGIN:VCALENDAR\nMETHOD:{method}\nBEGIN:VEVENT\nUID:1\nSUMMARY:Server move\nLOCATION:Hall 3\n\
                 END:VEVENT\nEND:VCALENDAR\n--b--"
            ),
        )
    };
    for (method, text, headers, expected) in [
        ("REQUEST", "", "", Calendar),
        (
            "REQUEST",
            "When: Monday, 9:00\nWhere: Hall 3\n\n*~*~*~*~*~*~*~*~*~*\n",
            "",
            Calendar,
        ),
        (
            "REPLY",
            "Nora Weiss has accepted the server move",
            "",
            Calendar,
        ),
        ("CANCEL", "Server move", "", Calendar),
        ("REPLY", "", "Auto-Submitted: auto-generated\n", Calendar),
        (
            "REQUEST",
            "You have been invited to the following event with its details.",
            "Sender: Google Calendar <calendar-notification@google.com>\n",
            Calendar,
        ),
        (
            "REQUEST",
            "Can you come and bring the keys of hall 3? The printer is broken.",
            "",
            Person,
        ),
        (
            "REPLY",
            "Ich komme später, bitte wartet auf mich.",
            "",
            Person,
        ),
        (
            "REPLY",
            "遅れて参加しますので先に始めてください。",
            "",
            Person,
        ),
        ("PUBLISH", "", "", Person),
    ] {
        let mail = invite(method, text, headers);
        let by = &mail.classification_reason;
        assert_eq!(mail.classification, expected, "{method} {text:?} {by}");
    }
    assert_eq!(
        invite("REPLY", "", "").classification_reason,
        "calendar part with METHOD:REPLY"
    );
}
