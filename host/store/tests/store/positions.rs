//! Positions that a source asks for: known once recorded, within one mailbox, even after a restart.

use std::collections::HashSet;

use crate::kit::open;
use postroom_core::Position;

fn on_server(names: &[&str]) -> Vec<Position> {
    let names = names.iter();
    names
        .map(|name| Position::OnServer((*name).into()))
        .collect()
}

#[tokio::test]
async fn only_recorded_positions_of_the_mailbox_are_known() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let recorded = on_server(&["a", "imported:b"]);
    store
        .remember_positions("support", recorded.clone())
        .await
        .unwrap();
    // Recording them a second time changes nothing.
    store
        .remember_positions("support", recorded.clone())
        .await
        .unwrap();
    store.close().await;

    let store = open(dir.path());
    let mut asked = on_server(&["a", "b", "c", "imported:b"]);
    asked.push(Position::Imported("b".into()));
    let known = store.known_positions("support", asked).await.unwrap();
    assert_eq!(known, HashSet::from_iter(recorded));
    let other = store
        .known_positions("sales", on_server(&["a"]))
        .await
        .unwrap();
    assert!(other.is_empty());
}

#[tokio::test]
async fn positions_that_the_server_no_longer_lists_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let recorded = on_server(&["a", "it's", "imported:b"]);
    for mailbox in ["support", "sales"] {
        store
            .remember_positions(mailbox, recorded.clone())
            .await
            .unwrap();
    }
    let kept = on_server(&["it's", "imported:b", "never seen"]);
    store.forget_positions_but("support", kept).await.unwrap();
    assert_eq!(store.known_position_count("support").await.unwrap(), 2);
    let known = store
        .known_positions("support", recorded.clone())
        .await
        .unwrap();
    assert_eq!(
        known,
        HashSet::from_iter(on_server(&["it's", "imported:b"]))
    );
    assert_eq!(store.known_position_count("sales").await.unwrap(), 3);
    let gone = on_server(&["a", "never seen"]);
    store.forget_positions("sales", gone).await.unwrap();
    assert_eq!(store.known_position_count("sales").await.unwrap(), 2);
    store
        .forget_positions_but("sales", Vec::new())
        .await
        .unwrap();
    assert_eq!(store.known_position_count("sales").await.unwrap(), 0);
    assert_eq!(store.known_position_count("nobody").await.unwrap(), 0);
}
