//! `lookup` in the running program: a rule finds its tenant's contacts, assets, tickets and alerts, including those of the
//! previous mail, and saved files go live.

use std::time::{Duration, Instant};

use postroom_e2e::{Room, both, mail, mail_from};
use postroom_stand::Stand;
use serde_json::{Value, json};

const CONFIG: &str = r#"data_dir = "data"
[limits]
time = "10s"
[tenants.acme]
grants = ["lookup"]
contacts = "contacts.csv"
assets = "assets.toml"
[mailboxes.drop]
tenant = "acme"
protocol = "spool"
path = "spool/acme"
every = "1s"
rules = ["rules/acme.js"]
"#;

/// Returns a room with contacts, an asset and one rule.
fn room(rule: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("postroom.toml", CONFIG);
    room.write("rules/acme.js", rule);
    room.write(
        "contacts.csv",
        "name,email,vip,floor\nAnn,ann@acme.example,yes,2\n",
    );
    room.write(
        "assets.toml",
        "[[assets]]\nname = \"db1\"\nserial = \"SN-1\"\nhost = \"db1.acme.example\"\n",
    );
    room
}

fn drop_in(room: &Room, name: &str, raw: String) {
    // As the spool requires: complete when it gets its name.
    room.write(&format!("spool/acme/.{name}"), raw);
    let dir = room.path().join("spool/acme");
    std::fs::rename(
        dir.join(format!(".{name}")),
        dir.join(format!("{name}.eml")),
    )
    .unwrap();
}

#[test]
fn a_rule_finds_what_its_tenant_has_and_what_it_asked_is_recorded() {
    let room = room(
        r#"export function decide(mail, ctx) {
  const caller = ctx.lookup.contact(mail.from.email);
  const [thing] = ctx.lookup.assets("db1");
  if (mail.subject.startsWith("alert"))
    return alert({ key: "disk/db1", state: "firing", host: "db1" });
  const [open] = ctx.lookup.tickets({ field: { name: "serial", value: thing.serial } });
  if (open) return note({ ticket: open.ticket, body: `again, ${ctx.lookup.alerts("db1").length} firing` });
  return ticket({ priority: caller?.vip ? "high" : "normal", fields: { serial: thing.serial, floor: caller?.fields.floor } });
}
"#,
    );
    let write = |name: &str| {
        drop_in(
            &room,
            name,
            mail_from("Ann <Ann@acme.example>", name, "…", ""),
        );
    };
    // All in one batch: each sees what the previous one made.
    for name in ["alert 1", "first", "second", "third"] {
        write(name);
    }
    room.once();
    let items = room.items();
    let of = |kind: &str| -> Vec<&Value> { items.iter().filter(|it| it["kind"] == kind).collect() };
    let (tickets, notes) = (of("ticket"), of("note"));
    assert_eq!((tickets.len(), notes.len()), (1, 2), "{items:#?}");
    assert_eq!(tickets[0]["priority"], "high");
    assert_eq!(
        tickets[0]["fields"],
        json!({"serial": "SN-1", "floor": "2"})
    );
    assert!(
        notes
            .iter()
            .all(|note| note["ticket"] == tickets[0]["ticket"])
    );

    let decision = room.decision("third");
    assert_eq!(
        decision["actions"][0]["body"], "again, 1 firing",
        "{decision:#}"
    );
    let asked: Vec<&Value> = decision["lookups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["question"])
        .collect();
    assert_eq!(
        asked,
        [
            &json!({"contact": "Ann@acme.example"}),
            &json!({"assets": "db1"}),
            &json!({"tickets": {"field": ["serial", "SN-1"]}}),
            &json!({"alerts": "db1"}),
        ]
    );
    assert_eq!(decision["lookups"][0]["rule"], "rules/acme.js");
    assert_eq!(
        decision["lookups"][0]["found"],
        json!({"contacts": [{"name": "Ann", "email": "ann@acme.example", "vip": true, "fields": {"floor": "2"}}]})
    );
}

