//! The live rules: loaded tenant by tenant, numbered as a generation, swapped as a whole, and stored so that a restart does
//! not depend on valid files.

mod change;
mod failure_window;
mod files;
mod look;
mod pool;
mod refusal;
mod refused;
mod rounds;
mod wiring;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use postroom_core::StrikeLimits;
use postroom_sandbox::{
    Bundle, Compiler, Grants, Imports, LoadError, Rule, RuleSource, Sandbox, SandboxConfig,
    SandboxError,
};
use postroom_store::{LastGood, RuleRecord, StoreError, Versions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cases::{ReleaseGate, Tested};
use crate::directory::Directories;
use crate::publication::ReloadWatch;
use files::{CONFIGURATION, FileRef, Files, Fingerprint, Folder, described};
use postroom_config::{Config, OnFailure, RuleKind, RuleUse};
use wiring::Wiring;

pub use change::{Change, Serves};
pub use failure_window::{FailureWindow, MOST_TAKEN_BACK, sender_key};
pub use files::{read_configured, read_rule};
pub use pool::LoadPool;
pub use refusal::LoadRefusal;

/// The most tenants named in one log line; further ones are counted.
const NAMED: usize = 10;

/// A tenant's rule: the tenant, and the rule's name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId {
    pub tenant: String,
    pub name: String,
}

/// One rule of a chain.
pub struct LiveRule {
    pub name: String,
    /// Hexadecimal content hash.
    pub hash: String,
    /// The rule, or why it cannot run; every mail then goes to the next rule.
    pub rule: Result<Rule, String>,
    /// How this version did on its last mails.
    pub strikes: FailureWindow,
    /// The handling of a mail on which it fails.
    pub on_failure: OnFailure,
    /// The record for the store; `None` for a built-in rule.
    record: Option<RuleRecord>,
}

impl LiveRule {
    /// Creates a rule that is only tried: nothing of it is stored.
    pub fn tried(name: &str, rule: Rule, on_failure: OnFailure) -> Self {
        Self {
            name: name.to_owned(),
            hash: rule.hash().hex(),
            rule: Ok(rule),
            strikes: FailureWindow::new(StrikeLimits::NEVER),
            on_failure,
            record: None,
        }
    }

    /// Creates a version without a rule, for tests that decide for it.
    #[doc(hidden)]
    pub fn fake(name: &str, hash: &str, strikes: FailureWindow, on_failure: OnFailure) -> Self {
        Self {
            name: name.to_owned(),
            hash: hash.to_owned(),
            rule: Err("a fake".to_owned()),
            strikes,
            on_failure,
            record: None,
        }
    }

    /// Returns the same version for another chain run, whose failures do not count against it.
    pub fn beside(&self) -> Self {
        Self {
            name: self.name.clone(),
            hash: self.hash.clone(),
            rule: self.rule.clone(),
            strikes: FailureWindow::new(StrikeLimits::NEVER),
            on_failure: self.on_failure,
            record: None,
        }
    }
}

/// A mailbox's rules, in order, under one generation's number.
pub struct Chain {
    pub generation: u64,
    pub rules: Vec<Arc<LiveRule>>,
}

/// The result of a reload.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The new generation, if anything went live.
    pub generation: Option<u64>,
    /// Rules that went live.
    pub live: Vec<RuleId>,
    /// Rules that went back to the previous version, or off if there was none.
    pub returned: Vec<RuleId>,
    /// Saves that changed nothing, each reported once, with the reason.
    pub refused: Vec<(RuleId, LoadRefusal)>,
    /// Rules whose files changed and whose tests passed, if tests are run.
    pub passed: Vec<(RuleId, Tested)>,
    /// The time at which the first of the changes was noticed, if a change caused the look.
    pub noticed: Option<Instant>,
}

impl Reloaded {
    /// Returns whether there is anything to report.
    pub fn is_news(&self) -> bool {
        self.generation.is_some() || !self.refused.is_empty() || !self.passed.is_empty()
    }
}

