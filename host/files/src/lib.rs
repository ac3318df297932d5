//! Opens files that somebody else may have placed: without waiting, no device, pipe or folder, no more bytes than a
//! limit, and, if required, no symbolic link that leads out of a folder.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, renameat, unlinkat};
use rustix::io::Errno;

/// Flags for opening a folder on the path: to continue from it, which needs no right to list it.
#[cfg(target_os = "linux")]
const STEP: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const STEP: OFlags = OFlags::RDONLY;

/// Flags for opening a file to read: they do not wait for a pipe's writer, and no terminal becomes ours.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
const PRIVATE: u32 = 0o600;
const PRIVATE_FOLDER: u32 = 0o700;

/// An existing path in a folder or below it.
pub struct ConfinedPath {
    folder: PathBuf,
    /// The path from the folder, without symbolic links.
    way: PathBuf,
}

/// Why a path is not inside a folder.
#[derive(Debug)]
pub enum EscapesRoot {
    /// Its symbolic links lead out of the folder.
    Out,
    /// It does not exist or cannot be followed.
    Nowhere(io::Error),
}

/// Why a file was not read.
#[derive(Debug, Clone)]
pub enum Unread {
    Missing,
    LeadsOut,
    /// It is a folder, a pipe, a device or similar.
    NoFile,
    /// It exceeds the limit; the value is its size in bytes.
    TooLarge(u64),
    Other(String),
}

/// Opens a file that must be inside a folder, wherever its symbolic links lead; without a folder, like [`open`].
pub fn open_file(within: Option<&Path>, path: &Path) -> Result<File, Unread> {
    let Some(folder) = within else {
        return open(path);
    };
    file_only(ConfinedPath::find(folder, path)?.open()?)
}

/// Opens a file at any path, following symbolic links: a key, a secret, a mail of a spool. Never waits for the other end of
/// a pipe.
pub fn open(path: &Path) -> Result<File, Unread> {
    let opened = openat(CWD, path, READ, Mode::empty());
    file_only(File::from(opened.map_err(of_errno)?))
}

/// Reads a file at any path, following symbolic links, if it has at most `most` bytes.
pub fn read(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    read_whole(&open(path)?, most)
}

/// Reads a file that must be inside a folder, if it has at most `most` bytes.
pub fn read_within(folder: &Path, path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    read_whole(&open_file(Some(folder), path)?, most)
}

/// Reads a file named on a command line, if it has at most `most` bytes. Only here a pipe is accepted (`<(…)`), and waited
/// for.
pub fn read_argument(path: &Path, most: u64) -> Result<Vec<u8>, Unread> {
    let file = File::open(path)?;
    match file.metadata()?.is_dir() {
        true => Err(Unread::NoFile),
        false => read_whole(&file, most),
    }
}

/// Writes a file that only its owner may read, replacing an existing one; a symbolic link is replaced, not followed.
pub fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => create(path, content, PRIVATE),
    }
}

/// Writes a file that must be inside a folder. An existing file keeps its mode; a new one gets the mode of the file `like`.
pub fn write_within(folder: &Path, path: &Path, content: &[u8], like: &Path) -> io::Result<()> {
    match ConfinedPath::find(folder, path) {
        Ok(found) => found.replace(content),
        Err(EscapesRoot::Nowhere(error)) if error.kind() == io::ErrorKind::NotFound => {
            let mode = like
                .metadata()
                .map_or(PRIVATE, |about| about.mode() & 0o666);
            create(path, content, mode)
        }
        Err(astray) => Err(Unread::from(astray).into()),
    }
}

/// Creates a folder that only its owner may access, with its missing parents. An existing folder keeps its mode.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(PRIVATE_FOLDER)
        .create(path)
}

/// Returns the whole content of a file, if it has at most `most` bytes. If the file grows meanwhile, no more is read.
pub fn read_whole(file: &File, most: u64) -> Result<Vec<u8>, Unread> {
    // Allocated at once, so that growing leaves no copy of a secret behind.
    let stated = file.metadata()?.len().min(most).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(stated).unwrap_or_default());
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let read = bytes.len() as u64;
    match read > most {
        true => Err(Unread::TooLarge(file.metadata()?.len().max(read))),
        false => Ok(bytes),
    }
}

/// Makes renames and removals in a folder durable.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

impl fmt::Display for Unread {
    /// Writes the end of the sentence "the file … ".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unread::Missing => f.write_str("does not exist"),
            Unread::LeadsOut => f.write_str("is a symbolic link that leads out of the folder"),
            Unread::NoFile => f.write_str("is no file"),
            Unread::TooLarge(bytes) => write!(f, "is too large ({bytes} bytes)"),
            Unread::Other(reason) => write!(f, "cannot be read ({reason})"),
        }
    }
}

impl std::error::Error for Unread {}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Unread::Missing,
            _ => Unread::Other(error.to_string()),
        }
    }
}

