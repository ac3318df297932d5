//! Files that must lie in a folder: where a path leads, links followed, and reading it so that no link swapped in meanwhile leads out.

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, open, openat, renameat, unlinkat};

/// How a folder on the way is opened: to go on from it, which needs no right to list it.
#[cfg(target_os = "linux")]
const STEP: OFlags = OFlags::PATH;
#[cfg(not(target_os = "linux"))]
const STEP: OFlags = OFlags::RDONLY;

/// Something that is there, in a folder or below it.
pub struct Inside {
    folder: PathBuf,
    /// From the folder on, without links.
    way: PathBuf,
}

/// Why a path is none inside a folder.
#[derive(Debug)]
pub enum Astray {
    /// Its links lead out.
    Out,
    /// It leads nowhere.
    Nowhere(io::Error),
}

/// Why a file was not read.
#[derive(Debug, Clone)]
pub enum Unread {
    Missing,
    LeadsOut,
    /// A folder, a pipe or the like.
    NoFile,
    /// It has so many bytes.
    TooLarge(u64),
    Other(String),
}

/// Opens a file that must lie in a folder, wherever its links lead; one that may lie anywhere without a folder.
pub fn open_file(within: Option<&Path>, path: &Path) -> Result<File, Unread> {
    let file = match within {
        Some(folder) => Inside::find(folder, path)?.open()?,
        None => File::open(path)?,
    };
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(Unread::NoFile),
    }
}

/// All that a file holds, if that is no more than so many bytes. A file that grows meanwhile is not read further.
pub fn read_whole(file: &File, most: u64) -> Result<Vec<u8>, Unread> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    let read = bytes.len() as u64;
    match read > most {
        true => Err(Unread::TooLarge(file.metadata()?.len().max(read))),
        false => Ok(bytes),
    }
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Unread::Missing,
            _ => Unread::Other(error.to_string()),
        }
    }
}

impl From<Astray> for Unread {
    fn from(astray: Astray) -> Self {
        match astray {
            Astray::Out => Unread::LeadsOut,
            Astray::Nowhere(error) => error.into(),
        }
    }
}

impl Inside {
    /// Follows a path. Links that stay in the folder are as good as files.
    pub fn find(folder: &Path, path: &Path) -> Result<Self, Astray> {
        let real = |path: &Path| here(path).canonicalize().map_err(Astray::Nowhere);
        let (folder, path) = (real(folder)?, real(path)?);
        let way = path.strip_prefix(&folder).map_err(|_| Astray::Out)?;
        Ok(Self {
            way: way.to_owned(),
            folder,
        })
    }

    pub fn is_file(&self) -> bool {
        self.folder.join(&self.way).is_file()
    }

    /// Opens it for reading, step by step from the folder, and fails where a link has come into the way since. Never waits for
    /// the other end of a pipe.
    fn open(&self) -> io::Result<File> {
        let (folder, name) = self.last_step()?;
        open_in(&folder, name)
    }

    /// Replaces its content at once, mode and owner kept: who reads it meanwhile has the old or the new. Fails where a link has
    /// come into the way since.
    pub fn replace(&self, content: &[u8]) -> io::Result<()> {
        let (folder, name) = self.last_step()?;
        let about = open_in(&folder, name)?.metadata()?;
        let mut fresh_name = OsString::from(".");
        fresh_name.push(name);
        fresh_name.push(".postroom-new");
        // What a process left that died meanwhile.
        let _ = unlinkat(&folder, &fresh_name, AtFlags::empty());
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fresh = openat(&folder, &fresh_name, flags, Mode::RUSR | Mode::WUSR)?;
        let written = (|| {
            let mut fresh = File::from(fresh);
            fresh.write_all(content)?;
            // Only root may give a file away, and for everybody else it is theirs already.
            let _ = fchown(&fresh, Some(about.uid()), Some(about.gid()));
            fresh.set_permissions(Permissions::from_mode(about.mode()))?;
            fresh.sync_all()?;
            renameat(&folder, &fresh_name, &folder, name)?;
            let readable = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            // A folder that may not be listed is on disk a little later.
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

    /// The folder that it lies in, reached without links, and its name there.
    fn last_step(&self) -> io::Result<(OwnedFd, &OsStr)> {
        let flags = STEP | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut at = open(&self.folder, flags, Mode::empty())?;
        let parents = self.way.parent().into_iter().flat_map(Path::components);
        for part in parents {
            at = openat(
                &at,
                part.as_os_str(),
                flags | OFlags::NOFOLLOW,
                Mode::empty(),
            )?;
        }
        // The folder itself is in itself.
        Ok((at, self.way.file_name().unwrap_or(OsStr::new("."))))
    }
}

fn open_in(folder: &OwnedFd, name: &OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = openat(folder, name, flags | OFlags::NOFOLLOW, Mode::empty())?;
    Ok(File::from(file))
}

/// The path, where an empty one is the folder we are in.
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
        let find = |name: &str| Inside::find(&room, &room.join(name));
        let text = |inside: Inside| {
            let mut text = String::new();
            inside.open().unwrap().read_to_string(&mut text).unwrap();
            text
        };
        assert_eq!(text(find("a").unwrap()), "room/a");
        assert_eq!(text(find("relative").unwrap()), "room/sub/b");
        assert_eq!(text(find("absolute/b").unwrap()), "room/sub/b");
        for name in ["out", "folder-out/a", "../outside/a"] {
            assert!(matches!(find(name), Err(Astray::Out)), "{name}");
        }
        for name in ["dangling", "missing"] {
            assert!(matches!(find(name), Err(Astray::Nowhere(_))), "{name}");
        }
        // Found while it was inside, and swapped before it is opened: the file, and a folder on the way to it.
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
        let found = Inside::find(&at("room"), &at("room/link")).unwrap();
        found.replace(b"new").unwrap();
        assert_eq!(std::fs::read(at("room/sub/a")).unwrap(), b"new");
        assert!(at("room/link").is_symlink());
        let mode = std::fs::metadata(at("room/sub/a")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o640);
        // Nothing is left beside it, and nothing is written through a link that came late.
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
        // Nobody will ever write into it.
        rustix::fs::mkfifoat(rustix::fs::CWD, dir.join("pipe"), Mode::RUSR).unwrap();
        for odd in ["pipe", "."] {
            assert!(matches!(read(odd, 3), Err(Unread::NoFile)), "{odd}");
        }
    }
}
