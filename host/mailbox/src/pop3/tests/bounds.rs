//! Sizes: stated, wrong, over the limit, and endless.

use super::*;

#[tokio::test]
async fn of_a_mail_over_the_limit_the_beginning_is_fetched() {
    let beginning = format!("Subject: x\r\n\r\n{}\r\n", "x".repeat(1000));
    // With TOP, with a TOP that sends everything, and without TOP.
    for (top, retr, bytes, sessions) in [
        (given(&beginning), None, beginning.len(), 1),
        (given(&"y".repeat(300_000)), None, 65_536, 2),
        (
            "-ERR no TOP\r\n".into(),
            Some(given(&"y".repeat(300_000))),
            65_536,
            2,
        ),
    ] {
        let server = Server::start(move |_, line| match (line, &retr) {
            ("LIST", _) => Act::Say(listing(&["40", "5000000", "40"])),
            ("TOP 2 1024", _) => Act::Say(top.clone()),
            ("RETR 2", Some(retr)) => Act::Say(retr.clone()),
            _ => Act::Usual,
        })
        .await;
        let limits = FetchLimits {
            raw_bytes: 1_000_000,
            ..FetchLimits::default()
        };
        let mut source = server.source();
        let mut mails = Vec::new();
        let mut cursor = None;
        loop {
            let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
            mails.extend(batch.messages);
            cursor = batch.cursor;
            if !batch.more {
                break;
            }
        }
        assert_eq!(mails.len(), 3);
        let large = &mails[1];
        assert_eq!((large.size, large.bytes.len()), (5_000_000, bytes));
        assert!(!large.is_whole() && mails[2].is_whole());
        assert_eq!(server.connections(), sessions);
    }
}

#[tokio::test]
async fn stated_sizes_may_be_lies() {
    let large = "x".repeat(3_000_000);
    let server = Server::start(move |_, line| match line {
        "RETR 1" => Act::Say(given(&format!("{large}\r\n"))),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let whole = FetchLimits::default();
    let error = source.fetch(None, &whole).await.unwrap_err();
    assert!(matches!(error, SourceError::Protocol { .. }), "{error}");
    // From then on mails are fetched one at a time, each bounded by the raw limit alone.
    let batch = source.fetch(None, &whole).await.unwrap();
    assert_eq!(
        (uids(&batch), batch.messages[0].bytes.len(), batch.more),
        (vec!["a".into()], 3_000_002, true)
    );
    let limits = FetchLimits {
        raw_bytes: 1_000_000,
        ..FetchLimits::default()
    };
    let batch = source.fetch(None, &limits).await.unwrap();
    let mail = &batch.messages[0];
    assert_eq!(mail.bytes.len(), 65_536);
    assert!(!mail.is_whole() && batch.more);
}

#[tokio::test]
async fn a_mail_without_end_ends_at_the_limit() {
    let endless: String = "line after line\r\n".repeat(200_000);
    let server = Server::start(move |_, line| match line {
        "RETR 1" => Act::Say(format!("+OK\r\n{endless}")),
        _ => Act::Usual,
    })
    .await;
    let limits = FetchLimits {
        raw_bytes: 1_000_000,
        ..FetchLimits::default()
    };
    let mut source = server.source();
    let batch = source.fetch(None, &limits).await.unwrap();
    assert_eq!(uids(&batch), ["a"]);
    assert!(batch.messages[0].bytes.len() == 65_536 && !batch.messages[0].is_whole());
    // The session was out of step, so the other mails come from a new one.
    let batch = source.fetch(batch.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(
        (uids(&batch), server.connections()),
        (vec!["b".into(), "c".into()], 2)
    );
}

#[tokio::test]
async fn endless_listings_end_at_a_number_of_mails_and_bytes() {
    let many: String = (1..=250_001).map(|n| format!("{n} u{n}\r\n")).collect();
    let long = format!("1 {}\r\n", "u".repeat(200)).repeat(130_000);
    let capabilities = "X\r\n".repeat(9_000_000);
    for (command, answer) in [("UIDL", many), ("UIDL", long), ("CAPA", capabilities)] {
        let server = Server::start(move |_, line| match line {
            line if line == command => Act::Say(format!("+OK\r\n{answer}.\r\n")),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        let error = source
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                SourceError::Protocol { .. } | SourceError::Unusable { .. }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn bytes_in_flight_are_bounded() {
    let server = Server::start(|_, line| match line {
        "LIST" => Act::Say(listing(&["600000", "600000", "600000"])),
        _ => Act::Usual,
    })
    .await;
    let limits = FetchLimits {
        in_flight: crate::InFlight::new(1024 * 1024),
        wait_for_room: false,
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let mut source = server.source();
    let first = source.fetch(None, &limits).await.unwrap();
    assert_eq!(uids(&first), ["a"]);
    let none = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert!(none.messages.is_empty() && none.more && none.cursor == first.cursor);
    drop(first.room);
    let second = source.fetch(none.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(uids(&second), ["b"]);
}
