//! A mailroom to be measured: a folder with a configuration and rules, and its mailboxes on the stand's Dovecot.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postroom_stand::{MAIL_SCOPE, Stand};
use serde_json::Value;
use tempfile::TempDir;

/// The variable from which the configuration takes the client secret.
const SECRET: &str = "POSTROOM_BENCH_SECRET";
/// The time in which thousands of mailboxes have to sign in.
const PATIENCE: Duration = Duration::from_secs(180);
/// The number of lines of a log that a failure prints.
const TAIL: usize = 20;
/// The ten patterns as a script.
pub const TEN_JS: &str = include_str!("../rules/ten.js");
/// The smallest script.
pub const TRIVIAL_JS: &str = include_str!("../rules/trivial.js");

/// The protocol by which a room's mailboxes are read, and what happens to their mail there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// IMAP; mail is moved to Processed.
    Imap,
    /// IMAP; mail is deleted.
    ImapDelete,
    /// POP3; mail is deleted, since POP3 has no folders.
    Pop3,
    /// Microsoft Graph; mail is moved to Processed.
    Graph,
}

/// A folder in which `postroom` runs; removed when dropped.
pub struct Room {
    dir: TempDir,
    client_secret: String,
}

impl Room {
    /// Returns a room for these mailboxes on the stand, all with `rule` (a file's name) as their only rule.
    pub fn new(stand: &Stand, users: &[String], rule: &str, content: &[u8]) -> Result<Self> {
        Self::with_profiles(stand, &["acme".to_owned()], users, rule, content)
    }

    /// Returns a room without a server: its one mailbox `drop` is fed from files.
    pub fn of_files(rule: &str, content: &[u8]) -> Result<Self> {
        let configuration = format!(
            "data_dir = \"data\"\n[tenants.acme]\ndomains = [\"acme.example\"]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/{rule}\"]\n"
        );
        Self::local(&configuration, &[(rule, content)])
    }

    /// Returns the same with several profiles, each with a directory of its own name, which the mailboxes use in turn.
    pub fn with_profiles(
        stand: &Stand,
        profiles: &[String],
        users: &[String],
        rule: &str,
        content: &[u8],
    ) -> Result<Self> {
        let configuration = configuration(stand, Way::Imap, profiles, users, rule);
        Self::on_stand(stand, &configuration, rule, content)
    }

    /// Returns a room whose mailboxes are read in another way than [`new`](Self::new) reads them.
    pub fn over(
        stand: &Stand,
        way: Way,
        users: &[String],
        rule: &str,
        content: &[u8],
    ) -> Result<Self> {
        let configuration = configuration(stand, way, &["acme".to_owned()], users, rule);
        Self::on_stand(stand, &configuration, rule, content)
    }

    fn on_stand(stand: &Stand, configuration: &str, rule: &str, content: &[u8]) -> Result<Self> {
        let mut room = Self::local(configuration, &[(rule, content)])?;
        room.client_secret = stand.client_secret().to_owned();
        Ok(room)
    }

