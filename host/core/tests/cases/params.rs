//! Tables of Content-Type and Content-Disposition as mailers break them, and the limits of fields.

use bytes::Bytes;
use postroom_core::{Attachment, Message};

use crate::headers::{check, mail};
use crate::parse;

/// Returns the only attachment of a mail whose part has these header lines.
fn attachment(fields: &str) -> Attachment {
    let fields = fields.replace('\n', "\r\n");
    let raw = format!(
        "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\ntext\r\n--bb\r\n{fields}\r\n\r\n%PDF\r\n--bb--\r\n"
    );
    let mut mail = parse(&Bytes::from(raw));
    assert_eq!(mail.attachments.len(), 1, "{fields}");
    mail.attachments.remove(0)
}

#[test]
fn names_of_attachments() {
    let rows: &[(&str, &str)] = &[
        // RFC 2231 in pieces.
        (
            "filename*0*=UTF-8''R%C3%BCck; filename*1*=meldung%20; filename*2=\"Mai.pdf\"",
            "Rückmeldung Mai.pdf",
        ),
        (
            "filename*2=\"Mai.pdf\"; filename*0*=UTF-8''R%C3%BCck; filename*1*=meldung%20",
            "Rückmeldung Mai.pdf",
        ),
        ("filename*1=\"b.pdf\"; filename*0=\"a\"", "ab.pdf"),
        ("filename*1=\"a\"; filename*2=\"b.pdf\"", "ab.pdf"),
        ("filename*0=\"a\"; filename*2=\"b.pdf\"", "ab.pdf"),
        ("filename*0*=R%C3%BCck; filename*1=.pdf", "Rück.pdf"),
        (
            "filename*0=\"R\"; filename*1*=utf-8''%C3%BCck.pdf",
            "Rück.pdf",
        ),
        ("filename*0*=utf-8''K%C3; filename*1*=%BChl.pdf", "Kühl.pdf"),
        (
            "filename*0*=iso-8859-1'de'K%FC; filename*1=hl.pdf",
            "Kühl.pdf",
        ),
        (
            "filename*0*=gb2312''%B4%F2%D3; filename*1*=%A1.pdf",
            "打印.pdf",
        ),
        ("filename*=UTF-8''K%C3%BChl.pdf", "Kühl.pdf"),
        ("filename*=\"UTF-8''K%C3%BChl.pdf\"", "Kühl.pdf"),
        ("filename*=utf-8'de-AT'K%C3%BChl.pdf", "Kühl.pdf"),
        ("filename*=K%C3%BChl.pdf", "Kühl.pdf"),
        ("filename*=''K%C3%BChl.pdf", "Kühl.pdf"),
        ("filename*=iso-2022-jp''%1B$BEE8%3B%1B(B.pdf", "電源.pdf"),
        ("filename=\"utf-8''K%C3%BChl.pdf\"", "Kühl.pdf"),
        ("filename*=utf-8''Gut.pdf; filename=Plain.pdf", "Gut.pdf"),
        ("filename=Plain.pdf; filename*=utf-8''Gut.pdf", "Gut.pdf"),
        (
            "filename*0*=utf-8''Gut.pdf; filename*0*=utf-8''Evil.exe",
            "Gut.pdf",
        ),
        // Encoded words, which do not belong there.
        ("filename=\"=?UTF-8?Q?K=C3=BChl.pdf?=\"", "Kühl.pdf"),
        ("filename==?utf-8?Q?K=C3=BChl.pdf?=", "Kühl.pdf"),
        (
            "filename==?utf-8?Q?K=C3=BChl;_x=3D.pdf?=; size=3",
            "Kühl; x=.pdf",
        ),
        ("filename==?utf-8?B?S8O8aGwucGRm?=;", "Kühl.pdf"),
        (
            "filename*0=\"=?UTF-8?Q?Angebot_f=C3=B\";\n filename*1=\"Cr_die_K=C3?= =?U\";\n filename*2=\"TF-8?Q?=BChlzelle=2Epdf?=\"",
            "Angebot für die Kühlzelle.pdf",
        ),
        (
            "filename*0=\"=?iso-8859-1?Q?K=FC?=\"; filename*1=\" =?iso-8859-1?Q?hl.pdf?=\"",
            "Kühl.pdf",
        ),
        (
            "filename=\"=?utf-8?Q?K=C3?=\n =?utf-8?Q?=BChl.pdf?=\"",
            "Kühl.pdf",
        ),
        // Quotes, blanks, semicolons and paths.
        ("filename=two words (final).pdf", "two words (final).pdf"),
        ("filename=two words.pdf; size=3", "two words.pdf"),
        ("filename=a;b.pdf", "a;b.pdf"),
        ("filename=a; b.pdf; size=3", "a; b.pdf"),
        ("filename=a.pdf size=3", "a.pdf"),
        ("filename=\"a.pdf\" size=3", "a.pdf"),
        ("filename=\"a;b.pdf\"; size=3", "a;b.pdf"),
        ("filename=\"a \"b\" c.pdf\"; size=3", "a \"b\" c.pdf"),
        ("filename=\"a \\\"b\\\".pdf\"", "a \"b\".pdf"),
        ("filename=\"C:\\temp\\new.pdf\"", "new.pdf"),
        ("filename=C:\\temp\\new.pdf", "new.pdf"),
        ("filename=\"open.pdf; size=3", "open.pdf"),
        ("filename = \"a.pdf\" ; size = 3", "a.pdf"),
        ("filename=\"a.pdf\" (the plan); size=3", "a.pdf"),
        ("(a comment) filename=\"a.pdf\"", "a.pdf"),
        ("FILENAME=\"a.pdf\"", "a.pdf"),
        ("filename=filename=a.pdf", "a.pdf"),
        (";; filename=a.pdf;;", "a.pdf"),
        ("filename=\"\"; filename=\"a.pdf\"", "a.pdf"),
        ("filename=\"100%.pdf\"", "100%.pdf"),
        ("filename=\"K%C3%BChl.pdf\"", "K%C3%BChl.pdf"),
        ("filename=\"Kühl.pdf\"", "Kühl.pdf"),
    ];
    check(rows, |params| {
        let params = std::str::from_utf8(params).expect("UTF-8");
        attachment(&format!("Content-Disposition: attachment; {params}")).name
    });
    let rows: &[(&str, &str)] = &[
        (
            "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment",
            "a.pdf",
        ),
        (
            "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=b.pdf",
            "b.pdf",
        ),
        (
            "Content-Type: application/pdf; name=a.pdf\nContent-Disposition: attachment; filename=\"\"",
            "a.pdf",
        ),
        (
            "Content-Type: application/pdf; name*0*=utf-8''K%C3%BC; name*1=hl.pdf\nContent-Disposition: attachment",
            "Kühl.pdf",
        ),
        ("Content-Disposition: filename=a.pdf", "a.pdf"),
        ("Content-Disposition: attachment filename=a.pdf", "a.pdf"),
        (
            "Content-Disposition: \"attachment\"; filename=a.pdf",
            "a.pdf",
        ),
        ("Content-Disposition: attachment, filename=a.pdf", "a.pdf"),
    ];
    check(rows, |fields| {
        attachment(std::str::from_utf8(fields).expect("UTF-8")).name
    });
}

