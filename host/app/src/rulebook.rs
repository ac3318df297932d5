//! The rules that are live: loaded, numbered as a generation, swapped whole, and remembered so that a restart needs no good file.

mod change;
mod files;
mod refusal;
mod refused;
mod strikes;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use arc_swap::ArcSwap;
use postroom_core::StrikeLimits;
use postroom_sandbox::{
    Bundle, Compiler, Grants, Imports, LoadError, Rule, Sandbox, SandboxConfig, SandboxError,
    Source,
};
use postroom_store::{RuleRecord, Store, StoreError};

use crate::audience::Audience;
use crate::cases::{Gate, Tested};
use crate::config::{Config, OnFailure, RuleKind, RuleUse};
use files::{CONFIGURATION, Files, Folder, Footprint, Spot, told};
use refused::{Refused, alert_key, alert_sinks};

pub use change::{Change, Serves};
pub use files::{read_configured, read_rule};
pub use refusal::Refusal;
pub use strikes::{MOST_TAKEN_BACK, Strikes, sender_key};

/// A tenant's rule: the tenant, and the rule's name as configured.
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
    /// The rule, or why there is none to run: then every mail goes on to the next.
    pub rule: Result<Rule, String>,
    /// How this version did on its last mails.
    pub strikes: Strikes,
    /// What becomes of a mail on which it fails.
    pub on_failure: OnFailure,
    /// What goes into the store with the generation; nothing for a built-in rule.
    record: Option<RuleRecord>,
}

impl LiveRule {
    /// A rule that is only tried: nothing of it is kept.
    pub fn tried(name: &str, rule: Rule, on_failure: OnFailure) -> Self {
        Self {
            name: name.to_owned(),
            hash: rule.hash().hex(),
            rule: Ok(rule),
            strikes: Strikes::new(StrikeLimits::NEVER),
            on_failure,
            record: None,
        }
    }

    /// A version that a test decides for.
    #[cfg(test)]
    pub fn fake(name: &str, hash: &str, strikes: Strikes, on_failure: OnFailure) -> Self {
        Self {
            name: name.to_owned(),
            hash: hash.to_owned(),
            rule: Err("a fake".to_owned()),
            strikes,
            on_failure,
            record: None,
        }
    }

    /// The same version for another walk, whose failures do not count against it.
    pub fn beside(&self) -> Self {
        Self {
            name: self.name.clone(),
            hash: self.hash.clone(),
            rule: self.rule.clone(),
            strikes: Strikes::new(StrikeLimits::NEVER),
            on_failure: self.on_failure,
            record: None,
        }
    }
}

/// A mailbox's rules, in their order, under one generation's number.
pub struct Chain {
    pub generation: u64,
    pub rules: Vec<Arc<LiveRule>>,
}

/// What a look at the files changed.
#[derive(Debug, Default)]
pub struct Reloaded {
    /// The new generation, when anything went live.
    pub generation: Option<u64>,
    /// Rules that went live.
    pub live: Vec<RuleId>,
    /// Rules that went back to what served before, or off where there was nothing.
    pub returned: Vec<RuleId>,
    /// Saves that changed nothing, each said once, with the reason.
    pub refused: Vec<(RuleId, Refusal)>,
    /// Rules whose files changed and whose tests passed, where tests are run.
    pub passed: Vec<(RuleId, Tested)>,
    /// When the first of the changes was noticed, where a change caused the look.
    pub noticed: Option<Instant>,
}

impl Reloaded {
    /// Whether there is anything to tell.
    pub fn is_news(&self) -> bool {
        self.generation.is_some() || !self.refused.is_empty() || !self.passed.is_empty()
    }
}

/// Everything that is needed to load rules, and those that are live.
pub struct RuleBook {
    sandbox: Arc<Sandbox>,
    store: Store,
    /// Is told what becomes of every save.
    audience: Arc<dyn Audience>,
    uses: Vec<RuleUse>,
    /// The tests that a rule must pass before it goes live.
    gate: Gate,
    /// When a version has failed too often.
    strikes: StrikeLimits,
    /// The sinks that take a tenant's alerts.
    alert_sinks: HashMap<String, Vec<String>>,
    /// Each mailbox's rules, in order.
    chains: HashMap<String, Vec<RuleId>>,
    live: ArcSwap<Generation>,
    /// One reload at a time. Holds what was last found of each rule.
    seen: Arc<tokio::sync::Mutex<HashMap<RuleId, Seen>>>,
    sending_back: tokio::sync::Mutex<()>,
}

/// The files of a rule at the last look.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    files: Footprint,
    /// Those of its tests, where they are run: one that is new changes no file that there was.
    tests: Vec<PathBuf>,
    /// Whether a rule could be made of them.
    sound: bool,
}

