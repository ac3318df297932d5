//! `kv` and lookups in a batch that is decided several mails at a time: the results are as if they were decided one by one.

use postroom_e2e::{Room, mail, mail_from};
use postroom_stand::Stand;
use serde_json::{Value, json};

fn room(grants: &str, rules: &[(&str, &str)]) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let names: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
    room.write(
        "postroom.toml",
        format!(
            "data_dir = \"data\"\n[limits]\ntime = \"10s\"\nstrikes = 0\n[tenants.acme]\ngrants = {grants}\ncontacts = \"contacts.csv\"\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = {}\n",
            json!(names)
        ),
    );
    room.write("contacts.csv", "name,email\nAnn,ann@acme.example\n");
    for (name, text) in rules {
        room.write(name, text);
    }
    room
}

/// Delivers mails in the order in which they are decided.
fn drop_in(room: &Room, mails: impl IntoIterator<Item = String>) {
    for (number, mail) in (100..).zip(mails) {
        room.write(&format!("spool/{number}.eml"), mail);
    }
}

#[test]
fn a_rule_writes_with_its_decision_and_only_then() {
    let first = r#"export function decide(mail, ctx) {
  const seen = ctx.kv.get("seen") ?? "nothing";
  ctx.kv.set("seen", mail.subject);
  if (mail.subject === "throws") mail.nothing.there;
  if (mail.subject === "passes") return;
  if (mail.subject === "nonsense") return [ticket(), note()];
  return ignore(`first saw ${seen}`);
}
"#;
    let second = r#"export function decide(mail, ctx) {
  const seen = ctx.kv.get("seen") ?? "nothing";
  ctx.kv.set("seen", mail.subject);
  return ignore(`second saw ${seen}`);
}
"#;
    let room = room(
        r#"["kv"]"#,
        &[("rules/first.js", first), ("rules/second.js", second)],
    );
    let mails = [
        ("a", "first saw nothing"),
        ("throws", "second saw nothing"),
        ("b", "first saw a"),
        ("nonsense", "second saw throws"),
        ("c", "first saw b"),
        ("passes", "second saw nonsense"),
        // A pass is a decision: its writes count.
        ("d", "first saw passes"),
    ];
    drop_in(&room, mails.map(|(subject, _)| mail(subject, "…")));
    room.once();
    for (subject, reason) in mails {
        let decision = room.decision(subject);
        assert_eq!(decision["actions"][0]["reason"], reason, "{decision:#}");
    }
}

#[test]
fn a_full_memory_is_seen_as_it_is_when_the_mails_turn_comes() {
    // Returns only whether there is room in its `kv`; every third mail frees some.
    let rule = r#"export function decide(mail, ctx) {
  const number = Number(mail.subject);
  if (number % 3 === 2) { ctx.kv.delete(String(number - 2)); return ignore("made room"); }
  try { ctx.kv.set(String(number), "x"); return ignore("wrote"); } catch { return ignore("full"); }
}
"#;
    let room = room(r#"["kv"]"#, &[("rules/a.js", rule)]);
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let config = config.replace("strikes = 0", "strikes = 0\nkv_keys = 1");
    room.write("postroom.toml", config);
    drop_in(&room, (0..30).map(|number| mail(&number.to_string(), "…")));
    room.once();
    for number in 0..30 {
        let decision = room.decision(&number.to_string());
        let expected = ["wrote", "full", "made room"][number % 3];
        assert_eq!(decision["actions"][0]["reason"], expected, "{number}");
    }
}

