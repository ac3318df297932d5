//! Errors of the sandbox, of loading a rule, and of one decision, each with a type and a sentence that includes the fix.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use postroom_core::TroubleKind;

use crate::rule::cut;

/// The sandbox itself could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the wasm engine cannot start: {0}")]
    Engine(String),
    #[error("the cache folder {path} cannot be used: {source}")]
    Cache {
        path: PathBuf,
        source: std::io::Error,
    },
    /// Compiled code is trusted, so no other user may be able to write to its folder.
    #[error("the cache folder {path} {problem}; remove it, or give Postroom its own folder")]
    CacheNotOurs {
        path: PathBuf,
        problem: &'static str,
    },
    #[error("the sandbox's clock thread cannot start: {0}")]
    Thread(std::io::Error),
    /// A built-in guest does not work, which is a fault of the build.
    #[error("the built-in {guest} is unusable: {message}")]
    Guest {
        guest: &'static str,
        message: String,
    },
}

/// A rule could not be loaded. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A syntax error, or an error thrown by the top level.
    #[error("{}: {message}", place(file, *line, *column))]
    Script {
        file: String,
        /// From 1; 0 if unknown.
        line: u32,
        /// From 1; 0 if unknown.
        column: u32,
        message: String,
    },
    #[error(
        "{name}: this is not a rule: it does not export `decide` of the world postroom:plugin/rule@1 (found: {found}); build it against that world"
    )]
    WrongWorld { name: String, found: String },
    #[error(
        "{name}: needs {import}, not granted to this tenant; grant it in the configuration, or do not use it"
    )]
    NotGranted { name: String, import: String },
    #[error(
        "{name}: built for postroom:plugin@{version} according to its {by}, but this Postroom supports postroom:plugin@{known}; build it against that version, or use the Postroom it was built for"
    )]
    OtherContract {
        name: String,
        /// The import or export that shows this.
        by: String,
        /// `2.0`
        version: String,
        known: String,
    },
    #[error("{name}: needs Postroom {version} for {import}; update Postroom")]
    NewerPostroom {
        name: String,
        import: String,
        version: String,
    },
    #[error("{name}: imports {import}, which no rule may use; build it without that import")]
    UnknownImport { name: String, import: String },
    #[error(
        "{name}: this is a core module, not a component; run `postroom plugin build {name}` first"
    )]
    CoreModule { name: String },
    #[error(
        "{name}: compiling it needs more than {limit_mib} MiB of memory; make its functions smaller, or raise the limit `compile_memory`"
    )]
    CompileMemory { name: String, limit_mib: usize },
    #[error(
        "{name}: compiling it takes more than {limit:?} of computing time; make its functions smaller, or raise the limit `compile_time`"
    )]
    CompileTime { name: String, limit: Duration },
    #[error(
        "{name}: compiling it was abandoned after {limit:?} because the machine is busy; save it again"
    )]
    CompileWait { name: String, limit: Duration },
    #[error("{name}: compiling it failed: {message}; change it and save it again")]
    CompileFailed { name: String, message: String },
    #[error(
        "{name}: its compiled code is over {}; make it smaller, or raise the limit `loaded`",
        size(*limit)
    )]
    CompileSize { name: String, limit: usize },
    #[error(
        "{name}: needs {} once loaded, and the other rules of {budget} hold {} of the limit `{}` of {}; \
         keep less at the top level of scripts, or raise that limit",
        size(*bytes), size(*others), budget.key(), size(*limit)
    )]
    Loaded {
        name: String,
        bytes: usize,
        /// The bytes that the other rules hold.
        others: usize,
        limit: usize,
        budget: LoadedScope,
    },
    #[error(
        "{name}: needs {} once loaded, and all versions of the rules of {budget} hold {} of twice the limit `{}` of {}, \
         as mail is still being decided by those that were replaced; save it again, or raise that limit",
        size(*bytes), size(*held), budget.key(), size(*limit)
    )]
    LoadedVersions {
        name: String,
        bytes: usize,
        /// The bytes that all versions hold.
        held: usize,
        limit: usize,
        budget: LoadedScope,
    },
    #[error("{name}: not loaded because the service is stopping")]
    Stopped { name: String },
    #[error("{name}: not a complete WebAssembly component: {message}; save it again")]
    Invalid { name: String, message: String },
    #[error(
        "{name}: its source with all imports exceeds {limit} bytes; shorten it, or raise the limit `source`"
    )]
    SourceSize { name: String, limit: usize },
    #[error("{name}: its start took longer than {limit:?}; do less at the top level")]
    InitDeadline { name: String, limit: Duration },
    #[error(
        "{name}: its start needs more than {limit} bytes of memory; raise the memory limit, or keep less at the top level"
    )]
    InitMemory { name: String, limit: usize },
    #[error("{name}: its start failed: {message}")]
    InitTrap { name: String, message: String },
    #[error("{name}: {call} was called at the top level; call it in decide")]
    InitCall { name: String, call: String },
    /// The fault is the sandbox's.
    #[error("{name}: the sandbox failed: {message}")]
    Sandbox { name: String, message: String },
}

/// The owner of a limit on loaded rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadedScope {
    Tenant,
    Total,
}

impl LoadedScope {
    /// Returns the limit's name in the configuration.
    fn key(self) -> &'static str {
        match self {
            LoadedScope::Tenant => "loaded",
            LoadedScope::Total => "loaded_total",
        }
    }
}

impl fmt::Display for LoadedScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            LoadedScope::Tenant => "this tenant",
            LoadedScope::Total => "all tenants",
        })
    }
}

