//! Reading, restarting and acknowledging with an honest server.

use super::*;

const RECENT: &str = "2026-11-30T10:00:00Z";
const LONG_AGO: &str = "2020-11-30T10:00:00Z";

fn base_of(asked: &Asked) -> String {
    let host = asked
        .head
        .lines()
        .find_map(|line| line.strip_prefix("host: "));
    format!("http://{}/v1.0", host.unwrap())
}

fn page(asked: &Asked, items: Vec<serde_json::Value>, link: &str, name: &str) -> Act {
    let link = format!("{}/{link}", base_of(asked));
    let mut page = serde_json::json!({ "value": items });
    page[name] = link.into();
    json(200, page)
}

/// Replies with two pages, then no news.
fn two_pages(asked: &Asked) -> Act {
    match asked.path.as_str() {
        path if path.contains("/mailFolders/inbox?") => folder(),
        path if path.contains("/messages/delta?") => page(
            asked,
            vec![item("B", RECENT), item("A", LONG_AGO)],
            "next?p=2",
            "@odata.nextLink",
        ),
        "/v1.0/next?p=2" => page(
            asked,
            vec![
                item("C", RECENT),
                serde_json::json!({"id": "gone", "@removed": {"reason": "deleted"}}),
                serde_json::json!({"id": "draft", "isDraft": true}),
            ],
            "delta?d=1",
            "@odata.deltaLink",
        ),
        "/v1.0/delta?d=1" => page(asked, vec![], "delta?d=1", "@odata.deltaLink"),
        path if path.ends_with("/$value") => mime("Subject: x\r\n\r\nbody\r\n"),
        path => panic!("{path}"),
    }
}

#[tokio::test]
async fn a_folder_is_read_page_by_page_and_a_restart_goes_on_from_the_delta_link() {
    let server = Scripted::start(two_pages).await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source();
    source.set_known(journal.clone());
    let first = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert!(first.more && first.remember);
    let old: Vec<bool> = first.messages.iter().map(|mail| mail.old).collect();
    assert_eq!(old, [true, false]);
    // Not journalled: the same mails are returned again.
    let (ids, cursor) = drain(&mut source, None, &journal).await;
    assert_eq!(ids, ["A", "B", "C"]);
    assert_eq!(server.count("$value"), 5);
    let asked = server.asked();
    assert!(asked[0].starts_with("GET /v1.0/users/support@acme.example/mailFolders/inbox?"));
    assert!(asked[1].ends_with(
        "/mailFolders/F1/messages/delta?$select=receivedDateTime,isDraft&changeType=created"
    ));
    assert!(server.most.load(Ordering::SeqCst) <= 4);

    // Another process.
    let before = server.asked().len();
    let mut source = server.source();
    source.set_known(journal.clone());
    let (ids, _) = drain(&mut source, cursor, &journal).await;
    assert!(ids.is_empty());
    let asked = server.asked()[before..].to_vec();
    assert!(asked[1].contains("/delta?d=1"), "{asked:?}");
}

#[tokio::test]
async fn each_request_asks_for_immutable_ids_and_carries_the_token() {
    let server = Scripted::start(|asked| {
        let head = asked.head.to_ascii_lowercase();
        assert!(head.contains("authorization: bearer tok1"), "{head}");
        assert!(head.contains("idtype=\"immutableid\""), "{head}");
        assert_eq!(
            head.contains("odata.maxpagesize=200"),
            asked.path.contains("delta") || asked.path.contains("next")
        );
        two_pages(asked)
    })
    .await;
    let journal = MemoryJournal::default();
    drain(&mut server.source(), None, &journal).await;
}

