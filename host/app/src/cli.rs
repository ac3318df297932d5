//! The command line: every command, its options and the help text.

mod configuration;
mod mails;
mod targets;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use configuration::ConfigCommand;
pub use mails::{DecisionsCommand, MailCommand, OutboxCommand, QuarantineCommand};
use postroom_config::duration_of;
pub use targets::{SendArgs, TargetCommand};

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

/// The command with which the program starts itself to compile a component.
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
        /// The folder; created if missing
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Check the configuration, rules, grants and limits; every problem with file, line and help
    Check {
        /// Also show what these files would change in the configuration that was applied last
        #[arg(long)]
        diff: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Run the service
    Run {
        #[command(flatten)]
        config: ConfigArg,
        /// Drain every mailbox, let shadows decide the new mail, try each due delivery once (none starts after 10 s)
        /// and exit; exit code 1 when a mailbox failed
        #[arg(long)]
        once: bool,
        /// Start with an empty database although this data folder was in use; ticket numbers continue above those given out
        #[arg(long)]
        start_anew: bool,
    },
    /// Run the service with a live view: each saved rule is tested and replayed, its differences shown, then it goes live
    Dev {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: DevArgs,
    },
    /// List, show and search the decisions about mails, and why they were made
    Decisions {
        #[command(subcommand)]
        command: Option<DecisionsCommand>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: Filter,
        /// Only mails with this outcome: ticket, note, alert, ignored or quarantined
        #[arg(long)]
        outcome: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List tickets, notes and alerts
    Items {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        filter: Filter,
        /// Only items of this kind: ticket, note or alert
        #[arg(long)]
        kind: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List the mails that rules expect, and whether they are overdue
    Expectations {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Count mails and their outcomes per mailbox and day; exit code 1 when the counts do not balance
    Ledger {
        #[command(flatten)]
        config: ConfigArg,
        /// Only this mailbox
        #[arg(long)]
        mailbox: Option<String>,
        /// List mails that arrived again, byte for byte, and were not decided again
        #[arg(long)]
        repeated: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List, show, retry and drop deliveries
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
    /// Run changed rules on recorded mail and show every decision that would differ; nothing is stored or sent. Exit code 1
    /// when a decision differs
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
    /// List, show, release and drop quarantined mails
    Quarantine {
        #[command(subcommand)]
        command: Option<QuarantineCommand>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Sign in and out, and show who is signed in and what expires next
    #[command(subcommand)]
    Auth(AuthCommand),
    /// Test a mailbox step by step
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Test a sink or an outgoing step by step
    #[command(subcommand)]
    Target(TargetCommand),
    /// Send a notification by an outgoing, for operators and scripts; nothing is stored and no rule runs. Exit code 0 when the server
    /// has the mail, 3 when it refused it for good, 4 when nothing was sent and a later try may succeed, 5 when the answer was lost
    /// and the mail may have been sent, 6 when some recipients were refused, 1 when something must be corrected
    Send {
        #[command(flatten)]
        send: SendArgs,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show recorded mail, and import mail from files
    #[command(subcommand)]
    Mail(MailCommand),
    /// Try, test and pin one rule
    #[command(subcommand)]
    Rule(RuleCommand),
    /// Applied configurations: list, show, go back
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Rule generations: list, show, diff, roll back
    #[command(subcommand)]
    Rules(RulesCommand),
    /// Run a candidate rule alongside the live one, and promote it if the results match
    #[command(subcommand)]
    Shadow(ShadowCommand),
    /// Create, build and inspect rule components
    #[command(subcommand)]
    Plugin(PluginCommand),
}

#[derive(Debug, Args)]
pub struct DemoArgs {
    /// The folder for the example, which you can edit
    #[arg(default_value = "postroom-demo")]
    pub dir: PathBuf,
    /// Exit when the spool is drained; this is the default without a terminal
    #[arg(long)]
    pub once: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct DevArgs {
    /// Number of recorded mails to replay on each save
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = replayed_mails)]
    pub mails: usize,
    /// Replay only mail of this mailbox; may be given several times
    #[arg(long, value_name = "MAILBOX")]
    pub mailbox: Vec<String>,
    /// Time a save waits for its replay before it goes live: 300ms, 2s
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
    /// Only newer rows: a time (2026-01-31T12:00:00Z), a day (2026-01-31) or an age (90m, 24h, 7d)
    #[arg(long)]
    pub since: Option<String>,
    /// Maximum number of rows, newest first
    #[arg(long)]
    pub limit: Option<usize>,
}

/// The rules that a replay tests; by default every rule's current file.
#[derive(Debug, Args)]
pub struct CandidateArgs {
    /// Use this file in the place of the rule with its name, and the current files of the others
    #[arg(long, value_name = "FILE", conflicts_with = "generation")]
    pub rule: Option<PathBuf>,
    /// The rule that FILE replaces, as the mailboxes' chains name it
    #[arg(long = "as", value_name = "NAME", requires = "rule")]
    pub in_place_of: Option<String>,
    /// The rules of this generation, from the store
    #[arg(long, value_name = "N")]
    pub generation: Option<u64>,
}

/// Which entries `outbox list` shows.
#[derive(Debug, Args)]
pub struct OutboxFilter {
    /// Only entries in this state: waiting, delivered, dead or dropped
    #[arg(long, global = true)]
    pub state: Option<String>,
    /// Maximum number of rows, newest first
    #[arg(long, global = true)]
    pub limit: Option<usize>,
}

#[derive(Debug, Subcommand)]
pub enum AuthCommand {
    /// Sign in by the profile's grant: print the address or code to open, wait, and store the tokens in the vault
    Login {
        #[command(flatten)]
        who: Who,
        /// Open the page on another machine, and paste the final address of the browser here
        #[arg(long)]
        manual: bool,
        /// Time to wait for the person: 90s, 10m, 1h
        #[arg(long, value_name = "TIME", default_value = "10m", value_parser = waiting_time)]
        timeout: Duration,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Show grant, identity, expiries and what breaks next, without contacting a server; exit code 1 when an account has failed
    Status {
        /// Only this profile
        profile: Option<String>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Delete the stored tokens; the provider is not notified
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
    /// The login, if the profile has several
    #[arg(long = "as", value_name = "LOGIN")]
    pub login: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum MailboxCommand {
    /// Connect, sign in, open the folder and fetch a sample, then test the outgoing. Each step is timed, a failing one explained.
    /// Nothing is marked, moved or decided, and a running service is not disturbed. Exit code 1 when a step failed
    Test {
        /// The mailbox's name in the configuration
        name: String,
        /// Also send a short test mail to this address by the mailbox's outgoing
        #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
        send_to: Option<String>,
        /// Also try to open this mailbox with the same account; the test fails if it opens. May be given several times
        #[arg(long, value_name = "ADDRESS", value_parser = mail_address)]
        must_not_open: Vec<String>,
        /// Print the protocol log, without secrets and mails
        #[arg(long)]
        trace: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub enum RuleCommand {
    /// Show the decision for each mail, with time, memory and log; nothing is stored
    Try {
        /// A .js or .ts file, a .wasm component, or `standard`, then the mails; with --chain only the mails. `-` reads a mail from
        /// standard input
        #[arg(required = true, value_name = "RULE|MAIL")]
        targets: Vec<PathBuf>,
        /// Use the tenant, settings and grants of this mailbox
        #[arg(long)]
        mailbox: Option<String>,
        /// Run the whole chain of the mailbox, attributed as the service would, and explain each step
        #[arg(long, requires = "mailbox")]
        chain: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Run the cases beside rules (rules/mine.cases/NAME.eml, NAME.expected.json); exit code 1 when one fails or there is none
    Test {
        /// Rules, folders of cases, single mails, folders of rules; by default every rule of the configuration, or of ./rules
        paths: Vec<PathBuf>,
        /// Use the tenant of this mailbox only
        #[arg(long)]
        mailbox: Option<String>,
        /// Overwrite the expected results with the current ones
        #[arg(long)]
        update: bool,
        /// Run again on every save, until Ctrl-C
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Make a test case from a decided mail, with stand-ins for addresses, names, numbers and secrets
    Pin {
        /// The decision's id, as `decisions` shows it
        decision: String,
        /// The rule the case is for, if not the one that decided
        #[arg(long, value_name = "FILE")]
        rule: Option<PathBuf>,
        /// The case's name; by default made from the subject
        #[arg(long)]
        name: Option<String>,
        /// A domain to keep, such as a vendor's; may be given several times
        #[arg(long, value_name = "DOMAIN")]
        keep: Vec<String>,
        /// Write the case even if the rule now decides differently, or a case of this name exists
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List generations, newest first, with their changes, and the refused versions
    List {
        /// Maximum number of generations
        #[arg(long)]
        limit: Option<usize>,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show the rules of a generation; with --rule its text
    Show {
        /// The generation; by default the newest
        generation: Option<u64>,
        #[command(flatten)]
        filter: RuleFilter,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show the changes between two generations, file by file
    Diff {
        /// The older generation; by default the one before the other
        from: Option<u64>,
        /// The generation; by default the newest
        to: Option<u64>,
        #[command(flatten)]
        filter: RuleFilter,
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Make the versions of an earlier generation live again; the replaced versions stay refused until their file changes
    Rollback {
        /// The generation; by default the one before the newest, with --tenant the one before the newest that changed its rules
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
    /// Only rules of this tenant
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only this rule, as the configuration names it, such as rules/acme.js
    #[arg(long)]
    pub rule: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum ShadowCommand {
    /// Start a shadow: the service also runs FILE on every new mail and records the differences
    Start {
        #[command(flatten)]
        shadow: ShadowArgs,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// List shadows, newest first, with their results
    List {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        output: Output,
    },
    /// Show the differences of a mailbox's newest shadow
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
    /// Stop a shadow early; its results are kept
    Stop {
        /// The mailbox
        mailbox: String,
        #[command(flatten)]
        config: ConfigArg,
    },
    /// Write the candidate over its rule's file, from where it goes live like any other save
    Promote {
        /// The mailbox
        mailbox: String,
        /// Promote even if the rule's file changed since the shadow started; that change is lost
        #[arg(long)]
        anyway: bool,
        #[command(flatten)]
        config: ConfigArg,
    },
}

/// A shadow to start.
#[derive(Debug, Args)]
pub struct ShadowArgs {
    /// The mailbox
    pub mailbox: String,
    /// The candidate: it takes the place, and the imports, of the rule with its name
    #[arg(long, value_name = "FILE")]
    pub rule: PathBuf,
    /// The rule that FILE may replace, as the mailbox's chain names it
    #[arg(long = "as", value_name = "NAME")]
    pub in_place_of: Option<String>,
    /// Number of mails to decide
    #[arg(long, value_name = "M", default_value_t = 100)]
    pub mails: u64,
    /// Promote the candidate automatically when every decision matches
    #[arg(long)]
    pub promote: bool,
}

#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Create a small project that builds, tests and runs
    New {
        /// The language of the rule
        #[arg(long = "lang", value_name = "LANGUAGE")]
        language: Language,
        /// The folder, which must not exist; its last part is the rule's name, such as disk-full
        name: PathBuf,
    },
    /// Turn a core wasm module built against `wit/` into a component
    Build {
        /// The core module
        module: PathBuf,
        /// The component's file; by default NAME.component.wasm beside the module
        #[arg(short, long)]
        output: Option<PathBuf>,
    },
    /// Show world, imports, exports, size and hash of a component, the grants it needs and its limits
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
    /// Returns the name on the command line, which is also that of its folder of templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
        }
    }
}

/// Checks roughly; other mistakes are found when the mail is built.
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

/// The most mails that are held in memory with their decisions.
const MOST_REPLAYED: usize = 2000;

fn replayed_mails(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|mails| (1..=MOST_REPLAYED).contains(mails))
        .ok_or_else(|| format!("a number from 1 to {MOST_REPLAYED}; `postroom replay` takes any"))
}

/// The longest wait of a save for its replay.
const MAX_REPLAY_SECS: u64 = 60;

fn replay_time(text: &str) -> Result<Duration, String> {
    duration_of(text)
        .filter(|time| (10..=MAX_REPLAY_SECS * 1000).contains(&(time.as_millis() as u64)))
        .ok_or_else(|| format!("a time from 10ms to {MAX_REPLAY_SECS}s, such as 300ms or 2s"))
}
