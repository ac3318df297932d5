//! A spool on a real file system.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use postroom_core::Position;

use super::*;

fn source(path: &Path) -> SpoolSource {
    spool(SpoolSettings {
        settle: Duration::from_millis(50),
        ..SpoolSettings::new("drop", path)
    })
}

fn names(batch: &Batch) -> Vec<String> {
    let name = |m: &RawMessage| Found::at(&m.position).unwrap().path;
    let paths = batch.messages.iter().map(name);
    paths.map(|path| path.display().to_string()).collect()
}

fn ack(message: &RawMessage, after: After) -> Acknowledge {
    Acknowledge {
        position: message.position.clone(),
        after,
    }
}

fn done() -> After {
    After::Move("done".into())
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
    assert_eq!(names(&first), ["a.eml", "b.eml"]);
    assert!(first.more);
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&second), ["c.EML"]);
    assert!(!second.more);
    let third = source.fetch(second.cursor.as_ref(), &limits).await.unwrap();
    assert!(third.messages.is_empty() && third.cursor == second.cursor);

    let acks = [
        ack(&first.messages[0], done()),
        ack(&first.messages[1], After::Delete),
        ack(&second.messages[0], After::Keep),
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

    // A second mail of the same name is another mail, and files in `done` are not overwritten.
    old(&path.join("a.eml"), b"again", 5);
    let again = source.fetch(third.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&again), ["a.eml"]);
    source
        .acknowledge(&[ack(&again.messages[0], done())])
        .await
        .unwrap();
    assert_eq!(fs::read(path.join("done/a-1.eml")).unwrap(), b"again");
    assert_eq!(fs::read(path.join("done/a.eml")).unwrap(), b"one");
    // Clients' mail accumulates there.
    let mode = fs::metadata(path.join("done"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[tokio::test]
async fn mails_are_given_in_the_order_of_arrival_and_not_of_names() {
    let root = tempfile::tempdir().unwrap();
    for folder in ["new", "cur"] {
        fs::create_dir(root.path().join(folder)).unwrap();
    }
    let write = |name: &str, minute: u64| {
        let path = root.path().join(name);
        fs::write(&path, name).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_790_000_000 + minute * 60);
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(at).unwrap();
    };
    write("a.eml", 9);
    write("z.eml", 1);
    write("new/5.host", 2);
    // Of one moment: by name, whichever folder they are in.
    write("new/1.host", 5);
    write("cur/2.host:2,S", 5);
    write("m.eml", 5);
    let batch = source(root.path())
        .fetch(None, &FetchLimits::default())
        .await
        .unwrap();
    let expected = [
        "z.eml",
        "new/5.host",
        "new/1.host",
        "cur/2.host:2,S",
        "m.eml",
        "a.eml",
    ];
    assert_eq!(names(&batch), expected);
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
    assert_eq!([names(&first), names(&again)], [["a.eml"], ["a.eml"]]);
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
    assert_eq!(names(&first), ["new/1.M1.host"]);
    assert!(first.more);
    let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&second), ["fresh.eml"]);
    source
        .acknowledge(&[ack(&first.messages[0], done())])
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

    let refused = source
        .acknowledge(&[ack(&batch.messages[1], After::Move("../x".into()))])
        .await;
    assert!(matches!(refused, Err(SourceError::Unusable { .. })));
}

#[tokio::test]
async fn an_acknowledgement_touches_no_file_that_was_not_read() {
    for after in [done(), After::Delete] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        for name in ["rewritten.eml", "renamed.eml", "gone.eml"] {
            old(&path.join(name), b"one", 9);
        }
        let limits = FetchLimits::default();
        let mut source = source(path);
        let first = source.fetch(None, &limits).await.unwrap();
        assert_eq!(first.messages.len(), 3);

        // Same size, same modification time.
        old(&path.join("other"), b"two", 9);
        let before = fs::metadata(path.join("renamed.eml")).unwrap();
        fs::File::options()
            .write(true)
            .open(path.join("other"))
            .unwrap()
            .set_modified(before.modified().unwrap())
            .unwrap();
        fs::rename(path.join("other"), path.join("renamed.eml")).unwrap();
        old(&path.join("rewritten.eml"), b"2nd", 5);
        fs::remove_file(path.join("gone.eml")).unwrap();

        let acks: Vec<_> = first
            .messages
            .iter()
            .map(|mail| ack(mail, after.clone()))
            .collect();
        source.acknowledge(&acks).await.unwrap();
        assert!(!path.join("done/renamed.eml").exists());
        let second = source.fetch(first.cursor.as_ref(), &limits).await.unwrap();
        let mut bodies: Vec<_> = second.messages.iter().map(|m| m.bytes.clone()).collect();
        bodies.sort();
        assert_eq!(bodies, [&b"2nd"[..], b"two"]);

        // Another run acknowledges them as well.
        let acks: Vec<_> = second
            .messages
            .iter()
            .map(|mail| ack(mail, after.clone()))
            .collect();
        self::source(path).acknowledge(&acks).await.unwrap();
        let left = files::list(path, Duration::ZERO).unwrap();
        assert!(left.found.is_empty());
        let moved = fs::read_dir(path.join("done")).map_or(0, Iterator::count);
        assert_eq!(moved, if after == done() { 2 } else { 0 });
    }
}

