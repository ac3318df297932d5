//! Moving mail: into the right folder, once, and as much of it as there is room for.

use super::*;

fn moved(uids: std::ops::RangeInclusive<u32>, target: &str) -> Vec<Acknowledge> {
    uids.map(|uid| ack(uid, After::Move(target.into())))
        .collect()
}

/// Returns the responses of a server that has many mails and these capabilities.
fn with(capabilities: &str, command: &str) -> Option<Act> {
    match command {
        "CAPABILITY" => Some(Act::Say(format!(
            "* CAPABILITY IMAP4REV1 AUTH=PLAIN {capabilities}\r\n{{tag}} OK\r\n"
        ))),
        _ if command.starts_with("SELECT") => Some(Act::Say(
            "* 300 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 400] x\r\n{tag} OK\r\n".into(),
        )),
        _ if command.ends_with(" UNDELETED") => {
            let all: String = (1..=300).map(|uid| format!(" {uid}")).collect();
            Some(Act::Say(format!("* SEARCH{all}\r\n{{tag}} OK\r\n")))
        }
        _ => None,
    }
}

fn header(uid: u32, id: &str) -> String {
    let header = format!("Message-ID: <{id}@x>\r\n\r\n");
    format!(
        "* 1 FETCH (UID {uid} RFC822.SIZE 100 BODY[HEADER.FIELDS (MESSAGE-ID)] {{{}}}\r\n{header})\r\n",
        header.len()
    )
}

async fn told(server: &Server, word: &str) -> Vec<String> {
    let commands = server.after_select().await;
    commands
        .into_iter()
        .filter(|it| it.starts_with(word))
        .collect()
}

#[tokio::test]
async fn a_copy_without_an_answer_is_not_made_twice() {
    let mut lost = false;
    let copied = Arc::new(std::sync::Mutex::new(String::new()));
    let server = Server::start(move |_, command| match command {
        _ if command.starts_with("UID COPY 10:11") && !std::mem::replace(&mut lost, true) => {
            copied.lock().unwrap().push_str(&header(1, "m10"));
            copied.lock().unwrap().push_str(&header(2, "other"));
            Act::SayAndClose(String::new())
        }
        _ if command.starts_with("UID FETCH 10:11 (UID RFC822.SIZE BODY") => Act::Say(format!(
            "{}{}{{tag}} OK\r\n",
            header(10, "m10"),
            header(11, "m11")
        )),
        _ if command.starts_with("UID FETCH 10 (UID RFC822.SIZE BODY") => {
            Act::Say(format!("{}{{tag}} OK\r\n", header(10, "m10")))
        }
        _ if command.starts_with("EXAMINE") => {
            let there = copied.lock().unwrap().lines().count() / 4;
            Act::Say(format!("* {there} EXISTS\r\n{{tag}} OK\r\n"))
        }
        _ if command.starts_with("FETCH 1:*") => {
            Act::Say(format!("{}{{tag}} OK\r\n", copied.lock().unwrap()))
        }
        _ => with("UIDPLUS", command).unwrap_or(Act::Usual),
    })
    .await;
    let mut source = server.source();
    let acks = moved(10..=11, "Done");
    assert!(source.acknowledge(&acks).await.unwrap_err().is_transient());
    source.acknowledge(&acks).await.unwrap();
    assert_eq!(
        told(&server, "UID COPY").await,
        ["UID COPY 10:11 \"Done\"", "UID COPY 11 \"Done\""]
    );
    assert_eq!(
        told(&server, "UID STORE").await,
        [
            "UID STORE 10 +FLAGS.SILENT (\\Deleted)",
            "UID STORE 11 +FLAGS.SILENT (\\Deleted)"
        ]
    );
    // Another process finds what this one left behind.
    server.source().acknowledge(&acks[..1]).await.unwrap();
    assert_eq!(told(&server, "UID COPY").await.len(), 2);
    assert_eq!(told(&server, "UID STORE 10 ").await.len(), 2);
}

