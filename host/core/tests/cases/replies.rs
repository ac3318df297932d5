//! tests/cases/reply: texts of many mailers and languages, the new words in each, and the mail that it forwards.

use std::fmt::Write;
use std::path::PathBuf;

use bytes::Bytes;
use postroom_core::{Address, Message, ParseLimits};

use crate::parse;

#[test]
fn replies_are_read_as_expected() {
    let trouble = each_case("replies.txt", |head, text, expected, words| {
        let [kind, subject] = head else {
            panic!("a kind and a subject: {head:?}");
        };
        let (more, subtype) = match *kind {
            "reply" => ("In-Reply-To: <note-41.7@larch.example>\n", "plain"),
            "html reply" => ("In-Reply-To: <note-41.7@larch.example>\n", "html"),
            "mail" => ("", "plain"),
            other => panic!("reply, html reply or mail, not {other}"),
        };
        let expected = match *expected {
            ["expected all"] => text,
            ["expected"] => words,
            ref other => panic!("expected, not {other:?}"),
        };
        (
            expected.to_owned(),
            mail(subject, more, subtype, text).reply,
        )
    });
    assert!(trouble.is_empty(), "\n{trouble}");
}

#[test]
fn forwards_are_read_as_expected() {
    let trouble = each_case("forwards.txt", |head, text, expected, words| {
        let [subject] = head else {
            panic!("a subject: {head:?}");
        };
        let outer = mail(subject, "", "plain", text);
        let found = postroom_core::forwarded(&outer, &ParseLimits::default());
        let found = found.map_or_else(
            || "none\n".to_owned(),
            |inner| {
                let from = inner
                    .from
                    .as_ref()
                    .map_or_else(String::new, Address::to_string);
                let to: Vec<String> = inner.to.iter().map(Address::to_string).collect();
                let text = inner.text.trim();
                format!("{from} | {} | {}\n{text}", to.join(", "), inner.subject)
            },
        );
        (format!("{}\n{words}", expected.join(" | ")), found)
    });
    assert!(trouble.is_empty(), "\n{trouble}");
}

/// Reads a table and returns the cases in which the two texts that `run` returns differ. It is given the fields after the name,
/// the text, the fields of what is expected, and the words below them.
fn each_case(
    table: &str,
    run: impl Fn(&[&str], &str, &[&str], &str) -> (String, String),
) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/reply");
    let table = std::fs::read_to_string(path.join(table)).expect("the table can be read");
    let mut trouble = String::new();
    let parts: Vec<&str> = table.split("\n@@ ").skip(1).collect();
    for case in parts.chunks(2) {
        let [mail, expected] = case else {
            panic!("a case has a text and what is expected: {case:?}");
        };
        let (head, text) = mail.split_once('\n').unwrap_or((mail, ""));
        let (wanted, words) = expected.split_once('\n').unwrap_or((expected, ""));
        let head: Vec<&str> = head.split(" | ").collect();
        let wanted: Vec<&str> = wanted.split(" | ").collect();
        let (expected, found) = run(&head[1..], text.trim(), &wanted, words.trim());
        if found != expected {
            let name = head[0];
            let _ = writeln!(
                trouble,
                "{name}\n  expected {expected:?}\n  found    {found:?}"
            );
        }
    }
    trouble
}

fn mail(subject: &str, headers: &str, subtype: &str, text: &str) -> Message {
    let raw = format!(
        "From: Nora Weiss <nora.weiss@quill.example>\nTo: Larch Help Desk <help@larch.example>\nSubject: {subject}\n\
         {headers}Message-ID: <1@quill.example>\nContent-Type: text/{subtype}; charset=utf-8\n\n{text}\n"
    );
    parse(&Bytes::from(raw))
}
