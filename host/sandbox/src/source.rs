//! Sources of rules: a component's bytes, or a script's files as they import each other.

use bytes::Bytes;
use postroom_core::ContentHash;
use serde_json::Value;

use crate::error::LoadError;

/// The source of a rule.
#[derive(Clone, Copy)]
pub enum RuleSource<'a> {
    /// JavaScript, or TypeScript if the name ends in `.ts`; errors use the name. It imports nothing.
    Script {
        name: &'a str,
        text: &'a str,
    },
    /// A script that may import others. Each name is a path with `/`, all relative to the same folder as the first.
    Modules {
        name: &'a str,
        text: &'a str,
        imports: &'a dyn Imports,
    },
    Component {
        name: &'a str,
        bytes: &'a [u8],
    },
}

/// The source of the modules that a script imports.
pub trait Imports {
    /// Returns the text of the imported module, or the reason, as text for people, that it is not available.
    fn read(&self, import: &ScriptImport<'_>) -> Result<String, String>;
}

/// One `import` in a script.
#[derive(Debug, Clone, Copy)]
pub struct ScriptImport<'a> {
    /// The module that contains it.
    pub importer: &'a str,
    /// The specifier as written.
    pub specifier: &'a str,
    /// The name of the imported module: the specifier resolved from the importer. It may point anywhere.
    pub name: &'a str,
}

/// One file of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    pub name: String,
    /// The text as written, including types.
    pub text: String,
}

/// The imports of a script of one file.
pub(crate) struct NoImports;

/// All modules of a script: the input of its content hash, and the form in which it is stored to load it again.
///
/// The bundle of a single file is that file's text. A bundle of several files is a mark that no text begins with, and a
/// JSON array of names and texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle(Vec<Module>);

/// A mark with a byte that no UTF-8 text contains.
const MARK: &[u8] = b"\xffmodules\n";
/// The error for a file in another encoding: if the encoding were guessed, a rule would look for other words than are
/// written in it.
const NOT_UTF8: &str = "the file is not in UTF-8 from here on; save it as UTF-8";

impl Bundle {
    /// Creates a bundle; the rule itself comes first.
    pub fn new(modules: Vec<Module>) -> Self {
        Self(modules)
    }

    /// Unpacks a bundle. `name` is that of a script of one file; several files have their own names.
    ///
    /// # Errors
    /// Fails if the file's text is not UTF-8, or the packed form is damaged.
    pub fn unpack(name: &str, bytes: &[u8]) -> Result<Self, LoadError> {
        let name = name.to_owned();
        let Some(packed) = bytes.strip_prefix(MARK) else {
            return match utf8(bytes) {
                Ok(text) => Ok(Self(vec![Module { name, text }])),
                Err(place) => Err(LoadError::Script {
                    file: name,
                    line: place.line,
                    column: place.column,
                    message: NOT_UTF8.into(),
                }),
            };
        };
        let all: Option<Vec<(String, String)>> = serde_json::from_slice(packed).ok();
        // The rule itself comes first, so there is always one.
        let Some(all) = all.filter(|modules| !modules.is_empty()) else {
            return Err(LoadError::Invalid {
                name,
                message: "its stored copy is damaged".into(),
            });
        };
        let modules = all.into_iter().map(|(name, text)| Module { name, text });
        Ok(Self(modules.collect()))
    }

    pub fn pack(&self) -> Bytes {
        match self.0.as_slice() {
            [only] => Bytes::copy_from_slice(only.text.as_bytes()),
            modules => {
                let pairs = modules
                    .iter()
                    .map(|module| Value::from(vec![module.name.as_str(), module.text.as_str()]));
                let mut bytes = MARK.to_vec();
                bytes.extend(Value::from_iter(pairs).to_string().into_bytes());
                bytes.into()
            }
        }
    }

    pub fn hash(&self) -> ContentHash {
        ContentHash::of(&self.pack())
    }

    pub fn modules(&self) -> &[Module] {
        &self.0
    }
}

/// Returns the text of a module's file, for [`Imports`].
///
/// # Errors
/// Fails if it is not UTF-8; the reason, as text for people, names the line.
pub fn module_text(bytes: &[u8]) -> Result<String, String> {
    utf8(bytes).map_err(|place| format!("line {}: {NOT_UTF8}", place.line))
}

/// The position at which a text is not UTF-8. Both numbers count from 1.
struct Place {
    line: u32,
    column: u32,
}

fn utf8(bytes: &[u8]) -> Result<String, Place> {
    let text = std::str::from_utf8(bytes);
    text.map(str::to_owned).map_err(|error| {
        let before = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
        let line = before.rsplit('\n').next().unwrap_or_default();
        Place {
            line: before.matches('\n').count() as u32 + 1,
            column: line.chars().count() as u32 + 1,
        }
    })
}

impl Imports for Bundle {
    fn read(&self, import: &ScriptImport<'_>) -> Result<String, String> {
        let module = self.0.iter().find(|module| module.name == import.name);
        module
            .map(|module| module.text.clone())
            .ok_or_else(|| "it was not kept with the rule".into())
    }
}

impl Imports for NoImports {
    fn read(&self, _: &ScriptImport<'_>) -> Result<String, String> {
        Err("this script is a single file without imports".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str, text: &str) -> Module {
        Module {
            name: name.into(),
            text: text.into(),
        }
    }

    #[test]
    fn what_is_packed_is_unpacked() {
        let one = Bundle::new(vec![module("rules/a.js", "[\"a\"]")]);
        assert_eq!(&one.pack()[..], b"[\"a\"]");
        assert_eq!(one.hash(), ContentHash::of(b"[\"a\"]"));
        let two = Bundle::new(vec![module("rules/a.js", "é\n"), module("rules/b.ts", "")]);
        for bundle in [one, two] {
            let unpacked = Bundle::unpack("rules/a.js", &bundle.pack());
            assert_eq!(unpacked.ok(), Some(bundle));
        }
        let damaged = Bundle::unpack("a", b"\xffmodules\n{}");
        assert!(matches!(damaged, Err(LoadError::Invalid { .. })));
    }

    #[test]
    fn the_hash_covers_names_and_texts() {
        let hash =
            |name: &str, text: &str| Bundle::new(vec![module("a", "x"), module(name, text)]).hash();
        assert_ne!(hash("b", "y"), hash("c", "y"));
        assert_ne!(hash("b", "y"), hash("b", "z"));
    }
}
