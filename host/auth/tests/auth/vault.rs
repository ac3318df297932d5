//! The vault's files: what survives, what is detected, and what never reaches the disk in clear text.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use postroom_auth::vault::{
    Access, Cause, Failure, KeySource, Record, Vault, VaultError, VaultKey,
};
use postroom_auth::{AccessToken, Account, Secret, ServerRefusal};

const NO_WAIT: Duration = Duration::ZERO;
const SOON: Duration = Duration::from_secs(20);

fn account(login: &str) -> Account {
    Account {
        profile: "contoso".into(),
        login: Some(login.into()),
    }
}

/// Returns a record with a secret in every field that can contain one.
fn record(account: &Account, mark: &str) -> Record {
    let now = Timestamp::from_second(1_790_000_000).unwrap();
    Record {
        identity: Some("ana@contoso.example".into()),
        refresh_token: Some(Secret::new(format!("refresh-{mark}-\"\\\u{1f511}"))),
        refresh_expires: Some(now),
        access: vec![Access {
            scopes: vec!["https://mail.example/.default".into()],
            token: AccessToken::new(format!("access-{mark}")),
            expires: now,
        }],
        last_refresh: Some(now),
        refreshing_since: Some(now),
        failure: Some(Failure {
            cause: Cause::Refused(ServerRefusal {
                error: "invalid_grant".into(),
                codes: vec![50173],
                description: Some("revoked".into()),
                correlation_id: Some("c-1".into()),
            }),
            at: now,
            answer_lost: true,
        }),
        ..Record::new(account.clone(), "device-code")
    }
}

fn same(a: &Record, b: &Record) -> bool {
    let refresh = |record: &Record| record.refresh_token.as_ref().map(|t| t.expose().to_owned());
    a.account == b.account
        && a.grant == b.grant
        && a.identity == b.identity
        && refresh(a) == refresh(b)
        && a.refresh_expires == b.refresh_expires
        && a.access == b.access
        && a.last_refresh == b.last_refresh
        && a.refreshing_since == b.refreshing_since
        && a.failure == b.failure
}

fn write(vault: &Vault, record: &Record) {
    let held = vault.hold(&record.account, NO_WAIT).unwrap();
    held.write(record).unwrap();
}

