//! Mails that a person has decided again: nothing is lost, counted twice or given an old key, and what was decided is kept.

use postroom_core::{Action, AlertState, Outcome};
use postroom_store::{Control, DecisionId, Filter, MailChange, MailRequest, StoreLimits};

use crate::kit::*;

fn quarantine(journal: postroom_store::JournalId, name: &str) -> postroom_store::Verdict {
    let reason = "odd".to_owned();
    verdict(
        journal,
        name,
        Outcome::Quarantined,
        vec![Action::Quarantine { reason }],
    )
}

fn change(dir: &tempfile::TempDir, id: i64, request: MailRequest) -> MailChange {
    control(dir.path(), StoreLimits::default())
        .change_mail(DecisionId(id), request, "ann", Some("by phone"))
        .unwrap()
}

#[tokio::test]
async fn a_released_mail_is_decided_again_and_counted_once() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![quarantine(id, "a")]).await.unwrap();
    let before = store.mail_changes().await.unwrap();
    assert_eq!(
        change(&dir, id.0, MailRequest::Release),
        MailChange::Changed
    );
    assert!(
        store.mail_changes().await.unwrap() > before,
        "a running service sees it"
    );
    assert_eq!(change(&dir, id.0, MailRequest::Release), MailChange::Waits);

    let listings = store.listings();
    let ledger = || listings.ledger(&Filter::default()).unwrap().remove(0);
    assert_eq!(
        (ledger().seen, ledger().pending, ledger().quarantined),
        (1, 1, 0)
    );
    assert_eq!(listings.quarantine(&Filter::default()).unwrap().count(), 0);
    let pending = store.pending("support", 9).await.unwrap();
    assert!(pending[0].released && pending[0].id == id);

    store.commit(vec![ticket(id, "a")]).await.unwrap();
    assert_eq!(
        (ledger().seen, ledger().pending, ledger().tickets),
        (1, 0, 1)
    );
    let row = listings.decision(DecisionId(id.0)).unwrap().unwrap();
    assert_eq!(
        (row.outcome, row.ticket.as_deref()),
        (Outcome::Ticket, Some("T-1"))
    );
    let earlier = listings.earlier_decisions(row.id).unwrap();
    assert_eq!(earlier.len(), 1);
    assert_eq!(
        (
            earlier[0].outcome,
            earlier[0].by.as_str(),
            earlier[0].reason.as_deref()
        ),
        (Outcome::Quarantined, "ann", Some("by phone"))
    );
    // A mail that was decided again is decided once more only if a person wants that.
    assert!(store.commit(vec![ticket(id, "a")]).await.is_err());
}

#[tokio::test]
async fn a_decision_made_again_has_keys_of_its_own() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    store
        .commit(vec![alert(id, "a", "disk/db1", AlertState::Firing)])
        .await
        .unwrap();
    let refused = change(&dir, id.0, MailRequest::Again { force: false });
    assert_eq!(refused, MailChange::MadeItems(Outcome::Alert));
    assert_eq!(
        change(&dir, id.0, MailRequest::Again { force: true }),
        MailChange::Changed
    );
    store
        .commit(vec![alert(id, "a", "disk/db1", AlertState::Resolved)])
        .await
        .unwrap();
    let rows = store.listings().deliveries(DecisionId(id.0)).unwrap();
    let keys: std::collections::BTreeSet<_> = rows.iter().map(|it| &it.idempotency_key).collect();
    assert_eq!(keys.len(), rows.len(), "{rows:?}");
    assert!(rows.len() > 1);
    assert!(imbalance(&*store.listings()).is_empty());
}

#[tokio::test]
async fn a_dropped_mail_is_ignored_and_says_by_whom() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![quarantine(id, "a")]).await.unwrap();
    assert_eq!(change(&dir, id.0, MailRequest::Drop), MailChange::Changed);
    let listings = store.listings();
    let row = listings.decision(DecisionId(id.0)).unwrap().unwrap();
    let reason = "dropped from quarantine by ann: by phone".to_owned();
    assert_eq!(
        (row.outcome, &row.actions[..]),
        (Outcome::Ignored, &[Action::Ignore { reason }][..])
    );
    assert_eq!(
        change(&dir, id.0, MailRequest::Drop),
        MailChange::NotQuarantined(Outcome::Ignored)
    );
    assert_eq!(change(&dir, 99, MailRequest::Drop), MailChange::Unknown);
    assert!(imbalance(&*listings).is_empty());
}

#[tokio::test]
async fn a_mail_decided_again_is_no_copy_of_itself() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    let marked = |mut verdict: postroom_store::Verdict| {
        verdict.mail.copy_marks = vec![postroom_core::ContentHash::of(b"a")];
        verdict
    };
    store.commit(vec![marked(ticket(id, "a"))]).await.unwrap();
    let again = MailRequest::Again { force: true };
    assert_eq!(change(&dir, id.0, again), MailChange::Changed);
    assert_eq!(store.pending("support", 9).await.unwrap()[0].repetition, 1);
    let committed = store.commit(vec![marked(ticket(id, "a"))]).await.unwrap();
    assert_eq!(committed[0].tickets, ["T-2"]);
    // What it is now hides later copies.
    let other = journal_one(&store, "b").await;
    let committed = store
        .commit(vec![marked(ticket(other, "b"))])
        .await
        .unwrap();
    assert!(committed[0].tickets.is_empty(), "{committed:?}");
}

#[tokio::test]
async fn the_bytes_of_a_mail_to_be_decided_again_are_kept() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let again = MailRequest::Again { force: true };
    assert_eq!(change(&dir, id.0, again), MailChange::Changed);
    store.purge(i64::MAX).await.unwrap();
    assert_eq!(store.pending("support", 9).await.unwrap().len(), 1);
}
