//! Bad mail: none of it stops the mailbox; each ends as a decision with its repairs noted, or in quarantine with its bytes
//! kept.

use postroom_e2e::{Room, mail};
use postroom_stand::Stand;
use serde_json::Value;

/// Larger than any mail that is parsed by default.
const HUGE_BYTES: usize = 60 << 20;

/// A bad mail, and the expected content of its decision.
struct Bad {
    name: &'static str,
    bytes: Vec<u8>,
    outcome: &'static str,
    /// A part of one of the repairs, or of the reason for the quarantine.
    note: &'static str,
}

fn bad_mails() -> Vec<Bad> {
    let bad = |name, bytes: Vec<u8>, note| Bad {
        name,
        bytes,
        outcome: "ticket",
        note,
    };
    let held = |name, bytes: Vec<u8>, note| Bad {
        outcome: "quarantined",
        ..bad(name, bytes, note)
    };
    let with = |text: &str| {
        format!(
            "From: a@acme.example\r\nMessage-ID: <{}@bad.example>\r\n{text}",
            text.len()
        )
        .into_bytes()
    };
    let mut nul = with("Subject: nul\r\n\r\nbefore ");
    nul.extend_from_slice(b"\0\0 after\r\n");
    let mut parts = with("Subject: parts\r\nContent-Type: multipart/mixed; boundary=p\r\n\r\n");
    for number in 0..10_000 {
        parts.extend_from_slice(
            format!("--p\r\nContent-Type: text/plain\r\n\r\npart {number}\r\n").as_bytes(),
        );
    }
    parts.extend_from_slice(b"--p--\r\n");
    let mut nested = with("Subject: nested\r\n");
    for depth in 0..500 {
        nested.extend_from_slice(
            format!("Content-Type: multipart/mixed; boundary=b{depth}\r\n\r\n--b{depth}\r\n")
                .as_bytes(),
        );
    }
    nested.extend_from_slice(b"Content-Type: text/plain\r\n\r\nat the bottom\r\n");
    let mut huge = with("Subject: huge\r\n\r\n");
    huge.resize(HUGE_BYTES, b'x');
    vec![
        bad("empty", Vec::new(), "Message-ID"),
        bad(
            "no-headers",
            b"just some words\r\nand more\r\n".to_vec(),
            "Message-ID",
        ),
        bad(
            "charset",
            [
                &with("Subject: charset\r\nContent-Type: text/plain; charset=klingon-8\r\n\r\nna")
                    [..],
                b"\xefve\r\n",
            ]
            .concat(),
            "charset",
        ),
        bad("nul", nul, "NUL"),
        bad(
            "bare-cr",
            with("Subject: bare cr\r\n\r\none\rtwo\rthree\r\n"),
            "CR",
        ),
        bad(
            "no-message-id",
            b"From: a@acme.example\r\nSubject: none\r\n\r\nbody\r\n".to_vec(),
            "Message-ID",
        ),
        held("parts", parts, "limits.parts = 1000"),
        held("nested", nested, "limits.mime_depth = 32"),
        held("huge", huge, "limits.message_bytes"),
    ]
}

