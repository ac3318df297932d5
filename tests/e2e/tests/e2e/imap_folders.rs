//! Several folders of one IMAP mailbox on Dovecot: each mail once, a folder that comes and goes, and renumbered folders.

use postroom_e2e::grants::{Person, sign_in};
use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{PUBLIC_CLIENT_ID, Stand, wait_for};

/// A room whose mailbox reads these folders, with another import and interval than usual.
fn room(stand: &'static Stand, folders: &str, import: &str) -> Room<'static> {
    let room = Room::bare(stand);
    write(&room, folders, import);
    room
}

fn write(room: &Room, folders: &str, import: &str) {
    let config = room
        .config(&["standard"], "")
        .replace(
            "import = \"all\"",
            &format!("import = {import:?}\nfolders = {folders}"),
        )
        .replace("every = \"5s\"", "every = \"1s\"");
    room.write("postroom.toml", config);
}

fn append(room: &Room, folder: &str, mail: &str) {
    room.stand
        .append(&room.user, folder, "", [mail])
        .expect("appending a mail");
}

#[test]
fn each_mail_of_every_folder_is_decided_once_in_one_session() {
    let room = room(
        Stand::shared().expect("the test stand"),
        "[\"INBOX\", \"Junk\", \"Sales\"]",
        "all",
    );
    let twice = mail("in two folders", "…");
    append(&room, "INBOX", &mail("in the inbox", "…"));
    append(&room, "INBOX", &twice);
    append(&room, "Junk", &twice);
    append(&room, "Junk", &mail("in junk", "…"));
    append(&room, "Sales", &mail("in sales", "…"));
    room.once();
    assert_eq!((room.decisions().len(), room.items().len()), (4, 4));
    // Each copy left its folder.
    for folder in ["INBOX", "Junk", "Sales"] {
        assert_eq!(room.count(folder), 0, "{folder}");
    }
    assert_eq!(room.count("Processed"), 5);
    room.once();
    assert_eq!(room.decisions().len(), 4);

    let running = room.start();
    append(&room, "Sales", &mail("later in sales", "…"));
    room.await_decision("later in sales");
    room.deliver(mail("later in the inbox", "…"));
    room.await_decision("later in the inbox");
    append(&room, "Junk", &mail("later in junk", "…"));
    room.await_decision("later in junk");
    let moved = || room.count("Processed") == 8;
    assert!(wait_for(PATIENCE, moved), "{}", running.log());
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(7);
}

#[test]
fn a_missing_folder_is_reported_and_stops_no_other() {
    let room = room(
        Stand::shared().expect("the test stand"),
        "[\"INBOX\", \"Junk\"]",
        "new",
    );
    room.deliver(mail("before the first contact", "…"));
    let output = room.postroom(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(
        both(&output).contains("some folders are not read, the others are: select: folder Junk"),
        "{}",
        both(&output)
    );
    room.deliver(mail("first", "…"));
    let running = room.start();
    room.await_decision("first");
    running.await_log("some folders are not read, the others are: select: folder Junk");
    assert_eq!(running.lines("ERROR", "").len(), 1, "{}", running.log());
    let ledger = room.ok(&["ledger"]);
    assert!(ledger.contains("support is read in part since"), "{ledger}");

    // Its first mail creates it: that mail came after the first contact.
    append(&room, "Junk", &mail("second", "…"));
    room.await_decision("second");
    running.await_log("serving again");
    room.stand.delete_folder(&room.user, "Junk").unwrap();
    let told = || running.lines("ERROR", "some folders are not read").len() == 2;
    assert!(wait_for(PATIENCE, told), "{}", running.log());
    room.deliver(mail("third", "…"));
    room.await_decision("third");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(room.decisions().len(), 3);
}

#[test]
fn a_folder_added_to_the_configuration_is_met_for_the_first_time() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let one = room
        .config(&["standard"], "")
        .replace("import = \"all\"", "import = \"new\"");
    room.write("postroom.toml", one);
    room.once();
    append(&room, "Sales", &mail("before", "…"));
    room.deliver(mail("inbox", "…"));
    write(&room, "[\"INBOX\", \"Sales\"]", "new");
    room.once();
    append(&room, "Sales", &mail("after", "…"));
    room.once();
    room.decision("inbox");
    room.decision("after");
    assert_eq!(room.decisions().len(), 2);
}

#[test]
fn mailbox_test_names_each_folder() {
    let room = room(
        Stand::shared().expect("the test stand"),
        "[\"INBOX\", \"Sales\", \"Gone\"]",
        "new",
    );
    append(&room, "Sales", &mail("a sample", "…"));
    let output = room.postroom(&["mailbox", "test", "support"]);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for text in [
        "INBOX, 0 mails",
        "Sales, 1 mail",
        "Sales: newest mail: UID 1",
        "folder Gone cannot be opened",
        "has no folder Gone",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
}

/// On a separate stand, because it stops Dovecot. Without its index, Dovecot gives a folder another UIDVALIDITY.
#[test]
fn a_folder_whose_index_is_gone_neither_floods_nor_loses_mail() {
    let stand: &'static Stand = Box::leak(Box::new(Stand::start().expect("the test stand")));
    let room = Room::bare(stand);
    let config = room
        .config(&["standard"], "")
        .replace("import = \"all\"", "import = \"new\"")
        .replace(
            "after = { done = \"move:Processed\", failed = \"move:Failed\" }",
            "after.done = \"seen\"",
        );
    room.write("postroom.toml", config);
    const LONG_AGO: &str = "01-Nov-2020 10:00:00 +0000";
    let old: Vec<String> = (0..20).map(|n| mail(&format!("old {n}"), "…")).collect();
    stand
        .append_dated(&room.user, "INBOX", LONG_AGO, &old)
        .unwrap();
    room.once();
    for subject in ["first", "second"] {
        room.deliver(mail(subject, "…"));
    }
    room.once();
    assert_eq!(room.decisions().len(), 2);

    stand.stop_dovecot().unwrap();
    let removed = remove_indexes(stand.dir(), &room.user);
    assert!(removed > 0, "no index of {} was found", room.user);
    stand.start_dovecot().unwrap();
    room.deliver(mail("third", "…"));
    let output = room.postroom(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    assert!(
        both(&output).contains("renumbered the folder (UIDVALIDITY"),
        "{}",
        both(&output)
    );
    room.once();
    let subjects: Vec<String> = room
        .decisions()
        .iter()
        .map(|row| row["subject"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(subjects.len(), 3, "{subjects:?}");
    assert!(subjects.contains(&"third".to_owned()), "{subjects:?}");
    let seen = room.folder("INBOX");
    let seen = seen.iter().filter(|it| it.flags.contains(&"\\Seen".into()));
    assert_eq!(seen.count(), 3);
}

/// Removes Dovecot's indexes and the record of UIDVALIDITY below a user's home.
fn remove_indexes(dir: &std::path::Path, user: &str) -> usize {
    let mut removed = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_theirs = path.to_string_lossy().contains(user);
            if path.is_dir() {
                folders.push(path);
            } else if is_theirs
                && (name.starts_with("dovecot.index") || name.starts_with("dovecot-uidvalidity"))
            {
                std::fs::remove_file(&path).expect("removing an index");
                removed += 1;
            }
        }
    }
    removed
}

/// The stand's Dovecot opens a mailbox with a person's token only if it is the person's own or shared with them.
#[test]
fn a_shared_mailbox_is_read_with_the_token_of_a_person_who_may_open_it() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let person = room.user.clone();
    let shared = format!("shared.{person}");
    let directory = room.directory();
    let authority = stand.authority().issuer();
    let profile = format!(
        "provider = \"microsoft\"\ntenant = \"{directory}\"\nauthorize_url = \"{authority}/{directory}/oauth2/v2.0/authorize\"\ntoken_url = \"{authority}/{directory}/oauth2/v2.0/token\"\nclient_id = \"{PUBLIC_CLIENT_ID}\"\ngrant = \"authorization-code\""
    );
    let config = room
        .config_with(&profile, &["standard"], "")
        .replace(
            &format!("address = \"{person}\""),
            &format!("address = \"{shared}\"\nlogin = \"{person}\""),
        )
        .replace(
            "import = \"all\"",
            "import = \"all\"\nfolders = [\"INBOX\", \"Junk\"]",
        );
    room.write("postroom.toml", config);
    sign_in(&room, "acme", Person::Listener);
    let refused = room.postroom(&["mailbox", "test", "support"]);
    let said = both(&refused);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(said.contains("authenticate"), "{said}");

    stand.authority().share(&person, &shared).unwrap();
    for (folder, subject) in [("INBOX", "in the inbox"), ("Junk", "in junk")] {
        stand
            .append(&shared, folder, "", [mail(subject, "…")])
            .unwrap();
    }
    room.once();
    for subject in ["in the inbox", "in junk"] {
        room.decision(subject);
    }
    assert_eq!(stand.message_count(&shared, "Processed").unwrap(), 2);
    assert_eq!(room.count("INBOX"), 0);
}
