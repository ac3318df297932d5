//! The configuration: TOML is parsed once into these types, so that no later code has to validate them.

mod accounts;
mod authentication;
mod bare;
mod limits;
mod mailboxes;
mod outgoing;
mod problem;
mod profiles;
mod reader;
mod rules;
mod servers;
mod sinks;
mod sources;
pub mod suggest;
mod tenants;
mod values;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_auth::vault::KeySource;
use postroom_auth::{Account, AccountUse, Profile, Resource, Secret};
use postroom_core::{
    Address, After, AutomaticLimits, Grants, ItemKind, Limits, StrikeLimits, TestLimits,
};
use postroom_net::TlsMode;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use toml::Spanned;
use toml::de::DeTable;
use url::Url;

use accounts::Places;
pub use bare::bare_text;
use mailboxes::Surroundings;
pub use outgoing::SUBMISSION;
pub use problem::{Problem, Problems, Ready, SourceLine, Unavailable};
use reader::{Item, Reader, Section};
pub use servers::ServerProtocol;
pub use sources::{IMAP, Import, Source};
pub use values::duration_of;

const DEFAULT_DATA_DIR: &str = "data";
/// How long the raw bytes of a decided mail are kept.
const DEFAULT_KEEP_RAW: Duration = Duration::from_secs(90 * 24 * 3600);
const MAX_KEEP_RAW: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// The largest configuration that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;
const MAX_CA_BYTES: u64 = 4 << 20;

/// A complete configuration. Every name in it refers to something defined; lists are in the order of the file.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file as the user named it.
    pub file: PathBuf,
    /// The file's folder. Relative paths of the file are already joined to it.
    pub dir: PathBuf,
    pub data_dir: PathBuf,
    /// The age at which the raw bytes of a decided mail are dropped.
    pub keep_raw: Duration,
    pub limits: LineLimits,
    /// Trust roots in addition to the system's, from `[tls] ca`.
    pub extra_roots: Vec<CertificateDer<'static>>,
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
    pub mailboxes: Vec<Mailbox>,
    pub outgoing: Vec<Outgoing>,
    pub sinks: Vec<Sink>,
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
}

/// A client of the managed service provider.
#[derive(Debug, Clone)]
pub struct Tenant {
    pub name: String,
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

#[derive(Debug, Clone)]
pub struct Mailbox {
    pub name: String,
    pub tenant: String,
    /// The address that its mail is sent to, with a lower-case domain. Required for IMAP.
    pub address: Option<String>,
    pub source: Source,
    /// The authserv-ids whose Authentication-Results are believed: its own, or those of all mailboxes.
    pub trusted: Vec<String>,
    /// The polling interval, in addition to the server's notifications.
    pub every: Duration,
    /// The acknowledgement of a decided mail.
    pub after_done: After,
    /// The acknowledgement of a quarantined mail.
    pub after_failed: After,
    /// The rule chain; the built-in fallback follows it in any case.
    pub rules: Vec<Rule>,
    /// The name of the outgoing that sends its replies.
    pub outgoing: Option<String>,
    /// Whether the items of old mail go to the sinks. Old mail is never answered or forwarded.
    pub deliver_old: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
}

#[derive(Debug, Clone)]
pub struct Login {
    /// The user whose mailbox is opened, or who submits mail; the credential may belong to another user's account.
    pub user: String,
    pub credential: Credential,
}

#[derive(Debug, Clone)]
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
pub struct Rule {
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

impl Rule {
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
#[derive(Debug, Clone)]
pub struct RuleUse {
    pub tenant: String,
    pub rule: Rule,
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
    /// The built-in fallback makes a plain ticket; no other rule runs.
    Fallback,
}

impl OnFailure {
    /// Each with its name in the configuration.
    pub const ALL: [(&str, Self); 3] = [
        ("pass", Self::Pass),
        ("quarantine", Self::Quarantine),
        ("fallback", Self::Fallback),
    ];
}

/// A server that sends replies and forwards, by SMTP submission (RFC 6409).
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub name: String,
    pub server: Server,
    pub from: Address,
    pub reply_to: Option<Address>,
    /// The name sent with EHLO.
    pub hello: Option<String>,
    /// `None` for a relay without sign-in.
    pub login: Option<Login>,
}

/// A webhook that receives every item of its tenants and kinds.
#[derive(Debug, Clone)]
pub struct Sink {
    pub name: String,
    pub url: Url,
    /// `whsec_` and base64, checked.
    pub secret: Ready<Secret>,
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
    /// Reads a configuration and its secrets. Fails with all problems, not only the first. A missing secret alone is not a
    /// failure: it only makes the parts that need it unusable.
    pub fn load(file: &Path) -> Result<Self, Problems> {
        Self::load_with(file, &|name| std::env::var_os(name))
    }

