//! A `postroom run` in the background, with its log.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command};

use postroom_stand::wait_for;

use crate::PATIENCE;

/// A running `postroom run`; killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts a command that appends to `log`.
    pub(crate) fn start(command: &mut Command, log: PathBuf) -> Self {
        let child = command.spawn().expect("starting postroom");
        Self { child, log }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the log contains `text`.
    pub fn await_log(&self, text: &str) {
        assert!(
            wait_for(PATIENCE, || self.log().contains(text)),
            "{text:?} is not in the log:\n{}",
            self.log()
        );
    }

    /// Returns the log's lines with this level that contain `text`.
    pub fn lines(&self, level: &str, text: &str) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| {
            let words: Vec<&str> = line.split_whitespace().take(2).collect();
            words.get(1) == Some(&level) && line.contains(text)
        });
        lines.map(str::to_owned).collect()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the local ports of its open connections to a port of this machine: a session that is lost and made again has another.
    pub fn connections_to(&self, port: u16) -> BTreeSet<u16> {
        let proc = PathBuf::from(format!("/proc/{}", self.pid()));
        let sockets: BTreeSet<String> = std::fs::read_dir(proc.join("fd"))
            .expect("the descriptors of postroom")
            .filter_map(|it| std::fs::read_link(it.ok()?.path()).ok())
            .filter_map(|it| {
                let name = it.to_string_lossy().into_owned();
                Some(name.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())
            })
            .collect();
        let mut ports = BTreeSet::new();
        for table in ["net/tcp", "net/tcp6"] {
            let table = std::fs::read_to_string(proc.join(table)).unwrap_or_default();
            for line in table.lines().skip(1) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let port_of = |at: usize| {
                    let (_, port) = words.get(at)?.rsplit_once(':')?;
                    u16::from_str_radix(port, 16).ok()
                };
                let is_open = words.get(3) == Some(&"01");
                let is_its_own = words.get(9).is_some_and(|inode| sockets.contains(*inode));
                if is_open && is_its_own && port_of(2) == Some(port) {
                    ports.extend(port_of(1));
                }
            }
        }
        ports
    }

    /// Asks it to read its configuration again, by SIGHUP.
    pub fn ask_to_reload(&self) {
        signal(self.pid(), rustix::process::Signal::HUP);
    }

    /// Kills it with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("killing postroom");
        self.child.wait().expect("waiting for postroom");
    }

    /// Sends Ctrl-C, and returns the exit code after the drain.
    pub fn stop(self) -> Option<i32> {
        signal(self.child.id(), rustix::process::Signal::INT);
        self.end()
    }

    /// Waits for its end. Returns the exit code.
    pub fn end(mut self) -> Option<i32> {
        self.child.wait().expect("waiting for postroom").code()
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends Ctrl-C to a process of a test.
pub fn interrupt(pid: u32) {
    signal(pid, rustix::process::Signal::INT);
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(pid.expect("a pid"), signal).expect("signalling postroom");
}
