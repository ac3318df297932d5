//! Compiles the components of tenants outside of this process, one at a time, within limits.
//!
//! Cranelift may need time and memory out of proportion to its input, and ends the process when memory runs out. Therefore
//! a child of our own program compiles ([`child`]): it limits itself before it reads anything, and has neither an
//! environment nor files. A note in the cache folder records that a load began ([`notes`]), so that a component whose
//! compilation failed is not tried at each start.

mod child;
mod notes;
mod parent;
mod turns;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wasmtime::Engine;

use crate::error::LoadError;
use crate::host::Terms;
use notes::{Note, Notes};
use postroom_core::Limits;
use turns::Turns;

pub use child::compile_for_parent;
pub(crate) use notes::EXTENSION as NOTE_EXTENSION;

/// The number of unfinished attempts after which a component is refused.
const MOST_UNFINISHED: u32 = 3;

/// The place where components are compiled.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Compiler {
    /// This process, without limits; for components that are trusted.
    #[default]
    InProcess,
    /// A child process of this program. It is called with these arguments, followed by the limits of memory in bytes and of
    /// CPU time in seconds, and calls [`compile_for_parent`].
    Child {
        program: PathBuf,
        arguments: Vec<String>,
    },
}

/// The compiler of a sandbox, its queue and its notes.
pub(crate) struct Compilers {
    compiler: Compiler,
    turns: Turns,
    is_stopped: AtomicBool,
    notes: Notes,
}

/// The reason for an attempt without compiled code.
#[derive(Debug)]
enum Failure {
    Memory,
    Time,
    /// The limit of wall-clock time.
    Wait(Duration),
    /// The size of the code: more than all loaded rules of the tenant may hold.
    Size,
    /// The component itself.
    Invalid(String),
    Crash(String),
    Stopped,
}

impl Compilers {
    pub(crate) fn new(compiler: Compiler, notes_dir: Option<PathBuf>) -> Self {
        Self {
            compiler,
            turns: Turns::default(),
            is_stopped: AtomicBool::new(false),
            notes: Notes::new(notes_dir),
        }
    }

    /// Stops the current compilation and refuses all later ones.
    pub(crate) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
    }

    /// Returns the compiled code of a tenant's component. Blocks until its turn has come and it is compiled. `key`
    /// identifies the component and every setting that affects its code.
    pub(crate) fn compile(
        &self,
        terms: &Terms,
        key: &str,
        engine: &Engine,
        bytes: &[u8],
    ) -> Result<Vec<u8>, LoadError> {
        let (name, limits) = (terms.name.as_str(), &terms.limits);
        let Compiler::Child { program, arguments } = &self.compiler else {
            let code = engine.precompile_component(bytes);
            return code
                .map_err(|error| Failure::Invalid(format!("{error:#}")).error(name, limits));
        };
        let _turn = self.turns.wait(&terms.tenant);
        let before = self.notes.read(key);
        let unfinished = match before {
            // Limits that were raised since are tried.
            Some(Note::Memory(limit)) if limits.compile_memory_bytes <= limit => {
                return Err(Failure::Memory.error(name, limits));
            }
            Some(Note::Time(limit)) if limits.compile_time <= limit => {
                return Err(Failure::Time.error(name, limits));
            }
            Some(Note::Unfinished(times)) if times >= MOST_UNFINISHED => {
                let failure = Failure::Crash(format!("{times} attempts did not finish"));
                return Err(failure.error(name, limits));
            }
            Some(Note::Unfinished(times)) => times,
            _ => 0,
        };
        tracing::debug!(rule = name, "compiling in a child process");
        let began = Some(Note::Unfinished(unfinished + 1));
        self.notes.write(key, began);
        let compiled = parent::compile(program, arguments, bytes, limits, &self.is_stopped);
        let note = match &compiled {
            Ok(_) | Err(Failure::Invalid(_) | Failure::Size) => None,
            Err(Failure::Memory) => Some(Note::Memory(limits.compile_memory_bytes)),
            Err(Failure::Time) => Some(Note::Time(limits.compile_time)),
            // Neither a stop nor a busy machine says anything about the component.
            Err(Failure::Stopped | Failure::Wait(_)) => before,
            Err(Failure::Crash(_)) => began,
        };
        self.notes.write(key, note);
        compiled.map_err(|failure| failure.error(name, limits))
    }
}

impl Failure {
    fn error(self, name: &str, limits: &Limits) -> LoadError {
        let name = name.to_owned();
        match self {
            Failure::Memory => LoadError::CompileMemory {
                name,
                limit_mib: limits.compile_memory_bytes >> 20,
            },
            Failure::Time => LoadError::CompileTime {
                name,
                limit: limits.compile_time,
            },
            Failure::Wait(limit) => LoadError::CompileWait { name, limit },
            Failure::Size => LoadError::CompileSize {
                name,
                limit: limits.loaded_bytes,
            },
            Failure::Invalid(message) => LoadError::Invalid { name, message },
            Failure::Crash(message) => LoadError::CompileFailed { name, message },
            Failure::Stopped => LoadError::Stopped { name },
        }
    }
}
