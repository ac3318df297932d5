//! Evaluates a script's top level in the bare interpreter, before the component is built around it.
//!
//! Only the memory of a core module can be read back. Therefore this side implements the canonical ABI by hand, for the one
//! function `init` and the one import `log`.

use std::sync::Arc;
use std::time::Duration;

use wasmtime::{
    Caller, Extern, Func, FuncType, Instance, Linker, Memory, MemoryType, Store, Trap, Val,
};

use super::{MEMORY_MODULE, MEMORY_NAME, Scripts};
use crate::deadline::Deadline;
use crate::engine::{self, Engines};
use crate::error::{LoadError, Stop};
use crate::host::{Host, Terms};
use crate::lookup::NoLookup;
use crate::memory::NoKv;

/// `log` of the interface `log`, as core modules import it.
const LOG: (&str, &str) = ("postroom:plugin/log@2.0.0", "log");
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
/// `init: func(modules: list<script-module>) -> result<list<script-import>, script-error>`.
const INIT: &str = "init";
/// Frees the result of `init`.
const AFTER_INIT: &str = "cabi_post_init";
const ALLOCATE: &str = "cabi_realloc";
/// The size and alignment of a pointer, a length or a number, in bytes.
const WORD: usize = 4;
/// The size of a `script-module`: two strings.
const MODULE: usize = 4 * WORD;
/// The size of a `script-import`: three strings and two numbers.
const IMPORT: usize = 8 * WORD;
/// The offset of the result's content, after the byte that selects the variant.
const CONTENT: usize = WORD;

/// The result of passing a script's modules to the interpreter.
pub(super) enum Outcome {
    Evaluated {
        /// The whole memory, in full pages.
        memory: Vec<u8>,
        log: Vec<String>,
    },
    /// Nothing was evaluated, because these modules are missing.
    Lacking(Vec<Missing>),
}

/// An import of a module that was not passed in.
pub(super) struct Missing {
    pub(super) importer: String,
    pub(super) specifier: String,
    pub(super) name: String,
    /// From 1, as is the column; 0 if unknown.
    pub(super) line: u32,
    pub(super) column: u32,
}

struct ScriptError {
    file: String,
    message: String,
    line: u32,
    column: u32,
}

type Answer = Result<Vec<Missing>, ScriptError>;

/// Runs `init`. `modules` are names and JavaScript, the rule itself first. The time that it takes is deducted from the
/// remaining time.
pub(super) fn run(
    scripts: &Scripts,
    engines: &Engines,
    terms: &Arc<Terms>,
    modules: &[(&str, &str)],
    left: &mut Duration,
) -> Result<Outcome, LoadError> {
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
    let mut store = engine::store(scripts.interpreter.engine(), host);
    let evaluated = evaluate(scripts, &mut store, modules);
    *left = deadline.left();
    match evaluated {
        Ok((memory, Ok(missing))) if missing.is_empty() => Ok(Outcome::Evaluated {
            memory: memory.data(&store).to_vec(),
            log: store.data().log.take(),
        }),
        Ok((_, Ok(missing))) => Ok(Outcome::Lacking(missing)),
        Ok((_, Err(_))) if store.data().meter.refused => Err(out_of_memory(terms)),
        Ok((_, Err(error))) => Err(LoadError::Script {
            file: match error.file.as_str() {
                "" => terms.name.clone(),
                _ => error.file,
            },
            line: error.line,
            column: error.column,
            message: error.message,
        }),
        Err(error) => Err(failure(terms, store.data(), &error)),
    }
}

/// Returns why a start was aborted, by type.
pub(crate) fn failure(terms: &Terms, host: &Host, error: &wasmtime::Error) -> LoadError {
    let name = terms.name.clone();
    match error.downcast_ref::<Stop>() {
        Some(Stop::Deadline) => LoadError::InitDeadline {
            name,
            limit: terms.limits.init_time,
        },
        Some(Stop::TopLevel(call)) => LoadError::InitCall {
            name,
            call: call.clone(),
        },
        _ if host.meter.refused => out_of_memory(terms),
        _ if error.is::<Trap>() => LoadError::InitTrap {
            name,
            message: error.root_cause().to_string(),
        },
        _ => LoadError::sandbox(&name, format!("{error:#}")),
    }
}

fn out_of_memory(terms: &Terms) -> LoadError {
    LoadError::InitMemory {
        name: terms.name.clone(),
        limit: terms.limits.memory_bytes,
    }
}

