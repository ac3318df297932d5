//! Tables of header fields that mailers break: subjects, addresses and ids, and what is read of them.

use bytes::Bytes;
use postroom_core::Message;

use crate::parse;

/// Returns a mail with these header lines, whose line ends become CRLF.
pub(crate) fn mail(fields: impl AsRef<[u8]>) -> Message {
    let mut raw = Vec::new();
    for line in fields.as_ref().split(|b| *b == b'\n') {
        raw.extend_from_slice(line);
        raw.extend_from_slice(b"\r\n");
    }
    raw.extend_from_slice(b"\r\nhello\r\n");
    parse(&Bytes::from(raw))
}

/// Compares each row and reports all that differ.
pub(crate) fn check<I: AsRef<[u8]>, T: std::fmt::Debug, R: PartialEq<T> + std::fmt::Debug>(
    rows: &[(I, T)],
    read: impl Fn(&[u8]) -> R,
) {
    let mut trouble = String::new();
    for (given, expected) in rows {
        let given = given.as_ref();
        let found = read(given);
        if found != *expected {
            trouble += &format!(
                "\n{}\n  expected {expected:?}\n  found    {found:?}",
                String::from_utf8_lossy(given)
            );
        }
    }
    assert!(trouble.is_empty(), "{trouble}");
}

fn field(name: &str, value: &[u8]) -> Vec<u8> {
    [name.as_bytes(), b": ", value].concat()
}

