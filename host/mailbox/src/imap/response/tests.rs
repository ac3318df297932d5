//! Responses as servers send them, valid and invalid.

use super::*;

fn text(line: &str) -> Vec<Piece> {
    vec![Piece::Text(Bytes::copy_from_slice(line.as_bytes()))]
}

fn fetch(line: &str) -> Option<Fetched> {
    match read(&text(line)) {
        Some(Response::Untagged(Untagged::Fetch(fetched))) => Some(fetched),
        _ => None,
    }
}

#[test]
fn what_was_asked_for_is_found_among_what_was_not() {
    let found = fetch(
        r#"* 7 FETCH (FLAGS (\Seen "x\")" ((a))) BODY[HEADER.FIELDS (TO)] "h" UID 12 X-GM ("(" NIL) RFC822.SIZE 99 BODY[]<0> "b\"c")"#,
    )
    .unwrap();
    assert_eq!((found.uid, found.size), (Some(12), Some(99)));
    assert_eq!(&found.body.unwrap().bytes[..], b"b\"c");
    assert_eq!(
        fetch("* 1 FETCH (UID 1 BODY[] NIL)")
            .unwrap()
            .body
            .unwrap()
            .len,
        0
    );
    assert!(fetch("* 1 FETCH (UID 1)").unwrap().body.is_none());
}

#[test]
fn status_codes_are_typed() {
    let Some(Response::Tagged { tag: 3, done }) =
        read(&text("P3 no [TRYCREATE] Mailbox\u{7} missing"))
    else {
        panic!()
    };
    assert_eq!(
        (done.status, done.code),
        (Status::No, Some(Code::TryCreate))
    );
    assert_eq!(done.text, "[TRYCREATE] Mailbox  missing");
    for (line, code) in [
        ("P1 OK [UIDVALIDITY 7] x", Some(Code::UidValidity(7))),
        ("P1 OK [UIDNEXT x]", Some(Code::Other("UIDNEXT".into()))),
        ("P1 OK [read-only] x", Some(Code::ReadOnly)),
        ("P1 NO [unavailable] x", Some(Code::Passing)),
        (
            "P1 OK [CAPABILITY a IDLE] x",
            Some(Code::Capability(vec!["A".into(), "IDLE".into()])),
        ),
        ("P1 OK [oops", None),
        ("P1 OK", None),
    ] {
        let Some(Response::Tagged { done, .. }) = read(&text(line)) else {
            panic!("{line}")
        };
        assert_eq!(done.code, code, "{line}");
    }
}

#[test]
fn other_responses() {
    assert!(matches!(read(&text("+ aGk=")), Some(Response::Continue(c)) if &c[..] == b"aGk="));
    assert!(matches!(read(&text("+")), Some(Response::Continue(c)) if c.is_empty()));
    assert!(matches!(
        read(&text("* 4 exists")),
        Some(Response::Untagged(Untagged::Exists(4)))
    ));
    assert!(
        matches!(read(&text("* SEARCH 1 5 (MODSEQ 3)")), Some(Response::Untagged(Untagged::Search(ids))) if ids.iter().eq([1, 5]))
    );
    for passed_over in ["[COPYUID 14 62 705]", "[ALERT] Your disk is full"] {
        assert!(matches!(
            read(&text(passed_over)),
            Some(Response::Untagged(Untagged::Other))
        ));
    }
    assert!(matches!(
        read(&text("* VANISHED 1:4")),
        Some(Response::Untagged(Untagged::Other))
    ));
}

#[test]
fn folders_and_where_they_lie() {
    let listed = |line: &str| match read(&text(line)) {
        Some(Response::Untagged(Untagged::List(folder))) => Some(folder),
        _ => None,
    };
    let folder = listed(r#"* LIST (\HasNoChildren) "." INBOX.Done"#).unwrap();
    assert_eq!(
        (&folder.name[..], folder.separator, folder.selectable),
        (&b"INBOX.Done"[..], Some('.'), true)
    );
    let folder = listed(r#"* LIST (\NoSelect) NIL "a \"b\"""#).unwrap();
    assert_eq!(
        (&folder.name[..], folder.separator, folder.selectable),
        (&b"a \"b\""[..], None, false)
    );
    assert!(listed("* LIST x").is_none());
    for (line, prefix) in [
        (r#"* NAMESPACE (("INBOX." ".")) NIL NIL"#, "INBOX."),
        (r#"* NAMESPACE (("" "/")("x/" "/")) NIL (("s" "/"))"#, ""),
        ("* NAMESPACE NIL NIL NIL", ""),
    ] {
        let Some(Response::Untagged(Untagged::Namespace(found))) = read(&text(line)) else {
            panic!("{line}")
        };
        assert_eq!(found.prefix, prefix, "{line}");
    }
    for (line, next) in [
        ("* STATUS INBOX (UIDNEXT 14)", Some(14)),
        (r#"* STATUS "a b" (MESSAGES 1 uidnext 2)"#, Some(2)),
        ("* STATUS INBOX (MESSAGES 1)", None),
    ] {
        let found = match read(&text(line)) {
            Some(Response::Untagged(Untagged::UidNext(next))) => Some(next),
            _ => None,
        };
        assert_eq!(found, next, "{line}");
    }
}

#[test]
fn the_day_a_mail_arrived() {
    let arrived = |date: &str| {
        let line = format!("* 1 FETCH (UID 1 INTERNALDATE \"{date}\")");
        fetch(&line).unwrap().arrived
    };
    let found = arrived(" 7-Feb-1994 21:52:25 -0800").unwrap();
    assert_eq!(
        (found.secs, found.day),
        (760_686_745, jiff::civil::date(1994, 2, 7))
    );
    assert!(arrived("yesterday").is_none());
}

#[test]
fn of_many_capabilities_the_first_are_kept() {
    let Some(Response::Untagged(Untagged::Capability(list))) =
        read(&text(&format!("* CAPABILITY IDLE{}", " A".repeat(200_000))))
    else {
        panic!()
    };
    assert_eq!((list.len(), list[0].as_str()), (CAPABILITIES, "IDLE"));
    let long = format!("* CAPABILITY {}", "A".repeat(200_000));
    let Some(Response::Untagged(Untagged::Capability(list))) = read(&text(&long)) else {
        panic!()
    };
    assert_eq!(list[0].len(), CAPABILITY_BYTES);
}

#[test]
fn nonsense_is_refused_and_nesting_is_harmless() {
    for line in [
        "",
        "220 mail.example ESMTP",
        "P OK",
        "P1",
        "* 1 FETCH",
        "* 1 FETCH (UID",
        "* 1 FETCH (UID x)",
        "* 1 FETCH (UID 99999999999)",
        "* 1 FETCH (UID 1 BODY[] (a))",
        "* 1 FETCH (\"open",
        "[]",
        "[COPYUID 1",
        "[ 1 ] OK",
    ] {
        assert!(read(&text(line)).is_none(), "{line}");
    }
    let deep = format!(
        "* 1 FETCH (X {}{} UID 3)",
        "(".repeat(1_000_000),
        ")".repeat(1_000_000)
    );
    assert_eq!(fetch(&deep).unwrap().uid, Some(3));
    assert!(fetch(&deep[..1_500_000]).is_none());
}
