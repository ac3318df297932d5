//! Folders whose UIDs refer to other mails than before, and mails that appear late: none is lost, and old mail does not
//! flood the line.

use super::*;
use crate::Renumbering;

/// A folder that a case changes while it runs.
#[derive(Clone)]
pub struct Folder {
    pub uid_validity: u32,
    pub uid_next: Option<u32>,
    /// UID, date of arrival, and body; `None` is sent as NIL.
    pub mails: Vec<(u32, &'static str, Option<&'static str>)>,
}

pub const BEFORE: &str = "01-Nov-2020 10:00:00 +0000";
pub const AFTER: &str = "01-Nov-2096 10:00:00 +0000";

type Shared = Arc<std::sync::Mutex<Folder>>;

pub fn answer(folder: &Folder, command: &str) -> Act {
    if command.starts_with("SELECT") {
        let next = folder
            .uid_next
            .map_or_else(String::new, |next| format!("* OK [UIDNEXT {next}] x\r\n"));
        return Act::Say(format!(
            "* {} EXISTS\r\n* OK [UIDVALIDITY {}] x\r\n{next}{{tag}} OK\r\n",
            folder.mails.len(),
            folder.uid_validity
        ));
    }
    if command.ends_with("(UID RFC822.SIZE INTERNALDATE)") {
        let from = command["UID FETCH ".len()..].split_once(':').unwrap().0;
        let from: u32 = from.parse().unwrap();
        let lines: String = folder
            .mails
            .iter()
            .enumerate()
            .filter(|(_, (uid, ..))| *uid >= from)
            .map(|(at, (uid, arrived, body))| {
                format!(
                    "* {} FETCH (UID {uid} RFC822.SIZE {} INTERNALDATE \"{arrived}\")\r\n",
                    at + 1,
                    body.map_or(4, str::len)
                )
            })
            .collect();
        return Act::Say(format!("{lines}{{tag}} OK\r\n"));
    }
    if command.starts_with("UID SEARCH UID") {
        let uids: Vec<String> = folder.mails.iter().map(|it| it.0.to_string()).collect();
        return Act::Say(format!("* SEARCH {}\r\n{{tag}} OK\r\n", uids.join(" ")));
    }
    if command.contains("BODY.PEEK[]") {
        let set = command["UID FETCH ".len()..].split(' ').next().unwrap();
        let asked = |uid: u32| {
            set.split(',').any(|range| {
                let (first, last) = range.split_once(':').unwrap_or((range, range));
                (first.parse().unwrap()..=last.parse().unwrap()).contains(&uid)
            })
        };
        let lines: String = folder
            .mails
            .iter()
            .filter(|it| asked(it.0))
            .map(|(uid, _, body)| match body {
                Some(body) => mail(*uid, body),
                None => format!("* 1 FETCH (UID {uid} BODY[] NIL)\r\n"),
            })
            .collect();
        return Act::Say(format!("{lines}{{tag}} OK\r\n"));
    }
    Act::Usual
}

async fn start(folder: Folder) -> (Server, Shared) {
    let shared = Arc::new(std::sync::Mutex::new(folder));
    let asked = shared.clone();
    let server = Server::start(move |_, command| answer(&asked.lock().unwrap(), command)).await;
    (server, shared)
}

