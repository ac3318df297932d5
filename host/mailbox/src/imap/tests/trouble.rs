//! Failing servers, dropped calls, and cursors of other sources: none of these may lose a mail.

use postroom_net::DialLimits;

use super::*;

#[tokio::test]
async fn a_connection_lost_while_fetching_loses_nothing() {
    let server = Server::start(|connection, command| match connection {
        1 if command.contains("BODY.PEEK") => Act::SayAndClose(format!(
            "{}* 2 FETCH (UID 11 BODY[] {{4}}\r\nma",
            mail(10, "mail")
        )),
        2 if command.contains("BODY.PEEK") => Act::SayAndClose(mail(10, "mail")),
        3 if command.contains("RFC822.SIZE") => Act::SayAndClose(String::new()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    for _ in 0..3 {
        let lost = source
            .fetch(Some(&cursor(9)), &FetchLimits::default())
            .await;
        assert!(lost.unwrap_err().is_transient());
    }
    let batch = source
        .fetch(Some(&cursor(9)), &FetchLimits::default())
        .await
        .unwrap();
    assert_eq!(uids(&batch), [10, 11, 12]);
}

#[tokio::test]
async fn mail_announced_while_an_idle_is_renewed_ends_the_wait() {
    let server = Server::start(|_, command| match command {
        "DONE" => Act::Say("* 4 EXISTS\r\n{tag} OK\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits::default();
    source.fetch(Some(&cursor(12)), &limits).await.unwrap();
    source.wait(Duration::from_secs(3600)).await.unwrap();
    let commands = server.after_select().await;
    assert_eq!(commands[1..], ["IDLE", "DONE"]);
}

#[tokio::test]
async fn mails_that_do_not_come() {
    let server = Server::start(|_, command| match command {
        // 10 has vanished, 11 cannot be read, 12 arrives with an inexact size.
        "UID FETCH 10:12 (UID BODY.PEEK[])" => {
            Act::Say(format!("{}{{tag}} NO some failed\r\n", mail(12, "longer")))
        }
        "UID SEARCH UID 10:11" => Act::Say("* SEARCH 11\r\n{tag} OK\r\n".into()),
        "UID FETCH 11 (UID BODY.PEEK[])" => Act::Say("{tag} NO broken\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits::default();
    for _ in 1..5 {
        let later = source.fetch(Some(&cursor(9)), &limits).await.unwrap_err();
        assert!(
            later.is_transient() && later.to_string().contains("UID 11"),
            "{later}"
        );
    }
    let batch = source.fetch(Some(&cursor(9)), &limits).await.unwrap();
    assert_eq!((uids(&batch), batch.more), (vec![11], true));
    let note = &batch.messages[0];
    assert!(!note.is_whole());
    let text = std::str::from_utf8(&note.bytes).unwrap();
    assert!(text.contains("UID: 11 (UIDVALIDITY 7)"));
    assert!(text.contains("Last answer: broken"), "{text}");
    let batch = source.fetch(batch.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!((uids(&batch), reached(&batch)), (vec![12], 12));
    assert!(batch.messages[0].is_whole());
}

#[tokio::test]
async fn a_server_in_trouble_costs_no_mail() {
    // The response to the fetch of a body, and the number of fetches it stops.
    for (answer, fetches) in [
        ("{tag} NO [UNAVAILABLE] try later\r\n", 30),
        ("{tag} NO [INUSE] try later\r\n", 30),
        ("{tag} NO Server Unavailable. 15\r\n", 19),
        ("* 3 FETCH (UID 12 BODY[] NIL)\r\n{tag} OK\r\n", 19),
        ("* 3 FETCH (UID 12 BODY[] {0}\r\n)\r\n{tag} OK\r\n", 19),
    ] {
        let well = Arc::new(AtomicUsize::new(0));
        let again = well.clone();
        let server = Server::start(move |_, command| match command {
            _ if again.load(Ordering::SeqCst) > 0 => Act::Usual,
            "UID SEARCH UID 11:12" => Act::Say("* SEARCH 11 12\r\n{tag} OK\r\n".into()),
            _ if command.contains("BODY.PEEK") => Act::Say(answer.into()),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        let limits = FetchLimits::default();
        for _ in 0..fetches {
            let later = source.fetch(Some(&cursor(10)), &limits).await;
            assert!(later.unwrap_err().is_transient(), "{answer}");
        }
        well.store(1, Ordering::SeqCst);
        let batch = source.fetch(Some(&cursor(10)), &limits).await.unwrap();
        assert_eq!(uids(&batch), [11, 12], "{answer}");
        assert!(batch.messages.iter().all(|m| &m.bytes[..] == b"mail"));
    }
}

#[tokio::test]
async fn mails_before_a_refused_one_are_given_at_once() {
    let server = Server::start(|_, command| match command {
        "UID FETCH 10:12 (UID BODY.PEEK[])" => Act::Say(format!(
            "{}{}{{tag}} NO [SERVERBUG] oops\r\n",
            mail(10, "mail"),
            mail(12, "mail")
        )),
        _ if command.starts_with("UID SEARCH UID 11") => {
            Act::Say("* SEARCH 11\r\n{tag} OK\r\n".into())
        }
        _ if command.contains("BODY.PEEK") => Act::Say("{tag} NO [SERVERBUG] oops\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits::default();
    let batch = source.fetch(Some(&cursor(9)), &limits).await.unwrap();
    assert_eq!(
        (uids(&batch), reached(&batch), batch.more),
        (vec![10], 10, true)
    );
    for _ in 0..2 {
        let later = source.fetch(batch.cursor.as_ref(), &limits).await;
        assert!(later.unwrap_err().is_transient());
    }
}

#[tokio::test]
async fn what_another_kind_of_source_wrote_stops_nothing() {
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    let limits = FetchLimits::default();
    let foreign = r#"{"spool":"0123456789abcdef","batch":3}"#;
    let batch = source.fetch(Some(&Cursor(foreign.into())), &limits).await;
    assert_eq!(uids(&batch.unwrap()), [10, 11, 12]);
    source.settings.import = Import::New;
    let batch = source.fetch(Some(&Cursor(foreign.into())), &limits).await;
    assert_eq!(reached(&batch.unwrap()), 12);
    let other = Acknowledge {
        position: Position::OnServer(r#"{"spool":"a.eml","file":{}}"#.into()),
        after: After::Delete,
    };
    source
        .acknowledge(&[other, ack(10, After::Seen)])
        .await
        .unwrap();
    assert_eq!(
        server.after_select().await.pop().as_deref(),
        Some("UID STORE 10 +FLAGS.SILENT (\\Seen)")
    );
}

/// Polls a future this many times, then drops it. Returns whether it finished.
async fn cut_off<T>(future: impl Future<Output = T>, polls: usize) -> bool {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|context| {
            std::task::Poll::Ready(future.as_mut().poll(context).is_ready())
        });
        if once.await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    false
}

#[tokio::test]
async fn a_call_may_be_dropped_at_any_await() {
    let limits = FetchLimits::default();
    let from = cursor(9);
    for call in ["connect", "fetch", "acknowledge", "idle and fetch"] {
        for polls in 1.. {
            let server = Server::start(|_, command| match command {
                "IDLE" => Act::Say("+ idling\r\n* OK Still here\r\n".into()),
                _ => Act::Usual,
            })
            .await;
            let mut source = server.source();
            let acks = [ack(10, After::Move("Done".into())), ack(11, After::Delete)];
            let ended = match call {
                "connect" => cut_off(source.connect(), polls).await,
                "fetch" => cut_off(source.fetch(Some(&from), &limits), polls).await,
                "acknowledge" => cut_off(source.acknowledge(&acks), polls).await,
                _ => {
                    source.fetch(Some(&from), &limits).await.unwrap();
                    assert!(!cut_off(source.wait(Duration::from_secs(60)), 5).await);
                    cut_off(source.fetch(Some(&from), &limits), polls).await
                }
            };
            if polls % 2 == 0 {
                let closed = tokio::time::timeout(Duration::from_secs(2), source.close());
                closed.await.unwrap();
            }
            let batch = source.fetch(Some(&from), &limits).await.unwrap();
            assert_eq!(uids(&batch), [10, 11, 12], "{call}, {polls} polls");
            assert_eq!(reached(&batch), 12);
            source.acknowledge(&acks).await.unwrap();
            let closed = tokio::time::timeout(Duration::from_secs(2), source.close());
            closed.await.unwrap();
            if ended {
                assert!(polls > 1, "{call} was never cut off");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_server_that_quotes_a_sign_in_shows_no_secret() {
    const PASSWORD: &str = "Xq8Q~hunter/two+0123";
    let token_server = crate::token_server::TokenServer::start().await;
    let quotations: [fn(&str) -> String; 5] = [
        |said| format!("{said}\r\n"),
        |said| format!("* {said}\r\n"),
        |said| format!("{{tag}} NO what is {said}?\r\n"),
        |said| format!("{{tag}} BAD [X-{said}] no\r\n"),
        |said| format!("* BYE {said}\r\n"),
    ];
    for quote in quotations {
        for mechanism in ["PLAIN", "XOAUTH2"] {
            let greeting = match mechanism {
                "PLAIN" => "* OK [CAPABILITY IMAP4REV1 SASL-IR AUTH=PLAIN] ready\r\n",
                _ => "* OK [CAPABILITY IMAP4REV1 SASL-IR AUTH=XOAUTH2] ready\r\n",
            };
            let server = Server::greeting(greeting, move |_, command| {
                match command.strip_prefix("AUTHENTICATE ") {
                    Some(said) => Act::SayAndClose(quote(said)),
                    None => Act::Usual,
                }
            })
            .await;
            let login = match mechanism {
                "PLAIN" => Login::Password {
                    user: "u@example".into(),
                    password: Secret::new(PASSWORD),
                },
                _ => token_server.login(),
            };
            let mut source = server.source_as(login);
            let failed = source.fetch(None, &FetchLimits::default()).await;
            let shown = format!("{:?}", failed.unwrap_err());
            let said = server.commands.lock().await.join(" ");
            let secret = said.split(&format!("{mechanism} ")).nth(1).unwrap();
            assert!(!shown.contains(&secret[..12]), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_connection_waits_for_a_permit_and_returns_it_once_signed_in() {
    let server = Server::start(|_, _| Act::Usual).await;
    let limits = Arc::new(DialLimits::new(1, 1_000_000));
    let dials = limits.to("127.0.0.1");
    let held = dials.permit().await;
    let mut source = server.source();
    source.set_dials(dials.clone());
    {
        let mut connecting = std::pin::pin!(source.connect());
        let early = tokio::time::timeout(Duration::from_millis(50), connecting.as_mut()).await;
        assert!(early.is_err());
        assert_eq!(server.connections.load(Ordering::SeqCst), 0);
        drop(held);
        connecting.await.unwrap();
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    // The open session holds none.
    let _free = dials.permit().await;
}