#[test]
fn subjects_with_broken_encoded_words() {
    let rows: &[(&[u8], &str)] = &[
        // Characters cut between words, in both encodings, and the words' charset in another case.
        (
            b"=?UTF-8?Q?Offsite_=F0=9F?=\n =?UTF-8?Q?=9A=A8?=",
            "Offsite 🚨",
        ),
        (b"=?utf-8?B?8J8=?= =?UTF-8?B?mqg=?=", "🚨"),
        (b"=?utf-8?Q?K=C3?= =?UTF8?B?vGhs?=", "Kühl"),
        (b"=?UTF-8*de?Q?K=C3?= =?utf-8*EN?Q?=BChl?=", "Kühl"),
        (b"=?utf-8?Q?=ED=A0=BD?= =?utf-8?Q?=ED=BA=A8?= ok", "🚨 ok"),
        (b"=?utf-7?Q?+2D0-?= =?utf-7?Q?+3qg-?=", "🚨"),
        (
            b"=?gb2312?B?tPI=?= =?GB2312?B?06G7?= =?gb2312?B?+g==?=",
            "打印机",
        ),
        (b"=?big5?Q?=A5=B4=A6?= =?big5?Q?L?=", "打印"),
        (
            b"=?shift_jis?Q?=83v=83=8A=83=93=83?= =?shift_jis?Q?^=81[?=",
            "プリンター",
        ),
        (
            b"=?ISO-2022-JP?B?GyRCRUU=?= =?ISO-2022-JP?B?ODsbKEI=?=",
            "電源",
        ),
        (b"=?iso-2022-jp?Q?=1B$BEE8;=1B(B?= A4", "電源 A4"),
        (b"=?iso-2022-kr?B?GyQpQw49OkQ1Dw==?=", "스캔"),
        // Base64 cut anywhere, with odd padding, or without any.
        (
            b"=?utf-8?B?U3TDtnJ1bmc6IEvDvGhsc?=\n =?utf-8?B?mF1bQ?=",
            "Störung: Kühlraum",
        ),
        (
            b"=?utf-8?B?U3TD?= =?utf-8?B?tnJ1bm?= =?utf-8?B?c=?=",
            "Störung",
        ),
        (b"=?utf-8?B?YWI?= =?utf-8?B?Y2Q?=", "abcd"),
        (b"=?utf-8?B?YWI==?= =?utf-8?B?Y2Q===?=", "abcd"),
        (b"=?utf-8?B?U3TD tnI=?=", "Stör"),
        (b"=?utf-8?B?U3TDtnI=?= =?utf-8?Q?_x?=", "Stör x"),
        (
            b"=?iso-8859-1?B?U3T2cn?= =?iso-8859-1?B?VuZw==?=",
            "Störung",
        ),
        // Words without blanks between or around them, with blanks inside, or without an end.
        (b"=?utf-8?Q?a=C3=A4?==?utf-8?Q?b?=", "aäb"),
        (b"=?utf-8?Q?a=C3=A4?=?utf-8?Q?b?=", "aäb"),
        (b"x=?utf-8?Q?=C3=A4?=y", "xäy"),
        (b"Re:=?utf-8?Q?_=C3=A4?=", "Re: ä"),
        (b"(=?utf-8?Q?=C3=A4?=)", "(ä)"),
        (b"\"=?utf-8?Q?=C3=A4?=\"", "\"ä\""),
        (b"=?utf-8?Q?two words =C3=A4?=", "two words ä"),
        (b"=?utf-8?Q?St=C3=B6r\n ung?=", "Stör ung"),
        (b"=?utf-8?Q?St=C3=B6rung", "Störung"),
        (b"=?utf-8?Q?St=C3=B6rung?", "Störung"),
        (b"=?utf-8?B?U3TDtnJ1bmc=?", "Störung"),
        (b"=?utf-8?B?U3TDtnJ1bmc=", "Störung"),
        (
            b"=?utf-8?Q?St=C3=B6rung =?utf-8?Q?_Halle?=",
            "Störung Halle",
        ),
        (b"=?utf-8?Q?Wirklich?=20neu=3F?= ja", "Wirklich? neu? ja"),
        (b"=?utf-8?Q?Angebot?=2024", "Angebot2024"),
        (b"=?utf-8?q?=c3=a4?= =?utf-8?b?w6Q=?=", "ää"),
        (b"=?utf-8?Q?=C3=A4?=  plain", "ä  plain"),
        (b"=?UTF-8?Q?100=25_=3D=3F?=", "100% =?"),
        // Odd labels.
        (b"=?\"utf-8\"?Q?=C3=A4?=", "ä"),
        (b"=?utf-8 ?Q?=C3=A4?=", "ä"),
        (b"=??Q?=C3=A4?=", "ä"),
        (b"=?us-ascii?Q?=C3=A4?=", "ä"),
        (b"=?x-unknown?Q?T=FCr?=", "Tür"),
        (b"=?unknown-8bit?Q?T=FCr?=", "Tür"),
        (b"=?utf-8?Q?T=FCr?=", "Tür"),
        (b"=?iso-8859-1?Q?M=C3=BCller?=", "Müller"),
        (b"=?iso-8859-1?Q?=935_=80=94?=", "“5 €”"),
        (b"=?utf-16?B?//5BAOQA?=", "Aä"),
        // What is no word stays as it is.
        (b"=?utf-8?X?abc?=", "=?utf-8?X?abc?="),
        (b"=?= 50% =?", "=?= 50% =?"),
        (b"a =? b ?= c", "a =? b ?= c"),
        // Raw bytes.
        ("Störung 🚨".as_bytes(), "Störung 🚨"),
        (
            b"St\xf6rung in der K\xfchlzelle",
            "Störung in der Kühlzelle",
        ),
        (b"\x1b$BEE8;\x1b(B A4", "電源 A4"),
        (b"Gr\xc3\xbc\xc3\x9fe, T\xfcr", "Grüße, Tür"),
    ];
    check(rows, |value| mail(field("Subject", value)).subject);
}

/// Raw bytes above 127 in headers are in the charset of the mail, else of its first part that states one, else a guess from
/// all headers together.
#[test]
fn raw_headers_take_the_charset_of_the_mail() {
    let subject = |top: &[u8], body: &[u8]| {
        let raw = [top, b"\r\n\r\n", body].concat();
        parse(&Bytes::from(raw)).subject
    };
    let koi8 = b"Subject: \xee\xc5 \xd0\xc5\xde\xc1\xd4\xc1\xc5\xd4\r\nContent-Type: ";
    assert_eq!(
        subject(
            &[koi8.as_slice(), b"text/plain; charset=koi8-r"].concat(),
            b"x"
        ),
        "Не печатает"
    );
    assert_eq!(
        subject(
            &[koi8.as_slice(), b"multipart/mixed; boundary=b"].concat(),
            b"--b\r\nContent-Type: text/plain;\r\n\tCharset=\"KOI8-R\"\r\n\r\nx\r\n--b--\r\n"
        ),
        "Не печатает"
    );
    let gbk = b"Subject: \xb4\xf2\xd3\xa1\xbb\xfa\xbb\xb5\xc1\xcb\xa3\xac\xc7\xeb\xd0\xde\xc0\xed\r\nContent-Type: text/plain; charset=";
    assert_eq!(
        subject(&[gbk.as_slice(), b"gb2312"].concat(), b"x"),
        "打印机坏了，请修理"
    );
    // The stated charset cannot hold raw bytes, or these are not in it.
    for wrong in ["utf-8", "us-ascii", "iso-2022-jp"] {
        assert_eq!(
            subject(&[gbk.as_slice(), wrong.as_bytes()].concat(), b"x"),
            "打印机坏了，请修理",
            "{wrong}"
        );
    }
    // UTF-8 is UTF-8, whatever is stated.
    let utf8 = "Subject: Störung\r\nContent-Type: text/plain; charset=koi8-r";
    assert_eq!(subject(utf8.as_bytes(), b"x"), "Störung");
}

