//! Runs rules: each mail in a fresh WebAssembly instance with access to the mail, its settings, its log and its grants,
//! within limits.
//!
//! [`Sandbox::load`] makes a [`Rule`] from a script or a component; [`Rule::decide`] runs it on one mail.

mod answer;
mod bindings;
mod cache;
mod compile;
mod component;
mod deadline;
mod declared;
mod engine;
mod error;
mod host;
mod interruptible;
mod loaded;
mod log;
mod lookup;
mod lookup_session;
mod matching;
mod memory;
mod meter;
mod rule;
mod sandbox;
mod script;
mod semaphore;
mod source;
mod ticker;
mod wasi;

pub use compile::{Compiler, compile_for_parent};
pub use component::{Inspection, Kind, componentize, inspect};
pub use deadline::thread_time;
pub use declared::{component_settings, script_settings, standard_settings};
pub use error::{BuildError, LoadError, LoadedScope, RuleTrouble, SandboxError};
pub use lookup::{Lookup, LookupError, NoLookup};
pub use memory::{Kv, KvError, NoKv};
pub use postroom_core::{Grants, Limits};
pub use rule::{Rule, Run};
pub use sandbox::{Sandbox, SandboxConfig};
pub use script::lex;
pub use source::{Bundle, Imports, Module, RuleSource, ScriptImport, module_text};
