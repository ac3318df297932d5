//! Removes the types from scripts, in the sandbox like all other code that reads untrusted input.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Trap;
use wasmtime::component::{InstancePre, Linker};

use super::init::failure;
use crate::bindings::stripper::{StripError, TypeStripperPre};
use crate::component::componentize;
use crate::deadline::Deadline;
use crate::engine::{self, Engines};
use crate::error::{LoadError, SandboxError};
use crate::host::{Host, Terms};
use crate::lookup::NoLookup;
use crate::memory::NoKv;
use crate::source::Module;

/// A core module built for the world `type-stripper`.
static TYPE_STRIPPER: &[u8] = include_bytes!(env!("POSTROOM_GUEST_TYPESCRIPT"));
/// Bytes transferred besides the text itself.
const EXTRA_BYTES: usize = 64 << 10;

/// The type stripper, ready for use.
pub(super) struct TypeScript(TypeStripperPre<Host>);

impl TypeScript {
    /// Compiles the guest, or takes it from the cache.
    pub(super) fn new(engines: &Engines) -> Result<Self, SandboxError> {
        let unfit = |message: String| SandboxError::Guest {
            guest: "type stripper",
            message,
        };
        let component = componentize(TYPE_STRIPPER).map_err(|e| unfit(e.to_string()))?;
        let failed = |error: wasmtime::Error| unfit(format!("{error:#}"));
        let component = engines.compile(&component, false).map_err(failed)?;
        let linker = Linker::<Host>::new(component.engine());
        let pre: InstancePre<Host> = linker.instantiate_pre(&component).map_err(failed)?;
        TypeStripperPre::new(pre).map(Self).map_err(failed)
    }

    /// Returns JavaScript in which everything keeps its position. The time that it takes is deducted from the remaining
    /// time.
    pub(super) fn strip(
        &self,
        engines: &Engines,
        terms: &Arc<Terms>,
        module: &Module,
        left: &mut Duration,
    ) -> Result<String, LoadError> {
        let _turn = engines.turn();
        let deadline = Deadline::after(*left);
        let host = Host::new(
            terms.clone(),
            None,
            String::new(),
            deadline,
            Arc::new(NoKv),
            Arc::new(NoLookup),
        );
        let mut store = engine::store(self.0.engine(), host);
        store.set_hostcall_fuel(
            module
                .text
                .len()
                .saturating_mul(2)
                .saturating_add(EXTRA_BYTES),
        );
        let refused = |error: StripError| LoadError::Script {
            file: module.name.clone(),
            line: error.line,
            column: error.column,
            message: error.message,
        };
        let stripped = self
            .0
            .instantiate(&mut store)
            .and_then(|guest| guest.call_strip(&mut store, &module.text));
        *left = deadline.left();
        match stripped {
            Ok(stripped) => stripped.map_err(refused),
            Err(error) if error.is::<Trap>() && !store.data().meter.refused => {
                Err(refused(StripError {
                    message:
                        "its types cannot be removed: it is nested too deeply, or no TypeScript"
                            .into(),
                    line: 0,
                    column: 0,
                }))
            }
            Err(error) => Err(failure(terms, store.data(), &error)),
        }
    }
}
