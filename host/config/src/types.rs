//! The types of a configuration: what later code works with, without a doubt left.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_auth::vault::KeySource;
use postroom_auth::{Account, AccountUse, Profile, Resource, Secret};
use postroom_core::{
    Address, After, AlertPolicy, AttributeBy, AutomaticLimits, Grants, ItemKind, Limits,
    MailboxPolicy, StrikeLimits, TestLimits, ThreadPolicy,
};
use postroom_net::{Proxies, TlsMode};
use rustls_pki_types::CertificateDer;

use super::documents::Documents;
use super::freshness::FreshnessObjective;
use super::identity::IdentityConfig;
use super::misconfigured::Misconfigured;
use super::problem::{Problem, Ready, Unavailable};
use super::sources::SourceConfig;
use super::targets::{OutgoingConfig, SinkConfig};

/// A complete configuration. Every name in it refers to something defined; lists are in the order of the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The file's folder. Relative paths of the file are already joined to it.
    pub dir: PathBuf,
    /// The texts it was read from.
    pub documents: Documents,
    pub data_dir: PathBuf,
    /// The age at which the raw bytes of a decided mail are dropped.
    pub keep_raw: Duration,
    pub limits: LineLimits,
    /// Trust roots in addition to the system's, from `[tls] ca`.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// The proxies of every connection that has no own one.
    pub proxies: Proxies,
    /// The technicians, and how mail is attributed and finds its ticket.
    pub identity: IdentityConfig,
    /// The source of the vault's key.
    pub vault_key: Ready<KeySource>,
    /// The folder of each data folder's identity and ticket mark, in the same folder as the vault's key.
    pub installations: PathBuf,
    /// The profiles whose secrets, keys and certificates could be read.
    pub profiles: Vec<Profile>,
    /// The other profiles, by name.
    pub unavailable_profiles: BTreeMap<String, Unavailable>,
    /// Every account that a mailbox or an outgoing signs in with, each once, with all its purposes; then those of
    /// application profiles that nothing uses.
    pub accounts: Vec<AccountUse>,
    pub tenants: Vec<Tenant>,
    pub mailboxes: Vec<MailboxConfig>,
    pub outgoing: Vec<Outgoing>,
    pub sinks: Vec<Sink>,
    /// Mailboxes and files that cannot be used until their problems are solved. Empty unless the configuration was loaded in part.
    pub misconfigured: Vec<Misconfigured>,
    /// Valid settings that are probably mistakes, in the order of the file.
    pub warnings: Vec<Problem>,
    /// Missing or broken secrets, keys and certificates, in the order of the file. Each affected part also contains its
    /// own.
    pub unavailable: Vec<Problem>,
}

/// The limits of the line itself; those of rules belong to their tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineLimits {
    /// The largest mail that is parsed; a larger one is quarantined.
    pub message_bytes: u64,
    /// The largest mail that is journalled in full; only the beginning of a larger one is fetched.
    pub raw_bytes: u64,
    /// The deepest nesting of MIME parts; deeper parts become an attachment.
    pub mime_depth: usize,
    /// The most MIME parts that are read.
    pub parts: usize,
    /// The most mails that are fetched and decided together.
    pub batch_mails: usize,
    /// The most bytes of mail that are fetched together.
    pub batch_bytes: u64,
    /// The most bytes of mail that all mailboxes together hold in memory between their servers and their decisions.
    pub in_flight_bytes: u64,
    /// The number of failures of the line on a mail before the mail is quarantined.
    pub attempts: u32,
    /// The age at which a delivery that its target refuses is given up.
    pub outbox_age: Duration,
    /// The most waiting deliveries of one tenant; beyond it the tenant's mail waits undecided.
    pub outbox_entries: u64,
    /// When a failing rule is rolled back automatically.
    pub strikes: StrikeLimits,
    /// The number of generations kept of each tenant's rules.
    pub generations: u64,
    /// The most bytes kept of each tenant's rules in addition to the live ones.
    pub generation_bytes: u64,
    /// The most replies and forwards within an hour.
    pub automatic: AutomaticLimits,
    /// The most memory that the loaded rules of all tenants hold together.
    pub loaded_total: usize,
    /// How long a stopped service waits for work in progress.
    pub drain: Duration,
    /// The freshness objective of mailboxes without their own.
    pub fresh: FreshnessObjective,
    /// The most connection attempts to one mail server at the same time.
    pub dials_per_host: u32,
    /// The most connection attempts in a second, to all mail servers together.
    pub dials_per_second: u32,
    /// The most mailboxes of one tenant that fetch mail at the same time.
    pub fetches_per_tenant: u32,
}

