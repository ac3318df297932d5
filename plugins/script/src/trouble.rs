//! JavaScript exceptions as a message and a position in the rule's own file.

use std::fmt;
use std::rc::Rc;

use rquickjs::{CaughtError, Value};

use crate::modules::Modules;

/// A position in a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The name of one of the script's files.
    pub file: String,
    /// From 1, as is the column.
    pub line: u32,
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// An exception, described in terms of the script.
pub struct Trouble {
    pub message: String,
    pub place: Option<Place>,
}

impl Trouble {
    pub fn new(message: impl Into<String>) -> Self {
        Trouble {
            message: message.into(),
            place: None,
        }
    }

    /// Converts an exception. `files` are the names that the script's sources were evaluated under.
    pub fn from_caught(caught: &CaughtError<'_>, files: &[String]) -> Self {
        match caught {
            CaughtError::Exception(exception) => {
                let name = exception
                    .as_object()
                    .get::<_, String>("name")
                    .unwrap_or_else(|_| "Error".into());
                let message = exception.message().unwrap_or_default();
                Trouble {
                    message: if message.is_empty() {
                        name
                    } else {
                        format!("{name}: {message}")
                    },
                    place: exception
                        .stack()
                        .and_then(|stack| places(&stack, files).next()),
                }
            }
            CaughtError::Value(value) => Trouble::new(format!("threw {}", shown(value))),
            CaughtError::Error(error) => Trouble::new(error.to_string()),
        }
    }

    /// Names what is no function, which the interpreter leaves out. `source` returns the text of one of the script's files.
    pub fn with_callee(mut self, source: impl FnOnce(&str) -> Option<Rc<str>>) -> Self {
        let what = match self.message.strip_prefix("TypeError: ") {
            Some(what @ ("not a function" | "not a constructor")) => what,
            _ => return self,
        };
        let named = self.place.as_ref().and_then(|place| {
            let source = source(&place.file)?;
            let line = source.lines().nth(place.line.checked_sub(1)? as usize)?;
            callee(line, place.column as usize).map(str::to_owned)
        });
        if let Some(named) = named {
            self.message = format!("TypeError: {named} is {what}");
        }
        self
    }

    /// Adds the position to an error about the import of a name that is not exported, which is the only error without one
    /// from the interpreter.
    pub fn with_place_of_import(mut self, modules: &Modules) -> Self {
        if self.place.is_some() {
            return self;
        }
        let Some((name, module)) = self
            .message
            .strip_prefix("SyntaxError: Could not find export '")
            .and_then(|rest| rest.strip_suffix('\'')?.split_once("' in module '"))
        else {
            return self;
        };
        self.place = modules.place_of_name(module, name);
        let hint = match self.place.as_ref().is_some_and(|p| p.file.ends_with(".ts")) {
            true => format!("; a type is imported with `import type {{ {name} }}`"),
            false => String::new(),
        };
        self.message = format!("SyntaxError: {module} exports no {name:?}{hint}");
        self
    }
}

/// Returns the chain of names that is called at a column, counted from 1: `mail.lnes` of `const a = mail.lnes().length`.
fn callee(line: &str, column: usize) -> Option<&str> {
    let in_chain = |c: char| c.is_alphanumeric() || "_$.?".contains(c);
    let at = line.char_indices().nth(column.checked_sub(1)?)?.0;
    let end = at + line[at..].find(|c| !in_chain(c)).unwrap_or(line.len() - at);
    let start = line[..at]
        .char_indices()
        .rev()
        .take_while(|(_, c)| in_chain(*c))
        .last()
        .map_or(at, |(start, _)| start);
    Some(line[start..end].trim_matches(['.', '?'])).filter(|name| !name.is_empty())
}

