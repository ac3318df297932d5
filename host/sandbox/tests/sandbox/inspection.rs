//! The results of `inspect` and `componentize` for files.

use postroom_sandbox::{BuildError, Kind, componentize, inspect};

use crate::guests::{core, rule, text};

const KV: &str = r#"(import "postroom:plugin/kv@2.0.0" "delete" (func $delete (param i32 i32)))"#;

#[test]
fn tells_components_and_core_modules_apart() {
    let module = core(KV, 1, "(i32.const 16)", "");
    let found = inspect(&module).unwrap();
    assert_eq!(found.kind, Kind::CoreModule);
    assert_eq!(found.world.as_deref(), Some("postroom:plugin/rule@2.0.0"));

    let component = rule(KV, "(i32.const 16)");
    let found = inspect(&component).unwrap();
    assert_eq!(found.kind, Kind::Component);
    assert_eq!(found.world.as_deref(), Some("postroom:plugin/rule@2.0.0"));
    assert!(found.needs() == ["kv"] && !found.needs_wasi());
    assert_eq!(found.exports, ["decide"]);
    assert_eq!(found.size, component.len());

    assert!(
        !inspect(&rule("", "(i32.const 16)"))
            .unwrap()
            .needs()
            .contains(&"kv")
    );
    assert!(matches!(
        componentize(&component),
        Err(BuildError::AlreadyComponent)
    ));
}

#[test]
fn names_what_is_wrong_with_a_file() {
    assert!(matches!(inspect(b"#!/bin/sh"), Err(BuildError::NotWasm)));
    let module = core("", 1, "(i32.const 16)", "");
    assert!(matches!(
        inspect(&module[..module.len() - 10]),
        Err(BuildError::Damaged(_))
    ));
    let plain = wat::parse_str("(module)").unwrap();
    assert!(inspect(&plain).unwrap().world.is_none());
    assert!(matches!(componentize(&plain), Err(BuildError::NoWorld(_))));
    // It claims to be a rule, but is not one.
    let other = wat::parse_str(r#"(module (func (export "decide")))"#).unwrap();
    assert!(matches!(componentize(&other), Err(BuildError::Encode(_))));
}

#[test]
fn a_core_module_that_exports_decide_is_taken_for_a_rule() {
    let bare = wat::parse_str(text(KV, 1, "(i32.const 16)", "")).unwrap();
    let found = inspect(&bare).unwrap();
    assert_eq!(found.kind, Kind::CoreModule);
    assert_eq!(found.world.as_deref(), Some("postroom:plugin/rule@2.0.0"));
    assert_eq!(found.needs(), ["kv"]);
    assert!(found.exports.iter().any(|export| export == "decide"));
    let found = inspect(&componentize(&bare).unwrap()).unwrap();
    assert_eq!(found.world.as_deref(), Some("postroom:plugin/rule@2.0.0"));
    assert_eq!(found.needs(), ["kv"]);
}

#[test]
fn large_components_stay_out_of_the_pool() {
    let small = rule("", "(i32.const 16)");
    assert!(!inspect(&small).unwrap().runs_on_demand());
    let data = format!(r#"(data (i32.const 65536) "{}")"#, "x".repeat(5 << 20));
    let large = componentize(&core("", 90, "(i32.const 16)", &data)).unwrap();
    assert!(inspect(&large).unwrap().runs_on_demand());
}

#[test]
fn only_the_linked_packages_of_wasi_count_as_given() {
    for (import, given) in [
        ("wasi:cli/stdout@0.2.4", true),
        ("wasi:http/types@0.2.10", false),
        ("wasi:keyvalue/store@0.2.0", false),
    ] {
        let import = format!(r#"(import "{import}" "call" (func $call))"#);
        let module = wat::parse_str(text(&import, 1, "(i32.const 16)", "")).unwrap();
        assert_eq!(inspect(&module).unwrap().needs_wasi(), given, "{import}");
    }
}