#[test]
fn senders() {
    let rows: &[(&[u8], &str)] = &[
        // Comments.
        (
            b"Nora Weiss <nora@quill.example (Quill, Werk 2)>",
            "Nora Weiss <nora@quill.example>",
        ),
        (
            b"nora@quill.example (Nora (Werk) Weiss)",
            "Nora (Werk) Weiss <nora@quill.example>",
        ),
        (
            b"(one) Nora (two) Weiss <(three)nora(four)@(five)quill.example>",
            "Nora Weiss <nora@quill.example>",
        ),
        (
            b"Nora <nora@quill.example> (a > b)",
            "Nora <nora@quill.example>",
        ),
        (
            b"nora (open <nora@quill.example>",
            "nora open <nora@quill.example>",
        ),
        (
            b"(=?utf-8?Q?J=C3=B6rg?=) j@quill.example",
            "Jörg <j@quill.example>",
        ),
        // Groups.
        (
            b"Shift: Nora Weiss <nora@quill.example>, Jan <jan@quill.example>;",
            "Nora Weiss <nora@quill.example>",
        ),
        (b"Shift: nora@quill.example", "nora@quill.example"),
        (b"All: Shift: nora@quill.example;;", "nora@quill.example"),
        (b"undisclosed:;, nora@quill.example", "nora@quill.example"),
        // Local parts.
        (
            b"\"werk2@halle\"@quill.example",
            "\"werk2@halle\"@quill.example",
        ),
        (
            b"Halle <\"werk 2\"@quill.example>",
            "Halle <\"werk 2\"@quill.example>",
        ),
        (
            b"Halle <\"a>b\"@quill.example>",
            "Halle <\"a>b\"@quill.example>",
        ),
        (b"\"nora.weiss\"@quill.example", "nora.weiss@quill.example"),
        (b"\"nora.\"@quill.example", "\"nora.\"@quill.example"),
        (b"FacilityTeam@QUILL.example", "FacilityTeam@quill.example"),
        (
            b"nora..weiss.@docomo.example",
            "nora..weiss.@docomo.example",
        ),
        (b"n'ora+x=y/z@quill.example", "n'ora+x=y/z@quill.example"),
        // One broken address does not spoil the others.
        (
            b"FacilityTeam@quill.example, \"Reply-To:quill\"@quill.example",
            "FacilityTeam@quill.example",
        ),
        (b"@@@, <>, nora@quill.example", "nora@quill.example"),
        (b"<Nora, nora@quill.example>", "nora@quill.example"),
        // Routes, schemes, and punctuation around.
        (
            b"Nora <@a.example,@b.example:nora@quill.example>",
            "Nora <nora@quill.example>",
        ),
        (
            b"Nora <mailto:nora@quill.example>",
            "Nora <nora@quill.example>",
        ),
        (b"mailto:nora@quill.example", "nora@quill.example"),
        (b"Nora <nora@quill.example.>", "Nora <nora@quill.example>"),
        (b"nora@quill.example;", "nora@quill.example"),
        (b"Nora [nora@quill.example]", "Nora <nora@quill.example>"),
        (b"Nora <[nora@quill.example]>", "Nora <nora@quill.example>"),
        (b"'nora@quill.example'", "nora@quill.example"),
        (b"<'nora@quill.example'>", "nora@quill.example"),
        (b"<\"nora@quill.example\">", "nora@quill.example"),
        (b"\"nora@quill.example\"", "nora@quill.example"),
        (b"Nora <nora @ quill.example>", "Nora <nora@quill.example>"),
        (b"Nora <nora@quill.example", "Nora <nora@quill.example>"),
        (
            b"Nora <nora@quill.example, Jan <jan@quill.example>",
            "Nora <nora@quill.example>",
        ),
        (b"Nora <<nora@quill.example>>", "Nora <nora@quill.example>"),
        (b"Nora < <nora@quill.example>", "Nora <nora@quill.example>"),
        (
            b"Nora <Weiss> <nora@quill.example>",
            "Nora <nora@quill.example>",
        ),
        (b"nora@quill.example <>", "nora@quill.example"),
        (b"<Nora Weiss nora@quill.example>", "nora@quill.example"),
        // Names.
        (
            b"\"a@b.example\" <nora@quill.example>",
            "a@b.example <nora@quill.example>",
        ),
        (
            b"a@b.example <nora@quill.example>",
            "a@b.example <nora@quill.example>",
        ),
        (
            b"Weiss, Nora <nora@quill.example>",
            "Weiss, Nora <nora@quill.example>",
        ),
        (
            b"=?utf-8?Q?Wei=C3=9F,_Nora_<x>_=22y=22?= <nora@quill.example>",
            "Weiß, Nora <x> \"y\" <nora@quill.example>",
        ),
        (
            b"\"=?utf-8?Q?Wei=C3=9F=2C_Nora?=\" <nora@quill.example>",
            "Weiß, Nora <nora@quill.example>",
        ),
        (
            b"=?utf-8?Q?Wei?=\n =?utf-8?Q?=C3=9F?= <nora@quill.example>",
            "Weiß <nora@quill.example>",
        ),
        (
            b"=?utf-8?Q?Wei=C3=9F?=<nora@quill.example>",
            "Weiß <nora@quill.example>",
        ),
        (
            b"\"Nora \\\"N\\\" Weiss\" <nora@quill.example>",
            "Nora \"N\" Weiss <nora@quill.example>",
        ),
        (
            b"\"Nora Weiss <nora@quill.example>",
            "Nora Weiss <nora@quill.example>",
        ),
        (
            b"Nora \"Weiss <nora@quill.example>",
            "Nora Weiss <nora@quill.example>",
        ),
        (
            b"J\xf6rg M\xfcller <j@quill.example>",
            "Jörg Müller <j@quill.example>",
        ),
        (
            b"\x1b$BAmL3It\x1b(B <m@kawabe.example>",
            "総務部 <m@kawabe.example>",
        ),
        // Addresses in encoded words.
        (b"=?utf-8?Q?nora=40quill.example?=", "nora@quill.example"),
        (
            b"Nora <=?utf-8?Q?nora=40quill.example?=>",
            "Nora <nora@quill.example>",
        ),
        (
            b"=?utf-8?Q?Wei=C3=9F_<nora=40quill.example>,_Jan_<jan=40quill.example>?=",
            "Weiß <nora@quill.example>",
        ),
        (
            b"=?utf-8?Q?boss=40acme.example?= <nora@quill.example>",
            "boss@acme.example <nora@quill.example>",
        ),
        // Domains and local parts beyond ASCII, literals.
        ("jörg@bücher.example".as_bytes(), "jörg@bücher.example"),
        (b"j@XN--BCHER-KVA.example", "j@xn--bcher-kva.example"),
        (b"root@[192.0.2.1]", "root@[192.0.2.1]"),
        (b"root@[IPv6:2001:db8::1]", "root@[ipv6:2001:db8::1]"),
        // No address.
        (b"MAILER-DAEMON (Mail Delivery System)", ""),
        (b"MAILER-DAEMON", ""),
        (b"<>", ""),
        (b"", ""),
    ];
    check(rows, |value| {
        let mail = mail(field("From", value));
        mail.from.map_or_else(String::new, |from| from.to_string())
    });
}