/// Returns the files of the vault with this extension.
fn files(data_dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(data_dir.join("vault"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_record_comes_back_whole_and_for_its_account_alone() {
    let dir = tempfile::tempdir().unwrap();
    let key = VaultKey::random().unwrap();
    let vault = Vault::open(dir.path(), key.clone()).unwrap();
    let ana = account("ana");
    let before = vault.stamp(&ana);
    assert!(vault.read(&ana).unwrap().is_none());
    let written = record(&ana, "one");
    write(&vault, &written);
    assert!(same(&vault.read(&ana).unwrap().unwrap(), &written));
    assert_ne!(vault.stamp(&ana), before);
    let stamp = vault.stamp(&ana);
    assert_eq!(vault.stamp(&ana), stamp);

    let app_only = Account {
        profile: "contoso".into(),
        login: None,
    };
    for other in [account("bob"), account(""), app_only] {
        assert!(vault.read(&other).unwrap().is_none(), "{other}");
    }
    // A later process with the same key.
    let again = Vault::open(dir.path(), key).unwrap();
    assert!(same(&again.read(&ana).unwrap().unwrap(), &written));
    write(&again, &record(&ana, "two"));
    assert_ne!(vault.stamp(&ana), stamp);
    assert!(same(
        &vault.read(&ana).unwrap().unwrap(),
        &record(&ana, "two")
    ));

    let held = vault.hold(&ana, NO_WAIT).unwrap();
    assert!(held.remove().unwrap());
    assert!(!held.remove().unwrap());
    assert!(vault.read(&ana).unwrap().is_none());
}

#[test]
fn nothing_is_there_in_clear_and_nobody_else_may_look() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    for mark in ["one", "two"] {
        write(&vault, &record(&account("ana"), mark));
    }
    let folder = dir.path().join("vault");
    assert_eq!(mode(&folder), 0o700);
    let all = files(dir.path(), "");
    assert!(all.len() >= 2, "{all:?}");
    for path in all {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        let bytes = fs::read(&path).unwrap();
        for secret in ["refresh-", "access-", "ana", "contoso", "mail.example"] {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{secret} in {}", path.display());
        }
    }
    // A folder that was open to others is closed.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    assert_eq!(mode(&folder), 0o700);
}

#[test]
fn a_file_under_another_key_is_named_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (old_key, new_key) = (VaultKey::random().unwrap(), VaultKey::random().unwrap());
    let ana = account("ana");
    let written = record(&ana, "old");
    write(&Vault::open(dir.path(), old_key.clone()).unwrap(), &written);

    let vault = Vault::open(dir.path(), new_key.clone()).unwrap();
    match vault.read(&ana).unwrap_err() {
        VaultError::OtherKey {
            path,
            written_under,
            in_use,
        } => {
            assert_eq!(files(dir.path(), ".sealed"), [path]);
            assert_eq!(written_under, old_key.id());
            assert_eq!(in_use, new_key.id());
        }
        other => panic!("{other}"),
    }
    // Signing in works nevertheless, twice, and the old files are kept.
    write(&vault, &record(&ana, "new"));
    assert!(same(
        &vault.read(&ana).unwrap().unwrap(),
        &record(&ana, "new")
    ));
    write(&vault, &record(&ana, "newer"));
    let kept = files(dir.path(), ".set-aside");
    assert_eq!(kept.len(), 1);
    // A second change of keys uses another name.
    let third = Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    write(&third, &record(&ana, "third"));
    assert_eq!(files(dir.path(), ".set-aside.2").len(), 1);

    // With the old key and the old file everything is as before.
    fs::rename(&kept[0], kept[0].with_extension("sealed")).unwrap();
    let old = Vault::open(dir.path(), old_key).unwrap();
    assert!(same(&old.read(&ana).unwrap().unwrap(), &written));
    let held = old.hold(&ana, NO_WAIT).unwrap();
    assert!(held.remove().unwrap());
    assert!(files(dir.path(), ".set-aside.2").is_empty());
}

#[test]
fn damage_is_noticed_wherever_it_is_and_the_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    let (ana, bob) = (account("ana"), account("bob"));
    write(&vault, &record(&ana, "ana"));
    let file = files(dir.path(), ".sealed").remove(0);
    let good = fs::read(&file).unwrap();
    let damaged = |what: &str| {
        let error = vault.read(&ana).unwrap_err();
        let noticed = matches!(
            error,
            VaultError::Damaged { .. } | VaultError::OtherKey { .. }
        );
        assert!(noticed, "{what}: {error}");
        assert!(!format!("{error} {error:?}").contains("access-"));
    };
    for cut in [0, 1, 16, 17, 20, 25, 40, 49, 60, good.len() - 1] {
        fs::write(&file, &good[..cut]).unwrap();
        damaged(&format!("cut to {cut} bytes"));
    }
    for at in 0..good.len() {
        let mut changed = good.clone();
        changed[at] ^= 1;
        fs::write(&file, &changed).unwrap();
        damaged(&format!("byte {at} changed"));
    }
    fs::write(&file, [good.as_slice(), b"x"].concat()).unwrap();
    damaged("a byte too many");
    fs::write(&file, vec![b'x'; 2 * 1024 * 1024]).unwrap();
    damaged("2 MiB");
    write(&vault, &record(&ana, "again"));
    assert_eq!(files(dir.path(), ".set-aside").len(), 1);

    // One account's file in place of another's.
    write(&vault, &record(&bob, "bob"));
    let other = files(dir.path(), ".sealed");
    let other = other.iter().find(|path| **path != file).unwrap();
    fs::copy(other, &file).unwrap();
    damaged("swapped");
    assert!(vault.read(&bob).unwrap().is_some());
}

