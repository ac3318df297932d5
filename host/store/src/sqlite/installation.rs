//! The installation: its id, secret and ticket mark, kept in the database and in a file outside the data folder.
//!
//! The mark is a number that no issued ticket number exceeds. While a service runs, it is raised ahead in blocks, so that a
//! ticket costs no write of its own; a clean stop sets it to the last number. A database whose last number is below the mark was
//! restored, emptied or not stopped cleanly, so its numbers continue above the mark.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::StoreError;
use postroom_core::{InstallationSecret, ticket_name};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

/// The mark is raised to a multiple of this: one file write for this many tickets.
const BLOCK: i64 = 100;
/// The largest size of an installation's file.
const FILE_BYTES: u64 = 64 * 1024;
const ENDING: &str = ".json";
const ID_BYTES: usize = 8;

/// The installation that a service runs as.
pub(crate) struct Installation {
    pub secret: InstallationSecret,
    mark: Mutex<Mark>,
}

struct Mark {
    /// `None` keeps no mark outside the database.
    file: Option<PathBuf>,
    recorded: Recorded,
    /// The mark in the file, or the one it would hold if it were writable.
    tickets: i64,
}

/// The contents of an installation's file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Recorded {
    installation: String,
    secret: String,
    /// The canonical path of the data folder, used to find the file when the database is gone.
    data_dir: String,
    tickets: i64,
    /// The number of the last mail that was journalled when the file was written.
    #[serde(default)]
    mails: i64,
}

impl Recorded {
    pub(crate) fn last_ticket(&self) -> Option<String> {
        (self.tickets > 0).then(|| ticket_name(self.tickets))
    }
}

