//! Several folders in one session: each with its own position, and none that stops another.

use std::collections::HashMap;

use super::renumbering::{AFTER, BEFORE, Folder, answer, folder};
use super::*;

/// The folders of a server that a case changes while it runs.
type Folders = Arc<std::sync::Mutex<HashMap<&'static str, Folder>>>;

async fn start(folders: &[(&'static str, Folder)]) -> (Server, Folders) {
    let shared: Folders = Arc::new(std::sync::Mutex::new(folders.iter().cloned().collect()));
    let asked = shared.clone();
    let mut open: HashMap<usize, String> = HashMap::new();
    let server = Server::start(move |connection, command| {
        let folders = asked.lock().unwrap();
        let named = command
            .strip_prefix("SELECT ")
            .map(|name| name.trim_matches('"'));
        if let Some(name) = named {
            open.insert(connection, name.to_owned());
            if !folders.contains_key(name) {
                return Act::Say("{tag} NO [NONEXISTENT] no such folder\r\n".into());
            }
        }
        let selected = open.get(&connection).map(String::as_str);
        match selected.and_then(|name| folders.get(name)) {
            Some(folder) => answer(folder, command),
            None => Act::Usual,
        }
    })
    .await;
    (server, shared)
}

fn source_of(server: &Server, folders: &[&str], import: Import) -> ImapSource {
    let mut source = server.source();
    source.settings.folders = folders.iter().map(|it| (*it).to_owned()).collect();
    source.settings.import = import;
    source.settings.every = Duration::ZERO;
    source.rounds = Rounds::new(&source.settings.folders);
    source
}

/// Returns the mails after a cursor, as folder and UID, and the last cursor.
async fn drained(
    source: &mut ImapSource,
    cursor: Option<Cursor>,
) -> (Vec<(String, u32)>, Option<Cursor>) {
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let (mut all, mut cursor) = (Vec::new(), cursor);
    loop {
        let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
        for mail in &batch.messages {
            let place = Place::at(&mail.position).unwrap();
            all.push((place.folder, place.uid));
        }
        cursor = batch.cursor;
        if !batch.more {
            return (all, cursor);
        }
    }
}

fn got(mails: &[(&str, u32)]) -> Vec<(String, u32)> {
    let owned = mails.iter().map(|(name, uid)| ((*name).to_owned(), *uid));
    owned.collect()
}

#[tokio::test]
async fn each_folder_has_its_own_position_in_one_session() {
    let (server, folders) = start(&[
        ("INBOX", folder(1, &[(1, AFTER), (2, AFTER), (3, AFTER)])),
        ("Junk", folder(9, &[(1, AFTER), (7, AFTER)])),
    ])
    .await;
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::All);
    let (mails, cursor) = drained(&mut source, None).await;
    // They take turns.
    let expected = [
        ("Junk", 1),
        ("INBOX", 1),
        ("Junk", 7),
        ("INBOX", 2),
        ("INBOX", 3),
    ];
    assert_eq!(mails, got(&expected));
    let (none, still) = drained(&mut source, cursor.clone()).await;
    assert!(none.is_empty() && still == cursor);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);

    // Another process continues from the cursor, and one folder is renumbered.
    *folders.lock().unwrap().get_mut("Junk").unwrap() = folder(10, &[(1, AFTER)]);
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::All);
    let (mails, cursor) = drained(&mut source, cursor).await;
    assert_eq!(mails, got(&[("Junk", 1)]));
    // A folder that is no longer read is forgotten, and the other one is not.
    let mut source = source_of(&server, &["INBOX"], Import::All);
    let (none, cursor) = drained(&mut source, cursor).await;
    assert!(none.is_empty());
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::New);
    assert!(drained(&mut source, cursor).await.0.is_empty());
}

#[tokio::test]
async fn a_folder_added_later_is_met_for_the_first_time() {
    let (server, folders) = start(&[
        ("INBOX", folder(7, &[(12, AFTER), (13, AFTER)])),
        ("Junk", folder(9, &[(1, AFTER)])),
    ])
    .await;
    // The cursor of an earlier version.
    let earlier = Some(cursor(12));
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::New);
    let (mails, cursor) = drained(&mut source, earlier).await;
    assert_eq!(mails, got(&[("INBOX", 13)]));
    *folders.lock().unwrap().get_mut("Junk").unwrap() = folder(9, &[(1, AFTER), (2, AFTER)]);
    assert_eq!(drained(&mut source, cursor).await.0, got(&[("Junk", 2)]));
}

