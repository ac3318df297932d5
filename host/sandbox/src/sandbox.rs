//! The sandbox: makes rules from scripts and components, and holds the parts that they share.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use postroom_core::ActionKind;
use wasmtime::StoreContextMut;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use crate::bindings::{RulePre, kv, log, lookup, settings, types, zones};
use crate::cache::Cache;
use crate::compile::Compiler;
use crate::component;
use crate::deadline::Deadline;
use crate::engine::{self, Engines};
use crate::error::{LoadError, SandboxError};
use crate::host::{Host, Terms};
use crate::loaded::{LoadedTotals, Share};
use crate::lookup::NoLookup;
use crate::matching::PatternCache;
use crate::memory::NoKv;
use crate::rule::{MadeOf, Rule};
use crate::script::{self, Scripts};
use crate::source::{Imports, NoImports, RuleSource};
use postroom_core::{Grants, LOADED_BYTES, Limits};

/// The interpreter of scripts, a core module built for the world `script-engine`.
static SCRIPT_ENGINE: &[u8] = include_bytes!(env!("POSTROOM_GUEST_SCRIPT"));
/// The default rule, a core module built for the world `rule`.
pub(crate) static STANDARD: &[u8] = include_bytes!(env!("POSTROOM_GUEST_STANDARD"));
/// The interface through which the script engine queries grants.
const ENGINE: &str = "postroom:plugin/engine@2.0.0";
/// The interface through which the script engine reports the line that decided.
const ORIGIN: &str = "postroom:plugin/origin@2.0.0";
const STANDARD_NAME: &str = "standard";

/// The default number of concurrent instances.
const DEFAULT_WORKERS: usize = 16;

/// The settings of the sandbox.
#[derive(Debug, Clone)]
pub struct SandboxConfig {
    /// The folder of compiled code, which only this user may access; `None` stores nothing.
    pub cache_dir: Option<PathBuf>,
    /// The number of concurrent instances; further callers wait.
    pub workers: usize,
    /// The compiler of the tenants' components.
    pub compiler: Compiler,
    /// The memory that the loaded rules of all tenants may hold together. A tenant's own limit is [`Limits::loaded_bytes`].
    pub loaded_bytes: usize,
}

/// Makes rules. There is one per process.
pub struct Sandbox {
    engines: Arc<Engines>,
    loaded: Arc<LoadedTotals>,
    /// Created with the first script: compiling the interpreter takes a second or two unless the cache has it.
    scripts: Mutex<Option<Arc<Scripts>>>,
    /// The component of the built-in rule.
    standard: Vec<u8>,
}

impl Default for SandboxConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            workers: DEFAULT_WORKERS,
            compiler: Compiler::default(),
            loaded_bytes: LOADED_BYTES,
        }
    }
}