/// A set of rules live together.
#[derive(Default)]
struct Generation {
    number: u64,
    rules: BTreeMap<RuleId, Arc<LiveRule>>,
}

impl RuleBook {
    /// Loads every configured rule. One whose file is broken is served from its last good version; one that never was good is
    /// passed over, which each mail's decision says.
    pub async fn open(
        config: &Config,
        sandbox: Arc<Sandbox>,
        store: Store,
        audience: Arc<dyn Audience>,
    ) -> Result<Arc<Self>, StoreError> {
        let chains = config.mailboxes.iter().map(|mailbox| {
            let ids = mailbox
                .rules
                .iter()
                .take_while(|rule| rule.kind != RuleKind::Fallback)
                .map(|rule| RuleId {
                    tenant: mailbox.tenant.clone(),
                    name: rule.name.clone(),
                });
            (mailbox.name.clone(), ids.collect())
        });
        let book = Arc::new(Self {
            sandbox,
            store,
            uses: config.rule_uses(),
            gate: match audience.wants_tests() {
                true => Gate::of_all(config),
                false => Gate::of(config),
            },
            audience,
            strikes: config.limits.strikes,
            alert_sinks: alert_sinks(config),
            chains: chains.collect(),
            live: ArcSwap::from_pointee(Generation::default()),
            seen: Arc::default(),
            sending_back: tokio::sync::Mutex::default(),
        });
        book.reload(None).await?;
        book.resume_strikes()?;
        Ok(book)
    }

    /// The rules of one mailbox as they are now. What is answered stays the same whatever is saved meanwhile.
    pub fn chain(&self, mailbox: &str) -> Chain {
        let live = self.live.load();
        let ids = self.chains.get(mailbox).into_iter().flatten();
        Chain {
            generation: live.number,
            rules: ids.filter_map(|id| live.rules.get(id).cloned()).collect(),
        }
    }

    /// Ends the compiling under way: the service is about to end.
    pub fn stop_compiling(&self) {
        self.sandbox.stop();
    }

    /// The number of the live generation.
    pub fn generation(&self) -> u64 {
        self.live.load().number
    }

    /// The folders in which the rules' files lie, and those that they import or look for in vain, as of the last look.
    pub async fn folders(&self) -> BTreeSet<PathBuf> {
        let seen = self.seen.lock().await;
        let files = seen.values().flat_map(|seen| seen.files.folders());
        files.chain(self.gate.folders()).collect()
    }