#[tokio::test]
async fn copies_go_in_small_sets() {
    let server = Server::start(|_, command| with("UIDPLUS", command).unwrap_or(Act::Usual)).await;
    server
        .source()
        .acknowledge(&moved(1..=120, "Done"))
        .await
        .unwrap();
    assert_eq!(
        told(&server, "UID COPY").await,
        [
            "UID COPY 1:50 \"Done\"",
            "UID COPY 51:100 \"Done\"",
            "UID COPY 101:120 \"Done\""
        ]
    );
}

#[tokio::test]
async fn a_refused_set_is_halved_and_the_quota_is_named() {
    for (capabilities, verb) in [("UIDPLUS", "UID COPY"), ("UIDPLUS MOVE", "UID MOVE")] {
        // There is room for fewer than four mails.
        let server = Server::start(move |_, command| match command {
            _ if command.starts_with(verb) => match command.split(' ').nth(2).unwrap() {
                "1:2" | "3" => Act::Usual,
                _ => Act::Say("{tag} NO [OVERQUOTA] full\r\n".into()),
            },
            _ if command.starts_with("LIST") => {
                Act::Say("* LIST () \"/\" Done\r\n{tag} OK\r\n".into())
            }
            _ => with(capabilities, command).unwrap_or(Act::Usual),
        })
        .await;
        let refused = server.source().acknowledge(&moved(1..=4, "Done")).await;
        let Err(error @ SourceError::OverQuota { .. }) = refused else {
            panic!("{refused:?}")
        };
        assert!(error.to_string().contains("over its quota"), "{error}");
        assert_eq!(
            told(&server, verb).await,
            ["1:4", "1:2", "3:4", "3", "4"].map(|set| format!("{verb} {set} \"Done\""))
        );
    }
}

