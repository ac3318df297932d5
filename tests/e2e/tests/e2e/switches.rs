//! The switches of a mailbox: no new tickets, accepted senders, limits on size, sessions per check, aliases.

use postroom_e2e::{PATIENCE, Room, both, mail, mail_from};
use postroom_stand::{Stand, wait_for};
use serde_json::Value;

use crate::{ews, graph, pop3};

const EVERY: &str = "every = \"5s\"\n";
const REFUSED: &str = "new requests are refused here";
const ANSWER: &str = "declined = { text = \"Dear {sender}, please open \\\"{subject}\\\" in the portal. We do not read {subject} here.\" }\n";
const DANA: &str = "dana@acme.example";

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Writes a configuration whose mailbox has these keys in addition.
fn configure(room: &Room<'_>, rules: &[&str], keys: &str) {
    let config = room.config(rules, "");
    assert!(config.contains(EVERY), "{config}");
    let keys = format!("{EVERY}{keys}");
    room.write("postroom.toml", config.replacen(EVERY, &keys, 1));
}

fn refuse(room: &Room<'_>, rules: &[&str]) {
    configure(room, rules, &format!("new_tickets = false\n{ANSWER}"));
}

fn reason(decision: &Value) -> &str {
    decision["actions"][0]["reason"]
        .as_str()
        .unwrap_or_default()
}

fn header<'m>(mail: &'m str, name: &str) -> &'m str {
    let start = format!("{name}: ");
    let line = mail.lines().find_map(|line| line.strip_prefix(&*start));
    line.unwrap_or_else(|| panic!("no {name} in {mail}"))
}

#[test]
fn a_new_request_is_answered_once_and_a_reply_is_noted() {
    let room = Room::new(stand(), &["standard"]);
    let first = "Message-ID: <first@mail.acme.example>\r\n";
    room.deliver(mail_from(DANA, "printer", "It burns.", first));
    room.once();
    assert_eq!(room.decision("printer")["outcome"], "ticket");

    refuse(&room, &["standard"]);
    room.ok(&["check"]);
    let reply = "In-Reply-To: <first@mail.acme.example>\r\n";
    room.deliver(mail_from(DANA, "Re: printer", "It still burns.", reply));
    room.once();
    assert_eq!(room.decision("Re: printer")["outcome"], "note");
    assert_eq!(room.sent().len(), 0);

    room.deliver(mail_from(DANA, "scanner", "It freezes.", ""));
    room.once();
    let refused = room.decision("scanner");
    assert_eq!(refused["outcome"], "ignored", "{refused:#}");
    assert_eq!(reason(&refused), REFUSED);
    assert_eq!(refused["refused"][0]["action"]["kind"], "ticket");
    let sent = room.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, [DANA]);
    let text = String::from_utf8_lossy(&sent[0].data).replace("=\r\n", "");
    assert_eq!(header(&text, "Subject"), "Re: scanner");
    assert!(text.contains("X-Postroom-Loop"), "{text}");
    assert!(
        text.contains("Dear dana@acme.example, please open \"scanner\" in the portal."),
        "{text}"
    );

    // An answer to the answer, with the whole conversation or only its last mail.
    let answer = header(&text, "Message-ID").to_owned();
    for (n, references) in ["References", "In-Reply-To"].into_iter().enumerate() {
        let headers = format!("{references}: {answer}\r\n");
        room.deliver(mail_from(DANA, &format!("but {n}"), "Please!", &headers));
        room.once();
        let again = room.decision(&format!("but {n}"));
        assert_eq!(reason(&again), REFUSED);
        let why = again["refused"][1]["reason"].as_str().unwrap();
        assert_eq!(
            why,
            "the sender already had this answer in this conversation"
        );
    }
    assert_eq!(room.sent().len(), 1);
    let items = room.items();
    let tickets = items.iter().filter(|it| it["kind"] == "ticket").count();
    assert_eq!(tickets, 1);
    room.assert_balanced(5);

    // A replay decides as the line did.
    let output = room.postroom(&["replay", "--json"]);
    let said = both(&output);
    // Only the first mail was decided before the switch was set.
    assert!(said.contains("\"same\":4"), "{said}");
}

