//! A mailroom under test: the real binary on its own folder, with its mailbox on the real servers of the stand.

pub mod grants;
pub mod leak;
pub mod misbehaving;
pub mod promises;
mod running;
pub mod scripted_imap;
mod session;
mod terminal;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use postroom_stand::{
    Options, SmtpMail, Stand, StoredMail, TokenRequest, WEBHOOK_SECRET, WebhookRequest, wait_for,
};
use serde_json::Value;
use tempfile::TempDir;

pub use crate::running::{Running, interrupt};
pub use crate::session::Session;
pub use crate::terminal::Terminal;

/// The time limit of waits: enough for a loaded machine, and never reached when everything works.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The variable from which the configuration takes the client secret.
const CLIENT_SECRET: &str = "POSTROOM_TEST_CLIENT_SECRET";
const HOOK_SECRET: &str = "POSTROOM_TEST_HOOK_SECRET";

/// A folder with a configuration, its own mailbox on the stand, and the binary to run on them.
pub struct Room<'a> {
    pub stand: &'a Stand,
    /// The mailbox's address and IMAP login.
    pub user: String,
    dir: TempDir,
    tag: String,
    /// Set for every command.
    environment: Vec<(String, String)>,
}

impl<'a> Room<'a> {
    /// Returns a room whose mailbox `support` has the rule chain `rules`, a webhook sink and an outgoing by submission.
    pub fn new(stand: &'a Stand, rules: &[&str]) -> Self {
        let room = Self::bare(stand);
        room.write("postroom.toml", room.config(rules, ""));
        room
    }

    /// Returns a room without a configuration.
    pub fn bare(stand: &'a Stand) -> Self {
        static ROOMS: AtomicU32 = AtomicU32::new(0);
        let tag = format!("room{}", ROOMS.fetch_add(1, Ordering::Relaxed));
        Self {
            stand,
            user: format!("{tag}@acme.example"),
            dir: TempDir::with_prefix("postroom-e2e-").expect("a temporary folder"),
            tag,
            environment: Vec::new(),
        }
    }

    /// Returns the room's own directory at the authorization server, which distinguishes its token requests from those of
    /// other rooms.
    pub fn directory(&self) -> String {
        format!("{}.onmicrosoft.example", self.tag)
    }

    /// Sets a variable for every command from now on.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Returns the token requests that went to this room's directory, oldest first.
    pub fn token_requests(&self) -> Vec<TokenRequest> {
        let all = self.stand.authority().token_requests().expect("asking");
        let mine = self.directory();
        all.into_iter().filter(|it| it.tenant == mine).collect()
    }

    /// Returns the mails that this room sent, oldest first.
    pub fn sent(&self) -> Vec<SmtpMail> {
        let all = self.stand.smtp().received();
        all.into_iter().filter(|it| it.from == self.user).collect()
    }

    /// Returns the configuration of [`Room::new`], with `more` appended.
    pub fn config(&self, rules: &[&str], more: &str) -> String {
        let profile = format!(
            r#"provider = "custom"
token_url = {token_url:?}
client_id = {client_id:?}
client_secret = {{ env = "{CLIENT_SECRET}" }}
scopes = [{scope:?}]
grant = "client-credentials""#,
            token_url = self.stand.token_url("contoso"),
            client_id = self.stand.client_id(),
            scope = postroom_stand::MAIL_SCOPE,
        );
        self.config_with(&profile, rules, more)
    }

