//! Every way out: the same promises hold for mail that leaves by SMTP, Microsoft Graph and EWS.

use postroom_e2e::{PATIENCE, Room, both, mail, mail_from};
use postroom_stand::{CLIENT_ID, EwsFailure, GraphFailure, PASSWORD, Stand, wait_for};
use serde_json::Value;

const VARIABLE: &str = "POSTROOM_TEST_EWS_PASSWORD";
const ACKNOWLEDGE: &str =
    "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it: {ticket}.\"\n";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Smtp,
    Graph,
    Ews,
}

const WAYS: [Way; 3] = [Way::Smtp, Way::Graph, Way::Ews];

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Returns a room that reads by IMAP and sends this way. `keys` are appended to the outgoing, `more` to the configuration.
fn room_with(way: Way, keys: &str, more: &str) -> Room<'static> {
    let mut room = Room::bare(stand());
    room.set_env(VARIABLE, PASSWORD);
    let config = room.config(&["standard"], more);
    let smtp = format!(
        "protocol = \"smtp\"\nhost = \"localhost\"\nport = {}\ntls = \"starttls\"\n",
        stand().ports().submission
    );
    let from = format!("from = \"Acme Support <{}>\"\n", room.user);
    assert!(config.contains(&smtp), "{config}");
    let (sending, profile) = match way {
        Way::Smtp => (smtp.clone(), "profile = \"acme\"".to_owned()),
        Way::Graph => (
            format!(
                "protocol = \"graph\"\nbase_url = {:?}\n",
                stand().graph().base_url()
            ),
            "profile = \"graph\"".to_owned(),
        ),
        Way::Ews => (
            format!("protocol = \"ews\"\nurl = {:?}\n", stand().ews().url()),
            format!("password = {{ env = \"{VARIABLE}\" }}"),
        ),
    };
    let old = format!("{smtp}{from}profile = \"acme\"");
    assert!(config.contains(&old), "{config}");
    let config = config.replace(&old, &format!("{sending}{from}{profile}\n{keys}"));
    let profile = match way {
        Way::Graph => format!(
            "\n[profiles.graph]\nprovider = \"microsoft\"\ntenant = {tenant:?}\ntoken_url = {url:?}\nclient_id = {CLIENT_ID:?}\n\
             client_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\ngrant = \"client-credentials\"\n",
            tenant = room.directory(),
            url = stand().token_url(&room.directory()),
        ),
        _ => String::new(),
    };
    room.write("postroom.toml", format!("{config}{profile}"));
    room
}

fn room(way: Way) -> Room<'static> {
    room_with(way, "", ACKNOWLEDGE)
}

/// Returns the mails that left this way, as they arrive.
fn sent(room: &Room, way: Way) -> Vec<String> {
    let mails: Vec<Vec<u8>> = match way {
        Way::Smtp => room.sent().into_iter().map(|mail| mail.data).collect(),
        Way::Graph => {
            let sent = stand().graph().sent_from(&room.user).into_iter();
            sent.map(|mail| mail.mime).collect()
        }
        Way::Ews => {
            let sent = stand().ews().sent_from(&room.user).into_iter();
            sent.map(|mail| mail.mime).collect()
        }
    };
    let texts = mails.iter().map(|mail| String::from_utf8_lossy(mail));
    texts.map(|text| text.into_owned()).collect()
}

fn header(mail: &str, name: &str) -> String {
    let unfolded = mail.replace("\r\n", "\n").replace("\n ", " ");
    let start = format!("{}:", name.to_lowercase());
    let line = unfolded
        .lines()
        .find(|line| line.to_lowercase().starts_with(&start));
    let value = line.and_then(|line| line.split_once(':'));
    value.map_or(String::new(), |(_, value)| value.trim().to_owned())
}

/// Returns the delivered mail of the outbox.
fn delivered(room: &Room) -> Option<Value> {
    if !room.path().join("data/postroom.sqlite").exists() {
        return None;
    }
    let rows = room.rows(&["outbox", "--state", "delivered"]);
    rows.into_iter().find(|it| it["target"] == "out")
}

