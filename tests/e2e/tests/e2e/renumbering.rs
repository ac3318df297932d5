//! Recreated folders, and folders that mail is moved to: no flood of old mail, and a refused move is reported.

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, wait_for};

const LONG_AGO: &str = "01-Nov-2020 10:00:00 +0000";
const ACKNOWLEDGE: &str =
    "\n[tenants.acme.settings.standard]\nacknowledge = \"We have your mail as {ticket}.\"\n";

#[test]
fn old_mail_of_a_folder_made_anew_is_neither_ticketed_nor_answered() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let config = room
        .config(&["standard"], ACKNOWLEDGE)
        .replace("import = \"all\"", "import = \"new\"\nfolder = \"Tickets\"")
        .replace("every = \"5s\"", "every = \"1s\"");
    room.write("postroom.toml", config);
    let old: Vec<String> = (0..60)
        .map(|number| mail(&format!("old {number}"), "…"))
        .collect();
    let put_old = || stand.append_dated(&room.user, "Tickets", LONG_AGO, &old);
    put_old().unwrap();

    room.once();
    assert!(room.decisions().is_empty());

    let running = room.start();
    stand
        .append(&room.user, "Tickets", "", [mail("first", "…")])
        .unwrap();
    room.await_decision("first");
    // Dovecot ends a session half a second after its folder was deleted. Until then that session overwrites the index of a
    // folder with the same name, and every session sees an empty folder until a delivery makes Dovecot rebuild the index.
    stand.delete_folder(&room.user, "Tickets").unwrap();
    running.await_log("mailbox paused");
    put_old().unwrap();
    stand
        .append(&room.user, "Tickets", "", [mail("second", "…")])
        .unwrap();
    room.await_decision("second");
    running.await_log("renumbered");
    running.await_log("serving again");
    assert_eq!(room.decisions().len(), 2);
    assert_eq!(room.items().len(), 2);
    assert!(wait_for(PATIENCE, || room.sent().len() == 2));
    assert_eq!(running.stop(), Some(0));
    assert_eq!(room.sent().len(), 2);
}

#[test]
fn a_refused_move_is_told_by_the_exit_code() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    // Dovecot has no folder of this name.
    let config = room
        .config(&["standard"], "")
        .replace("move:Processed", "move:a//b");
    room.write("postroom.toml", config);
    room.deliver(mail("stays", "…"));
    let output = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not yet acknowledged"), "{said}");
    assert_eq!(room.decisions().len(), 1);
}
