//! Reads rules' files and what scripts import, each file once in one look, and nothing outside the rules' folder.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use postroom_core::ContentHash;
use postroom_sandbox::{Import, Imports, module_text};

use crate::config::Rule;

/// The largest rule file that is read, in bytes: room for a component with an interpreter of its own.
const RULE_FILE_BYTES: u64 = 64 << 20;
/// What may be imported.
const EXTENSIONS: [&str; 2] = ["js", "ts"];

/// The files as they were when first read: all rules of one look see the same.
#[derive(Default)]
pub struct Files(RefCell<HashMap<PathBuf, Result<Bytes, String>>>);

/// The files that a rule was made of, or would have been, with what they held; `None` for what could not be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Footprint(BTreeMap<PathBuf, Option<ContentHash>>);

/// What one rule may import: the scripts in the first folder that its name goes through, seen from the configuration's.
pub struct Folder<'f> {
    files: &'f Files,
    /// Where names begin.
    base: PathBuf,
    /// The folder that no import leaves, as a name; empty for the base itself.
    root: PathBuf,
    footprint: RefCell<Footprint>,
}

impl Files {
    /// A file's content; the reason, for people, when it cannot be had.
    pub fn read(&self, path: &Path) -> Result<Bytes, String> {
        if let Some(known) = self.0.borrow().get(path) {
            return known.clone();
        }
        let read = read_rule(path).map(Bytes::from);
        self.0.borrow_mut().insert(path.to_owned(), read.clone());
        read
    }
}

impl Footprint {
    /// Whether all of these files hold what they held.
    pub fn holds(&self, files: &Files) -> bool {
        let now = |path: &PathBuf| files.read(path).ok().map(|bytes| ContentHash::of(&bytes));
        self.0.iter().all(|(path, hash)| now(path) == *hash)
    }

    /// Reads a file and takes note of it.
    pub fn read(&mut self, files: &Files, path: &Path) -> Result<Bytes, String> {
        let read = files.read(path);
        let hash = read.as_ref().ok().map(|bytes| ContentHash::of(bytes));
        self.0.insert(path.to_owned(), hash);
        read
    }

    /// Takes note of all that another one has.
    pub fn add(&mut self, other: Footprint) {
        self.0.extend(other.0);
    }

    /// The folders in which something has to happen before it changes. For a folder that is missing it is the one around it.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.0.keys().filter_map(|path| {
            let there = path.ancestors().skip(1).find(|folder| is_folder(folder))?;
            Some(here(there).to_owned())
        })
    }
}

impl<'f> Folder<'f> {
    /// The folder of a rule that is a file.
    pub fn of(files: &'f Files, rule: &Rule, path: &Path) -> Self {
        let name = Path::new(&rule.name);
        let mut base = path.to_owned();
        for _ in name.components() {
            base.pop();
        }
        let mut parts = name.components();
        let root = match (parts.next(), parts.next()) {
            // A file that was named by where it is, from elsewhere: its own folder.
            _ if !is_plain(name) => name.parent().unwrap_or(name).to_owned(),
            (Some(first), Some(_)) => PathBuf::from(first.as_os_str()),
            _ => PathBuf::new(),
        };
        Self {
            files,
            base,
            root,
            footprint: RefCell::default(),
        }
    }

    /// What was read so far, and what was looked for in vain.
    pub fn footprint(&self) -> Footprint {
        self.footprint.borrow().clone()
    }

    /// Where a module's file is.
    fn path_of(&self, import: &Import<'_>) -> Result<PathBuf, String> {
        let specifier = import.specifier;
        if !specifier.starts_with("./") && !specifier.starts_with("../") {
            return Err(
                "only files can be imported, named from here, such as \"./lib/common.js\"".into(),
            );
        }
        let name = Path::new(import.name);
        let root = here(&self.root).display();
        let leads_out = || format!("it leads out of the folder {root}");
        let inside = name.strip_prefix(&self.root).map_err(|_| leads_out())?;
        if !is_plain(inside) {
            return Err(leads_out());
        }
        let extension = name.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            return Err(match self.neighbour(name) {
                Some(near) => format!("it ends in neither .js nor .ts; did you mean {near}?"),
                None => "it ends in neither .js nor .ts".into(),
            });
        }
        Ok(self.base.join(name))
    }

    /// Refuses what is inside by its name only, by way of a symbolic link.
    fn check(&self, path: &Path) -> Result<(), String> {
        let real = |path: &Path| here(path).canonicalize().map_err(|e| e.to_string());
        if !real(path)?.starts_with(real(&self.base.join(&self.root))?) {
            let root = here(&self.root).display();
            return Err(format!(
                "it leads out of the folder {root} by a symbolic link"
            ));
        }
        Ok(())
    }

    /// The name of a file that is there beside what is missing, and differs in its ending only.
    fn neighbour(&self, name: &Path) -> Option<String> {
        let folder = name.parent()?;
        // "common" may stand for common.js, and "common.js" for common.ts.
        let stems = [name.file_name(), name.file_stem()];
        let candidates = stems.into_iter().flatten().flat_map(|stem| {
            EXTENSIONS.map(|extension| format!("{}.{extension}", stem.to_string_lossy()))
        });
        candidates
            .map(|file| folder.join(file))
            .find(|near| self.base.join(near).is_file())
            .map(|near| near.display().to_string())
    }
}