#[test]
fn automatic_mail_gets_no_answer_and_alerts_go_on() {
    let room = Room::bare(stand());
    room.write(
        "rules/alerts.js",
        "export function decide(mail) {\n  if (mail.subject.startsWith(\"ALERT\")) return alert({ key: \"disk\", state: \"firing\" });\n  return pass();\n}\n",
    );
    refuse(&room, &["rules/alerts.js", "standard"]);
    for (subject, headers) in [
        ("away", "Auto-Submitted: auto-replied\r\n"),
        ("news", "List-Id: <news.acme.example>\r\n"),
        ("ours", "X-Postroom-Loop: 1\r\n"),
        ("ALERT disk full", ""),
    ] {
        room.deliver(mail_from(DANA, subject, "…", headers));
    }
    room.deliver(mail_from(&room.user, "to myself", "…", ""));
    room.once();
    assert_eq!(room.decision("ALERT disk full")["outcome"], "alert");
    for subject in ["away", "news", "ours", "to myself"] {
        let refused = room.decision(subject);
        assert_eq!(reason(&refused), REFUSED, "{refused:#}");
        assert_eq!(refused["refused"][1]["action"]["kind"], "reply");
    }
    assert_eq!(room.sent().len(), 0);
    room.assert_balanced(5);
}

#[test]
fn answers_to_refused_requests_obey_the_limits_of_automatic_mail() {
    let room = Room::bare(stand());
    let config = room.config(&["standard"], "\n[limits.automatic]\nper_address = 3\n");
    let keys = format!("{EVERY}new_tickets = false\n{ANSWER}");
    room.write("postroom.toml", config.replacen(EVERY, &keys, 1));
    for n in 0..6 {
        room.deliver(mail_from(DANA, &format!("request {n}"), "…", ""));
    }
    room.once();
    assert_eq!(room.sent().len(), 3);
    let held = room.decisions().into_iter().filter(|it| {
        let reason = it["refused"][1]["reason"].as_str().unwrap_or_default();
        reason.contains("limits.automatic.per_address")
    });
    assert_eq!(held.count(), 3);
    room.assert_balanced(6);
}

#[test]
fn a_mail_on_which_a_rule_failed_is_kept_for_a_person() {
    let room = Room::bare(stand());
    room.write(
        "rules/broken.js",
        "export function decide(mail) { throw new Error(\"no idea\"); }\n",
    );
    refuse(&room, &["rules/broken.js", "standard"]);
    room.deliver(mail("perhaps an alert", "…"));
    room.once();
    let kept = room.decision("perhaps an alert");
    assert_eq!(kept["outcome"], "quarantined", "{kept:#}");
    assert_eq!(kept["rule"], "mailbox");
    assert_eq!(room.sent().len(), 0);
    room.assert_balanced(1);
    // A replay shows the decision of the corrected rule.
    room.write(
        "rules/broken.js",
        "export function decide(mail) { return alert({ key: \"disk\", state: \"firing\" }); }\n",
    );
    let said = both(&room.postroom(&["replay", "--json"]));
    assert!(said.contains("\"outcome\":\"alert\""), "{said}");
}

#[test]
fn without_a_text_a_refused_request_gets_no_answer() {
    let room = Room::bare(stand());
    configure(&room, &["standard"], "new_tickets = false\n");
    room.deliver(mail("a request", "…"));
    room.once();
    assert_eq!(reason(&room.decision("a request")), REFUSED);
    assert_eq!(room.sent().len(), 0);
    assert_eq!(room.count("Processed"), 1);
}

