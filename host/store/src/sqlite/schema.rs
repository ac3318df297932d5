//! Opens the database file: pragmas, versioned migrations, and the lock that keeps a second service out.

use std::fs::{DirBuilder, File, Permissions, TryLockError};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::lookup;
use super::options::StoreOptions;
use crate::StoreError;

const DATABASE: &str = "postroom.sqlite";
/// The file that names the process holding the folder's lock, for the error message. Removing the file does not remove the lock.
const HOLDER: &str = "postroom.lock";
/// The interval at which a start checks whether the lock is free.
const LOCK_LOOK: Duration = Duration::from_millis(20);
/// The suffixes of SQLite's additional files for a database.
const COMPANIONS: &[&str] = &["-wal", "-shm", "-journal"];
/// The mode of the files. They hold the mail of all clients: nobody else may read them, whatever the umask and the folder allow.
const PRIVATE: u32 = 0o600;

/// The migrations in order: migration n brings a database to `user_version` n.
const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/001_line.sql"),
    include_str!("../../migrations/002_purge_by_raw.sql"),
    include_str!("../../migrations/003_versions.sql"),
    include_str!("../../migrations/004_lookup.sql"),
    include_str!("../../migrations/005_shadow.sql"),
    include_str!("../../migrations/006_strikes.sql"),
    include_str!("../../migrations/007_directory.sql"),
    include_str!("../../migrations/008_senders.sql"),
    include_str!("../../migrations/009_outbox_lanes.sql"),
    include_str!("../../migrations/010_identity.sql"),
    include_str!("../../migrations/011_authority.sql"),
    include_str!("../../migrations/012_rule_history.sql"),
    include_str!("../../migrations/013_positions.sql"),
    include_str!("../../migrations/014_targets.sql"),
    include_str!("../../migrations/015_configurations.sql"),
    include_str!("../../migrations/016_answered.sql"),
    include_str!("../../migrations/017_service_alerts.sql"),
    include_str!("../../migrations/018_notes_by_ticket.sql"),
    include_str!("../../migrations/019_shared_mailboxes.sql"),
    include_str!("../../migrations/020_foreign_numbers.sql"),
    include_str!("../../migrations/021_alerts.sql"),
    include_str!("../../migrations/022_copies.sql"),
    include_str!("../../migrations/023_again.sql"),
];

/// The part of a migration that SQL cannot do.
type Rest = fn(&Connection) -> Result<(), StoreError>;

/// The parts in Rust, by the `user_version` that they belong to.
const IN_RUST: &[(usize, Rest)] = &[(4, lookup::note_all_words)];

/// An advisory lock on the data folder itself, held for the life of a [`crate::SqliteStore`]. Removing files in the folder cannot
/// break it, and the kernel releases it however the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _folder: File,
}

impl Lock {
    pub(crate) fn take(data_dir: &Path, wait: Duration) -> Result<Self, StoreError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(|e| StoreError::io(data_dir, e))?;
        let folder = File::open(data_dir).map_err(|e| StoreError::io(data_dir, e))?;
        let patience = Instant::now();
        loop {
            match folder.try_lock() {
                Ok(()) => return Ok(Self { _folder: folder }),
                Err(TryLockError::WouldBlock) if patience.elapsed() < wait => {
                    std::thread::sleep(LOCK_LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    let holder = std::fs::read_to_string(data_dir.join(HOLDER));
                    return Err(StoreError::Locked {
                        path: data_dir.to_owned(),
                        pid: holder.ok().and_then(|pid| pid.trim().parse().ok()),
                    });
                }
                Err(TryLockError::Error(e)) => return Err(StoreError::io(data_dir, e)),
            }
        }
    }

    /// Names this process as the holder once the database is open, which also shows that the folder was in use. A full disk must
    /// not stop the start here.
    pub(crate) fn name_holder(&self, data_dir: &Path) {
        let path = data_dir.join(HOLDER);
        let named = File::options()
            .create(true)
            .write(true)
            .truncate(true)
            .mode(PRIVATE)
            .open(&path)
            .and_then(|mut file| writeln!(file, "{}", std::process::id()));
        if let Err(error) = named {
            tracing::debug!(path = %path.display(), %error, "the holder of the data folder is not named");
        }
        make_private(&path);
    }
}

/// Returns whether a database would be created here although something shows that there was one: its log, or the holder of its
/// lock.
pub(crate) fn is_missing_from_used_folder(data_dir: &Path) -> bool {
    let length = |name: String| std::fs::metadata(data_dir.join(name)).map_or(0, |it| it.len());
    let has_log = || length(format!("{DATABASE}-wal")) > 0;
    is_new(data_dir) && (data_dir.join(HOLDER).exists() || has_log())
}

