//! The rules' generations: numbered, stored by content, rolled back by hand or automatically, and forgiven.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use postroom_core::{Alert, AlertState, ContentHash};
use postroom_store::{
    Control, DecisionId, Filter, GenerationCause, Mark, OutboxKind, Rollback, RoundRobin,
    RuleChange, RuleRecord, SenderKey, SentBack, Store, StoreError, StoreLimits, StrikeRecord,
};

use crate::kit::*;

pub fn rule(name: &str, text: &str) -> RuleRecord {
    rule_of("acme", name, text)
}

pub fn rule_of(tenant: &str, name: &str, text: &str) -> RuleRecord {
    RuleRecord {
        tenant: tenant.into(),
        name: name.into(),
        hash: ContentHash::of(text.as_bytes()),
        bytes: Bytes::from(text.to_owned()),
        settings_json: "{}".into(),
        grants_json: "[\"kv\"]".into(),
    }
}

fn hash(text: &str) -> Option<ContentHash> {
    Some(ContentHash::of(text.as_bytes()))
}

pub async fn save(store: &Arc<dyn Store>, rules: &[RuleRecord]) -> u64 {
    store
        .save_generation(rules.to_vec(), BTreeSet::new(), GenerationCause::Saved)
        .await
        .unwrap()
}

fn back_to(generation: u64) -> Rollback {
    Rollback {
        to: Some(generation),
        ..Rollback::default()
    }
}

/// Creates a store that keeps this many generations and bytes per tenant.
pub fn bounded(generations: u64, generation_bytes: u64) -> (tempfile::TempDir, Arc<dyn Store>) {
    store_within(StoreLimits {
        generations,
        generation_bytes,
        ..StoreLimits::default()
    })
}

#[tokio::test]
async fn the_last_good_rules_outlive_their_files() {
    let (dir, store) = store();
    assert_eq!(store.listings().newest_generation().unwrap(), 0);
    let both = [rule("a.js", "one"), rule("b.js", "one")];
    assert_eq!(save(&store, &both).await, 1);
    assert_eq!(save(&store, &[rule("a.js", "two")]).await, 2);
    store.close().await;

    let store = open(dir.path());
    // A start with the same rules saves nothing.
    assert_eq!(save(&store, &[rule("a.js", "two")]).await, 2);
    assert_eq!(
        store.listings().generation_rules(2).unwrap(),
        Some(vec![rule("a.js", "two")])
    );
    assert_eq!(
        store.listings().generation_rules(1).unwrap(),
        Some(both.to_vec())
    );
    assert_eq!(store.listings().generation_rules(3).unwrap(), None);
    let last_good = |tenant, name| store.listings().last_good(tenant, name).unwrap();
    assert_eq!(last_good("acme", "a.js"), Some(rule("a.js", "two")));
    assert_eq!(last_good("acme", "b.js"), Some(rule("b.js", "one")));
    assert_eq!(last_good("bolt", "a.js"), None);
}

#[tokio::test]
async fn a_generation_says_what_it_changed() {
    let (_dir, store) = store();
    let b = rule("b.js", "one");
    save(&store, &[rule("a.js", "one"), b.clone()]).await;
    save(&store, &[rule("a.js", "two"), b.clone()]).await;
    let mut granted = rule("a.js", "two");
    granted.grants_json = "[]".into();
    save(&store, &[granted.clone(), b]).await;
    save(&store, &[granted.clone()]).await;
    save(&store, &[granted, rule_of("bolt", "a.js", "one")]).await;

    let all = store.listings().generations(None).unwrap();
    let numbers: Vec<u64> = all.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [5, 4, 3, 2, 1]);
    let change = |tenant: &str, name: &str, before, after| RuleChange {
        tenant: tenant.into(),
        name: name.into(),
        before,
        after,
    };
    let changes: Vec<_> = all.iter().map(|it| it.changes.clone()).collect();
    assert_eq!(
        changes,
        [
            vec![change("bolt", "a.js", None, hash("one"))],
            vec![change("acme", "b.js", hash("one"), None)],
            vec![change("acme", "a.js", hash("two"), hash("two"))],
            vec![change("acme", "a.js", hash("one"), hash("two"))],
            vec![
                change("acme", "a.js", None, hash("one")),
                change("acme", "b.js", None, hash("one")),
            ],
        ]
    );
    let hashes: std::collections::HashSet<_> =
        all.iter().map(|it| it.hash.unwrap().hex()).collect();
    assert_eq!(hashes.len(), 5);
    assert_eq!(store.listings().generations(Some(2)).unwrap().len(), 2);
}

