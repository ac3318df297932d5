//! The files of a configuration as TOML documents: the main file and those that it includes.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use toml::Spanned;
use toml::de::DeTable;

use super::bare::bare_text;
use super::problem::{Problem, Problems};
use super::reader::{Environment, Item, Part, Section, TomlReader};
use super::{MAX_FILE_BYTES, include, values};

pub const WHOLE: &str = "the configuration";

/// The files of a configuration, the main one first.
pub struct Files<'r> {
    pub readers: Vec<&'r TomlReader<'r>>,
    pub tables: Vec<&'r Parsed<'r>>,
}

/// A document. If it is not valid TOML, the table holds what could be recovered.
pub struct Parsed<'r> {
    pub table: Spanned<DeTable<'r>>,
    pub is_sound: bool,
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

/// Parses the main file and every file that it includes.
pub fn with_files<T>(
    file: &Path,
    text: &str,
    environment: &Environment,
    then: impl FnOnce(&Files) -> T,
) -> T {
    let name = file.to_string_lossy();
    let main = TomlReader::new((0, &name), text, folder(file), environment);
    let main_table = parse(&main, text);
    let included = match main_table.is_sound {
        true => include::read(&Section::root(&main, &main_table.table, WHOLE), file),
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
    then(&Files {
        readers: std::iter::once(&main).chain(&others).collect(),
        tables: std::iter::once(&main_table).chain(&other_tables).collect(),
    })
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
