//! A command on its own terminal: its output is read as the terminal would show it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::pty::{Winsize, openpty};
use postroom_stand::wait_for;
use rustix::termios::{Termios, tcgetattr, tcsetwinsize};

use crate::PATIENCE;

/// Enough rows that nothing scrolls away.
const ROWS: u16 = 2000;
/// The number of rows reported to the command.
const SHOWN_ROWS: u16 = 24;

/// The running command; killed when dropped.
pub struct Terminal {
    child: Child,
    master: File,
    /// Kept open, so that its modes can be read after the command has ended.
    slave: OwnedFd,
    before: Termios,
    state: Arc<Mutex<State>>,
}

struct State {
    parser: vt100::Parser,
    raw: Vec<u8>,
}

impl Terminal {
    /// Starts the command as the terminal's foreground process, which Ctrl-C reaches.
    pub fn start(command: &Command, columns: u16) -> Self {
        let size = Winsize {
            ws_row: SHOWN_ROWS,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a terminal");
        let before = tcgetattr(&pty.slave).expect("the terminal's modes");
        // Makes this the command's controlling terminal, which the standard library cannot.
        let mut own = Command::new("setsid");
        own.arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args())
            .env("TERM", "xterm-256color")
            .env_remove("NO_COLOR");
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => own.env(name, value),
                None => own.env_remove(name),
            };
        }
        if let Some(folder) = command.get_current_dir() {
            own.current_dir(folder);
        }
        let end = || Stdio::from(pty.slave.try_clone().expect("the terminal's end"));
        own.stdin(end()).stdout(end()).stderr(end());
        let child = own.spawn().expect("starting postroom");
        let state = Arc::new(Mutex::new(State {
            parser: vt100::Parser::new(ROWS, columns, 0),
            raw: Vec::new(),
        }));
        let master = File::from(pty.master);
        let mut reader = master.try_clone().expect("the terminal");
        let into = state.clone();
        std::thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = reader.read(&mut chunk) {
                let mut state = into.lock().unwrap_or_else(PoisonError::into_inner);
                state.parser.process(&chunk[..read]);
                state.raw.extend_from_slice(&chunk[..read]);
            }
        });
        Self {
            child,
            master,
            slave: pty.slave,
            before,
            state,
        }
    }

    /// Returns everything shown so far.
    pub fn text(&self) -> String {
        self.state().parser.screen().contents()
    }

    /// Returns everything written so far.
    pub fn raw(&self) -> Vec<u8> {
        self.state().raw.clone()
    }

    /// Returns the rows that were too long for the terminal.
    pub fn overlong(&self) -> Vec<String> {
        let state = self.state();
        let screen = state.parser.screen();
        let (_, columns) = screen.size();
        let rows = screen.rows(0, columns).zip(0..);
        rows.filter(|(_, number)| screen.row_wrapped(*number))
            .map(|(text, _)| text)
            .collect()
    }

    /// Waits until it shows `text`.
    pub fn await_text(&self, text: &str) {
        assert!(
            wait_for(PATIENCE, || self.text().contains(text)),
            "{text:?} is not shown:\n{}",
            self.text()
        );
    }

    /// Waits until it shows `text` this many times.
    pub fn await_times(&self, text: &str, times: usize) {
        assert!(
            wait_for(PATIENCE, || self.text().matches(text).count() >= times),
            "{text:?} is not shown {times} times:\n{}",
            self.text()
        );
    }

    /// Resizes the terminal, as when a window is dragged.
    pub fn resize(&self, columns: u16) {
        let size = rustix::termios::Winsize {
            ws_row: SHOWN_ROWS,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("resizing");
        self.state().parser.screen_mut().set_size(ROWS, columns);
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Types Ctrl-C.
    pub fn interrupt(&mut self) {
        self.press(b'\x03');
    }

    /// Types one key.
    pub fn press(&mut self, key: u8) {
        self.master.write_all(&[key]).expect("typing");
    }

    /// Waits for the end of the command.
    pub fn end(&mut self) -> ExitStatus {
        let mut status = None;
        wait_for(PATIENCE, || {
            status = self.child.try_wait().expect("waiting for postroom");
            status.is_some()
        });
        status.unwrap_or_else(|| panic!("it does not end:\n{}", self.text()))
    }

    /// Returns whether the terminal is as before: its modes, colours and cursor.
    pub fn is_as_before(&self) -> bool {
        let now = tcgetattr(&self.slave).expect("the terminal's modes");
        let modes = |it: &Termios| {
            (
                it.input_modes,
                it.output_modes,
                it.control_modes,
                it.local_modes,
            )
        };
        let state = self.state();
        let screen = state.parser.screen();
        modes(&now) == modes(&self.before)
            && !screen.hide_cursor()
            && !screen.alternate_screen()
            && screen.fgcolor() == vt100::Color::Default
            && !screen.bold()
            && !screen.dim()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
