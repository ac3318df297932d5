//! Reads the files of rules and their imports, each file once per look, and nothing outside the rules' folder.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Component, Path, PathBuf};

use bytes::Bytes;
use postroom_core::ContentHash;
use postroom_sandbox::{Imports, ScriptImport, module_text};

use postroom_config::RuleConfig;
use postroom_config::suggest::did_you_mean;
use postroom_files::{Unread, here, open_file, read_whole};

/// The largest rule file that is read, in bytes: enough for a component with its own interpreter.
const RULE_FILE_BYTES: u64 = 64 << 20;
/// The extensions of files that can be imported.
const EXTENSIONS: [&str; 2] = ["js", "ts"];
/// The name of the folder that a rule's file must not leave, for messages.
pub const CONFIGURATION: &str = "the configuration's folder";

/// A file, and the folder that must contain it wherever symbolic links lead; `None` for a file at any path.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileRef {
    path: PathBuf,
    within: Option<PathBuf>,
}

/// The files as first read: all rules of one look see the same content.
#[derive(Default)]
pub struct Files(RefCell<HashMap<FileRef, Result<Bytes, Unread>>>);

/// The files that a rule was made from, or would have been, with their content hashes; `None` for a file that could not be
/// read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fingerprint(BTreeMap<FileRef, Option<ContentHash>>);

/// The files that one rule may import: the scripts in the first folder of its path below the configuration's.
pub struct Folder<'f> {
    files: &'f Files,
    /// The folder that names are relative to.
    base: PathBuf,
    /// The folder that no import may leave, as a name; empty for the base itself.
    root: PathBuf,
    footprint: RefCell<Fingerprint>,
}

impl FileRef {
    /// Returns a configured rule's file, which must be in the configuration's folder; `None` for a built-in rule.
    pub fn of(rule: &RuleConfig) -> Option<Self> {
        Some(Self {
            path: rule.path()?.to_owned(),
            within: Some(rule.base()),
        })
    }

    pub fn anywhere(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            within: None,
        }
    }

    fn read(&self) -> Result<Vec<u8>, Unread> {
        let file = open_file(self.within.as_deref(), &self.path)?;
        read_whole(&file, RULE_FILE_BYTES)
    }
}

/// Returns why a rule's file was not read, as text for people; `folder` is their name of the folder that it must not leave.
pub fn described(unread: Unread, folder: &str) -> String {
    match unread {
        Unread::Missing => "it does not exist".into(),
        Unread::LeadsOut => format!("it leads out of {folder} by a symbolic link"),
        Unread::NoFile => "it is not a file".into(),
        Unread::TooLarge(size) => {
            format!("{size} bytes, over the {RULE_FILE_BYTES} a rule file may have")
        }
        Unread::Other(reason) => reason,
    }
}

impl Files {
    /// Returns a file's content.
    pub fn read(&self, spot: &FileRef) -> Result<Bytes, Unread> {
        if let Some(known) = self.0.borrow().get(spot) {
            return known.clone();
        }
        let read = spot.read().map(Bytes::from);
        self.0.borrow_mut().insert(spot.clone(), read.clone());
        read
    }
}

impl Fingerprint {
    /// Returns whether all of these files still have the same content.
    pub fn holds(&self, files: &Files) -> bool {
        let now = |spot: &FileRef| files.read(spot).ok().map(|bytes| ContentHash::of(&bytes));
        self.0.iter().all(|(spot, hash)| now(spot) == *hash)
    }

    /// Reads a file and records it.
    pub fn read(&mut self, files: &Files, spot: FileRef) -> Result<Bytes, Unread> {
        let read = files.read(&spot);
        let hash = read.as_ref().ok().map(|bytes| ContentHash::of(bytes));
        self.0.insert(spot, hash);
        read
    }

    /// Returns a line of one of these files, from 1, as it was read.
    pub fn line(&self, files: &Files, path: &Path, number: usize) -> Option<String> {
        let spot = self.0.keys().find(|spot| spot.path == path)?;
        let bytes = files.read(spot).ok()?;
        let line = bytes
            .split(|byte| *byte == b'\n')
            .nth(number.checked_sub(1)?)?;
        Some(String::from_utf8_lossy(line).trim_end().to_owned())
    }

    /// Adds all records of another footprint.
    pub fn add(&mut self, other: Fingerprint) {
        self.0.extend(other.0);
    }

    /// Returns the folders to watch for changes. For a missing folder it is the existing one above.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        self.0.keys().filter_map(|spot| {
            let there = spot
                .path
                .ancestors()
                .skip(1)
                .find(|folder| is_folder(folder))?;
            Some(here(there).to_owned())
        })
    }
}

impl<'f> Folder<'f> {
    /// Returns the folder of a rule that is a file.
    pub fn of(files: &'f Files, rule: &RuleConfig) -> Self {
        let name = Path::new(&rule.name);
        let mut parts = name.components();
        let root = match (parts.next(), parts.next()) {
            // A file named by a path elsewhere: its own folder.
            _ if !is_plain(name) => name.parent().unwrap_or(name).to_owned(),
            (Some(first), Some(_)) => PathBuf::from(first.as_os_str()),
            _ => PathBuf::new(),
        };
        Self {
            files,
            base: rule.base(),
            root,
            footprint: RefCell::default(),
        }
    }

