//! Shadows: which mails a shadow decides next, each counted once, and what is kept of them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use postroom_core::ContentHash;
use postroom_store::{
    Control, JournalBatch, JournalId, NewShadow, Shadow, ShadowMail, ShadowResult, ShadowState,
    Store, StoreError, StoreLimits,
};

use crate::kit::*;

fn new(mailbox: &str, wanted: u64) -> NewShadow {
    NewShadow {
        tenant: "acme".into(),
        mailbox: mailbox.into(),
        rule: "rules/acme.js".into(),
        hash: ContentHash::of(b"new"),
        bytes: Bytes::from_static(b"new"),
        replaces: ContentHash::of(b"old"),
        limit_us: 250_000,
        limit_memory_bytes: 64 << 20,
        wanted,
        promote: false,
    }
}

fn start(dir: &Path, wanted: u64) -> Shadow {
    control(dir, StoreLimits::default())
        .start_shadow(&new("support", wanted))
        .unwrap()
}

async fn decided(store: &Arc<dyn Store>, name: &str) -> JournalId {
    let id = journal_one(store, name).await;
    store.commit(vec![ignored(id, name)]).await.unwrap();
    id
}

/// Returns the mails that the shadow decides next.
async fn turn(store: &Arc<dyn Store>, shadow: &Shadow, limit: usize) -> Vec<i64> {
    let page = store.shadow_page(shadow, 0, limit).await.unwrap();
    page.mails.iter().map(|mail| mail.id.0).collect()
}

fn said(id: JournalId, result: ShadowResult) -> ShadowMail {
    let differs = !matches!(result, ShadowResult::Same | ShadowResult::Skipped(_));
    ShadowMail {
        mail: postroom_store::DecisionId(id.0),
        result,
        unrecorded: false,
        elapsed_us: Some(70),
        memory_bytes: Some(1 << 20),
        trouble: None,
        difference: differs.then(|| "{}".into()),
    }
}

fn finished(_: &Shadow) -> (ShadowState, Option<String>) {
    (ShadowState::Finished, Some("all".into()))
}

async fn record(
    store: &Arc<dyn Store>,
    shadow: &Shadow,
    mails: Vec<ShadowMail>,
    reached: i64,
) -> Shadow {
    let recorded = store.record_shadow(shadow.id, mails, reached, finished);
    recorded.await.unwrap().unwrap()
}

#[tokio::test]
async fn its_turn_are_the_mails_of_its_mailbox_decided_after_it_began() {
    let (dir, store) = store();
    decided(&store, "before").await;
    let waits = journal_one(&store, "waits").await;
    decided(&store, "before too").await;
    // The two must not fall within the same millisecond.
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    let shadow = start(dir.path(), 10);
    assert!(turn(&store, &shadow, 10).await.is_empty());

    let stuck = journal_one(&store, "stuck").await;
    let first = decided(&store, "first").await;
    let other = JournalBatch {
        mailbox: "sales".into(),
        ..batch(vec![mail("other")])
    };
    let other = store.journal(other).await.unwrap()[0].id();
    store.commit(vec![ignored(other, "other")]).await.unwrap();
    assert_eq!(turn(&store, &shadow, 10).await, [first.0]);

    // Mails decided late, after mails that arrived later: they are still returned, and none is returned twice.
    let page = store.shadow_page(&shadow, 0, 10).await.unwrap();
    let shadow = record(
        &store,
        &shadow,
        vec![said(first, ShadowResult::Same)],
        page.reached(1),
    )
    .await;
    assert!(shadow.reached < waits.0);
    store.commit(vec![ignored(waits, "waits")]).await.unwrap();
    let page = store.shadow_page(&shadow, 0, 10).await.unwrap();
    assert_eq!(turn(&store, &shadow, 10).await, [waits.0]);
    let shadow = record(
        &store,
        &shadow,
        vec![said(waits, ShadowResult::Same)],
        page.reached(1),
    )
    .await;
    store.commit(vec![ignored(stuck, "stuck")]).await.unwrap();
    let second = decided(&store, "second").await;
    assert_eq!(turn(&store, &shadow, 10).await, [stuck.0, second.0]);
    // One page at a time.
    assert_eq!(turn(&store, &shadow, 1).await, [stuck.0]);
    let page = store.shadow_page(&shadow, 0, 1).await.unwrap();
    assert_eq!(
        (page.reached(0), page.reached(1)),
        (shadow.reached, stuck.0)
    );
    let page = store.shadow_page(&shadow, 0, 9).await.unwrap();
    assert_eq!((page.reached(1), page.reached(2)), (stuck.0, second.0));
    assert_eq!(shadow.decided(), 2);
}

