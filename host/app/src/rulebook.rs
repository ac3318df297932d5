//! The rules that are live: loaded, numbered as a generation, swapped whole, and remembered so that a restart needs no good file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use postroom_core::ContentHash;
use postroom_sandbox::{Grants, LoadError, Rule, Sandbox, SandboxConfig, SandboxError, Source};
use postroom_store::{RuleRecord, Store, StoreError};

use crate::config::{Config, RuleKind, RuleUse};

/// The largest rule file that is read, in bytes: room for a component with an interpreter of its own.
const RULE_FILE_BYTES: u64 = 64 << 20;

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
    /// What goes into the store with the generation; nothing for a built-in rule.
    record: Option<RuleRecord>,
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
    /// Saves that changed nothing, each said once, with the reason: `file:line:column: what`.
    pub refused: Vec<(RuleId, String)>,
}

/// Everything that is needed to load rules, and those that are live.
pub struct RuleBook {
    sandbox: Arc<Sandbox>,
    store: Store,
    uses: Vec<RuleUse>,
    /// Each mailbox's rules, in order.
    chains: HashMap<String, Vec<RuleId>>,
    live: ArcSwap<Generation>,
    /// One reload at a time. Holds the content that was last refused per rule.
    refused: tokio::sync::Mutex<HashMap<RuleId, Option<ContentHash>>>,
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
    ) -> Result<(Arc<Self>, Reloaded), StoreError> {
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
            chains: chains.collect(),
            live: ArcSwap::from_pointee(Generation::default()),
            refused: tokio::sync::Mutex::default(),
        });
        let reloaded = book.reload().await?;
        Ok((book, reloaded))
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

    /// The number of the live generation.
    pub fn generation(&self) -> u64 {
        self.live.load().number
    }

    /// The folders in which the rules' files lie.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.uses.iter().filter_map(|wanted| wanted.rule.path());
        files
            .filter_map(|file| file.parent().map(Path::to_owned))
            .collect()
    }

    /// Reads every rule's file again and puts what changed live, all of it at once. What does not load changes nothing.
    pub async fn reload(self: &Arc<Self>) -> Result<Reloaded, StoreError> {
        let mut refused = self.refused.lock().await;
        let (book, known) = (self.clone(), refused.clone());
        let looked = tokio::task::spawn_blocking(move || book.look(&known)).await;
        let looked =
            looked.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;

        let mut reloaded = Reloaded::default();
        for id in &looked.sound {
            refused.remove(id);
        }
        for (id, hash, reason) in looked.refused {
            if refused.insert(id.clone(), hash) != Some(hash) {
                reloaded.refused.push((id, reason));
            }
        }
        if looked.changed.is_empty() {
            return Ok(reloaded);
        }
        let records = looked.rules.values().filter_map(|rule| rule.record.clone());
        let number = self.store.save_generation(records.collect()).await?;
        self.live.store(Arc::new(Generation {
            number,
            rules: looked.rules,
        }));
        reloaded.generation = Some(number);
        reloaded.live = looked.changed;
        reloaded.live.retain(|id| looked.sound.contains(id));
        Ok(reloaded)
    }

    /// Compares the files with what is live and loads what differs, but for what was refused before. Blocking: reads files,
    /// compiles.
    fn look(&self, refused: &HashMap<RuleId, Option<ContentHash>>) -> Result<Looked, StoreError> {
        let live = self.live.load_full();
        let mut looked = Looked::default();
        for wanted in &self.uses {
            let id = RuleId {
                tenant: wanted.tenant.clone(),
                name: wanted.rule.name.clone(),
            };
            let serving = live.rules.get(&id);
            let known_bad = refused.get(&id).copied().flatten();
            let loading = load_file(
                &self.sandbox,
                wanted,
                serving.map(|rule| &**rule),
                known_bad,
            );
            let fresh = match (loading, serving) {
                (Ok(Loading::Fresh(fresh)), _) => {
                    looked.sound.push(id.clone());
                    Some(fresh)
                }
                (Ok(Loading::Serving), _) => {
                    looked.sound.push(id.clone());
                    None
                }
                (Ok(Loading::KnownBad), _) => None,
                (Err((hash, reason)), Some(_)) => {
                    looked.refused.push((id.clone(), hash, reason));
                    None
                }
                (Err((hash, reason)), None) => {
                    looked.refused.push((id.clone(), hash, reason.clone()));
                    Some(Arc::new(self.last_good(wanted, reason)?))
                }
            };
            match (fresh, serving) {
                (Some(fresh), _) => {
                    looked.changed.push(id.clone());
                    looked.rules.insert(id, fresh);
                }
                (None, Some(serving)) => {
                    looked.rules.insert(id, serving.clone());
                }
                (None, None) => {}
            }
        }
        Ok(looked)
    }

    /// The version that last served, from the store; a rule that says why it cannot run when there is none.
    fn last_good(&self, wanted: &RuleUse, reason: String) -> Result<LiveRule, StoreError> {
        let name = wanted.rule.name.clone();
        let Some(record) = self.store.last_good(&wanted.tenant, &name)? else {
            return Ok(LiveRule {
                name,
                hash: String::new(),
                rule: Err(reason),
                record: None,
            });
        };
        Ok(LiveRule {
            name,
            hash: record.hash.hex(),
            rule: load_bytes(&self.sandbox, wanted, &record.bytes)
                .map_err(|error| format!("{reason}; and its last good version: {error}")),
            record: Some(record),
        })
    }
}