/// The live rules, and everything that is needed to load them.
pub struct RuleBook {
    sandbox: Arc<Sandbox>,
    versions: Arc<dyn Versions>,
    served_before: Arc<dyn LastGood>,
    /// Sees every reload.
    watch: ReloadWatch,
    wiring: ArcSwap<Wiring>,
    /// The tenants' contacts and assets, which are loaded with their rules.
    directories: Arc<Directories>,
    live: ArcSwap<Generation>,
    pool: LoadPool,
    publishing: tokio::sync::Mutex<()>,
    /// The newest generation of the store that all tenants' rules follow, or are about to follow.
    followed: AtomicU64,
    /// Counts the looks and the times that anything went live.
    publications: watch::Sender<u64>,
    /// Whether the first generation was made, or the wait for it is over.
    started: watch::Sender<bool>,
    first_load_over: AtomicBool,
    stop: CancellationToken,
}

/// A set of rules live together.
#[derive(Default)]
struct Generation {
    number: u64,
    rules: BTreeMap<RuleId, Arc<LiveRule>>,
}

impl RuleBook {
    /// Creates a book of which nothing is loaded yet: [`RuleBook::load_first`] does that. If a rule's file is broken, its
    /// last valid version is used; a rule that never was valid is skipped, which each mail's decision records.
    pub fn open(
        config: &Config,
        sandbox: Arc<Sandbox>,
        versions: Arc<dyn Versions>,
        served_before: Arc<dyn LastGood>,
        directories: Arc<Directories>,
        watch: ReloadWatch,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let wiring = Wiring::of(config, gate_of(config, &watch), None);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self {
            sandbox,
            versions,
            served_before,
            watch,
            wiring: ArcSwap::from_pointee(wiring),
            directories,
            live: ArcSwap::from_pointee(Generation::default()),
            pool: LoadPool::new(cores, stop.clone()),
            publishing: tokio::sync::Mutex::default(),
            followed: AtomicU64::new(0),
            publications: watch::Sender::new(0),
            started: watch::Sender::new(false),
            first_load_over: AtomicBool::new(false),
            stop,
        })
    }

    /// Takes over a changed configuration. The rules of the tenants that it concerns are not loaded then, and their mail waits until
    /// [`RuleBook::load_new`] has loaded them; those of all others stay as they are.
    pub async fn configure(&self, config: &Config) {
        let _nothing_goes_live = self.publishing.lock().await;
        if let Err(error) = self.keep_strikes().await {
            tracing::warn!(%error, "failure counters could not be saved; those of changed rules restart");
        }
        let before = self.wiring.load_full();
        let after = Wiring::of(config, gate_of(config, &self.watch), Some(&before));
        self.wiring.store(Arc::new(after));
    }

    /// Returns the current rules of one mailbox of a tenant; `None` while the tenant's rules are not loaded, and if the mailbox is
    /// not, or no longer, this tenant's. The returned chain stays the same, whatever is saved meanwhile.
    pub fn chain(&self, mailbox: &str, tenant: &str) -> Option<Chain> {
        let wiring = self.wiring.load();
        let ids = wiring.chains.get(mailbox)?.get(tenant)?;
        // Checked first: the rules are live before they count as loaded.
        let is_loaded = wiring.tenant(tenant).is_some_and(|it| it.is_loaded());
        let live = self.live.load();
        let ids = ids.iter();
        is_loaded.then(|| Chain {
            generation: live.number,
            rules: ids.filter_map(|id| live.rules.get(id).cloned()).collect(),
        })
    }

    /// Returns whether a tenant's rules and directory are loaded. Once they are, they stay loaded until the configuration changes.
    pub fn is_loaded(&self, tenant: &str) -> bool {
        let wiring = self.wiring.load();
        wiring.tenant(tenant).is_some_and(|it| it.is_loaded())
    }

    /// Waits until a tenant's rules and directory are loaded.
    pub async fn loaded(&self, tenant: &str) {
        self.published(|| self.is_loaded(tenant)).await;
    }

    /// Waits until a tenant's rules and directory are loaded, or the first load is over without them.
    pub async fn first_load_of(&self, tenant: &str) {
        let is_over = || self.is_loaded(tenant) || self.is_first_load_over();
        self.published(is_over).await;
    }

    /// Waits until the rules of all tenants are loaded.
    pub async fn all_loaded(&self) {
        let all = || self.wiring.load().tenants.iter().all(|it| it.is_loaded());
        self.published(all).await;
    }

    /// Describes the tenants whose rules are not loaded, naming the first few; `None` if all are.
    pub fn not_loaded(&self) -> Option<String> {
        let wiring = self.wiring.load();
        let tenants = wiring.tenants.iter().filter(|it| !it.is_loaded());
        let tenants: Vec<&str> = tenants.map(|it| it.name.as_str()).collect();
        let mut shown = tenants[..tenants.len().min(NAMED)].join(", ");
        if tenants.len() > NAMED {
            shown.push_str(&format!(", and {} more", tenants.len() - NAMED));
        }
        (!tenants.is_empty()).then_some(shown)
    }

    /// Returns whether the first load is over, complete or not.
    pub fn is_first_load_over(&self) -> bool {
        self.first_load_over.load(Ordering::Acquire)
    }

    /// Waits until the first generation is live, with the rules that loaded soon enough.
    pub async fn started(&self) {
        let mut started = self.started.subscribe();
        // It ends with the book, which is alive here.
        let _ = started.wait_for(|started| *started).await;
    }

    async fn published(&self, is_so: impl Fn() -> bool) {
        let mut publications = self.publications.subscribe();
        let _ = publications.wait_for(|_| is_so()).await;
    }

    /// Returns a counter of looks and of what they put live.
    pub fn publications(&self) -> watch::Receiver<u64> {
        self.publications.subscribe()
    }

    /// Stops the current compilation, because the service is about to end.
    pub fn stop_compiling(&self) {
        self.sandbox.stop();
    }

    /// Returns the number of the live generation.
    pub fn generation(&self) -> u64 {
        self.live.load().number
    }

    /// Returns the folders of the rules' files and of their imports, also missing ones, as of the last look.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        self.wiring.load().folders()
    }

    /// Returns whether another process made a generation that no look has covered yet.
    pub async fn is_behind(&self) -> Result<bool, StoreError> {
        let followed = self.followed.load(Ordering::SeqCst);
        Ok(self.versions.newest_generation().await? > followed)
    }
}