/// A client of the managed service provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    pub name: String,
    /// The file that defines it, as the user would name it.
    pub file: String,
    /// In lower case.
    pub domains: Vec<String>,
    /// The addresses of its people in other domains.
    pub addresses: Vec<String>,
    /// The addresses of shared mailboxes at which only its mail arrives.
    pub recipients: Vec<String>,
    /// Its own rules, which take the place of `"tenant"` in the chain of a mailbox.
    pub rules: Vec<RuleConfig>,
    /// The policy for mail that may not be added to its tickets.
    pub threads: ThreadPolicy,
    /// By the rule's name in the configuration.
    pub settings: BTreeMap<String, serde_json::Value>,
    /// By the rule's name in the configuration.
    pub on_failure: BTreeMap<String, OnFailure>,
    pub grants: Grants,
    /// Its people, for lookups of its rules.
    pub contacts: Option<DirectoryFile>,
    /// Its machines and other assets, for lookups of its rules.
    pub assets: Option<DirectoryFile>,
    /// The limits of this tenant's rules.
    pub limits: Limits,
    /// The limits of the tests of each of its rules.
    pub test_limits: TestLimits,
    /// The most mails decided in a minute; `None` for any number.
    pub mails_per_minute: Option<u32>,
    /// Whether a rule whose own tests fail must not go live.
    pub rule_tests: bool,
    /// Which changes of its alerts reach the sinks.
    pub alerts: AlertPolicy,
    pub duplicates: Duplicates,
}

/// How the copies of one mail in a tenant's mailboxes are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Duplicates {
    /// The first is decided, and the others are ignored.
    #[default]
    One,
    /// Each is decided.
    Each,
}

impl Duplicates {
    pub const ALL: [(&str, Self); 2] = [("one", Self::One), ("each", Self::Each)];
}

/// A CSV or TOML file below the configuration's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryFile {
    /// As written, without a leading `./`.
    pub name: String,
    pub path: PathBuf,
}

impl DirectoryFile {
    /// Returns the file's path for display: relative to the folder from which the configuration was named.
    pub fn shown(&self) -> String {
        let path = self.path.strip_prefix(".").unwrap_or(&self.path);
        path.display().to_string()
    }

    /// Returns whether it is CSV rather than TOML.
    pub fn is_csv(&self) -> bool {
        self.path.extension().is_some_and(|it| it == "csv")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailboxConfig {
    pub name: String,
    /// Its tenant; for a shared mailbox, the tenant of the mail that fits no client.
    pub tenant: String,
    /// Set if the mailbox is shared by all tenants.
    pub shared: Option<SharedMailbox>,
    /// The address at which its mail arrives; the domain is in lower case. Always present for a mailbox on a mail server.
    pub address: Option<String>,
    /// Further addresses at which its mail arrives; the domains are in lower case.
    pub aliases: Vec<String>,
    pub source: SourceConfig,
    /// The authserv-ids whose Authentication-Results are trusted: its own, or those of all mailboxes.
    pub trusted: Vec<String>,
    pub proxies: Proxies,
    /// The polling interval, in addition to the server's notifications.
    pub every: Duration,
    /// Its own freshness objective; see [`Config::freshness_objective`].
    pub fresh: Option<FreshnessObjective>,
    /// The acknowledgement of a decided mail.
    pub after_done: After,
    /// The acknowledgement of a quarantined mail.
    pub after_failed: After,
    /// The rule chain; the built-in fallback follows it in any case.
    pub rules: Vec<RuleConfig>,
    /// The name of the outgoing that sends its replies.
    pub outgoing: Option<String>,
    /// Whether the items of old mail go to the sinks. Old mail is never replied to or forwarded.
    pub deliver_old: bool,
    /// The size at which the file of its protocol log is rotated; `None` writes no log.
    pub protocol_log_bytes: Option<u64>,
    /// The senders and new tickets that it accepts.
    pub policy: MailboxPolicy,
    pub size: SizeLimits,
    pub session: SessionUse,
}

/// How the mail of a shared mailbox is attributed, and by which rules it is decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedMailbox {
    pub by: AttributeBy,
    /// The rule chain of each tenant.
    pub chains: BTreeMap<String, Vec<RuleConfig>>,
}

impl MailboxConfig {
    /// Returns the mailbox once for each of its tenants, with that tenant and its rule chain.
    pub fn by_tenant(&self) -> Vec<Self> {
        let Some(shared) = &self.shared else {
            return vec![self.clone()];
        };
        let of = |(tenant, rules): (&String, &Vec<RuleConfig>)| Self {
            tenant: tenant.clone(),
            rules: rules.clone(),
            ..self.clone()
        };
        shared.chains.iter().map(of).collect()
    }

    /// Returns the mailbox as it is for one of its tenants.
    pub fn of_tenant(&self, tenant: &str) -> Option<Self> {
        self.by_tenant().into_iter().find(|it| it.tenant == tenant)
    }

    /// Returns each of its tenants with its rule chain.
    pub fn chains(&self) -> Vec<(&str, &[RuleConfig])> {
        match &self.shared {
            Some(shared) => {
                let chains = shared.chains.iter();
                chains
                    .map(|(tenant, rules)| (tenant.as_str(), rules.as_slice()))
                    .collect()
            }
            None => vec![(self.tenant.as_str(), self.rules.as_slice())],
        }
    }

