//! Components built against an earlier 2.x of the contract still load and run: `tests/contracts` has every release
//! unchanged.

use std::fmt::Write as _;

use postroom_sandbox::{Grants, Limits, LoadError, RuleSource, componentize, inspect};
use wit_parser::abi::{AbiVariant, WasmType};
use wit_parser::{Resolve, WorldItem};

use crate::guests::{embed, text};
use crate::support::{SANDBOX, component, decide};

const PASS: &str = "(i32.const 16)";

/// Returns a core module that imports every function of a contract's world, and passes.
fn importing_all(wit: &str, world: &str) -> (String, Resolve, wit_parser::PackageId) {
    let mut resolve = Resolve::default();
    let package = resolve.push_str("plugin.wit", wit).unwrap();
    let id = resolve.select_world(&[package], Some(world)).unwrap();
    let mut imports = String::new();
    for (key, item) in &resolve.worlds[id].imports {
        let WorldItem::Interface { id, .. } = item else {
            continue;
        };
        for function in resolve.interfaces[*id].functions.values() {
            let signature = resolve.wasm_signature(AbiVariant::GuestImport, function);
            let types = |list: &[WasmType]| {
                let names = list.iter().map(|ty| match ty {
                    WasmType::I64 | WasmType::PointerOrI64 => "i64",
                    WasmType::F32 => "f32",
                    WasmType::F64 => "f64",
                    _ => "i32",
                });
                names.collect::<Vec<_>>().join(" ")
            };
            let _ = writeln!(
                imports,
                r#"(import "{}" "{}" (func (param {}) (result {})))"#,
                resolve.name_world_key(key),
                function.name,
                types(&signature.params),
                types(&signature.results),
            );
        }
    }
    (imports, resolve, package)
}

fn releases() -> Vec<(String, String)> {
    let folder = std::fs::read_dir("tests/contracts").unwrap();
    let mut found: Vec<(String, String)> = folder
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let version = name.strip_prefix("plugin-").unwrap().to_owned();
            (version, std::fs::read_to_string(&path).unwrap())
        })
        .collect();
    found.sort();
    found
}

#[test]
fn what_was_built_against_an_earlier_release_runs() {
    let releases = releases();
    assert!(!releases.is_empty(), "no earlier release found");
    for (version, wit) in &releases {
        for world in ["rule", "plain-rule"] {
            let (imports, resolve, package) = importing_all(wit, world);
            let own = |text: String| text.replace("@2.0.0", &format!("@{version}"));
            let core = own(text(&imports, 1, PASS, ""));
            let built = componentize(&embed(&core, &resolve, package, world)).unwrap();
            let all = inspect(&built).unwrap().imports;
            assert!(
                all.contains(&format!("postroom:plugin/log@{version}")),
                "{all:?}"
            );
            let rule = component(&built, &Limits::default())
                .unwrap_or_else(|error| panic!("{world} of {version}: {error}"));
            assert_eq!(decide(&rule).verdict, Ok(None));

            // A module that does not name its world is assumed to be a rule of the release that its imports name.
            let bare = wat::parse_str(&core).unwrap();
            let built = componentize(&bare)
                .unwrap_or_else(|error| panic!("bare {world} of {version}: {error}"));
            let rule = component(&built, &Limits::default()).unwrap();
            assert_eq!(decide(&rule).verdict, Ok(None));
        }
    }
}

#[test]
fn lookup_needs_its_grant() {
    let wit = std::fs::read_to_string("../../wit/plugin.wit").unwrap();
    let (imports, resolve, package) = importing_all(&wit, "rule");
    let core = text(&imports, 1, PASS, "");
    let built = componentize(&embed(&core, &resolve, package, "rule")).unwrap();
    assert_eq!(inspect(&built).unwrap().needs(), ["kv", "lookup"]);
    assert_eq!(
        decide(&component(&built, &Limits::default()).unwrap()).verdict,
        Ok(None)
    );
    let source = RuleSource::Component {
        name: "plugins/test.wasm",
        bytes: &built,
    };
    let grants = Grants {
        lookup: false,
        ..Grants::ALL
    };
    let refused = SANDBOX.load(source, "{}", &grants, &Limits::default());
    assert!(
        matches!(&refused, Err(LoadError::NotGranted { import, .. }) if import == "lookup"),
        "{refused:?}"
    );
}