#[test]
fn a_record_that_could_not_be_read_again_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    let ana = account("ana");
    write(&vault, &record(&ana, "small"));
    let held = vault.hold(&ana, NO_WAIT).unwrap();
    let large = record(&ana, &"x".repeat(600 * 1024));
    assert!(matches!(
        held.write(&large).unwrap_err(),
        VaultError::File { .. }
    ));
    assert!(same(
        &vault.read(&ana).unwrap().unwrap(),
        &record(&ana, "small")
    ));
}

#[test]
fn one_holder_at_a_time_and_the_others_wait_or_give_up() {
    let dir = tempfile::tempdir().unwrap();
    let key = VaultKey::random().unwrap();
    let vault = Vault::open(dir.path(), key.clone()).unwrap();
    let other = Vault::open(dir.path(), key).unwrap();
    let ana = account("ana");
    let held = vault.hold(&ana, NO_WAIT).unwrap();
    for vault in [&vault, &other] {
        assert!(matches!(
            vault.hold(&ana, NO_WAIT).unwrap_err(),
            VaultError::Busy { .. }
        ));
    }
    other.hold(&account("bob"), NO_WAIT).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| other.hold(&ana, SOON).unwrap());
        held.write(&record(&ana, "first")).unwrap();
        drop(held);
        let late = waiting.join().unwrap();
        assert!(same(&late.read().unwrap().unwrap(), &record(&ana, "first")));
    });
}

#[test]
fn leftovers_go_unless_somebody_is_at_them() {
    let dir = tempfile::tempdir().unwrap();
    let key = VaultKey::random().unwrap();
    let vault = Vault::open(dir.path(), key.clone()).unwrap();
    for login in ["ana", "bob"] {
        write(&vault, &record(&account(login), login));
    }
    for file in files(dir.path(), ".sealed") {
        fs::write(file.with_extension("half-written"), b"half").unwrap();
    }
    let held = vault.hold(&account("ana"), NO_WAIT).unwrap();
    let again = Vault::open(dir.path(), key).unwrap();
    assert_eq!(files(dir.path(), ".half-written").len(), 1);
    // The one that stayed does no harm.
    held.write(&record(&account("ana"), "new")).unwrap();
    assert!(files(dir.path(), ".half-written").is_empty());
    for login in ["ana", "bob"] {
        assert!(again.read(&account(login)).unwrap().is_some());
    }
}

#[test]
fn key_files_are_made_once_private_and_read_strictly() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config/postroom/vault.key");
    let source = KeySource::File(path.clone());
    // Many concurrent creations end with one key.
    let ids: Vec<String> = std::thread::scope(|scope| {
        let starting: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| VaultKey::load(&source).unwrap().id().to_owned()))
            .collect();
        starting.into_iter().map(|it| it.join().unwrap()).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(mode(&path), 0o600);
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text.len(), 45);
    let given = VaultKey::load(&KeySource::Given(Secret::new(text.clone()))).unwrap();
    assert_eq!(given.id(), ids[0]);
    assert_eq!(format!("{given:?}"), format!("VaultKey({})", ids[0]));
    let names = fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(names, 1, "something was left beside the key");

    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = VaultKey::load(&source).unwrap_err().to_string();
    assert!(
        error.contains(&format!("chmod 600 {}", path.display())),
        "{error}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let pipe = path.with_file_name("pipe");
    rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
    // The pipe has no writer: waiting for one would never end.
    let error = VaultKey::load(&KeySource::File(pipe.clone())).unwrap_err();
    assert!(error.to_string().ends_with("pipe is no file"), "{error}");
    fs::remove_file(pipe).unwrap();
    let half = &text[..20];
    for bad in ["", "\n", "not a key", half, &format!("{half}\n{half}")] {
        fs::write(&path, bad).unwrap();
        for source in [source.clone(), KeySource::Given(Secret::new(bad))] {
            let error = VaultKey::load(&source).unwrap_err();
            assert!(matches!(error, VaultError::Key { .. }));
            let shown = error.to_string();
            assert!(
                shown.contains("head -c 32 /dev/urandom | base64"),
                "{shown}"
            );
            assert!(bad.trim().is_empty() || !shown.contains(bad), "{shown}");
        }
    }
}