#[tokio::test]
async fn a_folder_that_cannot_be_opened_stops_no_other() {
    let (server, folders) = start(&[("INBOX", folder(1, &[(1, BEFORE)]))]).await;
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::New);
    source.connect().await.unwrap();
    let (none, cursor) = drained(&mut source, None).await;
    assert!(none.is_empty());
    let trouble = source.trouble().unwrap();
    assert!(trouble.contains("folder Junk"), "{trouble}");

    // It appears with mail of before and after the first contact.
    let appeared = folder(4, &[(1, BEFORE), (2, AFTER)]);
    folders.lock().unwrap().insert("Junk", appeared);
    let (mails, cursor) = drained(&mut source, cursor).await;
    assert_eq!(mails, got(&[("Junk", 2)]));
    assert!(source.trouble().is_none());

    // The watched folder disappears: the other one is watched and read.
    folders.lock().unwrap().remove("INBOX");
    folders
        .lock()
        .unwrap()
        .get_mut("Junk")
        .unwrap()
        .mails
        .push((3, AFTER, Some("mail")));
    folders.lock().unwrap().get_mut("Junk").unwrap().uid_next = Some(4);
    let (mails, cursor) = drained(&mut source, cursor).await;
    assert_eq!(mails, got(&[("Junk", 3)]));
    assert!(source.trouble().unwrap().contains("folder INBOX"));
    let (none, cursor) = drained(&mut source, cursor).await;
    assert!(none.is_empty());
    source.settings.every = Duration::from_secs(3600);
    source.wait(Duration::from_millis(50)).await.unwrap();
    assert!(server.after_select().await.contains(&"IDLE".to_owned()));

    // Without any folder the mailbox fails, and recovers.
    source.settings.every = Duration::ZERO;
    folders.lock().unwrap().clear();
    for _ in 0..3 {
        let refused = source.fetch(cursor.as_ref(), &FetchLimits::default()).await;
        assert!(
            matches!(refused, Err(SourceError::Folder { missing: true, .. })),
            "{refused:?}"
        );
    }
    let back = folder(4, &[(3, AFTER), (4, AFTER)]);
    folders.lock().unwrap().insert("Junk", back);
    assert_eq!(drained(&mut source, cursor).await.0, got(&[("Junk", 4)]));
}

#[tokio::test]
async fn a_mail_that_cannot_be_fetched_stops_its_folder_only() {
    let mut bad = folder(1, &[(1, AFTER)]);
    bad.mails[0].2 = None;
    let (server, _) = start(&[("INBOX", folder(1, &[(1, AFTER)])), ("Junk", bad)]).await;
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::All);
    let limits = FetchLimits::default();
    let refused = source.fetch(None, &limits).await.unwrap_err();
    assert!(
        refused.is_transient() && refused.to_string().contains("UID 1"),
        "{refused}"
    );
    let batch = source.fetch(None, &limits).await.unwrap();
    assert_eq!((uids(&batch), batch.more), (vec![1], true));
    // The tries are counted although the other folder is read in between.
    let mut tries = 1;
    while let Err(error) = source.fetch(batch.cursor.as_ref(), &limits).await {
        assert!(error.is_transient(), "{error}");
        tries += 1;
    }
    assert_eq!(tries, 19);
}

