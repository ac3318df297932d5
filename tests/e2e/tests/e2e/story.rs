//! What happened to one mail and why, as a person asks for it, and what they can do about it.

use postroom_e2e::{PATIENCE, Room, both, mail_from};
use postroom_stand::{Stand, wait_for};

const RULE: &str = r#"
export function decide(mail) {
  console.log("seen", mail.subject);
  if (mail.match("subject", "^odd")) return quarantine("an odd subject");
  if (mail.match("subject", "^disk")) {
    const alerts = ["db1", "db2"].map((host) =>
      alert({ key: `disk/${host}`, state: host === "db1" ? "firing" : "resolved", severity: "critical", host, service: "disk", summary: "91% full" }));
    return alerts;
  }
  return pass();
}
"#;

fn room() -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("rules/first.js", RULE);
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n[tenants.acme]\ndomains = [\"acme.example\"]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nevery = \"1h\"\nrules = [\"rules/first.js\", \"standard\"]\n",
    );
    for (name, subject) in [
        ("1", "Printer jams"),
        ("2", "odd things"),
        ("3", "disk report"),
    ] {
        let mail = mail_from(
            "Ann Archer <ann@acme.example>",
            subject,
            "Please help.",
            &format!("Message-ID: <{name}@acme.example>\r\n"),
        );
        room.write(&format!("spool/{name}.eml"), mail);
    }
    room
}

#[test]
fn one_mail_is_told_from_its_reading_to_its_outcome() {
    let room = room();
    room.once();
    for which in ["T-1", "t-1", "<1@acme.example>", "1@acme.example"] {
        let story = room.ok(&["decisions", "show", which]);
        for part in [
            "from         ann@acme.example",
            "subject      Printer jams",
            "classified   person: ",
            "client       acme by ",
            "thread       none",
            "rule         rules/first.js passed (",
            "             standard decided (",
            "log          rules/first.js: info: seen Printer jams",
            "outcome      ticket T-1 by standard",
            "action       ticket  ",
        ] {
            assert!(story.contains(part), "{which}: {part:?} is not in\n{story}");
        }
    }
    let answer = mail_from("eve@evil.example", "Re: [T-1] Printer jams", "Me too.", "");
    room.write("spool/4.eml", answer);
    room.once();
    let story = room.ok(&["decisions", "show", "T-2"]);
    for part in [
        "searched     subject T-1: outsider T-1",
        "thread       T-1 by subject; the sender may not write to it",
    ] {
        assert!(story.contains(part), "{part:?} is not in\n{story}");
    }
    let odd = &room.rows(&["decisions", "search", "ODD", "ann@"])[0];
    let id = odd["id"].to_string();
    let story = room.ok(&["decisions", "show", &id]);
    assert!(story.contains("decided at rules/first.js:4:45"), "{story}");
    let json = &room.rows(&["decisions", "show", &id])[0];
    assert_eq!(json["rules"][0]["result"], "decided");
    assert!(json["deliveries"].as_array().unwrap().is_empty());

    assert!(
        room.rows(&["decisions", "search", "odd", "nobody"])
            .is_empty()
    );
    let unknown = room.postroom(&["decisions", "show", "T-99"]);
    assert!(!unknown.status.success());
    assert!(
        both(&unknown).contains("decisions search WORDS"),
        "{}",
        both(&unknown)
    );
}

#[test]
fn a_recorded_mail_is_shown_as_read_and_as_fetched() {
    let room = room();
    room.once();
    let shown = room.ok(&["mail", "show", "1@acme.example"]);
    assert!(
        shown.contains("From     Ann Archer <ann@acme.example>"),
        "{shown}"
    );
    assert!(shown.contains("\n\nPlease help."), "{shown}");
    let raw = room.ok(&["mail", "show", "1@acme.example", "--raw"]);
    let file = std::fs::read_to_string(room.path().join("spool/1.eml"));
    assert_eq!(raw, file.unwrap_or(raw.clone()));
    assert!(raw.contains("Subject: Printer jams\r\n"));
    assert_eq!(
        room.ok(&["mail", "show", "1@acme.example", "--text"])
            .trim(),
        "Please help."
    );
    let none = room.postroom(&["mail", "show", "1@acme.example", "--html"]);
    assert!(both(&none).contains("--text"), "{}", both(&none));
}

#[test]
fn listings_say_what_an_alert_is_about_in_one_line_each() {
    let room = room();
    room.once();
    let items = room.ok(&["items"]);
    assert!(items.contains("critical db1 disk: 91% full"), "{items}");
    let decisions = room.ok(&["decisions"]);
    let line = decisions
        .lines()
        .find(|line| line.contains("disk report"))
        .unwrap();
    assert!(
        line.contains("1 firing, 1 resolved") && line.contains("ann@acme.example"),
        "{line}"
    );
    assert_eq!(
        decisions.lines().count(),
        4,
        "a row is one line:\n{decisions}"
    );
}

/// The mailbox is checked every hour: the service notices the request by itself.
#[test]
fn a_mail_released_from_quarantine_becomes_a_ticket_while_the_service_runs() {
    let room = room();
    let running = room.start();
    let id = room.await_decision("odd things")["id"].to_string();
    let out = room.ok(&["quarantine", "release", &id, "--reason", "a customer"]);
    assert!(out.contains("to be decided again"), "{out}");
    let is_ticket = || room.decision("odd things")["outcome"] == "ticket";
    assert!(wait_for(PATIENCE, is_ticket), "{}", room.log());
    let story = room.ok(&["decisions", "show", &id]);
    assert!(
        story.contains("before       quarantined by rules/first.js"),
        "{story}"
    );
    assert!(story.contains("(a customer)"), "{story}");
    assert!(
        story.contains("refused      quarantine: a person released"),
        "{story}"
    );
    room.assert_balanced(3);

    let again = room.postroom(&["decisions", "again", &id]);
    assert!(
        !again.status.success() && both(&again).contains("--force"),
        "{}",
        both(&again)
    );
    drop(running);
}
