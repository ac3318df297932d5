//! The files of a configuration as TOML documents: the main file and those that it includes.

use std::cell::RefCell;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::DeTable;

use super::bare::bare_text;
use super::problem::{Problem, Problems};
use super::reader::{Environment, Item, Part, Section, TomlReader};
use super::{MAX_FILE_BYTES, include, values};

pub const WHOLE: &str = "the configuration";

/// The texts of a configuration's files, by path as a user would write it. They hold no secret: a secret in clear is a problem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    texts: BTreeMap<PathBuf, Arc<str>>,
    /// The folders in which further files may be included.
    folders: BTreeSet<PathBuf>,
}

/// Where the texts of a configuration come from.
pub enum Texts<'d> {
    /// The files. What was read is recorded.
    Files(RefCell<Documents>),
    /// These documents; no other file of the configuration is read.
    Documents(&'d Documents),
}

/// The files of a configuration, the main one first.
pub struct Files<'r> {
    pub readers: Vec<&'r TomlReader<'r>>,
    pub tables: Vec<&'r Parsed<'r>>,
    pub documents: Documents,
}

/// A document. If it is not valid TOML, the table holds what could be recovered.
pub struct Parsed<'r> {
    pub table: Spanned<DeTable<'r>>,
    pub is_sound: bool,
}

impl Documents {
    pub fn get(&self, file: &Path) -> Option<&str> {
        self.texts.get(file).map(|text| &**text)
    }

    pub fn insert(&mut self, file: PathBuf, text: &str) {
        self.texts.insert(file, Arc::from(text));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Path, &str)> {
        let texts = self.texts.iter();
        texts.map(|(file, text)| (file.as_path(), &**text))
    }

    /// Returns the folders in which a save may change the configuration.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.texts.keys().map(|file| folder(file).to_owned());
        files.chain(self.folders.iter().cloned()).collect()
    }
}

impl Texts<'_> {
    pub fn files() -> Self {
        Self::Files(RefCell::default())
    }

    /// Notes that files may be included from a folder.
    pub fn note_folder(&self, folder: &Path) {
        if let Self::Files(read) = self {
            read.borrow_mut().folders.insert(folder.to_owned());
        }
    }

    /// Returns the text of the configuration's main file.
    pub fn main(&self, file: &Path) -> Result<String, Problems> {
        match self {
            Self::Files(read) => {
                let text = text(file)?;
                read.borrow_mut().insert(file.to_owned(), &text);
                Ok(text)
            }
            Self::Documents(documents) => documents
                .get(file)
                .map(str::to_owned)
                .ok_or_else(|| Problems::unsaid(&file.to_string_lossy())),
        }
    }

    /// Returns the text of an included file, or why it cannot be read.
    pub fn included(&self, file: &Path) -> Result<String, String> {
        match self {
            Self::Files(read) => {
                let text = values::read_limited(file, MAX_FILE_BYTES)?;
                read.borrow_mut().insert(file.to_owned(), &text);
                Ok(text)
            }
            Self::Documents(documents) => {
                let text = documents.get(file).map(str::to_owned);
                text.ok_or_else(|| "is not there".into())
            }
        }
    }

    /// Returns the texts that were used.
    pub fn documents(&self) -> Documents {
        match self {
            Self::Files(read) => read.borrow().clone(),
            Self::Documents(documents) => (*documents).clone(),
        }
    }
}

impl Files<'_> {
    pub fn problems(&self) -> Vec<(Part<'_>, Problem)> {
        self.readers.iter().flat_map(|it| it.problems()).collect()
    }

    /// Returns the problems and the unavailable parts, file by file.
    pub fn all(&self) -> Vec<Problem> {
        let all = self.readers.iter().flat_map(|reader| {
            let problems = reader.problems().into_iter().map(|(_, problem)| problem);
            problems.chain(reader.unavailable())
        });
        all.collect()
    }

    /// Returns the same for a configuration that is refused.
    pub fn all_problems(&self) -> Problems {
        let name = self.readers.first().map_or("", |reader| reader.file);
        Problems::of(self.all()).unwrap_or_else(|| Problems::unsaid(name))
    }

    pub fn of_each<T>(&self, list: fn(&TomlReader) -> Vec<T>) -> Vec<T> {
        self.readers.iter().flat_map(|it| list(it)).collect()
    }
}

/// Parses the main file and every file that it includes. Fails if the main file cannot be read.
pub fn with_files<T>(
    file: &Path,
    texts: &Texts,
    environment: &Environment,
    then: impl FnOnce(&Files) -> T,
) -> Result<T, Problems> {
    let text = &*texts.main(file)?;
    let name = file.to_string_lossy();
    let main = TomlReader::new((0, &name), text, folder(file), environment);
    let main_table = parse(&main, text);
    let included = match main_table.is_sound {
        true => include::read(&Section::root(&main, &main_table.table, WHOLE), file, texts),
        false => Vec::new(),
    };
    let others: Vec<TomlReader> = included
        .iter()
        .enumerate()
        .map(|(n, it)| {
            let numbered = (n + 1, it.name.as_str());
            TomlReader::new(numbered, &it.text, folder(file), environment)
        })
        .collect();
    let other_tables: Vec<Parsed> = std::iter::zip(&others, &included)
        .map(|(reader, it)| parse(reader, &it.text))
        .collect();
    Ok(then(&Files {
        readers: std::iter::once(&main).chain(&others).collect(),
        tables: std::iter::once(&main_table).chain(&other_tables).collect(),
        documents: texts.documents(),
    }))
}