/// Raw bytes in the headers of a part take the charset of the mail.
#[test]
fn raw_names_take_the_charset_of_the_mail() {
    for (label, name, expected) in [
        ("gb2312", b"\xb4\xf2\xd3\xa1.pdf".as_slice(), "打印.pdf"),
        ("koi8-r", b"\xf3\xde\xa3\xd4.pdf", "Счёт.pdf"),
        ("shift_jis", b"\x95\x5c.pdf", "表.pdf"),
        ("koi8-r", b"K\xc3\xbchl.pdf", "Kühl.pdf"),
    ] {
        let head = format!(
            "From: a@b.example\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\nContent-Type: text/plain; charset={label}\r\n\r\ntext\r\n--bb\r\nContent-Disposition: attachment; filename=\""
        );
        let raw = [head.as_bytes(), name, b"\"\r\n\r\n%PDF\r\n--bb--\r\n"].concat();
        assert_eq!(
            parse(&Bytes::from(raw)).attachments[0].name,
            expected,
            "{label}"
        );
    }
}

/// The same body in ISO-8859-2, which only the right charset reads as it was written.
#[test]
fn content_types() {
    let head = |content_type: &str| {
        let content_type = content_type.replace('\n', "\r\n");
        let raw = format!(
            "From: a@b.example\r\nContent-Type: {content_type}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=B1=E6=EA=B3<b>x</b>"
        );
        let mail = parse(&Bytes::from(raw));
        (mail.text, mail.html.is_some())
    };
    for text in [
        "text/plain; charset=iso-8859-2",
        "text/plain; charset=iso-8859-2;",
        "text/plain;charset=\"iso-8859-2\";",
        "text/plain charset=iso-8859-2",
        "text/plain; format=flowed charset=iso-8859-2",
        "text/plain; charset=iso-8859-2 format=fixed",
        "text/plain; charset=\"iso-8859-2\" format=fixed",
        "text/plain; charset=iso-8859-2 (Latin 2)",
        "text/plain (words); (more) charset=iso-8859-2",
        "text/plain; charset=charset=iso-8859-2",
        "text/plain; charset=\"charset=iso-8859-2\"",
        "text/plain; charset='iso-8859-2'",
        "text/plain; charset = iso-8859-2",
        "text/plain; charset=iso-8859-2; charset=koi8-r",
        "text/plain; charset*=us-ascii'en'iso-8859-2",
        "text/plain; charset*0=iso-; charset*1=8859-2",
        "text / plain; charset=iso-8859-2",
        "\"text/plain\"; charset=iso-8859-2",
        "TEXT/PLAIN; CHARSET=ISO-8859-2",
        "charset=iso-8859-2",
        "text; charset=iso-8859-2",
        ";charset=iso-8859-2",
        "text/plain,charset=iso-8859-2",
        "text/plain\nContent-Type: text/plain; charset=iso-8859-2",
        "x\nContent-Type: text/plain; charset=iso-8859-2",
        "text/plain; charset=iso-8859-2\nContent-Type: text/plain; charset=koi8-r",
        "text/plain; charset=iso-8859-2\nContent-Type: text/html; charset=koi8-r",
    ] {
        assert_eq!(head(text), ("ąćęł<b>x</b>".to_owned(), false), "{text}");
    }
    assert_eq!(head("text/html; charset=iso-8859-2").0, "ąćęłx");

    let twice = parse(&Bytes::from_static(
        b"From: a@b.example\r\nContent-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n\r\nwords\r\n--bb--\r\n",
    ));
    assert_eq!(twice.text, "words");
    assert!(
        twice
            .repairs
            .iter()
            .any(|repair| repair.starts_with("Content-Type is given twice"))
    );
}

