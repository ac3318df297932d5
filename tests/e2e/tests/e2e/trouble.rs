//! Failures around the line: a full disk, servers that are down, receivers that fail. Nothing is lost, and the service
//! resumes by itself.

use std::process::Command;
use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{AuthorityFailure, SmtpFailure, SmtpStage, Stand, WebhookFailure, wait_for};

/// A small tmpfs, unmounted when dropped.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=40m", "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting a tmpfs needs root");
        Self(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_stops_fetching_says_so_and_loses_nothing() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let disk = SmallDisk::mount(room.path().join("data"));
    let ballast = disk.0.join("ballast");
    let config = room
        .config(&["standard"], "")
        .replace("every = \"5s\"", "every = \"1s\"");
    room.write("postroom.toml", config);

    let mut running = room.start();
    room.deliver(mail("before", "…"));
    room.await_decision("before");
    std::fs::write(&ballast, vec![0u8; 64 << 20]).unwrap_err();
    for number in 0..40 {
        room.deliver(mail(&format!("during {number}"), &"x".repeat(60_000)));
    }
    running.await_log("disk-full");
    assert!(running.is_running());

    std::fs::remove_file(&ballast).unwrap();
    assert!(
        wait_for(PATIENCE, || room.decisions().len() == 41),
        "{} decisions\n{}",
        room.decisions().len(),
        running.log()
    );
    running.await_log("serving again");
    assert!(wait_for(PATIENCE, || room.count("Processed") == 41));
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(41);
}

#[test]
fn a_mail_server_that_goes_away_is_waited_for() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    let mut running = room.start();
    room.deliver(mail("before", "…"));
    room.await_decision("before");
    stand.stop_dovecot().unwrap();
    running.await_log("mailbox paused");
    assert!(running.is_running());
    stand.start_dovecot().unwrap();
    room.deliver(mail("after", "…"));
    room.await_decision("after");
    room.assert_balanced(2);
}

#[test]
fn an_authorization_server_in_trouble_is_tried_again_and_a_refusal_is_explained() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    room.deliver(mail("patience", "…"));
    let unavailable = AuthorityFailure::Status {
        code: 503,
        body: "busy".into(),
        retry_after_secs: Some(1),
    };
    stand.authority().fail_next(2, unavailable).unwrap();
    let running = room.start();
    room.await_decision("patience");
    assert_eq!(running.stop(), Some(0));

    // The stored token would be valid for an hour.
    room.ok(&["auth", "logout", "acme"]);
    stand
        .authority()
        .fail_next(
            50,
            AuthorityFailure::microsoft(401, "invalid_client", 7_000_222),
        )
        .unwrap();
    let refused = room.postroom(&["run", "--once"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        said.contains("support") && said.contains("7000222"),
        "{said}"
    );
}

#[test]
fn a_token_that_the_server_forgot_is_replaced() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    let running = room.start();
    room.deliver(mail("before", "…"));
    room.await_decision("before");
    // The next login uses a token that the introspection no longer accepts.
    stand.authority().revoke_tokens().unwrap();
    stand.stop_dovecot().unwrap();
    running.await_log("mailbox paused");
    stand.start_dovecot().unwrap();
    room.deliver(mail("after", "…"));
    room.await_decision("after");
    assert!(stand.authority().token_requests().unwrap().len() >= 2);
}

#[test]
fn a_failing_webhook_is_tried_again_under_the_same_id() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    let busy = WebhookFailure::Status {
        code: 503,
        retry_after_secs: Some(1),
    };
    stand.webhook().fail_next(1, busy);
    stand.webhook().fail_next(1, WebhookFailure::Drop);
    room.deliver(mail("persistent", "…"));
    let _running = room.start();
    room.await_decision("persistent");
    assert!(wait_for(PATIENCE, || {
        room.rows(&["outbox"])
            .iter()
            .any(|row| row["state"] == "delivered")
    }));
    let posted = room.posted();
    assert_eq!(posted.len(), 3);
    assert_eq!(room.posted_once(), 1);
}

#[test]
fn once_tries_each_delivery_once_and_says_what_stays() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    let busy = WebhookFailure::Status {
        code: 500,
        retry_after_secs: None,
    };
    stand.webhook().fail_next(1, busy);
    room.deliver(mail("later", "…"));
    let output = room.postroom(&["run", "--once"]);
    assert_eq!(output.status.code(), Some(0));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("drained 1 mail; 1 delivery pending: see `postroom outbox`"),
        "{said}"
    );
    assert_eq!(room.posted().len(), 1);
    assert!(wait_for(Duration::from_secs(20), || {
        room.once();
        room.rows(&["outbox", "--state", "delivered"]).len() == 1
    }));
}

