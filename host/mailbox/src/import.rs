//! Reads mail from files for an import: mbox, maildir, a folder of `.eml` files or a single mail, one at a time.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::BEGINNING_BYTES;
use crate::spool::{is_mail_name, read_limited};

/// One mail from a file.
#[derive(Debug, Clone)]
pub struct ImportedMail {
    /// The file's name; for an mbox followed by `#` and the mail's number in it, counted from 1.
    pub name: String,
    /// The mail, or its beginning if it is over the raw limit.
    pub bytes: Bytes,
    /// Its true size in bytes.
    pub size: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{}: a folder without mail: neither a maildir (new, cur) nor .eml files", path.display())]
    NoMail { path: PathBuf },
}

/// Returns the mails at a path, read one at a time. A folder is a maildir or contains `.eml` files; a file that begins with
/// `From ` is an mbox; any other file is one mail. Only the beginning is kept of mails over `raw_bytes`.
pub fn open(path: &Path, raw_bytes: u64) -> Result<ImportedMails, ImportError> {
    let at = |source| ImportError::File {
        path: path.to_owned(),
        source,
    };
    let kind = if fs::metadata(path).map_err(at)?.is_dir() {
        let mut files = Vec::new();
        for (folder, maildir) in [
            (path.to_owned(), false),
            (path.join("new"), true),
            (path.join("cur"), true),
        ] {
            if maildir && !folder.is_dir() {
                continue;
            }
            for entry in fs::read_dir(&folder).map_err(at)? {
                let entry = entry.map_err(at)?;
                let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
                if is_file && is_mail_name(&entry.file_name(), maildir) {
                    files.push(entry.path());
                }
            }
        }
        if files.is_empty() && !path.join("cur").is_dir() {
            return Err(ImportError::NoMail {
                path: path.to_owned(),
            });
        }
        files.sort_unstable_by(|a, b| b.cmp(a));
        Kind::Files(files)
    } else {
        let mut reader = BufReader::with_capacity(READ_BYTES, open_file(path).map_err(at)?);
        if reader.fill_buf().map_err(at)?.starts_with(FROM) {
            Kind::Mbox(Mbox::new(path, reader))
        } else {
            Kind::Files(vec![path.to_owned()])
        }
    };
    Ok(ImportedMails { kind, raw_bytes })
}

/// The mails of one path. See [`open`].
pub struct ImportedMails {
    kind: Kind,
    raw_bytes: u64,
}

impl ImportedMails {
    /// Returns the total size of the unread files, as far as it is known.
    pub fn bytes(&self) -> u64 {
        let size = |path: &PathBuf| fs::metadata(path).map_or(0, |it| it.len());
        match &self.kind {
            Kind::Files(files) => files.iter().map(size).sum(),
            Kind::Mbox(mbox) => size(&mbox.path),
        }
    }
}

impl Iterator for ImportedMails {
    type Item = Result<ImportedMail, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.kind {
            Kind::Files(files) => files.pop().map(|path| read_file(path, self.raw_bytes)),
            Kind::Mbox(mbox) => mbox.next(self.raw_bytes),
        }
    }
}

enum Kind {
    /// In reverse order.
    Files(Vec<PathBuf>),
    Mbox(Mbox<BufReader<File>>),
}

const READ_BYTES: usize = 64 * 1024;
const FROM: &[u8] = b"From ";

/// Opens a path that must be a file: an import has to end, which a device or a pipe may not.
fn open_file(path: &Path) -> io::Result<File> {
    postroom_files::open(path).map_err(io::Error::from)
}

fn read_file(path: PathBuf, raw_bytes: u64) -> Result<ImportedMail, ImportError> {
    let read = || {
        let file = open_file(&path)?;
        let stated = file.metadata()?.len();
        read_limited(file, stated, raw_bytes)
    };
    match read() {
        Ok((bytes, size)) => Ok(ImportedMail {
            name: path.display().to_string(),
            bytes: bytes.into(),
            size,
        }),
        Err(source) => Err(ImportError::File { path, source }),
    }
}

/// An mbox (RFC 4155) with `>From ` quoting, read line by line.
struct Mbox<R> {
    path: PathBuf,
    reader: R,
    number: u64,
    /// Whether the next mail's separator has been read already.
    begun: bool,
    ended: bool,
}