#[test]
fn a_reply_to_the_id_that_the_server_gave_finds_the_ticket() {
    for way in WAYS {
        let room = room(way);
        room.deliver(mail("printer on fire", "help"));
        room.once();
        let mails = sent(&room, way);
        assert_eq!(mails.len(), 1, "{way:?}: {}", room.log());
        let given = header(&mails[0], "Message-ID");
        let own = header(&mails[0], "X-Postroom-Id");
        let is_rewritten = given.trim_matches(['<', '>']) != own;
        assert_eq!(is_rewritten, way != Way::Smtp, "{way:?}: {}", mails[0]);
        for (name, value) in [("X-Postroom-Loop", "1"), ("Auto-Submitted", "auto-replied")] {
            assert_eq!(header(&mails[0], name), value, "{way:?}: {}", mails[0]);
        }
        // Neither the subject nor the sender leads to the ticket.
        let headers = format!("In-Reply-To: {given}\r\nReferences: {given}\r\n");
        room.deliver(mail_from(
            "boss@acme.example",
            "about something else",
            "It burns.",
            &headers,
        ));
        room.once();
        let decision = room.decision("about something else");
        assert_eq!(decision["outcome"], "note", "{way:?}: {decision}");
        assert_eq!(decision["thread"]["ticket"], "T-1", "{way:?}: {decision}");
    }
}

#[test]
fn the_limits_of_automatic_mail_hold_for_every_way() {
    for way in WAYS {
        let more = format!("{ACKNOWLEDGE}\n[limits.automatic]\nper_address = 3\n");
        let room = room_with(way, "", &more);
        for n in 0..8 {
            let subject = format!("away {n}");
            room.deliver(mail_from("bot@acme.example", &subject, "I am away.", ""));
        }
        room.once();
        assert_eq!(room.decisions().len(), 8, "{way:?}");
        assert_eq!(sent(&room, way).len(), 3, "{way:?}");
    }
}

#[test]
fn two_mailboxes_that_answer_each_other_end() {
    for way in WAYS {
        let (one, other) = (room(way), room(way));
        one.deliver(mail_from(&other.user, "hello", "I wait for an answer.", ""));
        let mut passed = [0, 0];
        let mut is_quiet = false;
        for _ in 0..6 {
            let before = passed;
            for (n, (from, to)) in [(&one, &other), (&other, &one)].into_iter().enumerate() {
                from.once();
                let mails = sent(from, way);
                for mail in &mails[passed[n]..] {
                    to.deliver(mail);
                }
                passed[n] = mails.len();
            }
            is_quiet = passed == before;
            if is_quiet {
                break;
            }
        }
        assert!(is_quiet, "{way:?}: {passed:?}");
        // The first answer carries X-Postroom-Loop, so nothing answers it.
        assert_eq!(passed, [1, 0], "{way:?}");
    }
}

#[test]
fn a_lost_answer_is_asked_about_and_nothing_is_sent_twice() {
    for (way, points) in [
        (Way::Graph, vec!["send", "messages"]),
        (Way::Ews, vec!["CreateItem"]),
    ] {
        for point in points {
            let room = room(way);
            match way {
                Way::Ews => stand().ews().fail_next(
                    &room.user,
                    Some("CreateItem"),
                    1,
                    EwsFailure::AnswerLost,
                ),
                _ => {
                    let failure = GraphFailure::AnswerLost;
                    stand().graph().fail_next_at(&room.user, point, 1, failure);
                }
            }
            room.deliver(mail("once only", "help"));
            let running = room.start();
            room.await_any_decision();
            let is_recorded = wait_for(PATIENCE, || delivered(&room).is_some());
            drop(running);
            assert!(is_recorded, "{way:?} {point}: {}", room.log());
            assert_eq!(sent(&room, way).len(), 1, "{way:?} {point}");
            let drafts = stand().graph().folder(&room.user, "drafts");
            assert!(drafts.len() <= 1, "{way:?} {point}: {drafts:?}");
        }
    }
}

