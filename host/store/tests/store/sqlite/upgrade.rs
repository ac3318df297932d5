//! A database of an earlier program is upgraded to today's: its content is there, and is found as if it were written today.

use std::path::Path;
use std::sync::Arc;

use postroom_core::lookup::{Query, QueryResult, TicketSearch};
use postroom_store::{Filter, JournalBatch, Store};

use super::database;
use crate::kit::{batch, mail, open};

/// Written by the store of commit 3213f17, the last one before rule versions and lookup, and dumped as SQL.
const BEFORE_VERSIONS: &str = include_str!("../../upgrade/schema_2.sql");

fn upgraded() -> (tempfile::TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let old = database(dir.path());
    // A dump inserts rows before those that they refer to.
    old.pragma_update(None, "foreign_keys", false).unwrap();
    old.execute_batch(BEFORE_VERSIONS).unwrap();
    old.pragma_update(None, "user_version", 2).unwrap();
    drop(old);
    let store = open(dir.path());
    (dir, store)
}

fn words(path: &Path) -> Vec<(String, String, String, i64)> {
    let conn = database(path);
    let mut statement = conn
        .prepare("SELECT t.name, w.name, w.value, w.ticket FROM ticket_word w JOIN tenant t ON t.id = w.tenant ORDER BY 4, 2, 3")
        .unwrap();
    let rows = statement
        .query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .unwrap();
    rows.collect::<Result<_, _>>().unwrap()
}

/// The words of old tickets are the same as if the tickets were created today.
#[tokio::test]
async fn tickets_are_found_as_if_they_were_made_today() {
    let (old_dir, old) = upgraded();
    let (new_dir, new) = crate::kit::store();
    let rows = old.listings().items(&Filter::default()).unwrap();
    let mut rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
    rows.retain(|row| row.kind == postroom_core::ItemKind::Ticket);
    rows.sort_by_key(|row| row.id);
    assert_eq!(rows.len(), 10);
    for row in &rows {
        let title = row.title.clone().unwrap();
        let mails = JournalBatch {
            tenant: row.tenant.clone(),
            mailbox: format!("{}-support", row.tenant),
            ..batch(vec![mail(&title)])
        };
        let id = new.journal(mails).await.unwrap()[0].id();
        let ticket = postroom_core::Ticket {
            title: Some(title.clone()),
            requester: row.detail.requester.clone(),
            fields: row.fields.clone(),
            ..Default::default()
        };
        let action = postroom_core::Action::Ticket(ticket);
        let outcome = postroom_core::Outcome::Ticket;
        let made = crate::kit::verdict(id, &title, outcome, vec![action]);
        let committed = new.commit(vec![made]).await.unwrap();
        assert_eq!(Some(&committed[0].tickets[0]), row.ticket.as_ref());
    }
    let (old_words, new_words) = (words(old_dir.path()), words(new_dir.path()));
    assert!(new_words.len() > 20, "{new_words:#?}");
    assert_eq!(old_words, new_words);

    let find = |search| {
        let found = old
            .listings()
            .lookup("acme", &Query::Tickets(search), 100)
            .unwrap();
        let QueryResult::Tickets(rows) = found else {
            panic!("{found:?}")
        };
        let tickets: Vec<_> = rows.into_iter().map(|row| row.ticket).collect();
        tickets.join(" ")
    };
    let of = |email: &str| find(TicketSearch::Requester(email.into()));
    assert_eq!(of("ann@acme.example"), "T-9 T-1");
    assert_eq!(of("jo@acme.example"), "T-3");
    assert_eq!(of("ärger@müller.example"), "T-4");
    assert_eq!(of("tab@acme.example"), "T-5");
    let with = |name: &str, value: &str| find(TicketSearch::Field(name.into(), value.into()));
    for (name, value) in [
        ("job", "nightly"),
        ("code", "7"),
        ("huge", "18446744073709551615"),
        ("one", "1.0"),
        ("yes", "true"),
        ("Größe", "Über"),
        ("quoted \"name\"", "it's"),
    ] {
        assert_eq!(with(name, value), "T-9", "{name}");
    }
}

#[tokio::test]
async fn all_else_is_as_it_was() {
    let (dir, store) = upgraded();
    // The rules of each generation: each letter is a version of rule a or rule b; a dot means that the rule did not exist.
    let (a, b) = ("abbaac", "x.xxyy");
    for (number, (a, b)) in (1..).zip(a.chars().zip(b.chars())) {
        let rules = store.listings().generation_rules(number).unwrap().unwrap();
        let queue = |name: &str| {
            let rule = rules.iter().find(|rule| rule.name == name)?;
            let text = String::from_utf8(rule.bytes.to_vec()).unwrap();
            text.split('"').nth(1)?.chars().next()
        };
        let seen = |name| queue(name).unwrap_or('.');
        assert_eq!((seen("rules/a.js"), seen("rules/b.js")), (a, b), "{number}");
        assert_eq!(rules[0].grants_json, "{\"kv\":true}");
    }
    let last = store
        .listings()
        .last_good("bolt", "rules/b.js")
        .unwrap()
        .unwrap();
    assert!(String::from_utf8_lossy(&last.bytes).contains("\"y\""));
    let alert = |key: &str| match store
        .listings()
        .lookup("acme", &Query::Alert(key.into()), 1)
    {
        Ok(QueryResult::Alerts(mut rows)) => rows.remove(0),
        other => panic!("{other:?}"),
    };
    let (disk, cpu) = (alert("disk/db1"), alert("cpu/db1"));
    assert_eq!((disk.count, cpu.count), (2, 2));
    let firing = store
        .listings()
        .lookup("acme", &Query::Alerts(String::new()), 9)
        .unwrap();
    assert_eq!(firing, QueryResult::Alerts(vec![disk]));
    assert_eq!(
        store
            .listings()
            .kv("acme", "rules/a.js", "seen")
            .unwrap()
            .as_deref(),
        Some("1")
    );
    assert_eq!(store.pending("bolt-support", 9).await.unwrap().len(), 1);
    let decisions = store.listings().decisions(&Filter::default()).unwrap();
    assert_eq!(decisions.map(Result::unwrap).count(), 16);
    drop(store);
    // A second start has nothing to do.
    let store = open(dir.path());
    assert_eq!(store.listings().newest_generation().unwrap(), 6);
}

#[tokio::test]
async fn an_upgraded_installation_has_an_identity_and_knows_no_repeats() {
    let (dir, store) = upgraded();
    // Its mail was not seen again, wherever it was.
    assert!(
        store
            .listings()
            .repeats(&Filter::default())
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.crashes(), 0);
    let rows = store.listings().ledger(&Filter::default()).unwrap();
    assert!(rows.iter().all(|row| row.repeated == 0));
    let secret = |path: &Path| -> String {
        let conn = database(path);
        conn.query_row("SELECT secret FROM installation", [], |row| row.get(0))
            .unwrap()
    };
    let before = secret(dir.path());
    drop(store);
    drop(open(dir.path()));
    assert_eq!(secret(dir.path()), before);
    let (other, _store) = upgraded();
    assert_ne!(secret(other.path()), before);
}
