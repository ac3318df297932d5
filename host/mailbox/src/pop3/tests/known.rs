//! Recognising known mail: across restarts, at the first contact, after lost batches, and when the server changes its unique ids.

use super::*;

/// Starts a server whose mailbox holds `mails`: unique id and mail.
async fn holding(mails: &Arc<Mutex<Vec<(&'static str, String)>>>) -> Server {
    let mails = mails.clone();
    Server::start(move |_, line| {
        let mails = mails.lock().unwrap();
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = rest
            .split(' ')
            .next()
            .and_then(|it| it.parse::<usize>().ok());
        match (word, number) {
            ("STAT", _) => say(&format!("+OK {} 0", mails.len())),
            ("UIDL", None) => Act::Say(listing(&mails.iter().map(|it| it.0).collect::<Vec<_>>())),
            ("LIST", None) => Act::Say(listing(&vec!["40"; mails.len()])),
            ("RETR" | "TOP", Some(number)) => Act::Say(given(&mails[number - 1].1)),
            _ => Act::Usual,
        }
    })
    .await
}

fn arrived(day: &str) -> String {
    format!("Received: from x by y; {day} 10:00:00 +0000\r\nSubject: x\r\n\r\nhelp\r\n")
}

fn uids_of(mails: &[RawMessage]) -> Vec<String> {
    mails.iter().map(|mail| uid_of(&mail.position)).collect()
}

fn mails(uids: &[&'static str]) -> Arc<Mutex<Vec<(&'static str, String)>>> {
    let mail = |uid: &&'static str| (*uid, arrived("Tue, 10 Nov 2026"));
    Arc::new(Mutex::new(uids.iter().map(mail).collect()))
}

#[tokio::test]
async fn another_process_fetches_only_what_the_journal_does_not_have() {
    let held = mails(&["m", "x", "c"]);
    let server = holding(&held).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut cursor = None;
    for expected in [vec!["m", "x", "c"], vec![], vec!["a"]] {
        if expected == ["a"] {
            // A server may list new mail in any position.
            held.lock()
                .unwrap()
                .insert(0, ("a", arrived("Mon, 30 Nov 2026")));
        }
        let mut source = server.source();
        source.set_known(journal.clone());
        let got = drain(&mut source, &journal, &mut cursor).await;
        assert_eq!(uids_of(&got), expected);
    }
    let retrieved = server.commands();
    let retrieved = retrieved.iter().filter(|it| it.starts_with("RETR"));
    assert_eq!(retrieved.count(), 4);
}

#[tokio::test]
async fn a_batch_that_the_journal_did_not_take_is_given_again() {
    let server = holding(&mails(&["m", "x", "c"])).await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let first = source.fetch(None, &limits).await.unwrap();
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(
        (uids(&first), uids(&second)),
        (vec!["m".into()], vec!["x".into()])
    );
    // The store failed: both batches were in progress, and only the first is in the journal.
    let again = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(uids(&again), ["x"]);
    let last = source.fetch(again.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(uids(&last), ["c"]);
    // Not even the first one was journalled.
    let all = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert_eq!(uids(&all), ["m", "x", "c"]);
}

#[tokio::test]
async fn the_first_contact_takes_in_what_import_says() {
    let held = mails(&["old", "older", "recent", "odd"]);
    held.lock().unwrap()[2].1 = arrived("Wed, 25 Nov 2026");
    let server = holding(&held).await;
    for (import, expected) in [
        (Import::New, vec![]),
        (Import::All, vec!["old", "older", "recent", "odd"]),
        // From the first one on, in the mailbox's order.
        (
            Import::Since(jiff::civil::date(2026, 11, 20)),
            vec!["recent", "odd"],
        ),
    ] {
        held.lock().unwrap().truncate(4);
        let journal = Arc::new(MemoryJournal::default());
        let mut source = server.source();
        source.settings.import = import;
        source.set_known(journal.clone());
        let mut cursor = None;
        let got = drain(&mut source, &journal, &mut cursor).await;
        assert_eq!(uids_of(&got), expected, "{import:?}");
        // Mail that was left out is known like the rest.
        assert_eq!(held_uids(&journal).len(), 4, "{import:?}");
        assert!(
            got.iter()
                .all(|mail| mail.old || mail.position.stored().contains("recent"))
        );
        held.lock()
            .unwrap()
            .push(("new", arrived("Tue, 10 Nov 2026")));
        let mut source = server.source();
        source.settings.import = import;
        source.set_known(journal.clone());
        let got = drain(&mut source, &journal, &mut cursor).await;
        assert_eq!(uids_of(&got), ["new"], "{import:?}");
        assert!(!got[0].old, "{import:?}");
    }
}

#[tokio::test]
async fn an_import_goes_on_after_a_restart_and_new_mail_is_not_old() {
    let held = mails(&["a", "b", "c"]);
    let server = holding(&held).await;
    let journal = Arc::new(MemoryJournal::default());
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let mut source = server.source();
    source.set_known(journal.clone());
    let batch = source.fetch(None, &limits).await.unwrap();
    let mut cursor = journal.take(&batch);
    held.lock()
        .unwrap()
        .push(("d", arrived("Tue, 10 Nov 2026")));
    let mut source = server.source();
    source.set_known(journal.clone());
    let got = drain(&mut source, &journal, &mut cursor).await;
    let ages: Vec<(String, bool)> = got
        .iter()
        .map(|mail| (uid_of(&mail.position), mail.old))
        .collect();
    assert_eq!(
        ages,
        [("b".into(), true), ("c".into(), true), ("d".into(), false)]
    );
}

#[tokio::test]
async fn vanished_mail_is_forgotten_and_an_empty_listing_forgets_nothing() {
    let held = mails(&["a", "b", "c"]);
    let server = holding(&held).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let mut cursor = None;
    drain(&mut source, &journal, &mut cursor).await;
    let all = held.lock().unwrap().clone();
    for (listed, known) in [
        (vec![], vec!["a", "b", "c"]),
        (all.clone(), vec!["a", "b", "c"]),
        (all[1..].to_vec(), vec!["b", "c"]),
    ] {
        *held.lock().unwrap() = listed;
        source.close().await;
        assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
        assert_eq!(held_uids(&journal), known);
    }
}

#[tokio::test]
async fn new_unique_ids_neither_flood_nor_lose() {
    let held = mails(&["a", "b"]);
    let server = holding(&held).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.settings.import = Import::New;
    source.set_known(journal.clone());
    let mut cursor = None;
    drain(&mut source, &journal, &mut cursor).await;
    // The server was replaced: the same mails have other ids, and one arrived in the meantime.
    let now = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(60);
    let now = now.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string();
    let mut renamed = held.lock().unwrap().clone();
    renamed[0].0 = "1";
    renamed[1].0 = "2";
    renamed.push(("3", format!("Received: x; {now}\r\nSubject: x\r\n\r\n")));
    *held.lock().unwrap() = renamed;
    let mut source = server.source();
    source.settings.import = Import::New;
    source.set_known(journal.clone());
    let got = drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(uids_of(&got), ["3"]);
    assert!(!got[0].old);
    source.close().await;
    assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
    assert_eq!(held_uids(&journal), ["1", "2", "3"]);
}

#[tokio::test]
async fn another_mailbox_is_another_first_contact() {
    let server = holding(&mails(&["a", "b"])).await;
    let journal = Arc::new(MemoryJournal::default());
    for cursor in [
        r#"{"folder":"INBOX","uid_validity":7,"uid":12}"#,
        r#"{"pop3":"u@elsewhere","batch":7,"contact":1,"old":null}"#,
        "garbage",
    ] {
        let mut source = server.source();
        source.settings.import = Import::New;
        source.set_known(journal.clone());
        let mut cursor = Some(Cursor(cursor.into()));
        assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
        assert!(cursor.unwrap().0.contains("u@example@127.0.0.1"));
    }
}

#[tokio::test]
async fn mails_with_one_unique_id_are_all_fetched_and_never_deleted() {
    let server = holding(&mails(&["a", "b", "a"])).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let mut cursor = None;
    let got = drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(uids_of(&got), ["a 1 40", "b", "a 2 40"]);
    source
        .acknowledge(&[
            ack("a 1 40", After::Delete),
            ack("a 2 40", After::Delete),
            ack("b", After::Delete),
        ])
        .await
        .unwrap();
    let commands = server.commands();
    let deleted: Vec<_> = commands
        .iter()
        .filter(|it| it.starts_with("DELE"))
        .collect();
    assert_eq!(deleted, ["DELE 2"]);
    assert!(drain(&mut source, &journal, &mut cursor).await.is_empty());
}

#[tokio::test]
async fn a_mailbox_that_was_emptied_here_is_not_renumbered_after_a_restart() {
    let held = mails(&["a", "b"]);
    let server = holding(&held).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let mut cursor = None;
    drain(&mut source, &journal, &mut cursor).await;
    let acks = ["a", "b"].map(|uid| ack(uid, After::Delete));
    source.acknowledge(&acks).await.unwrap();
    drop(source);
    // The next process finds mail that a person moved here, from before the first contact.
    *held.lock().unwrap() = vec![("m", arrived("Tue, 10 Nov 2026"))];
    let mut source = server.source();
    source.settings.import = Import::New;
    source.set_known(journal.clone());
    let got = drain(&mut source, &journal, &mut cursor).await;
    assert_eq!(uids_of(&got), ["m"]);
    assert!(!got[0].old);
}
