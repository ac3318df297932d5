//! The rules' generations: numbered, kept by content, rolled back, sent back and forgiven.

use std::collections::BTreeSet;

use bytes::Bytes;
use postroom_core::{Alert, AlertState, ContentHash};
use postroom_store::{
    DecisionId, Filter, Mark, OutboxKind, Rollback, RuleChange, RuleRecord, SenderKey, SentBack,
    Store, StoreError, StoreOptions, StrikeRecord, roll_back,
};

use crate::kit::*;

fn rule(name: &str, text: &str) -> RuleRecord {
    rule_of("acme", name, text)
}

fn rule_of(tenant: &str, name: &str, text: &str) -> RuleRecord {
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

async fn save(store: &Store, rules: &[RuleRecord]) -> u64 {
    store
        .save_generation(rules.to_vec(), BTreeSet::new(), "saved")
        .await
        .unwrap()
}

fn back_to(generation: u64) -> Rollback {
    Rollback {
        to: Some(generation),
        ..Rollback::default()
    }
}

#[tokio::test]
async fn the_last_good_rules_outlive_their_files() {
    let (dir, store) = store();
    assert_eq!(store.newest_generation().unwrap(), 0);
    let both = [rule("a.js", "one"), rule("b.js", "one")];
    assert_eq!(save(&store, &both).await, 1);
    assert_eq!(save(&store, &[rule("a.js", "two")]).await, 2);
    store.close();

    let store = Store::open(dir.path()).unwrap();
    // A start with the same rules saves nothing.
    assert_eq!(save(&store, &[rule("a.js", "two")]).await, 2);
    assert_eq!(
        store.generation_rules(2).unwrap(),
        Some(vec![rule("a.js", "two")])
    );
    assert_eq!(store.generation_rules(1).unwrap(), Some(both.to_vec()));
    assert_eq!(store.generation_rules(3).unwrap(), None);
    let last_good = |tenant, name| store.last_good(tenant, name).unwrap();
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

    let all = store.generations(None).unwrap();
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
    assert_eq!(store.generations(Some(2)).unwrap().len(), 2);
}

#[tokio::test]
async fn a_save_of_one_tenant_leaves_the_rules_of_the_others_as_they_are() {
    let (dir, store) = store();
    let quiet = |text| rule_of("bolt", "b.js", text);
    save(&store, &[rule("a.js", "one"), quiet("one")]).await;
    let one_of_acme = async |text| {
        let (rules, others) = (vec![rule("a.js", text)], ["bolt".to_owned()].into());
        let saved = store.save_generation(rules, others, "saved");
        saved.await.unwrap()
    };
    assert_eq!(one_of_acme("two").await, 2);
    let rules_of = |number| store.generation_rules(number).unwrap().unwrap();
    assert_eq!(rules_of(2), [rule("a.js", "two"), quiet("one")]);
    assert_eq!(one_of_acme("two").await, 2);

    // What another process rolled back meanwhile stays rolled back.
    save(&store, &[rule("a.js", "two"), quiet("two")]).await;
    let only_bolt = Rollback {
        tenant: Some("bolt".into()),
        ..Rollback::default()
    };
    roll_back(dir.path(), &only_bolt, &StoreOptions::default()).unwrap();
    assert_eq!(one_of_acme("three").await, 5);
    assert_eq!(rules_of(5), [rule("a.js", "three"), quiet("one")]);
}

#[tokio::test]
async fn old_generations_are_forgotten_and_what_is_live_never() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        generations: 3,
        ..StoreOptions::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    let always = rule("always.js", "always");
    for n in 1..=9 {
        let changing = rule("a.js", &format!("v{n}"));
        let rules = match n {
            1 => vec![always.clone(), changing, rule("gone.js", "gone")],
            _ => vec![always.clone(), changing],
        };
        assert_eq!(save(&store, &rules).await, n);
    }
    let kept = store.generations(None).unwrap();
    assert_eq!(
        kept.iter().map(|it| it.number).collect::<Vec<_>>(),
        [9, 8, 7]
    );
    for number in 7..=9 {
        let rules = store.generation_rules(number).unwrap().unwrap();
        assert_eq!(rules, [rule("a.js", &format!("v{number}")), always.clone()]);
    }
    assert_eq!(store.generation_rules(6).unwrap(), None);
    assert_eq!(store.last_good("acme", "gone.js").unwrap(), None);
    store.close();
    let conn = rusqlite::Connection::open(dir.path().join("postroom.sqlite")).unwrap();
    let count = |table: &str| -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        conn.query_row(&sql, [], |row| row.get(0)).unwrap()
    };
    assert_eq!((count("rule_version"), count("rule_bytes")), (4, 4));
}