#[tokio::test]
async fn acknowledgements_reach_the_folder_of_each_mail() {
    let (server, folders) = start(&[
        ("INBOX", folder(7, &[(10, AFTER)])),
        ("Junk", folder(9, &[(1, AFTER)])),
    ])
    .await;
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::All);
    let in_junk = |after| Acknowledge {
        position: Place {
            folder: "Junk".into(),
            uid_validity: 9,
            uid: 1,
        }
        .position(),
        after,
    };
    let acks = [ack(10, After::Seen), in_junk(After::Delete)];
    source.acknowledge(&acks).await.unwrap();
    let expected = [
        "UID STORE 10 +FLAGS.SILENT (\\Seen)",
        "SELECT \"Junk\"",
        "UID STORE 1 +FLAGS.SILENT (\\Deleted)",
        "UID EXPUNGE 1",
    ];
    assert_eq!(server.after_select().await, expected);

    // No mail goes to a folder that is read: it would be new mail there.
    for (from, target) in [
        (ack(10, After::Move("Junk".into())), "Junk"),
        (in_junk(After::Move("inbox".into())), "inbox"),
    ] {
        let refused = source.acknowledge(&[from]).await.unwrap_err();
        let said = refused.to_string();
        assert!(
            said.contains(target) && said.contains("read from that folder, too"),
            "{said}"
        );
    }
    let commands = server.after_select().await;
    assert!(
        !commands.iter().any(|it| it.starts_with("UID MOVE")),
        "{commands:?}"
    );

    // The folder is gone, or closed to us: the others are acknowledged.
    folders.lock().unwrap().remove("Junk");
    source
        .acknowledge(&[in_junk(After::Seen), ack(10, After::Seen)])
        .await
        .unwrap();
}

#[tokio::test]
async fn a_closed_folder_stops_no_acknowledgement_of_another() {
    let server = Server::start(|_, command| match command {
        "SELECT \"Closed\"" => Act::Say("{tag} NO [NOPERM] no\r\n".into()),
        _ if command.starts_with("LIST") => {
            Act::Say("* LIST () \"/\" Closed\r\n{tag} OK\r\n".into())
        }
        _ => Act::Usual,
    })
    .await;
    let mut source = source_of(&server, &["INBOX", "Closed"], Import::All);
    let closed = Acknowledge {
        position: Place {
            folder: "Closed".into(),
            uid_validity: 9,
            uid: 1,
        }
        .position(),
        after: After::Seen,
    };
    let refused = source.acknowledge(&[closed, ack(10, After::Seen)]).await;
    assert!(
        matches!(refused, Err(SourceError::Folder { missing: false, .. })),
        "{refused:?}"
    );
    let commands = server.after_select().await;
    assert!(
        commands.contains(&"UID STORE 10 +FLAGS.SILENT (\\Seen)".to_owned()),
        "{commands:?}"
    );
}

#[tokio::test]
async fn the_first_folder_is_watched_and_the_others_are_read_at_their_interval() {
    let (server, folders) = start(&[
        ("INBOX", folder(1, &[(1, AFTER)])),
        ("Junk", folder(9, &[(1, AFTER)])),
    ])
    .await;
    let mut source = source_of(&server, &["INBOX", "Junk"], Import::New);
    source.settings.every = Duration::from_millis(1500);
    let (_, cursor) = drained(&mut source, None).await;
    *folders.lock().unwrap().get_mut("Junk").unwrap() = folder(9, &[(1, AFTER), (2, AFTER)]);
    // A look at the first folder before the interval is over does not look at the other one.
    let (none, cursor) = drained(&mut source, cursor).await;
    assert!(none.is_empty());
    source.wait(Duration::from_secs(60)).await.unwrap();
    let before = server.after_select().await;
    assert_eq!(before.last().map(String::as_str), Some("IDLE"));
    assert_eq!(drained(&mut source, cursor).await.0, got(&[("Junk", 2)]));
    // The first folder is open again, so that the next wait begins at once.
    let last = server.after_select().await;
    let selected = last.iter().rev().find(|it| it.starts_with("SELECT"));
    assert_eq!(selected.map(String::as_str), Some(SELECT));
}

#[tokio::test]
async fn a_probe_names_each_folder() {
    let (server, _) = start(&[("INBOX", folder(1, &[])), ("Junk", folder(9, &[]))]).await;
    let mut source = source_of(&server, &["INBOX", "Junk", "Gone"], Import::New);
    let mut steps = Vec::new();
    source
        .probe(&mut |step| {
            let told = step.outcome.unwrap_or_else(|error| error.to_string());
            steps.push((step.step.name(), told));
        })
        .await;
    let steps: Vec<(&str, &str)> = steps
        .iter()
        .map(|(step, told)| (*step, told.as_str()))
        .collect();
    assert_eq!(
        steps[3..],
        [
            ("select", "INBOX, 0 mails"),
            ("fetch", "INBOX: the folder is empty"),
            ("select", "Junk, 0 mails"),
            ("fetch", "Junk: the folder is empty"),
            (
                "select",
                "select: folder Gone cannot be opened: [NONEXISTENT] no such folder"
            ),
        ]
    );
}
