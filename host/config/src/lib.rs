//! The configuration: TOML is parsed once into these types, so that no later code has to validate them.

mod accounts;
mod authentication;
mod bare;
mod changes;
mod documents;
mod freshness;
mod include;
mod limits;
mod mailboxes;
mod misconfigured;
mod outgoing;
mod problem;
mod profiles;
mod proxy;
mod reader;
mod roots;
mod rules;
mod servers;
mod sinks;
mod sources;
pub mod suggest;
mod switches;
mod targets;
mod tenants;
mod update;
mod values;
mod vault;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_auth::vault::KeySource;
use postroom_auth::{Account, AccountUse, Profile, Resource, Secret};
use postroom_core::effects::person;
use postroom_core::{
    Address, After, AutomaticLimits, Grants, ItemKind, Limits, MailboxPolicy, StrikeLimits,
    TestLimits,
};
use postroom_net::{Proxies, TlsMode};
use rustls_pki_types::CertificateDer;

use accounts::Places;
pub use bare::bare_text;
pub use changes::{Changes, PartKind, PartName};
pub use documents::Documents;
use documents::{Files, Texts, WHOLE, folder, included, named, parse, text, with_files};
pub use freshness::FreshnessObjective;
use mailboxes::Surroundings;
pub use misconfigured::Misconfigured;
pub use postroom_core::Import;
pub use problem::{Problem, Problems, Ready, SourceLine, Unavailable};
use profiles::directories::Directories;
pub use reader::key_path;
use reader::{Item, Part, Section, TomlReader};
pub use servers::ServerProtocol;
pub use sources::{EWS, EwsAddress, GRAPH, IMAP, POP3, SourceConfig};
pub use targets::{
    EwsOutgoing, GraphOutgoing, OutgoingConfig, SUBMISSION, SinkConfig, SmtpConfig, WebhookConfig,
};
pub use update::{Snapshot, Update};
pub use values::duration_of;

const DEFAULT_DATA_DIR: &str = "data";
/// How long the raw bytes of a decided mail are kept.
const DEFAULT_KEEP_RAW: Duration = Duration::from_secs(90 * 24 * 3600);
const MAX_KEEP_RAW: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// The largest configuration that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

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
    pub tenant: String,
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

impl Config {
    /// Reads a configuration with the secrets that it names. Returns every problem, not only the first. A missing secret counts
    /// as a problem only if there are others: by itself, it stops only the parts that need it.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        Self::load_with(file, &|name| std::env::var_os(name))
    }

    /// Does the same as [`Config::load`], with a different environment than the process's.
    pub fn load_with(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        Self::survey(file, environment).0
    }

    /// Does the same as [`Config::load_with`], but also returns all rules that could be read, even if other parts are wrong.
    pub fn survey(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> (Result<Self, Problems>, Vec<RuleUse>) {
        let surveyed = with_files(file, &Texts::files(), environment, |files| {
            let Outcome { config, uses, .. } = read(files, file);
            let result = match config {
                Some(config) if files.problems().is_empty() => Ok(config),
                _ => Err(files.all_problems()),
            };
            (result, uses)
        });
        surveyed.unwrap_or_else(|problems| (Err(problems), Vec::new()))
    }

    /// Reads the usable part of a configuration: a problem in one client's part disables only that client's mailboxes. Fails if a
    /// problem concerns everything, or if no mailbox is usable.
    pub fn load_in_part(file: &Path) -> Result<Self, Problems> {
        Self::load_in_part_with(file, &|name| std::env::var_os(name))
    }

    /// Does the same as [`Config::load_in_part`], with a different environment than the process's.
    pub fn load_in_part_with(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        Self::read_in_part(file, &Texts::files(), environment)
    }

    /// Does the same with the texts of an earlier reading, whatever the files contain now. Secrets are read now.
    pub fn load_documents(
        file: &Path,
        documents: &Documents,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        Self::read_in_part(file, &Texts::Documents(documents), environment)
    }

    fn read_in_part(
        file: &Path,
        texts: &Texts,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        let usable = with_files(file, texts, environment, |files| {
            let Outcome {
                config, declared, ..
            } = read(files, file);
            let problems = files.problems();
            let concerns_all = problems.iter().any(|(part, _)| *part == Part::Whole);
            match config.filter(|_| !concerns_all) {
                Some(config) => misconfigured::disable(config, &declared, problems),
                None => None,
            }
            .ok_or_else(|| files.all_problems())
        });
        usable?
    }

    /// Reads everything that is readable, including parts with problems, and every problem. Used for trying a rule, which needs
    /// little.
    pub fn load_readable(file: &Path) -> Result<(Self, Vec<Problem>), Problems> {
        let environment = |name: &str| std::env::var_os(name);
        let readable = with_files(file, &Texts::files(), &environment, |files| {
            let config = read(files, file).config;
            let problems = files.all();
            match config {
                Some(config) => Ok((config, problems)),
                None => Err(files.all_problems()),
            }
        });
        readable?
    }

    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    pub fn mailbox(&self, name: &str) -> Option<&MailboxConfig> {
        self.mailboxes.iter().find(|mailbox| mailbox.name == name)
    }

    pub fn outgoing(&self, name: &str) -> Option<&Outgoing> {
        self.outgoing.iter().find(|outgoing| outgoing.name == name)
    }

    pub fn sink(&self, name: &str) -> Option<&Sink> {
        self.sinks.iter().find(|sink| sink.name == name)
    }

    /// Returns every rule of every tenant, each once, the built-in ones included.
    pub fn rule_uses(&self) -> Vec<RuleUse> {
        let chains = self.mailboxes.iter();
        rules::uses(
            &self.tenants,
            chains.map(|mailbox| (mailbox.tenant.as_str(), mailbox.rules.as_slice())),
        )
    }

    /// Returns every address at which mail arrives or from which it leaves, as [`person`] returns it, each once.
    pub fn own_addresses(&self) -> BTreeSet<String> {
        let arriving = self.mailboxes.iter().flat_map(|mailbox| {
            let addresses = mailbox.address.iter().chain(&mailbox.aliases);
            addresses.map(String::as_str)
        });
        let leaving = self.outgoing.iter().flat_map(|outgoing| {
            std::iter::once(&outgoing.from)
                .chain(&outgoing.reply_to)
                .map(|address| address.email.as_str())
                .chain(outgoing.target.mailbox())
        });
        let disabled = self.misconfigured.iter();
        let disabled = disabled.flat_map(|it| it.addresses.iter().map(String::as_str));
        let all = arriving.chain(leaving).chain(disabled);
        all.map(person).collect()
    }
}