pub fn folder(uid_validity: u32, mails: &[(u32, &'static str)]) -> Folder {
    Folder {
        uid_validity,
        uid_next: Some(mails.iter().map(|it| it.0).max().unwrap_or(0) + 1),
        mails: mails
            .iter()
            .map(|(uid, arrived)| (*uid, *arrived, Some("mail")))
            .collect(),
    }
}

/// Returns everything after a cursor: UIDs, which of them are old, and the last cursor.
async fn drained(
    source: &mut ImapSource,
    cursor: Option<Cursor>,
) -> (Vec<u32>, Vec<u32>, Option<Cursor>, Option<Renumbering>) {
    let (mut all, mut old, mut cursor, mut renumbering) = (Vec::new(), Vec::new(), cursor, None);
    loop {
        let batch = source
            .fetch(cursor.as_ref(), &FetchLimits::default())
            .await
            .unwrap();
        for (uid, message) in uids(&batch).into_iter().zip(&batch.messages) {
            all.push(uid);
            if message.old {
                old.push(uid);
            }
        }
        cursor = batch.cursor;
        renumbering = batch.renumbering.or(renumbering);
        if !batch.more {
            return (all, old, cursor, renumbering);
        }
    }
}

#[tokio::test]
async fn old_mail_stays_out() {
    let old: Vec<(u32, &str)> = (1..=60).map(|uid| (uid, BEFORE)).collect();
    let (server, shared) = start(folder(1, &old)).await;
    let mut source = server.source();
    source.settings.import = Import::New;
    let (got, _, cursor, _) = drained(&mut source, None).await;
    assert!(got.is_empty());
    {
        let mut folder = shared.lock().unwrap();
        folder.uid_validity = 2;
        folder.mails.push((61, AFTER, Some("new")));
        folder.uid_next = Some(62);
    }
    let (got, old, cursor, renumbering) = drained(&mut source, cursor).await;
    assert_eq!((got, old), (vec![61], vec![]));
    assert_eq!(
        renumbering,
        Some(Renumbering::UidValidity { was: 1, is: 2 })
    );
    // New mail is handled as usual, unless it is part of the old mail.
    {
        let mut folder = shared.lock().unwrap();
        folder.mails.push((62, BEFORE, Some("restored")));
        folder.mails.push((63, AFTER, Some("newer")));
        folder.uid_next = Some(64);
    }
    let (got, old, cursor, renumbering) = drained(&mut source, cursor).await;
    assert_eq!((got, old, renumbering), (vec![63], vec![], None));
    let (got, _, again, _) = drained(&mut source, cursor.clone()).await;
    assert!(got.is_empty() && again == cursor);
}

#[tokio::test]
async fn what_was_there_at_the_first_contact_is_old() {
    let (server, shared) = start(folder(1, &[(1, AFTER), (2, BEFORE)])).await;
    let mut source = server.source();
    let (got, old, cursor, _) = drained(&mut source, None).await;
    assert_eq!(
        (got, old),
        (vec![1, 2], vec![2]),
        "the first is of this day"
    );
    *shared.lock().unwrap() = folder(2, &[(1, AFTER), (2, BEFORE)]);
    let (got, old, ..) = drained(&mut source, cursor).await;
    assert_eq!((got, old), (vec![1, 2], vec![2]));
}

#[tokio::test]
async fn uids_that_went_back_are_read_again() {
    let mails: Vec<(u32, &str)> = (1..=50).map(|uid| (uid, BEFORE)).collect();
    let (server, shared) = start(folder(1, &mails)).await;
    let mut source = server.source();
    source.settings.import = Import::New;
    let (_, _, cursor, _) = drained(&mut source, None).await;
    // Restored from yesterday's backup, and three mails arrived since.
    let mut restored = folder(1, &mails[..45]);
    restored
        .mails
        .extend((46..49).map(|uid| (uid, AFTER, Some("new"))));
    restored.uid_next = Some(49);
    *shared.lock().unwrap() = restored;
    let (got, old, cursor, renumbering) = drained(&mut source, cursor).await;
    assert_eq!((got, old), (vec![46, 47, 48], vec![]));
    assert_eq!(
        renumbering,
        Some(Renumbering::UidsWentBack { read: 50, next: 49 })
    );
    let (got, .., renumbering) = drained(&mut source, cursor).await;
    assert!(got.is_empty() && renumbering.is_none());
}

/// DavMail derives UIDNEXT from the newest mail; it is 1 if the folder is empty.
#[tokio::test]
async fn an_empty_folder_whose_uids_begin_again_is_no_trouble() {
    let (server, shared) = start(folder(1, &[(1, AFTER), (2, AFTER)])).await;
    let mut source = server.source();
    let (_, _, mut cursor, _) = drained(&mut source, None).await;
    // The numbers go on with the next mail, or they really began again.
    for uid in [3, 1] {
        *shared.lock().unwrap() = folder(1, &[]);
        shared.lock().unwrap().uid_next = Some(1);
        let (got, _, emptied, renumbering) = drained(&mut source, cursor).await;
        assert!(got.is_empty() && renumbering.is_none(), "{renumbering:?}");
        *shared.lock().unwrap() = folder(1, &[(uid, AFTER)]);
        let (got, _, read, renumbering) = drained(&mut source, emptied).await;
        assert_eq!((got, renumbering), (vec![uid], None));
        cursor = read;
    }
}

#[tokio::test]
async fn ghosts_do_not_deafen_a_mailbox() {
    let (server, shared) = start(folder(1, &[(1, AFTER)])).await;
    let mut source = server.source();
    let (_, _, cursor, _) = drained(&mut source, None).await;
    shared
        .lock()
        .unwrap()
        .mails
        .push((u32::MAX - 1, AFTER, Some("ghost")));
    let (got, _, cursor, _) = drained(&mut source, cursor).await;
    assert!(got.is_empty(), "{got:?}");
    // Even if UIDNEXT is wrong as well, later correct values are accepted.
    shared.lock().unwrap().uid_next = Some(u32::MAX);
    let (_, _, cursor, _) = drained(&mut source, cursor).await;
    *shared.lock().unwrap() = folder(1, &[(1, AFTER), (2, AFTER)]);
    let (got, ..) = drained(&mut source, cursor).await;
    assert!(got.contains(&2), "{got:?}");
}

#[tokio::test]
async fn a_mail_that_becomes_visible_late_is_found() {
    let (server, shared) = start(folder(1, &[(1, AFTER), (2, AFTER), (4, AFTER)])).await;
    let mut source = server.source();
    source.settings.timeouts.reconcile = Duration::ZERO;
    let (got, _, cursor, _) = drained(&mut source, None).await;
    assert_eq!(got, [1, 2, 4]);
    shared
        .lock()
        .unwrap()
        .mails
        .insert(2, (3, AFTER, Some("late")));
    let (got, _, cursor, _) = drained(&mut source, cursor).await;
    assert_eq!(got, [3]);
    let (got, _, again, _) = drained(&mut source, cursor.clone()).await;
    assert!(got.is_empty() && again == cursor);
    // A new process also knows what was read.
    let mut source = server.source();
    let (got, ..) = drained(&mut source, cursor).await;
    assert!(got.is_empty());
}

#[tokio::test]
async fn mails_of_no_size_are_told_apart() {
    let mut empty = folder(1, &[]);
    empty.mails = (1..=10).map(|uid| (uid, AFTER, Some(""))).collect();
    empty.uid_next = Some(11);
    let (server, _) = start(empty).await;
    let batch = server
        .source()
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap();
    let notes: std::collections::HashSet<&[u8]> =
        batch.messages.iter().map(|it| &it.bytes[..]).collect();
    assert_eq!((batch.messages.len(), notes.len()), (10, 10));
    assert!(batch.messages.iter().all(|note| !note.is_whole()));
}

#[tokio::test]
async fn a_mail_given_as_nil_is_asked_for_again() {
    let mut nil = folder(1, &[(1, AFTER), (2, AFTER)]);
    nil.mails[0].2 = None;
    let (server, shared) = start(nil).await;
    let mut source = server.source();
    source.settings.timeouts.reconcile = Duration::ZERO;
    let limits = FetchLimits::default();
    for _ in 1..5 {
        let later = source.fetch(None, &limits).await.unwrap_err();
        assert!(later.is_transient(), "{later}");
    }
    let (got, _, cursor, _) = drained(&mut source, None).await;
    assert_eq!(got, [1, 2]);
    let (got, _, cursor, _) = drained(&mut source, cursor).await;
    assert!(got.is_empty(), "asked at once: {got:?}");
    // The pause is over.
    let text = cursor.unwrap().0;
    let (before, due) = text.split_once(r#""due":"#).unwrap();
    let (_, rest) = due.split_once('}').unwrap();
    let due = Cursor(format!(r#"{before}"due":1}}{rest}"#));
    let (got, _, still, _) = drained(&mut source, Some(due.clone())).await;
    assert!(got.is_empty() && still.unwrap().0.contains(r#""tries":2"#));
    shared.lock().unwrap().mails[0].2 = Some("at last");
    let batch = source.fetch(Some(&due), &limits).await.unwrap();
    assert_eq!(uids(&batch), [1]);
    assert_eq!(&batch.messages[0].bytes[..], b"at last");
    assert!(!batch.cursor.unwrap().0.contains("tries"));
}

#[tokio::test]
async fn a_select_without_uidnext_begins_at_the_end() {
    // Like Courier, which answers STATUS and finds nothing by UID *; like imap4d, which refuses the search; and neither.
    for (status, search) in [
        (
            "* STATUS \"INBOX\" (UIDNEXT 11)\r\n{tag} OK\r\n",
            "* SEARCH\r\n{tag} OK\r\n",
        ),
        ("{tag} NO no\r\n", "{tag} BAD no\r\n"),
        ("{tag} OK\r\n", "* SEARCH\r\n{tag} OK\r\n"),
    ] {
        let mut courier = folder(1, &[]);
        courier.mails = (1..=10).map(|uid| (uid, BEFORE, Some("mail"))).collect();
        courier.uid_next = None;
        for import in [Import::New, Import::Since(jiff::civil::date(2026, 11, 9))] {
            let held = courier.clone();
            let server = Server::start(move |_, command| match command {
                _ if command.starts_with("STATUS") => Act::Say(status.into()),
                _ if command.starts_with("UID SEARCH") => Act::Say(search.into()),
                "FETCH 10 (UID)" => Act::Say("* 10 FETCH (UID 10)\r\n{tag} OK\r\n".into()),
                _ => answer(&held, command),
            })
            .await;
            let mut source = server.source();
            source.settings.import = import;
            let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
            assert_eq!((uids(&batch), reached(&batch)), (vec![], 10), "{status}");
        }
    }
}

#[tokio::test]
async fn acknowledgements_never_reach_the_mails_of_a_folder_made_anew() {
    let (server, shared) = start(folder(1, &[(1, AFTER), (2, AFTER)])).await;
    let mut source = server.source();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    let acks: Vec<Acknowledge> = batch
        .messages
        .iter()
        .map(|mail| Acknowledge {
            position: mail.position.clone(),
            after: After::Delete,
        })
        .collect();
    source.acknowledge(&acks[..1]).await.unwrap();
    *shared.lock().unwrap() = folder(2, &[(1, AFTER), (2, AFTER)]);
    source.acknowledge(&acks[1..]).await.unwrap();
    // The numbers of a restored folder went back: mail that will get them was never read.
    let mut restored = folder(1, &[(1, AFTER)]);
    restored.uid_next = Some(2);
    *shared.lock().unwrap() = restored;
    source.acknowledge(&acks[1..]).await.unwrap();
    let commands = server.after_select().await;
    let deleted: Vec<&String> = commands.iter().filter(|it| it.contains("STORE")).collect();
    assert_eq!(deleted, ["UID STORE 1 +FLAGS.SILENT (\\Deleted)"]);
}

#[tokio::test]
async fn the_reconciling_look_hears_of_a_folder_made_anew() {
    let (server, shared) = start(folder(1, &[(5, AFTER)])).await;
    let mut source = server.source();
    let (got, _, cursor, _) = drained(&mut source, None).await;
    assert_eq!(got, [5]);
    source.wait(Duration::from_millis(20)).await.unwrap();
    *shared.lock().unwrap() = folder(2, &[(1, AFTER), (2, AFTER)]);
    let (got, ..) = drained(&mut source, cursor).await;
    assert_eq!(got, [1, 2]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}