impl From<Unread> for io::Error {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Missing => Self::new(io::ErrorKind::NotFound, unread),
            other => Self::other(other),
        }
    }
}

impl From<EscapesRoot> for Unread {
    fn from(astray: EscapesRoot) -> Self {
        match astray {
            EscapesRoot::Out => Unread::LeadsOut,
            EscapesRoot::Nowhere(error) => error.into(),
        }
    }
}

impl ConfinedPath {
    /// Resolves a path. Symbolic links that stay inside the folder are allowed.
    pub fn find(folder: &Path, path: &Path) -> Result<Self, EscapesRoot> {
        let real = |path: &Path| here(path).canonicalize().map_err(EscapesRoot::Nowhere);
        let (folder, path) = (real(folder)?, real(path)?);
        let way = path.strip_prefix(&folder).map_err(|_| EscapesRoot::Out)?;
        Ok(Self {
            way: way.to_owned(),
            folder,
        })
    }

    pub fn is_file(&self) -> bool {
        self.folder.join(&self.way).is_file()
    }

    /// Opens it for reading, step by step from the folder, and fails if a symbolic link has replaced a part of the path
    /// since. Never waits for the other end of a pipe.
    fn open(&self) -> io::Result<File> {
        let (folder, name) = self.last_step()?;
        open_in(&folder, name)
    }

    /// Replaces its content atomically and keeps mode and owner. Fails if a symbolic link has replaced a part of the path
    /// since.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let (folder, name) = self.last_step()?;
        let about = open_in(&folder, name)?.metadata()?;
        let mut fresh_name = OsString::from(".");
        fresh_name.push(name);
        fresh_name.push(".postroom-new");
        // Left by a process that died.
        let _ = unlinkat(&folder, &fresh_name, AtFlags::empty());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fresh = openat(&folder, &fresh_name, flags, Mode::RUSR | Mode::WUSR)?;
        let written = (|| {
            let mut fresh = File::from(fresh);
            fresh.write_all(content)?;
            // Only root can give a file away; for all others the file already has its owner.
            let _ = fchown(&fresh, Some(about.uid()), Some(about.gid()));
            fresh.set_permissions(Permissions::from_mode(about.mode()))?;
            fresh.sync_all()?;
            renameat(&folder, &fresh_name, &folder, name)?;
            let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // A folder that may not be listed becomes durable a little later.
            if let Ok(folder) = openat(&folder, ".", readable, Mode::empty()) {
                File::from(folder).sync_all()?;
            }
            Ok(())
        })();
        if written.is_err() {
            let _ = unlinkat(&folder, &fresh_name, AtFlags::empty());
        }
        written
    }

    /// Returns the folder that contains it, reached without symbolic links, and its name there.
    fn last_step(&self) -> io::Result<(OwnedFd, &OsStr)> {
        let flags = STEP | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = openat(CWD, &self.folder, flags, Mode::empty())?;
        let parents = self.way.parent().into_iter().flat_map(Path::components);
        for part in parents {
            at = openat(
                &at,
                part.as_os_str(),
                flags | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
        }
        // The folder itself counts as inside itself.
        Ok((at, self.way.file_name().unwrap_or(OsStr::new("."))))
    }
}

fn open_in(folder: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let file = openat(folder, name, READ | OFlags::NOFOLLOW, Mode::empty())?;
    Ok(File::from(file))
}

/// Creates a new file; fails if there is a file or a symbolic link.
fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)
}

fn file_only(file: File) -> Result<File, Unread> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Unread::NoFile),
    }
}

/// Converts an error. A socket cannot even be opened.
fn of_errno(error: Errno) -> Unread {
    match error {
        Errno::NXIO => Unread::NoFile,
        error => io::Error::from(error).into(),
    }
}