impl Installation {
    /// Reads or creates the identity of the database, and continues its ticket numbers above the mark.
    ///
    /// # Errors
    /// [`StoreError::Emptied`] if the database is empty although tickets were issued from its folder.
    pub(crate) fn establish(
        conn: &Connection,
        data_dir: &Path,
        folder: Option<&Path>,
        of_folder: Option<Recorded>,
        start_anew: bool,
    ) -> Result<Self, StoreError> {
        let stored: Option<(String, String)> = conn
            .query_row("SELECT id, secret FROM installation", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let of_database = match (folder, &stored) {
            (Some(folder), Some((id, _))) => read_file(&path(folder, id)),
            _ => None,
        };
        let files = || [&of_database, &of_folder].into_iter().flatten();
        let mark = files().map(|file| file.tickets).max().unwrap_or(0);
        let journalled = files().map(|file| file.mails).max().unwrap_or(0);
        let (last, mails) = (last_ticket(conn)?, last_mail(conn)?);
        let was_used = mark > 0 || journalled > 0;
        if mails == 0 && last == 0 && was_used && !start_anew {
            return Err(StoreError::Emptied {
                path: data_dir.to_owned(),
                last_ticket: (mark > 0).then(|| ticket_name(mark)),
            });
        }
        let (id, secret) = match (&stored, &of_folder) {
            (Some((id, secret)), _) => (id.clone(), secret.clone()),
            (None, Some(file)) => (file.installation.clone(), file.secret.clone()),
            (None, None) => (hex(&random::<ID_BYTES>()?), {
                InstallationSecret::new(random()?).encode()
            }),
        };
        let decoded = InstallationSecret::decode(&secret)
            .ok_or_else(|| StoreError::corrupt("the installation's secret"))?;
        if stored.is_none() {
            conn.execute(
                "INSERT INTO installation (id, secret) VALUES (?1, ?2)",
                (&id, &secret),
            )?;
        }
        if last < mark {
            conn.execute(
                "UPDATE sequence SET last = ?1 WHERE name = 'ticket'",
                [mark],
            )?;
            tracing::warn!(
                database = ticket_name(last),
                mark = ticket_name(mark),
                "ticket numbers continue above the mark: the database was restored, emptied or not stopped cleanly, and the numbers up to the mark may have been given out"
            );
        }
        if mails < journalled {
            tracing::warn!(
                database = mails,
                journalled,
                "the database is older than its last run: it was restored or emptied, and does not know the mails journalled since"
            );
        }
        let tickets = last.max(mark);
        let mut mark = Mark {
            file: folder.map(|folder| path(folder, &id)),
            recorded: Recorded {
                installation: id,
                secret,
                data_dir: shown(data_dir),
                tickets,
                mails,
            },
            tickets,
        };
        mark.write();
        Ok(Self {
            secret: decoded,
            mark: Mutex::new(mark),
        })
    }

    /// Raises the mark before a ticket with this number is issued.
    pub(crate) fn raise(&self, last: i64) {
        let mut mark = self.lock();
        if last > mark.tickets {
            mark.tickets = last.saturating_add(BLOCK - 1) / BLOCK * BLOCK;
            mark.write();
        }
    }

    /// Sets the mark to the last number issued, at a clean stop.
    pub(crate) fn settle(&self, conn: &Connection) -> Result<(), StoreError> {
        let (last, mails) = (last_ticket(conn)?, last_mail(conn)?);
        let mut mark = self.lock();
        if (mark.tickets, mark.recorded.mails) != (last, mails) {
            mark.tickets = last;
            mark.recorded.mails = mails;
            mark.write();
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Mark> {
        self.mark.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mark {
    /// Writes the file. A failure does not stop the service, because mail matters more than the mark: without the mark, numbers
    /// may repeat after a restore; without tickets, nothing works.
    fn write(&mut self) {
        self.recorded.tickets = self.tickets;
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec_pretty(&self.recorded)
            .map_err(io::Error::other)
            .and_then(|bytes| replace(file, &bytes));
        if let Err(error) = written {
            tracing::warn!(file = %file.display(), %error, "the ticket mark could not be written: after a restore of the database, ticket numbers could repeat. help: let postroom write this folder, or name a key file in another one: [vault] key = {{ file = \"path\" }}");
        }
    }
}

/// Returns the file of the installation that last used a data folder: the one with the highest mark, if there are several.
pub(crate) fn of_folder(folder: &Path, data_dir: &Path) -> Option<Recorded> {
    let wanted = shown(data_dir);
    let entries = fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == &ENDING[1..]))
        .filter_map(|path| read_file(&path))
        .filter(|file| file.data_dir == wanted)
        .max_by_key(|file| file.tickets)
}

fn last_mail(conn: &Connection) -> Result<i64, StoreError> {
    Ok(
        conn.query_row("SELECT coalesce(max(id), 0) FROM journal", [], |row| {
            row.get(0)
        })?,
    )
}

fn last_ticket(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn
        .prepare_cached("SELECT last FROM sequence WHERE name = 'ticket'")?
        .query_row([], |row| row.get(0))?)
}

fn path(folder: &Path, id: &str) -> PathBuf {
    folder.join(format!("{id}{ENDING}"))
}

fn shown(data_dir: &Path) -> String {
    let real = data_dir.canonicalize();
    let real = real.unwrap_or_else(|_| data_dir.to_owned());
    real.to_string_lossy().into_owned()
}

/// Returns `None` for a missing or unusable file.
fn read_file(path: &Path) -> Option<Recorded> {
    let read = || -> io::Result<Option<Recorded>> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        if !found.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
        let file: Recorded = serde_json::from_slice(&bytes)?;
        match InstallationSecret::decode(&file.secret) {
            Some(_) => Ok(Some(file)),
            None => Err(io::Error::other("its secret is not the base64 of 32 bytes")),
        }
    };
    read()
        .inspect_err(|error| {
            tracing::warn!(file = %path.display(), %error, "an installation's file cannot be used: its ticket mark does not count");
        })
        .ok()
        .flatten()
}

/// Replaces a file (mode 0600) durably. A process killed midway leaves the old file. The data folder is locked, so the
/// half-written file belongs to this process alone.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".half-written");
    let unfinished = PathBuf::from(unfinished);
    File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&unfinished, path))?;
    File::open(folder)?.sync_all()
}

fn random<const N: usize>() -> Result<[u8; N], StoreError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        StoreError::io(
            "the operating system's random bytes",
            io::Error::other(error.to_string()),
        )
    })?;
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        use std::fmt::Write;
        let _ = write!(text, "{byte:02x}");
        text
    })
}
