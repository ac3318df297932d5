//! Large and hostile mails, generated rather than stored: each becomes a message, quickly and within the limits.

use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_core::{Message, OverLimit, ParseLimits};

use crate::parse;

/// Far above the time that any of them takes, and far below that of quadratic work.
const SOON: Duration = Duration::from_secs(5);

pub(crate) fn soon(name: &str, raw: impl Into<Bytes>) -> Message {
    let raw = raw.into();
    let started = Instant::now();
    let mail = parse(&raw);
    let took = started.elapsed();
    assert!(took < SOON, "{name} took {took:?}");
    mail
}

pub(crate) fn with_head(content_type: &str, body: &str) -> String {
    format!(
        "From: a@b.example\r\nMessage-ID: <x@b.example>\r\nContent-Type: {content_type}\r\n\r\n{body}"
    )
}

pub(crate) fn repaired(mail: &Message, words: &str) -> bool {
    mail.repairs.iter().any(|repair| repair.contains(words))
}

#[test]
fn ten_thousand_parts() {
    let part = "--b\r\nContent-Type: text/plain; name=x.txt\r\n\r\nhello\r\n";
    let mail = soon(
        "10,000 parts",
        with_head(
            "multipart/mixed; boundary=b",
            &(part.repeat(10_000) + "--b--\r\n"),
        ),
    );
    let most = ParseLimits::default().parts;
    // All but the multipart and the first text, which is the body.
    assert_eq!(mail.attachments.len(), most - 2);
    assert!(repaired(&mail, "parts after the first 1000"));
    assert_eq!(mail.over_limit, Some(OverLimit::Parts { most }));
}

#[test]
fn nesting_five_hundred_deep() {
    let mut body = String::new();
    for level in 0..500 {
        body += &format!(
            "--b{level}\r\nContent-Type: multipart/mixed; boundary=b{}\r\n\r\n",
            level + 1
        );
    }
    body += "--b500\r\n\r\nat the bottom\r\n";
    for level in (0..=500).rev() {
        body += &format!("--b{level}--\r\n");
    }
    let mail = soon("nesting", with_head("multipart/mixed; boundary=b0", &body));
    assert!(repaired(&mail, "nested deeper than 32"));
    assert_eq!(mail.over_limit, Some(OverLimit::Depth { most: 32 }));
    let kept = &mail.attachments[0];
    assert!(
        kept.bytes
            .windows(13)
            .any(|window| window == b"at the bottom")
    );
}

#[test]
fn mails_within_mails() {
    let mail = soon(
        "rfc822 in rfc822",
        "Content-Type: message/rfc822\r\n\r\n".repeat(500_000),
    );
    assert_eq!(mail.attachments.len(), 1);
}

#[test]
fn fifty_megabytes() {
    let line = "All work and no play makes the mail room a dull place to be in.\r\n";
    let text = line.repeat(50 * 1024 * 1024 / line.len());
    let mail = soon("50 MB of text", with_head("text/plain", &text));
    assert_eq!(mail.text.len(), ParseLimits::default().text_bytes);
    assert!(repaired(&mail, "text over 1048576 bytes was cut"));

    let encoded = "QUJD".repeat(19) + "\r\n";
    let body = encoded.repeat(50 * 1024 * 1024 / encoded.len());
    let head = "application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64";
    let mail = soon("50 MB of base64", with_head(head, &body));
    assert!(mail.attachments[0].bytes.len() > 35 * 1024 * 1024);

    let mail = soon(
        "50 MB of one line",
        with_head("text/html", &"<p>x ".repeat(10 * 1024 * 1024)),
    );
    assert!(mail.text.len() <= ParseLimits::default().text_bytes);

    soon("50 MB of NULs", vec![0; 50 * 1024 * 1024]);
    soon("50 MB of CRs", vec![b'\r'; 50 * 1024 * 1024]);
    soon("50 MB of LFs", vec![b'\n'; 50 * 1024 * 1024]);
    soon(
        "50 MB of dashes",
        with_head("multipart/mixed; boundary=b", &"-".repeat(50 * 1024 * 1024)),
    );
}