/// Returns a short description of a value, for messages.
pub fn shown(value: &Value<'_>) -> String {
    const CHARS: usize = 60;
    if let Some(text) = value.as_string() {
        let text = text.to_string().unwrap_or_default();
        let mut short: String = text.chars().take(CHARS).collect();
        if short.len() < text.len() {
            short.push('…');
        }
        return format!("the text {short:?}");
    }
    if let Some(number) = value.as_number() {
        return format!("the number {number}");
    }
    match value.type_of() {
        rquickjs::Type::Undefined => "undefined".into(),
        rquickjs::Type::Null => "null".into(),
        rquickjs::Type::Bool => format!("{}", value.as_bool().unwrap_or_default()),
        rquickjs::Type::Array => "a list".into(),
        rquickjs::Type::Promise => "a Promise".into(),
        rquickjs::Type::Function | rquickjs::Type::Constructor => "a function".into(),
        rquickjs::Type::Symbol => "a symbol".into(),
        rquickjs::Type::BigInt => "a bigint".into(),
        _ => "an object".into(),
    }
}

/// Returns the positions on a stack that are in one of the files, innermost first. Repeated positions in a row, as
/// recursion leaves them, are listed once.
pub fn path(stack: &str, files: &[String]) -> Vec<Place> {
    let mut path: Vec<Place> = places(stack, files).collect();
    path.dedup();
    path
}

/// Parses `    at decide (NAME:LINE:COLUMN)` or `    at NAME:LINE:COLUMN`.
fn places<'a>(stack: &'a str, files: &'a [String]) -> impl Iterator<Item = Place> + 'a {
    stack.lines().filter_map(|line| {
        let line = line.trim_end().trim_end_matches(')');
        let (front, column) = line.rsplit_once(':')?;
        let (front, line) = front.rsplit_once(':')?;
        let named = |file: &&String| {
            let before = front.strip_suffix(file.as_str());
            before.is_some_and(|before| before.ends_with('(') || before.ends_with(' '))
        };
        // Names may contain spaces: the longest match is the complete one.
        let file = files.iter().filter(named).max_by_key(|file| file.len())?;
        Some(Place {
            file: file.clone(),
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::{callee, path, places};

    fn found(stack: &str, files: &[&str]) -> Option<String> {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        let first = places(stack, &files).next();
        first.map(|place| place.to_string())
    }

    #[test]
    fn the_first_frame_of_the_script_counts() {
        let stack = "    at check (native)\n    at Action (postroom:prelude:20:9)\n    at helper (a b/x:y.js:12:5)\n    at decide (a b/x:y.js:3:1)\n";
        let whole = Some("a b/x:y.js:12:5".to_owned());
        assert_eq!(found(stack, &["a b/x:y.js"]), whole);
        assert_eq!(found(stack, &["b/x:y.js", "a b/x:y.js"]), whole);
        let bare = found("    at a b/x:y.js:7:2\n", &["a b/x:y.js"]);
        assert_eq!(bare.as_deref(), Some("a b/x:y.js:7:2"));
        assert_eq!(found(stack, &["y.js"]), None);
        assert_eq!(found("", &["y.js"]), None);
    }

    #[test]
    fn a_callee_is_the_chain_of_names_around_a_column() {
        for (line, column, expected) in [
            ("const a = mail.lnes().length", 16, Some("mail.lnes")),
            ("const a = mail.lnes().length", 20, Some("mail.lnes")),
            ("  größe(1)", 3, Some("größe")),
            ("a?.b()", 4, Some("a?.b")),
            ("(() => 1)()()", 12, None),
            ("x", 9, None),
            ("", 0, None),
        ] {
            assert_eq!(callee(line, column), expected, "{line}");
        }
    }

    #[test]
    fn a_path_tells_each_place_of_the_script_and_a_repeated_one_once() {
        let stack = "    at made (lib.js:2:9)\n    at map (native)\n    at walk (rule.js:5:1)\n    at walk (rule.js:5:1)\n    at decide (rule.js:9:3)\n    at run (postroom:prelude:200:5)\n";
        let files = ["rule.js".to_owned(), "lib.js".to_owned()];
        let path: Vec<String> = path(stack, &files)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(path, ["lib.js:2:9", "rule.js:5:1", "rule.js:9:3"]);
    }
}
