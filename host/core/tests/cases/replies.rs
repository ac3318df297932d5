//! tests/cases/reply/replies.txt: texts of many mailers and languages, and the new words in each.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;

use crate::parse;

#[test]
fn replies_are_read_as_expected() {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/reply/replies.txt");
    let table = std::fs::read_to_string(&path).expect("replies.txt can be read");
    let mut trouble = String::new();
    let mut count = 0;
    for case in table.split("\n@@ ").skip(1).collect::<Vec<_>>().chunks(2) {
        let [mail, expected] = case else {
            panic!("a case has a text and what is expected: {case:?}");
        };
        let (head, text) = mail.split_once('\n').expect("a text");
        let mut fields = head.split(" | ");
        let mut field = || {
            fields
                .next()
                .unwrap_or_else(|| panic!("three fields: {head}"))
        };
        let (name, kind, subject) = (field(), field(), field());
        let reply_to = match kind {
            "reply" => "In-Reply-To: <note-41.7@larch.example>\n",
            "mail" => "",
            other => panic!("reply or mail, not {other}: {name}"),
        };
        let raw = format!(
            "From: Nora Weiss <nora.weiss@quill.example>\nTo: Larch Help Desk <help@larch.example>\nSubject: {subject}\n\
             {reply_to}Message-ID: <1@quill.example>\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        );
        let expected = match expected.split_once('\n').unwrap_or((expected, "")) {
            ("expected all", _) => text.trim(),
            ("expected", words) => words.trim(),
            (other, _) => panic!("expected, not {other}: {name}"),
        };
        let found = parse(&Bytes::from(raw)).reply;
        if found != expected {
            let _ = writeln!(
                trouble,
                "{name}\n  expected {expected:?}\n  found    {found:?}"
            );
        }
        count += 1;
    }
    assert!(count > 100, "{count} cases");
    assert!(trouble.is_empty(), "\n{trouble}");
}