#[test]
fn a_process_that_knows_nothing_of_the_first_try_asks_too() {
    for way in [Way::Graph, Way::Ews] {
        let room = room(way);
        // A sink's delivery would be recorded first.
        let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
        let (head, rest) = config.split_once("[sinks.psa]").unwrap();
        let (_, tail) = rest.split_once("\n\n").unwrap();
        room.write("postroom.toml", format!("{head}{tail}"));
        room.deliver(mail("killed between", "help"));
        room.once_killed_at("before-delivery-record");
        assert_eq!(sent(&room, way).len(), 1, "{way:?}");
        room.once();
        assert_eq!(sent(&room, way).len(), 1, "{way:?}: sent again");
        let row = delivered(&room).expect("it is recorded");
        let receipt = row["receipt"].as_str().unwrap_or_default();
        assert!(receipt.contains("the mail had been sent"), "{way:?}: {row}");
    }
}

#[test]
fn a_throttled_outgoing_waits_as_long_as_it_is_told_to() {
    for way in [Way::Graph, Way::Ews] {
        let room = room(way);
        match way {
            Way::Ews => stand().ews().fail_next(
                &room.user,
                None,
                1,
                EwsFailure::Busy {
                    back_off_millis: 1500,
                },
            ),
            _ => {
                let failure = GraphFailure::Throttled {
                    retry_after_secs: 1,
                };
                stand().graph().fail_next_of(&room.user, 1, failure);
            }
        }
        room.deliver(mail("throttled", "help"));
        let running = room.start();
        room.await_any_decision();
        let is_recorded = wait_for(PATIENCE, || delivered(&room).is_some());
        drop(running);
        assert!(is_recorded, "{way:?}: {}", room.log());
        assert_eq!(sent(&room, way).len(), 1, "{way:?}");
    }
}

fn send(room: &Room, more: &[&str]) -> (Option<i32>, Value) {
    let start = ["send", "--to", "ann@client.example", "--subject", "Report"];
    let output = room.postroom(&[&start[..], more, &["--json"]].concat());
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let object = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", both(&output)));
    (output.status.code(), object)
}

#[test]
fn large_files_leave_by_graph_in_ranges_and_by_ews_whole() {
    let large: Vec<u8> = (0..7_000_000_u32).map(|n| (n % 251) as u8).collect();
    let between = vec![b'x'; 3_050_000];
    let room = room(Way::Graph);
    room.write("large.bin", &large);
    room.write("between.bin", &between);
    room.write("small.txt", "small");
    let files = ["large.bin", "between.bin", "small.txt"];
    let args = files.map(|file| ["--attach", file]).concat();
    let (code, said) = send(&room, &args);
    assert_eq!(code, Some(0), "{said}");
    let sent_mails = stand().graph().sent_from(&room.user);
    assert_eq!(sent_mails.len(), 1);
    let attached: Vec<_> = sent_mails[0]
        .attachments
        .iter()
        .map(|file| (file.name.as_str(), file.content.len()))
        .collect();
    assert_eq!(
        attached,
        [
            ("large.bin", large.len()),
            ("between.bin", between.len()),
            ("small.txt", 5)
        ]
    );
    assert!(sent_mails[0].attachments[0].content == large);

    let room = self::room(Way::Ews);
    room.write("large.bin", &large);
    let (code, said) = send(&room, &["--attach", "large.bin"]);
    assert_eq!(code, Some(0), "{said}");
    let mails = sent(&room, Way::Ews);
    assert_eq!(mails.len(), 1);
    assert!(mails[0].len() > large.len() / 3 * 4, "{}", mails[0].len());
}

