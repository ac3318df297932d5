//! Runs rules: each mail in a fresh WebAssembly instance that can reach the mail, its settings, its log and what it was granted, within limits.
//!
//! [`Sandbox::load`] makes a [`Rule`] of a script or a component; [`Rule::decide`] runs it on one mail.

mod answer;
mod bindings;
mod cache;
mod compile;
mod component;
mod deadline;
mod engine;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod gate;
mod host;
mod inquiries;
mod limits;
mod log;
mod lookup;
mod matching;
mod memory;
mod meter;
mod rule;
mod sandbox;
mod script;
mod source;
mod stepwise;
mod ticker;
mod wasi;

pub use compile::{Compiler, compile_for_parent};
pub use component::{Inspection, Kind, componentize, inspect};
pub use error::{BuildError, LoadError, SandboxError, Trouble};
pub use limits::{Grants, Limits};
pub use lookup::{Lookup, LookupError, NoLookup};
pub use memory::{Kv, KvError, NoKv};
pub use rule::{Rule, Run};
pub use sandbox::{Sandbox, SandboxConfig};
pub use source::{Bundle, Import, Imports, Module, Source, module_text};