#[test]
fn every_recipient_is_read() {
    let rows: &[(&[u8], &[&str])] = &[
        (
            b"Shop: a@larch.example, B <b@larch.example>;, solo@larch.example",
            &[
                "a@larch.example",
                "B <b@larch.example>",
                "solo@larch.example",
            ],
        ),
        (
            b"a@larch.example; b@larch.example;",
            &["a@larch.example", "b@larch.example"],
        ),
        (
            b"a@larch.example,, ,b@larch.example,",
            &["a@larch.example", "b@larch.example"],
        ),
        (
            b"A <a@larch.example, B <b@larch.example>, c@larch.example",
            &[
                "A <a@larch.example>",
                "B <b@larch.example>",
                "c@larch.example",
            ],
        ),
        (
            b"=?utf-8?Q?a=40larch.example,_B_<b=40larch.example>?=, c@larch.example",
            &["a@larch.example", "B <b@larch.example>", "c@larch.example"],
        ),
        (b"undisclosed-recipients:;", &[]),
        (
            b"\"open <a@larch.example>, b@larch.example",
            &["open <a@larch.example>", "b@larch.example"],
        ),
    ];
    check(rows, |value| {
        let mail = mail(field("To", value));
        mail.to.iter().map(ToString::to_string).collect::<Vec<_>>()
    });
}