#[tokio::test]
async fn a_producer_that_always_takes_the_same_name_loses_no_unread_mail_to_us() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let root = tempfile::tempdir().unwrap();
    let path = root.path().to_owned();
    let stop = Arc::new(AtomicBool::new(false));
    let producer = std::thread::spawn({
        let (path, stop) = (path.clone(), stop.clone());
        move || {
            for number in 0u64.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(path.join("half"), number.to_string()).unwrap();
                fs::rename(path.join("half"), path.join("report.eml")).unwrap();
            }
        }
    });
    let mut source = spool(SpoolSettings {
        settle: Duration::ZERO,
        ..SpoolSettings::new("drop", &path)
    });
    let mut read = HashSet::new();
    let mut cursor = None;
    let until = Instant::now() + Duration::from_millis(500);
    while Instant::now() < until {
        let batch = source
            .fetch(cursor.as_ref(), &FetchLimits::default())
            .await
            .unwrap();
        read.extend(batch.messages.iter().map(|mail| mail.bytes.to_vec()));
        let acks: Vec<_> = batch.messages.iter().map(|m| ack(m, done())).collect();
        source.acknowledge(&acks).await.unwrap();
        cursor = batch.cursor;
    }
    stop.store(true, Ordering::Relaxed);
    producer.join().unwrap();
    for entry in fs::read_dir(path.join("done")).into_iter().flatten() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(read.contains(&bytes));
    }
    assert!(!read.is_empty());
}