/// Each mail repeats something that a careless parser searches for repeatedly up to the end.
#[test]
fn repeated_beginnings_without_ends() {
    let million = |piece: &str| piece.repeat(1_000_000 / piece.len());
    for name in [
        "Subject",
        "From",
        "To",
        "References",
        "Date",
        "Content-Type",
        "Content-Disposition",
        "Message-ID",
        "X",
    ] {
        for piece in [
            "=?utf-8?q?",
            "=?",
            "<",
            "(",
            "\"",
            "a:",
            "x*0*=",
            ";a=\"",
            "a@b,",
            "\r\n ",
            "\\",
            "<a@b>",
            "\t",
            "=?utf-8?b?YQ?= ",
            "=?x?q?a?=20",
            "<(",
            "<\"",
            "\"<",
            "(<",
            "<a,",
            "a;b",
            "; \"",
            "\" ",
            "a (",
            "<a (b",
            "\x1b$B\x1b(B",
            "$B!!",
        ] {
            soon(
                &format!("{name} of {piece:?}"),
                format!("{name}: {}\r\n\r\nhello", million(piece)),
            );
        }
    }
    for piece in [
        "X: y\r\n",
        "junk\r\n",
        "junk\r\nX: y\r\n",
        " \r\n",
        "From x\r\n",
        "To: a@b\r\n",
        "Content-Type: a/b\r\n",
    ] {
        soon(&format!("headers {piece:?}"), million(piece));
    }
    for piece in [
        "<",
        "<!--",
        "<a b=\"",
        "<a b='>",
        "&",
        "&#",
        "&#x41;",
        "</",
        "<head>",
        "<style>",
        "<pre>\n",
        "<blockquote>",
        "<script></scrip",
        "<br>",
        "<td>",
        "<li>",
        "<table><tr><td>",
        "<table><tr><td>a<br>b",
        "<a href=http://a.example>",
        "<a href=http://a.example>a</a>",
        "<ol><li>",
        "<i hidden>",
        "<b class=x><p>",
        "<p class=MsoNormal>",
        "<div style='font-size:0;'>",
        "</div>",
        "\u{200b}",
        "&nbsp;",
    ] {
        soon(
            &format!("HTML of {piece:?}"),
            with_head("text/html", &million(piece)),
        );
    }
    for piece in [
        "--b\r\n",
        "--bb\r\n",
        "\r\n--",
        "--b",
        "--b--\r\n",
        "--b\r\n\r\n",
        "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n",
    ] {
        soon(
            &format!("body of {piece:?}"),
            with_head("multipart/mixed; boundary=b", &million(piece)),
        );
    }
    for encoding in ["base64", "quoted-printable"] {
        for piece in ["=", "=\r\n", "= ", "=3", "A", "*", "\u{ff}", "====", " \t"] {
            let head = format!("text/plain\r\nContent-Transfer-Encoding: {encoding}");
            soon(
                &format!("{encoding} of {piece:?}"),
                with_head(&head, &million(piece)),
            );
        }
    }
}

/// 25 MB whose bytes mean nothing in their charset, or keep a decoder or the detector busy.
#[test]
fn repairs_of_structure() {
    const BYTES: usize = 25 * 1024 * 1024;
    for piece in ["X-a\n :b\n", "X-a\n b\n", "X-a\n \n :b\n", "X-a\n"] {
        soon(&format!("{piece:?}"), piece.repeat(BYTES / piece.len()));
    }
    for part in [
        "Content-Type: message/rfc822\nFrom: a\nTo: b\n\nc: d\n e\n",
        "Content-Type: message/delivery-status\nAction: a\nStatus: b\n",
        "Content-Type: text/html\n\n<p>a b c\n",
        "Content-Disposition: inline; filename=a\n\na\n",
        "Content-Type: multipart/mixed; boundary=c\n\nwords\n--d\nContent-Type: a/b\n\n",
    ] {
        let raw = with_head("multipart/mixed; boundary=b", "");
        let part = format!("--b\n{part}");
        soon(&format!("{part:?}"), raw + &part.repeat(BYTES / part.len()));
    }
}