    /// Reads every rule's files again and puts what changed live, all of it at once. What does not load changes nothing. The
    /// audience sees what changed before it is live, and is told afterwards; `noticed` is when a change was.
    pub async fn reload(
        self: &Arc<Self>,
        noticed: Option<Instant>,
    ) -> Result<Option<u64>, StoreError> {
        let mut seen = self.seen.clone().lock_owned().await;
        let book = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let looked = book.look(&mut seen);
            if let Ok(looked) = &looked {
                let (serving, chains) = (book.live.load_full(), &book.chains);
                let change = Change::new(&serving, looked, chains);
                if change.is_news() {
                    book.audience.rehearse(&change);
                }
            }
            (seen, looked)
        });
        let (mut seen, looked) = looked
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let reloaded = match looked {
            Ok(looked) => self.put_live(looked).await,
            Err(error) => Err(error),
        };
        match reloaded {
            Ok(reloaded) => {
                let reloaded = Reloaded {
                    noticed,
                    ..reloaded
                };
                if reloaded.is_news() {
                    self.audience.reloaded(&reloaded);
                }
                Ok(reloaded.generation)
            }
            Err(error) => {
                // What was seen did not go live: the next look begins anew.
                seen.clear();
                Err(error)
            }
        }
    }

    async fn put_live(&self, looked: Looked) -> Result<Reloaded, StoreError> {
        let mut reloaded = Reloaded {
            refused: looked.refused,
            passed: looked.passed,
            ..Reloaded::default()
        };
        if !looked.changed.is_empty() || looked.newest > self.generation() {
            let records = looked.rules.values().filter_map(|rule| rule.record.clone());
            let number = self
                .store
                .save_generation(records.collect(), looked.cause)
                .await?;
            self.live.store(Arc::new(Generation {
                number,
                rules: looked.rules,
            }));
            reloaded.generation = Some(number);
            reloaded.live = looked.sound;
            reloaded.returned = looked.returned;
        }
        for id in looked.forgiven {
            let (key, sinks) = (alert_key(&id.name), self.alert_sinks(&id.tenant));
            self.store.forgive(id.tenant, id.name, key, sinks).await?;
        }
        Ok(reloaded)
    }

    /// Compares the files with those of the last look and loads what differs. Blocking: reads files, compiles.
    fn look(&self, seen: &mut HashMap<RuleId, Seen>) -> Result<Looked, StoreError> {
        let live = self.live.load_full();
        let files = Files::default();
        let refused = Refused(self.store.refused_rules()?);
        let mut looked = Looked {
            newest: self.store.newest_generation()?,
            cause: "saved",
            ..Looked::default()
        };
        for wanted in &self.uses {
            let id = RuleId {
                tenant: wanted.tenant.clone(),
                name: wanted.rule.name.clone(),
            };
            let served = live.rules.get(&id);
            let serving = served.filter(|rule| refused.reason(&id, &rule.hash).is_none());
            let before = seen.get(&id);
            let tests = self.gate.files(wanted);
            if let Some(serving) = serving
                && before.is_some_and(|it| it.files.holds(&files) && it.tests == tests)
            {
                looked.rules.insert(id, serving.clone());
                continue;
            }
            let mut footprint = Footprint::default();
            let loaded = load_file(&self.sandbox, wanted, self.strikes, &files, &mut footprint);
            let mut passed = None;
            let loaded = loaded.and_then(|fresh| match refused.reason(&id, &fresh.hash) {
                Some(reason) => Err(Refusal::Returned {
                    name: id.name.clone(),
                    reason: reason.to_owned(),
                }),
                None => {
                    for file in &tests {
                        // What cannot be read fails its test, which says why.
                        let _ = footprint.read(&files, Spot::anywhere(file));
                    }
                    let serves = serving.is_some_and(|it| it.hash == fresh.hash);
                    passed = self.tested(wanted, &fresh, serves)?;
                    Ok(fresh)
                }
            });
            if loaded.is_ok() && refused.has(&id) {
                looked.forgiven.push(id.clone());
            }
            let now = Seen {
                files: footprint,
                tests,
                sound: loaded.is_ok(),
            };
            let is_news = before != Some(&now);
            seen.insert(id.clone(), now);
            if let Some(tested) = passed.filter(|_| is_news) {
                looked.passed.push((id.clone(), tested));
            }
            let rule = match (loaded, serving) {
                // Another way to what serves anyway, such as back from a broken save.
                (Ok(fresh), Some(serving))
                    if fresh.hash == serving.hash && serving.rule.is_ok() =>
                {
                    serving.clone()
                }
                (Ok(fresh), _) => {
                    self.keep_without_predecessor(&id.tenant, &fresh)?;
                    looked.changed.push(id.clone());
                    looked.sound.push(id.clone());
                    let told = served.is_some_and(|it| it.strikes.is_told());
                    if told && !looked.forgiven.contains(&id) {
                        looked.forgiven.push(id.clone());
                    }
                    Arc::new(fresh)
                }
                (Err(refusal), serving) => {
                    let reason = refusal.to_string();
                    if is_news {
                        looked.refused.push((id.clone(), refusal));
                    }
                    match serving {
                        Some(serving) => serving.clone(),
                        None => {
                            looked.changed.push(id.clone());
                            if served.is_some() {
                                looked.returned.push(id.clone());
                                looked.cause = "sent back";
                            }
                            Arc::new(self.last_good(wanted, reason)?)
                        }
                    }
                }
            };
            looked.rules.insert(id, rule);
        }
        Ok(looked)
    }

    /// A fresh rule whose own tests fail counts as one that does not load. Its tests are files of it like any other.
    fn tested(
        &self,
        wanted: &RuleUse,
        fresh: &LiveRule,
        serves: bool,
    ) -> Result<Option<Tested>, Refusal> {
        let rule = fresh.rule.as_ref().ok();
        match rule.and_then(|rule| self.gate.test(&self.sandbox, wanted, rule)) {
            Some(tested) if tested.refusal().is_some() => Err(Refusal::Tests {
                name: wanted.rule.name.clone(),
                tested,
                serves,
            }),
            tested => Ok(tested),
        }
    }

    /// The version that last served, from the store; a rule that says why it cannot run when there is none.
    fn last_good(&self, wanted: &RuleUse, reason: String) -> Result<LiveRule, StoreError> {
        let name = wanted.rule.name.clone();
        let Some(record) = self.store.last_good(&wanted.tenant, &name)? else {
            return Ok(LiveRule {
                name,
                hash: String::new(),
                rule: Err(reason),
                strikes: Strikes::new(StrikeLimits::NEVER),
                on_failure: wanted.on_failure,
                record: None,
            });
        };
        let rule = LiveRule {
            name,
            hash: record.hash.hex(),
            rule: load_bytes(&self.sandbox, wanted, &record.bytes)
                .map_err(|error| format!("{reason}; and its last good version: {error}")),
            strikes: Strikes::new(self.strikes),
            on_failure: wanted.on_failure,
            record: Some(record),
        };
        self.keep_without_predecessor(&wanted.tenant, &rule)?;
        Ok(rule)
    }

    /// A version that nothing served before stays whatever it does: switched off, it would protect from nothing.
    fn keep_without_predecessor(&self, tenant: &str, rule: &LiveRule) -> Result<(), StoreError> {
        let hash = rule.rule.as_ref().ok().map(Rule::hash);
        if let Some(hash) = hash
            && self.store.good_before(tenant, &rule.name, &hash)?.is_none()
        {
            rule.strikes.stay();
        }
        Ok(())
    }

    /// Whether another process made a generation that does not serve yet.
    pub fn is_behind(&self) -> Result<bool, StoreError> {
        Ok(self.store.newest_generation()? > self.generation())
    }

    fn alert_sinks(&self, tenant: &str) -> Vec<String> {
        self.alert_sinks.get(tenant).cloned().unwrap_or_default()
    }
}