#[tokio::test]
async fn a_mail_counts_once_and_the_last_one_ends_it() {
    let (dir, store) = store();
    let shadow = start(dir.path(), 2);
    let (first, second) = (decided(&store, "a").await, decided(&store, "b").await);
    let changed = || said(first, ShadowResult::Changed("queue".into()));
    for _ in 0..2 {
        let now = record(&store, &shadow, vec![changed()], first.0).await;
        assert_eq!((now.changed, now.state), (1, ShadowState::Running));
    }
    let skipped = || vec![said(second, ShadowResult::Skipped("set-aside".into()))];
    record(&store, &shadow, skipped(), first.0).await;
    let now = record(&store, &shadow, skipped(), second.0).await;
    assert_eq!(now.skipped.get("set-aside"), Some(&1));
    assert_eq!(now.decided(), 1);
    // Below the watermark it needs no row, and is not returned again.
    assert_eq!(
        store.listings().shadow_mails(shadow.id).unwrap(),
        [changed()]
    );
    assert!(turn(&store, &now, 10).await.is_empty());

    // The state survives a restart.
    store.close().await;
    let store = open(dir.path());
    let third = decided(&store, "c").await;
    let running = store.active_shadows().await.unwrap().remove(0);
    assert_eq!(turn(&store, &running, 10).await, [third.0]);
    let now = record(
        &store,
        &running,
        vec![said(third, ShadowResult::Same)],
        third.0,
    )
    .await;
    assert_eq!(
        (now.state, now.reason.as_deref()),
        (ShadowState::Finished, Some("all"))
    );
    assert!(now.ended.is_some() && store.active_shadows().await.unwrap().is_empty());
    // Later changes have no effect.
    let fourth = decided(&store, "d").await;
    let late = record(
        &store,
        &running,
        vec![said(fourth, ShadowResult::Failed)],
        fourth.0,
    )
    .await;
    assert_eq!(late, now);
}

#[tokio::test]
async fn one_shadow_a_mailbox_at_a_time_and_of_so_many_mails() {
    let (dir, store) = store();
    let most = StoreLimits::default().shadow_mails;
    let control = control(dir.path(), StoreLimits::default());
    for wanted in [0, most + 1] {
        let error = control.start_shadow(&new("support", wanted)).unwrap_err();
        assert!(
            matches!(error, StoreError::ShadowMails { most: 10_000 }),
            "{error}"
        );
    }
    let shadow = control.start_shadow(&new("support", most)).unwrap();
    let error = control.start_shadow(&new("support", 1)).unwrap_err();
    assert!(matches!(error, StoreError::ShadowRuns { .. }), "{error}");
    control.start_shadow(&new("sales", 1)).unwrap();
    assert_eq!(store.active_shadows().await.unwrap().len(), 2);

    let end = |state| control.end_shadow(shadow.id, state, None).unwrap();
    assert!(end(ShadowState::Stopped));
    assert!(!end(ShadowState::Failed), "it had ended");
    assert_eq!(
        store.listings().shadow_bytes(shadow.id).unwrap().as_deref(),
        Some(&b"new"[..])
    );
    // An ended shadow can become promoted; its bytes then belong to a generation.
    assert!(end(ShadowState::Promoted) && !end(ShadowState::Promoted));
    assert_eq!(store.listings().shadow_bytes(shadow.id).unwrap(), None);
    assert_eq!(
        store
            .listings()
            .shadow_of("support")
            .unwrap()
            .unwrap()
            .state,
        ShadowState::Promoted
    );
}

#[tokio::test]
async fn what_is_kept_of_differences_and_of_ended_shadows_is_bounded() {
    let limits = StoreLimits {
        shadow_differences: 2,
        shadow_difference_bytes: 10,
        shadows: 2,
        ..StoreLimits::default()
    };
    let (dir, store) = store_within(limits.clone());
    let control = control(dir.path(), limits);
    let shadow = start(dir.path(), 10);
    let mut mails = Vec::new();
    for (name, bytes) in [("a", 6), ("b", 5), ("c", 4), ("d", 0)] {
        let mut mail = said(decided(&store, name).await, ShadowResult::Fixed);
        mail.difference = Some("x".repeat(bytes));
        mails.push(mail);
    }
    let now = record(&store, &shadow, mails, 0).await;
    assert_eq!(now.mended, 4);
    let kept = store.listings().shadow_mails(shadow.id).unwrap();
    let kept: Vec<_> = kept.iter().map(|mail| mail.difference.as_deref()).collect();
    // The second is too large together with the first; the fourth exceeds the number.
    assert_eq!(kept, [Some("xxxxxx"), None, Some("xxxx"), None]);

    for n in 0..4 {
        let newest = store.listings().shadow_of("support").unwrap().unwrap();
        control
            .end_shadow(newest.id, ShadowState::Stopped, None)
            .unwrap();
        control.start_shadow(&new("support", 1)).unwrap();
        assert_eq!(store.listings().shadows().unwrap().len(), (n + 2).min(3));
    }
    assert_eq!(store.listings().shadow(shadow.id).unwrap(), None);
    assert!(store.listings().shadow_mails(shadow.id).unwrap().is_empty());
    let oldest = store.listings().shadows().unwrap().pop().unwrap();
    assert_eq!(
        store.listings().shadow_bytes(oldest.id).unwrap(),
        None,
        "only the newest may be promoted"
    );
}