    /// Returns a room that needs no server, with these rules by file name.
    pub fn local(configuration: &str, rules: &[(&str, &[u8])]) -> Result<Self> {
        let room = Self {
            // In the folder of the build: on a disk, where durability has a cost, and not in a memory file system.
            dir: tempfile::Builder::new()
                .prefix("bench-")
                .tempdir_in(target()?)?,
            client_secret: String::new(),
        };
        fs::create_dir(room.path().join("rules"))?;
        for (rule, content) in rules {
            fs::write(room.path().join("rules").join(rule), content)?;
        }
        fs::write(room.path().join("postroom.toml"), configuration)?;
        Ok(room)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Returns `postroom` with arguments, in this folder.
    pub fn postroom(&self, args: &[&str]) -> Result<Command> {
        let mut command = Command::new(postroom()?);
        command
            .args(args)
            .current_dir(self.path())
            .env(SECRET, &self.client_secret)
            // The vault's key is created there, and not in the user's home.
            .env("XDG_CONFIG_HOME", self.path())
            .env_remove("RUST_LOG");
        Ok(command)
    }

    /// Returns a listing's rows.
    pub fn rows(&self, listing: &str) -> Result<Vec<Value>> {
        let output = self.postroom(&[listing, "--json"])?.output()?;
        ensure!(
            output.status.success(),
            "postroom {listing} failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout)?
            .lines()
            .map(|line| Ok(serde_json::from_str(line)?))
            .collect()
    }

    /// Fails unless the ledger balances and counts `seen` mails, none of them pending.
    pub fn check_ledger(&self, seen: u64) -> Result<()> {
        let rows = self.rows("ledger")?;
        let sum = |key: &str| rows.iter().filter_map(|row| row[key].as_u64()).sum::<u64>();
        let decided: u64 = ["tickets", "notes", "alerts", "ignored", "quarantined"]
            .iter()
            .map(|outcome| sum(outcome))
            .sum();
        ensure!(
            sum("seen") == seen && decided == seen && sum("pending") == 0,
            "the ledger does not count {seen} decided mails: {rows:?}"
        );
        Ok(())
    }
}

/// Returns how many mailbox sessions Dovecot has accepted so far.
pub fn sign_ins(stand: &Stand) -> usize {
    stand
        .dovecot_log()
        .matches("imap-login: Info: Login:")
        .count()
}

/// Waits until Dovecot has accepted this many; `log` is the service's, printed if that does not happen.
pub fn await_sign_ins(stand: &Stand, count: usize, log: &Path) -> Result<()> {
    let started = Instant::now();
    loop {
        let now = sign_ins(stand);
        if now >= count {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{} mailboxes did not sign in:\n{}",
            count - now,
            tail(log)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Returns the sessions that Dovecot has open over IMAP with TLS, each by its client's port.
pub fn sessions(stand: &Stand) -> Result<BTreeSet<u16>> {
    const ESTABLISHED: &str = "01";
    let port_of = |address: &str| {
        let (_, port) = address.split_once(':')?;
        u16::from_str_radix(port, 16).ok()
    };
    let server = stand.ports().imaps;
    let table = fs::read_to_string("/proc/net/tcp")?;
    let client = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, remote, state, ..] = fields.as_slice() else {
            return None;
        };
        let is_open = *state == ESTABLISHED && port_of(local) == Some(server);
        is_open.then(|| port_of(remote)).flatten()
    };
    Ok(table.lines().skip(1).filter_map(client).collect())
}

/// Returns the end of a log, which a thousand mailboxes may have filled.
pub fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Returns the folder in which this program and `postroom` were built.
pub fn target() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.parent().context("a program without a folder")?;
    Ok(target.to_owned())
}

/// Returns a rule that `scripts/guests bench` built, as the component that `postroom plugin build` makes from it.
pub fn component(name: &str) -> Result<Vec<u8>> {
    let file = target()?.join(format!("../guests/bench/{name}.wasm"));
    let core = fs::read(&file)
        .with_context(|| format!("{}: run `scripts/guests bench`", file.display()))?;
    Ok(postroom_sandbox::componentize(&core)?)
}

/// Returns the program under measurement.
pub fn postroom() -> Result<PathBuf> {
    let binary = target()?.join("postroom");
    ensure!(
        binary.exists(),
        "{} is missing: run `make build`",
        binary.display()
    );
    Ok(binary)
}

fn configuration(
    stand: &Stand,
    way: Way,
    profiles: &[String],
    users: &[String],
    rule: &str,
) -> String {
    let mut text = format!(
        r#"data_dir = "data"

[tls]
ca = {ca:?}

[tenants.acme]
domains = ["acme.example"]
"#,
        ca = stand.ca_pem().display().to_string(),
    );
    for profile in profiles {
        let provider = match way {
            Way::Graph => format!("provider = \"microsoft\"\ntenant = {profile:?}"),
            _ => format!("provider = \"custom\"\nscopes = [{MAIL_SCOPE:?}]"),
        };
        let _ = write!(
            text,
            r#"
[profiles.{profile}]
{provider}
token_url = {token_url:?}
client_id = {client_id:?}
client_secret = {{ env = "{SECRET}" }}
grant = "client-credentials"
"#,
            token_url = stand.token_url(profile),
            client_id = stand.client_id(),
        );
    }
    for ((number, user), profile) in users.iter().enumerate().zip(profiles.iter().cycle()) {
        text.push_str(&mailbox(stand, way, number, user, profile, rule));
    }
    text
}

/// Returns the configuration of the mailbox `box` with this number.
pub fn mailbox(
    stand: &Stand,
    way: Way,
    number: usize,
    user: &str,
    profile: &str,
    rule: &str,
) -> String {
    let server = |protocol: &str, port: u16| {
        format!("protocol = {protocol:?}\nhost = \"localhost\"\nport = {port}\ntls = \"implicit\"")
    };
    let ports = stand.ports();
    let server = match way {
        Way::Imap | Way::ImapDelete => server("imap", ports.imaps),
        Way::Pop3 => server("pop3", ports.pop3s),
        Way::Graph => format!(
            "protocol = \"graph\"\nbase_url = {:?}",
            stand.graph().base_url()
        ),
    };
    let after = match way {
        Way::Imap | Way::Graph => r#"done = "move:Processed", failed = "move:Failed""#,
        Way::ImapDelete | Way::Pop3 => r#"done = "delete", failed = "delete""#,
    };
    format!(
        r#"
[mailboxes.box{number}]
tenant = "acme"
{server}
address = "{user}"
profile = "{profile}"
import = "all"
every = "2m"
after = {{ {after} }}
rules = ["rules/{rule}"]
"#
    )
}
