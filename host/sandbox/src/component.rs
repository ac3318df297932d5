//! Inspects WebAssembly files before they are compiled: their kind and imports; also turns a core module into a component.

use std::collections::HashSet;

use postroom_core::ContentHash;
use wasmparser::{ComponentTypeRef, Encoding, Parser, Payload};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldItem, WorldKey};

use crate::error::{BuildError, LoadError};
use postroom_core::Grants;

/// The package of the contract, as imports name it.
const PACKAGE: &str = "postroom:plugin/";
/// The interfaces of the contract in this version of Postroom.
const INTERFACES: [&str; 6] = ["types", "log", "settings", "zones", "kv", "lookup"];
/// The contract's version in this version of Postroom.
const VERSION: (u64, u64) = (2, 0);
/// The export of a rule.
const ENTRY: &str = "decide";
/// The contract, for core modules that contain none.
const CONTRACT: &str = include_str!("../../../wit/plugin.wit");
/// The world assumed for such a module; unused imports are left out.
const WORLD: &str = "rule";
/// A component larger than this contains a language's whole runtime. It runs on demand, so that the slots of the pool,
/// which keep memory from mail to mail, serve small guests only; and it is compiled once, not for the pool first.
const LARGE_BYTES: usize = 4 << 20;

/// The kind of a WebAssembly file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs as it is.
    Component,
    /// It must be made into a component first: [`componentize`].
    CoreModule,
}

/// The outside view of a WebAssembly file.
#[derive(Debug, Clone)]
pub struct Inspection {
    pub kind: Kind,
    /// The world it was built for, such as `postroom:plugin/rule@2.0.0`; `None` if it is not a rule of ours.
    pub world: Option<String>,
    /// Interfaces, such as `postroom:plugin/kv@2.0.0`; `wasi:` interfaces are linked to an empty environment.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    /// The size in bytes.
    pub size: usize,
    pub hash: ContentHash,
}

impl Inspection {
    /// Returns whether it needs WASI.
    pub fn needs_wasi(&self) -> bool {
        self.imports.iter().any(|import| is_wasi(import))
    }

    /// Returns the grants that its imports need, by name.
    pub fn needs(&self) -> Vec<&'static str> {
        let imports = |grant: &&str| {
            self.imports
                .iter()
                .any(|import| interface(import).is_some_and(|(name, _)| name == *grant))
        };
        Grants::CAPABILITIES.into_iter().filter(imports).collect()
    }

    /// Returns whether each mail's instance is allocated on demand, outside the pool. A small component without WASI may
    /// also not fit into the pool, which shows only when it is loaded.
    pub fn runs_on_demand(&self) -> bool {
        on_demand(self.size, self.needs_wasi())
    }
}

/// Returns whether a component is never tried in the pool.
pub(crate) fn on_demand(size: usize, wasi: bool) -> bool {
    wasi || size > LARGE_BYTES
}

/// Makes a component from a core module. The module either names the world it was built for, as `wit-bindgen` records it,
/// or exports `decide` and is assumed to be a rule.
pub fn componentize(core_wasm: &[u8]) -> Result<Vec<u8>, BuildError> {
    let outline = outline(core_wasm)?;
    if outline.kind == Kind::Component {
        return Err(BuildError::AlreadyComponent);
    }
    let (_, metadata) =
        wit_component::metadata::decode(core_wasm).map_err(|e| BuildError::NoWorld(chain(&e)))?;
    let says_its_world = !metadata.resolve.worlds[metadata.world].exports.is_empty();
    let mut module = core_wasm.to_vec();
    if !says_its_world {
        if !outline.exports.iter().any(|export| export == ENTRY) {
            return Err(BuildError::NoWorld(format!(
                "it contains no WIT metadata and does not export {ENTRY}"
            )));
        }
        embed_world(&mut module)?;
    }
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .map_err(|e| BuildError::Encode(chain(&e)))?
        .encode()
        .map_err(|e| BuildError::Encode(chain(&e)))
}

