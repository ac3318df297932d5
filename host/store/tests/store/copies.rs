//! Copies of one mail: the second is ignored and linked to the first, whichever mailbox is faster.

use postroom_core::{Action, ContentHash, Outcome};
use postroom_store::{DecisionId, Filter, JournalBatch, JournalId, NewMail, Verdict};

use crate::kit::{NOON_MS, batch, imbalance, mail, store, ticket, verdict};

fn marked(mut verdict: Verdict, mark: &str, confirmed: bool) -> Verdict {
    verdict.mail.copy_marks = vec![ContentHash::of(mark.as_bytes())];
    verdict.mail.confirmed = confirmed;
    verdict
}

#[tokio::test]
async fn a_copy_is_ignored_and_names_the_first_mail() {
    let (_dir, store) = store();
    let journal = async |mailbox: &str, name: &str, received_ms: i64, old: bool| -> JournalId {
        let batch = JournalBatch {
            mailbox: mailbox.into(),
            received_ms,
            ..batch(vec![NewMail { old, ..mail(name) }])
        };
        store.journal(batch).await.unwrap()[0].id()
    };
    let first = journal("support", "a", NOON_MS, false).await;
    let second = journal("sales", "a", NOON_MS, false).await;
    // Both were decided before either was committed.
    let committed = store
        .commit(vec![
            marked(ticket(second, "a"), "a", false),
            marked(ticket(first, "a"), "a", false),
        ])
        .await
        .unwrap();
    assert_eq!(committed[0].tickets, ["T-1"]);
    assert!(committed[1].tickets.is_empty());
    let instead = committed[1].instead.as_ref().unwrap();
    let reason = format!("same mail as {}", second.0);
    assert_eq!(instead.decision.actions, [Action::Ignore { reason }]);
    let rows = store.listings().decisions(&Filter::default()).unwrap();
    let rows: Vec<_> = rows.map(|row| row.unwrap()).collect();
    assert_eq!(rows[0].outcome, Outcome::Ignored);
    assert_eq!(rows[0].rule, "copies");
    assert!(imbalance(&*store.listings()).is_empty());

    let mark = |text: &str| [ContentHash::of(text.as_bytes())];
    let known = |text: &str, confirmed: bool, at_ms: i64| {
        let listings = store.listings();
        listings
            .first_copy("acme", &mark(text), confirmed, at_ms)
            .unwrap()
    };
    assert_eq!(known("a", false, NOON_MS), Some(DecisionId(second.0)));
    assert_eq!(known("b", false, NOON_MS), None);
    // Anybody may have sent the first one.
    assert_eq!(known("a", true, NOON_MS), None);
    let week_ms = 7 * 24 * 60 * 60 * 1000;
    assert_eq!(known("a", false, NOON_MS + week_ms + 1), None);
    let others = store.listings();
    let other = others.first_copy("bolt", &mark("a"), false, NOON_MS);
    assert_eq!(other.unwrap(), None);

    // What nobody saw hides nothing: ignored, quarantined and old mail.
    for (name, outcome) in [("i", Outcome::Ignored), ("q", Outcome::Quarantined)] {
        let id = journal("support", name, NOON_MS, false).await;
        let unseen = verdict(id, name, outcome, Vec::new());
        store
            .commit(vec![marked(unseen, name, false)])
            .await
            .unwrap();
        assert_eq!(known(name, false, NOON_MS), None);
    }
    let id = journal("support", "o", NOON_MS, true).await;
    let old = marked(ticket(id, "o"), "o", false);
    store.commit(vec![old]).await.unwrap();
    assert_eq!(known("o", false, NOON_MS), None);
}
