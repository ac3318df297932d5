//! Walks a TOML document by hand, so that every problem is collected with its position, and no key is ever ignored.

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, SourceLine, Unavailable};
use crate::suggest::{closest, hint};

/// Looks up an environment variable.
pub type Environment<'r> = dyn Fn(&str) -> Option<OsString> + 'r;

/// The part of a configuration that a problem concerns: a problem in one client's part concerns no other client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'r> {
    /// Everything, such as a limit or a sink.
    Whole,
    /// The clients of one included file, by its number.
    File(usize),
    /// The clients of an included file that could not be read, whose names are unknown.
    Unread,
    Tenant(&'r str),
    Mailbox(&'r str),
    Outgoing(&'r str),
    Profile(&'r str),
}

/// One file being read: the starts of its lines, and the problems found so far.
pub struct TomlReader<'r> {
    /// The file as the user named it.
    pub file: &'r str,
    /// The file's number: 0 is the main one.
    pub order: usize,
    text: &'r str,
    /// The folder that relative paths are resolved against.
    pub dir: &'r Path,
    pub environment: &'r Environment<'r>,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<(Part<'r>, Problem)>>,
    warnings: RefCell<Vec<Problem>>,
    /// Missing secrets, keys and certificates, which concern only the parts that need them.
    unavailable: RefCell<Vec<Problem>>,
}

/// One table. Its keys are requested by name; `finish` refuses keys that were never requested.
pub struct Section<'r> {
    pub reader: &'r TomlReader<'r>,
    /// The table's path; empty for the whole file.
    pub path: String,
    /// The subject of the table, for messages: `a mailbox`.
    what: &'static str,
    at: usize,
    pub part: Part<'r>,
    table: &'r DeTable<'r>,
    asked: RefCell<Vec<&'static str>>,
    /// Known keys that are refused: each is reported once, and never suggested.
    refused: RefCell<Vec<&'static str>>,
}

/// One value with its key and position.
pub struct Item<'r> {
    pub reader: &'r TomlReader<'r>,
    /// The value's path, such as `mailboxes.acme.rules[0]`.
    pub path: String,
    /// The offset in the file, in bytes.
    pub at: usize,
    pub part: Part<'r>,
    value: &'r DeValue<'r>,
}

impl<'r> TomlReader<'r> {
    pub fn new(
        (order, file): (usize, &'r str),
        text: &'r str,
        dir: &'r Path,
        environment: &'r Environment<'r>,
    ) -> Self {
        let line_starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self {
            file,
            order,
            text,
            dir,
            environment,
            line_starts,
            problems: RefCell::default(),
            warnings: RefCell::default(),
            unavailable: RefCell::default(),
        }
    }

    pub fn problem(
        &self,
        part: Part<'r>,
        at: usize,
        path: &str,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let problem = self.placed(at, path, message.into(), cure.into());
        self.problems.borrow_mut().push((part, problem));
    }

    /// Records a valid setting that is probably a mistake.
    pub fn warning(
        &self,
        at: usize,
        path: &str,
        message: impl Into<String>,
        cure: impl Into<String>,
    ) {
        let warning = self.placed(at, path, message.into(), cure.into());
        self.warnings.borrow_mut().push(warning);
    }

    fn placed(&self, at: usize, path: &str, message: String, cure: String) -> Problem {
        let line = self.line(at);
        let start = self.line_starts[line as usize - 1];
        let before = self.text.get(start..at).unwrap_or_default();
        let text = self.text.get(start..).and_then(|rest| rest.lines().next());
        let source = text
            .and_then(|text| SourceLine::of(text, at - start))
            .map(Box::new);
        Problem {
            file: self.file.into(),
            line,
            column: before.chars().count() as u32 + 1,
            key: path.into(),
            message,
            cure,
            source,
        }
    }

    /// Returns the part that a problem of the whole file concerns.
    pub fn part(&self) -> Part<'r> {
        match self.order {
            0 => Part::Whole,
            order => Part::File(order),
        }
    }

    /// Returns whether the line at an offset may be shown: no line that may hold a secret is.
    pub fn may_show(&self, at: usize) -> bool {
        let start = self.line_starts[self.line(at) as usize - 1];
        let line = self.text.get(start..).and_then(|rest| rest.lines().next());
        line.is_some_and(|line| SourceLine::of(line, 0).is_some())
    }

    /// Returns the place of an offset, as `FILE:LINE`.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.file, self.line(at))
    }

    /// Returns the line of an offset, from 1.
    fn line(&self, at: usize) -> u32 {
        self.line_starts.partition_point(|start| *start <= at) as u32
    }

    /// Returns every problem with the part that it concerns.
    pub fn problems(&self) -> Vec<(Part<'r>, Problem)> {
        self.problems.borrow().clone()
    }

    /// Returns the warnings so far, in the order of the file.
    pub fn warnings(&self) -> Vec<Problem> {
        in_order(&self.warnings)
    }

    /// Returns what is unavailable so far, in the order of the file.
    pub fn unavailable(&self) -> Vec<Problem> {
        in_order(&self.unavailable)
    }
}