    /// Returns the same with another profile: the lines below `[profiles.acme]`.
    pub fn config_with(&self, profile: &str, rules: &[&str], more: &str) -> String {
        let ports = self.stand.ports();
        let hook = format!("{}/{}", self.stand.webhook().url(), self.tag);
        let rules = rules
            .iter()
            .map(|rule| format!("{rule:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        format!(
            r#"data_dir = "data"

[tls]
ca = {ca:?}

[profiles.acme]
{profile}

[tenants.acme]
domains = ["acme.example"]

[mailboxes.support]
tenant = "acme"
protocol = "imap"
host = "localhost"
port = {imaps}
tls = "implicit"
address = "{user}"
profile = "acme"
import = "all"
every = "5s"
after = {{ done = "move:Processed", failed = "move:Failed" }}
rules = [{rules}]
outgoing = "out"

[outgoing.out]
protocol = "smtp"
host = "localhost"
port = {submission}
tls = "starttls"
from = "Acme Support <{user}>"
profile = "acme"

[sinks.psa]
kind = "webhook"
url = "{hook}"
secret = {{ env = "{HOOK_SECRET}" }}
{more}"#,
            ca = self.stand.ca_pem().display().to_string(),
            imaps = ports.imaps,
            submission = ports.submission,
            user = self.user,
            hook = hook,
        )
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path().join(name);
        let folder = path.parent().expect("a file has a folder");
        std::fs::create_dir_all(folder).expect("making a folder");
        std::fs::write(&path, content).expect("writing a file");
    }

    /// Delivers a mail to the mailbox by LMTP.
    pub fn deliver(&self, mail: impl AsRef<[u8]>) {
        self.stand
            .deliver(&self.user, mail.as_ref())
            .expect("delivering a mail");
    }

    /// Returns the binary with its environment; the working folder is the room's.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command
            .args(args)
            .current_dir(self.path())
            .env(CLIENT_SECRET, self.stand.client_secret())
            .env(HOOK_SECRET, WEBHOOK_SECRET)
            // The vault's key is created there, and not in the tester's home.
            .env("XDG_CONFIG_HOME", self.path().join("config"))
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end. Its output is also stored in the room, in `output.log`.
    pub fn postroom(&self, args: &[&str]) -> Output {
        let output = self.command(args).output().expect("starting postroom");
        self.keep_output(&output);
        output
    }

    /// Starts a command that a person interacts with, such as `auth login`.
    pub fn talk(&self, args: &[&str]) -> Session<'_, 'a> {
        Session::start(self, args)
    }

    /// Stores a command's output in the room, in `output.log`.
    pub fn keep_output(&self, output: &Output) {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.path().join("output.log"));
        let mut file = file.expect("the file of outputs");
        for stream in [&output.stdout, &output.stderr] {
            file.write_all(stream).expect("keeping an output");
        }
    }

    /// Runs a command, which must succeed, and returns its stdout.
    pub fn ok(&self, args: &[&str]) -> String {
        let output = self.postroom(args);
        assert!(output.status.success(), "{args:?}: {}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `postroom run --once`, which must succeed.
    pub fn once(&self) {
        self.ok(&["run", "--once"]);
    }

    /// Runs `postroom run --once`, killed by SIGKILL at a crash point.
    pub fn once_killed_at(&self, point: &str) {
        let output = self
            .command(&["run", "--once"])
            .env("POSTROOM_CRASH_AT", point)
            .output()
            .expect("starting postroom");
        self.keep_output(&output);
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(
            output.status.signal(),
            Some(9),
            "{point} was not reached: {}",
            both(&output)
        );
    }

    /// Starts `postroom run` in the background.
    pub fn start(&self) -> Running {
        self.start_with(&[])
    }

    pub fn start_with(&self, environment: &[(&str, &str)]) -> Running {
        let log = self.path().join("run.log");
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&log)
            .expect("a log file");
        let mut command = self.command(&["run"]);
        for (name, value) in environment {
            command.env(name, value);
        }
        Running::start(command.stdout(Stdio::null()).stderr(file), log)
    }

    /// Returns a listing's rows.
    pub fn rows(&self, args: &[&str]) -> Vec<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        self.ok(&all)
            .lines()
            .map(|line| serde_json::from_str(line).expect("a JSON line"))
            .collect()
    }

    /// Returns the decisions, oldest first.
    pub fn decisions(&self) -> Vec<Value> {
        self.rows(&["decisions"])
    }

    pub fn items(&self) -> Vec<Value> {
        self.rows(&["items"])
    }

    /// Returns the decision about the mail with this subject; there must be exactly one.
    pub fn decision(&self, subject: &str) -> Value {
        let all = self.decisions();
        let mut found = all.iter().filter(|row| row["subject"] == subject);
        let one = found.next().cloned();
        assert!(
            found.next().is_none(),
            "several decisions about {subject:?}"
        );
        one.unwrap_or_else(|| panic!("no decision about {subject:?} in {all:#?}"))
    }

