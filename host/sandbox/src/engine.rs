//! The two wasmtime engines: a pool with warm slots for small guests, and on-demand memory for those that do not fit into
//! it.

use wasmtime::component::Component;
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
    UpdateDeadline,
};

use crate::cache::{Cache, Code, Compiled};
use crate::compile::{Compiler, Compilers};
use crate::component::on_demand;
use crate::error::{LoadError, SandboxError, Stop};
use crate::host::{Host, Terms};
use crate::semaphore::{Permit, Semaphore};
use crate::ticker::{Ticker, Ticking};
use postroom_core::Limits;

/// The stack of wasm code. The deciding threads need at least twice as much.
const WASM_STACK: usize = 1 << 20;
/// The memory that a slot keeps from one mail to the next, instead of returning it to the system and faulting it in again.
/// Halves the cost of a script whose whole image fits.
const KEEP_MEMORY: usize = 2 << 20;
const KEEP_TABLE: usize = 64 << 10;
/// The core modules, memories and tables that one pooled component may have; larger ones run on demand.
const CORE_INSTANCES: u32 = 16;
const MEMORIES: u32 = 2;
const TABLES: u32 = 4;
/// The largest script image that is mapped copy-on-write.
const IMAGE_BYTES: u64 = 32 << 20;

/// The engines with their clock, their semaphore and their cache. Shared by the sandbox and all its rules; dropping the
/// last one stops the clock.
pub(crate) struct Engines {
    pub(crate) small: Engine,
    pub(crate) large: Engine,
    pub(crate) cache: Cache,
    pub(crate) compilers: Compilers,
    ticker: Ticker,
    semaphore: Semaphore,
}

/// The right to run one instance: a slot, and a running clock.
pub(crate) struct Turn<'a> {
    _permit: Permit<'a>,
    _ticking: Ticking<'a>,
}

impl Engines {
    pub(crate) fn new(
        slots: usize,
        cache: Cache,
        compiler: Compiler,
    ) -> Result<Self, SandboxError> {
        let engine = |config: &Config| {
            Engine::new(config).map_err(|error| SandboxError::Engine(format!("{error:#}")))
        };
        let large = engine(&settings())?;
        let small = match engine(settings().allocation_strategy(pool(slots))) {
            Ok(small) => small,
            Err(error) => {
                tracing::warn!(%error, "no address space for a pool of instances; each is allocated on demand, which is slower");
                large.clone()
            }
        };
        let ticker =
            Ticker::start(vec![small.clone(), large.clone()]).map_err(SandboxError::Thread)?;
        Ok(Self {
            small,
            large,
            compilers: Compilers::new(compiler, cache.folder()),
            cache,
            ticker,
            semaphore: Semaphore::new(slots),
        })
    }

    /// Waits for a free slot.
    pub(crate) fn turn(&self) -> Turn<'_> {
        Turn {
            _permit: self.semaphore.acquire(),
            _ticking: self.ticker.run(),
        }
    }

    /// Returns the code of a tenant's component, from the cache or compiled within the limits.
    pub(crate) fn compile_within(&self, terms: &Terms, bytes: &[u8]) -> Result<Code, LoadError> {
        self.cache.code(&self.large, bytes, |key| {
            self.compilers.compile(terms, key, &self.large, bytes)
        })
    }

    /// Returns a tenant's component of this size, made from its code: in the pool if it fits, otherwise on demand.
    pub(crate) fn component(
        &self,
        name: &str,
        code: &Code,
        size: usize,
        wasi: bool,
    ) -> Result<Component, LoadError> {
        // Only this shows whether it fits into the pool; large ones are not tried.
        if !on_demand(size, wasi) {
            match code.component(&self.small) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::debug!(%error, "does not fit into the pool");
                }
            }
        }
        code.component(&self.large)
            .map_err(|error| LoadError::Invalid {
                name: name.to_owned(),
                message: format!("{error:#}"),
            })
    }

    /// Compiles one of our own components: in the pool if it fits, otherwise on demand.
    pub(crate) fn compile(&self, bytes: &[u8], wasi: bool) -> wasmtime::Result<Component> {
        // Only compiling shows whether it fits into the pool; large ones are not tried.
        if !on_demand(bytes.len(), wasi) {
            match self.cache.compiled(&self.small, bytes) {
                Ok(component) => return Ok(component),
                Err(error) => {
                    tracing::debug!(%error, "does not fit into the pool");
                }
            }
        }
        self.cache.compiled(&self.large, bytes)
    }

    pub(crate) fn compile_small<C: Compiled>(&self, bytes: &[u8]) -> wasmtime::Result<C> {
        self.cache.compiled(&self.small, bytes)
    }
}

/// Returns the engine of the process that compiles for another one. It runs nothing, and makes the same code as
/// [`Engines::large`].
pub(crate) fn compiling() -> wasmtime::Result<Engine> {
    Engine::new(&settings())
}

/// Returns a store with the limits of `host`, including its deadline.
pub(crate) fn store(engine: &Engine, host: Host) -> Store<Host> {
    let output = host.terms.limits.output_bytes;
    let mut store = Store::new(engine, host);
    store.limiter(|host| &mut host.meter);
    store.set_hostcall_fuel(output);
    store.set_epoch_deadline(1);
    store.epoch_deadline_callback(|store| match store.data().deadline.is_over() {
        true => Err(Stop::Deadline.into()),
        false => Ok(UpdateDeadline::Continue(1)),
    });
    store
}

fn settings() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .memory_guaranteed_dense_image_size(IMAGE_BYTES)
        .max_wasm_stack(WASM_STACK)
        .relaxed_simd_deterministic(true);
    config
}

fn pool(slots: usize) -> InstanceAllocationStrategy {
    let slots = u32::try_from(slots).unwrap_or(u32::MAX);
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES))
        .total_memories(slots.saturating_mul(MEMORIES))
        .total_tables(slots.saturating_mul(TABLES))
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(MEMORIES)
        .max_tables_per_component(TABLES)
        .max_memory_size(Limits::MOST_MEMORY)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        // Disabled because of an open report of a leak (wasmtime PR 14357).
        .pagemap_scan(Enabled::No);
    InstanceAllocationStrategy::Pooling(pool)
}