/// Returns the tests that rules must pass: those of every tenant if somebody watches, otherwise of those that ask for it.
fn gate_of(config: &Config, watch: &ReloadWatch) -> ReleaseGate {
    match watch.wants_tests() {
        true => ReleaseGate::of_all(config),
        false => ReleaseGate::of(config),
    }
}

/// Loads a rule from its current files, and records them.
fn load_file(
    sandbox: &Sandbox,
    wanted: &RuleUse,
    strikes: StrikeLimits,
    files: &Files,
    footprint: &mut Fingerprint,
) -> Result<LiveRule, LoadRefusal> {
    let name = wanted.rule.name.clone();
    let Some(spot) = FileRef::of(&wanted.rule) else {
        let rule = sandbox
            .load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits)
            .map_err(|error| LoadRefusal::NoRule {
                error,
                source_line: None,
            })?;
        return Ok(LiveRule {
            name,
            hash: rule.hash().hex(),
            rule: Ok(rule),
            // A built-in rule has no other version.
            strikes: FailureWindow::new(StrikeLimits::NEVER),
            on_failure: wanted.on_failure,
            record: None,
        });
    };
    let read = footprint.read(files, spot);
    let bytes = read.map_err(|unread| LoadRefusal::Unread {
        name: name.clone(),
        reason: described(unread, CONFIGURATION),
    })?;
    let folder = Folder::of(files, &wanted.rule);
    let loaded = load(sandbox, wanted, &bytes, &folder);
    footprint.add(folder.footprint());
    let rule = loaded.map_err(|error| LoadRefusal::no_rule(error, wanted, files, footprint))?;
    Ok(LiveRule {
        name,
        hash: rule.hash().hex(),
        record: Some(RuleRecord {
            tenant: wanted.tenant.clone(),
            name: wanted.rule.name.clone(),
            hash: rule.hash(),
            bytes: rule.bundle().map_or(bytes, Bundle::pack),
            settings_json: wanted.settings_json.clone(),
            grants_json: grants_json(&wanted.grants),
        }),
        rule: Ok(rule),
        strikes: FailureWindow::new(strikes),
        on_failure: wanted.on_failure,
    })
}

/// Compiles components. Only the binary sets it: another executable with these parts cannot be its own child.
static COMPILER: OnceLock<Compiler> = OnceLock::new();

