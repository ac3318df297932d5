//! The engine of script rules: QuickJS in a sandbox, prepared once per script and copied for every mail.
//!
//! `init` starts the interpreter and runs the script's top level; the host keeps the resulting memory. `decide` runs in a
//! copy of that memory. Nothing here may hold a resource of the host between the two.

mod answer;
mod clock;
mod details;
mod engine;
mod host;
mod inquiries;
mod layout;
mod memory;
mod modules;
mod pattern;
mod trouble;

#[allow(unsafe_code)]
mod bindings {
    //! The bindings that `wit-bindgen` generates for the world `script-engine`.
    wit_bindgen::generate!({
        path: "../../wit",
        world: "script-engine",
    });
}

use bindings::{
    Context, Decision, Failure, Guest, Message, ScriptError, ScriptImport, ScriptModule,
};

/// Not used in tests, which run on many threads: this allocator supports only one.
#[cfg_attr(target_arch = "wasm32", global_allocator)]
static MEMORY: memory::Memory = memory::Memory::new();

struct Script;

impl Guest for Script {
    fn decide(message: &Message, context: Context) -> Result<Decision, Failure> {
        engine::decide(message, context)
    }

    fn init(modules: Vec<ScriptModule>) -> Result<Vec<ScriptImport>, ScriptError> {
        engine::init(modules)
    }
}

#[allow(unsafe_code)]
const _: () = {
    bindings::export!(Script with_types_in bindings);
};
