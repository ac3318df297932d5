//! Old mail: decided and listed, never answered, and delivered to no sink unless somebody asks for it.

use postroom_e2e::{Room, mail_from};
use postroom_stand::Stand;

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

fn acknowledging<'a>() -> Room<'a> {
    let room = Room::bare(stand());
    let more = "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it: {ticket}.\"\n";
    room.write("postroom.toml", room.config(&["standard"], more));
    room
}

fn of_2019(name: &str) -> String {
    mail_from("dana@acme.example", name, "…", "").replace(
        "Date: ",
        "Date: Tue, 05 Mar 2019 09:00:00 +0100\r\nX-Date: ",
    )
}

fn import(room: &Room<'_>, more: &[&str]) -> String {
    let mut args = vec!["mail", "import", "--mailbox", "support"];
    args.extend(more);
    room.ok(&args)
}

#[test]
fn an_import_of_old_mail_answers_nobody_and_sends_nothing() {
    let room = acknowledging();
    for n in 0..3 {
        room.write(&format!("old/{n}.eml"), of_2019(&format!("old {n}")));
    }
    let said = import(&room, &["old"]);
    assert!(
        said.contains("old mail among them: 3, nothing of it was sent"),
        "{said}"
    );
    assert!(room.rows(&["outbox"]).is_empty());
    assert_eq!(room.items().len(), 3);
    let decision = room.decision("old 1");
    assert_eq!(decision["old"], true);
    assert_eq!(decision["refused"][0]["reason"], "old mail");
    room.once();
    assert!(room.posted().is_empty() && room.sent().is_empty());
    // An action that was held back is not a change of the rules.
    room.ok(&["replay"]);
}

#[test]
fn who_asks_for_it_has_old_mail_in_the_sinks_and_never_answered() {
    let room = acknowledging();
    room.write("old.eml", of_2019("old"));
    let said = import(&room, &["--deliver", "old.eml"]);
    assert!(
        said.contains("old mail among them: 1, none of it was answered"),
        "{said}"
    );
    assert_eq!(room.posted().len(), 1);
    assert!(room.sent().is_empty());
}

#[test]
fn young_mail_of_an_import_is_answered_unless_it_is_said_to_be_old() {
    let room = acknowledging();
    let now = jiff::Timestamp::now().strftime("Date: %a, %d %b %Y %H:%M:%S +0000\r\nX-Date: ");
    let today = |name: &str| {
        mail_from("dana@acme.example", name, "…", "").replace("Date: ", &now.to_string())
    };
    room.write("young.eml", today("young"));
    room.write("said.eml", today("said to be old"));
    let said = import(&room, &["young.eml"]);
    assert!(!said.contains("old mail"), "{said}");
    assert_eq!((room.posted().len(), room.sent().len()), (1, 1));
    import(&room, &["--old", "said.eml"]);
    assert_eq!((room.posted().len(), room.sent().len()), (1, 1));
}

#[test]
fn an_import_that_is_killed_continues_with_the_same_command() {
    let room = acknowledging();
    // More than two batches, of which the second is not journalled in whole when the process dies.
    for n in 0..150 {
        room.write(&format!("old/{n:03}.eml"), of_2019(&format!("kept {n:03}")));
    }
    let import = ["mail", "import", "--mailbox", "support", "old"];
    let mut killed = room.command(&import);
    killed.env("POSTROOM_CRASH_AT", "mail:kept 100");
    let killed = killed.output().unwrap();
    assert!(!killed.status.success());
    let decided = room.decisions().len();
    assert!((64..128).contains(&decided), "{decided} decided before");
    let rows = room.rows(&import);
    assert_eq!(rows[0]["read"], 150, "{rows:#?}");
    assert_eq!(rows[0]["failed"], 0, "{rows:#?}");
    assert_eq!(room.decisions().len(), 150);
    // Nothing is there twice, and what was journalled before the end is old mail still.
    assert_eq!(room.items().len(), 150);
    assert!(room.decisions().iter().all(|it| it["old"] == true));
    room.once();
    assert!(room.posted().is_empty() && room.sent().is_empty());
    let again = room.rows(&import);
    assert_eq!(again[0]["known"], 150, "{again:#?}");
}