#[tokio::test]
async fn positions_of_other_sources_are_done_with() {
    let root = tempfile::tempdir().unwrap();
    let outside = root.path().join("outside.eml");
    let path = root.path().join("spool");
    fs::create_dir(&path).unwrap();
    for file in [&outside, &path.join("a.eml")] {
        old(file, b"x", 9);
    }
    let mut source = source(&path);
    let mut texts = vec![
        "a.eml".to_owned(),
        r#"{"folder":"INBOX","uid_validity":7,"uid":1}"#.into(),
        String::new(),
    ];
    let metadata = files::list(root.path(), Duration::ZERO).unwrap();
    let inside = metadata.found[0].position().stored().into_owned();
    texts.push(inside.replace("outside.eml", "../outside.eml"));
    texts.push(inside.replace("outside.eml", &outside.display().to_string()));
    for text in texts {
        let foreign = Acknowledge {
            position: Position::OnServer(text),
            after: After::Delete,
        };
        source.acknowledge(&[foreign]).await.unwrap();
    }
    assert!(outside.exists() && path.join("a.eml").exists());
    let foreign = Cursor(r#"{"folder":"INBOX","uid_validity":7,"uid":12}"#.into());
    let batch = source
        .fetch(Some(&foreign), &FetchLimits::default())
        .await
        .unwrap();
    assert_eq!(names(&batch), ["a.eml"]);
}

#[tokio::test]
async fn a_file_that_could_not_be_read_is_tried_again() {
    let root = tempfile::tempdir().unwrap();
    old(&root.path().join("a.eml"), b"x", 9);
    let limits = FetchLimits::default();
    let mut source = source(root.path());
    source.connect().await.unwrap();
    source.look().await.unwrap();
    // A file in place of a folder: reading fails, but not with "not found".
    source.settings.path = root.path().join("a.eml");
    assert!(source.read(&limits).await.unwrap().0.is_empty());
    assert_eq!(source.unreadable.len(), 1);
    source.settings.path = root.path().to_owned();
    let batch = source.fetch(None, &limits).await.unwrap();
    assert_eq!(names(&batch), ["a.eml"]);
    assert!(source.unreadable.is_empty());
}

#[tokio::test]
async fn the_cursor_of_another_run_is_not_ours() {
    let root = tempfile::tempdir().unwrap();
    old(&root.path().join("a.eml"), b"x", 9);
    let limits = FetchLimits::default();
    let before = source(root.path()).fetch(None, &limits).await.unwrap();
    let mut source = source(root.path());
    let first = source.fetch(None, &limits).await.unwrap();
    assert_ne!(before.cursor, first.cursor);
    // With that cursor, the batch does not count as journalled.
    let again = source.fetch(before.cursor.as_ref(), &limits).await.unwrap();
    assert_eq!(names(&again), ["a.eml"]);
}

#[tokio::test]
async fn a_file_is_told_from_another_with_the_same_bytes_and_from_itself_never() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    fs::create_dir_all(path.join("new")).unwrap();
    fs::create_dir_all(path.join("cur")).unwrap();
    old(&path.join("a.eml"), b"same", 30);
    old(&path.join("b.eml"), b"same", 30);
    old(&path.join("new/1.host"), b"same", 30);
    let look = || async {
        let batch = source(path).fetch(None, &FetchLimits::default()).await;
        let mut known: Vec<(String, String)> = batch
            .unwrap()
            .messages
            .iter()
            .map(|mail| {
                let name = Found::at(&mail.position).unwrap().path;
                let name = name.display().to_string();
                (name, file_identity(&mail.position).unwrap())
            })
            .collect();
        known.sort();
        known
    };
    let first = look().await;
    let distinct: HashSet<&String> = first.iter().map(|(_, identity)| identity).collect();
    assert_eq!(distinct.len(), 3, "{first:#?}");
    assert_eq!(look().await, first, "another run knows them");
    // A mail reader marks a mail of a maildir as seen.
    fs::rename(path.join("new/1.host"), path.join("cur/1.host:2,S")).unwrap();
    let marked = look().await;
    assert_eq!(marked[2].1, first[2].1);
    // Written again, it is another mail, whatever its bytes.
    old(&path.join("a.eml"), b"same", 20);
    assert_ne!(look().await[0].1, first[0].1);
    assert_eq!(file_identity(&Position::Imported("a.eml".into())), None);
}

/// Returns how many inotify instances this process holds.
fn watchers() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .filter(|target| target.to_string_lossy().contains("inotify"))
        .count()
}

#[tokio::test]
async fn many_spools_share_one_watcher_and_each_hears_of_its_own_mail() {
    let root = tempfile::tempdir().unwrap();
    let mut sources: Vec<SpoolSource> = (0..200)
        .map(|n| source(&root.path().join(n.to_string())))
        .collect();
    for source in &mut sources {
        source.connect().await.unwrap();
        assert!(source.watch.as_ref().unwrap().gives_notice());
    }
    assert_eq!(watchers(), 1);
    let long = Duration::from_secs(3600);
    for n in [0, 77, 199] {
        let mail = root.path().join(format!("{n}/a.eml"));
        let (waited, ()) = tokio::join!(sources[n].wait(long), async {
            fs::write(&mail, "x").unwrap();
        });
        waited.unwrap();
    }
    // One that ends leaves the others their watch, and a new one of the same folder gets its own again.
    sources[77].close().await;
    sources[78].close().await;
    sources[78].connect().await.unwrap();
    for n in [78, 79] {
        let mail = root.path().join(format!("{n}/b.eml"));
        let (waited, ()) = tokio::join!(sources[n].wait(long), async {
            fs::write(&mail, "x").unwrap();
        });
        waited.unwrap();
    }
}

#[tokio::test]
async fn two_spools_of_one_folder_both_hear_of_its_mail() {
    let root = tempfile::tempdir().unwrap();
    let real = root.path().join("real");
    let link = root.path().join("link");
    fs::create_dir(&real).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (mut one, mut other) = (source(&real), source(&link));
    one.connect().await.unwrap();
    other.connect().await.unwrap();
    let long = Duration::from_secs(3600);
    let (first, second, ()) = tokio::join!(one.wait(long), other.wait(long), async {
        fs::write(real.join("a.eml"), "x").unwrap();
    });
    first.and(second).unwrap();
    one.close().await;
    let (waited, ()) = tokio::join!(other.wait(long), async {
        fs::write(real.join("b.eml"), "x").unwrap();
    });
    waited.unwrap();
}
