//! Hostile containers of mails and parts: each is opened within the limits of its mail, and multiplies no work.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use postroom_core::{Attachment, OverLimit, ParseLimits, attached_mail};

use crate::hostile::{repaired, soon, with_head};

/// Large enough that work done several times shows, and small enough for a test.
const LARGE: usize = 8 * 1024 * 1024;

fn base64_lines(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() / 3 * 4 + bytes.len() / 28 + 4);
    for line in bytes.chunks(57) {
        STANDARD.encode_string(line, &mut out);
        out.push_str("\r\n");
    }
    out
}

fn tagged(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len() as u32;
    [&[tag, 0x84][..], &length.to_be_bytes(), content].concat()
}

/// Returns an opaque S/MIME signature over content in one octet string.
fn signed(content: &[u8]) -> Vec<u8> {
    signed_octets(&tagged(0x04, content))
}

fn signed_octets(octets: &[u8]) -> Vec<u8> {
    let oid = |last: u8| {
        tagged(
            0x06,
            &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, last],
        )
    };
    let inner = tagged(0x30, &[oid(1), tagged(0xa0, octets)].concat());
    let data = [tagged(0x02, &[1]), tagged(0x31, &[]), inner].concat();
    let data = tagged(0xa0, &tagged(0x30, &data));
    tagged(0x30, &[oid(2), data].concat())
}

const SIGNED_HEAD: &str = "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m";

fn mail_of(content_type: &str, body: &[u8]) -> Bytes {
    [with_head(content_type, "").as_bytes(), body]
        .concat()
        .into()
}

fn attribute(level: u8, id: u16, value: &[u8]) -> Vec<u8> {
    let length = value.len() as u32;
    let mut out = vec![level];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(value);
    out.extend_from_slice(&[0, 0]);
    out
}

fn tnef(attributes: &[u8]) -> Vec<u8> {
    [&[0x78, 0x9f, 0x3e, 0x22, 1, 0][..], attributes].concat()
}

fn tnef_attachment(name: &str, data: &[u8]) -> Vec<u8> {
    [
        attribute(2, 0x9002, &[0; 14]),
        attribute(2, 0x8010, name.as_bytes()),
        attribute(2, 0x800f, data),
    ]
    .concat()
}

/// Returns a message property list with one binary property.
fn binary_property(id: u16, value: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 0, 0, 0, 0x02, 0x01];
    out.extend_from_slice(&id.to_le_bytes());
    out.extend_from_slice(&1u32.to_le_bytes());
    out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// Returns compressed RTF that grows to nine times its size.
fn rtf_bomb(size: usize) -> Vec<u8> {
    let mut out = vec![0, 0, 0, 0, 0xff, 0xff, 0xff, 0x7f];
    out.extend_from_slice(b"LZFu\0\0\0\0");
    let mut group = vec![0xff];
    group.extend_from_slice(&[0x00, 0x1f].repeat(8));
    out.extend_from_slice(&group.repeat(size / group.len()));
    out
}

#[test]
fn signatures_within_signatures() {
    let mut body = b"Content-Type: text/plain\r\n\r\nat the bottom".to_vec();
    for _ in 0..100 {
        let head = format!("Content-Type: {SIGNED_HEAD}\r\n\r\n");
        body = [head.as_bytes(), &signed(&body)].concat();
    }
    let mail = soon("S/MIME in S/MIME", mail_of(SIGNED_HEAD, &signed(&body)));
    assert_eq!(mail.over_limit, Some(OverLimit::Depth { most: 32 }));
    assert_eq!(mail.attachments.len(), 1);
}

#[test]
fn signatures_in_many_pieces() {
    let pieces = [4, 1, b'x'].repeat(LARGE / 3);
    let body = signed_octets(&tagged(0x24, &pieces));
    let mail = soon("pieces", mail_of(SIGNED_HEAD, &body));
    assert_eq!(mail.attachments.len(), 1, "it is no MIME entity");

    for endless in [&[0x24, 0x80][..], &[0x30, 0x80], &[0x24, 0x80, 4, 0]] {
        let body = signed_octets(&endless.repeat(LARGE / endless.len()));
        soon("endless", mail_of(SIGNED_HEAD, &body));
        soon(
            "endless",
            mail_of(SIGNED_HEAD, &endless.repeat(LARGE / endless.len())),
        );
    }
}