#[tokio::test]
async fn a_server_may_be_silent_while_it_copies() {
    let server = Server::start(|_, command| match command {
        _ if command.starts_with("UID MOVE") => Act::SayLater("{tag} OK\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    server
        .source()
        .acknowledge(&moved(10..=12, "Done"))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_target_is_found_below_the_prefix_whatever_the_server_calls_its_absence() {
    for (capabilities, exists, refusal, made) in [
        ("MOVE NAMESPACE", true, "NO [NONEXISTENT] x", None),
        (
            "MOVE NAMESPACE",
            false,
            "NO Mailbox does not exist",
            Some("\"INBOX.Done\""),
        ),
        (
            "MOVE NAMESPACE",
            false,
            "NO UID COPY [TRYCREATE] failed",
            Some("\"INBOX.Done\""),
        ),
        (
            "MOVE",
            false,
            "NO Target mailbox does not exist",
            Some("\"INBOX.Done\""),
        ),
    ] {
        let mut created = false;
        let server = Server::start(move |_, command| match command {
            "NAMESPACE" => {
                Act::Say("* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\n{tag} OK\r\n".into())
            }
            "LIST \"\" \"\"" => Act::Say("* LIST (\\Noselect) \".\" \"\"\r\n{tag} OK\r\n".into()),
            "LIST \"\" \"INBOX.Done\"" if exists => {
                Act::Say("* LIST () \".\" INBOX.Done\r\n{tag} OK\r\n".into())
            }
            "CREATE \"INBOX.Done\"" => {
                created = true;
                Act::Usual
            }
            _ if command.starts_with("CREATE") => Act::Say("{tag} NO no\r\n".into()),
            _ if command.starts_with("UID MOVE") => match exists || created {
                true if command.ends_with("\"INBOX.Done\"") => Act::Usual,
                _ => Act::Say(format!("{{tag}} {refusal}\r\n")),
            },
            _ => with(capabilities, command).unwrap_or(Act::Usual),
        })
        .await;
        let mut source = server.source();
        source.acknowledge(&moved(1..=2, "Done")).await.unwrap();
        source.acknowledge(&moved(3..=3, "Done")).await.unwrap();
        let creates = told(&server, "CREATE").await;
        assert_eq!(
            creates.last().map(|it| &it["CREATE ".len()..]),
            made,
            "{refusal}"
        );
        // The name is remembered.
        assert_eq!(
            told(&server, "UID MOVE").await,
            [
                "UID MOVE 1:2 \"Done\"",
                "UID MOVE 1:2 \"INBOX.Done\"",
                "UID MOVE 3 \"INBOX.Done\""
            ]
        );
    }
}

#[tokio::test]
async fn a_folder_is_not_moved_onto_itself() {
    let server = Server::start(|_, command| with("MOVE", command).unwrap_or(Act::Usual)).await;
    for target in ["INBOX", "Inbox", "inbox"] {
        let refused = server.source().acknowledge(&moved(1..=2, target)).await;
        assert!(
            matches!(refused, Err(SourceError::Unusable { .. })),
            "{refused:?}"
        );
    }
    assert!(told(&server, "UID MOVE").await.is_empty());
}

#[tokio::test]
async fn a_probe_says_what_moving_will_come_to() {
    let server = Server::start(|_, command| match command {
        "NAMESPACE" => Act::Say("* NAMESPACE ((\"INBOX.\" \".\")) NIL NIL\r\n{tag} OK\r\n".into()),
        "LIST \"\" \"INBOX.Done\"" => Act::Say("* LIST () \".\" INBOX.Done\r\n{tag} OK\r\n".into()),
        _ if command.starts_with("FETCH") => Act::Say("{tag} OK\r\n".into()),
        _ => with("MOVE NAMESPACE", command).unwrap_or(Act::Usual),
    })
    .await;
    let mut source = server.source();
    source.settings.targets = vec!["Done".into(), "Failed".into(), "inbox".into()];
    let mut steps = Vec::new();
    source
        .probe(&mut |step| {
            steps.push((step.step.name(), step.outcome.map_err(|it| it.to_string())))
        })
        .await;
    let targets: Vec<_> = steps.into_iter().filter(|it| it.0 == "target").collect();
    assert_eq!(targets[0].1.as_deref(), Ok("Done is there, as INBOX.Done"));
    assert_eq!(
        targets[1].1.as_deref(),
        Ok(
            "Failed is missing, and would be created as INBOX.Failed (prefix \"INBOX.\", separator \".\")"
        )
    );
    assert!(targets[2].1.is_err() && targets.len() == 3);
    assert!(told(&server, "CREATE").await.is_empty());
}

#[tokio::test]
async fn a_limit_on_connections_is_told_as_one() {
    let limit = "{tag} NO [LIMIT] Maximum number of connections from user+IP exceeded\r\n";
    let server = Server::start(move |_, command| match command {
        "AHVAZXhhbXBsZQBwdw==" => Act::Say(limit.into()),
        _ => Act::Usual,
    })
    .await;
    let greeted = Server::greeting("* BYE [LIMIT] too many\r\n", |_, _| Act::Usual).await;
    for (server, step) in [(server, "authenticate"), (greeted, "greeting")] {
        let error = server.source().connect().await.unwrap_err();
        assert!(matches!(error, SourceError::OverLimit { .. }), "{error:?}");
        assert!(
            error.is_transient() && error.step().name() == step,
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_greeting_that_does_not_come_names_its_own_bound() {
    let server = Server::greeting("", |_, _| Act::Usual).await;
    let mut source = server.source();
    source.settings.timeouts.connect = Duration::from_secs(1);
    source.settings.timeouts.stall = Duration::from_secs(60);
    source.settings.timeouts.command = Duration::from_secs(600);
    let error = source.connect().await.unwrap_err();
    assert_eq!(error.to_string(), "greeting: no answer within 1 s");
}
