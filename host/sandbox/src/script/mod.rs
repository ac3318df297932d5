//! Scripts: an interpreter that is compiled once, and for each script an image of its memory with the script already
//! evaluated.
//!
//! The interpreter's core module imports its memory. Loading a script instantiates the module with its initial memory
//! contents, evaluates the script's top level under the limits, reads the memory back and makes a module of it that
//! contains no code. The instance of a mail then starts from that image, copy-on-write.

mod calls;
mod image;
mod init;
pub mod lex;
mod split;
mod typescript;
mod wrapper;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use wasmtime::Module;
use wasmtime::component::Component;

use crate::component::componentize;
use crate::engine::Engines;
use crate::error::{LoadError, SandboxError};
use crate::host::{Host, Terms};
use crate::loaded::Share;
use crate::source::{self, Bundle, Imports, ScriptImport};
use init::{Missing, Outcome};
use typescript::TypeScript;

pub(crate) use calls::Calls;
pub(crate) use init::failure;

const MEMORY_MODULE: &str = "env";
const MEMORY_NAME: &str = "memory";
const INTERPRETER_IMPORT: &str = "interpreter";
const IMAGE_IMPORT: &str = "image";
/// The extension of a module with types.
const TYPESCRIPT: &str = ".ts";
/// A page of wasm memory.
const PAGE: usize = 64 << 10;

/// The interpreter, ready for scripts.
pub(crate) struct Scripts {
    interpreter: Module,
    wrapper: Component,
    base: Base,
    /// Created with the first script that has types.
    typescript: Mutex<Option<Arc<TypeScript>>>,
}

/// The memory of an interpreter that has not run yet.
struct Base {
    pages: u64,
    data: Vec<(usize, Vec<u8>)>,
}

/// An evaluated script.
pub(crate) struct Script {
    image: Module,
    pub(crate) log: Vec<String>,
    pub(crate) bundle: Bundle,
    pub(crate) calls: Calls,
    pub(crate) share: Share,
}

/// Why a core module cannot be used as the interpreter.
#[derive(Debug, thiserror::Error)]
enum Unfit {
    #[error("its state is not only in memory: {0}")]
    State(&'static str),
    #[error("it contains an invalid index")]
    Index,
    #[error("it cannot be read: {0}")]
    Parse(#[from] wasmparser::BinaryReaderError),
    #[error("it cannot be rewritten: {0}")]
    Encode(String),
}

impl Scripts {
    /// Compiles the interpreter, or loads it from the cache. `wasm` is a core module built for the world `script-engine`.
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
            typescript: Mutex::default(),
        })
    }

    /// Evaluates a script's top level with all its imports, and keeps the resulting memory.
    ///
    /// Only the interpreter knows the imports for certain, so it is called again until none is missing. `share` is called
    /// before the image is made, to check that its bytes fit.
    pub(crate) fn evaluate(
        &self,
        engines: &Engines,
        terms: &Arc<Terms>,
        text: &str,
        imports: &dyn Imports,
        share: &dyn Fn(usize) -> Result<Share, LoadError>,
    ) -> Result<Script, LoadError> {
        let mut left = terms.limits.init_time;
        let mut modules = vec![source::Module {
            name: terms.name.clone(),
            text: text.to_owned(),
        }];
        check_size(&modules, terms)?;
        let mut stripped = vec![self.without_types(engines, terms, &modules[0], &mut left)?];
        let (memory, log, calls) = loop {
            let plain: Vec<(&str, &str)> = modules
                .iter()
                .zip(&stripped)
                .map(|(module, stripped)| {
                    let text = stripped.as_ref().unwrap_or(&module.text);
                    (module.name.as_str(), text.as_str())
                })
                .collect();
            match init::run(self, engines, terms, &plain, &mut left)? {
                Outcome::Evaluated { memory, log } => break (memory, log, Calls::of(plain)),
                Outcome::Lacking(missing) => {
                    for missing in missing {
                        let module = fetch(&missing, &modules, imports, terms)?;
                        stripped.push(self.without_types(engines, terms, &module, &mut left)?);
                        modules.push(module);
                        check_size(&modules, terms)?;
                    }
                }
            }
        };
        let failed = |error: wasmtime::Error| LoadError::sandbox(&terms.name, format!("{error:#}"));
        let code = image::code(&engines.small, &memory).map_err(failed)?;
        drop(memory);
        let text: usize = modules.iter().map(|module| module.text.len()).sum();
        let share = share(code.len().saturating_add(text))?;
        let image = image::module(&engines.small, code).map_err(failed)?;
        // Done now, not during the first mail.
        image.initialize_copy_on_write_image().map_err(failed)?;
        Ok(Script {
            image,
            log,
            bundle: Bundle::new(modules),
            calls,
            share,
        })
    }

    /// Returns the JavaScript of a TypeScript module; `None` if it already is JavaScript.
    fn without_types(
        &self,
        engines: &Engines,
        terms: &Arc<Terms>,
        module: &source::Module,
        left: &mut Duration,
    ) -> Result<Option<String>, LoadError> {
        if !module.name.ends_with(TYPESCRIPT) {
            return Ok(None);
        }
        let typescript = {
            // Held while compiling: a second script waits for the first one's.
            let mut made = self
                .typescript
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match &*made {
                Some(ready) => ready.clone(),
                None => {
                    let ready = TypeScript::new(engines)
                        .map_err(|error| LoadError::sandbox(&terms.name, error))?;
                    made.insert(Arc::new(ready)).clone()
                }
            }
        };
        typescript.strip(engines, terms, module, left).map(Some)
    }

    /// Prepares a script's instances, given the linker of its imports.
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

/// Reads one more module, if the limits have room for it.
fn fetch(
    missing: &Missing,
    modules: &[source::Module],
    imports: &dyn Imports,
    terms: &Terms,
) -> Result<source::Module, LoadError> {
    let refused = |reason: String| LoadError::Script {
        file: missing.importer.clone(),
        line: missing.line,
        column: missing.column,
        message: format!("import of {:?}: {reason}", missing.specifier),
    };
    let most = terms.limits.modules;
    if modules.len() >= most {
        return Err(refused(format!(
            "a rule may have {most} files; import less, or raise the limit `modules`"
        )));
    }
    if modules.iter().any(|module| module.name == missing.name) {
        let message = format!("the interpreter cannot find {}", missing.name);
        return Err(LoadError::sandbox(&terms.name, message));
    }
    let import = ScriptImport {
        importer: &missing.importer,
        specifier: &missing.specifier,
        name: &missing.name,
    };
    Ok(source::Module {
        name: missing.name.clone(),
        text: imports.read(&import).map_err(refused)?,
    })
}

fn check_size(modules: &[source::Module], terms: &Terms) -> Result<(), LoadError> {
    let size: usize = modules.iter().map(|module| module.text.len()).sum();
    let limit = terms.limits.source_bytes;
    if size <= limit {
        return Ok(());
    }
    Err(LoadError::SourceSize {
        name: terms.name.clone(),
        limit,
    })
}