/// Returns only the data folder. Reads no secret and checks no rule, so that listings work where those are unavailable.
pub fn data_dir(file: &Path) -> Result<PathBuf, Problems> {
    let name = file.to_string_lossy();
    let text = text(file)?;
    let reader = TomlReader::new((0, &name), &text, folder(file), &|_| None);
    let table = parse(&reader, &text);
    let data_dir = table
        .is_sound
        .then(|| Section::root(&reader, &table.table, WHOLE));
    let data_dir = data_dir.and_then(|root| read_data_dir(&root));
    let problems = reader.problems().into_iter().map(|(_, problem)| problem);
    match (data_dir, Problems::of(problems.collect())) {
        (Some(data_dir), None) => Ok(data_dir),
        (_, problems) => Err(problems.unwrap_or_else(|| Problems::unsaid(&name))),
    }
}

/// Every name that other parts may refer to, whether or not its definition is valid.
struct Names {
    tenants: Vec<String>,
    profiles: Vec<String>,
    outgoing: Vec<String>,
    directories: Directories,
}

/// The result of reading every file.
#[derive(Default)]
struct Outcome<'r> {
    /// `None` if something that every client needs is unreadable.
    config: Option<Config>,
    /// Every rule that could be read.
    uses: Vec<RuleUse>,
    /// Every mailbox that the files name.
    declared: Vec<Declared<'r>>,
}

/// A mailbox that a file names, and the parts that it needs.
struct Declared<'r> {
    name: &'r str,
    /// The number of its file.
    file: usize,
    /// The number of the file that defines its tenant.
    tenant_file: Option<usize>,
    tenant: Option<String>,
    /// Its address and its aliases.
    addresses: Vec<String>,
    outgoing: Option<String>,
    /// Its own profile, and its outgoing's.
    profiles: Vec<String>,
}