impl<'r> Section<'r> {
    /// Returns the root table of a file; `what` is the subject of the file.
    pub fn root(
        reader: &'r TomlReader<'r>,
        table: &'r Spanned<DeTable<'r>>,
        what: &'static str,
    ) -> Self {
        Self {
            reader,
            path: String::new(),
            what,
            at: 0,
            part: reader.part(),
            table: table.get_ref(),
            asked: RefCell::default(),
            refused: RefCell::default(),
        }
    }

    /// Returns the value of an optional key.
    pub fn item(&self, key: &'static str) -> Option<Item<'r>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        let (_, value) = self.table.get_key_value(key)?;
        Some(Item {
            reader: self.reader,
            path: join(&self.path, key),
            at: value.span().start,
            part: self.part,
            value: value.get_ref(),
        })
    }

    /// Returns the text of a key, which counts as requested only once [`Section::item`] requests it.
    pub fn peek(&self, key: &str) -> Option<&'r str> {
        self.table.get(key)?.get_ref().as_str()
    }

    /// Returns the value of a required key.
    pub fn required(&self, key: &'static str, cure: &str) -> Option<Item<'r>> {
        let item = self.item(key);
        if item.is_none() {
            self.missing(key, cure);
        }
        item
    }

    /// Returns a table inside this one; `None` if it is left out, or is not a table.
    pub fn section(&self, key: &'static str, what: &'static str) -> Option<Section<'r>> {
        self.item(key)?.section(what)
    }

    /// Returns every entry of a table whose keys are names, in the order of the file.
    pub fn entries(&self) -> Vec<(&'r str, Item<'r>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let name: &'r str = key.get_ref().as_ref();
                let item = Item {
                    reader: self.reader,
                    path: join(&self.path, name),
                    at: key.span().start,
                    part: self.part,
                    value: value.get_ref(),
                };
                (name, item)
            })
            .collect();
        entries.sort_by_key(|(_, item)| item.at);
        entries
    }

    /// Returns the keys of this table.
    pub fn names(&self) -> Vec<String> {
        let keys = self.table.keys();
        keys.map(|key| key.get_ref().to_string()).collect()
    }

    /// Refuses the keys of a later version.
    pub fn later(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some(at) = self.refuse(key) {
                self.reader.problem(
                    self.part,
                    at,
                    &join(&self.path, key),
                    "is not yet supported by this version",
                    "remove it",
                );
            }
        }
    }

    /// Refuses keys that have a meaning elsewhere, but not here.
    pub fn misplaced(&self, keys: &[&'static str], message: &str, cure: &str) {
        for key in keys {
            if let Some(at) = self.refuse(key) {
                self.reader
                    .problem(self.part, at, &join(&self.path, key), message, cure);
            }
        }
    }

    /// Records a problem of the table as a whole.
    pub fn problem(&self, message: impl Into<String>, cure: impl Into<String>) {
        self.reader
            .problem(self.part, self.at, &self.path, message, cure);
    }

    pub fn missing(&self, key: &str, cure: &str) {
        let path = join(&self.path, key);
        self.reader
            .problem(self.part, self.at, &path, "is missing", cure);
    }

    /// Refuses every key that was not requested.
    pub fn finish(self) {
        let asked = self.asked.into_inner();
        let refused = self.refused.into_inner();
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if asked.contains(&name) || refused.contains(&name) {
                continue;
            }
            let path = join(&self.path, name);
            let at = key.span().start;
            let near = closest(name, asked.iter().copied());
            let hint = hint(name, asked.iter().copied());
            self.reader.problem(
                self.part,
                at,
                &path,
                format!("is not a key of {}{hint}", self.what),
                match near {
                    Some(near) => format!("write {near}, or remove it"),
                    None => format!("remove it; known here: {}", asked.join(", ")),
                },
            );
        }
    }

    /// Marks a key as refused. Returns its position if it is present.
    fn refuse(&self, key: &'static str) -> Option<usize> {
        self.refused.borrow_mut().push(key);
        let (key, _) = self.table.get_key_value(key)?;
        Some(key.span().start)
    }
}

