//! The straight line: a mail goes from Dovecot to a ticket, a webhook and a reply.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use postroom_e2e::{PATIENCE, Room, mail, mail_from};
use postroom_stand::{Stand, wait_for};

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

#[test]
fn a_mail_becomes_a_ticket_a_webhook_and_an_acknowledged_mail() {
    let room = Room::new(stand(), &["standard"]);
    room.deliver(mail(
        "Printer on fire",
        "Please send somebody.\r\n\r\n-- \r\nDana",
    ));
    room.once();

    let decision = room.decision("Printer on fire");
    assert_eq!(decision["outcome"], "ticket");
    assert_eq!(decision["rule"], "standard");
    assert_eq!(decision["ticket"], "T-1");
    assert_eq!(decision["tenant"], "acme");
    assert_eq!(decision["mailbox"], "support");

    let items = room.items();
    assert_eq!(items.len(), 1, "{items:#?}");
    assert_eq!(items[0]["kind"], "ticket");
    assert_eq!(items[0]["title"], "Printer on fire");
    assert_eq!(items[0]["body"], "Please send somebody.");

    assert_eq!(room.count("INBOX"), 0);
    let done = room.folder("Processed");
    assert_eq!(done.len(), 1);
    assert!(String::from_utf8_lossy(&done[0].bytes).contains("Printer on fire"));

    let posted = room.posted();
    assert_eq!(posted.len(), 1);
    posted[0]
        .signature
        .as_ref()
        .expect("a signature that holds");
    assert!(posted[0].header("webhook-id").is_some());
    let body = posted[0].json().expect("a JSON body");
    assert_eq!(body["type"], "ticket.created");
    assert_eq!(body["data"]["title"], "Printer on fire");
    room.assert_balanced(1);
}

#[test]
fn a_second_run_does_nothing_again() {
    let room = Room::new(stand(), &["standard"]);
    room.deliver(mail("Only once", "…"));
    room.once();
    room.once();
    assert_eq!(room.decisions().len(), 1);
    assert_eq!(room.posted().len(), 1);
    room.assert_balanced(1);
}