/// Returns the path; an empty path becomes the current folder.
pub fn here(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn no_link_leads_out_also_when_it_comes_late() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let room = at("room");
        for folder in ["room/sub", "outside"] {
            std::fs::create_dir_all(at(folder)).unwrap();
        }
        for file in ["room/a", "room/sub/b", "outside/a", "outside/b"] {
            std::fs::write(at(file), file).unwrap();
        }
        symlink("sub/b", at("room/relative")).unwrap();
        symlink(at("room/sub"), at("room/absolute")).unwrap();
        symlink(at("outside/a"), at("room/out")).unwrap();
        symlink(at("outside"), at("room/folder-out")).unwrap();
        symlink("nowhere", at("room/dangling")).unwrap();
        let find = |name: &str| ConfinedPath::find(&room, &room.join(name));
        let text = |inside: ConfinedPath| {
            let mut text = String::new();
            inside.open().unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(text(find("a").unwrap()), "room/a");
        assert_eq!(text(find("relative").unwrap()), "room/sub/b");
        assert_eq!(text(find("absolute/b").unwrap()), "room/sub/b");
        for name in ["out", "folder-out/a", "../outside/a"] {
            assert!(matches!(find(name), Err(EscapesRoot::Out)), "{name}");
        }
        for name in ["dangling", "missing"] {
            assert!(matches!(find(name), Err(EscapesRoot::Nowhere(_))), "{name}");
        }
        // Found while inside, then swapped before it is opened: the file, and a folder on the path to it.
        let (file, below) = (find("a").unwrap(), find("sub/b").unwrap());
        std::fs::rename(at("room/out"), at("room/a")).unwrap();
        std::fs::rename(at("room/sub"), at("room/old")).unwrap();
        std::fs::rename(at("room/folder-out"), at("room/sub")).unwrap();
        assert!(file.open().is_err());
        assert!(below.open().is_err());
    }

    #[test]
    fn a_file_is_replaced_where_it_lies_and_its_mode_kept() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir_all(at("room/sub")).unwrap();
        std::fs::write(at("room/sub/a"), "old").unwrap();
        std::fs::set_permissions(at("room/sub/a"), Permissions::from_mode(0o640)).unwrap();
        symlink("sub/a", at("room/link")).unwrap();
        let found = ConfinedPath::find(&at("room"), &at("room/link")).unwrap();
        found.replace(b"new").unwrap();
        assert_eq!(std::fs::read(at("room/sub/a")).unwrap(), b"new");
        assert!(at("room/link").is_symlink());
        let mode = std::fs::metadata(at("room/sub/a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        // Nothing is left in the folder, and nothing is written through a symbolic link that appeared later.
        let beside = || std::fs::read_dir(at("room/sub")).unwrap().count();
        assert_eq!(beside(), 1);
        std::fs::rename(at("room/sub/a"), at("elsewhere")).unwrap();
        symlink(at("elsewhere"), at("room/sub/a")).unwrap();
        assert!(found.replace(b"newer").is_err());
        assert_eq!(std::fs::read(at("elsewhere")).unwrap(), b"new");
        assert_eq!(beside(), 1);
    }

    #[test]
    fn only_files_are_read_and_only_up_to_their_limit() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        std::fs::write(dir.join("four"), "1234").unwrap();
        let read = |name: &str, most| {
            let file = open_file(Some(dir), &dir.join(name))?;
            read_whole(&file, most)
        };
        assert_eq!(read("four", 4).unwrap(), b"1234");
        assert!(matches!(read("four", 3), Err(Unread::TooLarge(4))));
        assert!(matches!(read("none", 3), Err(Unread::Missing)));
    }

    #[test]
    fn nothing_but_a_file_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let (inside, outside) = (dir.path().join("inside"), dir.path().join("outside"));
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(&outside, "secret").unwrap();
        let at = |name: &str| inside.join(name);
        // It has no writer.
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::RUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink(&outside, at("out")).unwrap();
        for odd in ["pipe", "socket", "zero", "."] {
            let read = super::read(&at(odd), 9);
            assert!(matches!(read, Err(Unread::NoFile)), "{odd}: {read:?}");
        }
        for (odd, is_out) in [("pipe", false), ("zero", true), ("out", true)] {
            match read_within(&inside, &at(odd), 9) {
                Err(Unread::LeadsOut) => assert!(is_out, "{odd}"),
                Err(Unread::NoFile) => assert!(!is_out, "{odd}"),
                other => panic!("{odd}: {other:?}"),
            }
        }
        // A secret may be a symbolic link: orchestrators mount secrets that way.
        assert_eq!(super::read(&at("out"), 9).unwrap(), b"secret");
        assert!(matches!(read_argument(&inside, 9), Err(Unread::NoFile)));
    }

    #[test]
    fn what_is_written_is_its_owners_alone_and_through_no_link() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode() & 0o777;
        make_private_folder(&at("a/b")).unwrap();
        assert_eq!((mode("a"), mode("a/b")), (0o700, 0o700));
        std::fs::write(at("a/open"), "old").unwrap();
        std::fs::set_permissions(at("a/open"), Permissions::from_mode(0o644)).unwrap();
        std::fs::write(at("elsewhere"), "other").unwrap();
        symlink(at("elsewhere"), at("a/link")).unwrap();
        symlink(at("nowhere"), at("a/dangling")).unwrap();
        for name in ["a/open", "a/link", "a/new"] {
            write_private(&at(name), b"mail").unwrap();
            assert_eq!(mode(name), 0o600, "{name}");
        }
        assert_eq!(std::fs::read(at("elsewhere")).unwrap(), b"other");
        std::fs::set_permissions(at("a/open"), Permissions::from_mode(0o640)).unwrap();
        let write = |name: &str| write_within(&at("a"), &at(name), b"more", &at("a/open"));
        write("a/open").unwrap();
        write("a/newer").unwrap();
        assert_eq!(mode("a/open"), 0o640);
        assert_eq!(mode("a/newer") & 0o007, 0);
        assert!(write("a/dangling").is_err());
        assert!(!at("nowhere").exists());
    }
}
