//! The protocol log of a mailbox: its conversation with the server, without secrets and mails, in a file that is rotated by size.
//!
//! Lines are written by the thread that records them: each is one short write to the page cache, and only mailboxes that ask for
//! a log have one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use postroom_core::Clock;
use postroom_net::Trace;
use postroom_net::trace::Side;

/// The folder of all protocol logs, within the data folder.
const FOLDER: &str = "logs";
/// The number of older files that are kept; `NAME.log.1` is the newest of them.
const ROTATED: u32 = 3;
/// The mode of the files: only the service's account can read them, since they hold addresses and folder names.
const PRIVATE: u32 = 0o600;

/// The log file of one mailbox, opened when its first line is written.
pub struct ProtocolLog {
    mailbox: String,
    path: PathBuf,
    bytes_max: u64,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    open: Option<(File, u64)>,
    /// Whether the last line could not be written, which has been logged.
    failed: bool,
}

impl ProtocolLog {
    /// Creates a log. A file is rotated before it exceeds `bytes_max`.
    pub fn new(data_dir: &Path, mailbox: &str, bytes_max: u64, clock: Clock) -> Self {
        Self {
            mailbox: mailbox.into(),
            path: data_dir.join(FOLDER).join(format!("{mailbox}.log")),
            bytes_max,
            clock,
            state: Mutex::default(),
        }
    }

    /// Returns the trace whose lines are written to the file.
    pub fn trace(self) -> Trace {
        Trace::to(move |side, text| self.record(side, text))
    }

    /// Writes a line. One that cannot be written is lost, because mail does not wait for it.
    fn record(&self, side: Side, text: &str) {
        let line = format!("{:.3} {side} {text}\n", self.clock.now());
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let written = self.write(&mut state.open, line.as_bytes());
        if let Err(error) = &written {
            state.open = None;
            if !state.failed {
                tracing::warn!(mailbox = %self.mailbox, path = %self.path.display(), %error,
                    "the protocol log cannot be written; its lines are lost until it can");
            }
        }
        state.failed = written.is_err();
    }

    fn write(&self, open: &mut Option<(File, u64)>, line: &[u8]) -> io::Result<()> {
        let (mut file, mut size) = match open.take() {
            Some(open) => open,
            None => self.open()?,
        };
        let len = line.len() as u64;
        if size > 0 && size.saturating_add(len) > self.bytes_max {
            drop(file);
            self.rotate()?;
            (file, size) = self.open()?;
        }
        file.write_all(line)?;
        *open = Some((file, size + len));
        Ok(())
    }

    fn open(&self) -> io::Result<(File, u64)> {
        if let Some(folder) = self.path.parent() {
            postroom_files::make_private_folder(folder)?;
        }
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(PRIVATE)
            .open(&self.path)?;
        let size = file.metadata()?.len();
        Ok((file, size))
    }

    fn rotate(&self) -> io::Result<()> {
        for number in (1..=ROTATED).rev() {
            let from = match number {
                1 => self.path.clone(),
                _ => self.rotated(number - 1),
            };
            match fs::rename(&from, self.rotated(number)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                renamed => renamed?,
            }
        }
        Ok(())
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!(".{number}"));
        path.into()
    }
}

#[cfg(test)]
mod tests;
