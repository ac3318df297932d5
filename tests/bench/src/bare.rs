//! The same call without Postroom: a fresh instance on a wasmtime configured like the sandbox's, and nothing around it.

use std::time::{Duration, Instant};

use wasmtime::component::{Component, Linker, Resource};
use wasmtime::{
    Config, Enabled, Engine, Error, InstanceAllocationStrategy, PoolingAllocationConfig, Result,
    Store,
};

/// The mail, which is never read.
pub type Mail = ();

mod bindings {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "rule",
        with: { "postroom:plugin/types.message": super::Mail },
    });
}

use bindings::RulePre;
use bindings::postroom::plugin::types::{Context, Decision};

/// As in `host/sandbox/src/engine.rs`.
const WASM_STACK: usize = 1 << 20;
const KEEP_MEMORY: usize = 2 << 20;
const KEEP_TABLE: usize = 64 << 10;
const MOST_MEMORY: usize = 1 << 30;
const SLOTS: u32 = 16;
const EACH: u32 = 16;

/// A component that is ready to be called. All of its imports trap.
pub struct Bare {
    engine: Engine,
    pre: RulePre<()>,
    context: Context,
}

impl Bare {
    pub fn new(component: &[u8]) -> Result<Self> {
        let engine = Engine::new(&settings())?;
        let component = Component::new(&engine, component)?;
        let mut linker = Linker::<()>::new(&engine);
        linker.define_unknown_imports_as_traps(&component)?;
        let context = Context {
            tenant: "acme".into(),
            mailbox: "support".into(),
            client: None,
            staff: false,
            thread: None,
            now: "2026-11-16T09:05:00.000Z".into(),
        };
        Ok(Self {
            pre: RulePre::new(linker.instantiate_pre(&component)?)?,
            engine,
            context,
        })
    }

    /// Creates store and instance, calls, and drops both.
    pub fn decide(&self) -> Result<Duration> {
        let started = Instant::now();
        let mut store = Store::new(&self.engine, ());
        store.set_epoch_deadline(1);
        let rule = self.pre.instantiate(&mut store)?;
        let decision = rule.call_decide(&mut store, Resource::new_borrow(0), &self.context)?;
        drop(store);
        let taken = started.elapsed();
        match decision {
            Ok(Decision::Actions(actions)) if actions.len() == 1 => Ok(taken),
            other => Err(Error::msg(format!("the bare rule decided {other:?}"))),
        }
    }
}

fn settings() -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(SLOTS)
        .total_core_instances(SLOTS * EACH)
        .total_memories(SLOTS * 2)
        .total_tables(SLOTS * 4)
        .max_core_instances_per_component(EACH)
        .max_memories_per_component(2)
        .max_tables_per_component(4)
        .max_memory_size(MOST_MEMORY)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .pagemap_scan(Enabled::No);
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .epoch_interruption(true)
        .memory_init_cow(true)
        .max_wasm_stack(WASM_STACK)
        .relaxed_simd_deterministic(true)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}
