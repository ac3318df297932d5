//! Rules' lookups: the tickets and alerts of their own tenant, found by their content.

use std::sync::Arc;

use postroom_core::lookup::{Query, QueryResult, TicketSearch};
use postroom_core::{Action, AlertState, Outcome, Ticket};
use postroom_store::{JournalBatch, JournalId, LookupRead, Store};
use serde_json::json;

use crate::kit::{alert, batch, conclusion, ignored, journal_one, mail, store, verdict};

const ALL: usize = 100;

/// Journals a mail of this tenant.
async fn journal_of(store: &Arc<dyn Store>, tenant: &str, name: &str) -> JournalId {
    let batch = JournalBatch {
        tenant: tenant.into(),
        mailbox: format!("{tenant}-support"),
        ..batch(vec![mail(name)])
    };
    store.journal(batch).await.unwrap()[0].id()
}

async fn open(
    store: &Arc<dyn Store>,
    tenant: &str,
    title: &str,
    requester: &str,
    job: &str,
) -> String {
    let name = format!("{tenant}-{title}-{requester}-{job}");
    let id = journal_of(store, tenant, &name).await;
    let ticket = Ticket {
        title: Some(title.into()),
        body: Some("secret body".into()),
        requester: Some(requester.into()),
        fields: serde_json::from_value(json!({ "job": job, "code": 7, "deep": [1] })).unwrap(),
        ..Ticket::default()
    };
    let made = verdict(id, &name, Outcome::Ticket, vec![Action::Ticket(ticket)]);
    let mut committed = store.commit(vec![made]).await.unwrap();
    committed.remove(0).tickets.remove(0)
}

fn tickets(store: &Arc<dyn Store>, tenant: &str, question: Query) -> Vec<String> {
    match store.listings().lookup(tenant, &question, ALL).unwrap() {
        QueryResult::Tickets(rows) => rows.into_iter().map(|row| row.ticket).collect(),
        other => panic!("{other:?}"),
    }
}

fn by_requester(email: &str) -> Query {
    Query::Tickets(TicketSearch::Requester(email.into()))
}

fn by_subject(text: &str) -> Query {
    Query::Tickets(TicketSearch::Subject(text.into()))
}

fn by_field(name: &str, value: &str) -> Query {
    Query::Tickets(TicketSearch::Field(name.into(), value.into()))
}

#[tokio::test]
async fn tickets_are_found_by_number_requester_title_and_field() {
    let (_dir, store) = store();
    let ann = "Ann <Ann@Acme.example>";
    let first = open(&store, "acme", "Disk full on db1", ann, "nightly").await;
    let second = open(&store, "acme", "Printer", ann, "weekly").await;
    let find = |question| tickets(&store, "acme", question);
    assert_eq!(find(Query::Ticket(first.clone())), [&*first]);
    assert_eq!(find(by_requester("ann@acme.example")), [&*second, &*first]);
    assert_eq!(find(by_subject("DISK")), [&*first]);
    assert_eq!(find(by_subject("")), [&*second, &*first]);
    assert_eq!(find(by_field("job", "nightly")), [&*first]);
    assert_eq!(find(by_field("code", "7")), [&*second, &*first]);
    for nothing in [
        Query::Ticket("T-99".into()),
        Query::Ticket("T-%".into()),
        by_requester("%"),
        by_requester("ann"),
        by_subject("%"),
        by_subject("_isk"),
        by_field("job", "night%"),
        by_field("deep", "[1]"),
        // The requester's reserved name is not a field.
        by_field("", "ann@acme.example"),
    ] {
        let shown = format!("{nothing:?}");
        assert!(find(nothing).is_empty(), "{shown}");
    }
    let QueryResult::Tickets(rows) = store.listings().lookup("acme", &by_subject(""), 1).unwrap()
    else {
        panic!("no tickets");
    };
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].fields["code"], 7);
    assert_eq!(rows[0].requester.as_deref(), Some(ann));
}

#[tokio::test]
async fn another_tenants_tickets_and_alerts_are_not_there() {
    let (_dir, store) = store();
    let foreign = open(&store, "bolt", "Disk full", "bob@bolt.example", "nightly").await;
    let id = journal_of(&store, "bolt", "alert").await;
    let firing = alert(id, "alert", "disk/db9", AlertState::Firing);
    store.commit(vec![firing]).await.unwrap();
    let own = open(&store, "acme", "Printer", "ann@acme.example", "weekly").await;
    let questions = || {
        [
            Query::Ticket(foreign.clone()),
            by_requester("bob@bolt.example"),
            by_subject("disk"),
            by_field("job", "nightly"),
            Query::Alert("disk/db9".into()),
            Query::Alerts(String::new()),
        ]
    };
    for question in questions() {
        let found = store.listings().lookup("acme", &question, ALL).unwrap();
        assert!(found.is_empty(), "{question:?}: {found:?}");
        let found = store.listings().lookup("nobody", &question, ALL).unwrap();
        assert!(found.is_empty(), "{question:?}: {found:?}");
        let found = store.listings().lookup("bolt", &question, ALL).unwrap();
        assert_eq!(found.len(), 1, "{question:?}: {found:?}");
    }
    assert_eq!(tickets(&store, "acme", by_subject("")), [own]);
}

#[tokio::test]
async fn an_alert_tells_since_when_it_is_so() {
    let (_dir, store) = store();
    let see = |key: &str| match store
        .listings()
        .lookup("acme", &Query::Alert(key.into()), 1)
        .unwrap()
    {
        QueryResult::Alerts(mut rows) => rows.remove(0),
        other => panic!("{other:?}"),
    };
    let put = async |name: &str, state| {
        let id = journal_one(&store, name).await;
        store
            .commit(vec![alert(id, name, "disk/db1", state)])
            .await
            .unwrap();
        // Times are in milliseconds.
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        see("disk/db1")
    };
    let first = put("1", AlertState::Firing).await;
    assert_eq!((first.state, first.count), (AlertState::Firing, 1));
    assert_eq!(first.since, first.updated);
    let again = put("2", AlertState::Firing).await;
    assert_eq!(
        (again.since.as_str(), again.count),
        (first.since.as_str(), 2)
    );
    assert!(again.updated > first.updated);
    let firing = |text: &str| {
        let question = Query::Alerts(text.into());
        store
            .listings()
            .lookup("acme", &question, ALL)
            .unwrap()
            .len()
    };
    assert_eq!((firing("DB1"), firing(""), firing("db2")), (1, 1, 0));
    let over = put("3", AlertState::Resolved).await;
    assert_eq!(over.since, over.updated);
    assert_eq!(firing(""), 0);
    let anew = put("4", AlertState::Firing).await;
    assert!(anew.since > over.since);
}

#[tokio::test]
async fn questions_and_answers_stay_with_the_decision() {
    let (_dir, store) = store();
    let id = journal_one(&store, "asks").await;
    let mut asking = ignored(id, "asks");
    let question = by_field("job", "nightly");
    conclusion(&mut asking).lookups = vec![LookupRead {
        rule: "rules/acme.js".into(),
        found: question.nothing(),
        question,
    }];
    let lookups = asking.conclusion.lookups.clone();
    store.commit(vec![asking]).await.unwrap();
    let rows = store.listings().decisions(&Default::default()).unwrap();
    let rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows[0].lookups, lookups);
    let json = serde_json::to_value(&rows[0]).unwrap();
    assert_eq!(
        json["lookups"][0],
        json!({"rule": "rules/acme.js", "question": {"tickets": {"field": ["job", "nightly"]}}, "found": {"tickets": []}})
    );
}