    /// Returns the files read so far, and those that were missing.
    pub fn footprint(&self) -> Fingerprint {
        self.footprint.borrow().clone()
    }

    /// Returns the file of a module.
    fn spot_of(&self, import: &ScriptImport<'_>) -> Result<FileRef, String> {
        let specifier = import.specifier;
        if !specifier.starts_with("./") && !specifier.starts_with("../") {
            return Err(
                "only files can be imported, named from here, such as \"./lib/common.js\"".into(),
            );
        }
        let name = Path::new(import.name);
        let leads_out = || format!("it leads out of {}", self.described());
        let inside = name.strip_prefix(&self.root).map_err(|_| leads_out())?;
        if !is_plain(inside) {
            return Err(leads_out());
        }
        let extension = name.extension().and_then(|extension| extension.to_str());
        if !extension.is_some_and(|extension| EXTENSIONS.contains(&extension)) {
            return Err(match self.neighbour(name) {
                Some(near) => format!("it ends in neither .js nor .ts; {}", did_you_mean(&near)),
                None => "it ends in neither .js nor .ts".into(),
            });
        }
        Ok(FileRef {
            path: self.base.join(name),
            within: Some(self.base.join(&self.root)),
        })
    }

    /// Returns the import root, for messages.
    fn described(&self) -> String {
        format!("the folder {}", here(&self.root).display())
    }

    /// Returns the name of a file in the same folder that differs from a missing one only in its extension.
    fn neighbour(&self, name: &Path) -> Option<String> {
        let folder = name.parent()?;
        // "common" may mean common.js, and "common.js" may mean common.ts.
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
    fn read(&self, import: &ScriptImport<'_>) -> Result<String, String> {
        let spot = self.spot_of(import)?;
        // Recorded even if it is missing: it may appear.
        match self.footprint.borrow_mut().read(self.files, spot) {
            Ok(bytes) => module_text(&bytes),
            Err(Unread::Missing) => Err(match self.neighbour(Path::new(import.name)) {
                Some(near) => format!("{} does not exist; {}", import.name, did_you_mean(&near)),
                None => format!("{} does not exist", import.name),
            }),
            Err(unread) => Err(described(unread, &self.described())),
        }
    }
}

/// Reads the file of a rule that a person named; the reason is text for people.
pub fn read_rule(path: &Path) -> Result<Vec<u8>, String> {
    FileRef::anywhere(path)
        .read()
        .map_err(|unread| described(unread, CONFIGURATION))
}

/// Reads a configured rule's file; the reason is text for people.
pub fn read_configured(rule: &RuleConfig) -> Result<Vec<u8>, String> {
    let spot = FileRef::of(rule).ok_or("it is built in")?;
    spot.read()
        .map_err(|unread| described(unread, CONFIGURATION))
}

/// Returns whether a path only leads downwards.
fn is_plain(path: &Path) -> bool {
    path.components()
        .all(|part| matches!(part, Component::Normal(_)))
}

fn is_folder(path: &Path) -> bool {
    here(path).is_dir()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postroom_config::RuleKind;

    /// Imports a module from a rule in the folder of a configuration, and returns the result.
    fn imported(dir: &Path, rule: &str, specifier: &str, name: &str) -> Result<String, String> {
        let rule = RuleConfig {
            name: rule.into(),
            kind: RuleKind::Script(dir.join(rule)),
        };
        let files = Files::default();
        Folder::of(&files, &rule).read(&ScriptImport {
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
            ("./a", "rules/a", "did you mean `rules/a.js`?"),
            (
                "./lib/c.js",
                "rules/lib/c.js",
                "did you mean `rules/lib/c.ts`?",
            ),
            ("./no.js", "rules/no.js", "rules/no.js does not exist"),
            ("./d.js", "rules/d.js", "not a file"),
            ("./a.json", "rules/a.json", "neither .js nor .ts"),
        ] {
            let error = from_a(specifier, name).unwrap_err();
            assert!(error.contains(words), "{specifier}: {error}");
        }
        // A rule in the configuration's own folder sees everything below.
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
        let spot = |path| FileRef {
            path,
            within: Some(dir.path().to_owned()),
        };
        let (there, absent) = (spot(there), spot(missing.clone()));
        let mut footprint = Fingerprint::default();
        assert!(footprint.read(&Files::default(), there).is_ok());
        assert!(footprint.read(&Files::default(), absent).is_err());
        assert!(footprint.holds(&Files::default()));
        let folders: Vec<_> = footprint.folders().collect();
        assert_eq!(folders, [dir.path(), dir.path()]);
        std::fs::create_dir(dir.path().join("lib")).unwrap();
        std::fs::write(&missing, "").unwrap();
        assert!(!footprint.holds(&Files::default()));
    }
}