impl Imports for Folder<'_> {
    fn read(&self, import: &Import<'_>) -> Result<String, String> {
        let path = self.path_of(import)?;
        let footprint = &mut *self.footprint.borrow_mut();
        if !path.exists() {
            // Noted all the same: it may appear.
            let _ = footprint.read(self.files, &path);
            return Err(match self.neighbour(Path::new(import.name)) {
                Some(near) => format!("{} is not there; did you mean {near}?", import.name),
                None => format!("{} is not there", import.name),
            });
        }
        let read = self
            .check(&path)
            .and_then(|()| footprint.read(self.files, &path));
        let bytes = read.inspect_err(|_| {
            footprint.0.insert(path, None);
        })?;
        module_text(&bytes)
    }
}

/// Reads a rule's file; the reason is for people.
pub fn read_rule(path: &Path) -> Result<Vec<u8>, String> {
    let about = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !about.is_file() {
        return Err("it is not a file".into());
    }
    let size = about.len();
    if size > RULE_FILE_BYTES {
        return Err(format!(
            "{size} bytes, over the {RULE_FILE_BYTES} a rule file may have"
        ));
    }
    std::fs::read(path).map_err(|e| e.to_string())
}

/// Whether a path goes straight down.
fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

fn is_folder(path: &Path) -> bool {
    here(path).is_dir()
}

/// The path, where an empty one is the folder we are in.
fn here(path: &Path) -> &Path {
    match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::RuleKind;

    /// The folder of a configuration, and what reading an import from its rule comes to.
    fn imported(dir: &Path, rule: &str, specifier: &str, name: &str) -> Result<String, String> {
        let path = dir.join(rule);
        let rule = Rule {
            name: rule.into(),
            kind: RuleKind::Script(path.clone()),
        };
        let files = Files::default();
        Folder::of(&files, &rule, &path).read(&Import {
            importer: &rule.name,
            specifier,
            name,
        })
    }

    #[test]
    fn nothing_outside_the_folder_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for folder in ["rules/lib", "secrets"] {
            std::fs::create_dir_all(dir.join(folder)).unwrap();
        }
        for file in [
            "rules/a.js",
            "rules/lib/b.js",
            "rules/lib/c.ts",
            "secrets/s.js",
            "top.js",
        ] {
            std::fs::write(dir.join(file), file).unwrap();
        }
        std::fs::create_dir(dir.join("rules/d.js")).unwrap();
        std::os::unix::fs::symlink(dir.join("secrets/s.js"), dir.join("rules/out.js")).unwrap();
        std::os::unix::fs::symlink("lib/b.js", dir.join("rules/in.js")).unwrap();
        let from_a = |specifier, name| imported(dir, "rules/a.js", specifier, name);
        let is = |text: &str| Ok::<_, String>(text.to_owned());
        assert_eq!(from_a("./lib/b.js", "rules/lib/b.js"), is("rules/lib/b.js"));
        assert_eq!(from_a("./in.js", "rules/in.js"), is("rules/lib/b.js"));
        for (specifier, name, words) in [
            (
                "../secrets/s.js",
                "secrets/s.js",
                "leads out of the folder rules",
            ),
            (
                "../../etc/passwd",
                "../etc/passwd",
                "leads out of the folder rules",
            ),
            ("./../rules/../top.js", "rules/../top.js", "leads out"),
            ("./out.js", "rules/out.js", "symbolic link"),
            ("/etc/passwd", "/etc/passwd", "only files"),
            ("lodash", "lodash", "only files"),
            (
                "https://example.org/a.js",
                "https://example.org/a.js",
                "only files",
            ),
            ("./a", "rules/a", "did you mean rules/a.js?"),
            (
                "./lib/c.js",
                "rules/lib/c.js",
                "did you mean rules/lib/c.ts?",
            ),
            ("./no.js", "rules/no.js", "rules/no.js is not there"),
            ("./d.js", "rules/d.js", "not a file"),
            ("./a.json", "rules/a.json", "neither .js nor .ts"),
        ] {
            let error = from_a(specifier, name).unwrap_err();
            assert!(error.contains(words), "{specifier}: {error}");
        }
        // A rule beside the configuration sees what is below.
        assert_eq!(
            imported(dir, "top.js", "./secrets/s.js", "secrets/s.js"),
            is("secrets/s.js")
        );
        let up = imported(dir, "top.js", "../x.js", "../x.js").unwrap_err();
        assert!(up.contains("leads out of the folder ."), "{up}");
    }

    #[test]
    fn a_footprint_holds_until_a_file_changes_or_appears() {
        let dir = tempfile::tempdir().unwrap();
        let (there, missing) = (dir.path().join("a.js"), dir.path().join("lib/b.js"));
        std::fs::write(&there, "1").unwrap();
        let mut footprint = Footprint::default();
        assert!(footprint.read(&Files::default(), &there).is_ok());
        assert!(footprint.read(&Files::default(), &missing).is_err());
        assert!(footprint.holds(&Files::default()));
        let folders: Vec<_> = footprint.folders().collect();
        assert_eq!(folders, [dir.path(), dir.path()]);
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        std::fs::write(&missing, "").unwrap();
        assert!(!footprint.holds(&Files::default()));
    }
}