/// Declares in a core module that its world is [`WORLD`].
fn embed_world(module: &mut Vec<u8>) -> Result<(), BuildError> {
    let mut resolve = Resolve::default();
    resolve
        .push_str("plugin.wit", CONTRACT)
        .and_then(|package| resolve.select_world(&[package], Some(WORLD)))
        .and_then(|world| embed_component_metadata(module, &resolve, world, StringEncoding::UTF8))
        .map_err(|e| BuildError::Encode(chain(&e)))
}

/// Inspects a component or a core module without running any of it.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, BuildError> {
    let mut found = outline(bytes)?;
    // The imports of a core module are functions; the world in it, if any, shows which interfaces they belong to.
    if found.kind == Kind::CoreModule {
        let (_, metadata) =
            wit_component::metadata::decode(bytes).map_err(|e| BuildError::Damaged(chain(&e)))?;
        let resolve = &metadata.resolve;
        let name = |key: &WorldKey| resolve.name_world_key(key);
        let world = &resolve.worlds[metadata.world];
        if world.exports.is_empty() && world.imports.is_empty() {
            return Ok(inspection(found, bytes));
        }
        found.exports = world.exports.keys().map(name).collect();
        found.imports = world
            .imports
            .iter()
            .filter(|(_, item)| !matches!(item, WorldItem::Type { .. }))
            .map(|(key, _)| name(key))
            .collect();
    }
    Ok(inspection(found, bytes))
}

fn inspection(found: Outline, bytes: &[u8]) -> Inspection {
    let is_rule = found.exports.iter().any(|export| export == ENTRY) && found.stranger().is_none();
    Inspection {
        kind: found.kind,
        world: is_rule.then(|| format!("{PACKAGE}rule@{}.0", spell(VERSION))),
        imports: found.imports,
        exports: found.exports,
        size: bytes.len(),
        hash: ContentHash::of(bytes),
    }
}

/// Refuses a file that could not run anyway, before time is spent on compiling it. Returns whether it needs WASI.
pub(crate) fn check(name: &str, bytes: &[u8], grants: &Grants) -> Result<bool, LoadError> {
    let outline = outline(bytes).map_err(|error| LoadError::Invalid {
        name: name.to_owned(),
        message: match error {
            BuildError::NotWasm => "it does not begin as one".into(),
            BuildError::Damaged(message) => message,
            other => other.to_string(),
        },
    })?;
    if outline.kind == Kind::CoreModule {
        return Err(LoadError::CoreModule {
            name: name.to_owned(),
        });
    }
    if let Some((by, version)) = outline.stranger() {
        return Err(LoadError::OtherContract {
            name: name.to_owned(),
            by: by.to_owned(),
            version: spell(version),
            known: spell(VERSION),
        });
    }
    if !outline.exports.iter().any(|export| export == ENTRY) {
        return Err(wrong_world(name, &outline.exports));
    }
    let mut wasi = false;
    for import in &outline.imports {
        wasi |= is_wasi(import);
        check_import(name, import, grants)?;
    }
    Ok(wasi)
}

/// Returns the version of the contract that a component was built against, if it is newer than ours: (import, `1.3`).
pub(crate) fn newer_import(bytes: &[u8]) -> Option<(String, String)> {
    let outline = outline(bytes).ok()?;
    outline.imports.into_iter().find_map(|import| {
        let (_, version) = interface(&import)?;
        (version > VERSION).then(|| (import.clone(), spell(version)))
    })
}

pub(crate) fn wrong_world(name: &str, exports: &[String]) -> LoadError {
    LoadError::WrongWorld {
        name: name.to_owned(),
        found: match exports {
            // A component that is cut between two sections is well-formed.
            [] => "no exports; the file may be truncated".into(),
            exports => exports.join(", "),
        },
    }
}