#[test]
fn saved_contacts_are_live_and_broken_ones_change_nothing() {
    let room = room(
        r#"export function decide(mail, ctx) {
  return ignore(ctx.lookup.contacts("").map((it) => it.name).join());
}
"#,
    );
    let running = room.start();
    let mut count = 0;
    let mut seen = || {
        count += 1;
        let subject = format!("who {count}");
        drop_in(&room, &subject, mail(&subject, "…"));
        let decision = room.await_decision(&subject);
        decision["actions"][0]["reason"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    assert_eq!(seen(), "Ann");
    let mut until = |names: &str| {
        let started = Instant::now();
        while seen() != names {
            assert!(started.elapsed() < Duration::from_secs(30), "never {names}");
        }
    };
    room.write(
        "contacts.csv",
        "name,email\nAnn,ann@acme.example\nBob,bob@acme.example\n",
    );
    until("Ann,Bob");
    room.write(
        "contacts.csv",
        "name,email\nAnn,ann@acme.example\nCid,cid\n",
    );
    let started = Instant::now();
    while !room.log().contains("contacts.csv:3") {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{}",
            room.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    until("Ann,Bob");
    room.write("contacts.csv", "name,email\nCid,cid@acme.example\n");
    until("Cid");
    running.stop();
    let told = room.log().matches("contacts.csv:3").count();
    assert_eq!(told, 1, "{}", room.log());
}

#[test]
fn without_good_contacts_the_next_rule_decides() {
    let room = room(
        r#"export function decide(mail, ctx) {
  return ctx.lookup.contact(mail.from.email) ? ticket() : quarantine("a stranger");
}
"#,
    );
    room.write("contacts.csv", "name\nAnn\n");
    let check = room.postroom(&["check"]);
    assert!(
        both(&check).contains("error: has no column email\n--> contacts.csv:1\n"),
        "{}",
        both(&check)
    );
    // One more than the allowed failures: the rule is not rolled back for a failure that is not its own.
    let names = ["one", "two", "three", "four", "five", "six"];
    for name in names {
        drop_in(&room, name, mail(name, "…"));
    }
    room.once();
    for name in names {
        let decision = room.decision(name);
        assert_eq!(
            (&decision["rule"], &decision["outcome"]),
            (&json!("fallback"), &json!("ticket"))
        );
        let trouble = &decision["troubles"][0];
        assert_eq!(trouble["kind"], "failure");
        let message = trouble["message"].as_str().unwrap();
        assert!(message.contains("contacts.csv:1"), "{message}");
    }
}

#[test]
fn rules_are_tried_and_tested_with_what_is_known() {
    let room = room(
        r#"export function decide(mail, ctx) {
  const [open] = ctx.lookup.tickets({ subject: "printer" });
  return open ? note({ ticket: open.ticket }) : ticket({ queue: ctx.lookup.contact("ann@acme.example")?.fields.floor });
}
"#,
    );
    room.write("one.eml", mail("one", "…"));
    let tried = room.rows(&[
        "rule",
        "try",
        "rules/acme.js",
        "one.eml",
        "--mailbox",
        "drop",
    ]);
    assert_eq!(tried[0]["actions"][0]["queue"], "2", "{tried:#?}");
    room.write("rules/acme.cases/open.eml", mail("open", "…"));
    room.write(
        "rules/acme.cases/open.expected.json",
        json!({
            "actions": [{"kind": "note", "ticket": "T-7"}],
            "lookup": {"tickets": [{"ticket": "T-7", "title": "The printer burns"}]},
        })
        .to_string(),
    );
    room.ok(&["rule", "test", "rules/acme.js"]);
}

#[test]
fn actions_that_are_not_granted_are_refused_and_cost_no_mail() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let config = CONFIG
        .replace("grants = [\"lookup\"]", "actions = [\"ticket\"]")
        .replace(
            "contacts = \"contacts.csv\"\nassets = \"assets.toml\"\n",
            "",
        );
    room.write("postroom.toml", config);
    room.write(
        "rules/acme.js",
        r#"const early = forward({ to: "boss@acme.example" });
export function decide(mail) {
  if (mail.subject === "both") return [ticket({ queue: "q" }), early];
  if (mail.subject === "only") return early;
  return ignore("spam");
}
"#,
    );
    for subject in ["both", "only", "called"] {
        room.write(&format!("spool/acme/{subject}.eml"), mail(subject, "…"));
    }
    room.once();
    let both = room.decision("both");
    assert_eq!(
        (&both["rule"], &both["outcome"]),
        (&json!("rules/acme.js"), &json!("ticket"))
    );
    assert_eq!(both["refused"][0]["action"]["kind"], "forward");
    assert_eq!(
        both["refused"][0]["reason"],
        "forward is not granted to tenant acme"
    );
    let only = room.decision("only");
    assert_eq!(
        (&only["rule"], &only["outcome"]),
        (&json!("fallback"), &json!("ticket"))
    );
    assert_eq!(only["troubles"][0]["kind"], "not-granted");
    let called = room.decision("called");
    assert_eq!(
        (&called["rule"], &called["outcome"]),
        (&json!("fallback"), &json!("ticket"))
    );
    assert_eq!(called["troubles"][0]["location"], "rules/acme.js:5:10");
    let message = called["troubles"][0]["message"].as_str().unwrap();
    assert!(
        message.contains("ignore is not granted to tenant acme"),
        "{message}"
    );
    room.assert_balanced(3);
}
