//! Small components written as text, each for one kind of behaviour.

use postroom_sandbox::componentize;
use wit_component::{StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Returns a component for the world `rule`. `imports` are core imports; `body` is the body of `decide`, which receives the
/// pointer to its arguments (the mail's handle first) and returns the pointer to its result.
pub fn rule(imports: &str, body: &str) -> Vec<u8> {
    componentize(&core(imports, 1, body, "")).unwrap()
}

pub fn core(imports: &str, pages: u32, body: &str, rest: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_dir("../../wit").unwrap();
    embed(&text(imports, pages, body, rest), &resolve, package, "rule")
}

/// Returns a component for the world `rule`, extended by what `wit` adds to the world `other`.
pub fn extended(wit: &str, imports: &str, body: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_dir("../../wit").unwrap();
    let package = resolve.push_str("other.wit", wit).unwrap();
    componentize(&embed(
        &text(imports, 1, body, ""),
        &resolve,
        package,
        "other",
    ))
    .unwrap()
}

/// Returns the text of a core module that does not name its world.
pub fn text(imports: &str, pages: u32, body: &str, rest: &str) -> String {
    format!(
        r#"(module
            {imports}
            (import "postroom:plugin/types@2.0.0" "[resource-drop]message" (func $drop (param i32)))
            (memory (export "memory") {pages})
            (global $next (mut i32) (i32.const 32768))
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            (func $body (param $arguments i32) (result i32) {body})
            (func $decide (export "decide") (param $arguments i32) (result i32)
                (call $body (local.get $arguments))
                (call $drop (i32.load (local.get $arguments))))
            {rest})"#
    )
}

pub fn embed(
    text: &str,
    resolve: &Resolve,
    package: wit_parser::PackageId,
    world: &str,
) -> Vec<u8> {
    let mut wasm = wat::parse_str(text).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut wasm, resolve, world, StringEncoding::UTF8).unwrap();
    wasm
}

/// Returns a component of another contract.
pub fn foreign(wit: &str, text: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("other.wit", wit).unwrap();
    componentize(&embed(text, &resolve, package, "other")).unwrap()
}
