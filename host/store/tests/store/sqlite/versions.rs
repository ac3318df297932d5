//! Versions of rules that are no longer kept are removed from the tables.

use std::path::Path;

use postroom_store::{Control, Rollback, RuleRecord, StoreLimits};

use super::database;
use crate::generations::{bounded, rule, rule_of, save};
use crate::kit::*;

#[tokio::test]
async fn old_generations_are_forgotten_and_what_is_live_never() {
    let (dir, store) = store_within(StoreLimits {
        generations: 3,
        ..StoreLimits::default()
    });
    let always = rule("always.js", "always");
    for n in 1..=9 {
        let changing = rule("a.js", &format!("v{n}"));
        let rules = match n {
            1 => vec![always.clone(), changing, rule("gone.js", "gone")],
            _ => vec![always.clone(), changing],
        };
        assert_eq!(save(&store, &rules).await, n);
    }
    let kept = store.listings().generations(None).unwrap();
    assert_eq!(
        kept.iter().map(|it| it.number).collect::<Vec<_>>(),
        [9, 8, 7]
    );
    for number in 7..=9 {
        let rules = store.listings().generation_rules(number).unwrap().unwrap();
        assert_eq!(rules, [rule("a.js", &format!("v{number}")), always.clone()]);
    }
    assert_eq!(store.listings().generation_rules(6).unwrap(), None);
    assert_eq!(store.listings().last_good("acme", "gone.js").unwrap(), None);
    store.close().await;
    let count = |table: &str| count(dir.path(), &format!("SELECT count(*) FROM {table}"));
    assert_eq!((count("rule_version"), count("rule_bytes")), (4, 4));
}

#[tokio::test]
async fn saves_of_one_tenant_push_out_no_other_tenants_way_back() {
    let (dir, store) = store_within(StoreLimits {
        generations: 20,
        ..StoreLimits::default()
    });
    let quiet = |text| rule_of("bolt", "b.js", text);
    save(&store, &[rule("a.js", "v0"), quiet("one")]).await;
    save(&store, &[rule("a.js", "v0"), quiet("two")]).await;
    for n in 1..=25 {
        save(&store, &[rule("a.js", &format!("v{n}")), quiet("two")]).await;
    }
    // The busy tenant has its own 20, and no more.
    let sql = "SELECT count(*) FROM rule_version WHERE tenant = 'acme'";
    assert_eq!(count(dir.path(), sql), 20);

    let only_bolt = Rollback {
        tenant: Some("bolt".into()),
        ..Rollback::default()
    };
    let done = control(dir.path(), StoreLimits::default())
        .roll_back(&only_bolt)
        .unwrap();
    assert_eq!(done.to, 1);
    assert_eq!(done.rules, [("bolt".to_owned(), "b.js".to_owned())]);
    let serves = store.listings().generation_rules(28).unwrap().unwrap();
    assert_eq!(serves, [rule("a.js", "v25"), quiet("one")]);
}

fn count(dir: &Path, sql: &str) -> i64 {
    let conn = database(dir);
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

fn sized(tenant: &str, letter: &str, bytes: usize) -> RuleRecord {
    rule_of(tenant, "a.js", &letter.repeat(bytes))
}

#[tokio::test]
async fn old_versions_of_a_tenant_go_by_their_bytes() {
    let (dir, store) = bounded(1000, 10_000);
    let bolt = sized("bolt", "b", 9_000);
    let letters = ["a", "c", "d", "e", "f", "g"];
    for letter in letters {
        save(&store, &[sized("acme", letter, 3_000), bolt.clone()]).await;
    }
    // Three versions of 3,000 bytes with their settings are within the limit; live versions are not counted.
    let acme = "SELECT count(*) FROM rule_version WHERE tenant = 'acme'";
    assert_eq!(count(dir.path(), acme), 4);
    let bytes = || count(dir.path(), "SELECT sum(length(bytes)) FROM rule_bytes");
    assert_eq!(bytes(), 4 * 3_000 + 9_000);
    assert_eq!(
        store.listings().generation_rules(3).unwrap().unwrap(),
        [sized("acme", "d", 3_000), bolt.clone()]
    );

    // A version that exceeds the limit by itself stays as long as it was live just before.
    save(&store, &[sized("acme", "x", 20_000), bolt.clone()]).await;
    save(&store, &[sized("acme", "y", 20_000), bolt.clone()]).await;
    assert_eq!(bytes(), 2 * 20_000 + 9_000);
    assert_eq!(
        store.listings().generation_rules(7).unwrap().unwrap(),
        [sized("acme", "x", 20_000), bolt.clone()]
    );
    // The same bytes again cost nothing, because they are live.
    for n in 0..5 {
        let mut again = sized("acme", "z", 9_000);
        again.settings_json = format!("{{\"n\":{n}}}");
        save(&store, &[again, bolt.clone()]).await;
    }
    assert_eq!(count(dir.path(), acme), 5);
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
    // t4 left last and does not count; two of the others fit.
    let kept = |tenant: &str| {
        store
            .listings()
            .last_good(tenant, "a.js")
            .unwrap()
            .is_some()
    };
    assert_eq!(tenants.map(kept), [false, false, true, true, true]);
    let versions = "SELECT count(*) FROM rule_version";
    assert_eq!(count(dir.path(), versions), 4);
    assert_eq!(count(dir.path(), "SELECT count(*) FROM rule_bytes"), 4);
    assert_eq!(
        store.listings().generation_rules(6).unwrap().unwrap(),
        [stays]
    );

    // The same by number.
    let (dir, store) = bounded(2, u64::MAX);
    for tenant in tenants {
        save(&store, &[sized(tenant, "a", 10)]).await;
    }
    save(&store, &[sized("stays", "s", 100)]).await;
    assert_eq!(count(dir.path(), versions), 3);
}
