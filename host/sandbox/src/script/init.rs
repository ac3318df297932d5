//! Evaluates a script's top level in the bare interpreter, before there is a component around it.
//!
//! Only a core module lets its memory be read back. So this side speaks the canonical ABI by hand, for the one function `init` and the one import `log`.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::{
    Caller, Extern, Func, FuncType, Instance, Linker, Memory, MemoryType, Store, Trap, Val,
};

use super::{MEMORY_MODULE, MEMORY_NAME, Scripts};
use crate::engine::{self, Engines};
use crate::error::{LoadError, Stop};
use crate::host::{Host, Terms};
use crate::memory::NoKv;

/// `log` of the interface `log`, as core modules import it.
const LOG: (&str, &str) = ("postroom:plugin/log@1.0.0", "log");
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];
/// `init: func(name: string, source: string) -> result<_, script-error>`.
const INIT: &str = "init";
/// Frees what `init` answered.
const AFTER_INIT: &str = "cabi_post_init";
const ALLOCATE: &str = "cabi_realloc";
/// Where the parts of a `result<_, script-error>` lie, in bytes from its beginning.
const IS_ERROR: usize = 0;
const MESSAGE: usize = 4;
const MESSAGE_LENGTH: usize = 8;
const LINE: usize = 12;
const COLUMN: usize = 16;
const RESULT: usize = 20;

pub(super) struct Evaluated {
    /// All of it, in whole pages.
    pub(super) memory: Vec<u8>,
    pub(super) log: Vec<String>,
}

/// What `init` answered.
struct ScriptError {
    message: String,
    line: u32,
    column: u32,
}

pub(super) fn run(
    scripts: &Scripts,
    engines: &Engines,
    terms: &Arc<Terms>,
    text: &str,
) -> Result<Evaluated, LoadError> {
    let _turn = engines.turn();
    let host = Host::new(
        terms.clone(),
        None,
        String::new(),
        Instant::now() + terms.limits.init_time,
        Arc::new(NoKv),
    );
    let mut store = engine::store(scripts.interpreter.engine(), host);
    match evaluate(scripts, &mut store, &terms.name, text) {
        Ok((memory, Ok(()))) => Ok(Evaluated {
            memory: memory.data(&store).to_vec(),
            log: store.data().log.take(),
        }),
        Ok((_, Err(_))) if store.data().meter.refused => Err(out_of_memory(terms)),
        Ok((_, Err(error))) => Err(LoadError::Script {
            file: terms.name.clone(),
            line: error.line,
            column: error.column,
            message: error.message,
        }),
        Err(error) => Err(failure(terms, store.data(), &error)),
    }
}

/// Why a start broke off, by type.
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
    name: &str,
    text: &str,
) -> wasmtime::Result<(Memory, Result<(), ScriptError>)> {
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
    let pass = |store: &mut Store<Host>, text: &str| -> wasmtime::Result<(u32, u32)> {
        let length = u32::try_from(text.len())?;
        let at = allocate.call(&mut *store, (0, 0, 1, length))?;
        memory.write(&mut *store, at as usize, text.as_bytes())?;
        Ok((at, length))
    };
    let (name, name_length) = pass(store, name)?;
    let (source, source_length) = pass(store, text)?;
    let init = instance.get_typed_func::<(u32, u32, u32, u32), u32>(&mut *store, INIT)?;
    let answer = init.call(&mut *store, (name, name_length, source, source_length))?;
    let result = read(memory.data(&*store), answer as usize)
        .ok_or_else(|| wasmtime::Error::msg("what init answered lies outside the memory"))?;
    clean_up(&instance, store, answer)?;
    Ok((memory, result))
}

fn read(memory: &[u8], at: usize) -> Option<Result<(), ScriptError>> {
    let result = memory.get(at..at.checked_add(RESULT)?)?;
    let number = |at: usize| {
        let bytes = result.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if result[IS_ERROR] == 0 {
        return Some(Ok(()));
    }
    let from = number(MESSAGE)? as usize;
    let length = number(MESSAGE_LENGTH)? as usize;
    let message = memory.get(from..from.checked_add(length)?)?;
    Some(Err(ScriptError {
        message: String::from_utf8_lossy(message).into_owned(),
        line: number(LINE)?,
        column: number(COLUMN)?,
    }))
}

fn clean_up(instance: &Instance, store: &mut Store<Host>, answer: u32) -> wasmtime::Result<()> {
    match instance.get_func(&mut *store, AFTER_INIT) {
        Some(after) => after.typed::<u32, ()>(&*store)?.call(store, answer),
        None => Ok(()),
    }
}

fn log(mut caller: Caller<'_, Host>, level: u32, at: u32, length: u32) -> wasmtime::Result<()> {
    if Instant::now() >= caller.data().deadline {
        return Err(Stop::Deadline.into());
    }
    let Some(Extern::Memory(memory)) = caller.get_export(MEMORY_NAME) else {
        return Err(wasmtime::Error::msg("the interpreter exports no memory"));
    };
    let (memory, host) = memory.data_and_store_mut(&mut caller);
    let level = LEVELS.get(level as usize).unwrap_or(&LEVELS[1]);
    // What is over the log's cap would be cut anyway, and need not be copied.
    let length = (length as usize).min(host.terms.limits.log_bytes.saturating_add(4));
    let message = (at as usize)
        .checked_add(length)
        .and_then(|end| memory.get(at as usize..end))
        .ok_or_else(|| wasmtime::Error::from(Trap::MemoryOutOfBounds))?;
    host.log.add(level, &String::from_utf8_lossy(message));
    Ok(())
}

/// `[method]message.subject` of `postroom:plugin/types@1.0.0` is said as `message.subject`, `get` of `postroom:plugin/kv@1.0.0` as `kv.get`.
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
