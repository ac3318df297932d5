//! Servers that send too much: the data kept is bounded in number and bytes.

use super::super::list::{each_found, search};
use super::*;

#[tokio::test]
async fn a_search_keeps_what_was_asked_for() {
    let many: String = (0..200)
        .map(|n| format!("* SEARCH {}\r\n", "7 9 11 ".repeat(n)))
        .collect();
    let server = Server::start(move |_, command| match command {
        "UID SEARCH X" => Act::Say(format!("{many}{{tag}} OK\r\n")),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let connection = source.ready().await.unwrap();
    let found = search(connection, Step::Fetch, "X", &[9, 10, 11])
        .await
        .unwrap();
    assert_eq!(
        (found.as_slice(), found.capacity() <= 4),
        (&[9, 11][..], true)
    );
}

#[tokio::test]
async fn untagged_floods_end_at_a_number_of_bytes() {
    let line = format!("* SEARCH {}\r\n", "4294967295 ".repeat(500_000));
    let flood: &'static str = Box::leak(line.repeat(16).into_boxed_str());
    let server = Server::start(move |_, command| match command {
        "UID SEARCH X" => Act::Say(flood.into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let connection = source.ready().await.unwrap();
    let mut found = 0usize;
    let ended = each_found(connection, Step::Fetch, "X", |_| found += 1).await;
    assert!(
        matches!(ended, Err(SourceError::Protocol { .. })),
        "{ended:?}"
    );
    assert!(found <= 64 * 1024 * 1024 / 11, "{found}");
}

#[tokio::test]
async fn lines_are_short_unless_they_are_search_results() {
    for (command, word, is_fine) in [
        ("UID SEARCH X", "SEARCH 1", true),
        ("UID SEARCH X", "CAPABILITY A", false),
        ("UID SEARCH X", "LIST () \"/\" a", false),
        ("UID SEARCH X", "STATUS a", false),
    ] {
        let line = format!("* {word}{}\r\n{{tag}} OK\r\n", " 1".repeat(500_000));
        let server = Server::start(move |_, asked| match asked {
            _ if asked == command => Act::Say(line.clone()),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        let connection = source.ready().await.unwrap();
        let ended = connection.accepted(Step::Fetch, command).await;
        assert_eq!(ended.is_ok(), is_fine, "{word}: {ended:?}");
    }
}

#[tokio::test]
async fn a_listing_keeps_so_many_mails() {
    let lines: String = (1..=100_000u32)
        .map(|uid| format!("* 1 FETCH (UID {uid} RFC822.SIZE 4)\r\n"))
        .collect();
    let lines: &'static str = Box::leak(lines.into_boxed_str());
    let server = Server::start(move |_, command| match command {
        _ if command.starts_with("SELECT") => Act::Say(
            "* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 200000] x\r\n{tag} OK\r\n"
                .into(),
        ),
        _ if command.ends_with("INTERNALDATE)") => Act::Say(format!("{lines}{{tag}} OK\r\n")),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    source.fetch(Some(&cursor(9)), &limits).await.unwrap();
    let held = source.rounds.folders[0].backlog.as_ref().unwrap();
    assert!(held.waiting.len() <= 32 * 1024 && !held.complete);
}

#[tokio::test]
async fn bytes_in_flight_are_bounded_over_all_mailboxes() {
    const MAIL: usize = 3 * 1024 * 1024;
    let budget = crate::InFlight::new(8 * 1024 * 1024);
    let body = "x".repeat(MAIL);
    let server = Server::start(move |_, command| match command {
        _ if command.ends_with("INTERNALDATE)") => Act::Say(format!(
            "* 1 FETCH (UID 10 RFC822.SIZE {MAIL})\r\n* 2 FETCH (UID 11 RFC822.SIZE {MAIL})\r\n{{tag}} OK\r\n"
        )),
        "UID FETCH 10 (UID BODY.PEEK[])" => Act::Say(format!("{}{{tag}} OK\r\n", mail(10, &body))),
        "UID FETCH 11 (UID BODY.PEEK[])" => Act::Say(format!("{}{{tag}} OK\r\n", mail(11, &body))),
        _ => Act::Usual,
    })
    .await;
    let limits = |wait_for_room| FetchLimits {
        batch_bytes: 1,
        in_flight: budget.clone(),
        wait_for_room,
        ..FetchLimits::default()
    };
    let mut sources = [server.source(), server.source()];
    let mut third = server.source();
    let first = sources[0].fetch(None, &limits(true)).await.unwrap();
    let second = sources[1].fetch(None, &limits(true)).await.unwrap();
    // A source that holds mail does not wait, and gets none.
    let none = sources[0]
        .fetch(first.cursor.as_ref(), &limits(false))
        .await
        .unwrap();
    assert!(none.messages.is_empty() && none.more && none.cursor == first.cursor);
    // A source that holds none waits.
    let wait = limits(true);
    let waiting = third.fetch(None, &wait);
    let mut waiting = std::pin::pin!(waiting);
    let early = tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await;
    assert!(
        early.is_err(),
        "{:?}",
        early.map(|batch| batch.map(|it| uids(&it)))
    );
    let commands = server.commands.lock().await.clone();
    let loaded = commands.iter().filter(|it| it.starts_with("UID FETCH 10 "));
    assert_eq!(loaded.count(), 2);
    drop(second);
    assert_eq!(uids(&waiting.await.unwrap()), [10]);
    drop(first);
    let again = sources[0]
        .fetch(none.cursor.as_ref(), &limits(true))
        .await
        .unwrap();
    assert_eq!(uids(&again), [11]);
}