/// What a rule's file holds.
enum Loading {
    /// What serves now.
    Serving,
    /// What was refused before.
    KnownBad,
    Fresh(Arc<LiveRule>),
}

/// Loads a rule's file unless it holds what `serving` was made of, or what is known to be bad. An error carries the refused
/// content's hash, where it could be read, and the reason.
fn load_file(
    sandbox: &Sandbox,
    wanted: &RuleUse,
    serving: Option<&LiveRule>,
    known_bad: Option<ContentHash>,
) -> Result<Loading, (Option<ContentHash>, String)> {
    let name = wanted.rule.name.clone();
    let Some(path) = wanted.rule.path() else {
        if serving.is_some() {
            return Ok(Loading::Serving);
        }
        let rule = sandbox
            .load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits)
            .map_err(|error| (None, error.to_string()))?;
        return Ok(Loading::Fresh(Arc::new(LiveRule {
            name,
            hash: rule.hash().hex(),
            rule: Ok(rule),
            record: None,
        })));
    };
    let bytes = read_rule(path).map_err(|reason| (None, format!("{name}: {reason}")))?;
    let hash = ContentHash::of(&bytes);
    if serving.is_some_and(|serving| serving.hash == hash.hex() && serving.rule.is_ok()) {
        return Ok(Loading::Serving);
    }
    if known_bad == Some(hash) {
        return Ok(Loading::KnownBad);
    }
    let rule =
        load_bytes(sandbox, wanted, &bytes).map_err(|error| (Some(hash), error.to_string()))?;
    Ok(Loading::Fresh(Arc::new(LiveRule {
        name,
        hash: hash.hex(),
        rule: Ok(rule),
        record: Some(RuleRecord {
            tenant: wanted.tenant.clone(),
            name: wanted.rule.name.clone(),
            hash,
            bytes: bytes.into(),
            settings_json: wanted.settings_json.clone(),
            grants_json: grants_json(&wanted.grants),
        }),
    })))
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
    let make = |cache_dir| Sandbox::new(SandboxConfig { cache_dir, workers });
    match make(user.or_else(|| own.clone())) {
        // A home that is read-only or somebody else's is no reason to stand still.
        Err(SandboxError::Cache { .. } | SandboxError::CacheNotOurs { .. }) => make(own),
        made => made,
    }
}

/// Loads a rule's bytes as the kind its file's name says.
pub fn load_bytes(sandbox: &Sandbox, wanted: &RuleUse, bytes: &[u8]) -> Result<Rule, LoadError> {
    let name = wanted.rule.name.as_str();
    let text;
    let source = match wanted.rule.kind {
        RuleKind::Component(_) => Source::Component { name, bytes },
        _ => {
            text = String::from_utf8_lossy(bytes);
            Source::Script { name, text: &text }
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
    serde_json::json!({ "kv": grants.kv }).to_string()
}

/// Reads a rule's file; the reason is for people.
pub fn read_rule(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > RULE_FILE_BYTES {
        return Err(format!(
            "{size} bytes, over the {RULE_FILE_BYTES} a rule file may have"
        ));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}

/// What a look at the files found.
#[derive(Default)]
struct Looked {
    rules: BTreeMap<RuleId, Arc<LiveRule>>,
    changed: Vec<RuleId>,
    /// Rules whose file holds what serves from now on.
    sound: Vec<RuleId>,
    refused: Vec<(RuleId, Option<ContentHash>, String)>,
}
