//! Alerts of real mail: their order, mails that are expected, maintenance, and copies in several mailboxes.

use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET, wait_for};
use serde_json::Value;

/// The state is the mail's text; the key is its subject.
const ALERTS: &str = r#"export function decide(mail) {
  return alert({ key: mail.subject, state: mail.text.trim(), host: "srv-01", severity: "major" });
}
"#;

const EXPECTS: &str = r#"export function decide(mail) {
  return expect({ key: "backup/" + mail.subject, within: "1s" });
}
"#;

/// Returns a room with a sink, and the mailboxes `drop` and `other` of one tenant.
fn room(rule: &str, more: &str) -> Room<'static> {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let url = format!("{}/{}", stand.webhook().url(), room.directory());
    room.write("secret", WEBHOOK_SECRET);
    room.write("rules/rule.js", rule);
    let mut config = format!(
        "data_dir = \"data\"\n{more}\n[tenants.acme]\n[sinks.psa]\nkind = \"webhook\"\nurl = {url:?}\nsecret = {{ file = \"secret\" }}\n"
    );
    for name in ["drop", "other"] {
        config += &format!(
            "[mailboxes.{name}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = {name:?}\nevery = \"1s\"\nrules = [\"rules/rule.js\"]\n"
        );
        std::fs::create_dir(room.path().join(name)).unwrap();
    }
    room.write("postroom.toml", config);
    room
}

/// Returns the bodies that the sink received.
fn posted(room: &Room) -> Vec<Value> {
    let mine = format!("/{}", room.directory());
    let requests = Stand::shared().unwrap().webhook().received();
    let requests = requests.iter().filter(|it| it.path.ends_with(&mine));
    requests
        .map(|it| serde_json::from_slice(&it.body).unwrap())
        .collect()
}

fn kinds(room: &Room) -> Vec<String> {
    let posted = posted(room);
    let kinds = posted.iter().map(|it| it["type"].as_str().unwrap());
    kinds.map(str::to_owned).collect()
}

fn dated(date: &str, subject: &str, text: &str) -> String {
    mail(subject, text).replace("Mon, 16 Nov 2026 09:05:00 +0000", date)
}

#[test]
fn the_alert_is_as_its_last_sent_mail_says_whatever_the_order_of_files() {
    let room = room(ALERTS, "");
    let fail = dated("Mon, 16 Nov 2026 23:00:00 +0000", "m365", "firing");
    let good = dated("Tue, 17 Nov 2026 23:00:00 +0000", "m365", "resolved");
    room.write(
        "drop/1-first.eml",
        dated("Sun, 15 Nov 2026 23:00:00 +0000", "m365", "firing"),
    );
    room.write("drop/2-restored.eml", good);
    room.write("drop/3-failed.eml", fail);
    room.once();
    assert_eq!(kinds(&room), ["alert.firing", "alert.resolved"]);
    let items = room.rows(&["items", "--kind", "alert"]);
    assert_eq!(items.len(), 1);
    assert_eq!(
        (&items[0]["state"], &items[0]["count"]),
        (&"resolved".into(), &3.into())
    );
    assert_eq!(items[0]["first_seen"], "2026-11-15T23:00:00.000Z");
    assert_eq!(items[0]["last_seen"], "2026-11-17T23:00:00.000Z");
    assert_eq!(
        posted(&room)[1]["data"]["last_seen"],
        "2026-11-17T23:00:00.000Z"
    );
    let table = room.ok(&["items", "--kind", "alert"]);
    assert!(
        table.contains("srv-01") && table.contains("major"),
        "{table}"
    );

    // What never fired is resolved in silence.
    room.write("drop/4.eml", mail("never", "resolved"));
    room.once();
    assert_eq!(kinds(&room).len(), 2);
    room.assert_balanced(4);
}

#[test]
fn an_expected_mail_that_does_not_come_raises_an_alert_over_a_kill() {
    let room = room(EXPECTS, "");
    room.write("drop/1.eml", mail("srv", "one"));
    let running = room.start();
    room.await_decision("srv");
    running.kill();
    // Deciding again does not expect again.
    room.ok(&["replay", "--rule", "rules/rule.js"]);
    let waiting = room.rows(&["expectations"]);
    assert_eq!(waiting.len(), 1, "{waiting:#?}");
    assert_eq!(waiting[0]["key"], "backup/srv");
    assert_eq!(waiting[0]["mailbox"], "drop");

    let running = room.start();
    let come = wait_for(PATIENCE, || !posted(&room).is_empty());
    assert!(come, "{}", room.log());
    let lines = running.lines("WARN", "expected mail did not arrive in time; alert raised");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let event = &posted(&room)[0];
    assert_eq!(event["type"], "alert.firing");
    assert_eq!(event["data"]["alert_key"], "backup/srv");
    assert_eq!(
        event["data"]["title"],
        "no mail with key backup/srv within 1s"
    );
    assert_eq!(room.rows(&["expectations"])[0]["state"], "overdue");
    running.kill();

    // It is raised once, and resolved by the next mail.
    room.once();
    assert_eq!(kinds(&room), ["alert.firing"]);
    room.write("drop/2.eml", mail("srv", "two"));
    room.once();
    assert_eq!(kinds(&room)[..2], ["alert.firing", "alert.resolved"]);
    // The command raises it as well.
    std::thread::sleep(Duration::from_millis(1100));
    room.once();
    assert_eq!(
        kinds(&room),
        ["alert.firing", "alert.resolved", "alert.firing"]
    );
    room.assert_balanced(2);
}