impl<R: BufRead> Mbox<R> {
    fn new(path: &Path, reader: R) -> Self {
        Self {
            path: path.to_owned(),
            reader,
            number: 0,
            begun: false,
            ended: false,
        }
    }

    fn next(&mut self, raw_bytes: u64) -> Option<Result<ImportedMail, ImportError>> {
        if self.ended {
            return None;
        }
        let outcome = self.read_mail(raw_bytes);
        if outcome.is_err() {
            self.ended = true;
        }
        outcome
            .map_err(|source| ImportError::File {
                path: self.path.clone(),
                source,
            })
            .transpose()
    }

    fn read_mail(&mut self, raw_bytes: u64) -> io::Result<Option<ImportedMail>> {
        let mut mail = Gathered::new(raw_bytes);
        // The blank line before a separator belongs to it, not to the mail.
        let mut blank: Vec<u8> = Vec::new();
        let mut after_blank = !self.begun;
        let mut line_start = true;
        let mut piece = Vec::new();
        loop {
            piece.clear();
            // An endless line is read in pieces.
            let limited = &mut io::Read::take(&mut self.reader, READ_BYTES as u64);
            if limited.read_until(b'\n', &mut piece)? == 0 {
                self.ended = true;
                break;
            }
            let starts = std::mem::replace(&mut line_start, piece.ends_with(b"\n"));
            if starts
                && after_blank
                && piece.starts_with(FROM)
                && (self.number == 0 || is_separator(&piece))
            {
                let first = !self.begun && self.number == 0;
                self.begun = true;
                if first {
                    self.number = 1;
                    after_blank = false;
                    // The rest of an overlong separator line is dropped with it.
                    while !line_start {
                        piece.clear();
                        let limited = &mut io::Read::take(&mut self.reader, READ_BYTES as u64);
                        line_start =
                            limited.read_until(b'\n', &mut piece)? == 0 || piece.ends_with(b"\n");
                    }
                    continue;
                }
                let done = mail.into_mail(&self.path, self.number);
                self.number += 1;
                return Ok(Some(done));
            }
            mail.add(&blank);
            blank.clear();
            after_blank = starts && matches!(piece.as_slice(), b"\n" | b"\r\n");
            if after_blank {
                blank.extend_from_slice(&piece);
            } else if starts && piece.starts_with(b">") && unquoted(&piece).starts_with(FROM) {
                mail.add(&piece[1..]);
            } else {
                mail.add(&piece);
            }
        }
        Ok(self.begun.then(|| mail.into_mail(&self.path, self.number)))
    }
}

/// Returns the line without the `>`s before it.
fn unquoted(line: &[u8]) -> &[u8] {
    let quotes = line.iter().take_while(|b| **b == b'>').count();
    &line[quotes..]
}

/// Returns whether a line that begins with `From ` ends in a date, as separators do: a time of day and a year. Old programs
/// left such lines of a mail's text unquoted.
fn is_separator(line: &[u8]) -> bool {
    let digits = |word: &[u8]| word.iter().all(u8::is_ascii_digit);
    let is_time = |word: &[u8]| {
        let parts: Vec<&[u8]> = word.split(|b| *b == b':').collect();
        (2..=3).contains(&parts.len())
            && parts
                .iter()
                .all(|p| (1..=2).contains(&p.len()) && digits(p))
    };
    let words = || line.split(u8::is_ascii_whitespace);
    words().any(is_time) && words().any(|word| word.len() == 4 && digits(word))
}

/// A mail's bytes as they are read, bounded.
struct Gathered {
    bytes: Vec<u8>,
    size: u64,
    raw_bytes: u64,
}

