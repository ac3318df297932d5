//! The files of a script: imports are resolved among the files that the host passed in, and nowhere else.

use std::cell::RefCell;
use std::rc::Rc;

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Module, Result};

use crate::bindings::{ScriptImport, ScriptModule};
use crate::trouble::{Place, Trouble};

/// A script's files, and the imports that are not among them. Clones share them.
#[derive(Clone)]
pub struct Modules(Rc<RefCell<State>>);

struct State {
    names: Rc<[String]>,
    sources: Vec<Rc<str>>,
    missing: Vec<ScriptImport>,
    refused: Option<Trouble>,
}

impl Modules {
    pub fn new(modules: Vec<ScriptModule>) -> Self {
        let (names, sources): (Vec<_>, Vec<_>) = modules
            .into_iter()
            .map(|module| (module.name, Rc::from(module.source)))
            .unzip();
        Modules(Rc::new(RefCell::new(State {
            names: names.into(),
            sources,
            missing: Vec::new(),
            refused: None,
        })))
    }

    pub fn names(&self) -> Rc<[String]> {
        self.0.borrow().names.clone()
    }

    /// Returns the text of each file, in the order of the names.
    pub fn sources(&self) -> Vec<Rc<str>> {
        self.0.borrow().sources.clone()
    }

    /// Returns the rule itself, the first of its files.
    pub fn entry(&self) -> Option<(String, Rc<str>)> {
        let state = self.0.borrow();
        Some((state.names.first()?.clone(), state.sources.first()?.clone()))
    }

    pub fn lacks_any(&self) -> bool {
        !self.0.borrow().missing.is_empty()
    }

    /// Returns the imports of files that were not passed in.
    pub fn take_missing(&self) -> Vec<ScriptImport> {
        std::mem::take(&mut self.0.borrow_mut().missing)
    }

    /// Returns an import that is invalid, whatever files are passed in.
    pub fn take_refused(&self) -> Option<Trouble> {
        self.0.borrow_mut().refused.take()
    }

    /// Releases the sources: nothing is imported once the top level has run.
    pub fn seal(&self) {
        self.0.borrow_mut().sources = Vec::new();
    }

    /// Returns where a name that its module does not export is imported. The interpreter reports neither the importer nor
    /// the position.
    pub fn place_of_name(&self, module: &str, name: &str) -> Option<Place> {
        let state = self.0.borrow();
        let places = state.names.iter().zip(&state.sources);
        places
            .flat_map(|(importer, source)| {
                imports(source).map(move |import| (importer, source, import))
            })
            .find_map(|(importer, source, import)| {
                (target(importer, import.specifier) == module).then_some(())?;
                let at = word(import.clause, name)? + import.clause_at;
                let (line, column) = line_and_column(source, at);
                Some(Place {
                    file: importer.clone(),
                    line,
                    column,
                })
            })
    }
}

impl State {
    fn source(&self, name: &str) -> Option<&Rc<str>> {
        let index = self.names.iter().position(|known| known == name)?;
        self.sources.get(index)
    }

    /// Returns the position of an import, or 0 if it cannot be determined.
    fn place(&self, importer: &str, specifier: &str) -> (u32, u32) {
        let Some(source) = self.source(importer) else {
            return (0, 0);
        };
        let found = imports(source).find(|import| import.specifier == specifier);
        found.map_or((0, 0), |import| {
            line_and_column(source, import.specifier_at)
        })
    }
}

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _: &Ctx<'js>,
        importer: &str,
        specifier: &str,
        attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        let state = &mut *self.0.borrow_mut();
        let name = target(importer, specifier);
        let known = state.source(&name).is_some();
        if known && attributes.is_none() {
            return Ok(name);
        }
        let (line, column) = state.place(importer, specifier);
        if attributes.is_some() {
            state.refused.get_or_insert(Trouble {
                message: format!(
                    "import of {specifier:?}: an import has no `with` here, a module is JavaScript"
                ),
                place: Some(Place {
                    file: importer.to_owned(),
                    line,
                    column,
                }),
            });
            return Err(Error::new_resolving(importer, specifier));
        }
        if !state.missing.iter().any(|import| import.name == name) {
            state.missing.push(ScriptImport {
                importer: importer.to_owned(),
                specifier: specifier.to_owned(),
                name: name.clone(),
                line,
                column,
            });
        }
        Ok(name)
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        // A missing module is treated as empty for now, so that all missing modules are found at once. Nothing is evaluated
        // then.
        let source = self.0.borrow().source(name).cloned();
        Module::declare(ctx.clone(), name, source.as_deref().unwrap_or_default())
    }
}