#[test]
fn an_import_of_old_mail_raises_no_alert_about_missing_mail() {
    let room = room(EXPECTS, "");
    room.write(
        "old.eml",
        dated("Mon, 16 Nov 2020 23:00:00 +0000", "srv", "one"),
    );
    room.ok(&["mail", "import", "--mailbox", "drop", "old.eml"]);
    assert!(room.rows(&["expectations"]).is_empty());
    room.once();
    assert!(posted(&room).is_empty());
}

#[test]
fn maintenance_holds_alerts_and_delivers_those_that_still_fire() {
    let window = |until: &str| {
        format!(
            "[[maintenance]]\nhosts = [\"srv-*\"]\nfrom = \"2020-01-01T00:00:00Z\"\nuntil = \"{until}\"\n"
        )
    };
    let room = room(ALERTS, &window("2100-01-01T00:00:00Z"));
    room.write("drop/1.eml", mail("disk", "firing"));
    room.once();
    assert!(posted(&room).is_empty());
    let item = &room.items()[0];
    assert_eq!(
        (&item["state"], &item["held"]),
        (&"firing".into(), &"maintenance".into())
    );
}

#[test]
fn the_same_mail_in_two_mailboxes_is_one_ticket() {
    let room = room("export function decide() { return ticket(); }\n", "");
    let text = "It burns.";
    let direct = mail("Printer", text);
    room.write(
        "drop/direct.eml",
        format!("Received: from a by b; Mon, 16 Nov 2026 09:05:01 +0000\r\n{direct}"),
    );
    room.write(
        "other/direct.eml",
        format!("Received: from a by c; Mon, 16 Nov 2026 09:05:09 +0000\r\n{direct}"),
    );
    let listed = direct.replace(
        "Subject: ",
        "List-Id: <all.acme.example>\r\nSubject: [all] ",
    ) + "_______________________________________________\r\nall mailing list\r\n";
    room.write("drop/listed.eml", listed);
    // An attacker repeats the id of somebody's mail.
    let forged = direct.replace(text, "Please pay.");
    room.write("drop/forged.eml", forged);
    room.once();
    let items = room.items();
    assert_eq!(items.len(), 2, "{items:#?}");
    let decisions = room.decisions();
    let copies: Vec<&Value> = decisions
        .iter()
        .filter(|it| it["rule"] == "copies")
        .collect();
    assert_eq!(copies.len(), 2, "{decisions:#?}");
    for copy in copies {
        assert_eq!(copy["outcome"], "ignored");
        let reason = copy["actions"][0]["reason"].as_str().unwrap();
        let first = reason.strip_prefix("same mail as ").unwrap();
        let first: i64 = first.parse().unwrap();
        let first = decisions.iter().find(|it| it["id"] == first);
        assert_eq!(first.unwrap()["outcome"], "ticket");
    }
    room.assert_balanced(4);
}

#[test]
fn a_forged_copy_that_nobody_sees_hides_no_mail() {
    let rule = r#"export function decide(mail, ctx) {
  return ctx.mailbox === "drop" ? ignore("spam") : ticket();
}
"#;
    let room = room(rule, "");
    let twin = mail("Printer", "It burns.");
    room.write("drop/1.eml", &twin);
    room.once();
    room.write("other/1.eml", &twin);
    room.once();
    assert_eq!(room.items().len(), 1);
}

#[test]
fn a_tenant_may_ask_for_each_copy() {
    let room = room("export function decide() { return ticket(); }\n", "");
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let config = config.replace(
        "[tenants.acme]\n",
        "[tenants.acme]\nduplicates = \"each\"\n",
    );
    room.write("postroom.toml", config);
    let twin = mail("Printer", "It burns.");
    room.write("drop/1.eml", &twin);
    room.write("other/1.eml", &twin);
    room.once();
    assert_eq!(room.items().len(), 2);
}