/// Loads a rule as its files are now, and takes note of them.
fn load_file(
    sandbox: &Sandbox,
    wanted: &RuleUse,
    strikes: StrikeLimits,
    files: &Files,
    footprint: &mut Footprint,
) -> Result<LiveRule, Refusal> {
    let name = wanted.rule.name.clone();
    let Some(spot) = Spot::of(&wanted.rule) else {
        let rule = sandbox
            .load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits)
            .map_err(|error| Refusal::NoRule {
                error,
                source_line: None,
            })?;
        return Ok(LiveRule {
            name,
            hash: rule.hash().hex(),
            rule: Ok(rule),
            // There is no other version of what is built in.
            strikes: Strikes::new(StrikeLimits::NEVER),
            on_failure: wanted.on_failure,
            record: None,
        });
    };
    let read = footprint.read(files, spot);
    let bytes = read.map_err(|unread| Refusal::Unread {
        name: name.clone(),
        reason: told(unread, CONFIGURATION),
    })?;
    let folder = Folder::of(files, &wanted.rule);
    let loaded = load(sandbox, wanted, &bytes, &folder);
    footprint.add(folder.footprint());
    let rule = loaded.map_err(|error| Refusal::no_rule(error, wanted, files, footprint))?;
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
        strikes: Strikes::new(strikes),
        on_failure: wanted.on_failure,
    })
}

/// What compiles components. Only the binary sets it: another executable with these parts cannot be its own child.
static COMPILER: OnceLock<Compiler> = OnceLock::new();

/// From now on this process compiles components in children of its own program, which are called with the argument given.
pub fn compile_in_children(argument: &str) -> std::io::Result<()> {
    // It names this very program even where its file was replaced meanwhile.
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

/// The sandbox that every command uses. Compiled code is kept in the user's cache folder, so that one command warms it for the
/// next, or under `data_dir` for a user without one.
pub fn sandbox(data_dir: Option<&Path>, workers: usize) -> Result<Sandbox, SandboxError> {
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
        })
    };
    match make(user.or_else(|| own.clone())) {
        // A home that is read-only or somebody else's is no reason to stand still.
        Err(SandboxError::Cache { .. } | SandboxError::CacheNotOurs { .. }) => make(own),
        made => made,
    }
}

/// Loads a rule's bytes as the kind its file's name says. What a script imports is read from its folder, unless the bytes are
/// those of several files, as the store has them.
pub fn load_bytes(sandbox: &Sandbox, wanted: &RuleUse, bytes: &[u8]) -> Result<Rule, LoadError> {
    let files = Files::default();
    let folder = Folder::of(&files, &wanted.rule);
    load(sandbox, wanted, bytes, &folder)
}

/// Loads a rule as its files are now. The reason of a refusal is for people.
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
        RuleKind::Component(_) => Source::Component { name, bytes },
        _ => {
            bundle = Bundle::unpack(name, bytes)?;
            match bundle.modules() {
                [only] => Source::Modules {
                    name,
                    text: &only.text,
                    imports: folder,
                },
                all => Source::Modules {
                    name,
                    text: all.first().map_or("", |first| &first.text),
                    imports: &bundle,
                },
            }
        }
    };
    sandbox.load(
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

/// What a look at the files found.
#[derive(Default)]
struct Looked {
    rules: BTreeMap<RuleId, Arc<LiveRule>>,
    changed: Vec<RuleId>,
    /// Of those that changed, the ones made of their files as they are.
    sound: Vec<RuleId>,
    /// Those whose serving version is refused by now.
    returned: Vec<RuleId>,
    /// Those of which versions were refused, and whose file changed since.
    forgiven: Vec<RuleId>,
    /// What is wrong with files that changed.
    refused: Vec<(RuleId, Refusal)>,
    /// Of files that changed, the tests that passed.
    passed: Vec<(RuleId, Tested)>,
    /// The newest generation in the store.
    newest: u64,
    /// Why there is a new generation, if there is.
    cause: &'static str,
}
