//! Who is answered, who may write, and how much: old mail, brakes, participants.

use postroom_core::AlertState;
use postroom_store::{Filter, OutboxKind, Verdict};

use crate::kit::*;

async fn journal_old(store: &postroom_store::Store, name: &str) -> postroom_store::JournalId {
    let old = postroom_store::NewMail {
        old: true,
        ..mail(name)
    };
    store.journal(batch(vec![old])).await.unwrap()[0].id
}

fn targets(store: &postroom_store::Store) -> Vec<String> {
    let rows = store.outbox(&Filter::default()).unwrap();
    rows.map(|row| row.unwrap().target).collect()
}

#[tokio::test]
async fn old_mail_is_decided_and_listed_and_nothing_of_it_is_sent() {
    let (_dir, store) = store();
    let id = journal_old(&store, "old").await;
    let mut old = ticket(id, "old");
    old.decision.actions.push(reply("We have it"));
    old.decision.actions.push(postroom_core::Action::Forward {
        to: vec!["boss@acme.example".into()],
    });
    let committed = store.commit(vec![old.clone()]).await.unwrap();
    assert_eq!(committed[0].tickets, ["T-1"]);
    assert!(targets(&store).is_empty());
    let row = store.decision(committed[0].decision_id).unwrap().unwrap();
    assert!(row.old);
    let reasons: Vec<_> = row.refused.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons, ["old mail", "old mail"]);
    let items: Vec<_> = store.items(&Filter::default()).unwrap().collect();
    assert!(items[0].as_ref().unwrap().old);

    // Who asks for it has it in the sinks; answered it is never.
    let delivered = Verdict {
        journal: journal_old(&store, "asked").await,
        deliver_old: true,
        ..old
    };
    store.commit(vec![delivered]).await.unwrap();
    assert_eq!(targets(&store), ["psa", "chat"]);
}

#[tokio::test]
async fn an_alert_of_old_mail_does_not_change_one_of_today() {
    let (_dir, store) = store();
    let state = || {
        let mut items = store.items(&Filter::default()).unwrap();
        let row = items.next().unwrap().unwrap();
        (row.state, row.count, row.old)
    };
    // Among itself, old mail tells how it ended.
    for (name, told) in [("o1", AlertState::Firing), ("o2", AlertState::Resolved)] {
        let id = journal_old(&store, name).await;
        store
            .commit(vec![alert(id, name, "disk", told)])
            .await
            .unwrap();
    }
    assert_eq!(state(), ("resolved".into(), Some(2), true));

    let id = journal_one(&store, "young").await;
    store
        .commit(vec![alert(id, "young", "disk", AlertState::Firing)])
        .await
        .unwrap();
    let id = journal_old(&store, "o3").await;
    let late = Verdict {
        deliver_old: true,
        ..alert(id, "o3", "disk", AlertState::Resolved)
    };
    store.commit(vec![late]).await.unwrap();
    assert_eq!(state(), ("firing".into(), Some(3), false));
    assert_eq!(targets(&store), ["pager"]);
    let sink = store.due_outbox(OutboxKind::Sink, "pager", i64::MAX, 9);
    assert!(sink.unwrap()[0].payload.contains("alert.firing"));
}
