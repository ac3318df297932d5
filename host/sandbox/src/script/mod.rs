//! Scripts: an interpreter that is compiled once, and for each script an image of its memory with the script already evaluated.
//!
//! The interpreter's core module imports its memory. Loading a script instantiates it over its first contents, evaluates the script's top level under
//! the limits, reads the memory back and makes a module of it that holds no code. A mail's instance then begins from that image, copy-on-write.

mod image;
mod init;
mod split;
mod wrapper;

use std::sync::Arc;

use wasmtime::Module;
use wasmtime::component::Component;

use crate::component::componentize;
use crate::engine::Engines;
use crate::error::{LoadError, SandboxError};
use crate::host::{Host, Terms};

pub(crate) use init::failure;

const MEMORY_MODULE: &str = "env";
const MEMORY_NAME: &str = "memory";
const INTERPRETER_IMPORT: &str = "interpreter";
const IMAGE_IMPORT: &str = "image";
/// A page of wasm memory.
const PAGE: usize = 64 << 10;

/// The interpreter, ready to take scripts.
pub(crate) struct Scripts {
    interpreter: Module,
    wrapper: Component,
    base: Base,
}

/// The memory of an interpreter that has not run yet.
struct Base {
    pages: u64,
    data: Vec<(usize, Vec<u8>)>,
}

/// A script evaluated.
pub(crate) struct Script {
    image: Module,
    pub(crate) log: Vec<String>,
}

/// Why a core module cannot serve as the interpreter.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("memory is not all of its state: {0}")]
    State(&'static str),
    #[error("a number in it points nowhere")]
    Index,
    #[error("it cannot be read: {0}")]
    Parse(#[from] wasmparser::BinaryReaderError),
    #[error("it cannot be rewritten: {0}")]
    Encode(String),
}

impl Scripts {
    /// Compiles the interpreter, or takes it from the cache. `wasm` is a core module built for the world `script-engine`.
    pub(crate) fn new(engines: &Engines, wasm: &[u8]) -> Result<Self, SandboxError> {
        let unfit = |error: &dyn std::fmt::Display| SandboxError::Guest {
            guest: "script engine",
            message: error.to_string(),
        };
        let component = componentize(wasm).map_err(|e| unfit(&e))?;
        let split = split::split(wasm).map_err(|e| unfit(&e))?;
        let wrapper = wrapper::wrap(&component, &split).map_err(|e| unfit(&e))?;
        let engine_error = |e: wasmtime::Error| unfit(&format!("{e:#}"));
        Ok(Self {
            interpreter: engines.compile_small(&split.code).map_err(engine_error)?,
            wrapper: engines.compile_small(&wrapper).map_err(engine_error)?,
            base: Base {
                pages: split.pages,
                data: split.data,
            },
        })
    }

    /// Evaluates a script's top level and keeps what it left in memory.
    pub(crate) fn evaluate(
        &self,
        engines: &Engines,
        terms: &Arc<Terms>,
        text: &str,
    ) -> Result<Script, LoadError> {
        let evaluated = init::run(self, engines, terms, text)?;
        let failed = |error: wasmtime::Error| LoadError::sandbox(&terms.name, format!("{error:#}"));
        let image = Module::from_binary(&engines.small, &image::module(&evaluated.memory))
            .map_err(failed)?;
        // Before the first mail, not during it.
        image.initialize_copy_on_write_image().map_err(failed)?;
        Ok(Script {
            image,
            log: evaluated.log,
        })
    }

    /// What a script's instances are made of, given the linker of its imports.
    pub(crate) fn link(
        &self,
        linker: &mut wasmtime::component::Linker<Host>,
        script: &Script,
    ) -> wasmtime::Result<wasmtime::component::InstancePre<Host>> {
        linker
            .root()
            .module(INTERPRETER_IMPORT, &self.interpreter)?;
        linker.root().module(IMAGE_IMPORT, &script.image)?;
        linker.instantiate_pre(&self.wrapper)
    }
}