#[test]
fn only_allowed_senders_reach_the_rules_and_the_others_are_listed() {
    let senders = "senders = { allow = [\"acme.example\", \"*.partner.example\"], deny = [\"spam@acme.example\"] }\n";
    for (refused, outcome, folder) in [
        ("", "ignored", "Processed"),
        (", refused = \"quarantine\" }", "quarantined", "Failed"),
    ] {
        let room = Room::bare(stand());
        let keys = match refused {
            "" => senders.to_owned(),
            refused => senders.replace(" }", refused),
        };
        configure(&room, &["standard"], &keys);
        let senders = [
            ("ann@acme.example", None),
            ("bob@mail.partner.example", None),
            ("bob@partner.example", Some("is not an allowed sender")),
            ("spam+1@acme.example", Some("is a denied sender")),
            ("ann@acme.example.evil", Some("is not an allowed sender")),
        ];
        for (from, _) in senders {
            room.deliver(mail_from(from, &format!("from {from}"), "…", ""));
        }
        room.once();
        for (from, why) in senders {
            let decision = room.decision(&format!("from {from}"));
            let Some(why) = why else {
                assert_eq!(decision["outcome"], "ticket", "{decision:#}");
                continue;
            };
            assert_eq!(decision["outcome"], outcome, "{decision:#}");
            assert_eq!(decision["rule"], "mailbox");
            assert_eq!(reason(&decision), format!("{from} {why}"));
        }
        assert_eq!(room.items().len(), 2);
        let kept = room.count(folder);
        assert_eq!(kept, if folder == "Failed" { 3 } else { 5 });
        room.assert_balanced(5);
        // A replay with the same configuration finds no difference.
        let output = room.postroom(&["replay"]);
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    }
}

/// A mail of about this many KiB.
fn mail_of(kib: usize) -> String {
    let line = format!("{}\r\n", "x".repeat(62));
    mail(&format!("{kib} KiB"), &line.repeat(kib * 16))
}

const SIZES: &str = "message_bytes = \"64KiB\"\nraw_bytes = \"128KiB\"\n";

/// Delivers a mail within both limits, one over the first, and one over both.
fn assert_sizes(room: &Room<'_>, deliver: impl Fn(&[u8])) {
    for kib in [32, 96, 300] {
        deliver(mail_of(kib).as_bytes());
    }
    room.once();
    assert_eq!(room.decision("32 KiB")["outcome"], "ticket");
    for (subject, limit) in [
        ("96 KiB", "limits.message_bytes = 65536"),
        ("300 KiB", "limits.raw_bytes = 131072"),
    ] {
        let kept = room.decision(subject);
        assert_eq!(kept["outcome"], "quarantined", "{kept:#}");
        assert!(reason(&kept).contains(limit), "{kept:#}");
    }
    room.assert_balanced(3);
}

fn limits_table() -> String {
    format!("\n[mailboxes.support.limits]\n{SIZES}")
}

fn limits_inline() -> String {
    format!("limits = {{ {} }}\n", SIZES.trim().replace('\n', ", "))
}

#[test]
fn imap_obeys_the_mailboxs_own_limits() {
    let room = Room::bare(stand());
    room.write("postroom.toml", room.config(&["standard"], &limits_table()));
    assert_sizes(&room, |mail| room.deliver(mail));
    // Over the limit of raw mail, only the beginning was fetched, and the mail stays as it is.
    assert_eq!(room.count("Failed"), 2);
}

#[test]
fn pop3_obeys_the_mailboxs_own_limits() {
    let room = pop3::room(
        "after = { done = \"delete\", failed = \"delete\" }",
        &limits_table(),
    );
    assert_sizes(&room, |mail| room.deliver(mail));
    // A mail of which only the beginning is kept is never deleted.
    assert_eq!(room.count("INBOX"), 1);
}

#[test]
fn graph_obeys_the_mailboxs_own_limits() {
    let room = graph::at_graph(stand(), &limits_inline());
    assert_sizes(&room, |mail| {
        stand().graph().deliver(&room.user, mail);
    });
}

#[test]
fn ews_obeys_the_mailboxs_own_limits() {
    let room = ews::room(&ews::by_password(&limits_inline()));
    assert_sizes(&room, |mail| {
        stand().ews().deliver(&room.user, mail);
    });
}

