//! The contents of a bounce: failed recipients and the returned mail.

use postroom_core::Message;

use crate::classification::mail as mail_of;

const DAEMON: &str = "From: Mail Delivery System <MAILER-DAEMON@mx.quill.example>\n";

/// Failed recipients as `address status permanent`, and the Message-ID.
fn reported(mail: &Message) -> (Vec<String>, Option<&str>) {
    let report = mail.delivery.as_ref().expect("a bounce");
    let one = |one: &postroom_core::FailedRecipient| {
        let status = one.status.as_deref().unwrap_or("-");
        let lasting = if one.permanent {
            "permanent"
        } else {
            "temporary"
        };
        format!("{} {status} {lasting}", one.email)
    };
    (
        report.recipients.iter().map(one).collect(),
        report.message_id.as_deref(),
    )
}

#[test]
fn a_delivery_status_names_recipients_and_the_mail() {
    let report = |fields: &str, copy: &str| {
        mail_of(
            &format!(
                "{DAEMON}Subject: x\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n"
            ),
            &format!(
                "--b\n\nSorry.\n--b\nContent-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n{fields}\n{copy}--b--"
            ),
        )
    };
    const COPY: &str = "--b\nContent-Type: text/rfc822-headers\n\nMessage-ID: <o@larch.example>\nTo: x@y.example\n";
    for (fields, expected) in [
        (
            "\nFinal-Recipient: rfc822; a@b.example\nAction: failed\nStatus: 5.1.1\n\nFinal-Recipient: rfc822; c@b.example\nAction: delayed\nStatus: 4.4.1\n\nFinal-Recipient: rfc822; d@b.example\nAction: delivered\nStatus: 2.0.0",
            vec!["a@b.example 5.1.1 permanent", "c@b.example 4.4.1 temporary"],
        ),
        // Exchange and others rewrite the address: the sender knows the first.
        (
            "\nOriginal-Recipient: rfc822;a@b.example\nFinal-Recipient: rfc822;a.b@host.b.example\nAction: failed\nStatus: 5.2.2 (quota)",
            vec!["a@b.example 5.2.2 permanent"],
        ),
        // No blank lines, no type, brackets, capitals, a comment behind the action.
        (
            "Final-Recipient: <a@b.example>\nAction: Failed (bad destination mailbox)\nStatus: 5.1.1\nFinal-Recipient: c@b.example\nAction: FAILED",
            vec!["a@b.example 5.1.1 permanent", "c@b.example - permanent"],
        ),
        (
            "\nAction: failed\nFinal-Recipient: rfc822;a@b.example\nStatus: 4.4.7",
            vec!["a@b.example 4.4.7 temporary"],
        ),
        (
            "\nFinal-Recipient: rfc822;a@b.example\nStatus: 5.0.0\nAction:",
            vec!["a@b.example 5.0.0 permanent"],
        ),
        (
            "\nFinal-Recipient: X-LOCAL; anna\nAction: failed",
            vec!["anna@mx.example - permanent"],
        ),
        (
            "\nFinal-Recipient: rfc822;a@b.example\nAction: failed\n\nFinal-Recipient: RFC822; A@B.example\nAction: failed",
            vec!["a@b.example - permanent"],
        ),
    ] {
        let mail = report(fields, COPY);
        assert_eq!(
            reported(&mail),
            (
                expected.into_iter().map(str::to_owned).collect(),
                Some("o@larch.example")
            ),
            "{fields}"
        );
    }
    let mail = report(
        "Original-Message-ID: <n@larch.example>\n\nFinal-Recipient: rfc822;a@b.example\nAction: failed\nDiagnostic-Code: smtp; 550\n  no such user",
        "",
    );
    assert_eq!(reported(&mail).1, Some("n@larch.example"));
    let recipients = &mail.delivery.as_ref().expect("a bounce").recipients;
    assert_eq!(
        recipients[0].diagnostic.as_deref(),
        Some("550 no such user")
    );
    let many: String = (0..300)
        .map(|n| format!("\nFinal-Recipient: rfc822;u{n}@b.example\nAction: failed\n"))
        .collect();
    assert_eq!(reported(&report(&many, "")).0.len(), 100);
}