fn evaluate(
    scripts: &Scripts,
    store: &mut Store<Host>,
    modules: &[(&str, &str)],
) -> wasmtime::Result<(Memory, Answer)> {
    let pages = u32::try_from(scripts.base.pages)?;
    let memory = Memory::new(&mut *store, MemoryType::new(pages, None))?;
    for (at, bytes) in &scripts.base.data {
        memory.write(&mut *store, *at, bytes)?;
    }
    let mut linker = Linker::new(scripts.interpreter.engine());
    linker.define(&mut *store, MEMORY_MODULE, MEMORY_NAME, memory)?;
    for import in scripts.interpreter.imports() {
        let Some(ty) = import.ty().func().cloned() else {
            continue;
        };
        let function = match (import.module(), import.name()) {
            LOG => Func::wrap(&mut *store, log),
            (module, name) => not_yet(store, ty, module, name),
        };
        linker.define(&mut *store, import.module(), import.name(), function)?;
    }
    let instance = linker.instantiate(&mut *store, &scripts.interpreter)?;
    let allocate = instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut *store, ALLOCATE)?;
    let mut pass = |bytes: &[u8], align: usize| -> wasmtime::Result<[u8; 2 * WORD]> {
        let (length, align) = (u32::try_from(bytes.len())?, u32::try_from(align)?);
        let at = allocate.call(&mut *store, (0, 0, align, length))?;
        memory.write(&mut *store, at as usize, bytes)?;
        let mut slice = [0; 2 * WORD];
        slice[..WORD].copy_from_slice(&at.to_le_bytes());
        slice[WORD..].copy_from_slice(&length.to_le_bytes());
        Ok(slice)
    };
    let mut list = Vec::with_capacity(modules.len() * MODULE);
    for (name, source) in modules {
        list.extend(pass(name.as_bytes(), 1)?);
        list.extend(pass(source.as_bytes(), 1)?);
    }
    let at = pass(&list, WORD)?;
    let at = u32::from_le_bytes([at[0], at[1], at[2], at[3]]);
    let count = u32::try_from(modules.len())?;
    let init = instance.get_typed_func::<(u32, u32), u32>(&mut *store, INIT)?;
    let answer = init.call(&mut *store, (at, count))?;
    let most = store.data().terms.limits.modules;
    let result = read(memory.data(&*store), answer as usize, most)
        .ok_or_else(|| wasmtime::Error::msg("the result of init is outside the memory"))?;
    clean_up(&instance, store, answer)?;
    Ok((memory, result))
}

/// Reads a result; of the missing modules, at most one more than `most`.
fn read(memory: &[u8], at: usize, most: usize) -> Option<Answer> {
    let is_error = *memory.get(at)? != 0;
    let mut words = Words {
        memory,
        at: at.checked_add(CONTENT)?,
    };
    if is_error {
        return Some(Err(ScriptError {
            file: words.text()?,
            message: words.text()?,
            line: words.number()?,
            column: words.number()?,
        }));
    }
    let (from, count) = (words.number()? as usize, words.number()? as usize);
    let missing = (0..count.min(most.saturating_add(1))).map(|index| {
        let mut words = Words {
            memory,
            at: from.checked_add(index.checked_mul(IMPORT)?)?,
        };
        Some(Missing {
            importer: words.text()?,
            specifier: words.text()?,
            name: words.text()?,
            line: words.number()?,
            column: words.number()?,
        })
    });
    missing.collect::<Option<_>>().map(Ok)
}

/// Reads a record field by field.
struct Words<'m> {
    memory: &'m [u8],
    at: usize,
}

impl Words<'_> {
    fn number(&mut self) -> Option<u32> {
        let end = self.at.checked_add(WORD)?;
        let bytes = self.memory.get(self.at..end)?;
        self.at = end;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn text(&mut self) -> Option<String> {
        let (from, length) = (self.number()? as usize, self.number()? as usize);
        let text = self.memory.get(from..from.checked_add(length)?)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }
}

fn clean_up(instance: &Instance, store: &mut Store<Host>, answer: u32) -> wasmtime::Result<()> {
    match instance.get_func(&mut *store, AFTER_INIT) {
        Some(after) => after.typed::<u32, ()>(&*store)?.call(store, answer),
        None => Ok(()),
    }
}

fn log(mut caller: Caller<'_, Host>, level: u32, at: u32, length: u32) -> wasmtime::Result<()> {
    if caller.data().deadline.is_over() {
        return Err(Stop::Deadline.into());
    }
    let Some(Extern::Memory(memory)) = caller.get_export(MEMORY_NAME) else {
        return Err(wasmtime::Error::msg("the interpreter exports no memory"));
    };
    let (memory, host) = memory.data_and_store_mut(&mut caller);
    let level = LEVELS.get(level as usize).unwrap_or(&LEVELS[1]);
    // Anything over the log's limit would be cut anyway, and need not be copied.
    let length = (length as usize).min(host.terms.limits.log_bytes.saturating_add(4));
    let message = (at as usize)
        .checked_add(length)
        .and_then(|end| memory.get(at as usize..end))
        .ok_or_else(|| wasmtime::Error::from(Trap::MemoryOutOfBounds))?;
    host.log.add(level, &String::from_utf8_lossy(message));
    Ok(())
}

/// Creates the placeholder of a host function, named for people: `[method]message.subject` of `postroom:plugin/types@2.0.0`
/// is `message.subject`, and `get` of `postroom:plugin/kv@2.0.0` is `kv.get`.
fn not_yet(store: &mut Store<Host>, ty: FuncType, module: &str, name: &str) -> Func {
    let call = match name.split_once(']') {
        Some((_, call)) => call.to_owned(),
        None => {
            let interface = module.rsplit_once('/').map_or(module, |(_, name)| name);
            let interface = interface
                .split_once('@')
                .map_or(interface, |(name, _)| name);
            format!("{interface}.{name}")
        }
    };
    Func::new(
        &mut *store,
        ty,
        move |_: Caller<'_, Host>, _: &[Val], _: &mut [Val]| {
            Err(Stop::TopLevel(call.clone()).into())
        },
    )
}