#[test]
fn tnef_within_tnef() {
    let mut stream = tnef(&attribute(1, 0x800c, b"at the bottom"));
    for _ in 0..500 {
        stream = tnef(&tnef_attachment("winmail.dat", &stream));
    }
    let mail = soon("TNEF in TNEF", mail_of("application/ms-tnef", &stream));
    assert_eq!(mail.over_limit, Some(OverLimit::Depth { most: 32 }));
    assert_eq!(mail.attachments.len(), 1);
}

#[test]
fn mails_embedded_in_tnef() {
    let mut stream = tnef(&attribute(1, 0x800c, b"at the bottom"));
    stream.extend_from_slice(&tnef_attachment("large.bin", &vec![0; LARGE / 4]));
    for _ in 0..20 {
        let mut object = vec![0; 16];
        object.extend_from_slice(&stream);
        let mut properties = vec![2, 0, 0, 0];
        properties.extend_from_slice(&[0x03, 0, 0x05, 0x37, 5, 0, 0, 0]);
        let mut rest = binary_property(0x3701, &object)[4..].to_vec();
        rest[..2].copy_from_slice(&[0x0d, 0]);
        properties.extend_from_slice(&rest);
        stream = tnef(
            &[
                attribute(2, 0x9002, &[0; 14]),
                attribute(2, 0x9005, &properties),
            ]
            .concat(),
        );
    }
    let mail = soon("mails in TNEF", mail_of("application/ms-tnef", &stream));
    assert_eq!(mail.attachments.len(), 1);
    let attachment = &mail.attachments[0];
    assert_eq!(attachment.content_type, "message/rfc822");
    assert!(attachment.bytes.len() < stream.len() * 2);
    assert!(attached_mail(attachment, &ParseLimits::default()).is_some());
}

#[test]
fn tnef_of_many_attachments() {
    let attachments = tnef_attachment("a", b"").repeat(10_000);
    let mail = soon(
        "attachments",
        mail_of("application/ms-tnef", &tnef(&attachments)),
    );
    assert_eq!(mail.attachments.len(), 1000);
    assert_eq!(mail.over_limit, Some(OverLimit::Parts { most: 1000 }));
    let properties = attribute(1, 0x9003, &[0xff; 64]).repeat(LARGE / 75);
    soon(
        "properties",
        mail_of("application/ms-tnef", &tnef(&properties)),
    );
}

#[test]
fn rtf_that_grows() {
    let one = tnef(&attribute(
        1,
        0x9003,
        &binary_property(0x1009, &rtf_bomb(LARGE)),
    ));
    let mail = soon("RTF", mail_of("application/ms-tnef", &one));
    assert!(mail.text.len() <= ParseLimits::default().text_bytes);

    let small = tnef(&attribute(
        1,
        0x9003,
        &binary_property(0x1009, &rtf_bomb(8000)),
    ));
    let mut body = Vec::new();
    for _ in 0..900 {
        body.extend_from_slice(b"--b\r\nContent-Type: application/ms-tnef\r\n\r\n");
        body.extend_from_slice(&small);
        body.extend_from_slice(b"\r\n");
    }
    soon("many RTF", mail_of("multipart/mixed; boundary=b", &body));
}

#[test]
fn multiparts_encoded_within_each_other() {
    for encoding in ["base64", "quoted-printable"] {
        let mut body = "--b0\r\n\r\nat the bottom\r\n--b0--\r\n".to_owned();
        let mut levels = 0;
        while body.len() < LARGE && levels < 40 {
            let encoded = match encoding {
                "base64" => base64_lines(body.as_bytes()),
                _ => body.replace('=', "=3D").replace("--b", "=2D-b"),
            };
            let outer = levels + 1;
            body = format!(
                "--b{outer}\r\nContent-Type: multipart/mixed; boundary=b{levels}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{encoded}\r\n--b{outer}--\r\n"
            );
            levels = outer;
        }
        let head = format!("multipart/mixed; boundary=b{levels}");
        let mail = soon(encoding, with_head(&head, &body));
        assert!(mail.over_limit.is_some(), "{encoding} at {levels} levels");
    }
}