#[test]
fn charsets_of_nothing() {
    const BYTES: usize = 25 * 1024 * 1024;
    let body = |label: &str, piece: &[u8]| {
        let head = with_head(&format!("text/plain; charset={label}"), "");
        [head.as_bytes(), &piece.repeat(BYTES / piece.len())].concat()
    };
    for (label, piece) in [
        ("utf-8", b"\xff".as_slice()),
        ("utf-8", b"\xed\xa0\xbd"),
        ("utf-8", b"\xc3a \x81"),
        ("x-unknown", b"\xe4\xb8a"),
        ("gb2312", b"\xff\x80\xa1"),
        ("iso-8859-1", b"\xe4\xe5\xe6\xe7 "),
        ("iso-2022-jp", b"\x1b$B\x1b(B"),
        ("iso-2022-jp", b"\x1b$B!!\n"),
        ("iso-2022-jp", b"$B$B"),
        ("iso-2022-jp", b"$B!\n"),
        ("iso-2022-kr", b"\x0e\x0f"),
        ("iso-2022-cn", b"\x1b"),
        ("hz", b"~{~}"),
        ("hz", b"~"),
        ("utf-7", b"+"),
        ("utf-7", b"+A-"),
        ("utf-7", b"+2D0-"),
        ("utf-16", b"\xd8\x00"),
        ("utf-32", b"\xff"),
    ] {
        let shown = String::from_utf8_lossy(piece).into_owned();
        let mail = soon(&format!("{label} of {shown:?}"), body(label, piece));
        assert!(mail.text.len() <= ParseLimits::default().text_bytes);
    }
    for piece in [
        b"Content-Disposition: attachment; filename=\xff\x81\x8d".as_slice(),
        b"Content-Type: a/b; name=\xe4\xb8; x=\xe5\xe6",
        b"Content-Type: multipart/a; name=\xe4\xb8; x=\xe5\xe6",
    ] {
        let field = [piece, &b"\xfe\x90\x8f ".repeat(2000), b"\r\n"].concat();
        let part = [b"--b\r\n".as_slice(), &field, b"\r\nx\r\n"].concat();
        let head = with_head("multipart/mixed; boundary=b", "");
        soon(
            "parts named by noise",
            [head.as_bytes(), &part.repeat(BYTES / part.len())].concat(),
        );
        soon("fields of noise", field.repeat(BYTES / field.len()));
    }
    let words: String = (0..200_000)
        .map(|n| {
            format!(
                "=?{}?q?=FF=81a?= ",
                if n % 2 == 0 { "utf-8" } else { "x-unknown" }
            )
        })
        .collect();
    soon(
        "words of noise",
        format!("Subject: {words}\r\nTo: {words}\r\n").repeat(3),
    );
}

/// One mail that exceeds every limit at once, parsed with small limits and with large ones.
#[test]
fn limits_are_obeyed() {
    let mut mail = String::from("From: a@b.example\r\nTo: ");
    for n in 0..20 {
        mail += &format!("u{n}@b.example, ");
    }
    mail += "\r\nReferences:";
    for n in 0..20 {
        mail += &format!(" <{n}@b.example>");
    }
    mail += &format!("\r\nSubject: {}\r\n", "long ".repeat(100));
    mail += &"X-Filler: x\r\n".repeat(50);
    mail += "Message-ID: <last@b.example>\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n";
    mail += &format!(
        "--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{}\r\n",
        "ö".repeat(1000)
    );
    mail += &format!(
        "--b\r\nContent-Type: text/html\r\n\r\n{}\r\n",
        "<p>word</p>".repeat(100)
    );
    mail += "--b\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n--c\r\nContent-Type: multipart/mixed; boundary=d\r\n\r\n--d\r\n\r\ndeep\r\n--d--\r\n--c--\r\n";
    mail += &"--b\r\nContent-Type: image/png\r\n\r\nx\r\n".repeat(20);
    mail += "--b--\r\n";
    let raw = Bytes::from(mail);

    let wide = parse(&raw);
    assert_eq!(wide.repairs, Vec::<String>::new());
    assert_eq!((wide.to.len(), wide.references.len()), (20, 20));
    assert_eq!(wide.attachments.len(), 20);

    let limits = ParseLimits {
        header_bytes: 2000,
        header_value_bytes: 450,
        headers: 30,
        addresses: 5,
        references: 7,
        parts: 12,
        depth: 2,
        text_bytes: 101,
        html_bytes: 51,
    };
    let narrow = postroom_core::parse(&raw, &limits, &[]);
    assert_eq!((narrow.to.len(), narrow.references.len()), (5, 7));
    assert_eq!(narrow.references[0], "19@b.example");
    assert_eq!(narrow.headers.len(), 30);
    assert!(narrow.subject.len() <= 450);
    assert_eq!(
        narrow.message_id, "last@b.example",
        "a limit hides no Message-ID"
    );
    assert_eq!(narrow.text.trim_end(), "ö".repeat(50));
    assert!(narrow.text.len() <= 101);
    assert_eq!(narrow.html.as_deref().map(str::len), Some(51));
    assert_eq!(narrow.over_limit, Some(OverLimit::Depth { most: 2 }));
    assert_eq!(narrow.attachments[0].content_type, "multipart/mixed");
    for words in [
        "headers over the limit",
        "overlong header",
        "addresses after the first 5",
        "parts after the first 12",
        "nested deeper than 2",
        "text over 101 bytes",
        "HTML over 51 bytes",
    ] {
        assert!(repaired(&narrow, words), "{words}: {:?}", narrow.repairs);
    }

    let few = ParseLimits {
        header_bytes: 100,
        ..ParseLimits::default()
    };
    assert!(postroom_core::parse(&raw, &few, &[]).headers.len() < 5);
}