struct Outline {
    kind: Kind,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Outline {
    /// Returns the interface and version that show a contract of another, unknown major version.
    fn stranger(&self) -> Option<(&str, (u64, u64))> {
        let mut names = self.imports.iter().chain(&self.exports);
        names.find_map(|name| {
            let (_, version) = interface(name)?;
            (version.0 != VERSION.0).then_some((name.as_str(), version))
        })
    }
}

/// Returns the names at the outermost level. Reads the frame of every section, so that a truncated file is refused.
fn outline(bytes: &[u8]) -> Result<Outline, BuildError> {
    if !bytes.starts_with(b"\0asm") {
        return Err(BuildError::NotWasm);
    }
    let damaged = |error: wasmparser::BinaryReaderError| BuildError::Damaged(error.to_string());
    let mut outline = Outline {
        kind: Kind::CoreModule,
        imports: Vec::new(),
        exports: Vec::new(),
    };
    let mut depth = 0;
    let mut modules = HashSet::new();
    for payload in Parser::new(0).parse_all(bytes) {
        match payload.map_err(damaged)? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                if depth == 1 && encoding == Encoding::Component {
                    outline.kind = Kind::Component;
                }
            }
            Payload::End(_) => depth -= 1,
            Payload::ModuleSection {
                unchecked_range, ..
            }
            | Payload::ComponentSection {
                unchecked_range, ..
            } if unchecked_range.end > bytes.len() => {
                return Err(BuildError::Damaged("it ends within a module".into()));
            }
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    let import = import.map_err(damaged)?;
                    // Types are named alongside the interfaces that they come from.
                    if !matches!(import.ty, ComponentTypeRef::Type(_)) {
                        outline.imports.push(import.name.name.into());
                    }
                }
            }
            Payload::ImportSection(section) if depth == 1 => {
                for import in section.into_imports() {
                    let module = import.map_err(damaged)?.module;
                    if modules.insert(module) {
                        outline.imports.push(module.into());
                    }
                }
            }
            Payload::ExportSection(section) if depth == 1 => {
                for export in section {
                    outline
                        .exports
                        .push(export.map_err(damaged)?.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    outline
                        .exports
                        .push(export.map_err(damaged)?.name.name.into());
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

fn check_import(name: &str, import: &str, grants: &Grants) -> Result<(), LoadError> {
    if is_wasi(import) {
        return Ok(());
    }
    let Some((interface, version)) = interface(import) else {
        return Err(LoadError::UnknownImport {
            name: name.to_owned(),
            import: import.to_owned(),
        });
    };
    if !grants.links(interface) {
        return Err(LoadError::NotGranted {
            name: name.to_owned(),
            import: interface.to_owned(),
        });
    }
    let known = INTERFACES.contains(&interface);
    if !known && version > VERSION {
        return Err(LoadError::NewerPostroom {
            name: name.to_owned(),
            import: import.to_owned(),
            version: spell(version),
        });
    }
    match known {
        true => Ok(()),
        false => Err(LoadError::UnknownImport {
            name: name.to_owned(),
            import: import.to_owned(),
        }),
    }
}

/// Returns the interface and version of an import or export of the contract: `postroom:plugin/kv@2.0.0` is (`kv`, (2, 0)).
fn interface(import: &str) -> Option<(&str, (u64, u64))> {
    let (name, version) = import.strip_prefix(PACKAGE)?.split_once('@')?;
    let mut numbers = version.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((name, (major, minor))),
        _ => None,
    }
}

/// The packages of WASI that are linked; `wasi:http`, for example, is not.
const WASI: [&str; 6] = ["cli", "clocks", "filesystem", "io", "random", "sockets"];

fn is_wasi(import: &str) -> bool {
    let package = import
        .strip_prefix("wasi:")
        .and_then(|import| import.split_once('/'));
    package.is_some_and(|(package, _)| WASI.contains(&package))
}

fn spell((major, minor): (u64, u64)) -> String {
    format!("{major}.{minor}")
}

/// Returns an error with its causes in one line.
fn chain(error: &(impl std::fmt::Display + ?Sized)) -> String {
    format!("{error:#}")
}