/// A field beyond a limit is left out or read as far as the limit, and does not spoil the rest.
#[test]
fn limits_of_fields() {
    let disposition =
        |params: &str| attachment(&format!("Content-Disposition: attachment; {params}")).name;
    // 64 parameters.
    let filler = |count: usize| "x=y; ".repeat(count);
    assert_eq!(
        disposition(&format!("{}filename=a.pdf", filler(63))),
        "a.pdf"
    );
    assert_eq!(disposition(&format!("{}filename=a.pdf", filler(64))), "");
    // 8 KiB of one field.
    assert_eq!(
        disposition(&format!("x={}; filename=a.pdf", "y".repeat(8000))),
        "a.pdf"
    );
    assert_eq!(
        disposition(&format!("x={}; filename=a.pdf", "y".repeat(8192))),
        ""
    );

    // 64 bytes of a label.
    let subject = |label: &str| mail(format!("Subject: =?{label}?Q?=CE?=")).subject;
    assert_eq!(subject(&format!("koi8-r*{}", "e".repeat(56))), "н");
    let long = format!("koi8-r*{}", "e".repeat(57));
    assert_eq!(subject(&long), format!("=?{long}?Q?=CE?="));

    // 320 bytes of an address, 998 of an id.
    let from = |local: usize| mail(format!("From: {}@b.example", "a".repeat(local))).from;
    assert!(from(310).is_some());
    assert!(from(311).is_none());
    let id = |len: usize| mail(format!("References: <{}@b.example>", "a".repeat(len))).references;
    assert_eq!(id(988).len(), 1);
    assert_eq!(id(989).len(), 0);

    // 8 KiB of a page before its declaration.
    let page = |before: usize| {
        let raw = format!(
            "From: a@b.example\r\nContent-Type: text/html\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<!--{}--><meta charset=3Dkoi8-u>=EE=EE=EE=EE=EE=EE",
            " x".repeat(before / 2)
        );
        parse(&Bytes::from(raw))
    };
    let note = |mail: &Message| {
        mail.repairs
            .iter()
            .any(|repair| repair.starts_with("8-bit text"))
    };
    assert!(!note(&page(8000)));
    assert!(note(&page(8200)));
}