impl Gathered {
    fn new(raw_bytes: u64) -> Self {
        Self {
            bytes: Vec::new(),
            size: 0,
            raw_bytes,
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        self.size += bytes.len() as u64;
        if self.size <= self.raw_bytes {
            self.bytes.extend_from_slice(bytes);
        } else if self.bytes.len() as u64 > BEGINNING_BYTES {
            self.bytes.truncate(BEGINNING_BYTES as usize);
            self.bytes.shrink_to_fit();
        }
    }

    fn into_mail(self, path: &Path, number: u64) -> ImportedMail {
        ImportedMail {
            name: format!("{}#{number}", path.display()),
            bytes: self.bytes.into(),
            size: self.size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mbox(text: &[u8], raw_bytes: u64) -> Vec<ImportedMail> {
        let mut mbox = Mbox::new(Path::new("m"), text);
        std::iter::from_fn(|| mbox.next(raw_bytes))
            .map(Result::unwrap)
            .collect()
    }

    fn bodies(text: &str) -> Vec<String> {
        mbox(text.as_bytes(), 1 << 20)
            .into_iter()
            .map(|mail| String::from_utf8(mail.bytes.to_vec()).unwrap())
            .collect()
    }

    const A: &str = "From a@example Thu Jan  1 00:00:00 1970\n";

    #[test]
    fn mails_are_cut_and_unquoted() {
        assert_eq!(
            bodies(&format!("{A}S: 1\n\none\n\n{A}S: 2\n\ntwo\n")),
            ["S: 1\n\none\n", "S: 2\n\ntwo\n"]
        );
        assert_eq!(
            bodies(&format!("{A}S: 1\n\n>From x\n>>From y\n>Frost\n")),
            ["S: 1\n\nFrom x\n>From y\n>Frost\n"]
        );
        // A line of text, not a separator: no date, or not after a blank line.
        let text = format!("{A}S: 1\n\nFrom here on 12 men\nx\n{A}end\n");
        assert_eq!(bodies(&text), [text[A.len()..].to_owned()]);
        assert_eq!(bodies(&format!("{A}\r\n{A}")), ["", ""]);
        assert_eq!(bodies("From x\nS: 1\n\n\n\nend"), ["S: 1\n\n\n\nend"]);
        assert_eq!(bodies(A), [""]);
        assert_eq!(bodies("From x"), [""]);
        assert_eq!(mbox(format!("{A}a\n\n{A}b").as_bytes(), 99)[1].name, "m#2");
    }

    #[test]
    fn a_huge_mail_in_one_line_is_cut() {
        let mut text = A.as_bytes().to_vec();
        text.extend(std::iter::repeat_n(b'x', 1_000_000));
        text.extend_from_slice(format!("\n\n{A}small\n").as_bytes());
        let mails = mbox(&text, 500_000);
        assert_eq!(mails.len(), 2);
        assert_eq!(
            (mails[0].bytes.len() as u64, mails[0].size),
            (BEGINNING_BYTES, 1_000_001)
        );
        assert_eq!(&mails[1].bytes[..], b"small\n");
        let mut separator = b"From ".to_vec();
        separator.extend(std::iter::repeat_n(b'y', 200_000));
        separator.extend_from_slice(b"\nrest\n");
        assert_eq!(&mbox(&separator, 500_000)[0].bytes[..], b"rest\n");
    }

    #[test]
    fn every_kind_is_recognised() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        };
        write("box", &format!("{A}one\n\n{A}two\n"));
        write("one.eml", "Subject: x\n");
        write("maildir/new/1.host", "n");
        write("maildir/cur/2.host:2,S", "c");
        write("maildir/tmp/3.host", "t");
        write("folder/b.eml", "b");
        write("folder/a.eml", "a");
        write("folder/other.txt", "o");
        write("empty/x.txt", "o");
        let read = |name: &str| -> Vec<String> {
            open(&root.path().join(name), 99)
                .unwrap()
                .map(|mail| String::from_utf8(mail.unwrap().bytes.to_vec()).unwrap())
                .collect()
        };
        assert_eq!(read("box"), ["one\n", "two\n"]);
        assert_eq!(read("one.eml"), ["Subject: x\n"]);
        assert_eq!(read("maildir"), ["c", "n"]);
        assert_eq!(read("folder"), ["a", "b"]);
        assert!(matches!(
            open(&root.path().join("empty"), 99),
            Err(ImportError::NoMail { .. })
        ));
        assert!(matches!(
            open(&root.path().join("nowhere"), 99),
            Err(ImportError::File { .. })
        ));
    }
}