/// Renames what is left next to a database that is gone: SQLite would delete the log, or take it for that of the new database.
pub(crate) fn set_log_aside(data_dir: &Path) -> Result<(), StoreError> {
    for suffix in COMPANIONS {
        let left = data_dir.join(format!("{DATABASE}{suffix}"));
        let aside = data_dir.join(format!("{DATABASE}{suffix}.set-aside"));
        match std::fs::rename(&left, &aside) {
            Ok(()) => {
                tracing::warn!(file = %left.display(), kept_as = %aside.display(), "set aside: its database is gone");
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(StoreError::io(left, error)),
        }
    }
    Ok(())
}

/// Returns whether there is no database yet.
pub(crate) fn is_new(data_dir: &Path) -> bool {
    std::fs::metadata(database_path(data_dir)).map_or(0, |it| it.len()) == 0
}

/// Opens the writer's connection and brings the schema up to date.
pub(crate) fn open_writer(
    data_dir: &Path,
    options: &StoreOptions,
) -> Result<Connection, StoreError> {
    let path = database_path(data_dir);
    // SQLite gives the log and its index the mode of the database, which it would itself create readable by all.
    File::options()
        .create(true)
        .append(true)
        .mode(PRIVATE)
        .open(&path)
        .map_err(|e| StoreError::io(&path, e))?;
    make_private(&path);
    for suffix in COMPANIONS {
        make_private(&data_dir.join(format!("{DATABASE}{suffix}")));
    }
    let mut conn = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    refuse_newer(user_version(&conn)?)?;
    conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
    // page_size only takes effect before the first table; the in-memory temp_store keeps savepoints off the disk.
    conn.execute_batch(&format!(
        "PRAGMA page_size = {};
         PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;
         PRAGMA cache_size = -{};
         PRAGMA wal_autocheckpoint = {};
         PRAGMA journal_size_limit = {};",
        options.page_bytes,
        options.writer_cache_kib,
        options.checkpoint_pages,
        i64::from(options.checkpoint_pages) * i64::from(options.page_bytes) * 2,
    ))?;
    if let Some(bytes) = options.database_bytes {
        let pages = (bytes / u64::from(options.page_bytes)).max(1);
        conn.execute_batch(&format!("PRAGMA max_page_count = {pages}"))?;
    }
    keep_plans(&conn, options)?;
    migrate(&mut conn, MIGRATIONS)?;
    Ok(conn)
}

/// Makes a file private. Continues if that is impossible, as for a file of another user.
fn make_private(path: &Path) {
    let outcome = std::fs::metadata(path).and_then(|found| {
        match found.permissions().mode() & 0o777 & !PRIVATE {
            0 => Ok(()),
            _ => std::fs::set_permissions(path, Permissions::from_mode(PRIVATE)),
        }
    });
    match outcome {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "cannot restrict permissions: the file is readable by other users");
        }
        _ => {}
    }
}

