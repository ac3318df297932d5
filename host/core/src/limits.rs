//! Limits and grants of rules, failure windows and automatic mail. Each limit has a name, so that configuration can set
//! it and a test can exceed it.

use std::time::Duration;

use crate::grants::ActionKinds;

/// The limits of one rule. They hold for one mail; `init_time`, `compile_*`, `modules` and `source_bytes` hold for one
/// load, `loaded_bytes` while the rule is loaded, and the totals of `kv` for all that the rule stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// All memories of an instance together, at most [`Limits::MOST_MEMORY`].
    pub memory_bytes: usize,
    /// Computing time of one decision; the limit in wall-clock time is a hundred times as long.
    pub time: Duration,
    /// Computing time of a script's top level or of a component's start, counted likewise.
    pub init_time: Duration,
    /// Address space of the process that compiles a component.
    pub compile_memory_bytes: usize,
    /// Computing time, in whole seconds, of the process that compiles a component.
    pub compile_time: Duration,
    /// Memory of all loaded rules of the tenant: images of scripts, compiled code.
    pub loaded_bytes: usize,
    /// The files of one script, itself included.
    pub modules: usize,
    /// The text of all files of one script together.
    pub source_bytes: usize,
    /// The data a rule may pass to the host in one call: its decision, a log line, a pattern, a `kv` value.
    pub output_bytes: usize,
    /// Actions of one decision.
    pub actions: usize,
    /// Nesting depth of arrays and objects in one JSON value. The stored form adds a few levels, and a JSON reader accepts
    /// at most 127.
    pub json_depth: usize,
    /// The log of one decision. Anything over the limit is cut.
    pub log_bytes: usize,
    /// Different patterns in one decision.
    pub patterns: usize,
    /// The text of one pattern.
    pub pattern_bytes: usize,
    /// One pattern once compiled.
    pub compiled_pattern_bytes: usize,
    /// Matches that one `find-all` returns; the rest is left out.
    pub matches: usize,
    /// The result of one `match` or `find-all`, groups included.
    pub match_bytes: usize,
    /// How much of a field is searched.
    pub haystack_bytes: usize,
    /// Size of a `kv` key, the key of an alert or an expectation, the name of a field, or a text passed to `lookup`.
    pub key_bytes: usize,
    pub kv_value_bytes: usize,
    /// Different `kv` keys touched in one decision.
    pub kv_keys: usize,
    /// Keys that one rule of a tenant may hold in its whole `kv`.
    pub kv_total_keys: u64,
    /// Bytes of keys and values that one rule of a tenant may hold in its whole `kv`.
    pub kv_total_bytes: u64,
    /// Queries to `lookup` in one decision.
    pub lookups: usize,
    /// Rows that one lookup returns; the rest is left out.
    pub lookup_rows: usize,
    /// The results of all lookups of one decision together.
    pub lookup_bytes: usize,
}

impl Limits {
    /// The highest `memory_bytes`; a higher value counts as this one.
    pub const MOST_MEMORY: usize = 1 << 30;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 64 << 20,
            time: Duration::from_millis(250),
            init_time: Duration::from_secs(2),
            // Twice the need of the largest components in use, which contain a whole language: 560 MiB and 15 s for
            // JavaScript.
            compile_memory_bytes: 1 << 30,
            compile_time: Duration::from_secs(60),
            loaded_bytes: 512 << 20,
            modules: 64,
            source_bytes: 5 << 20,
            output_bytes: 1 << 20,
            actions: 64,
            json_depth: 32,
            log_bytes: 16 << 10,
            patterns: 256,
            pattern_bytes: 4 << 10,
            compiled_pattern_bytes: 1 << 20,
            matches: 1000,
            match_bytes: 4 << 20,
            haystack_bytes: 2 << 20,
            key_bytes: 512,
            kv_value_bytes: 64 << 10,
            kv_keys: 256,
            kv_total_keys: 1000,
            kv_total_bytes: 4 << 20,
            lookups: 64,
            lookup_rows: 50,
            lookup_bytes: 1 << 20,
        }
    }
}

/// The grants of a rule: capabilities, which are linked only if granted, and the actions that it may request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Grants {
    /// The rule's own key-value store.
    pub kv: bool,
    /// Queries about the tenant's contacts, assets, tickets and alerts.
    pub lookup: bool,
    /// All by default.
    pub actions: ActionKinds,
}

impl Grants {
    pub const ALL: Self = Self {
        kv: true,
        lookup: true,
        actions: ActionKinds::ALL,
    };

    /// The interfaces that need a grant, by name.
    pub const CAPABILITIES: [&str; 2] = ["kv", "lookup"];

    /// Returns whether an interface is linked; an interface that needs no grant always is.
    pub fn links(&self, interface: &str) -> bool {
        match interface {
            "kv" => self.kv,
            "lookup" => self.lookup,
            _ => true,
        }
    }
}

/// The limits of a rule's own tests. A rule whose tests exceed them does not go live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TestLimits {
    /// The number of cases. If there are more, the tests fail as a whole, so that no case is silently skipped.
    pub cases: usize,
    /// The running time of all of them together.
    pub time: Duration,
}

impl Default for TestLimits {
    fn default() -> Self {
        Self {
            cases: 200,
            time: Duration::from_secs(10),
        }
    }
}

/// Bytes that the loaded rules of all tenants may hold together.
pub const LOADED_BYTES: usize = 4 << 30;

/// Generations of each tenant's rules that are kept.
pub const KEPT_GENERATIONS: u64 = 1000;

/// Bytes of each tenant's rule versions that are kept in addition to the live ones.
pub const KEPT_GENERATION_BYTES: u64 = 256 << 20;

/// When a rule version is rolled back automatically.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrikeLimits {
    /// The number of senders for whom it failed; 0 means never.
    pub failures: usize,
    /// The number of its last mails that are considered.
    pub mails: usize,
}

impl Default for StrikeLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            mails: 20,
        }
    }
}

impl StrikeLimits {
    /// The limits of rules that are never rolled back.
    pub const NEVER: Self = Self {
        failures: 0,
        mails: 0,
    };
}