    /// Returns its policy for the mail of one of its tenants.
    pub fn policy_of(&self, tenant: &Tenant) -> MailboxPolicy {
        MailboxPolicy {
            threads: tenant.threads,
            ..self.policy.clone()
        }
    }

    /// Returns whether a tenant's mail arrives in it.
    pub fn is_of(&self, tenant: &str) -> bool {
        self.chains().iter().any(|(of, _)| *of == tenant)
    }
}

/// The limits on the size of a mailbox's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// The largest mail that is parsed; a larger one is quarantined.
    pub message_bytes: u64,
    /// The largest mail that is journalled in full; only the beginning of a larger one is fetched.
    pub raw_bytes: u64,
}

/// How long a session with a mailbox's server is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SessionUse {
    /// As long as it lasts.
    #[default]
    Kept,
    /// For one check; it is closed until the next.
    PerCheck,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailLogin {
    /// The user whose mailbox is opened, or who submits mail; the credential may belong to another user's account.
    pub user: String,
    pub credential: Credential,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A token of this account for this server.
    Account {
        account: Account,
        resource: Resource,
    },
    Password(Secret),
    /// Nobody can sign in.
    Unavailable(Unavailable),
}

/// One rule of a mailbox's chain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleConfig {
    /// `standard`, `fallback`, or the path as written, without a leading `./`.
    pub name: String,
    pub kind: RuleKind,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleKind {
    Standard,
    Fallback,
    Script(PathBuf),
    Component(PathBuf),
}

impl RuleConfig {
    /// Returns a file outside of any configuration, with its name as given: a component if it ends in `.wasm`, otherwise a
    /// script.
    pub fn of_file(path: &Path) -> Self {
        let is_component = path.extension().is_some_and(|e| e == "wasm");
        let kind = if is_component {
            RuleKind::Component
        } else {
            RuleKind::Script
        };
        Self {
            name: path.display().to_string(),
            kind: kind(path.to_owned()),
        }
    }

    /// Returns a rule named on a command line: the built-in one of that name, otherwise [a file](Self::of_file).
    pub fn of_argument(argument: &Path) -> Self {
        match argument.to_str() {
            Some(name @ "standard") => Self {
                name: name.into(),
                kind: RuleKind::Standard,
            },
            Some(name @ "fallback") => Self {
                name: name.into(),
                kind: RuleKind::Fallback,
            },
            _ => Self::of_file(argument),
        }
    }

    /// Returns the rule's file; `None` for a built-in rule.
    pub fn path(&self) -> Option<&Path> {
        match &self.kind {
            RuleKind::Script(path) | RuleKind::Component(path) => Some(path),
            RuleKind::Standard | RuleKind::Fallback => None,
        }
    }

    /// Returns the folder that its name is relative to: the configuration's.
    pub fn base(&self) -> PathBuf {
        let mut base = self.path().unwrap_or(Path::new("")).to_owned();
        for _ in Path::new(&self.name).components() {
            base.pop();
        }
        base
    }
}

/// A rule with everything that it is loaded with: one tenant's settings, grants and limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleUse {
    pub tenant: String,
    pub rule: RuleConfig,
    /// One JSON object.
    pub settings_json: String,
    pub grants: Grants,
    pub limits: Limits,
    /// The limits of its own tests.
    pub tests: TestLimits,
    pub on_failure: OnFailure,
}

/// The handling of a mail on which a rule fails: it throws, traps, exceeds a limit, returns an invalid decision, or is not loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// The next rule decides.
    #[default]
    Pass,
    /// The mail is quarantined; for rules that protect.
    Quarantine,
    /// The built-in fallback opens a plain ticket; no other rule runs.
    Fallback,
}

impl OnFailure {
    /// Every variant, with its name in the configuration.
    pub const ALL: [(&str, Self); 3] = [
        ("pass", Self::Pass),
        ("quarantine", Self::Quarantine),
        ("fallback", Self::Fallback),
    ];
}

/// A target for replies and forwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    pub name: String,
    pub from: Address,
    pub reply_to: Option<Address>,
    /// Whether the address for answers gets the ticket's token as its tag.
    pub tag_replies: bool,
    pub proxies: Proxies,
    pub target: OutgoingConfig,
}

/// A receiver of tickets, notes and alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    pub name: String,
    pub target: SinkConfig,
    /// The tenants whose items it receives; `None` for all.
    pub tenants: Option<Vec<String>>,
    pub kinds: BTreeSet<ItemKind>,
}

impl Sink {
    pub fn takes(&self, tenant: &str, kind: ItemKind) -> bool {
        let tenants = self.tenants.as_ref();
        self.kinds.contains(&kind) && tenants.is_none_or(|names| names.iter().any(|n| n == tenant))
    }
}