#[tokio::test]
async fn a_folder_of_many_mails_is_read_four_at_a_time_within_the_limits() {
    let server = Scripted::start(|asked| match asked.path.as_str() {
        path if path.contains("/mailFolders/inbox?") => folder(),
        path if path.contains("/messages/delta?") => {
            let items = (100..200).map(|number| item(&number.to_string(), RECENT));
            page(asked, items.collect(), "d", "@odata.deltaLink")
        }
        path if path.ends_with("/150/$value") => mime(&"x".repeat(500_000)),
        path if path.ends_with("/$value") => mime(&"x".repeat(1000)),
        _ => page(asked, vec![], "d", "@odata.deltaLink"),
    })
    .await;
    let mut source = server.source();
    let limits = FetchLimits {
        batch_mails: 10,
        batch_bytes: 300_000,
        raw_bytes: 400_000,
        in_flight: InFlight::new(1024 * 1024),
        wait_for_room: true,
    };
    let (mut cursor, mut seen) = (None, Vec::new());
    loop {
        let batch = source.fetch(cursor.as_ref(), &limits).await.unwrap();
        assert!(batch.messages.len() <= 10);
        for mail in &batch.messages {
            let id = id_at(&mail.position).unwrap();
            let (bytes, size) = (mail.bytes.len(), mail.size);
            match id.as_str() {
                "150" => assert_eq!((bytes, size), (64 * 1024, 500_000)),
                _ => assert_eq!((bytes, size), (1000, 1000)),
            }
            seen.push(id);
        }
        cursor = batch.cursor;
        if !batch.more {
            break;
        }
    }
    let expected: Vec<String> = (100..200).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    assert_eq!(server.most.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn first_contact_takes_in_what_import_says() {
    let day = Import::Since(jiff::civil::date(2021, 1, 1));
    for (import, expected) in [
        (Import::New, vec!["B", "C"]),
        (Import::All, vec!["A", "B", "C"]),
        (day, vec!["B", "C"]),
    ] {
        let server = Scripted::start(two_pages).await;
        let journal = MemoryJournal::default();
        let mut source = server.source_with(import, |_| {});
        let (ids, _) = drain(&mut source, None, &journal).await;
        assert_eq!(ids, expected, "{import:?}");
    }
}

#[tokio::test]
async fn a_lost_place_brings_neither_old_nor_known_mail_again() {
    let lost = Arc::new(AtomicUsize::new(0));
    let server = Scripted::start({
        let lost = lost.clone();
        move |asked| {
            let is_lost = lost.load(Ordering::SeqCst);
            match asked.path.as_str() {
                "/v1.0/delta?d=1" if is_lost == 1 => error(410, "syncStateNotFound", ""),
                "/v1.0/delta?d=1" if is_lost == 2 => error(400, "SyncStateNotFound", ""),
                "/v1.0/next?p=2" if is_lost > 0 => page(
                    asked,
                    // C is known; D arrived in the meantime.
                    vec![item("C", RECENT), item("D", "2026-11-30T11:00:00Z")],
                    "delta?d=2",
                    "@odata.deltaLink",
                ),
                "/v1.0/delta?d=2" => page(asked, vec![], "delta?d=2", "@odata.deltaLink"),
                _ => two_pages(asked),
            }
        }
    })
    .await;
    for kind in [1, 2] {
        lost.store(0, Ordering::SeqCst);
        let journal = Arc::new(MemoryJournal::default());
        let mut source = server.source_with(Import::New, |_| {});
        source.set_known(journal.clone());
        let (ids, cursor) = drain(&mut source, None, &journal).await;
        assert_eq!(ids, ["B", "C"]);
        lost.store(kind, Ordering::SeqCst);
        // Another process: only the journal knows what was read.
        let mut source = server.source_with(Import::New, |_| {});
        source.set_known(journal.clone());
        let (ids, _) = drain(&mut source, cursor, &journal).await;
        assert_eq!(ids, ["D"]);
    }
}

#[tokio::test]
async fn a_folder_made_anew_is_found_by_its_name() {
    let made = Arc::new(AtomicUsize::new(0));
    let server = Scripted::start({
        let made = made.clone();
        move |asked| match asked.path.as_str() {
            "/v1.0/delta?d=1" if made.load(Ordering::SeqCst) > 0 => {
                error(404, "ErrorItemNotFound", "")
            }
            path if path.contains("/mailFolders/F2/") => page(
                asked,
                vec![item("A", LONG_AGO), item("E", RECENT)],
                "delta?d=3",
                "@odata.deltaLink",
            ),
            "/v1.0/delta?d=3" => page(asked, vec![], "delta?d=3", "@odata.deltaLink"),
            path if path.contains("/mailFolders?") => {
                assert!(path.contains("displayName eq 'Ann''s tickets'"), "{path}");
                let id = ["F1", "F2"][made.load(Ordering::SeqCst)];
                json(
                    200,
                    serde_json::json!({"value": [{"id": id, "displayName": "Ann's tickets"}]}),
                )
            }
            _ => two_pages(asked),
        }
    })
    .await;
    let journal = Arc::new(MemoryJournal::default());
    let mut source = server.source_with(Import::New, |it| it.folder = "Ann's tickets".into());
    source.set_known(journal.clone());
    let (_, cursor) = drain(&mut source, None, &journal).await;
    made.store(1, Ordering::SeqCst);
    source.close().await;
    let (ids, _) = drain(&mut source, cursor, &journal).await;
    assert_eq!(ids, ["E"]);
}

#[tokio::test]
async fn a_mail_that_is_not_given_is_asked_for_again_and_one_that_is_gone_is_not() {
    let server = Scripted::start(|asked| match asked.path.as_str() {
        path if path.ends_with("/B/$value") => error(500, "ErrorMimeContentConversionFailed", ""),
        path if path.ends_with("/C/$value") => error(404, "ErrorItemNotFound", ""),
        _ => two_pages(asked),
    })
    .await;
    let journal = MemoryJournal::default();
    let (ids, cursor) = drain(&mut server.source(), None, &journal).await;
    assert_eq!(ids, ["A"]);
    let cursor = cursor.unwrap().0;
    assert!(cursor.contains(r#""again":[{"id":"B""#), "{cursor}");
    assert!(!cursor.contains(r#""id":"C""#), "{cursor}");
}

#[tokio::test]
async fn a_server_that_gives_no_mail_at_all_keeps_them_in_line() {
    let server = Scripted::start(|asked| match asked.path.as_str() {
        path if path.ends_with("/$value") => error(403, "ErrorAccessDenied", ""),
        _ => two_pages(asked),
    })
    .await;
    let mut source = server.source();
    for _ in 0..30 {
        let error = source
            .fetch(None, &FetchLimits::default())
            .await
            .unwrap_err();
        assert!(matches!(error, SourceError::AccessDenied { .. }), "{error}");
    }
}

fn moved(mail: &str, after: After) -> Acknowledge {
    Acknowledge {
        position: position(mail),
        after,
    }
}

#[tokio::test]
async fn mails_are_marked_moved_and_deleted_only_where_they_were_read() {
    let server = Scripted::start(|asked| {
        let path = asked.path.as_str();
        match (asked.method.as_str(), path) {
            ("GET", _) if path.contains("/mailFolders/inbox?") => folder(),
            ("GET", _) if path.contains("/mailFolders?") => json(200, r#"{"value":[]}"#),
            ("POST", _) if path.ends_with("/mailFolders") => {
                assert_eq!(asked.body, r#"{"displayName":"Processed"}"#);
                json(
                    201,
                    serde_json::json!({"id": "F9", "displayName": "Processed"}),
                )
            }
            ("GET", _) if path.contains("/messages/elsewhere?") => {
                json(200, r#"{"parentFolderId":"F5"}"#)
            }
            ("GET", _) if path.contains("/messages/gone?") => error(404, "ErrorItemNotFound", ""),
            ("GET", _) if path.contains("?$select=parentFolderId") => {
                json(200, r#"{"parentFolderId":"F1"}"#)
            }
            ("PATCH", _) => {
                assert_eq!(asked.body, r#"{"isRead":true}"#);
                json(200, "{}")
            }
            ("POST", _) if path.ends_with("/move") => {
                assert_eq!(asked.body, r#"{"destinationId":"F9"}"#);
                json(201, r#"{"id":"A"}"#)
            }
            ("DELETE", _) => Act::Answer(204, String::new(), "text/plain", Vec::new()),
            _ => panic!("{} {path}", asked.method),
        }
    })
    .await;
    let mut source = server.source();
    let processed = After::Move("Processed".into());
    let acks = [
        moved("A", processed.clone()),
        moved("B", After::Seen),
        moved("C", After::Delete),
        moved("D", After::Keep),
        moved("elsewhere", After::Delete),
        moved("gone", processed.clone()),
        Acknowledge {
            position: Position::OnServer(r#"{"uid":3}"#.into()),
            after: After::Delete,
        },
    ];
    source.acknowledge(&acks).await.unwrap();
    let mut changed: Vec<String> = server.asked();
    changed.retain(|it| !it.starts_with("GET") && !it.ends_with("/mailFolders"));
    changed.sort();
    let at = "/v1.0/users/support@acme.example/messages";
    assert_eq!(
        changed,
        [
            format!("DELETE {at}/C"),
            format!("PATCH {at}/B"),
            format!("POST {at}/A/move"),
        ]
    );
    // The folder is looked up once.
    source.acknowledge(&[moved("A", processed)]).await.unwrap();
    assert_eq!(
        server.count("POST /v1.0/users/support@acme.example/mailFolders"),
        1
    );
    assert!(server.most.load(Ordering::SeqCst) <= 4);
}

#[tokio::test]
async fn one_refused_acknowledgement_does_not_stop_the_others() {
    let server = Scripted::start(|asked| match (asked.method.as_str(), asked.path.as_str()) {
        ("GET", path) if path.contains("/mailFolders/inbox?") => folder(),
        ("PATCH", path) if path.ends_with("/A") => error(403, "ErrorAccessDenied", ""),
        _ => json(200, "{}"),
    })
    .await;
    let mut source = server.source();
    let acks = ["A", "B", "C"].map(|mail| moved(mail, After::Seen));
    let error = source.acknowledge(&acks).await.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(server.count("PATCH"), 3);
}
