//! The view: complete lines that scroll, from any part of the service. A paused terminal blocks nothing.

use std::io::{Write, stdout};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use jiff::tz::TimeZone;
use postroom_core::Clock;

use crate::commands::screen::{Ink, Line, Screen};

/// The width of the left column, with the time or the step.
const GUTTER: usize = 8;
/// The column at which everything else begins.
pub const HANG: usize = GUTTER + 2;
/// The number of mails or saves kept while the terminal is paused (Ctrl-S); further ones are counted.
const WAITING: usize = 1000;

/// The view, which shows all events.
pub struct View {
    out: Mutex<Out>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Out {
    /// `None` once it is closed.
    writes: Option<SyncSender<String>>,
    /// Whether the last line was blank, or there was none.
    blank: bool,
    /// The number of events lost since the last one that was shown.
    lost: usize,
}

impl View {
    pub fn new() -> std::io::Result<Self> {
        let (writes, to_write) = sync_channel(WAITING);
        let writer = Builder::new()
            .name("view".into())
            .spawn(move || write(&to_write))?;
        Ok(Self {
            out: Mutex::new(Out {
                writes: Some(writes),
                blank: true,
                lost: 0,
            }),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Shows lines together. Never waits.
    pub fn show(&self, lines: impl FnOnce(&Screen) -> Vec<Line>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = Screen::of(&stdout());
        let mut text = String::new();
        if out.lost > 0 {
            let lost = format!("… {} not shown because the terminal was paused", out.lost);
            text.push_str(&now().with(Ink::Dim, lost).shown(&screen));
        }
        for line in lines(&screen) {
            // Two blank lines in a row are written as one.
            if !(line.is_blank() && out.blank) {
                text.push_str(&line.shown(&screen));
            }
            out.blank = line.is_blank();
        }
        let Some(writes) = &out.writes else {
            return;
        };
        match writes.try_send(text) {
            Err(TrySendError::Full(_)) => out.lost += 1,
            // A closed output is no reason to stop the service.
            Ok(()) | Err(TrySendError::Disconnected(_)) => out.lost = 0,
        }
    }

    /// Waits until everything is shown, and shows nothing further.
    pub fn close(&self) {
        self.out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .writes = None;
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            writer
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    }
}

/// Writes to the terminal. Ends when there are no more senders, or no reader.
fn write(to_write: &Receiver<String>) {
    let mut stdout = stdout();
    for text in to_write {
        let written = stdout.write_all(text.as_bytes());
        if written.and_then(|()| stdout.flush()).is_err() {
            return;
        }
    }
}

/// Returns a line that begins with the time.
pub fn now() -> Line {
    let time = Clock::system().now().to_zoned(TimeZone::system());
    let time = time.strftime("%H:%M:%S").to_string();
    labelled(Ink::Dim, &time)
}

/// Returns a line that begins with a word.
pub fn labelled(ink: Ink, label: &str) -> Line {
    Line::new()
        .with(ink, format!("{label:>GUTTER$}"))
        .with(Ink::Plain, "  ")
}

/// Returns a line below one that begins with a word.
pub fn below() -> Line {
    labelled(Ink::Plain, "")
}
