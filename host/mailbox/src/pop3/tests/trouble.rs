//! Servers in trouble, and mails that they do not deliver.

use postroom_net::DialLimits;

use super::*;

fn kind(error: &SourceError) -> &'static str {
    match error {
        SourceError::Protocol { .. } => "protocol",
        SourceError::Transient { .. } => "transient",
        SourceError::Timeout { .. } => "timeout",
        SourceError::InUse { .. } => "in use",
        SourceError::OverLimit { .. } => "over limit",
        SourceError::Refused { .. } => "refused",
        SourceError::RefusedLogin { .. } => "refused login",
        SourceError::NoUniqueIds { .. } => "no unique ids",
        _ => "other",
    }
}

#[tokio::test]
async fn servers_that_are_none() {
    let long: &'static str = Box::leak("+OK x".repeat(10_000).into_boxed_str());
    for (greeting, expected) in [
        ("* OK IMAP ready\r\n", "protocol"),
        ("220 mail.example ESMTP\r\n", "protocol"),
        ("-ERR too many connections\r\n", "transient"),
        ("-ERR [SYS/TEMP] later\r\n", "transient"),
        ("-ERR [LOGIN-DELAY] later\r\n", "over limit"),
        ("", "timeout"),
        ("+OK half a li", "timeout"),
        (long, "protocol"),
        ("\r\n", "protocol"),
    ] {
        let server = Server::greeting(greeting, |_, _| Act::Usual).await;
        let error = server.source().connect().await.unwrap_err();
        assert_eq!(kind(&error), expected, "{error}");
        assert_eq!(error.step(), Step::Greeting);
        assert!(error.to_string().len() < 700);
    }
}

#[tokio::test]
async fn refused_sign_ins_are_told_apart() {
    for (answer, expected, is_transient) in [
        ("-ERR [IN-USE] maildrop locked", "in use", true),
        ("-ERR [LOGIN-DELAY] minimum 60 s", "over limit", true),
        ("-ERR [SYS/TEMP] try later", "transient", true),
        ("-ERR [SYS/PERM] mailbox damaged", "refused", false),
        ("-ERR [AUTH] wrong password", "refused login", false),
        (
            "-ERR Logon failure: unknown user name or bad password.",
            "refused login",
            false,
        ),
    ] {
        let server = Server::start(move |_, line| match line {
            "PASS pw" => say(answer),
            _ => Act::Usual,
        })
        .await;
        let error = server.source().connect().await.unwrap_err();
        assert_eq!(
            (kind(&error), error.is_transient()),
            (expected, is_transient),
            "{error}"
        );
    }
}

#[tokio::test]
async fn listings_that_are_none() {
    let shared = "+OK\r\n1 a\r\n1 b\r\n2 c\r\n.\r\n";
    for (command, answer, expected) in [
        ("UIDL", "-ERR unknown command\r\n", "no unique ids"),
        ("UIDL", "-ERR [SYS/TEMP] later\r\n", "transient"),
        ("UIDL", "+OK\r\n1 a\r\n.\r\n", "protocol"),
        ("UIDL", "+OK\r\n1 a\r\n2 b\r\n3\r\n.\r\n", "protocol"),
        ("UIDL", "+OK\r\n0 a\r\n2 b\r\n3 c\r\n.\r\n", "protocol"),
        ("UIDL", "+OK\r\n1 a b\r\n2 b\r\n3 c\r\n.\r\n", "protocol"),
        ("UIDL", shared, "protocol"),
        ("UIDL", "+OK\r\n1 a\r\n", "timeout"),
        ("UIDL", "", "timeout"),
        ("UIDL", "garbage\r\n", "protocol"),
        (
            "UIDL",
            "+OK\r\n1 a\r\n2 b\r\n3 c\r\n.\r\n+OK again\r\n",
            "protocol",
        ),
        ("LIST", "+OK\r\n1 many\r\n.\r\n", "protocol"),
        ("LIST", "-ERR no\r\n", "refused"),
        ("STAT", "+OK\r\n", "protocol"),
        ("STAT", "+OK -1 0\r\n", "protocol"),
        ("STAT", "+OK 99999999999999999999 0\r\n", "protocol"),
        ("STAT", "+OK 250001 0\r\n", "other"),
    ] {
        let server = Server::start(move |_, line| match line {
            line if line == command => Act::Say(answer.into()),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        let error = source
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err();
        assert_eq!(kind(&error), expected, "{command} {answer:?}: {error}");
    }
}

#[tokio::test]
async fn a_slow_server_runs_into_the_commands_limit() {
    let server = Server::start(|_, line| match line {
        "UIDL" => Act::Trickle("+OK\r\n1 a\r\n2 b\r\n3 c\r\n".repeat(10)),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    source.settings.timeouts.command = STALL * 2;
    let error = source
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap_err();
    assert_eq!(kind(&error), "timeout", "{error}");
}

#[tokio::test]
async fn a_refused_mail_does_not_hold_up_the_others_and_is_given_up_in_the_end() {
    let server = Server::start(|_, line| match line {
        "RETR 1" => say("-ERR cannot read it"),
        _ => Act::Usual,
    })
    .await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let mut cursor = None;
    let got = drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(got.len(), 2);
    for _ in 1..fetch::TRIES_MAX {
        source.close().await;
        assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
    }
    source.close().await;
    let got = drain(&mut source, &journal, &mut cursor).await;
    assert_eq!((got.len(), got[0].is_whole()), (1, false));
    let note = String::from_utf8_lossy(&got[0].bytes);
    assert!(note.contains("Mail a could not be fetched"), "{note}");
    source.close().await;
    assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
    let tries = usize::try_from(fetch::TRIES_MAX).unwrap();
    assert_eq!(server.count_of("RETR 1"), tries);
}

#[tokio::test]
async fn a_mail_that_breaks_the_session_lets_the_others_go_first() {
    for breaking in ["+OK\r\nSubject: x\r\n\r\nno end", ""] {
        let server = Server::start(move |_, line| match line {
            "RETR 1" => Act::SayAndClose(breaking.into()),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        let limits = FetchLimits::default();
        let error = source.fetch(None, &limits).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        let batch = source.fetch(None, &limits).await.unwrap();
        // The mails before the session broke again are returned.
        assert_eq!(
            (uids(&batch), batch.more),
            (vec!["b".into(), "c".into()], true)
        );
        let error = source
            .fetch(batch.cursor.as_ref(), &limits)
            .await
            .unwrap_err();
        assert!(error.is_transient(), "{error}");
    }
}

#[tokio::test]
async fn a_mail_without_its_last_line_ends_in_a_timeout() {
    let server = Server::start(|_, line| match line {
        "RETR 2" => Act::Say("+OK\r\nSubject: x\r\n\r\nhelp\r\n..\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert_eq!((uids(&batch), batch.more), (vec!["a".into()], true));
}

#[tokio::test]
async fn trouble_that_passes_is_not_held_against_a_mail() {
    let server = Server::start(|_, line| match line {
        "RETR 1" => say("-ERR [SYS/TEMP] disk is away"),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let error = source
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert!(source.tries.values().all(|tries| *tries == 0));
}

#[tokio::test]
async fn dots_are_taken_out_of_mails() {
    let server = Server::start(|_, line| match line {
        "RETR 1" => Act::Say("+OK\r\nSubject: x\r\n\r\n..\r\n...a\r\n.\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let batch = server
        .source()
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap();
    assert_eq!(
        &batch.messages[0].bytes[..],
        b"Subject: x\r\n\r\n.\r\n..a\r\n"
    );
    assert!(batch.messages[0].is_whole());
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
