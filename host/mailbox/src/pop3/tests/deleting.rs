//! Deletions: carried out only by QUIT, and repeated until a server has confirmed them.

use super::*;

/// Returns a source that has fetched all three mails.
async fn fetched(server: &Server) -> (Pop3Source, Option<Cursor>) {
    let mut source = server.source();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert_eq!(uids(&batch), ["a", "b", "c"]);
    (source, batch.cursor)
}

#[tokio::test]
async fn what_is_committed_is_deleted_in_the_session_that_read_it() {
    let server = Server::start(|_, _| Act::Usual).await;
    let (mut source, _) = fetched(&server).await;
    assert!(source.acknowledges_last());
    let acks = [
        ack("a", After::Delete),
        ack("b", After::Keep),
        ack("c", After::Delete),
    ];
    source.acknowledge(&acks).await.unwrap();
    assert_eq!(server.commands()[6..], ["DELE 1", "DELE 3", "QUIT"]);
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn nothing_is_deleted_for_who_keeps_all() {
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    source.acknowledge(&[ack("a", After::Keep)]).await.unwrap();
    // The same applies to mails of other sources, and to actions that POP3 does not support.
    let imap = Position::OnServer(r#"{"folder":"INBOX","uid_validity":7,"uid":1}"#.into());
    let acks = [
        Acknowledge {
            position: imap,
            after: After::Delete,
        },
        ack("a", After::Seen),
    ];
    source.acknowledge(&acks).await.unwrap();
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_lost_answer_to_quit_leaves_the_deletions_to_be_repeated() {
    for lost in [
        Act::SayAndClose(String::new()),
        Act::Hush,
        say("-ERR [SYS/TEMP] some stay"),
    ] {
        let mut lost = Some(lost);
        let server = Server::start(move |_, line| match line {
            "QUIT" => lost.take().unwrap_or(Act::Usual),
            _ => Act::Usual,
        })
        .await;
        let (mut source, _) = fetched(&server).await;
        source.settings.timeouts.command = STALL;
        source.session = None;
        let acks = [ack("a", After::Delete)];
        let error = source.acknowledge(&acks).await.unwrap_err();
        assert!(error.is_transient(), "{error}");
        source.acknowledge(&acks).await.unwrap();
        assert_eq!(server.count_of("DELE 1"), 2);
        // A mail that is gone counts as deleted.
        source
            .acknowledge(&[ack("gone", After::Delete)])
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_session_that_breaks_between_two_deletions_deletes_nothing() {
    let server = Server::start(|connection, line| match line {
        "DELE 3" if connection == 1 => Act::SayAndClose(String::new()),
        _ => Act::Usual,
    })
    .await;
    let (mut source, _) = fetched(&server).await;
    let acks = [ack("a", After::Delete), ack("c", After::Delete)];
    let error = source.acknowledge(&acks).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    assert_eq!(server.count_of("QUIT"), 0);
    source.acknowledge(&acks).await.unwrap();
    assert_eq!(server.count_of("QUIT"), 1);
}

#[tokio::test]
async fn one_refused_deletion_does_not_hold_up_the_others() {
    let server = Server::start(|_, line| match line {
        "DELE 1" => say("-ERR no right"),
        _ => Act::Usual,
    })
    .await;
    let (mut source, _) = fetched(&server).await;
    let acks = [ack("a", After::Delete), ack("b", After::Delete)];
    let error = source.acknowledge(&acks).await.unwrap_err();
    assert!(matches!(error, SourceError::Refused { .. }), "{error}");
    assert_eq!(server.commands()[6..], ["DELE 1", "DELE 2", "QUIT"]);
}

#[tokio::test]
async fn a_server_that_keeps_deleted_mail_does_not_have_it_read_again() {
    let server = Server::start(|_, _| Act::Usual).await;
    let (mut source, cursor) = fetched(&server).await;
    source
        .acknowledge(&[ack("a", After::Delete)])
        .await
        .unwrap();
    let batch = source
        .fetch(cursor.as_ref(), &FetchLimits::default())
        .await
        .unwrap();
    assert!(batch.messages.is_empty());
    assert_eq!(server.count_of("RETR 1"), 1);
}

#[tokio::test]
async fn positions_of_deleted_mail_are_forgotten_once_it_is_gone() {
    let gone = Arc::new(Mutex::new(false));
    let is_gone = gone.clone();
    let server = Server::start(move |_, line| match line {
        "STAT" if *is_gone.lock().unwrap() => say("+OK 0 0"),
        _ => Act::Usual,
    })
    .await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let mut cursor = None;
    drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(held_uids(&journal).len(), 3);
    let acks = ["a", "b", "c"].map(|uid| ack(uid, After::Delete));
    source
        .fetch(cursor.as_ref(), &FetchLimits::default())
        .await
        .unwrap();
    source.acknowledge(&acks).await.unwrap();
    *gone.lock().unwrap() = true;
    drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(held_uids(&journal), [""; 0]);
}