    /// Like [`Config::load`], with another environment than the process's.
    pub fn load_with(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, Problems> {
        Self::survey(file, environment).0
    }

    /// Like [`Config::load_with`], but also returns all rules that could be read, even if other things are wrong.
    pub fn survey(
        file: &Path,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> (Result<Self, Problems>, Vec<RuleUse>) {
        let name = file.to_string_lossy();
        let text = match text(file, &name) {
            Ok(text) => text,
            Err(problems) => return (Err(problems), Vec::new()),
        };
        let reader = Reader::new(&name, &text, folder(file), environment);
        let table = parse(&reader, &text);
        let (config, uses) = match &table {
            Some(table) => read(Section::root(&reader, table), file),
            None => (None, Vec::new()),
        };
        let result = match (config, reader.problems()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => {
                let all = [problems, reader.unavailable()].concat();
                Err(Problems::of(all).unwrap_or_else(|| Problems::unsaid(&name)))
            }
        };
        (result, uses)
    }

    /// Reads as much of a configuration as possible, for callers that need only a part of it; also returns every problem of
    /// the others.
    pub fn load_in_part(file: &Path) -> Result<(Self, Vec<Problem>), Problems> {
        let name = file.to_string_lossy();
        let text = text(file, &name)?;
        let environment = |name: &str| std::env::var_os(name);
        let reader = Reader::new(&name, &text, folder(file), &environment);
        let table = parse(&reader, &text);
        let config = table
            .as_ref()
            .and_then(|table| read(Section::root(&reader, table), file).0);
        let problems = Problems::of([reader.problems(), reader.unavailable()].concat());
        match (config, problems) {
            (Some(config), problems) => {
                let problems = problems.iter().flat_map(Problems::iter).cloned();
                Ok((config, problems.collect()))
            }
            (None, problems) => Err(problems.unwrap_or_else(|| Problems::unsaid(&name))),
        }
    }

    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    pub fn mailbox(&self, name: &str) -> Option<&Mailbox> {
        self.mailboxes.iter().find(|mailbox| mailbox.name == name)
    }

    pub fn outgoing(&self, name: &str) -> Option<&Outgoing> {
        self.outgoing.iter().find(|outgoing| outgoing.name == name)
    }

    /// Returns every rule of every tenant, each once, the built-in ones included.
    pub fn rule_uses(&self) -> Vec<RuleUse> {
        let chains = self.mailboxes.iter();
        rules::uses(
            &self.tenants,
            chains.map(|mailbox| (mailbox.tenant.as_str(), mailbox.rules.as_slice())),
        )
    }

    /// Returns every address that mail arrives at or is sent from, in lower case, each once.
    pub fn own_addresses(&self) -> BTreeSet<String> {
        let arriving = self.mailboxes.iter().filter_map(|m| m.address.as_deref());
        let leaving = self.outgoing.iter().flat_map(|outgoing| {
            std::iter::once(&outgoing.from)
                .chain(&outgoing.reply_to)
                .map(|address| address.email.as_str())
        });
        arriving.chain(leaving).map(str::to_lowercase).collect()
    }
}

/// Returns only the data folder. Reads no secret and checks no rule, so that listings work where those are unavailable.
pub fn data_dir(file: &Path) -> Result<PathBuf, Problems> {
    let name = file.to_string_lossy();
    let text = text(file, &name)?;
    let reader = Reader::new(&name, &text, folder(file), &|_| None);
    let table = parse(&reader, &text);
    let data_dir = table
        .as_ref()
        .and_then(|table| read_data_dir(&Section::root(&reader, table)));
    match (data_dir, Problems::of(reader.problems())) {
        (Some(data_dir), None) => Ok(data_dir),
        (_, problems) => Err(problems.unwrap_or_else(|| Problems::unsaid(&name))),
    }
}

/// Every name that others may refer to, whether or not its definition is valid.
struct Names {
    tenants: Vec<String>,
    profiles: Vec<String>,
    outgoing: Vec<String>,
}

/// Reads the whole document. Returns a configuration unless something in it is unreadable, and all rules that could be
/// read.
fn read(root: Section, file: &Path) -> (Option<Config>, Vec<RuleUse>) {
    let reader = root.reader;
    root.later(&["store"]);
    let data_dir = read_data_dir(&root);
    let vault_key = vault::read(&root, data_dir.as_deref());
    let installations = vault::installations(vault_key.as_ref(), root.reader);
    let keep_raw = match root.item("keep_raw") {
        Some(item) => item.duration(Duration::ZERO..=MAX_KEEP_RAW),
        None => Some(DEFAULT_KEEP_RAW),
    };
    let (tenant_limits, limits) = limits::read(&root);
    let extra_roots = read_roots(&root);
    let trusted = authentication::read(&root).map(Option::unwrap_or_default);

    let named = |key, what| root.item(key).map_or(Vec::new(), |item| item.named(what));
    let profiles = named("profiles", "a profile");
    let tenants = named("tenants", "a tenant");
    let mailboxes = named("mailboxes", "a mailbox");
    let outgoing = named("outgoing", "an outgoing");
    let sinks = named("sinks", "a sink");
    let names = Names {
        tenants: names_of(&tenants),
        profiles: names_of(&profiles),
        outgoing: names_of(&outgoing),
    };
    if mailboxes.is_empty() && root.item("mailboxes").is_none_or(|item| item.is_empty()) {
        reader.problem(
            0,
            "mailboxes",
            "there is no mailbox",
            "add [mailboxes.NAME] with its tenant and protocol, or start from `postroom init`",
        );
    }

    let places = [&mailboxes, &outgoing, &profiles].map(|entries| Places::of(entries));
    let (profiles, facts) = profiles::read(profiles, &names);
    let (tenants, settings) = tenants::read(reader, tenants, &tenant_limits);
    let outgoing = outgoing::read(outgoing, &names, &facts);
    let mailboxes = mailboxes::read(
        mailboxes,
        &Surroundings {
            names: &names,
            facts: &facts,
            trusted: trusted.as_deref(),
            outgoing_profiles: &outgoing.profiles,
        },
    );
    let sinks = sinks::read(sinks, &names);
    settings.check(&mailboxes.chains);
    root.finish();

    let chains = mailboxes.chains.iter();
    let uses = rules::uses(
        &tenants,
        chains.map(|chain| (chain.tenant.as_str(), chain.rules.as_slice())),
    );
    let [mailbox_places, outgoing_places, profile_places] = &places;
    let accounts = accounts::of(
        reader,
        (&mailboxes.mailboxes, mailbox_places),
        (&outgoing.outgoing, outgoing_places),
        (&profiles, profile_places),
    );
    let unavailable_profiles = facts
        .iter()
        .filter_map(|(name, facts)| Some((name.clone(), facts.unavailable.clone()?)));
    let config = (|| {
        Some(Config {
            file: file.to_owned(),
            dir: reader.dir.to_owned(),
            data_dir: data_dir?,
            keep_raw: keep_raw?,
            limits,
            extra_roots: extra_roots?,
            vault_key: vault_key?,
            installations,
            profiles,
            unavailable_profiles: unavailable_profiles.collect(),
            accounts,
            tenants,
            mailboxes: mailboxes.mailboxes,
            outgoing: outgoing.outgoing,
            sinks,
            warnings: reader.warnings(),
            unavailable: reader.unavailable(),
        })
    })();
    (config, uses)
}

/// Returns the document, or `None` after reporting every position that is not TOML.
fn parse<'r>(reader: &Reader, text: &'r str) -> Option<Spanned<DeTable<'r>>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last_bare = None;
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        match bare_text(text, at) {
            // One text may cause several errors.
            Some((begin, _)) if last_bare == Some(begin) => {}
            Some((begin, bare)) => {
                last_bare = Some(begin);
                reader.problem(
                    begin,
                    "",
                    format!("is not TOML: {bare} is text without quotes"),
                    format!("write it in quotes: \"{bare}\""),
                );
            }
            None => reader.problem(
                at,
                "",
                format!("is not TOML: {}", error.message()),
                "write it as key = \"text\", key = 5, key = [\"a\", \"b\"] or [table], each key once",
            ),
        }
    }
    errors.is_empty().then_some(table)
}

fn read_data_dir(root: &Section) -> Option<PathBuf> {
    match root.item("data_dir") {
        Some(item) => item.path(),
        None => Some(root.reader.dir.join(DEFAULT_DATA_DIR)),
    }
}

/// Returns the certificates of `[tls] ca`, a PEM file.
fn read_roots(root: &Section) -> Option<Vec<CertificateDer<'static>>> {
    let Some(item) = root.item("tls") else {
        return Some(Vec::new());
    };
    let section = item.section("tls")?;
    let roots = section
        .required("ca", "add ca = \"ca.pem\", or remove [tls]")
        .and_then(|item| {
            let name = item.text()?;
            let problem = match values::read_limited(&item.path()?, MAX_CA_BYTES) {
                Err(reason) => format!("{name} {reason}"),
                Ok(text) => {
                    let roots: Result<Vec<_>, _> =
                        CertificateDer::pem_slice_iter(text.as_bytes()).collect();
                    match roots {
                        Ok(roots) if !roots.is_empty() => return Some(roots),
                        Ok(_) => format!("{name} contains no certificate"),
                        Err(_) => format!("{name} holds a broken certificate"),
                    }
                }
            };
            item.problem(
                problem,
                "name a PEM file with the certificates to trust in addition to the system's",
            );
            None
        });
    section.finish();
    roots
}

fn names_of(entries: &[(&str, Item)]) -> Vec<String> {
    entries.iter().map(|(name, _)| (*name).to_owned()).collect()
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Returns the text of the configuration file.
fn text(file: &Path, name: &str) -> Result<String, Problems> {
    values::read_argument(file, MAX_FILE_BYTES).map_err(|reason| {
        let cure = if file.exists() {
            "it must be a TOML file in UTF-8 that postroom may read"
        } else {
            "name the configuration with --config FILE, or make one with `postroom init`"
        };
        Problems::of_file(name, reason, cure)
    })
}