#[test]
fn a_refused_answer_is_tried_again_and_a_lost_one_keeps_its_message_id() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::bare(&stand);
    // Directly to the sink: Dovecot in between would hide the sink's behaviour.
    let settings = "\n[tenants.acme.settings.standard]\nacknowledge = \"Got it.\"\n";
    let config = room.config(&["standard"], settings);
    let (before, after) = config.split_once("[outgoing.out]").unwrap();
    let (_, sinks) = after.split_once("[sinks.psa]").unwrap();
    let port = stand.ports().smtp_sink;
    room.write(
        "postroom.toml",
        format!(
            "{before}[outgoing.out]\nprotocol = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\nfrom = \"{}\"\n\n[sinks.psa]{sinks}",
            room.user
        ),
    );
    stand
        .smtp()
        .fail_next(1, SmtpFailure::Reply(SmtpStage::Rcpt, 451));
    stand.smtp().fail_next(1, SmtpFailure::DropAfterData);
    room.deliver(mail("answer me", "…"));
    let _running = room.start();
    assert!(wait_for(PATIENCE, || stand.smtp().received().len() == 2));
    let ids: std::collections::BTreeSet<String> = stand
        .smtp()
        .received()
        .iter()
        .flat_map(|sent| {
            let text = String::from_utf8_lossy(&sent.data).into_owned();
            let ids: Vec<String> = text
                .lines()
                .filter(|line| line.starts_with("Message-ID:"))
                .map(str::to_owned)
                .collect();
            ids
        })
        .collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert!(wait_for(PATIENCE, || {
        let rows = room.rows(&["outbox", "--state", "delivered"]);
        rows.iter()
            .any(|row| row.to_string().contains("may have arrived twice"))
    }));
}

#[test]
fn an_answer_that_was_sent_is_not_sent_again_because_the_disk_is_full() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::bare(&stand);
    let disk = SmallDisk::mount(room.path().join("data"));
    let settings = "\n[tenants.acme.settings.standard]\nacknowledge = \"Got it.\"\n";
    room.write("postroom.toml", room.config(&["standard"], settings));
    // The webhook hangs while the disk fills: its try and the reply's end when nothing can be recorded.
    stand.webhook().fail_next(1, WebhookFailure::Hang);
    let running = room.start();
    running.await_log("rules are live");
    room.deliver(mail("answer me", "…"));
    room.await_decision("answer me");
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![0u8; 64 << 20]).unwrap_err();
    assert!(wait_for(PATIENCE, || !stand.smtp().received().is_empty()));
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(stand.smtp().received().len(), 1);
    std::fs::remove_file(&ballast).unwrap();
    assert!(wait_for(PATIENCE, || {
        room.rows(&["outbox", "--state", "delivered"])
            .iter()
            .any(|row| row["kind"] == "mail")
    }));
    assert_eq!(stand.smtp().received().len(), 1);
}

#[test]
fn two_services_on_one_data_folder_are_refused() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let running = room.start();
    room.deliver(mail("first", "…"));
    room.await_decision("first");
    let second = room.postroom(&["run", "--once"]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("data"));
    // Killed, it leaves nothing behind that prevents a start.
    running.kill();
    room.once();
}

#[test]
fn a_panic_in_a_mailbox_is_logged_with_its_place_and_ends_nothing_else() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mailbox = |name: &str| {
        format!(
            "[mailboxes.{name}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = {name:?}\nevery = \"1s\"\n"
        )
    };
    let config = "data_dir = \"data\"\n[tenants.acme]\n".to_owned();
    room.write("postroom.toml", config + &mailbox("a") + &mailbox("b"));
    room.write("a/one.eml", mail("one", "…"));
    let mut running = room.start_with(&[("POSTROOM_CRASH_AT", "panic:before-journal")]);
    running.await_log("mailbox paused: a defect of Postroom ended the session");
    let lines = running.lines("ERROR", "panicked: ordered at before-journal");
    assert!(!lines.is_empty(), "{}", running.log());
    for part in ["mailbox=a", "place=", "crash.rs:"] {
        assert!(lines[0].contains(part), "{part}: {lines:#?}");
    }
    assert!(running.is_running());
    assert_eq!(running.stop(), Some(0));

    let running = room.start();
    room.await_decision("one");
    assert_eq!(running.stop(), Some(0));
}
