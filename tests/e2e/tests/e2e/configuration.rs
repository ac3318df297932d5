//! Saving the configuration is a release too: applied to the parts it concerns, without a restart, and with a way back.

use std::collections::BTreeSet;
use std::fs;

use postroom_e2e::{PATIENCE, Room, Running, both, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET, wait_for};

const RULE: &str = "export function decide(mail) { return ticket({ queue: \"one\" }); }\n";

/// A room with the mailbox `support` on Dovecot, and one client in a file of its own.
fn started() -> (Room<'static>, Running) {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("rules/acme.js", RULE);
    main_file(&room, "");
    client(&room, "globex", "");
    let running = room.start();
    room.deliver(mail("first", "…"));
    room.await_decision("first");
    (room, running)
}

fn main_file(room: &Room, more: &str) {
    let config = room.config(&["rules/acme.js", "standard"], more);
    room.write(
        "postroom.toml",
        format!("include = [\"clients/*.toml\"]\n{config}"),
    );
}

fn client(room: &Room, name: &str, more: &str) {
    room.write(
        &format!("clients/{name}.toml"),
        format!("[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool-{name}\"\nevery = \"1s\"\n{more}"),
    );
}

/// Puts a mail into a client's spool folder, and waits for its decision.
fn decided(room: &Room, name: &str, subject: &str) -> serde_json::Value {
    room.write(&format!("spool-{name}/{subject}.eml"), mail(subject, "…"));
    room.await_decision(subject)
}

/// The connections of the mailbox `support`.
fn sessions(room: &Room, running: &Running) -> BTreeSet<u16> {
    running.connections_to(room.stand.ports().imaps)
}

