//! A protocol log on a real file system.

use postroom_net::TraceRedactor;

use super::*;

const KIB: u64 = 1024;

fn log(dir: &Path, bytes_max: u64) -> ProtocolLog {
    let (clock, _) = Clock::settable("2026-11-30T12:00:00Z".parse().unwrap());
    ProtocolLog::new(dir, "support", bytes_max, clock)
}

#[test]
fn lines_have_the_time_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        // A start continues the file.
        let trace = log(dir.path(), 64 * KIB).trace();
        trace.hide(&TraceRedactor::new(["hunter2-the-password"]));
        trace.record(Side::Client, b"a1 LOGIN ann hunter2-the-password");
    }
    let text = fs::read_to_string(dir.path().join("logs/support.log")).unwrap();
    let line = "2026-11-30T12:00:00.000Z C: a1 LOGIN ann [redacted]\n";
    assert_eq!(text, line.repeat(2));
}

#[test]
fn a_log_is_rotated_and_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let trace = log(dir.path(), KIB).trace();
    for number in 0..400 {
        trace.record(Side::Server, format!("* {number} EXISTS").as_bytes());
    }
    let mut sizes: Vec<(String, u64)> = fs::read_dir(dir.path().join("logs"))
        .unwrap()
        .map(Result::unwrap)
        .map(|it| {
            let size = it.metadata().unwrap().len();
            (it.file_name().into_string().unwrap(), size)
        })
        .collect();
    sizes.sort();
    let names: Vec<_> = sizes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "support.log",
            "support.log.1",
            "support.log.2",
            "support.log.3"
        ]
    );
    assert!(sizes.iter().all(|(_, size)| *size <= KIB), "{sizes:?}");
    // The newest line is in the newest file.
    let newest = fs::read_to_string(dir.path().join("logs/support.log")).unwrap();
    assert!(newest.ends_with("* 399 EXISTS\n"), "{newest}");
}

#[test]
fn a_log_that_cannot_be_written_loses_lines_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let in_the_way = dir.path().join("logs/support.log");
    fs::create_dir_all(&in_the_way).unwrap();
    let trace = log(dir.path(), KIB).trace();
    trace.record(Side::Client, b"a1 NOOP");
    fs::remove_dir(&in_the_way).unwrap();
    trace.record(Side::Client, b"a2 NOOP");
    let text = fs::read_to_string(&in_the_way).unwrap();
    assert!(text.ends_with("C: a2 NOOP\n") && !text.contains("a1"));
}