#[test]
fn sender_stands_in_for_an_unreadable_from() {
    let note = "no address could be read from From: the one of Sender is used";
    for from in [
        "",
        "From: MAILER-DAEMON\n",
        "From: <>\n",
        "From: the printer\n",
    ] {
        let mail = mail(format!("{from}Sender: Scan <scan@quill.example>"));
        assert_eq!(
            mail.from.expect("a sender").to_string(),
            "Scan <scan@quill.example>"
        );
        assert!(mail.repairs.iter().any(|repair| repair == note), "{from}");
    }
    let both = mail("Sender: scan@quill.example\nFrom: nora@quill.example");
    assert_eq!(both.from.expect("a sender").email, "nora@quill.example");
    assert!(!both.repairs.iter().any(|repair| repair.contains("Sender")));

    let twice = mail("From: unreadable\nFrom: nora@quill.example\nFrom: jan@quill.example");
    assert_eq!(twice.from.expect("a sender").email, "nora@quill.example");
    assert!(
        twice
            .repairs
            .iter()
            .any(|repair| repair == "From is given twice: the first is used")
    );
}

#[test]
fn own_message_ids() {
    let rows: &[(&[u8], &str)] = &[
        (b"<a1@quill.example>", "a1@quill.example"),
        (
            b"=?utf-8?q?=3CwQ7=3D=3D=40?=\n =?utf-8?q?quill=2Eexample=3E?=",
            "wQ7==@quill.example",
        ),
        (
            b"=?us-ascii?Q?<a1@quill?= =?us-ascii?Q?.example>?=",
            "a1@quill.example",
        ),
        (b"<\n a1@quill.example>", "a1@quill.example"),
        (b"<a1@quill\n .example>", "a1@quill.example"),
        (b"<a1 @quill.example>", "a1@quill.example"),
        (b"a1@quill.example", "a1@quill.example"),
        (b"a1@quill.example>", "a1@quill.example"),
        (b"<a1@quill.example", "a1@quill.example"),
        (b"<<a1@quill.example>>", "a1@quill.example"),
        (b"< <a1@quill.example>", "a1@quill.example"),
        (b"(first) <a1@quill.example> (last)", "a1@quill.example"),
        (b"<a1@quill.example (a comment)>", "a1@quill.example"),
        (b"<a1@quill.example>,", "a1@quill.example"),
        (b"<a1@quill.example> <a2@quill.example>", "a1@quill.example"),
        (b"<>\nMessage-ID: <a2@quill.example>", "a2@quill.example"),
        (b"<a1>", "a1"),
        (b"4711", "4711"),
        (b"(x) 4711", "4711"),
        (b"<A1@Quill.example>", "A1@Quill.example"),
        (b"<[a1]@[192.0.2.1]>", "[a1]@[192.0.2.1]"),
        (b"<\"a b\"@quill.example>", "\"ab\"@quill.example"),
    ];
    check(rows, |value| {
        let fields = field("Message-ID", value);
        let alone = postroom_core::message_id(&fields);
        let mail = mail(fields);
        assert_eq!(alone.as_deref(), Some(&*mail.message_id));
        mail.message_id
    });
}