#[tokio::test]
async fn saves_of_one_tenant_push_out_no_other_tenants_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        generations: 20,
        ..StoreOptions::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    let quiet = |text| rule_of("bolt", "b.js", text);
    save(&store, &[rule("a.js", "v0"), quiet("one")]).await;
    save(&store, &[rule("a.js", "v0"), quiet("two")]).await;
    for n in 1..=25 {
        save(&store, &[rule("a.js", &format!("v{n}")), quiet("two")]).await;
    }
    // The busy one has its own 20, and no more.
    let conn = rusqlite::Connection::open(dir.path().join("postroom.sqlite")).unwrap();
    let sql = "SELECT count(*) FROM rule_version WHERE tenant = 'acme'";
    let kept: i64 = conn.query_row(sql, [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 20);

    let only_bolt = Rollback {
        tenant: Some("bolt".into()),
        ..Rollback::default()
    };
    let done = roll_back(dir.path(), &only_bolt, &options).unwrap();
    assert_eq!(done.to, 1);
    assert_eq!(done.rules, [("bolt".to_owned(), "b.js".to_owned())]);
    let serves = store.generation_rules(28).unwrap().unwrap();
    assert_eq!(serves, [rule("a.js", "v25"), quiet("one")]);
}

fn count(dir: &std::path::Path, sql: &str) -> i64 {
    let conn = rusqlite::Connection::open(dir.join("postroom.sqlite")).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn sized(tenant: &str, letter: &str, bytes: usize) -> RuleRecord {
    rule_of(tenant, "a.js", &letter.repeat(bytes))
}

fn bounded(generations: u64, generation_bytes: u64) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        generations,
        generation_bytes,
        ..StoreOptions::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    (dir, store)
}

#[tokio::test]
async fn old_versions_of_a_tenant_go_by_their_bytes() {
    let (dir, store) = bounded(1000, 10_000);
    let bolt = sized("bolt", "b", 9_000);
    let letters = ["a", "c", "d", "e", "f", "g"];
    for letter in letters {
        save(&store, &[sized("acme", letter, 3_000), bolt.clone()]).await;
    }
    // Three of 3,000 bytes and their settings are within the limit, what serves is not counted.
    let acme = "SELECT count(*) FROM rule_version WHERE tenant = 'acme'";
    assert_eq!(count(dir.path(), acme), 4);
    let bytes = || count(dir.path(), "SELECT sum(length(bytes)) FROM rule_bytes");
    assert_eq!(bytes(), 4 * 3_000 + 9_000);
    assert_eq!(
        store.generation_rules(3).unwrap().unwrap(),
        [sized("acme", "d", 3_000), bolt.clone()]
    );

    // A version that is beyond the limit alone stays as long as it served just before.
    save(&store, &[sized("acme", "x", 20_000), bolt.clone()]).await;
    save(&store, &[sized("acme", "y", 20_000), bolt.clone()]).await;
    assert_eq!(bytes(), 2 * 20_000 + 9_000);
    assert_eq!(
        store.generation_rules(7).unwrap().unwrap(),
        [sized("acme", "x", 20_000), bolt.clone()]
    );
    // The same bytes again cost nothing: they serve.
    for n in 0..5 {
        let mut again = sized("acme", "z", 9_000);
        again.settings_json = format!("{{\"n\":{n}}}");
        save(&store, &[again, bolt.clone()]).await;
    }
    assert_eq!(count(dir.path(), acme), 5);
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
    assert_eq!(store.generation_rules(1).unwrap().unwrap(), [quiet("one")]);
    assert_eq!(store.partly_kept(1).unwrap(), ["acme"]);
    assert!(store.partly_kept(3).unwrap().is_empty());

    // The way back is bolt's alone, and acme's rules stay; asked for acme, it is refused.
    let options = StoreOptions::default();
    let wanted = Rollback {
        tenant: Some("acme".into()),
        ..back_to(1)
    };
    let refused = roll_back(dir.path(), &wanted, &options).unwrap_err();
    assert!(
        matches!(refused, StoreError::RulesNotKept { number: 1, .. }),
        "{refused}"
    );
    let done = roll_back(dir.path(), &back_to(1), &options).unwrap();
    assert_eq!(done.not_kept, ["acme"]);
    assert_eq!(done.rules, [("bolt".to_owned(), "b.js".to_owned())]);
    let serves = store.generation_rules(7).unwrap().unwrap();
    assert_eq!(serves, [rule("a.js", "v4"), quiet("one")]);
}

#[tokio::test]
async fn tenants_that_left_share_one_allowance() {
    let (dir, store) = bounded(1000, 10_000);
    let stays = sized("stays", "s", 100);
    let tenants = ["t0", "t1", "t2", "t3", "t4"];
    for (n, tenant) in tenants.iter().enumerate() {
        let letter = ["a", "b", "c", "d", "e"][n];
        save(&store, &[stays.clone(), sized(tenant, letter, 4_000)]).await;
    }
    save(&store, std::slice::from_ref(&stays)).await;
    // t4 left last and does not count; of the others two fit.
    let kept = |tenant: &str| store.last_good(tenant, "a.js").unwrap().is_some();
    assert_eq!(tenants.map(kept), [false, false, true, true, true]);
    let versions = "SELECT count(*) FROM rule_version";
    assert_eq!(count(dir.path(), versions), 4);
    assert_eq!(count(dir.path(), "SELECT count(*) FROM rule_bytes"), 4);
    assert_eq!(store.generation_rules(6).unwrap().unwrap(), [stays]);

    // By number, too.
    let (dir, store) = bounded(2, u64::MAX);
    for tenant in tenants {
        save(&store, &[sized(tenant, "a", 10)]).await;
    }
    save(&store, &[sized("stays", "s", 100)]).await;
    assert_eq!(count(dir.path(), versions), 3);
}