#[test]
fn a_missing_key_of_a_vault_in_use_is_not_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    let data_dir = dir.path().join("data");
    let load = || VaultKey::load_for(&KeySource::File(path.clone()), &data_dir);
    let key = load().unwrap();
    let vault = Vault::open(&data_dir, key.clone()).unwrap();
    assert_eq!(load().unwrap().id(), key.id());
    write(&vault, &record(&account("ana"), "one"));
    let away = dir.path().join("key.away");
    fs::rename(&path, &away).unwrap();
    let error = load().unwrap_err().to_string();
    assert!(error.contains("Restore the key"), "{error}");
    assert!(!path.exists());
    // Either fix works.
    fs::rename(&away, &path).unwrap();
    assert_eq!(load().unwrap().id(), key.id());
    fs::remove_file(&path).unwrap();
    fs::rename(data_dir.join("vault"), dir.path().join("old")).unwrap();
    assert_ne!(load().unwrap().id(), key.id());
}

#[test]
fn a_folder_that_is_not_its_own_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::set_permissions(&theirs, fs::Permissions::from_mode(0o755)).unwrap();
    let data_dir = dir.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let folder = data_dir.join("vault");
    std::os::unix::fs::symlink(&theirs, &folder).unwrap();
    let open = || Vault::open(&data_dir, VaultKey::random().unwrap());
    let error = open().unwrap_err().to_string();
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(mode(&theirs), 0o755);
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    // Only root can give a folder away.
    if std::os::unix::fs::chown(&folder, Some(65_534), None).is_ok() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let error = open().unwrap_err().to_string();
        assert!(error.contains("another user (65534)"), "{error}");
        assert_eq!(mode(&folder), 0o755);
    }
}

#[test]
fn only_an_unreadable_content_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let vault = Vault::open(dir.path(), VaultKey::random().unwrap()).unwrap();
    let ana = account("ana");
    write(&vault, &record(&ana, "one"));
    let path = files(dir.path(), ".sealed").remove(0);
    // It is a circular link: reading fails, but not because of its content.
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(&path, &path).unwrap();
    assert!(matches!(vault.read(&ana), Err(VaultError::File { .. })));
    write(&vault, &record(&ana, "two"));
    assert!(same(
        &vault.read(&ana).unwrap().unwrap(),
        &record(&ana, "two")
    ));
    let left = files(dir.path(), "").len();
    assert_eq!(
        left,
        2,
        "the record and its lock: {:?}",
        files(dir.path(), "")
    );
}

const KEYRING: &str = "VAULT_KEYRING_ENTRY";

/// Loads the key of an entry twice, inside a runtime as the service does.
#[test]
#[ignore = "run by the test below, in a session of its own"]
fn keyring_session() {
    let Ok(entry) = std::env::var(KEYRING) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let load = || {
            VaultKey::load(&KeySource::Keyring {
                entry: entry.clone(),
            })
            .unwrap()
        };
        let (made, kept) = (load(), load());
        println!("\nids {} {}", made.id(), kept.id());
    });
}

#[test]
fn a_keyring_keeps_the_key() {
    let home = tempfile::tempdir().unwrap();
    let run = |entry: &str| -> Vec<String> {
        let script = "echo -n password | gnome-keyring-daemon --unlock --components=secrets >/dev/null && \
                      exec \"$0\" --exact vault::keyring_session --ignored --nocapture";
        let output = Command::new("dbus-run-session")
            .args(["--", "sh", "-c", script])
            .arg(std::env::current_exe().unwrap())
            .env("HOME", home.path())
            .env("XDG_DATA_HOME", home.path().join("data"))
            .env("XDG_RUNTIME_DIR", home.path())
            .env(KEYRING, entry)
            .output()
            .expect("dbus-run-session is missing: run `make setup`");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        said.lines()
            .find_map(|line| line.strip_prefix("ids "))
            .unwrap_or_else(|| panic!("{said}\n{errors}"))
            .split(' ')
            .map(str::to_owned)
            .collect()
    };
    let first = run("one");
    assert_eq!(first[0], first[1]);
    // Only the keyring's file remains of that session.
    assert_eq!(run("one"), first);
    assert_ne!(run("two")[0], first[0]);
}