    /// Waits for a decision about the mail with this subject.
    pub fn await_decision(&self, subject: &str) -> Value {
        let mut found = None;
        wait_for(PATIENCE, || {
            // Directly after the start there may be no store yet.
            let output = self.postroom(&["decisions", "--json"]);
            found = String::from_utf8_lossy(&output.stdout)
                .lines()
                .filter_map(|line| serde_json::from_str::<Value>(line).ok())
                .find(|row| row["subject"] == subject);
            found.is_some()
        });
        found.unwrap_or_else(|| panic!("no decision about {subject:?}\n{}", self.log()))
    }

    /// Waits until there is a decision.
    pub fn await_any_decision(&self) {
        let decided = || {
            let output = self.postroom(&["decisions", "--limit", "1", "--json"]);
            !output.stdout.is_empty()
        };
        assert!(wait_for(PATIENCE, decided), "no decision\n{}", self.log());
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path().join("run.log")).unwrap_or_default()
    }

    pub fn folder(&self, name: &str) -> Vec<StoredMail> {
        self.stand
            .folder(&self.user, name)
            .expect("looking into a folder")
    }

    pub fn count(&self, folder: &str) -> usize {
        self.stand
            .message_count(&self.user, folder)
            .expect("looking into a folder")
    }

    /// Returns the requests that the sink of this room received, oldest first.
    pub fn posted(&self) -> Vec<WebhookRequest> {
        let mine = format!("/{}", self.tag);
        let all = self.stand.webhook().received();
        all.into_iter()
            .filter(|r| r.path.ends_with(&mine))
            .collect()
    }

    /// Returns the number of distinct webhook ids: the items accepted by a receiver that honours idempotency.
    pub fn posted_once(&self) -> usize {
        let posted = self.posted();
        let ids: std::collections::BTreeSet<_> = posted
            .iter()
            .filter_map(|r| r.header("webhook-id"))
            .collect();
        ids.len()
    }

    /// Checks that the ledger balances and counts `seen` mails.
    pub fn assert_balanced(&self, seen: u64) {
        let rows = self.rows(&["ledger"]);
        let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
        let parts = [
            "tickets",
            "notes",
            "alerts",
            "ignored",
            "quarantined",
            "pending",
        ];
        assert_eq!(sum("seen"), seen, "{rows:#?}");
        assert_eq!(
            parts.iter().map(|part| sum(part)).sum::<u64>(),
            seen,
            "{rows:#?}"
        );
    }
}

/// Returns a stand whose access tokens live for seconds, so that they expire during tests; shared by the tests of a binary.
pub fn short_lived() -> &'static Stand {
    static STAND: OnceLock<Stand> = OnceLock::new();
    STAND.get_or_init(|| {
        Stand::start_with(Options {
            token_lifetime_secs: 6,
            ..Options::default()
        })
        .expect("the test stand")
    })
}

/// Returns a plain mail from a person of the client.
pub fn mail(subject: &str, body: &str) -> String {
    mail_from("dana@acme.example", subject, body, "")
}

/// Returns a mail with additional header lines, each ended by CRLF.
pub fn mail_from(from: &str, subject: &str, body: &str, headers: &str) -> String {
    static MAILS: AtomicU32 = AtomicU32::new(0);
    let number = MAILS.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let mut text = String::new();
    let _ = write!(
        text,
        "From: {from}\r\nTo: support@acme.example\r\nSubject: {subject}\r\n"
    );
    if !headers.to_ascii_lowercase().contains("message-id:") {
        let _ = write!(text, "Message-ID: <{number}.{pid}@mail.acme.example>\r\n");
    }
    let _ = write!(
        text,
        "Date: Mon, 16 Nov 2026 09:05:00 +0000\r\n{headers}MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n"
    );
    text
}

/// Returns the repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Returns the folders in a folder of cases. Panics if there is none, since nothing would be tested.
pub fn cases(folder: &str) -> Vec<PathBuf> {
    let folder = root().join(folder);
    let mut cases: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    cases
}

/// Returns stdout and stderr, for a failing assertion.
pub fn both(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Returns the binary under test, which is built in the same folder as the tests.
pub fn binary() -> PathBuf {
    let tests = std::env::current_exe().expect("the test's own path");
    let binary = tests
        .parent()
        .and_then(Path::parent)
        .map(|folder| folder.join("postroom"))
        .expect("tests lie in target/release/deps");
    assert!(
        binary.exists(),
        "{} is not there: run `cargo build --release --workspace` first, as `make test` does",
        binary.display()
    );
    binary
}