#[test]
fn the_exit_code_of_send_says_what_became_of_it() {
    let graph = |status, code| GraphFailure::Status { status, code };
    for (failure, code, result) in [
        (graph(400, "ErrorInvalidRecipients"), 3, "refused"),
        (graph(413, "ErrorMessageSizeExceeded"), 3, "refused"),
        (graph(500, "ErrorInternalServerError"), 4, "try-again"),
        (graph(503, "ServiceUnavailable"), 4, "try-again"),
        (graph(403, "ErrorSendAsDenied"), 1, "failed"),
        (GraphFailure::Drop, 5, "unknown"),
    ] {
        let room = room(Way::Graph);
        stand().graph().fail_next_at(&room.user, "send", 1, failure);
        let (exit, said) = send(&room, &[]);
        assert_eq!(
            (exit, &said["result"]),
            (Some(code), &result.into()),
            "{said}"
        );
        if result == "refused" {
            // No draft of a refused mail is left.
            let drafts = stand().graph().folder(&room.user, "drafts");
            assert!(drafts.is_empty(), "{drafts:?}");
        }
    }
    for (failure, code, result) in [
        (EwsFailure::Code("ErrorInvalidRecipients"), 3, "refused"),
        (EwsFailure::Code("ErrorMessageSizeExceeded"), 3, "refused"),
        (EwsFailure::Code("ErrorMailboxMoveInProgress"), 5, "unknown"),
        (
            EwsFailure::BusyMessage {
                back_off_millis: 10,
            },
            4,
            "try-again",
        ),
        (EwsFailure::Code("ErrorSendAsDenied"), 1, "failed"),
        (EwsFailure::AnswerLost, 5, "unknown"),
    ] {
        let room = room(Way::Ews);
        stand()
            .ews()
            .fail_next(&room.user, Some("CreateItem"), 1, failure);
        let (exit, said) = send(&room, &[]);
        assert_eq!(
            (exit, &said["result"]),
            (Some(code), &result.into()),
            "{said}"
        );
    }
}

#[test]
fn mail_send_alone_is_enough_without_reading_back() {
    let room = room_with(Way::Graph, "read_back = false\n", ACKNOWLEDGE);
    room.deliver(mail("send only", "help"));
    room.once();
    assert_eq!(sent(&room, Way::Graph).len(), 1);
    let requests = stand().graph().requests_of(&room.user);
    assert!(
        requests.iter().all(|it| it.path.ends_with("/sendMail")),
        "{requests:?}"
    );
    room.write("large.bin", vec![b'x'; 4_000_000]);
    let (exit, said) = send(&room, &["--attach", "large.bin"]);
    assert_eq!(
        (exit, &said["result"]),
        (Some(3), &"refused".into()),
        "{said}"
    );
    let detail = said["detail"].as_str().unwrap();
    assert!(detail.contains("read_back = true"), "{detail}");
}

#[test]
fn an_outgoing_is_tested_without_sending_and_with_a_mail() {
    for (way, expected) in [
        (Way::Graph, "the drafts open"),
        (Way::Ews, "the sent items open"),
    ] {
        let room = room(way);
        let output = room.postroom(&["target", "test", "out"]);
        assert!(output.status.success(), "{}", both(&output));
        assert!(both(&output).contains(expected), "{}", both(&output));
        assert!(sent(&room, way).is_empty(), "{way:?}");
        let output = room.postroom(&["target", "test", "out", "--send-to", "me@acme.example"]);
        assert!(output.status.success(), "{}", both(&output));
        assert_eq!(sent(&room, way).len(), 1, "{way:?}");
    }
}

#[test]
fn a_denial_says_what_to_grant() {
    let room = room(Way::Graph);
    let failure = GraphFailure::Status {
        status: 403,
        code: "ErrorAccessDenied",
    };
    stand().graph().fail_next_of(&room.user, 1, failure);
    let output = room.postroom(&["target", "test", "out"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("Mail.Send"), "{}", both(&output));
    let failure = GraphFailure::Status {
        status: 403,
        code: "ErrorSendAsDenied",
    };
    stand()
        .graph()
        .fail_next_at(&room.user, "sendMail", 1, failure);
    let output = room.postroom(&["target", "test", "out"]);
    assert!(both(&output).contains("Send As"), "{}", both(&output));

    let room = self::room(Way::Ews);
    let failure = EwsFailure::Code("ErrorAccessDenied");
    stand()
        .ews()
        .fail_next(&room.user, Some("GetFolder"), 1, failure);
    let output = room.postroom(&["target", "test", "out"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(both(&output).contains("impersonation"), "{}", both(&output));
}