/// Makes this process compile components in children of its own program from now on, which are called with the given
/// argument.
pub fn compile_in_children(argument: &str) -> std::io::Result<()> {
    // It refers to this very program, even if its file was replaced meanwhile.
    let running = Path::new("/proc/self/exe");
    let program = match running.exists() {
        true => running.to_owned(),
        false => std::env::current_exe()?,
    };
    // A second call would set the same.
    let _ = COMPILER.set(Compiler::Child {
        program,
        arguments: vec![argument.to_owned()],
    });
    Ok(())
}

/// Returns the sandbox of the service, and of commands that load the rules of many tenants at once.
pub fn configured_sandbox(config: &Config, workers: usize) -> Result<Sandbox, SandboxError> {
    make_sandbox(Some(&config.data_dir), workers, config.limits.loaded_total)
}

/// Returns the sandbox of commands that load a few rules. Compiled code is stored in the user's cache folder, so that the
/// next command can use it, or under `data_dir` for a user without one.
pub fn sandbox(data_dir: Option<&Path>, workers: usize) -> Result<Sandbox, SandboxError> {
    make_sandbox(data_dir, workers, SandboxConfig::default().loaded_bytes)
}

fn make_sandbox(
    data_dir: Option<&Path>,
    workers: usize,
    loaded_bytes: usize,
) -> Result<Sandbox, SandboxError> {
    let folder = |name: &str| std::env::var_os(name).filter(|path| !path.is_empty());
    let user = folder("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| folder("HOME").map(|home| Path::new(&home).join(".cache")))
        .filter(|path| path.is_absolute())
        .map(|path| path.join("postroom"));
    let own = data_dir.map(|path| path.join("cache"));
    let make = |cache_dir| {
        Sandbox::new(SandboxConfig {
            cache_dir,
            workers,
            compiler: COMPILER.get().cloned().unwrap_or_default(),
            loaded_bytes,
        })
    };
    match make(user.or_else(|| own.clone())) {
        // A home that is read-only or belongs to another user must not prevent the command.
        Err(SandboxError::Cache { .. } | SandboxError::CacheNotOurs { .. }) => make(own),
        made => made,
    }
}

/// Loads a rule's bytes by the extension of its file's name. Imports of a script are read from its folder, unless the bytes
/// contain several files, as stored.
pub fn load_bytes(sandbox: &Sandbox, wanted: &RuleUse, bytes: &[u8]) -> Result<Rule, LoadError> {
    let files = Files::default();
    let folder = Folder::of(&files, &wanted.rule);
    load(sandbox, wanted, bytes, &folder)
}

/// Loads a rule from its current files. The reason of a refusal is text for people.
pub fn load_now(sandbox: &Sandbox, wanted: &RuleUse) -> Result<Rule, String> {
    let name = &wanted.rule.name;
    let Some(path) = wanted.rule.path() else {
        return sandbox
            .load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits)
            .map_err(|error| error.to_string());
    };
    let bytes = read_rule(path).map_err(|reason| format!("{name}: {reason}"))?;
    load_bytes(sandbox, wanted, &bytes).map_err(|error| error.to_string())
}

fn load(
    sandbox: &Sandbox,
    wanted: &RuleUse,
    bytes: &[u8],
    folder: &dyn Imports,
) -> Result<Rule, LoadError> {
    let name = wanted.rule.name.as_str();
    let bundle;
    let source = match wanted.rule.kind {
        RuleKind::Component(_) => RuleSource::Component { name, bytes },
        _ => {
            bundle = Bundle::unpack(name, bytes)?;
            match bundle.modules() {
                [only] => RuleSource::Modules {
                    name,
                    text: &only.text,
                    imports: folder,
                },
                all => RuleSource::Modules {
                    name,
                    text: all.first().map_or("", |first| &first.text),
                    imports: &bundle,
                },
            }
        }
    };
    sandbox.load_for(
        &wanted.tenant,
        source,
        &wanted.settings_json,
        &wanted.grants,
        &wanted.limits,
    )
}

fn grants_json(grants: &Grants) -> String {
    let actions: Vec<_> = grants.actions.iter().collect();
    serde_json::json!({ "kv": grants.kv, "lookup": grants.lookup, "actions": actions }).to_string()
}
