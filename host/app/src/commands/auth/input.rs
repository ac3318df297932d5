//! Reads lines from stdin while the program waits for something else; reading ends with the wait.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// The longest line; a pasted URL is shorter.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// The interval of checks whether the lines are still needed.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The lines of stdin, until it ends.
pub struct Lines {
    lines: mpsc::Receiver<String>,
    /// Ends the reading when dropped; the runtime waits for that.
    _stop: DropGuard,
}

impl Lines {
    /// Starts to read. Needs a runtime.
    pub fn of_stdin() -> Self {
        Self::of(std::io::stdin())
    }

    fn of(input: impl AsFd + Send + 'static) -> Self {
        let (sender, lines) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::task::spawn_blocking(move || read(&input, &sender, &stopped));
        Self {
            lines,
            _stop: stop.drop_guard(),
        }
    }

    /// Returns the next line without its end; `None` if there will be no more.
    pub async fn next(&mut self) -> Option<String> {
        self.lines.recv().await
    }
}

fn read(input: &impl AsFd, lines: &mpsc::Sender<String>, stop: &CancellationToken) {
    let wait = Timespec {
        tv_sec: 0,
        tv_nsec: i64::from(LOOK_EVERY.subsec_nanos()),
    };
    let mut line = Vec::new();
    let mut chunk = [0; 4096];
    while !stop.is_cancelled() {
        let mut polled = [PollFd::new(input, PollFlags::IN)];
        match poll(&mut polled, Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(_) => break,
        }
        let read = match rustix::io::read(input, &mut chunk) {
            Ok(0) | Err(_) => break,
            Ok(read) => read,
        };
        for byte in &chunk[..read] {
            if *byte != b'\n' {
                // The rest of a line that is too long for a URL is skipped.
                if line.len() < LINE_BYTES_MAX {
                    line.push(*byte);
                }
            } else if lines.blocking_send(text(&mut line)).is_err() {
                return;
            }
        }
    }
    if !line.is_empty() && !stop.is_cancelled() {
        // Nothing waits any more: the line is not needed.
        let _ = lines.blocking_send(text(&mut line));
    }
}

fn text(line: &mut Vec<u8>) -> String {
    String::from_utf8_lossy(&std::mem::take(line))
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn lines_come_one_by_one_and_the_last_needs_no_end() {
        runtime().block_on(async {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut lines = Lines::of(reader);
            writer.write_all(b"first\r\n\nlast").unwrap();
            drop(writer);
            for expected in [Some("first"), Some(""), Some("last"), None] {
                assert_eq!(lines.next().await.as_deref(), expected);
            }
        });
    }

    #[test]
    fn an_open_pipe_holds_nobody_up() {
        let (reader, writer) = std::io::pipe().unwrap();
        let runtime = runtime();
        runtime.block_on(async { drop(Lines::of(reader)) });
        // Waits for the reader.
        drop(runtime);
        drop(writer);
    }

    #[test]
    fn an_endless_line_is_cut() {
        runtime().block_on(async {
            let (reader, mut writer) = std::io::pipe().unwrap();
            let mut lines = Lines::of(reader);
            let writing = std::thread::spawn(move || {
                writer.write_all(&vec![b'a'; 3 * LINE_BYTES_MAX]).unwrap();
                writer.write_all(b"\nnext\n").unwrap();
            });
            assert_eq!(
                lines.next().await.map(|line| line.len()),
                Some(LINE_BYTES_MAX)
            );
            assert_eq!(lines.next().await.as_deref(), Some("next"));
            writing.join().unwrap();
        });
    }
}