#[tokio::test]
async fn a_rollback_makes_a_generation_and_refuses_what_it_replaced() {
    let (dir, store) = store();
    // A rollback drops none: how many are kept is for the service.
    let options = StoreOptions {
        generations: 1,
        ..StoreOptions::default()
    };
    let b = rule_of("bolt", "b.js", "one");
    save(&store, &[rule("a.js", "one"), b.clone()]).await;
    save(&store, &[rule("a.js", "two"), b.clone()]).await;
    let newer = rule_of("bolt", "b.js", "two");
    save(&store, &[rule("a.js", "three"), newer.clone()]).await;

    // Beside the service that holds the store.
    let only_acme = Rollback {
        to: Some(1),
        tenant: Some("acme".into()),
        ..Rollback::default()
    };
    let done = roll_back(dir.path(), &only_acme, &options).unwrap();
    assert_eq!((done.to, done.generation), (1, Some(4)));
    assert_eq!(done.rules, [("acme".to_owned(), "a.js".to_owned())]);
    assert_eq!(store.newest_generation().unwrap(), 4);
    assert_eq!(
        store.generation_rules(4).unwrap().unwrap(),
        [rule("a.js", "one"), newer.clone()]
    );
    assert_eq!(
        store.generations(Some(1)).unwrap()[0].cause,
        "rolled back to 1"
    );
    let refused = || -> Vec<_> {
        let all = store.refused_rules().unwrap();
        all.into_iter().map(|it| (it.name, it.hash)).collect()
    };
    assert_eq!(refused(), [("a.js".into(), hash("three").unwrap())]);
    assert_eq!(
        store.last_good("acme", "a.js").unwrap(),
        Some(rule("a.js", "one"))
    );
    // What serves then is saved as the same generation.
    assert_eq!(save(&store, &[rule("a.js", "one"), newer.clone()]).await, 4);

    // Nothing to do, then forward again to what was refused.
    let done = roll_back(dir.path(), &only_acme, &options).unwrap();
    assert_eq!((done.generation, done.rules.len()), (None, 0));
    let done = roll_back(dir.path(), &back_to(3), &options).unwrap();
    assert_eq!(done.generation, Some(5));
    assert_eq!(refused(), [("a.js".into(), hash("one").unwrap())]);

    // Without a number: the one before.
    let done = roll_back(dir.path(), &Rollback::default(), &options).unwrap();
    assert_eq!((done.to, done.generation), (4, Some(6)));
    assert_eq!(store.generations(None).unwrap().len(), 6);

    let unknown = roll_back(dir.path(), &back_to(77), &options).unwrap_err();
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
        store.good_before("acme", "a.js", &version).unwrap()
    };
    assert_eq!(before(), Some(1));
    store.send_back(sent_back.clone()).await.unwrap();
    assert_eq!(before(), Some(1));
    assert_eq!(
        store.last_good("acme", "a.js").unwrap(),
        Some(rule("a.js", "one"))
    );
    let alerts = || -> Vec<(String, Option<u64>)> {
        let items = store.items(&Filter::default()).unwrap();
        items
            .map(|item| item.unwrap())
            .map(|item| (item.state, item.count))
            .collect()
    };
    assert_eq!(alerts(), [("firing".to_owned(), Some(1))]);

    let forgive = || {
        store.forgive(
            "acme".into(),
            "a.js".into(),
            key.into(),
            vec!["pager".into()],
        )
    };
    forgive().await.unwrap();
    assert!(store.refused_rules().unwrap().is_empty());
    assert_eq!(alerts(), [("resolved".to_owned(), Some(2))]);
    // What is resolved is not resolved again.
    forgive().await.unwrap();
    assert_eq!(alerts(), [("resolved".to_owned(), Some(2))]);

    // One delivery for each state, in the order they came, told apart by their keys.
    let mut keys = Vec::new();
    while let Some(entry) = store
        .due_outbox(
            OutboxKind::Sink,
            "pager",
            i64::MAX,
            1,
            &postroom_store::RoundRobin::default(),
        )
        .unwrap()
        .into_iter()
        .next()
    {
        keys.push(entry.idempotency_key);
        store.delivered(entry.id, "").await.unwrap();
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
    assert_eq!(store.strikes().unwrap(), []);
    let first = vec![
        record("a.js", &[failed(u64::MAX), Mark::Held]),
        record("b.js", &[failed(0)]),
    ];
    store.save_strikes(first.clone()).await.unwrap();
    assert_eq!(store.strikes().unwrap(), first);
    store.close();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.strikes().unwrap(), first);
    let second = vec![record("b.js", &[failed(1), failed(2)])];
    store.save_strikes(second.clone()).await.unwrap();
    assert_eq!(store.strikes().unwrap(), second);
}