#[test]
fn every_bad_mail_from_a_spool_is_decided_or_set_aside() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mut config = String::from("data_dir = \"data\"\n[tenants.acme]\n");
    let mails = bad_mails();
    for bad in &mails {
        let name = bad.name;
        config.push_str(&format!(
            "[mailboxes.{name}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [\"standard\"]\n"
        ));
        room.write(&format!("spool/{name}/1.eml"), &bad.bytes);
        room.write(
            &format!("spool/{name}/2.eml"),
            mail(&format!("good after {name}"), "…"),
        );
    }
    room.write("postroom.toml", config);
    room.once();

    let decisions = room.decisions();
    for bad in &mails {
        let mine: Vec<&Value> = decisions
            .iter()
            .filter(|d| d["mailbox"] == bad.name)
            .collect();
        assert_eq!(mine.len(), 2, "{}: {mine:#?}", bad.name);
        let (good, decision) = mine
            .into_iter()
            .partition::<Vec<_>, _>(|d| d["subject"] == format!("good after {}", bad.name));
        assert_eq!(good.len(), 1, "the mailbox stopped at {}", bad.name);
        let decision = decision[0];
        assert_eq!(
            decision["outcome"], bad.outcome,
            "{}: {decision:#}",
            bad.name
        );
        if bad.outcome == "ticket" {
            let repairs = decision["repairs"].to_string();
            assert!(repairs.contains(bad.note), "{}: {repairs}", bad.name);
        }
    }
    room.assert_balanced(2 * mails.len() as u64);

    let held = room.rows(&["quarantine", "list"]);
    let of = |name: &str| held.iter().find(|row| row["mailbox"] == name);
    for bad in mails.iter().filter(|bad| bad.outcome == "quarantined") {
        let row = of(bad.name).unwrap_or_else(|| panic!("{} is not in {held:#?}", bad.name));
        assert!(
            row["reason"].as_str().unwrap().contains(bad.note),
            "{row:#}"
        );
        // The listing shows the sender.
        assert_eq!(row["subject"], bad.name, "{row:#}");
    }
    assert_eq!(held.len(), 3);
    let id = of("huge").unwrap()["id"].to_string();
    let raw = room.postroom(&["quarantine", "show", id.trim_matches('"'), "--raw"]);
    assert_eq!(raw.stdout.len(), HUGE_BYTES);
    assert!(room.path().join("spool/huge/failed/1.eml").exists());
}

#[test]
fn bad_mail_over_imap_does_not_stop_the_mailbox() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let mails: Vec<Bad> = bad_mails()
        .into_iter()
        .filter(|bad| !["empty", "nul"].contains(&bad.name))
        .collect();
    for bad in &mails {
        stand.append(&room.user, "INBOX", "", [&bad.bytes]).unwrap();
    }
    room.deliver([]);
    room.deliver(mail("good at the end", "…"));
    room.once();
    let count = mails.len() as u64 + 2;
    assert_eq!(room.decision("good at the end")["outcome"], "ticket");
    room.assert_balanced(count);
    assert_eq!(room.rows(&["quarantine", "list"]).len(), 3);
    assert_eq!(room.count("Failed"), 3);
    assert_eq!(room.count("Processed") as u64, count - 3);
    assert_eq!(room.count("INBOX"), 0);
}

#[test]
fn two_mails_with_one_message_id_both_count_and_a_copy_does_not() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let same = |body: &str| {
        format!(
            "From: a@acme.example\r\nMessage-ID: <same@acme.example>\r\nSubject: same\r\n\r\n{body}\r\n"
        )
    };
    let mails = [same("one"), same("two"), same("one")];
    stand.append(&room.user, "INBOX", "", &mails).unwrap();
    room.once();
    assert_eq!(room.decisions().len(), 2);
    // The copy is not a new mail, but it is acknowledged nevertheless.
    assert_eq!(room.count("INBOX"), 0);
    assert_eq!(room.count("Processed"), 3);
    room.assert_balanced(2);
}

#[test]
fn a_mail_over_the_raw_limit_keeps_its_beginning_here_and_itself_on_the_server() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let config = room.config(
        &["standard"],
        "\n[limits]\nraw_bytes = \"1MiB\"\nmessage_bytes = \"1MiB\"\n",
    );
    let config = config.replace("failed = \"move:Failed\"", "failed = \"delete\"");
    room.write("postroom.toml", config);
    let big = mail("too big", &"x".repeat(2 << 20));
    stand.append(&room.user, "INBOX", "", [&big]).unwrap();
    room.once();
    let held = room.rows(&["quarantine", "list"]);
    assert_eq!(held.len(), 1);
    assert!(held[0]["size"].as_u64().unwrap() > 2 << 20);
    // Only its beginning is stored, so the server's copy is never deleted, whatever `failed` is set to.
    assert_eq!(room.count("INBOX"), 1);
}