#[test]
fn an_answer_to_a_ticket_becomes_a_note_and_a_strangers_does_not() {
    let room = Room::new(stand(), &["standard"]);
    let first = mail_from(
        "dana@acme.example",
        "VPN",
        "It does not connect.",
        "Message-ID: <first@acme.example>\r\n",
    );
    let answer = mail_from(
        "colleague@acme.example",
        "Re: VPN",
        "Same here.\r\n\r\nOn Mon, 16 Nov 2026 Dana wrote:\r\n> It does not connect.",
        "In-Reply-To: <first@acme.example>\r\n",
    );
    let stranger = mail_from(
        "mallory@evil.example",
        "Re: VPN",
        "Give me the password.",
        "In-Reply-To: <first@acme.example>\r\nMessage-ID: <m@evil.example>\r\n",
    );
    room.deliver(first);
    room.deliver(answer);
    room.deliver(&stranger);
    room.once();

    let decisions = room.decisions();
    let outcomes: Vec<_> = decisions
        .iter()
        .map(|d| d["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["ticket", "note", "ticket"]);
    assert_eq!(decisions[1]["thread"]["method"], "message-id");
    assert_eq!(decisions[1]["ticket"], "T-1");
    let items = room.items();
    let note = items
        .iter()
        .find(|item| item["kind"] == "note")
        .expect("a note");
    assert_eq!(note["body"], "Same here.");
    assert_eq!(note["ticket"], "T-1");

    room.deliver(mail_from(
        "dana@acme.example",
        "[T-1] it works now",
        "Thanks",
        "",
    ));
    room.once();
    let last = room.decision("[T-1] it works now");
    assert_eq!(last["outcome"], "note");
    assert_eq!(last["thread"]["method"], "subject");
    room.assert_balanced(4);
}

#[test]
fn a_reply_leaves_by_submission_and_machines_are_never_answered() {
    let room = Room::new(stand(), &["standard"]);
    let settings =
        "\n[tenants.acme.settings.standard]\nacknowledge = \"We have your request as {ticket}.\"\n";
    room.write("postroom.toml", room.config(&["standard"], settings));
    let person = format!("ines.{}@acme.example", room.user.split('@').next().unwrap());
    room.deliver(mail_from(&person, "Need a laptop", "For Priya.", ""));
    let machine = format!("bot.{}@acme.example", room.user.split('@').next().unwrap());
    for (subject, header) in [
        ("auto", "Auto-Submitted: auto-replied\r\n"),
        ("bulk", "Precedence: bulk\r\n"),
        ("list", "List-Id: <news.acme.example>\r\n"),
    ] {
        room.deliver(mail_from(&machine, subject, "…", header));
    }
    // A bounce: null sender at LMTP, and the form of a DSN.
    let bounce = mail_from(
        &machine,
        "Undelivered Mail Returned to Sender",
        "…",
        "Return-Path: <>\r\n",
    );
    stand()
        .deliver_from("", &room.user, bounce.as_bytes())
        .unwrap();
    // Our own address must never be answered either.
    room.deliver(mail_from(&room.user.clone(), "from ourselves", "…", ""));
    room.once();

    let mine = |to: &str| -> Vec<String> {
        let all = stand().smtp().received();
        all.into_iter()
            .filter(|sent| sent.to.iter().any(|rcpt| rcpt == to))
            .map(|sent| String::from_utf8_lossy(&sent.data).into_owned())
            .collect()
    };
    assert!(
        wait_for(PATIENCE, || mine(&person).len() == 1),
        "no answer arrived"
    );
    let answer = mine(&person).remove(0);
    assert!(answer.contains("[T-1]"), "{answer}");
    assert!(answer.contains("We have your request as T-1."), "{answer}");
    assert!(answer.contains("Auto-Submitted: auto-replied"), "{answer}");
    assert!(answer.contains("In-Reply-To: <"), "{answer}");
    assert!(mine(&machine).is_empty(), "a machine was answered");
    assert!(mine(&room.user).is_empty(), "our own address was answered");
    room.assert_balanced(6);

    // The answer to our reply finds its ticket by our Message-ID.
    let ours = answer
        .lines()
        .find_map(|line| line.strip_prefix("Message-ID: "))
        .expect("a Message-ID")
        .trim();
    room.deliver(mail_from(
        &person,
        "AW: something else entirely",
        "Thank you",
        &format!("In-Reply-To: {ours}\r\n"),
    ));
    room.once();
    let note = room.decision("AW: something else entirely");
    assert_eq!(note["outcome"], "note");
    assert_eq!(note["ticket"], "T-1");
}

#[test]
fn a_running_service_takes_mail_as_it_arrives_and_drains_on_ctrl_c() {
    let room = Room::new(stand(), &["standard"]);
    let config = room
        .config(&["standard"], "")
        .replace("every = \"5s\"", "every = \"10m\"");
    room.write("postroom.toml", config);
    let running = room.start();
    room.deliver(mail("one", "…"));
    room.await_decision("one");
    // The service is in IDLE now: only IDLE can report this mail in time, since the next poll is ten minutes away.
    room.deliver(mail("two", "…"));
    room.await_decision("two");
    assert!(
        wait_for(PATIENCE, || room.count("Processed") == 2),
        "{}",
        running.log()
    );
    assert!(wait_for(PATIENCE, || room.posted_once() == 2));
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(2);
}

#[test]
fn the_reconciling_poll_finds_what_idle_missed() {
    let room = Room::bare(stand());
    let deaf = deaf_proxy(stand().ports().imap);
    let config = room
        .config(&["standard"], "")
        .replace(
            &format!("port = {}\ntls = \"implicit\"", stand().ports().imaps),
            &format!("port = {deaf}\ntls = \"none\""),
        )
        .replace("every = \"5s\"", "every = \"1s\"");
    room.write("postroom.toml", config);
    let running = room.start();
    running.await_log("rules are live");
    room.deliver(mail("one", "…"));
    room.await_decision("one");
    room.deliver(mail("two", "…"));
    room.await_decision("two");
}

/// Returns a proxy to an IMAP port that drops what the server sends while the client is in IDLE, so that new mail is not
/// reported.
fn deaf_proxy(port: u16) -> u16 {
    use std::io::{BufRead, BufReader, Write};
    use std::net::{TcpListener, TcpStream};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let own = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
            let (mut to_server, mut from_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
            std::thread::spawn(move || {
                let mut client = client;
                let mut idling = false;
                let mut line = Vec::new();
                let mut server = BufReader::new(server);
                while server.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                    idling = line.starts_with(b"+ idling") || (idling && line.starts_with(b"* "));
                    if (!idling || line.starts_with(b"+")) && client.write_all(&line).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
    });
    own
}

#[test]
fn ctrl_c_amid_a_backlog_ends_soon_and_loses_nothing() {
    const MAILS: usize = 2_000;
    let room = Room::new(stand(), &["standard"]);
    let mails: Vec<String> = (0..MAILS)
        .map(|number| mail(&format!("backlog {number}"), "…"))
        .collect();
    stand().append(&room.user, "INBOX", "", &mails).unwrap();
    let running = room.start();
    room.await_any_decision();
    assert_eq!(running.stop(), Some(0));
    let decided = room.decisions().len();
    room.assert_balanced(room.rows(&["ledger"])[0]["seen"].as_u64().unwrap());
    room.once();
    assert_eq!(room.decisions().len(), MAILS, "{decided} before the stop");
    assert_eq!(room.count("Processed"), MAILS);
    room.assert_balanced(MAILS as u64);
}

#[test]
fn one_token_serves_intake_and_answers_and_a_shared_mailbox_uses_its_login() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    room.deliver(mail("token", "…"));
    room.once();
    assert_eq!(stand.authority().token_requests().unwrap().len(), 1);

    let shared = room
        .config(&["standard"], "")
        .replace("address = \"", "address = \"shared.")
        .replacen(
            "profile = \"acme\"",
            &format!("login = {:?}\nprofile = \"acme\"", room.user),
            1,
        );
    room.write("postroom.toml", shared);
    room.deliver(mail("shared", "…"));
    room.once();
    assert_eq!(room.decision("shared")["outcome"], "ticket");
}

#[test]
fn no_secret_and_no_token_is_in_the_log_or_the_store() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    let settings = "\n[tenants.acme.settings.standard]\nacknowledge = \"Yes.\"\n";
    room.write("postroom.toml", room.config(&["standard"], settings));
    room.deliver(mail("secretive", "…"));
    let output = room
        .command(&["run", "--once"])
        .env("RUST_LOG", "trace")
        .output()
        .unwrap();
    assert!(output.status.success());
    let mut secrets = vec![
        stand.client_secret().to_owned(),
        postroom_stand::WEBHOOK_SECRET
            .trim_start_matches("whsec_")
            .to_owned(),
    ];
    let requests = stand.authority().token_requests().unwrap();
    secrets.extend(
        requests
            .into_iter()
            .filter_map(|request| request.access_token),
    );
    assert!(secrets.len() > 2, "no token was issued");
    assert_eq!(stand.smtp().received().len(), 1, "no answer was sent");
    // As they are sent: inside base64, at any of its three alignments.
    let plain = secrets.clone();
    for secret in &plain {
        for shift in 0..3 {
            let padded = format!("{}{secret}", "x".repeat(shift));
            let encoded = STANDARD_NO_PAD.encode(padded);
            secrets.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    let mut places = vec![
        ("log".to_owned(), output.stderr),
        ("stdout".to_owned(), output.stdout),
    ];
    for entry in std::fs::read_dir(room.path().join("data"))
        .unwrap()
        .flatten()
    {
        if entry.path().is_file() {
            let name = entry.path().display().to_string();
            places.push((name, std::fs::read(entry.path()).unwrap()));
        }
    }
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "a secret is in {place}");
        }
    }
}

#[test]
fn a_rule_that_remembers_sees_what_it_wrote_for_the_mail_before() {
    const MAILS: usize = 20;
    let room = Room::bare(stand());
    let rule = "export function decide(mail, ctx) {\n  const count = Number(ctx.kv.get(\"count\") ?? 0) + 1;\n  ctx.kv.set(\"count\", String(count));\n  return ticket({ title: `mail ${count}` });\n}\n";
    room.write("rules/count.js", rule);
    let config = room.config(&["rules/count.js"], "");
    let config = config.replace("[tenants.acme]\n", "[tenants.acme]\ngrants = [\"kv\"]\n");
    room.write("postroom.toml", config);
    for number in 0..MAILS {
        room.deliver(mail(&format!("number {number}"), "…"));
    }
    room.once();
    room.deliver(mail("after a restart", "…"));
    room.once();
    let titles: Vec<String> = room
        .items()
        .iter()
        .map(|item| item["title"].as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<String> = (1..=MAILS + 1).map(|n| format!("mail {n}")).collect();
    assert_eq!(titles, wanted);
}