#[test]
fn each_mail_of_a_batch_finds_the_tickets_and_alerts_of_those_before() {
    let rule = r#"export function decide(mail, ctx) {
  const from = mail.from.email;
  const known = ctx.lookup.contact(from) ? "known" : "unknown";
  if (mail.subject.startsWith("only")) return ignore(known);
  if (mail.subject.startsWith("alert"))
    return alert({ key: from, state: "firing", summary: `after ${ctx.lookup.alert(from)?.count ?? 0}` });
  const [open] = ctx.lookup.tickets({ requester: from });
  return open ? note({ ticket: open.ticket, body: known }) : ticket({ body: known });
}
"#;
    let room = room(r#"["lookup"]"#, &[("rules/a.js", rule)]);
    let senders = ["ann", "bob", "cid"];
    let kinds = ["only", "only", "alert", "ticket", "only"];
    let mails = (0..90).map(|number| {
        let sender = senders[number % 3];
        let from = format!("{sender}@acme.example");
        mail_from(&from, &format!("{} {number}", kinds[number % 5]), "…", "")
    });
    drop_in(&room, mails);
    room.once();
    let items = room.items();
    let of = |kind: &str| -> Vec<&Value> { items.iter().filter(|it| it["kind"] == kind).collect() };
    assert_eq!((of("ticket").len(), of("note").len()), (3, 15));
    for alert in of("alert") {
        // Each saw all mails before it.
        assert_eq!(alert["count"], 6, "{alert}");
        assert_eq!(alert["title"], "after 5", "{alert}");
    }
    assert_eq!(of("alert").len(), 3);
    for note in of("note") {
        let ticket = of("ticket")
            .into_iter()
            .find(|it| it["ticket"] == note["ticket"]);
        assert_eq!(ticket.unwrap()["body"], note["body"]);
    }
    room.assert_balanced(90);
}

#[test]
fn a_subject_may_name_the_ticket_of_a_mail_just_before() {
    let rule = r#"export function decide(mail, ctx) {
  if (mail.subject === "open") return ticket();
  return ignore(ctx.thread?.ticket ?? "no ticket");
}
"#;
    let room = room(r#"["kv"]"#, &[("rules/a.js", rule)]);
    let mails = [
        ("quiet T-1", "no ticket"),
        ("quiet", "no ticket"),
        ("open", ""),
        ("about T-1", "T-1"),
        ("about [T-1]", "T-1"),
        ("about T-2", "no ticket"),
    ];
    drop_in(&room, mails.map(|(subject, _)| mail(subject, "…")));
    room.once();
    for (subject, reason) in mails.iter().filter(|(_, reason)| !reason.is_empty()) {
        let decision = room.decision(subject);
        assert_eq!(decision["actions"][0]["reason"], *reason, "{decision:#}");
    }
}

#[test]
fn no_mail_of_a_batch_goes_without_the_rule_that_serves_when_its_turn_comes() {
    let faulty = r#"export function decide(mail) {
  if (mail.subject.startsWith("bad")) mail.nothing.there;
}
"#;
    let next = r#"export function decide() { return ignore("next"); }
"#;
    let room = room(
        r#"["kv"]"#,
        &[("rules/faulty.js", faulty), ("rules/next.js", next)],
    );
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let config = config.replace("strikes = 0", "strikes = 5\nstrikes_of = 20");
    room.write("postroom.toml", config);
    let subject = |number: usize| match number {
        // Four failures in the last twenty are not too many, however many mails are decided at once.
        10..=13 | 60.. => format!("bad {number}"),
        _ => format!("good {number}"),
    };
    // A good version, to which the faulty one can be rolled back.
    room.write("rules/faulty.js", "export function decide() {}\n");
    room.once();
    room.write("rules/faulty.js", faulty);
    let from = |number: usize| format!("Ann <ann@sender{number}.example>");
    drop_in(
        &room,
        (0..80).map(|number| mail_from(&from(number), &subject(number), "…", "")),
    );
    room.once();
    for number in 0..80 {
        let decision = room.decision(&subject(number));
        assert_eq!(decision["actions"][0]["reason"], "next", "{decision:#}");
        let trouble = decision["troubles"][0]["kind"].as_str();
        let expected = match number {
            10..=13 | 60..=64 => Some("failure"),
            _ => None,
        };
        assert_eq!(trouble, expected, "{decision:#}");
    }
}