/// Opens a connection that cannot write, for use during or after a service's run.
pub(crate) fn open_reader(
    data_dir: &Path,
    options: &StoreOptions,
) -> Result<Connection, StoreError> {
    open_existing(data_dir, options, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Opens a connection for one short transaction alongside a running service. Each waits for the other's lock.
pub(crate) fn open_beside(
    data_dir: &Path,
    options: &StoreOptions,
) -> Result<Connection, StoreError> {
    let conn = open_existing(data_dir, options, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    conn.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA temp_store = MEMORY;",
    )?;
    Ok(conn)
}

fn open_existing(
    data_dir: &Path,
    options: &StoreOptions,
    access: OpenFlags,
) -> Result<Connection, StoreError> {
    let path = database_path(data_dir);
    if !path.exists() {
        return Err(StoreError::Missing {
            path: data_dir.to_owned(),
        });
    }
    let conn = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    conn.busy_timeout(Duration::from_millis(options.busy_timeout_ms))?;
    keep_plans(&conn, options)?;
    conn.execute_batch(&format!(
        "PRAGMA cache_size = -{}",
        options.reader_cache_kib
    ))?;
    let found = user_version(&conn)?;
    refuse_newer(found)?;
    if found < known_version() {
        return Err(StoreError::OlderSchema {
            found,
            known: known_version(),
        });
    }
    Ok(conn)
}

/// Turns on the stability guarantee. Without it, SQLite compiles a cached statement again whenever a parameter changes that might
/// affect the plan: with every mail.
fn keep_plans(conn: &Connection, options: &StoreOptions) -> Result<(), StoreError> {
    conn.set_prepared_statement_cache_capacity(options.cached_statements);
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn database_path(data_dir: &Path) -> PathBuf {
    data_dir.join(DATABASE)
}

fn known_version() -> u32 {
    MIGRATIONS.len() as u32
}

fn user_version(conn: &Connection) -> Result<u32, StoreError> {
    Ok(conn.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

fn refuse_newer(found: u32) -> Result<(), StoreError> {
    let known = known_version();
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    Ok(())
}

/// Runs the missing migrations. Each is a transaction of its own: a crash between two leaves a complete earlier version.
fn migrate(conn: &mut Connection, steps: &[&str]) -> Result<(), StoreError> {
    let from = user_version(conn)?;
    for (index, sql) in steps.iter().enumerate().skip(from as usize) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        tx.execute_batch(sql)?;
        for (_, rest) in IN_RUST.iter().filter(|(version, _)| *version == index + 1) {
            rest(&tx)?;
        }
        tx.pragma_update(None, "user_version", (index + 1) as u32)?;
        tx.commit()?;
    }
    // Creating a new database is not an upgrade.
    if (1..steps.len() as u32).contains(&from) {
        tracing::info!(from, to = steps.len(), "database schema upgraded");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(conn: &Connection) -> Vec<String> {
        let mut statement = conn
            .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    }

    #[test]
    fn every_earlier_version_upgrades_to_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let newest = open_writer(&dir.path().join(""), &StoreOptions::default()).unwrap();
        for version in 0..MIGRATIONS.len() {
            let dir = tempfile::tempdir().unwrap();
            let mut old = Connection::open(database_path(dir.path())).unwrap();
            migrate(&mut old, &MIGRATIONS[..version]).unwrap();
            drop(old);
            let upgraded = open_writer(dir.path(), &StoreOptions::default()).unwrap();
            assert_eq!(user_version(&upgraded).unwrap(), known_version());
            assert_eq!(shape(&upgraded), shape(&newest), "from version {version}");
        }
    }

    #[test]
    fn events_of_before_targets_are_kept_in_the_neutral_form() {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Connection::open(database_path(dir.path())).unwrap();
        let before = 13;
        migrate(&mut old, &MIGRATIONS[..before]).unwrap();
        let webhook = r#"{"type":"alert.firing","timestamp":"2026-11-30T08:00:00.000Z","data":{"id":4,"kind":"alert","tenant":"acme","ticket":null,"title":"disk","body":null,"priority":"critical","queue":null,"fields":{"load":1.5,"mailbox":"x"},"state":"firing","created":"c","updated":"u","alert_key":"disk","count":2,"host":"db1","decision":7,"mailbox":"support","message_id":"a@x"}}"#;
        let mail = r#"{"kind":"reply","journal":7,"to":[],"subject":"s","text":"t","html":null,"message_id":"m@x","in_reply_to":null,"references":[]}"#;
        old.execute_batch("PRAGMA foreign_keys = OFF; INSERT INTO tenant VALUES (1, 'acme')")
            .unwrap();
        for (id, kind, payload) in [(1, 0, webhook), (2, 1, mail), (3, 0, "")] {
            old.execute(
                "INSERT INTO outbox (id, kind, target, tenant, decision, created_ms, due_ms, idempotency_key, payload)
                 VALUES (?1, ?2, 'psa', 1, 7, 0, 0, 'k', ?3)",
                (id, kind, payload),
            )
            .unwrap();
        }
        drop(old);
        let new = open_writer(dir.path(), &StoreOptions::default()).unwrap();
        let payload = |id: i64| -> String {
            new.query_row("SELECT payload FROM outbox WHERE id = ?1", [id], |row| {
                row.get(0)
            })
            .unwrap()
        };
        let event: postroom_core::Event = serde_json::from_str(&payload(1)).unwrap();
        assert_eq!(event.kind, postroom_core::EventKind::AlertFiring);
        assert_eq!((event.decision, event.item.count), (Some(7), Some(2)));
        assert_eq!(event.item.detail.host.as_deref(), Some("db1"));
        assert_eq!(event.item.fields["load"], 1.5);
        assert_eq!(
            (event.mailbox.as_str(), event.message_id.as_deref()),
            ("support", Some("a@x"))
        );
        let kept: postroom_core::OutgoingMail = serde_json::from_str(&payload(2)).unwrap();
        assert_eq!((kept.subject.as_str(), payload(3).as_str()), ("s", ""));
    }

    #[test]
    fn generations_of_before_versions_keep_their_rules() {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Connection::open(database_path(dir.path())).unwrap();
        migrate(&mut old, &MIGRATIONS[..2]).unwrap();
        // Each letter is a version of rule a or rule b in generations 1 to 5; a dot means that the rule did not exist.
        let (a, b) = ("xxyxx", "zz.zz");
        for (index, (a, b)) in a.chars().zip(b.chars()).enumerate() {
            let number = index as i64 + 1;
            old.execute("INSERT INTO generation VALUES (?1, 0)", [number])
                .unwrap();
            for (name, version) in [("a", a), ("b", b)] {
                if version == '.' {
                    continue;
                }
                let hash = version.to_string().into_bytes();
                old.execute("INSERT OR IGNORE INTO rule_bytes VALUES (?1, ?1)", [&hash])
                    .unwrap();
                old.execute(
                    "INSERT INTO generation_rule VALUES (?1, 't', ?2, ?3, '', '')",
                    (number, name, &hash),
                )
                .unwrap();
            }
        }
        drop(old);
        let new = open_writer(dir.path(), &StoreOptions::default()).unwrap();
        let mut statement = new
            .prepare("SELECT name, cast(hash AS TEXT), since, until FROM rule_version ORDER BY name, since")
            .unwrap();
        let rows = statement
            .query_map([], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .unwrap();
        let rows: Vec<(String, String, i64, Option<i64>)> = rows.map(Result::unwrap).collect();
        let row = |name: &str, hash: &str, since, until| (name.into(), hash.into(), since, until);
        assert_eq!(
            rows,
            [
                row("a", "x", 1, Some(3)),
                row("a", "y", 3, Some(4)),
                row("a", "x", 4, None),
                row("b", "z", 1, Some(3)),
                row("b", "z", 4, None),
            ]
        );
    }

    #[test]
    fn lanes_of_before_heads_have_one_each() {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Connection::open(database_path(dir.path())).unwrap();
        migrate(&mut old, &MIGRATIONS[..7]).unwrap();
        old.pragma_update(None, "foreign_keys", false).unwrap();
        old.execute("INSERT INTO tenant VALUES (1, 't')", [])
            .unwrap();
        // Lane 7 has a delivered entry followed by three that wait, one of them for another target; two entries have no lane.
        for (target, lane, state) in [
            ("psa", Some(7), 1),
            ("psa", Some(7), 0),
            ("psa", Some(7), 0),
            ("chat", Some(7), 0),
            ("psa", None, 0),
            ("psa", None, 0),
        ] {
            old.execute(
                "INSERT INTO outbox (kind, target, tenant, decision, lane, state, created_ms, due_ms, idempotency_key, payload)
                 VALUES (0, ?1, 1, 1, ?2, ?3, 0, 0, 'k', '{}')",
                (target, lane, state),
            )
            .unwrap();
        }
        drop(old);
        let new = open_writer(dir.path(), &StoreOptions::default()).unwrap();
        let mut statement = new
            .prepare("SELECT id FROM outbox WHERE state = 0 AND head = 1 ORDER BY id")
            .unwrap();
        let heads: Vec<i64> = statement
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(heads, [2, 4, 5, 6]);
        let waiting: i64 = new
            .query_row("SELECT sum(entries) FROM outbox_waiting", [], |row| {
                row.get(0)
            })
            .unwrap();
        assert_eq!(waiting, 5);
    }

    #[test]
    fn a_newer_schema_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::default();
        let conn = open_writer(dir.path(), &options).unwrap();
        let newer = known_version() + 7;
        conn.pragma_update(None, "user_version", newer).unwrap();
        drop(conn);
        for error in [
            open_writer(dir.path(), &options).unwrap_err(),
            open_reader(dir.path(), &options).unwrap_err(),
        ] {
            assert!(
                matches!(error, StoreError::NewerSchema { found, .. } if found == newer),
                "{error}"
            );
        }
    }

    #[test]
    fn a_failed_step_leaves_the_earlier_version() {
        let mut conn = Connection::open_in_memory().unwrap();
        let steps = [
            "CREATE TABLE a (x)",
            "CREATE TABLE b (x); CREATE TABLE a (x)",
        ];
        assert!(migrate(&mut conn, &steps).is_err());
        assert_eq!(user_version(&conn).unwrap(), 1);
        assert_eq!(shape(&conn), ["CREATE TABLE a (x)"]);
    }
}