#[test]
fn words_of_servers_name_recipients_and_the_mail() {
    let bounce =
        |subject: &str, text: &str| mail_of(&format!("{DAEMON}Subject: {subject}\n"), text);
    for (text, expected, id) in [
        // qmail
        (
            "Hi. This is the qmail-send program at mx.quill.example.\nI'm afraid I wasn't able to deliver your message to the following addresses.\n\n<a@b.example>:\n198.51.100.9 does not like recipient.\nRemote host said: 550 5.1.1 unknown user\n\n--- Below this line is a copy of the message.\n\nReturn-Path: <help@larch.example>\nMessage-ID: <o@larch.example>\nTo: z@b.example\n",
            vec!["a@b.example 5.1.1 permanent"],
            Some("o@larch.example"),
        ),
        // Exim
        (
            "A message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error. The following address(es) failed:\n\n  a@b.example\n    SMTP error from remote mail server after RCPT TO:<a@b.example>:\n    host mx.b.example [192.0.2.1]: 550 No such user\n\n------ This is a copy of the message, including all the headers. ------\nMessage-Id: <o@larch.example>\n",
            vec!["a@b.example - permanent"],
            Some("o@larch.example"),
        ),
        // Sendmail
        (
            "   ----- The following addresses had permanent fatal errors -----\n<a@b.example>\n    (reason: 550 5.1.1 User unknown)\n    (expanded from: <c@d.example>)\n\n   ----- Transcript of session follows -----\n>>> RCPT To:<a@b.example>\n",
            vec!["a@b.example 5.1.1 permanent", "c@d.example - permanent"],
            None,
        ),
        // Exchange 5.5
        (
            "Your message\n\n  To:      users@lists.example\n  Subject: x\n\ndid not reach the following recipient(s):\n\nc=US;a= ;p=QUILL;o=Main;dda:SMTP=a@b.example; on Fri, 4 Oct 2002 17:12:28 -0400\n    The recipient name is not recognized\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        // Domino
        (
            "Your message\n\n  Subject: x\n\nwas not delivered to:\n\n  a@b.example\n\nbecause:\n\n  User a (a@b.example) not listed in Domino Directory\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        // Gmail
        (
            "** Address not found **\n\nYour message wasn't delivered to a@b.example because the address couldn't be found.\n\nThe response was:\n550 5.1.1 no such user\n",
            vec!["a@b.example 5.1.1 permanent"],
            None,
        ),
        // IMail, MailEnable, Notes
        (
            "Unknown user: a@b.example\n\nOriginal message follows.\n\nFrom: help@larch.example\nMessage-ID: <o@larch.example>\n",
            vec!["a@b.example - permanent"],
            Some("o@larch.example"),
        ),
        (
            "The following recipient(s) could not be reached:\n\n\tRecipient: [SMTP:a@b.example]\n\tReason: 550 mailbox unavailable\n\nMessage headers follow:\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        (
            "------- Failure Reasons  --------\n\nUser not listed\na@b.example\n\n------- Returned Message --------\nReceived: x\nTo: z@b.example\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        // AOL names the mailbox alone.
        (
            "Your mail to the following recipients could not be delivered because they do not accept mail from x@lists.example:\n\tscreenname\n",
            vec!["screenname@mx.quill.example - permanent"],
            None,
        ),
        // Old sendmail names nobody.
        (
            "   ----- Transcript of session follows -----\n421 b.example... Deferred\n   ----- Unsent message follows -----\nReceived: by x\nTo: a@b.example\nMessage-Id: <o@larch.example>\n",
            vec!["a@b.example - permanent"],
            Some("o@larch.example"),
        ),
        // Chinese and Japanese servers
        (
            "抱歉，您的邮件被退回来了……\n收件人邮件地址：a@b.example\n退信原因：收件人不存在 (550 5.1.1)\n",
            vec!["a@b.example 5.1.1 permanent"],
            None,
        ),
        (
            "次のメールは送信できませんでした。\n\n<a@b.example>\n宛先不明\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        // A delay
        (
            "A message that you sent has not yet been delivered to one or more of its recipients after more than 24 hours.\n\n  a@b.example\n\nDelivery attempts will continue for some time.\n",
            vec!["a@b.example - temporary"],
            None,
        ),
        (
            "<a@b.example>: 452 4.2.2 mailbox full\n",
            vec!["a@b.example 4.2.2 temporary"],
            None,
        ),
        // Addresses for questions are no recipients.
        (
            "This is the mail system at host mx.example. For further assistance, please send mail to postmaster.\n\n<a@b.example>: unknown user\n\nContact helpdesk@quill.example or postmaster@quill.example.\n",
            vec!["a@b.example - permanent"],
            None,
        ),
        ("Nothing is named.\n", vec![], None),
    ] {
        let mail = bounce("Returned mail", text);
        let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(reported(&mail), (expected, id), "{text}");
    }
    let mail = bounce(
        "x",
        "<a@b.example>: host mx said: 550 unknown\n    user (in reply to RCPT TO)\n",
    );
    let recipients = &mail.delivery.as_ref().expect("a bounce").recipients;
    assert_eq!(
        recipients[0].diagnostic.as_deref(),
        Some("host mx said: 550 unknown user (in reply to RCPT TO)")
    );
    let headers = format!(
        "{DAEMON}In-Reply-To: <o@larch.example>\nX-Failed-Recipients: a@b.example,\n c@b.example\nSubject: x\n"
    );
    let mail = mail_of(&headers, "  c@b.example\n    452 4.2.2 full\n");
    let expected = ["a@b.example - permanent", "c@b.example 4.2.2 temporary"];
    assert_eq!(
        reported(&mail),
        (
            expected.map(str::to_owned).to_vec(),
            Some("o@larch.example")
        )
    );
}

#[test]
fn reports_without_end_are_read_to_their_limits() {
    let line = "<a@b.example>: 550 5.1.1 no, ".repeat(200_000);
    let lines: String = (0..200_000)
        .map(|n| format!("<u{n}@b.example>: no\n"))
        .collect();
    let words = "could not be delivered ".repeat(100_000);
    for text in [
        line,
        lines,
        words,
        "a@".repeat(1_000_000),
        "@".repeat(1_000_000),
    ] {
        let found = mail_of(&format!("{DAEMON}Subject: x\n"), &text);
        let report = found.delivery.as_ref().expect("a bounce");
        assert!(report.recipients.len() <= 100);
        for one in &report.recipients {
            assert!(one.email.len() <= 320);
            assert!(one.diagnostic.as_deref().unwrap_or("").chars().count() <= 500);
        }
    }
    let fields = "Final-Recipient: rfc822; a@b.example\nAction: failed\n\n".repeat(100_000);
    let head = format!(
        "{DAEMON}Subject: x\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\n"
    );
    let found = mail_of(
        &head,
        &format!("--b\nContent-Type: message/delivery-status\n\n{fields}\n--b--"),
    );
    assert_eq!(reported(&found).0, ["a@b.example - permanent"]);
}