#[test]
fn references_in_their_order() {
    let rows: &[(&str, &[&str])] = &[
        (
            "In-Reply-To: <7@larch.example>\nReferences: <1@larch.example> <4@larch.example> <7@larch.example>",
            &["7@larch.example", "4@larch.example", "1@larch.example"],
        ),
        (
            "In-Reply-To: =?utf-8?q?=3C7=40larch=2Eexample=3E?=\nReferences: =?us-ascii?Q?<1@larch.exam?=\n =?us-ascii?Q?ple>_<4@larch.example>?=\n <7@larch.example>",
            &["7@larch.example", "4@larch.example", "1@larch.example"],
        ),
        (
            "References: =?utf-8?Q?=3C1=40larch=2Eexample=3E=2C=3C4=40larch=2Eexam?=\n =?utf-8?Q?ple=3E?=",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example>,<4@larch.example>, <7@larch.example>",
            &["7@larch.example", "4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example><4@larch.example>",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: 1@larch.example 4@larch.example",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: 1@larch.example,4@larch.example;7@larch.example",
            &["7@larch.example", "4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example, 4@larch.example>",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example 4@larch.example>",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example> (the first)\n <4@larch.example (x)>",
            &["4@larch.example", "1@larch.example"],
        ),
        ("References: <1@larch.exam\n ple>", &["1@larch.example"]),
        (
            "References: <1@larch.example\n <4@larch.example>",
            &["4@larch.example", "1@larch.example"],
        ),
        (
            "References: <1@larch.example>\nReferences: <4@larch.example>",
            &["4@larch.example", "1@larch.example"],
        ),
        ("In-Reply-To: <\n  <7@larch.example>", &["7@larch.example"]),
        ("In-Reply-To: <<7@larch.example>>", &["7@larch.example"]),
        (
            "In-Reply-To: message from Nora of Monday <7@larch.example>",
            &["7@larch.example"],
        ),
        (
            "In-Reply-To: <7@larch.example> (nora@quill.example's message of Mon)",
            &["7@larch.example"],
        ),
        (
            "In-Reply-To: <7@larch.example> from nora@quill.example",
            &["7@larch.example"],
        ),
        (
            "In-Reply-To: nora@quill.example's message of \"Mon, 4 Mar\" <7@larch.example>",
            &["7@larch.example"],
        ),
        (
            "In-Reply-To: Your message of Monday from nora@quill.example",
            &[],
        ),
        (
            "In-Reply-To: message 7.41@larch.example from Nora of Monday",
            &["7.41@larch.example"],
        ),
        ("In-Reply-To: 7@larch.example", &["7@larch.example"]),
        (
            "In-Reply-To: <7@larch.example> <8@larch.example>",
            &["7@larch.example", "8@larch.example"],
        ),
        ("In-Reply-To: <>", &[]),
        ("In-Reply-To: ", &[]),
    ];
    check(rows, |fields| mail(fields).references);
}

/// A page's own declaration comes after the label of its part, and before a guess.
#[test]
fn pages_declare_their_charset() {
    let page = |label: &str, declaration: &str| {
        let raw = format!(
            "From: a@b.example\r\nContent-Type: text/html{label}\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n<html><head>{}</head><body>=B1=E6=EA=B3</body></html>",
            declaration.replace('=', "=3D")
        );
        parse(&Bytes::from(raw)).text
    };
    for declaration in [
        "<meta charset=iso-8859-2>",
        "<META CHARSET='ISO-8859-2' />",
        "<meta name=x><meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-2\">",
        "<meta content='text/html;charset=latin2' http-equiv='content-type'>",
        "<?xml version=\"1.0\" encoding=\"iso-8859-2\"?>",
    ] {
        for label in [
            "",
            "; charset=utf-8",
            "; charset=us-ascii",
            "; charset=x-unknown",
        ] {
            assert_eq!(page(label, declaration), "ąćęł", "{label} {declaration}");
        }
        assert_eq!(
            page("; charset=koi8-r", declaration),
            "╠ФЙЁ",
            "{declaration}"
        );
    }
    assert_eq!(
        page("; charset=iso-8859-2", "<meta charset=koi8-r>"),
        "ąćęł"
    );
}

/// The detector reads 512 KiB of one mail at most; what comes after is read as windows-1252.
#[test]
fn guesses_are_limited() {
    let guessed = |fillers: usize| {
        let mut raw =
            b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n".to_vec();
        for _ in 0..fillers {
            raw.extend_from_slice(b"--bb\r\n\r\n");
            raw.extend(b"\xe4 \xf6 \xfc aber ".repeat(2000));
            raw.extend_from_slice(b"\r\n");
        }
        raw.extend_from_slice(b"--bb\r\n\r\n\xef\xf0\xe8\xed\xf2\xe5\xf0 \xec\xee\xeb\xf7\xe8\xf2 \xf1 \xf3\xf2\xf0\xe0\r\n--bb--\r\n");
        parse(&Bytes::from(raw))
            .text
            .ends_with("принтер молчит с утра")
    };
    assert!(guessed(1));
    assert!(guessed(31));
    assert!(!guessed(33));
}
