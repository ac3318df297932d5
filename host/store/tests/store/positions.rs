//! Positions that a source asks for: known once recorded, in one mailbox, also after a restart.

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
    // A second time changes nothing.
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
