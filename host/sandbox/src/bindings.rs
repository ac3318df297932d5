//! The contract with rules as Rust types, generated from `wit/`.

wasmtime::component::bindgen!({
    path: "../../wit",
    world: "rule",
    imports: { default: trappable },
    with: { "postroom:plugin/types.message": crate::host::Mail },
});

pub(crate) use self::postroom::plugin::{kv, log, lookup, settings, types, zones};

/// The guest that removes types.
pub(crate) mod stripper {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "type-stripper",
    });
}