#[test]
fn repairs_are_capped() {
    let mut body = String::new();
    for n in 0..100 {
        body += &format!("--b\r\nContent-Type: text/plain; charset=odd-{n}\r\n\r\nx\r\n");
    }
    let mail = soon(
        "odd charsets",
        with_head("multipart/mixed; boundary=b", &body),
    );
    assert_eq!(mail.repairs.len(), postroom_core::parse::MAX_REPAIRS);
}

/// Mail programs differ in the name under which they save a file, so a rule must be able to see each name.
#[test]
fn every_name_of_an_attachment_is_seen() {
    let named = |fields: &str| {
        let body = format!("--b\r\n{fields}\r\n\r\nMZ\r\n--b--\r\n");
        soon("names", with_head("multipart/mixed; boundary=b", &body))
    };
    for (fields, shown, other) in [
        (
            "Content-Type: application/pdf; name=bill.exe\r\nContent-Disposition: attachment; filename=bill.pdf",
            "bill.pdf",
            "bill.exe",
        ),
        (
            "Content-Disposition: attachment; filename*=utf-8''bill.pdf; filename=bill.exe",
            "bill.pdf",
            "bill.exe",
        ),
        (
            "Content-Disposition: attachment; filename=bill.pdf; filename=bill.exe",
            "bill.pdf",
            "bill.exe",
        ),
        (
            "Content-Disposition: attachment; filename=bill.exe\r\nContent-Disposition: attachment; filename=bill.pdf",
            "bill.pdf",
            "bill.exe",
        ),
        (
            "Content-Type: application/pdf; name=bill.pdf\r\nContent-Type: application/pdf; name=bill.exe\r\nContent-Disposition: attachment",
            "bill.pdf",
            "bill.exe",
        ),
    ] {
        let mail = named(fields);
        assert_eq!(mail.attachments[0].name, shown, "{fields}");
        let words = format!("the attachment \"{shown}\" is also named \"{other}\"");
        assert!(repaired(&mail, &words), "{fields}: {:?}", mail.repairs);
    }
    let same = named(
        "Content-Type: application/pdf; name=\"=?utf-8?q?R=C3=A4t.pdf?=\"\r\nContent-Disposition: attachment; filename*=utf-8''R%C3%A4t.pdf; filename=\"=?utf-8?q?R=C3=A4t.pdf?=\"",
    );
    assert_eq!(same.repairs, Vec::<String>::new());

    // Neither other repairs nor many such attachments hide the note that there are some.
    let mut body = String::new();
    for n in 0..100 {
        body += &format!(
            "--b\r\nContent-Type: text/plain; charset=odd-{n}; name=b{n}\r\nContent-Disposition: attachment; filename=a{n}\r\n\r\nx\r\n\
             --b\r\nContent-Type: text/plain; charset=odd-{n}\r\n\r\nx\r\n"
        );
    }
    let many = soon(
        "many names",
        with_head("multipart/mixed; boundary=b", &body),
    );
    assert!(many.repairs[0].contains("\"a0\" is also named \"b0\""));
    assert_eq!(many.repairs[16], "84 more attachments have several names");
    assert_eq!(many.repairs.len(), postroom_core::parse::MAX_REPAIRS);
}
