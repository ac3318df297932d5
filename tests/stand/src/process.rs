//! Child processes that cannot outlive the stand: each in its own process group, with a janitor that cleans up after a
//! killed test process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A server and its descendants: a process group led by `child`.
///
/// Dropping it kills the whole group.
pub(crate) struct Group {
    child: Child,
    pgid_file: PathBuf,
    // A server that watches its standard input exits when this closes.
    _stdin: Option<ChildStdin>,
}

impl Group {
    /// Starts `program` with `args`, and appends its output to `log`.
    ///
    /// A shell records the group in `dir` before the program runs, so that the janitor finds it whenever the stand dies.
    pub(crate) fn spawn(
        dir: &Path,
        name: &str,
        log: &Path,
        program: &Path,
        args: &[&str],
    ) -> Result<Self> {
        let pgid_file = dir.join(format!("{name}.pgid"));
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", r#"echo $$ > "$1"; shift; exec "$@""#, "sh"])
            .arg(&pgid_file)
            .arg(program)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        // Variables that some machines set to choose certificates must not reach the servers.
        for variable in [
            "NODE_EXTRA_CA_CERTS",
            "NODE_OPTIONS",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ] {
            command.env_remove(variable);
        }
        let mut child = in_own_group(&mut command)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            pgid_file,
            _stdin: stdin,
        })
    }

    /// Returns whether the server itself still runs.
    pub(crate) fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Asks the server to exit (SIGTERM) and waits for it; kills it after `timeout`.
    pub(crate) fn terminate(mut self, timeout: Duration) -> Result<()> {
        signal("TERM", &self.child.id().to_string());
        let deadline = Instant::now() + timeout;
        while self.is_running()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        signal("KILL", &format!("-{}", self.child.id()));
        // Nothing remains to be done if the group is already gone.
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.pgid_file);
    }
}

/// A shell that waits for the stand's end, whatever its cause, then kills every recorded group and removes the stand's
/// folder.
pub(crate) struct Janitor {
    child: Child,
}

impl Janitor {
    pub(crate) fn spawn(dir: &Path) -> Result<Self> {
        const SCRIPT: &str = r#"
            trap '' HUP
            read -r _
            for file in "$1"/*.pgid "$1"/*/*.pgid; do
                [ -e "$file" ] && kill -s KILL -- "-$(cat "$file")"
            done
            rm -rf -- "$1"
        "#;
        let mut command = Command::new("sh");
        command
            .args(["-c", SCRIPT, "sh"])
            .arg(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = in_own_group(&mut command)
            .spawn()
            .context("starting the stand's janitor")?;
        Ok(Self { child })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Keeps a terminal's Ctrl-C from reaching the child: the stand stops it in order.
fn in_own_group(command: &mut Command) -> &mut Command {
    use std::os::unix::process::CommandExt;
    command.process_group(0)
}

/// Sends a signal through the shell: the standard library supports only SIGKILL, and no groups.
fn signal(name: &str, target: &str) {
    // It fails only if the target is already gone, which is the goal.
    let _ = Command::new("sh")
        .args(["-c", r#"kill -s "$1" -- "$2""#, "sh", name, target])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