/// Returns the name of the imported module. It may lead upwards out of the folder: the host checks it.
fn target(importer: &str, specifier: &str) -> String {
    if !specifier.starts_with("./") && !specifier.starts_with("../") {
        return specifier.to_owned();
    }
    let folder = importer.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut parts: Vec<&str> = folder.split('/').filter(|_| !folder.is_empty()).collect();
    for part in specifier.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// An `import … from "…"`, an `import "…"` or an `export … from "…"`.
struct Written<'s> {
    specifier: &'s str,
    /// The offset of its opening quote, in bytes.
    specifier_at: usize,
    /// The text between the keyword and the specifier.
    clause: &'s str,
    clause_at: usize,
}

/// Finds texts that look like static imports, for error messages: the interpreter, which parses them properly, keeps no
/// positions.
fn imports(source: &str) -> impl Iterator<Item = Written<'_>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let open = from + source[from..].find(['"', '\''])?;
            let quote = &source[open..=open];
            let rest = &source[open + 1..];
            let line_end = rest.find('\n').unwrap_or(rest.len());
            let Some(length) = rest[..line_end].find(quote) else {
                from = open + 1;
                continue;
            };
            let before = source[..open].trim_end();
            let line_start = source[..open].rfind('\n').map_or(0, |newline| newline + 1);
            let comment = source[line_start..].trim_start();
            let is_comment = comment.starts_with("//") || comment.starts_with('*');
            let clause_at = if is_comment {
                None
            } else if let Some(clause) = before.strip_suffix("from") {
                let keyword = |word: &str| clause.rfind(word).map(|at| at + word.len());
                keyword("import").max(keyword("export"))
            } else {
                before.ends_with("import").then_some(before.len())
            };
            match clause_at {
                Some(clause_at) => {
                    from = open + length + 2;
                    return Some(Written {
                        specifier: &rest[..length],
                        specifier_at: open,
                        clause: &source[clause_at..open],
                        clause_at,
                    });
                }
                // Perhaps not a string: an apostrophe in a comment or a pattern.
                None => from = open + 1,
            }
        }
    })
}

/// Returns the offset of a name in a text as a separate word, in bytes.
fn word(text: &str, name: &str) -> Option<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    text.match_indices(name).map(|(at, _)| at).find(|at| {
        let before = text[..*at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    })
}

fn line_and_column(source: &str, at: usize) -> (u32, u32) {
    let before = &source[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    (line as u32, column as u32)
}

#[cfg(test)]
mod tests {
    use super::{imports, line_and_column, target, word};

    #[test]
    fn an_import_is_meant_from_where_it_stands() {
        for (importer, specifier, name) in [
            ("rules/a.js", "./lib/b.js", "rules/lib/b.js"),
            ("rules/lib/b.js", "../c.js", "rules/c.js"),
            ("rules/lib/b.js", "./.././/c.js", "rules/c.js"),
            ("a.js", "./b.js", "b.js"),
            ("rules/a.js", "../../etc/passwd", "../etc/passwd"),
            ("a.js", "../../etc/passwd", "../../etc/passwd"),
            ("../rules/a.js", "../b.js", "../b.js"),
            ("rules/a.js", "lodash", "lodash"),
            ("rules/a.js", "/etc/passwd", "/etc/passwd"),
            ("/srv/rules/a.js", "./b.js", "/srv/rules/b.js"),
        ] {
            assert_eq!(target(importer, specifier), name, "{importer} {specifier}");
        }
    }

    #[test]
    fn imports_are_found_where_they_stand() {
        let source = "// import x from \"./old.js\"\nimport './first.js';\nconst it's = /[\"']/;\nimport {\n  two,\n} from \"./second.js\"; export * from './third.js'\nconst text = \"./second.js\";\n";
        let found: Vec<_> = imports(source)
            .map(|import| {
                let (line, column) = line_and_column(source, import.specifier_at);
                (import.specifier, line, column)
            })
            .collect();
        assert_eq!(
            found,
            [
                ("./first.js", 2, 8),
                ("./second.js", 6, 8),
                ("./third.js", 6, 37)
            ]
        );
        let second = imports(source).nth(1).map(|import| {
            let at = word(import.clause, "two").unwrap_or_default();
            line_and_column(source, import.clause_at + at)
        });
        assert_eq!(second, Some((5, 3)));
        assert_eq!(imports("'\"").count(), 0);
    }
}