#[test]
fn boundaries_to_guess() {
    let part = "--x\r\nContent-Type: multipart/mixed; boundary=no\r\n\r\n";
    for body in [
        part.repeat(LARGE / part.len()),
        "--x\r\n".repeat(LARGE / 5),
        "--x\r\n\r\n".repeat(LARGE / 7),
        format!("{}{}", part.repeat(40), "\r\n--\r\n".repeat(LARGE / 6)),
    ] {
        soon(
            "guesses",
            with_head("multipart/mixed; boundary=never", &body),
        );
        soon("guesses", with_head("multipart/mixed", &body));
        soon("guesses", format!("Subject: x\r\n\r\n{body}"));
    }
}

#[test]
fn files_in_uuencode() {
    let mail = soon(
        "beginnings",
        with_head("text/plain", &"begin 644 a.txt\r\n".repeat(1_000_000)),
    );
    assert_eq!(mail.attachments.len(), 0);
    let mail = soon(
        "files",
        with_head(
            "text/plain",
            &"begin 644 a.txt\r\n#0V%T\r\n`\r\nend\r\n".repeat(100_000),
        ),
    );
    assert_eq!(mail.attachments.len(), 999);
    assert!(repaired(&mail, "parts after the first 1000"));
    assert_eq!(mail.over_limit, Some(OverLimit::Parts { most: 1000 }));
}

#[test]
fn a_hundred_thousand_attendees() {
    let mut calendar =
        "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:All\r\n".to_owned();
    for n in 0..100_000 {
        let _ = write!(calendar, "ATTENDEE:mailto:a{n}@b.example\r\n");
    }
    let mail = soon("attendees", with_head("text/calendar", &calendar));
    let calendar = mail.calendar.expect("the event");
    assert_eq!(calendar.attendees.len(), ParseLimits::default().addresses);
    assert!(mail.text.ends_with(" and 480 more\n"), "{}", mail.text);
    for piece in [
        "ATTENDEE:\r\n ",
        "\r\n ",
        "BEGIN:VEVENT\r\n",
        "A;B=\"",
        "\\",
    ] {
        let body = format!("BEGIN:VEVENT\r\n{}", piece.repeat(LARGE / piece.len()));
        soon(piece, with_head("text/calendar", &body));
    }
}

#[test]
fn flowed_lines_and_references() {
    for piece in [">", "> \r\n", "a \r\n", " ", "-- \r\n"] {
        let body = piece.repeat(LARGE / piece.len());
        let mail = soon(
            piece,
            with_head("text/plain; format=flowed; delsp=yes", &body),
        );
        assert!(mail.text.len() <= ParseLimits::default().text_bytes);
    }
    for piece in ["cid:", "src=", "<img src=\"cid:a", "&amp;%41"] {
        let mut body = format!(
            "--b\r\nContent-Type: text/html\r\n\r\n<img src=\"{}\r\n",
            piece.repeat(2_000_000 / piece.len())
        );
        for n in 0..900 {
            let _ = write!(
                body,
                "--b\r\nContent-Type: image/png\r\nContent-ID: <{n}>\r\n\r\n\r\n"
            );
        }
        soon(piece, with_head("multipart/related; boundary=b", &body));
    }
}

/// A file whose tables are damaged at any place is read or refused, and ends.
#[test]
fn damaged_msg_files() {
    let file = std::fs::read(crate::cases().join("../msg/with-attachments.msg"))
        .expect("tests/cases/msg/with-attachments.msg");
    let open = |bytes: Vec<u8>| {
        let attachment = Attachment {
            name: "mail.msg".to_owned(),
            content_type: "application/vnd.ms-outlook".to_owned(),
            charset: None,
            inline: false,
            content_id: None,
            bytes: bytes.into(),
        };
        attached_mail(&attachment, &ParseLimits::default())
    };
    assert!(open(file.clone()).is_some());
    for end in (0..file.len()).step_by(61) {
        open(file[..end].to_vec());
    }
    for at in (0..file.len()).step_by(3) {
        let mut damaged = file.clone();
        damaged[at] = damaged[at].wrapping_add(1 + (at % 250) as u8);
        open(damaged);
    }
}