fn read<'r>(files: &Files<'r>, file: &Path) -> Outcome<'r> {
    let (Some(reader), Some(main)) = (files.readers.first(), files.tables.first()) else {
        return Outcome::default();
    };
    if !main.is_sound {
        return Outcome::default();
    }
    let root = Section::root(reader, &main.table, WHOLE);
    root.item("include");
    root.later(&["store"]);
    let data_dir = read_data_dir(&root);
    let vault_key = vault::read(&root, data_dir.as_deref());
    let installations = vault::installations(vault_key.as_ref(), root.reader);
    let keep_raw = match root.item("keep_raw") {
        Some(item) => item.duration(Duration::ZERO..=MAX_KEEP_RAW),
        None => Some(DEFAULT_KEEP_RAW),
    };
    let (tenant_limits, limits) = limits::read(&root);
    let extra_roots = roots::read(&root);
    let proxies = proxy::read(&root);
    let trusted = authentication::read(&root).map(Option::unwrap_or_default);

    let (sound, broken) = included(files);
    let roots: Vec<&Section> = std::iter::once(&root).chain(&sound).collect();
    let profiles = named(&roots, "profiles", "a profile", Some(Part::Profile));
    let tenants = named(&roots, "tenants", "a tenant", Some(Part::Tenant));
    let mailboxes = named(&roots, "mailboxes", "a mailbox", Some(Part::Mailbox));
    let outgoing = named(&roots, "outgoing", "an outgoing", Some(Part::Outgoing));
    let sinks = named(&roots, "sinks", "a sink", None);
    // A name may be defined in a file that could not be read.
    let with_broken = |entries: &[(&str, Item)], key| {
        let recovered = broken.iter().filter_map(|root| root.item(key));
        let recovered = recovered.filter(|item| item.value().is_table());
        let recovered = recovered.flat_map(|item| item.section("").map(|it| it.names()));
        let mut names = names_of(entries);
        names.extend(recovered.flatten());
        names
    };
    let names = Names {
        tenants: with_broken(&tenants, "tenants"),
        profiles: with_broken(&profiles, "profiles"),
        outgoing: with_broken(&outgoing, "outgoing"),
        directories: Directories::of(&profiles, &tenants, &mailboxes, &outgoing),
    };
    let nothing_named = |root: &&Section| root.item("mailboxes").is_none_or(|it| it.is_empty());
    // A configuration with an outgoing alone serves `postroom send`.
    let is_empty = mailboxes.is_empty() && outgoing.is_empty() && broken.is_empty();
    if is_empty && roots.iter().all(nothing_named) {
        reader.problem(
            Part::Whole,
            0,
            "mailboxes",
            "there is no mailbox",
            "add [mailboxes.NAME] with its tenant and protocol, or start from `postroom init`",
        );
    }

    let tenant_files = tenants
        .iter()
        .map(|(name, it)| ((*name).to_owned(), it.reader.order));
    let tenant_files: HashMap<String, usize> = tenant_files.collect();
    let all = [&mailboxes, &outgoing, &profiles, &tenants, &sinks];
    let places = all.map(|entries| Places::of(entries));
    let [
        mailbox_places,
        outgoing_places,
        profile_places,
        tenant_places,
        sink_places,
    ] = places;
    let (profiles, facts) = profiles::read(profiles, &names);
    let (tenants, settings) = tenants::read(tenants, &tenant_limits);
    let outgoing = outgoing::read(outgoing, &names, &facts, proxies.as_ref());
    let mailboxes = mailboxes::read(
        mailboxes,
        &Surroundings {
            names: &names,
            facts: &facts,
            trusted: trusted.as_deref(),
            proxies: proxies.as_ref(),
            tenant_files: &tenant_files,
            limits: &limits,
            outgoing_profiles: &outgoing.profiles,
        },
    );
    let sinks = sinks::read(sinks, &names);
    let sinks = misconfigured::confine(sinks, &sink_places, &tenant_places);
    settings.check(&mailboxes.chains);
    root.finish();
    for root in sound {
        root.finish();
    }

    let chains = mailboxes.chains.iter();
    let uses = rules::uses(
        &tenants,
        chains.map(|chain| (chain.tenant.as_str(), chain.rules.as_slice())),
    );
    let accounts = accounts::of(
        (&mailboxes.mailboxes, &mailbox_places),
        (&outgoing.outgoing, &outgoing_places),
        (&profiles, &profile_places),
    );
    let unavailable_profiles = facts
        .iter()
        .filter(|(name, _)| names.profiles.contains(name))
        .filter_map(|(name, facts)| Some((name.clone(), facts.unavailable.clone()?)));
    let config = (|| {
        Some(Config {
            file: file.to_owned(),
            dir: reader.dir.to_owned(),
            documents: files.documents.clone(),
            data_dir: data_dir?,
            keep_raw: keep_raw?,
            limits,
            extra_roots: extra_roots?,
            proxies: proxies?,
            vault_key: vault_key?,
            installations,
            profiles,
            unavailable_profiles: unavailable_profiles.collect(),
            accounts,
            tenants,
            mailboxes: mailboxes.mailboxes,
            outgoing: outgoing.outgoing,
            sinks,
            misconfigured: Vec::new(),
            warnings: files.of_each(|file| file.warnings()),
            unavailable: files.of_each(|file| file.unavailable()),
        })
    })();
    Outcome {
        config,
        uses,
        declared: mailboxes.declared,
    }
}

fn read_data_dir(root: &Section) -> Option<PathBuf> {
    match root.item("data_dir") {
        Some(item) => item.path(),
        None => Some(root.reader.dir.join(DEFAULT_DATA_DIR)),
    }
}

fn names_of(entries: &[(&str, Item)]) -> Vec<String> {
    entries.iter().map(|(name, _)| (*name).to_owned()).collect()
}
