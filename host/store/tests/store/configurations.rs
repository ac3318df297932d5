//! Applied configurations: each keeps its files whole, and only as many are kept as asked.

use std::collections::BTreeMap;

use postroom_store::StoreLimits;

use crate::kit::{store, store_within};

fn files(files: &[(&str, &str)]) -> BTreeMap<String, String> {
    let files = files.iter();
    files
        .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
        .collect()
}

#[tokio::test]
async fn each_configuration_keeps_the_texts_of_its_time() {
    let (_dir, store) = store();
    let versions = [
        files(&[("postroom.toml", "a = 1"), ("clients/acme.toml", "b = 1")]),
        files(&[("postroom.toml", "a = 1"), ("clients/acme.toml", "b = 2")]),
        files(&[("postroom.toml", "a = 1")]),
        files(&[("postroom.toml", "a = 1"), ("clients/acme.toml", "b = 1")]),
    ];
    for (n, version) in versions.iter().enumerate() {
        let number = store.save_configuration(version.clone(), format!("{n}"));
        assert_eq!(number.await.unwrap(), n as u64 + 1);
    }
    let listings = store.listings();
    for (n, version) in versions.iter().enumerate() {
        let kept = listings.configuration_files(n as u64 + 1).unwrap();
        assert_eq!(kept.as_ref(), Some(version));
    }
    assert_eq!(listings.configuration_files(5).unwrap(), None);
    let listed = listings.configurations(Some(2)).unwrap();
    let listed: Vec<_> = listed
        .iter()
        .map(|it| (it.number, &*it.changes_json))
        .collect();
    assert_eq!(listed, [(4, "3"), (3, "2")]);
}

#[tokio::test]
async fn the_same_texts_are_the_same_configuration() {
    let (_dir, store) = store();
    let same = files(&[("postroom.toml", "a = 1")]);
    for _ in 0..2 {
        let number = store.save_configuration(same.clone(), "{}".into()).await;
        assert_eq!(number.unwrap(), 1);
    }
}

#[tokio::test]
async fn the_oldest_are_dropped_and_the_kept_stay_whole() {
    let limits = StoreLimits {
        generations: 2,
        ..StoreLimits::default()
    };
    let (_dir, store) = store_within(limits);
    for n in 1..=5 {
        let version = files(&[("postroom.toml", "same"), ("c.toml", &format!("n = {n}"))]);
        store
            .save_configuration(version, "{}".into())
            .await
            .unwrap();
    }
    let listings = store.listings();
    let numbers = listings.configurations(None).unwrap();
    let numbers: Vec<u64> = numbers.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [5, 4]);
    assert_eq!(listings.configuration_files(3).unwrap(), None);
    let fourth = files(&[("postroom.toml", "same"), ("c.toml", "n = 4")]);
    assert_eq!(listings.configuration_files(4).unwrap(), Some(fourth));
}