#[tokio::test]
async fn a_save_of_one_tenant_leaves_the_rules_of_the_others_as_they_are() {
    let (dir, store) = store();
    let quiet = |text| rule_of("bolt", "b.js", text);
    save(&store, &[rule("a.js", "one"), quiet("one")]).await;
    let one_of_acme = async |text| {
        let (rules, others) = (vec![rule("a.js", text)], ["bolt".to_owned()].into());
        let saved = store.save_generation(rules, others, GenerationCause::Saved);
        saved.await.unwrap()
    };
    assert_eq!(one_of_acme("two").await, 2);
    let rules_of = |number| store.listings().generation_rules(number).unwrap().unwrap();
    assert_eq!(rules_of(2), [rule("a.js", "two"), quiet("one")]);
    assert_eq!(one_of_acme("two").await, 2);

    // What another process rolled back in the meantime stays rolled back.
    save(&store, &[rule("a.js", "two"), quiet("two")]).await;
    let only_bolt = Rollback {
        tenant: Some("bolt".into()),
        ..Rollback::default()
    };
    control(dir.path(), StoreLimits::default())
        .roll_back(&only_bolt)
        .unwrap();
    assert_eq!(one_of_acme("three").await, 5);
    assert_eq!(rules_of(5), [rule("a.js", "three"), quiet("one")]);
}

#[tokio::test]
async fn a_generation_of_which_a_part_is_gone_says_so() {
    let (dir, store) = bounded(3, u64::MAX);
    let quiet = |text| rule_of("bolt", "b.js", text);
    save(&store, &[rule("a.js", "v0"), quiet("one")]).await;
    for n in 1..=4 {
        save(&store, &[rule("a.js", &format!("v{n}")), quiet("one")]).await;
    }
    save(&store, &[rule("a.js", "v4"), quiet("two")]).await;
    assert_eq!(
        store.listings().generation_rules(1).unwrap().unwrap(),
        [quiet("one")]
    );
    assert_eq!(store.listings().partly_kept(1).unwrap(), ["acme"]);
    assert!(store.listings().partly_kept(3).unwrap().is_empty());

    // The rollback applies to bolt only, and acme's rules stay; for acme it is refused.
    let control = control(dir.path(), StoreLimits::default());
    let wanted = Rollback {
        tenant: Some("acme".into()),
        ..back_to(1)
    };
    let refused = control.roll_back(&wanted).unwrap_err();
    assert!(
        matches!(refused, StoreError::RulesNotKept { number: 1, .. }),
        "{refused}"
    );
    let done = control.roll_back(&back_to(1)).unwrap();
    assert_eq!(done.not_kept, ["acme"]);
    assert_eq!(done.rules, [("bolt".to_owned(), "b.js".to_owned())]);
    let serves = store.listings().generation_rules(7).unwrap().unwrap();
    assert_eq!(serves, [rule("a.js", "v4"), quiet("one")]);
}

#[tokio::test]
async fn a_rollback_makes_a_generation_and_refuses_what_it_replaced() {
    let (dir, store) = store();
    // A rollback drops none: the service decides how many are kept.
    let limits = StoreLimits {
        generations: 1,
        ..StoreLimits::default()
    };
    let control = control(dir.path(), limits);
    let b = rule_of("bolt", "b.js", "one");
    save(&store, &[rule("a.js", "one"), b.clone()]).await;
    save(&store, &[rule("a.js", "two"), b.clone()]).await;
    let newer = rule_of("bolt", "b.js", "two");
    save(&store, &[rule("a.js", "three"), newer.clone()]).await;

    // This runs alongside the service that holds the store.
    let only_acme = Rollback {
        to: Some(1),
        tenant: Some("acme".into()),
        ..Rollback::default()
    };
    let done = control.roll_back(&only_acme).unwrap();
    assert_eq!((done.to, done.generation), (1, Some(4)));
    assert_eq!(done.rules, [("acme".to_owned(), "a.js".to_owned())]);
    assert_eq!(store.listings().newest_generation().unwrap(), 4);
    assert_eq!(
        store.listings().generation_rules(4).unwrap().unwrap(),
        [rule("a.js", "one"), newer.clone()]
    );
    assert_eq!(
        store.listings().generations(Some(1)).unwrap()[0].cause,
        GenerationCause::RolledBack { to: 1 }
    );
    let refused = || -> Vec<_> {
        let all = store.listings().refused_rules().unwrap();
        all.into_iter().map(|it| (it.name, it.hash)).collect()
    };
    assert_eq!(refused(), [("a.js".into(), hash("three").unwrap())]);
    assert_eq!(
        store.listings().last_good("acme", "a.js").unwrap(),
        Some(rule("a.js", "one"))
    );
    // The rules that are then live are saved as the same generation.
    assert_eq!(save(&store, &[rule("a.js", "one"), newer.clone()]).await, 4);

    // There is nothing to do; then it goes forward again to what was refused.
    let done = control.roll_back(&only_acme).unwrap();
    assert_eq!((done.generation, done.rules.len()), (None, 0));
    let done = control.roll_back(&back_to(3)).unwrap();
    assert_eq!(done.generation, Some(5));
    assert_eq!(refused(), [("a.js".into(), hash("one").unwrap())]);

    // Without a number, it goes to the previous one.
    let done = control.roll_back(&Rollback::default()).unwrap();
    assert_eq!((done.to, done.generation), (4, Some(6)));
    assert_eq!(store.listings().generations(None).unwrap().len(), 6);

    let unknown = control.roll_back(&back_to(77)).unwrap_err();
    assert!(matches!(
        unknown,
        StoreError::NoSuchGeneration { number: 77 }
    ));
}