impl Sandbox {
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        let cache = Cache::open(config.cache_dir)?;
        let standard = component::componentize(STANDARD).map_err(|error| SandboxError::Guest {
            guest: STANDARD_NAME,
            message: error.to_string(),
        })?;
        Ok(Self {
            engines: Arc::new(Engines::new(config.workers.max(1), cache, config.compiler)?),
            loaded: Arc::new(LoadedTotals::new(config.loaded_bytes)),
            scripts: Mutex::new(None),
            standard,
        })
    }

    /// Stops the current compilation and refuses later components, because the program is about to end.
    pub fn stop(&self) {
        self.engines.compilers.stop();
    }

    /// Makes a rule without a tenant, see [`Sandbox::load_for`].
    pub fn load(
        &self,
        source: RuleSource<'_>,
        settings: &str,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Rule, LoadError> {
        self.load_for("", source, settings, grants, limits)
    }

    /// Makes a rule of a tenant. Blocks: compiles a component that is not in the cache, or evaluates a script's top level,
    /// and starts one instance as a test.
    ///
    /// `settings` is one JSON object.
    pub fn load_for(
        &self,
        tenant: &str,
        source: RuleSource<'_>,
        settings: &str,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Rule, LoadError> {
        self.make(tenant, source, settings, grants, limits)
            .map_err(LoadError::cut)
    }

    fn make(
        &self,
        tenant: &str,
        source: RuleSource<'_>,
        settings: &str,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Rule, LoadError> {
        let (RuleSource::Script { name, .. }
        | RuleSource::Modules { name, .. }
        | RuleSource::Component { name, .. }) = source;
        let terms = Arc::new(Terms {
            tenant: tenant.to_owned(),
            name: name.to_owned(),
            settings: settings.to_owned(),
            grants: *grants,
            limits: limits.clone(),
            patterns: PatternCache::default(),
        });
        let (instance_pre, made_of) = match source {
            RuleSource::Script { text, .. } => self.script(&terms, text, &NoImports)?,
            RuleSource::Modules { text, imports, .. } => self.script(&terms, text, imports)?,
            RuleSource::Component { bytes, .. } => {
                let (pre, share) = self.component(&terms, bytes)?;
                (pre, MadeOf::component(bytes, share))
            }
        };
        let exports = || {
            let ty = instance_pre.component().component_type();
            ty.exports(instance_pre.engine())
                .map(|(name, _)| format!("`{name}` of another type"))
                .collect::<Vec<_>>()
        };
        let pre = RulePre::new(instance_pre.clone())
            .map_err(|_| component::wrong_world(name, &exports()))?;
        self.start(&pre, &terms)?;
        Ok(Rule::new(made_of, self.engines.clone(), pre, terms))
    }

    /// Returns the built-in rule: replies to known tickets become notes, everything else a ticket.
    pub fn load_standard(
        &self,
        settings: &str,
        grants: &Grants,
        limits: &Limits,
    ) -> Result<Rule, LoadError> {
        let source = RuleSource::Component {
            name: STANDARD_NAME,
            bytes: &self.standard,
        };
        self.load(source, settings, grants, limits)
    }

    fn component(
        &self,
        terms: &Arc<Terms>,
        bytes: &[u8],
    ) -> Result<(InstancePre<Host>, Option<Share>), LoadError> {
        let name = &terms.name;
        let wasi = component::check(name, bytes, &terms.grants)?;
        let is_ours = std::ptr::eq(bytes.as_ptr(), self.standard.as_ptr());
        let (component, share) = if is_ours {
            let component = self.engines.compile(bytes, wasi);
            let failed = |error| LoadError::sandbox(name, format!("{error:#}"));
            (component.map_err(failed)?, None)
        } else {
            let code = self.engines.compile_within(terms, bytes)?;
            let share = self.share(terms, code.loaded_bytes())?;
            let component = self.engines.component(name, &code, bytes.len(), wasi)?;
            (component, Some(share))
        };
        // A component is linked only to its grants.
        let linker = linker(component.engine(), &terms.grants, wasi)
            .map_err(|error| LoadError::sandbox(name, format!("{error:#}")))?;
        let pre = linker.instantiate_pre(&component);
        let pre = pre.map_err(|error| match component::newer_import(bytes) {
            Some((import, version)) => LoadError::NewerPostroom {
                name: name.clone(),
                import,
                version,
            },
            None => LoadError::UnknownImport {
                name: name.clone(),
                import: format!("{error:#}"),
            },
        })?;
        Ok((pre, share))
    }

    /// Counts the memory that a rule will hold while it is loaded.
    fn share(&self, terms: &Terms, bytes: usize) -> Result<Share, LoadError> {
        let limit = terms.limits.loaded_bytes;
        self.loaded.take(&terms.tenant, &terms.name, bytes, limit)
    }

    fn script(
        &self,
        terms: &Arc<Terms>,
        text: &str,
        imports: &dyn Imports,
    ) -> Result<(InstancePre<Host>, MadeOf), LoadError> {
        let failed = |error: wasmtime::Error| LoadError::sandbox(&terms.name, format!("{error:#}"));
        let scripts = self
            .scripts()
            .map_err(|error| LoadError::sandbox(&terms.name, error))?;
        let script = scripts.evaluate(&self.engines, terms, text, imports, &|bytes| {
            self.share(terms, bytes)
        })?;
        // The single interpreter imports everything; an import that is not granted fails when it is called.
        let mut linker = linker(&self.engines.small, &Grants::ALL, false).map_err(failed)?;
        link_engine(&mut linker).map_err(failed)?;
        let pre = scripts.link(&mut linker, &script).map_err(failed)?;
        Ok((
            pre,
            MadeOf {
                hash: script.bundle.hash(),
                init_log: script.log,
                bundle: Some(script.bundle),
                calls: script.calls,
                _share: Some(script.share),
            },
        ))
    }

    /// Starts one instance and discards it, so that a rule that cannot start never goes live.
    fn start(&self, pre: &RulePre<Host>, terms: &Arc<Terms>) -> Result<(), LoadError> {
        let _turn = self.engines.turn();
        let host = Host::new(
            terms.clone(),
            None,
            String::new(),
            Deadline::after(terms.limits.init_time),
            Arc::new(NoKv),
            Arc::new(NoLookup),
        );
        let mut store = engine::store(pre.engine(), host);
        match pre.instantiate(&mut store) {
            // No deadline interrupts the copying of data.
            Ok(_) if store.data().deadline.is_over() => Err(LoadError::InitDeadline {
                name: terms.name.clone(),
                limit: terms.limits.init_time,
            }),
            Ok(_) => Ok(()),
            Err(error) => Err(script::failure(terms, store.data(), &error)),
        }
    }

    fn scripts(&self) -> Result<Arc<Scripts>, SandboxError> {
        // Held while compiling: a second script waits for the first one's interpreter.
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ready) = &*scripts {
            return Ok(ready.clone());
        }
        let made = Arc::new(Scripts::new(&self.engines, SCRIPT_ENGINE)?);
        Ok(scripts.insert(made).clone())
    }
}

fn linker(
    engine: &wasmtime::Engine,
    grants: &Grants,
    wasi: bool,
) -> wasmtime::Result<Linker<Host>> {
    let mut linker = Linker::new(engine);
    types::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    log::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    settings::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    zones::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    if grants.kv {
        kv::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    }
    if grants.lookup {
        lookup::add_to_linker::<_, HasSelf<Host>>(&mut linker, |host| host)?;
    }
    if wasi {
        crate::wasi::link(&mut linker)?;
    }
    Ok(linker)
}

/// Links the functions that only the script engine may call.
fn link_engine(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    linker.instance(ENGINE)?.func_wrap(
        "granted",
        |store: StoreContextMut<'_, Host>, (kind,): (String,)| {
            let granted = store.data().terms.grants.actions;
            // A decline is a reply and an ignore.
            let kind = match kind.as_str() {
                "decline" => Some(ActionKind::Reply),
                kind => ActionKind::named(kind),
            };
            Ok((kind.is_some_and(|kind| granted.has(kind)),))
        },
    )?;
    linker.instance(ORIGIN)?.func_wrap(
        "decided-at",
        |mut store: StoreContextMut<'_, Host>, (path,): (Vec<String>,)| {
            Ok(store.data_mut().note_origin(path)?)
        },
    )
}
