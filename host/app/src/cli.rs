//! The command line: every command, its options and the help that teaches them.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::duration_of;

const AFTER_HELP: &str = "\
Start here:
  postroom demo                 see 14 mails become tickets, notes and alerts
  postroom init my-mailroom     a config, a first rule and its test
  postroom check                find what is wrong before it runs
  postroom dev                  the service while you write rules: each save tested, replayed, live
  postroom run                  the service; Ctrl-C drains, a second one quits

Exit codes: 0 done; 1 something failed or was found wrong; 2 the command line was not understood.
Listings go to stdout, logs to stderr. RUST_LOG=postroom=debug shows more.";

/// The mail room of a managed service provider: every mail becomes a ticket, a note or an alert, decided by a rule you wrote.
#[derive(Debug, Parser)]
#[command(name = "postroom", version, after_help = AFTER_HELP)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// The command by which the program starts itself to compile a component.
pub const COMPILE: &str = "compile-component";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Compile the component on standard input for the process that started this one
    #[command(name = COMPILE, hide = true)]
    Compile {
        /// Address space, in bytes
        memory: u64,
        /// Computing time, in seconds
        secs: u64,
    },
    /// Run the built-in example: three clients, 14 mails, JavaScript rules you can edit while it runs
    Demo(DemoArgs),
    /// Write a commented config, a first rule and its test
    Init {
        /// Where to; made if it is not there
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Check config, rules, grants and limits; every problem with its file, line and cure
    Check {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Run the service
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// Drain every mailbox, let shadows decide what came, try each due delivery once (begun within 10 s,
        /// then ended) and exit; exit code 1 when a mailbox failed
        #[arg(long)]
        once: bool,
        /// Start with an empty database although this data folder was in use; ticket numbers continue above those given out
        #[arg(long)]
        start_anew: bool,
    },
    /// Run the service and show what happens: each save of a rule is tested and replayed, its difference shown, then it is live
    Dev {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: DevArgs,
    },
    /// What was decided about each mail, and why
    Decisions {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: Filter,
        /// Only this outcome: ticket, note, alert, ignored or quarantined
        #[arg(long)]
        outcome: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// The tickets, notes and alerts that came of it
    Items {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: Filter,
        /// Only this kind: ticket, note or alert
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Mails seen per mailbox and day, and what each became; exit code 1 when it does not balance
    Ledger {
        #[command(flatten)]
        config: ConfigArg,
        /// Only this mailbox
        #[arg(long)]
        mailbox: Option<String>,
        /// List the mails that came again, byte for byte, and were not decided again
        #[arg(long)]
        repeated: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Deliveries: what waits, what failed and why; retry or drop them
    Outbox {
        #[command(subcommand)]
        command: Option<OutboxCommand>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: OutboxFilter,
        #[command(flatten)]
        output: Output,
    },
    /// Decide recorded mail again with changed rules, and show what would come out otherwise; nothing is stored or sent. Exit
    /// code 1 when anything would
    Replay {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        candidate: CandidateArgs,
        /// Show every mail that differs, not only the first ones
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Mails kept aside for a person
    Quarantine {
        #[command(subcommand)]
        command: Option<QuarantineCommand>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Sign in, see who is signed in and what ends next, sign out
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Find out whether a mailbox works
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Bring mail in from files
    #[command(subcommand)]
    Mail(MailCommand),
    /// Work on one rule
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Which rules were live when, what changed, and the way back
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Let a changed rule decide the next mails beside the one that serves, and promote it when it does what it should
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Work on rule components
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Where the example is laid out, for you to edit
    #[arg(default_value = "postroom-demo")]
    pub dir: PathBuf,
    /// Exit when the spool is drained, as it also does when nobody watches
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DevArgs {
    /// How many of the last recorded mails are replayed at each save
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = replayed_mails)]
    pub mails: usize,
    /// Replay only mail of this mailbox; may be given several times
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Vec<String>,
    /// How long a save waits for its replay before it goes live: 300ms, 2s
    #[arg(long, value_name = "TIME", default_value = "700ms", value_parser = replay_time)]
    pub within: Duration,
    /// Start with an empty database although this data folder was in use; ticket numbers continue above those given out
    #[arg(long)]
    pub start_anew: bool,
}

#[derive(Debug, Args)]
pub struct ConfigArg {
    /// The configuration; paths in it are relative to it
    #[arg(
        long,
        value_name = "FILE",
        default_value = "postroom.toml",
        global = true
    )]
    pub config: PathBuf,
}

#[derive(Debug, Args)]
pub struct Output {
    /// One JSON object a line
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct Filter {
    /// Only this mailbox
    #[arg(long)]
    pub mailbox: Option<String>,
    /// Only this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only since then: a time (2026-01-31T12:00:00Z), a day (2026-01-31) or an age (90m, 24h, 7d)
    #[arg(long)]
    pub since: Option<String>,
    /// At most so many, the newest
    #[arg(long)]
    pub limit: Option<usize>,
}

/// What a replay puts to the test; without any, every rule as its file is now.
#[derive(Debug, Args)]
pub struct CandidateArgs {
    /// This file in the place of the rule that has its name, the others as their files are now
    #[arg(long, value_name = "FILE", conflicts_with = "generation")]
    pub rule: Option<PathBuf>,
    /// The rule that FILE replaces, as the mailboxes' chains name it
    #[arg(long = "as", value_name = "NAME", requires = "rule")]
    pub in_place_of: Option<String>,
    /// The rules of this generation, as the store keeps them
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
}

/// Which entries `outbox list` shows.
#[derive(Debug, Args)]
pub struct OutboxFilter {
    /// Only this state: waiting, delivered, dead or dropped
    #[arg(long, global = true)]
    pub state: Option<String>,
    /// At most so many rows, the newest
    #[arg(long, global = true)]
    pub limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Print one line per entry (the default)
    List,
    /// Print one entry with everything that is recorded of it, and what it sends
    Show {
        /// The entry's id, as `list` prints it
        id: i64,
    },
    /// Make waiting and dead entries due now, with a fresh age; works beside a running service
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(true))]
    Retry {
        /// These entries
        #[arg(group = "which", conflicts_with_all = ["target", "all_dead"])]
        ids: Vec<i64>,
        /// All waiting and dead entries of this sink or outgoing; with --all-dead only the dead ones
        #[arg(long, value_name = "NAME", group = "which")]
        target: Option<String>,
        /// All dead entries
        #[arg(long, group = "which")]
        all_dead: bool,
    },
    /// End waiting or dead entries without sending them; who did it and why is recorded
    Drop {
        /// These entries
        #[arg(required = true)]
        ids: Vec<i64>,
        /// Why, for those who read the listing later
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// One line per mail (the default)
    List,
    /// Why one mail is here, and its raw bytes
    Show {
        /// The decision's id, as `list` shows it
        id: String,
        /// Only the raw mail, byte for byte, to stdout
        #[arg(long)]
        raw: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Sign in by the profile's grant: prints the address or code to open, waits, and keeps the tokens in the vault
    Login {
        #[command(flatten)]
        who: Who,
        /// Open the page on another machine, and paste the address the browser ends on here
        #[arg(long)]
        manual: bool,
        /// How long to wait for the person: 90s, 10m, 1h
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = waiting_time)]
        timeout: Duration,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Grant, identity, expiries and what breaks next, asking no server; exit code 1 when something has failed
    Status {
        /// Only this profile
        profile: Option<String>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Forget the tokens that are kept; the provider is not told
    Logout {
        #[command(flatten)]
        who: Who,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// One account of the configuration.
#[derive(Debug, Args)]
pub struct Who {
    /// A profile, or a mailbox that signs in by one
    #[arg(value_name = "PROFILE|MAILBOX")]
    pub target: String,
    /// Which login, where the profile has several
    #[arg(long = "as", value_name = "LOGIN")]
    pub login: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// Connect, sign in, open the folder, fetch a sample, then the way out: each step timed, the failing one explained; nothing
    /// is marked, moved or decided, and a running service is not disturbed. Exit code 1 when a step failed
    Test {
        /// The mailbox's name in the configuration
        name: String,
        /// Also send a short test mail to this address by the mailbox's outgoing
        #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
        send_to: Option<String>,
        /// Show what was said to the servers, without secrets and mails
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum MailCommand {
    /// Take mbox files, maildirs or .eml files through the line, as if fetched
    Import {
        /// The mailbox they belong to
        #[arg(long)]
        mailbox: String,
        /// mbox files, maildirs, folders of .eml files, .eml files
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Take all of it for old mail, which is decided and listed, never answered, and sent to no sink. Without this that is mail
        /// more than a day old by its Date or the last server's Received, or without both
        #[arg(long)]
        old: bool,
        /// Send what becomes of old mail to the sinks; it is never answered all the same
        #[arg(long)]
        deliver: bool,
        /// Start with an empty database although this data folder was in use; ticket numbers continue above those given out
        #[arg(long)]
        start_anew: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// The decision for one mail, with time, memory and log; nothing is stored
    Try {
        /// A .js or .ts file, a .wasm component, or `standard`
        rule: PathBuf,
        /// The mail
        mail: PathBuf,
        /// Tenant, settings and grants are those of this mailbox of the config
        #[arg(long)]
        mailbox: Option<String>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Run the cases that lie beside rules (rules/mine.cases/NAME.eml, NAME.expected.json); exit code 1 when one fails or none
    /// is there
    Test {
        /// Rules, folders of cases, single mails, folders of rules; without any, every rule of the configuration, else of ./rules
        paths: Vec<PathBuf>,
        /// Only as the tenant of this mailbox has the rules
        #[arg(long)]
        mailbox: Option<String>,
        /// What the rules say now becomes what is expected
        #[arg(long)]
        update: bool,
        /// Run again at every save; Ctrl-C ends
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Make a case of a mail that was decided, with stand-ins for addresses, names, numbers and secrets
    Pin {
        /// The decision's id, as `decisions` shows it
        decision: String,
        /// The rule the case is for, when another than the one that decided
        #[arg(long, value_name = "FILE")]
        rule: Option<PathBuf>,
        /// The case's name; made from the subject unless given
        #[arg(long)]
        name: Option<String>,
        /// A domain that is no secret, such as a vendor's; may be given several times
        #[arg(long, value_name = "DOMAIN")]
        keep: Vec<String>,
        /// Write it although the rule decides otherwise by now, or another case has the name
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// The generations, the newest first, with what each changed; and the versions that are refused
    List {
        /// At most so many
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Every rule of a generation; with --rule its text
    Show {
        /// The newest unless given
        generation: Option<u64>,
        #[command(flatten)]
        filter: RuleFilter,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// What changed between two generations, file by file
    Diff {
        /// The one before the other unless given
        from: Option<u64>,
        /// The newest unless given
        to: Option<u64>,
        #[command(flatten)]
        filter: RuleFilter,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Put the versions of an earlier generation live again; those that they replace stay out until their file changes
    Rollback {
        /// The one before the newest unless given; with --tenant, the one before the newest that changed its rules
        generation: Option<u64>,
        #[command(flatten)]
        filter: RuleFilter,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}

/// Some of a generation's rules.
#[derive(Debug, Args)]
pub struct RuleFilter {
    /// Only this tenant's
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this one, as the configuration names it, such as rules/acme.js
    #[arg(long)]
    pub rule: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ShadowCommand {
    /// Begin one: the service decides each mail that comes also with FILE, and keeps what would have come out otherwise
    Start {
        #[command(flatten)]
        shadow: ShadowArgs,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Every shadow, the newest first, with what it came to
    List {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// What the newest shadow of a mailbox would have done otherwise
    Show {
        /// The mailbox
        mailbox: String,
        /// Show every mail that differs, not only the first ones
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// End it before its time; what it came to is kept
    Stop {
        /// The mailbox
        mailbox: String,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Write the candidate over its rule's file, from where it goes live as any other save
    Promote {
        /// The mailbox
        mailbox: String,
        /// Although the rule's file was changed since the shadow began; that change is lost
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// A shadow that is to begin.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// The mailbox
    pub mailbox: String,
    /// The candidate: it stands in the place of the rule that has its name, and imports what lies there
    #[arg(long, value_name = "FILE")]
    pub rule: PathBuf,
    /// The rule that FILE may replace, as the mailbox's chain names it
    #[arg(long = "as", value_name = "NAME")]
    pub in_place_of: Option<String>,
    /// How many mails it decides
    #[arg(long, value_name = "M", default_value_t = 100)]
    pub mails: u64,
    /// Promote it by itself when all mails are decided the same
    #[arg(long)]
    pub promote: bool,
}

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Write a small project in another language: it builds, tests and runs as it stands
    New {
        /// What the rule is written in
        #[arg(long = "lang", value_name = "LANGUAGE")]
        language: Language,
        /// The folder, which must not be there; its last part is the rule's name, such as disk-full
        name: PathBuf,
    },
    /// Make a component from a core wasm module built against `wit/`
    Build {
        /// The core module
        module: PathBuf,
        /// Where to write the component; beside the module, as NAME.component.wasm, unless given
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// World, imports, exports, size and hash of a component; what must be granted, and the limits it gets
    Inspect {
        component: PathBuf,
        #[command(flatten)]
        output: Output,
    },
}

/// A language that `plugin new` has a project for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Language {
    Rust,
    Js,
    Python,
    C,
}

impl Language {
    /// As it is given, and as its folder of templates is named.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

/// What is wrong in finer ways is found when the mail is written.
fn mail_address(text: &str) -> Result<String, String> {
    let sound = text
        .rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(|c: char| c.is_whitespace() || c.is_control());
    sound
        .then(|| text.to_owned())
        .ok_or_else(|| "a mail address, such as ann@client.example".into())
}

/// The longest wait for a person.
const MAX_WAITING_SECS: u64 = 24 * 3600;

fn waiting_time(text: &str) -> Result<Duration, String> {
    duration_of(text)
        .filter(|time| (1..=MAX_WAITING_SECS).contains(&time.as_secs()))
        .ok_or_else(|| "a time from 1s to 24h, such as 90s, 10m or 1h".into())
}

/// They are held in memory, with their decisions.
const MOST_REPLAYED: usize = 2000;

fn replayed_mails(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|mails| (1..=MOST_REPLAYED).contains(mails))
        .ok_or_else(|| format!("a number from 1 to {MOST_REPLAYED}; `postroom replay` takes any"))
}

/// The longest that a save waits for its replay.
const MAX_REPLAY_SECS: u64 = 60;

fn replay_time(text: &str) -> Result<Duration, String> {
    duration_of(text)
        .filter(|time| (10..=MAX_REPLAY_SECS * 1000).contains(&(time.as_millis() as u64)))
        .ok_or_else(|| format!("a time from 10ms to {MAX_REPLAY_SECS}s, such as 300ms or 2s"))
}