#[test]
fn a_spool_and_an_import_obey_the_mailboxs_own_limits() {
    let room = Room::bare(stand());
    let spool = |limits: &str| {
        format!(
            "data_dir = \"data\"\n[limits]\nmessage_bytes = \"64KiB\"\nraw_bytes = \"64KiB\"\n[tenants.acme]\n[mailboxes.support]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\n{limits}"
        )
    };
    room.write("postroom.toml", spool(&limits_inline()));
    assert_sizes(&room, |mail| {
        room.write(&format!("spool/{}.eml", mail.len()), mail);
    });
    room.write("import.eml", mail_of(99));
    room.ok(&["mail", "import", "import.eml", "--mailbox", "support"]);
    let kept = room.decision("99 KiB");
    assert!(reason(&kept).contains("65536"), "{kept:#}");
    // The other way: the mailbox accepts more than all others.
    room.write(
        "postroom.toml",
        spool("limits = { message_bytes = \"1MiB\", raw_bytes = \"1MiB\" }\n"),
    );
    room.write("spool/large.eml", mail_of(301));
    room.write("import.eml", mail_of(302));
    room.ok(&["mail", "import", "import.eml", "--mailbox", "support"]);
    room.once();
    for subject in ["301 KiB", "302 KiB"] {
        assert_eq!(room.decision(subject)["outcome"], "ticket");
    }
}

/// Returns how many IMAP sessions of this room have ended with LOGOUT.
fn logouts(room: &Room<'_>) -> usize {
    let log = std::fs::read_to_string(room.stand.dir().join("dovecot.log")).unwrap();
    let mine = format!("imap({})", room.user);
    let mine = log.lines().filter(|line| line.contains(&mine));
    mine.filter(|line| line.contains("Logged out")).count()
}

#[test]
fn a_session_per_check_is_ended_after_each_check() {
    let room = Room::bare(stand());
    configure(&room, &["standard"], "session = \"per-check\"\n");
    let file = room.path().join("postroom.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let config = config.replacen(EVERY, "every = \"1s\"\nprotocol_log = \"1MiB\"\n", 1);
    let config = config.replacen("move:Processed", "delete", 1);
    room.write("postroom.toml", config.replacen("move:Failed", "delete", 1));
    let running = room.start();
    room.deliver(mail("one", "…"));
    room.await_decision("one");
    let before = logouts(&room);
    assert!(
        wait_for(PATIENCE, || logouts(&room) > before + 2),
        "{}",
        room.log()
    );
    room.deliver(mail("two", "…"));
    room.await_decision("two");
    assert!(wait_for(PATIENCE, || room.count("INBOX") == 0));
    assert_eq!(running.stop(), Some(0));
    let log = std::fs::read_to_string(room.path().join("data/logs/support.log")).unwrap();
    assert!(log.contains("LOGOUT"), "{log}");
    assert!(!log.contains("IDLE\n"), "{log}");
    assert!(!room.log().contains("connection lost"), "{}", room.log());
    room.assert_balanced(2);
}

#[test]
fn a_rule_sees_the_address_that_the_mail_was_sent_to() {
    let room = Room::bare(stand());
    room.write(
        "rules/alias.js",
        "export function decide(mail) {\n  const to = [...mail.to, ...mail.cc].map((it) => it.email);\n  return to.includes(\"sales@acme.example\") ? ticket({ queue: \"Sales\" }) : ticket({ queue: \"Support\" });\n}\n",
    );
    let alias = format!("sales.{}", room.user);
    configure(
        &room,
        &["rules/alias.js"],
        &format!("aliases = [{alias:?}]\n"),
    );
    let rule = std::fs::read_to_string(room.path().join("rules/alias.js")).unwrap();
    room.write("rules/alias.js", rule.replace("sales@acme.example", &alias));
    let to_alias =
        mail("by alias", "…").replace("To: support@acme.example", &format!("To: {alias}"));
    room.deliver(to_alias);
    room.deliver(mail("by address", "…"));
    room.once();
    for (subject, queue) in [("by alias", "Sales"), ("by address", "Support")] {
        let decision = room.decision(subject);
        assert_eq!(decision["actions"][0]["queue"], queue, "{decision:#}");
    }
}