/// Reads the main file and every file that it includes, without reading what they say. If the main file is not valid TOML, `sound_main`
/// says which files are included. Returns the texts, and the problems of files that cannot be read.
pub fn read_texts(file: &Path, sound_main: &str) -> Result<(Documents, Vec<Problem>), Problems> {
    let texts = Texts::files();
    let text = texts.main(file)?;
    let name = file.to_string_lossy();
    let mut problems = Vec::new();
    for text in [&*text, sound_main] {
        let reader = TomlReader::new((0, &name), text, folder(file), &|_| None);
        let table = parse(&reader, text);
        if table.is_sound {
            include::read(&Section::root(&reader, &table.table, WHOLE), file, &texts);
            problems.extend(reader.problems().into_iter().map(|(_, problem)| problem));
            break;
        }
    }
    Ok((texts.documents(), problems))
}

/// Parses a document, and reports each place that is not valid TOML.
pub fn parse<'r>(reader: &TomlReader<'r>, text: &'r str) -> Parsed<'r> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut last_bare = None;
    let part = match reader.part() {
        Part::Whole => Part::Whole,
        _ => Part::Unread,
    };
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        match bare_text(text, at) {
            // One piece of text may cause several errors.
            Some((begin, _)) if last_bare == Some(begin) => {}
            Some((begin, bare)) => {
                last_bare = Some(begin);
                // Somebody may have written a secret there.
                let (message, help) = match reader.may_show(begin) {
                    true => (
                        format!("is not TOML: {bare} is text without quotes"),
                        format!("write it in quotes: \"{bare}\""),
                    ),
                    false => (
                        "is not TOML: there is text without quotes".into(),
                        "write text in quotes, and a secret as { env = \"NAME\" } or { file = \"path\" }".into(),
                    ),
                };
                reader.problem(part, begin, "", message, help);
            }
            None => reader.problem(
                part,
                at,
                "",
                format!("is not TOML: {}", error.message()),
                "write it as key = \"text\", key = 5, key = [\"a\", \"b\"] or [table], each key once",
            ),
        }
    }
    Parsed {
        is_sound: errors.is_empty(),
        table,
    }
}

/// Returns the included files: those that are valid TOML, and those that are not.
pub fn included<'r>(files: &Files<'r>) -> (Vec<Section<'r>>, Vec<Section<'r>>) {
    let others = std::iter::zip(&files.readers, &files.tables).skip(1);
    let (mut sound, mut broken) = (Vec::new(), Vec::new());
    for (reader, parsed) in others {
        let root = Section::root(reader, &parsed.table, "an included file");
        if !parsed.is_sound {
            broken.push(root);
            continue;
        }
        root.misplaced(
            include::MAIN_FILE_KEYS,
            "belongs into the main file",
            "move it there, or remove it",
        );
        sound.push(root);
    }
    (sound, broken)
}

/// Returns the entries of one table from every file. A problem in an entry concerns the entry if it is a `part` of its own,
/// otherwise its whole file. A name that appears in two files is a problem of the later one.
pub fn named<'r>(
    roots: &[&Section<'r>],
    key: &'static str,
    what: &'static str,
    part: Option<fn(&'r str) -> Part<'r>>,
) -> Vec<(&'r str, Item<'r>)> {
    let mut places: HashMap<&str, String> = HashMap::new();
    let mut all = Vec::new();
    let entries = roots.iter().filter_map(|root| root.item(key));
    for (name, mut item) in entries.flat_map(|item| item.named(what)) {
        item.part = part.map_or(item.part, |part| part(name));
        match places.entry(name) {
            Entry::Occupied(first) => {
                // The earlier definition, maybe another client's, stays in use.
                if item.reader.order > 0 {
                    item.part = item.reader.part();
                }
                item.problem(
                    format!("is defined at {}, too", first.get()),
                    "give each a name of its own, or remove one of the two",
                );
            }
            Entry::Vacant(place) => {
                place.insert(item.reader.place(item.at));
                all.push((name, item));
            }
        }
    }
    all
}

pub fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Reads the text of the configuration file.
pub fn text(file: &Path) -> Result<String, Problems> {
    values::read_argument(file, MAX_FILE_BYTES).map_err(|reason| {
        let cure = if file.exists() {
            "it must be a TOML file in UTF-8 that postroom may read"
        } else {
            "name the configuration with --config FILE, or make one with `postroom init`"
        };
        Problems::of_file(&file.to_string_lossy(), reason, cure)
    })
}
