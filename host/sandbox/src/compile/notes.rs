//! Notes on components that failed to compile, as small files in the folder of the compiled code.
//!
//! A note is written before a component is compiled and removed on success, so a crash of the process or the machine leaves
//! a note too.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

/// The extension of a note.
pub(crate) const EXTENSION: &str = "note";
/// The size limit of a note, which is a word and a number.
const NOTE_BYTES: u64 = 64;

/// The folder of notes; without a folder no notes are kept.
pub(super) struct Notes(Option<PathBuf>);

/// The content of a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Note {
    /// The number of attempts that started and did not finish.
    Unfinished(u32),
    /// It needs more than this many bytes.
    Memory(usize),
    /// It takes more CPU time than this.
    Time(Duration),
}

impl Notes {
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self(folder)
    }

    /// Returns the note on a component; `None` for an unreadable one.
    pub(super) fn read(&self, key: &str) -> Option<Note> {
        let file = File::open(self.path(key)?).ok()?;
        let mut text = String::new();
        file.take(NOTE_BYTES).read_to_string(&mut text).ok()?;
        Note::parse(&text)
    }

    /// Writes a note durably, or removes it. If the folder cannot be written, the only cost is an attempt at the next
    /// start.
    pub(super) fn write(&self, key: &str, note: Option<Note>) {
        let Some(path) = self.path(key) else { return };
        let written = match note {
            Some(note) => OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| {
                    file.write_all(note.text().as_bytes())?;
                    file.sync_all()
                }),
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
                removed => removed,
            },
        };
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the note about compiling a component could not be written");
        }
    }

    /// Returns the path of a note. Each version of the program has its own notes.
    fn path(&self, key: &str) -> Option<PathBuf> {
        let version = env!("CARGO_PKG_VERSION");
        let folder = self.0.as_ref()?;
        Some(folder.join(format!("{key}-{version}.{EXTENSION}")))
    }
}

impl Note {
    fn text(self) -> String {
        match self {
            Note::Unfinished(times) => format!("unfinished {times}"),
            Note::Memory(bytes) => format!("memory {bytes}"),
            Note::Time(time) => format!("time {}", time.as_millis()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let (word, number) = text.split_once(' ')?;
        Some(match word {
            "unfinished" => Note::Unfinished(number.parse().ok()?),
            "memory" => Note::Memory(number.parse().ok()?),
            "time" => Note::Time(Duration::from_millis(number.parse().ok()?)),
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_outlives_the_process_until_it_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        for note in [
            Note::Unfinished(2),
            Note::Memory(1 << 30),
            Note::Time(Duration::from_millis(1500)),
        ] {
            Notes::new(Some(dir.path().into())).write("a", Some(note));
            let notes = Notes::new(Some(dir.path().into()));
            assert_eq!(notes.read("a"), Some(note));
            assert_eq!(notes.read("b"), None);
            notes.write("a", None);
            notes.write("a", None);
            assert_eq!(notes.read("a"), None);
        }
        let file = dir
            .path()
            .join(format!("a-{}.note", env!("CARGO_PKG_VERSION")));
        std::fs::write(file, "nonsense").unwrap();
        assert_eq!(Notes::new(Some(dir.path().into())).read("a"), None);
    }
}