impl LoadError {
    /// Cuts every text that may come from a tenant's file, since an error is stored with each mail that its rule did not
    /// decide.
    pub(crate) fn cut(mut self) -> Self {
        let texts: &mut [&mut String] = match &mut self {
            LoadError::Script { file, message, .. } => &mut [file, message],
            LoadError::WrongWorld { found, .. } => &mut [found],
            LoadError::NotGranted { import, .. } | LoadError::UnknownImport { import, .. } => {
                &mut [import]
            }
            LoadError::OtherContract { by, version, .. } => &mut [by, version],
            LoadError::NewerPostroom {
                import, version, ..
            } => &mut [import, version],
            LoadError::CompileFailed { message, .. }
            | LoadError::Invalid { message, .. }
            | LoadError::InitTrap { message, .. }
            | LoadError::Sandbox { message, .. } => &mut [message],
            LoadError::InitCall { call, .. } => &mut [call],
            LoadError::CoreModule { .. }
            | LoadError::CompileMemory { .. }
            | LoadError::CompileTime { .. }
            | LoadError::CompileWait { .. }
            | LoadError::CompileSize { .. }
            | LoadError::Loaded { .. }
            | LoadError::LoadedVersions { .. }
            | LoadError::Stopped { .. }
            | LoadError::SourceSize { .. }
            | LoadError::InitDeadline { .. }
            | LoadError::InitMemory { .. } => &mut [],
        };
        for text in texts {
            **text = cut(std::mem::take(*text));
        }
        self
    }

    pub(crate) fn sandbox(name: &str, error: impl std::fmt::Display) -> Self {
        Self::Sandbox {
            name: name.to_owned(),
            message: error.to_string(),
        }
    }
}

/// Why a rule did not decide a mail. The next rule decides.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleTrouble {
    #[error("the rule crashed: {message}")]
    Trap { message: String },
    #[error("the rule took longer than {limit:?}")]
    Deadline { limit: Duration },
    #[error("the rule needed more than {limit} bytes of memory")]
    Memory { limit: usize },
    #[error("the rule's output was refused: {message}")]
    Output { message: String },
    /// The rule failed by itself.
    #[error("{message}")]
    Failure {
        message: String,
        /// `file:line:column`
        location: Option<String>,
    },
    #[error("the rule's decision is invalid: {message}")]
    InvalidDecision { message: String },
    #[error("{import} is not granted to this tenant")]
    NotGranted { import: &'static str },
    /// The store behind `kv` failed, which is not the rule's fault.
    #[error("kv could not be read: {message}")]
    Kv { message: String },
    /// The data behind `lookup` is unavailable, which is not the rule's fault.
    #[error("lookup failed: {message}")]
    Lookup { message: String },
}

impl RuleTrouble {
    /// Returns whether the rule is at fault, rather than the data behind its capabilities.
    pub fn is_of_rule(&self) -> bool {
        !matches!(self, RuleTrouble::Kv { .. } | RuleTrouble::Lookup { .. })
    }

    /// Returns the short name in a recorded decision.
    pub fn kind(&self) -> TroubleKind {
        match self {
            RuleTrouble::Trap { .. } => TroubleKind::Trap,
            RuleTrouble::Deadline { .. } => TroubleKind::Deadline,
            RuleTrouble::Memory { .. } => TroubleKind::Memory,
            RuleTrouble::Output { .. } => TroubleKind::Output,
            RuleTrouble::Failure { .. } | RuleTrouble::Kv { .. } | RuleTrouble::Lookup { .. } => {
                TroubleKind::Failure
            }
            RuleTrouble::InvalidDecision { .. } => TroubleKind::InvalidDecision,
            RuleTrouble::NotGranted { .. } => TroubleKind::NotGranted,
        }
    }

    /// Returns the position in the rule's source, as `file:line:column`, if the rule stated it.
    pub fn location(&self) -> Option<&str> {
        match self {
            RuleTrouble::Failure { location, .. } => location.as_deref(),
            _ => None,
        }
    }
}

/// A file could not be made into a component, or could not be inspected.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("this is not WebAssembly; name the .wasm file that the compiler wrote")]
    NotWasm,
    #[error("this is already a component; use it as it is")]
    AlreadyComponent,
    #[error("the file is truncated or damaged: {0}; build it again")]
    Damaged(String),
    #[error(
        "this core module does not say which world it was built for: {0}; build it with a bindings generator such as wit-bindgen"
    )]
    NoWorld(String),
    #[error("this core module cannot become a component: {0}")]
    Encode(String),
}

/// The reason that the host aborted a decision; passed through wasmtime as the cause of the trap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stop {
    #[error("the deadline passed")]
    Deadline,
    #[error("{0}")]
    Output(String),
    #[error("{0} is not granted")]
    NotGranted(&'static str),
    #[error("kv: {0}")]
    Kv(String),
    #[error("lookup: {0}")]
    Lookup(String),
    #[error("{0} was called at the top level")]
    TopLevel(String),
}

fn place(file: &str, line: u32, column: u32) -> String {
    match (line, column) {
        (0, _) => file.to_owned(),
        (line, 0) => format!("{file}:{line}"),
        (line, column) => format!("{file}:{line}:{column}"),
    }
}

/// `1 GiB`, `1.5 MiB`, `12 bytes`.
fn size(bytes: usize) -> String {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let Some((unit, shift)) = units.into_iter().find(|(_, shift)| bytes >> shift > 0) else {
        return format!("{bytes} bytes");
    };
    let tenths = (bytes as u128 * 10) >> shift;
    match tenths % 10 {
        0 => format!("{} {unit}", tenths / 10),
        rest => format!("{}.{rest} {unit}", tenths / 10),
    }
}
