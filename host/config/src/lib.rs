//! The configuration: TOML is parsed once into these types, so that no later code has to validate them.

mod accounts;
mod alerts;
mod authentication;
mod bare;
mod changes;
mod documents;
mod freshness;
mod identity;
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
mod types;
mod update;
mod values;
mod vault;

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postroom_auth::Profile;
use postroom_core::effects::person;

use accounts::Places;
pub use bare::bare_text;
pub use changes::{Changes, PartKind, PartName};
pub use documents::Documents;
use documents::{Files, Texts, WHOLE, folder, included, named, parse, text, with_files};
pub use freshness::FreshnessObjective;
pub use identity::IdentityConfig;
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
pub use types::{
    Config, Credential, DirectoryFile, Duplicates, LineLimits, MailLogin, MailboxConfig, OnFailure,
    Outgoing, RuleConfig, RuleKind, RuleUse, Server, SessionUse, SharedMailbox, Sink, SizeLimits,
    Tenant,
};
pub use update::{Snapshot, Update};
pub use values::duration_of;

const DEFAULT_DATA_DIR: &str = "data";
/// How long the raw bytes of a decided mail are kept.
const DEFAULT_KEEP_RAW: Duration = Duration::from_secs(90 * 24 * 3600);
const MAX_KEEP_RAW: Duration = Duration::from_secs(100 * 366 * 24 * 3600);
/// The largest configuration that is read.
const MAX_FILE_BYTES: u64 = 16 << 20;

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
        let chains = self.mailboxes.iter().flat_map(MailboxConfig::chains);
        rules::uses(&self.tenants, chains)
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
        let recipients = self.tenants.iter().flat_map(|it| &it.recipients);
        let recipients = recipients.map(String::as_str);
        let disabled = self.misconfigured.iter();
        let disabled = disabled.flat_map(|it| it.addresses.iter().map(String::as_str));
        let all = arriving.chain(recipients).chain(leaving).chain(disabled);
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
    let identity = identity::read(&root);

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
    let alerts = alerts::read(&root, &names.tenants);
    let public = identity.as_ref().map(|it| it.clients(&[]));
    let (tenants, settings) = tenants::read(tenants, &tenant_limits, &alerts, public.as_ref());
    let outgoing = outgoing::read(outgoing, &names, &facts, proxies.as_ref());
    let mailboxes = mailboxes::read(
        mailboxes,
        &Surroundings {
            names: &names,
            facts: &facts,
            trusted: trusted.as_deref(),
            proxies: proxies.as_ref(),
            tenant_files: &tenant_files,
            tenants: &tenants,
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
            identity: identity?,
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