#[test]
fn clients_come_change_and_go_and_no_other_session_ends() {
    let (room, running) = started();
    let session = sessions(&room, &running);
    assert_eq!(session.len(), 1, "{}", running.log());

    client(&room, "hooli", "");
    running.await_log("added=\"tenant hooli, mailbox hooli\"");
    decided(&room, "hooli", "of-the-new");

    room.write(
        "rules/hooli.js",
        "export function decide(mail) { return ticket({ queue: \"changed\" }); }\n",
    );
    client(&room, "hooli", "rules = [\"rules/hooli.js\"]\n");
    running.await_log("changed=\"mailbox hooli\"");
    let decision = decided(&room, "hooli", "of-the-changed");
    assert_eq!(decision["actions"][0]["queue"], "changed");

    fs::remove_file(room.path().join("clients/hooli.toml")).unwrap();
    running.await_log("removed=\"tenant hooli, mailbox hooli\"");
    room.write("spool-hooli/late.eml", mail("late", "…"));
    // The others go on, and what came for the one that is gone stays where it is.
    decided(&room, "globex", "of-another");
    room.deliver(mail("second", "…"));
    room.await_decision("second");
    assert!(room.path().join("spool-hooli/late.eml").exists());
    assert_eq!(sessions(&room, &running), session, "{}", running.log());

    // It comes back, and nothing was lost.
    client(&room, "hooli", "");
    room.await_decision("late");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_broken_save_changes_nothing_and_a_sound_one_beside_it_is_applied() {
    let (room, running) = started();
    let session = sessions(&room, &running);
    client(&room, "globex", "rules = [\n");
    running.await_log("not applied, the configuration stays as it was here");
    assert!(
        running.log().contains("at=\"clients/globex.toml:7"),
        "{}",
        running.log()
    );
    decided(&room, "globex", "by-what-was");

    client(&room, "hooli", "");
    running.await_log("added=\"tenant hooli, mailbox hooli\"");
    decided(&room, "hooli", "beside-the-broken");

    // The main file, and a fault that spreads: nothing is applied.
    main_file(&room, "[sinks.torn]\nkind = \"webhook\"\n");
    running.await_log("sinks.torn.url: is missing");
    let config = room
        .config(&["rules/acme.js"], "")
        .replace("[tenants.acme]", "[tenants.other]");
    room.write(
        "postroom.toml",
        format!("include = [\"clients/*.toml\"]\n{config}"),
    );
    running.await_log("there is no tenant \"acme\"");
    room.deliver(mail("second", "…"));
    room.await_decision("second");
    assert_eq!(sessions(&room, &running), session, "{}", running.log());

    // Corrected, all of it is applied.
    main_file(&room, "");
    client(&room, "globex", "rules = [\"rules/acme.js\"]\n");
    running.await_log("changed=\"mailbox globex\"");
    let decision = decided(&room, "globex", "by-the-corrected");
    assert_eq!(decision["actions"][0]["queue"], "one");
    let check = room.postroom(&["check"]);
    assert!(check.status.success(), "{}", both(&check));
}

#[test]
fn a_new_target_takes_what_is_decided_from_then_on() {
    let (room, running) = started();
    let session = sessions(&room, &running);
    assert!(wait_for(PATIENCE, || room.posted_once() == 1));
    // The other sink receives nothing for this client any more, and a second one does.
    let config = room.config(&["rules/acme.js", "standard"], "");
    let (before, sink) = config.split_once("[sinks.psa]").unwrap();
    room.write(
        "postroom.toml",
        format!("include = [\"clients/*.toml\"]\n{before}[sinks.second]{sink}[sinks.psa]{sink}tenants = [\"globex\"]\n"),
    );
    running.await_log("added=\"sink second\" changed=\"sink psa\"");
    room.deliver(mail("second", "…"));
    room.await_decision("second");
    assert!(
        wait_for(PATIENCE, || room
            .rows(&["outbox"])
            .iter()
            .any(|it| it["target"] == "second" && it["state"] == "delivered")),
        "{:?}",
        room.rows(&["outbox"])
    );
    let to_psa = room.rows(&["outbox"]);
    let to_psa = to_psa.iter().filter(|it| it["target"] == "psa").count();
    assert_eq!(to_psa, 1);
    assert_eq!(sessions(&room, &running), session, "{}", running.log());
}

#[test]
fn sighup_reads_secrets_again_and_says_when_nothing_changed() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("rules/acme.js", RULE);
    let config = room.config(&["rules/acme.js"], "");
    let config = config.replace(
        "{ env = \"POSTROOM_TEST_HOOK_SECRET\" }",
        "{ file = \"hook-secret\" }",
    );
    room.write("postroom.toml", config);
    let running = room.start();
    running.await_log("sink psa is misconfigured");
    room.deliver(mail("first", "…"));
    room.await_decision("first");
    assert!(room.posted().is_empty());

    room.write("hook-secret", WEBHOOK_SECRET);
    running.ask_to_reload();
    running.await_log("changed=\"sink psa\"");
    assert!(
        wait_for(PATIENCE, || room.posted_once() == 1),
        "{}",
        running.log()
    );
    running.ask_to_reload();
    running.await_log("the configuration is as it was: nothing to apply");
    // Later looks do not report it again.
    assert_eq!(running.lines("ERROR", "sink psa is misconfigured").len(), 1);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn configurations_are_listed_compared_and_restored() {
    let (room, running) = started();
    client(&room, "hooli", "");
    running.await_log("configuration=2");
    main_file(&room, "keep_raw_unknown = 1\n");
    running.await_log("not applied");

    fs::remove_file(room.path().join("clients/globex.toml")).unwrap();
    running.await_log("configuration=3");
    let listed = room.rows(&["config", "list"]);
    let numbers: Vec<u64> = listed
        .iter()
        .map(|it| it["configuration"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [3, 2, 1]);
    assert_eq!(listed[1]["why"]["changes"]["added"][1]["name"], "hooli");
    let shown = room.ok(&["config", "show", "2"]);
    assert!(
        shown.contains("# clients/hooli.toml") && shown.contains("[mailboxes.hooli]"),
        "{shown}"
    );

    let back = room.ok(&["config", "back", "1"]);
    assert!(
        back.contains("clients/hooli.toml: now clients/.hooli.toml.removed"),
        "{back}"
    );
    assert!(back.contains(".postroom.toml.unapplied"), "{back}");
    running.await_log("removed=\"tenant hooli, mailbox hooli\"");
    decided(&room, "globex", "as-at-the-start");
    let again = room.ok(&["config", "back", "1"]);
    assert!(again.contains("nothing to do"), "{again}");
    assert_eq!(running.stop(), Some(0));

    // A dry run.
    let same = room.postroom(&["check", "--diff"]);
    assert!(
        both(&same).contains("no change to configuration 4"),
        "{}",
        both(&same)
    );
    client(&room, "globex", "deliver_old = true\n");
    client(&room, "initech", "");
    let diff = room.ok(&["check", "--diff"]);
    let lines: Vec<&str> = diff.lines().collect();
    assert_eq!(
        lines,
        ["+ tenant initech", "+ mailbox initech", "~ mailbox globex"]
    );
}

#[test]
fn settings_contacts_and_the_tenant_of_a_mailbox_change_with_a_save() {
    let (room, running) = started();
    room.write(
        "rules/told.js",
        "export function decide(mail, ctx) {\n  const who = ctx.lookup.contact(\"jane@acme.example\");\n  return ticket({ queue: `${ctx.tenant} ${ctx.settings.word} ${who ? who.name : \"nobody\"}` });\n}\n",
    );
    let told = |tenant: &str, word: &str, contacts: &str| {
        let file = format!(
            "[tenants.{tenant}]\ngrants = [\"lookup\"]\n{contacts}[tenants.{tenant}.settings.\"rules/told.js\"]\nword = \"{word}\"\n[mailboxes.hooli]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool-hooli\"\nevery = \"1s\"\nrules = [\"rules/told.js\"]\n"
        );
        room.write("clients/hooli.toml", file);
    };
    let queue = |subject: &str| decided(&room, "hooli", subject)["actions"][0]["queue"].clone();
    room.write("jane.csv", "email,name\njane@acme.example,Jane\n");
    room.write("joan.csv", "email,name\njane@acme.example,Joan\n");

    told("hooli", "one", "");
    running.await_log("configuration=2");
    assert_eq!(queue("plain"), "hooli one nobody");
    told("hooli", "two", "contacts = \"jane.csv\"\n");
    running.await_log("configuration=3");
    assert_eq!(queue("with contacts"), "hooli two Jane");
    told("hooli", "two", "contacts = \"joan.csv\"\n");
    running.await_log("configuration=4");
    assert_eq!(queue("with others"), "hooli two Joan");
    told("hooli", "two", "");
    running.await_log("configuration=5");
    assert_eq!(queue("without contacts"), "hooli two nobody");
    told("initech", "two", "");
    running.await_log("configuration=6");
    assert_eq!(queue("of another"), "initech two nobody");
    assert_eq!(room.decision("of another")["tenant"], "initech");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn the_first_account_comes_with_a_save() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("rules/acme.js", RULE);
    let config = room.config(&["rules/acme.js"], "");
    let (tls, rest) = config.split_once("[profiles.acme]").unwrap();
    // What concerns TLS needs a restart.
    client(&room, "globex", "");
    room.write(
        "postroom.toml",
        format!("include = [\"clients/*.toml\"]\n{tls}"),
    );
    let running = room.start();
    decided(&room, "globex", "without an account");
    room.write(
        "postroom.toml",
        format!("include = [\"clients/*.toml\"]\n{tls}[profiles.acme]{rest}"),
    );
    running.await_log("mailbox support");
    room.deliver(mail("with an account", "…"));
    room.await_decision("with an account");
    assert!(wait_for(PATIENCE, || room.count("Processed") == 1));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn undecided_mail_goes_with_its_mailbox_and_is_decided_once() {
    let (room, running) = started();
    let hooli = |tenant: &str, limits: &str| {
        let file = format!(
            "[tenants.hooli]\n{limits}[tenants.initech]\n[mailboxes.hooli]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool-hooli\"\nevery = \"1s\"\nrules = [\"standard\"]\n"
        );
        room.write("clients/hooli.toml", file);
    };
    hooli("hooli", "limits = { mails_per_minute = 1 }\n");
    running.await_log("configuration=2");
    let names = ["one", "two", "three", "four"];
    for name in names {
        room.write(&format!("spool-hooli/{name}.eml"), mail(name, "…"));
    }
    let waiting = || {
        running
            .log()
            .contains("mail is held back by the tenant's mails_per_minute")
    };
    assert!(wait_for(PATIENCE, waiting), "{}", running.log());
    hooli("initech", "");
    for name in names {
        room.await_decision(name);
    }
    running.await_log("the mailbox was another tenant's");
    assert_eq!(running.stop(), Some(0));
    let decided = room.decisions().into_iter();
    let decided = decided.filter(|it| it["mailbox"] == "hooli");
    assert_eq!(decided.count(), names.len());
    room.once();
    assert_eq!(room.decisions().len(), names.len() + 1);
}

#[test]
fn a_mistake_that_was_never_applied_is_undone_first() {
    let (room, running) = started();
    client(&room, "hooli", "");
    running.await_log("configuration=2");
    room.write("clients/globex.toml", "[tenants.globex\n");
    running.await_log("not applied");
    let back = room.ok(&["config", "back"]);
    assert!(back.contains("clients/.globex.toml.unapplied"), "{back}");
    running.await_log("the saved files have no problem any more");
    decided(&room, "hooli", "still there");
    // Now it is the last good save that is undone.
    let back = room.ok(&["config", "back"]);
    assert!(back.contains("clients/.hooli.toml.removed"), "{back}");
    running.await_log("mailboxes were removed and are not read any more");
    assert_eq!(running.stop(), Some(0));
}