impl<'r> Item<'r> {
    pub fn problem(&self, message: impl Into<String>, cure: impl Into<String>) {
        self.reader
            .problem(self.part, self.at, &self.path, message, cure);
    }

    /// Reports that a file which this item names could not be read.
    pub fn problem_of_file(&self, message: impl Into<String>, cure: impl Into<String>) {
        self.reader
            .problem(Part::Unread, self.at, &self.path, message, cure);
    }

    pub fn warning(&self, message: impl Into<String>, cure: impl Into<String>) {
        self.reader.warning(self.at, &self.path, message, cure);
    }

    /// Records that the target of this item is missing or invalid.
    pub fn unavailable(&self, message: impl Into<String>, cure: impl Into<String>) -> Unavailable {
        let reader = self.reader;
        let problem = reader.placed(self.at, &self.path, message.into(), cure.into());
        let unavailable = Unavailable::from(&problem);
        reader.unavailable.borrow_mut().push(problem);
        unavailable
    }

    pub fn value(&self) -> &'r DeValue<'r> {
        self.value
    }

    /// Returns whether this is a table with that key.
    /// Returns the text of a key of this table, before the table is read.
    pub fn peek(&self, key: &str) -> Option<&'r str> {
        self.value.as_table()?.get(key)?.get_ref().as_str()
    }

    pub fn has(&self, key: &str) -> bool {
        self.value
            .as_table()
            .is_some_and(|table| table.contains_key(key))
    }

    /// Returns whether this is an empty table or array.
    pub fn is_empty(&self) -> bool {
        match self.value {
            DeValue::Table(table) => table.is_empty(),
            DeValue::Array(array) => array.is_empty(),
            _ => false,
        }
    }

    /// Returns a non-empty string.
    pub fn text(&self) -> Option<&'r str> {
        let Some(text) = self.value.as_str() else {
            self.wrong_type("a string", "write it in quotes");
            return None;
        };
        if text.trim().is_empty() {
            self.problem("is empty", "write a value, or remove the key");
            return None;
        }
        Some(text)
    }

    /// Returns an integer within a range.
    pub fn integer(&self, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let Some(integer) = self.value.as_integer() else {
            self.wrong_type("a whole number", "write it without quotes");
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        match number.filter(|number| range.contains(number)) {
            Some(number) => Some(number),
            None => {
                self.problem(
                    format!("{integer} is out of range"),
                    format!("write a number from {} to {}", range.start(), range.end()),
                );
                None
            }
        }
    }

    /// Returns `true` or `false`.
    pub fn flag(&self) -> Option<bool> {
        let flag = self.value.as_bool();
        if flag.is_none() {
            self.wrong_type("true or false", "write it without quotes");
        }
        flag
    }

    /// Returns the elements of an array.
    pub fn list(&self) -> Option<Vec<Item<'r>>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type("an array", "write it in brackets: [\"…\"]");
            return None;
        };
        let items = array.iter().enumerate().map(|(n, value)| Item {
            reader: self.reader,
            path: format!("{}[{n}]", self.path),
            at: value.span().start,
            part: self.part,
            value: value.get_ref(),
        });
        Some(items.collect())
    }

    /// Returns a table; `what` describes it in messages.
    pub fn section(&self, what: &'static str) -> Option<Section<'r>> {
        let Some(table) = self.value.as_table() else {
            self.wrong_type("a table", &format!("write [{}] above its keys", self.path));
            return None;
        };
        Some(Section {
            reader: self.reader,
            path: self.path.clone(),
            what,
            at: self.at,
            part: self.part,
            table,
            asked: RefCell::default(),
            refused: RefCell::default(),
        })
    }

    /// Returns one of a few words. Words of a later version are refused as such.
    pub fn choice<T: Copy>(&self, known: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, choice)) = known.iter().find(|(word, _)| *word == text) {
            return Some(*choice);
        }
        let words = || known.iter().map(|(word, _)| *word);
        if later.contains(&text) {
            self.problem(
                format!("\"{text}\" is not yet supported by this version"),
                format!("use {}", quoted(words())),
            );
        } else {
            self.unknown(text, words(), later.iter().copied());
        }
        None
    }

    /// Returns the name of something defined elsewhere in the file, such as a tenant.
    pub fn reference(&self, what: &str, table: &str, names: &[String]) -> Option<String> {
        let text = self.text()?;
        if names.iter().any(|name| name == text) {
            return Some(text.into());
        }
        let known = || names.iter().map(String::as_str);
        self.problem(
            format!("there is no {what} \"{text}\"{}", hint(text, known())),
            match closest(text, known()) {
                Some(near) => format!("write \"{near}\", or add [{}]", join(table, text)),
                None => format!("add [{}], or name an existing one", join(table, text)),
            },
        );
        None
    }

    fn unknown<'w>(
        &self,
        text: &str,
        words: impl Iterator<Item = &'w str> + Clone,
        later: impl Iterator<Item = &'w str>,
    ) {
        let hint = hint(text, words.clone().chain(later));
        self.problem(
            format!("\"{text}\" is not known{hint}"),
            format!("use {}", quoted(words)),
        );
    }

    pub fn wrong_type(&self, wanted: &str, cure: &str) {
        self.problem(
            format!("expected {wanted}, found {}", describe(self.value)),
            cure,
        );
    }
}

fn in_order(problems: &RefCell<Vec<Problem>>) -> Vec<Problem> {
    let mut problems = problems.borrow().clone();
    problems.sort_by_key(|problem| (problem.line, problem.column));
    problems
}

/// Returns the path of a key within a table, quoted if TOML requires it.
pub fn join(path: &str, key: &str) -> String {
    let bare = !key.is_empty()
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    let key = if bare {
        key.to_owned()
    } else {
        format!("{key:?}")
    };
    if path.is_empty() {
        key
    } else {
        format!("{path}.{key}")
    }
}

/// The path of a key by its parts.
pub fn key_path(parts: &[&str]) -> String {
    let parts = parts.iter();
    parts.fold(String::new(), |path, key| join(&path, key))
}

/// Returns the words as `"a", "b" or "c"`.
pub fn quoted<'w>(words: impl Iterator<Item = &'w str>) -> String {
    let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
        None => String::new(),
    }
}

fn describe(value: &DeValue) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "an array",
        DeValue::Table(_) => "a table",
    }
}