#[tokio::test]
async fn a_rule_that_is_sent_back_raises_one_alert_until_it_is_forgiven() {
    let (_dir, store) = store();
    save(&store, &[rule("a.js", "one")]).await;
    save(&store, &[rule("a.js", "two")]).await;
    let mail = journal_one(&store, "a").await;
    store.commit(vec![ignored(mail, "a")]).await.unwrap();
    let key = "postroom/rule/a.js";
    let sent_back = SentBack {
        tenant: "acme".into(),
        name: "a.js".into(),
        hash: hash("two").unwrap(),
        reason: "failed on 5 of its last 20 mails".into(),
        decision: DecisionId(mail.0),
        alert: Alert {
            key: key.into(),
            state: AlertState::Firing,
            severity: Some("major".into()),
            host: None,
            service: None,
            summary: Some("a.js was sent back".into()),
            fields: Default::default(),
        },
        sinks: vec!["pager".into()],
    };
    let before = || {
        let version = hash("two").unwrap();
        store
            .listings()
            .good_before("acme", "a.js", &version)
            .unwrap()
    };
    assert_eq!(before(), Some(1));
    store.send_back(sent_back.clone()).await.unwrap();
    assert_eq!(before(), Some(1));
    assert_eq!(
        store.listings().last_good("acme", "a.js").unwrap(),
        Some(rule("a.js", "one"))
    );
    let alerts = || -> Vec<(String, Option<u64>)> {
        let items = store.listings().items(&Filter::default()).unwrap();
        items
            .map(|item| item.unwrap())
            .map(|item| (item.state, item.count))
            .collect()
    };
    assert_eq!(alerts(), [("firing".to_owned(), Some(1))]);

    let forgive = || store.forgive("acme", "a.js", key, vec!["pager".into()]);
    forgive().await.unwrap();
    assert!(store.listings().refused_rules().unwrap().is_empty());
    assert_eq!(alerts(), [("resolved".to_owned(), Some(2))]);
    // A resolved alert is not resolved again.
    forgive().await.unwrap();
    assert_eq!(alerts(), [("resolved".to_owned(), Some(2))]);

    // One delivery for each state, in order, distinguished by their keys.
    let mut keys = Vec::new();
    while let Some(entry) = store
        .due_outbox(
            OutboxKind::Sink,
            "pager",
            i64::MAX,
            1,
            RoundRobin::default(),
        )
        .await
        .unwrap()
        .into_iter()
        .next()
    {
        keys.push(entry.idempotency_key);
        store.delivered(entry.id, "".into()).await.unwrap();
    }
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn how_rules_did_is_kept_until_it_is_told_anew() {
    let (dir, store) = store();
    let failed = |sender| Mark::Failed(SenderKey(sender));
    let record = |name: &str, last: &[Mark]| StrikeRecord {
        tenant: "acme".into(),
        name: name.into(),
        hash: hash(name).unwrap(),
        last: last.to_vec(),
    };
    assert_eq!(store.strikes().await.unwrap(), []);
    let first = vec![
        record("a.js", &[failed(u64::MAX), Mark::Held]),
        record("b.js", &[failed(0)]),
    ];
    store.save_strikes(first.clone()).await.unwrap();
    assert_eq!(store.strikes().await.unwrap(), first);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(store.strikes().await.unwrap(), first);
    let second = vec![record("b.js", &[failed(1), failed(2)])];
    store.save_strikes(second.clone()).await.unwrap();
    assert_eq!(store.strikes().await.unwrap(), second);
}
