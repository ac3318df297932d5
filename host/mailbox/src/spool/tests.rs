//! A spool's life on a real file system.

use std::fs;

use postroom_core::Position;

use super::*;
use crate::After;

fn source(path: &Path) -> SpoolSource {
    spool(SpoolSettings {
        settle: Duration::from_millis(50),
        ..SpoolSettings::new("drop", path)
    })
}

fn names(batch: &Batch) -> Vec<&str> {
    batch
        .messages
        .iter()
        .map(|m| m.position.0.as_str())
        .collect()
}

fn ack(name: &str, after: After) -> Acknowledge {
    Acknowledge {
        position: Position(name.into()),
        after,
    }
}

fn old(path: &Path, bytes: &[u8], age_secs: u64) {
    fs::write(path, bytes).unwrap();
    let then = std::time::SystemTime::now() - Duration::from_secs(age_secs);
    fs::File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_modified(then)
        .unwrap();
}

#[tokio::test]
async fn files_are_given_once_oldest_first_and_put_away() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("not/there/yet");
    let mut source = source(&path);
    source.connect().await.unwrap();
    old(&path.join("b.eml"), b"two", 20);
    old(&path.join("a.eml"), b"one", 30);
    old(&path.join("c.EML"), b"three", 10);
    for other in [".hidden.eml", "c.eml.tmp", "notes.txt"] {
        old(&path.join(other), b"no", 30);
    }
    std::os::unix::fs::symlink("/etc/hostname", path.join("link.eml")).unwrap();
    fs::create_dir(path.join("folder.eml")).unwrap();

    let limits = FetchLimits {
        batch_mails: 2,
        ..FetchLimits::default()
    };
    let first = source.fetch(None, &limits).await.unwrap();
    assert_eq!((names(&first), first.more), (vec!["a.eml", "b.eml"], true));
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!((names(&second), second.more), (vec!["c.EML"], false));
    let third = source.fetch(second.cursor.as_ref(), &limits).await.unwrap();
    assert!(third.messages.is_empty() && third.cursor == second.cursor);

    let acks = [
        ack("a.eml", After::Move("done".into())),
        ack("b.eml", After::Delete),
        ack("c.EML", After::Keep),
    ];
    source.acknowledge(&acks).await.unwrap();
    source.acknowledge(&acks).await.unwrap();
    assert!(path.join("done/a.eml").exists() && !path.join("b.eml").exists());
    assert!(
        source
            .fetch(third.cursor.as_ref(), &limits)
            .await
            .unwrap()
            .messages
            .is_empty()
    );

    // A second mail of the same name is another mail, and what lies in `done` is not overwritten.
    old(&path.join("a.eml"), b"again", 5);
    let again = source.fetch(third.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&again), ["a.eml"]);
    source.acknowledge(&acks[..1]).await.unwrap();
    assert_eq!(fs::read(path.join("done/a-1.eml")).unwrap(), b"again");
    assert_eq!(fs::read(path.join("done/a.eml")).unwrap(), b"one");
}

#[tokio::test]
async fn a_batch_that_was_not_journalled_is_given_again() {
    let root = tempfile::tempdir().unwrap();
    for name in ["a.eml", "b.eml", "c.eml"] {
        old(&root.path().join(name), b"x", 9);
    }
    let mut source = source(root.path());
    let limits = FetchLimits {
        batch_mails: 1,
        ..FetchLimits::default()
    };
    let first = source.fetch(None, &limits).await.unwrap();
    let again = source.fetch(None, &limits).await.unwrap();
    assert_eq!(
        (names(&first), names(&again)),
        (vec!["a.eml"], vec!["a.eml"])
    );
    let second = source.fetch(again.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&second), ["b.eml"]);
    let second = source.fetch(again.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&second), ["b.eml"]);
}

#[tokio::test]
async fn a_growing_file_is_left_alone_and_a_maildir_is_not() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("new")).unwrap();
    fs::write(root.path().join("new/1.M1.host"), b"mail").unwrap();
    fs::write(root.path().join("fresh.eml"), b"half").unwrap();
    let mut source = source(root.path());
    let limits = FetchLimits::default();
    let first = source.fetch(None, &limits).await.unwrap();
    assert_eq!((names(&first), first.more), (vec!["new/1.M1.host"], true));
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&second), ["fresh.eml"]);
    source
        .acknowledge(&[ack("new/1.M1.host", After::Move("done".into()))])
        .await
        .unwrap();
    assert!(root.path().join("done/1.M1.host").exists());
}

#[tokio::test]
async fn waiting_ends_when_a_file_comes() {
    let root = tempfile::tempdir().unwrap();
    let mut source = source(root.path());
    source.fetch(None, &FetchLimits::default()).await.unwrap();
    let path = root.path().join("x.eml");
    let started = std::time::Instant::now();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        fs::write(path, b"mail").unwrap();
    });
    source.wait(Duration::from_secs(30)).await.unwrap();
    writer.await.unwrap();
    let batch = source.fetch(None, &FetchLimits::default()).await.unwrap();
    assert_eq!(names(&batch), ["x.eml"]);
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn large_and_unreadable_files_stop_nobody() {
    let root = tempfile::tempdir().unwrap();
    old(&root.path().join("a.eml"), &vec![b'x'; 200_000], 30);
    old(&root.path().join("b.eml"), b"small", 20);
    let limits = FetchLimits {
        raw_bytes: 100_000,
        ..FetchLimits::default()
    };
    let mut source = source(root.path());
    let batch = source.fetch(None, &limits).await.unwrap();
    assert_eq!(names(&batch), ["a.eml", "b.eml"]);
    let large = &batch.messages[0];
    assert_eq!(
        (large.bytes.len(), large.size, large.is_whole()),
        (65536, 200_000, false)
    );
    assert!(batch.messages[1].is_whole());

    for outside in ["../a.eml", "/etc/passwd"] {
        let refused = source.acknowledge(&[ack(outside, After::Delete)]).await;
        assert!(matches!(refused, Err(SourceError::UnknownCursor { .. })));
    }
    let refused = source
        .acknowledge(&[ack("b.eml", After::Move("../x".into()))])
        .await;
    assert!(matches!(refused, Err(SourceError::Unusable { .. })));
}
