//! A command that a person interacts with: its output is read while it runs, and lines can be typed.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use postroom_stand::wait_for;

use crate::running::signal;
use crate::{PATIENCE, Room};

/// The running command; killed when dropped.
pub struct Session<'r, 's> {
    room: &'r Room<'s>,
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Stream,
    stderr: Stream,
}

/// The output so far.
struct Stream {
    text: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl<'r, 's> Session<'r, 's> {
    pub(crate) fn start(room: &'r Room<'s>, args: &[&str]) -> Self {
        let mut command = room.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("starting postroom");
        Self {
            room,
            stdin: child.stdin.take(),
            stdout: Stream::of(child.stdout.take().expect("a pipe")),
            stderr: Stream::of(child.stderr.take().expect("a pipe")),
            child,
        }
    }

    /// Returns the URL that it printed on a separate line, to be opened in a browser.
    pub fn address(&self) -> String {
        self.await_line("an address", |line| line.starts_with("https://"))
    }

    /// Returns the code that it printed on a separate line, to be typed on a device's page.
    pub fn user_code(&self) -> String {
        self.await_line("a code", |line| {
            let mut halves = line.split('-');
            let mut half = || {
                halves.next().is_some_and(|half| {
                    half.len() == 4 && half.bytes().all(|byte| byte.is_ascii_uppercase())
                })
            };
            half() && half() && line.len() == 9
        })
    }

    fn await_line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut found = None;
        wait_for(PATIENCE, || {
            let text = self.stdout.so_far();
            // Up to the last complete line.
            let (whole, _) = text.rsplit_once('\n').unwrap_or_default();
            found = whole.lines().find(|line| fits(line)).map(str::to_owned);
            found.is_some() || self.stdout.has_ended()
        });
        found.unwrap_or_else(|| {
            panic!(
                "it printed no line with {what}:\n{}{}",
                self.stdout.so_far(),
                self.stderr.so_far()
            )
        })
    }

    pub fn stdout_so_far(&self) -> String {
        self.stdout.so_far()
    }

    /// Waits until stderr contains `text`.
    pub fn await_stderr(&self, text: &str) {
        let said = || self.stderr.so_far().contains(text);
        assert!(
            wait_for(PATIENCE, || said() || self.stderr.has_ended()) && said(),
            "{text:?} was not said:\n{}",
            self.stderr.so_far()
        );
    }

    /// Types a line.
    pub fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("an open stdin");
        writeln!(stdin, "{line}").expect("typing a line");
    }

    /// Sends Ctrl-C.
    pub fn interrupt(&self) {
        signal(self.child.id(), rustix::process::Signal::INT);
    }

    /// Waits for the end of the command; stdin stays open until then.
    pub fn end(mut self) -> Output {
        let mut status: Option<ExitStatus> = None;
        wait_for(PATIENCE, || {
            status = self.child.try_wait().expect("waiting for postroom");
            status.is_some()
        });
        let Some(status) = status else {
            panic!(
                "it does not end:\n{}{}",
                self.stdout.so_far(),
                self.stderr.so_far()
            );
        };
        let output = Output {
            status,
            stdout: self.stdout.whole(),
            stderr: self.stderr.whole(),
        };
        self.room.keep_output(&output);
        output
    }
}

impl Drop for Session<'_, '_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Stream {
    fn of(mut pipe: impl Read + Send + 'static) -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let into = text.clone();
        let reader = std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut chunk) {
                let mut text = into.lock().unwrap_or_else(PoisonError::into_inner);
                text.extend_from_slice(&chunk[..read]);
            }
        });
        Self {
            text,
            reader: Some(reader),
        }
    }

    fn so_far(&self) -> String {
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&text).into_owned()
    }

    fn has_ended(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    fn whole(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            reader.join().expect("reading an output");
        }
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        text.clone()
    }
}
