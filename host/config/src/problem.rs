//! Problems of a configuration, each with its place, its cause and a help line.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Level, Origin, Renderer, Snippet};
use serde::Serialize;

/// Words that mark a line as not to be displayed, since somebody may have written a secret into it.
const MAY_HOLD_A_SECRET: [&str; 6] = [
    "secret",
    "password",
    "key",
    "certificate",
    "service_account",
    "url",
];
/// The longest line that is displayed.
const SHOWN_LINE_BYTES: usize = 400;

/// One problem and its fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// Counted from 1; 0 for the file as a whole.
    pub line: u32,
    /// Counted from 1, in characters; 0 for the line as a whole.
    pub column: u32,
    /// The key's path, such as `mailboxes.acme.rules[0]`; empty without a key.
    pub key: String,
    pub message: String,
    pub cure: String,
    /// The line of the file, if it is known and may be displayed.
    #[serde(skip)]
    pub source: Option<Box<SourceLine>>,
}

impl Problem {
    /// Returns the problem as an error, as rustc prints one: message, place, source line and help.
    pub fn as_error(&self) -> impl fmt::Display + '_ {
        Shown(self, Level::ERROR)
    }

    /// Returns the problem as a warning.
    pub fn as_warning(&self) -> impl fmt::Display + '_ {
        Shown(self, Level::WARNING)
    }
}

/// Prints the problem on one line, for logs and as a part of other sentences.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; help: {}", self.place(), self.title(), self.cure)
    }
}

struct Shown<'p>(&'p Problem, Level<'static>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(problem, level) = self;
        let title = problem.title();
        let report = level.clone().primary_title(&title);
        let help = Level::HELP.message(&problem.cure);
        let group = match &problem.source {
            Some(source) => report.element(source.snippet(problem)).element(help),
            None => {
                let mut origin = Origin::path(&problem.file);
                if problem.line > 0 {
                    origin = origin.line(problem.line as usize);
                }
                if problem.column > 0 {
                    origin = origin.char_column(problem.column as usize);
                }
                report.element(origin).element(help)
            }
        };
        let text = Renderer::plain().render(&[group]);
        f.write_str(text.trim_end())
    }
}

impl Problem {
    /// Returns the place as `FILE:LINE:COLUMN`, as far as it is known.
    pub fn place(&self) -> String {
        match (self.line, self.column) {
            (0, _) => self.file.clone(),
            (line, 0) => format!("{}:{line}", self.file),
            (line, column) => format!("{}:{line}:{column}", self.file),
        }
    }

    /// Returns the key and what is wrong with it.
    pub fn title(&self) -> String {
        match self.key.as_str() {
            "" => self.message.clone(),
            key => format!("{key}: {}", self.message),
        }
    }
}

/// The line of the file that a problem is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLine {
    text: String,
    /// The marked bytes of the line.
    marked: Range<usize>,
}

impl SourceLine {
    /// Returns the line for display; `None` for a line that may contain a secret, and for one that is too long.
    pub(crate) fn of(line: &str, at: usize) -> Option<Self> {
        let line = line.trim_end_matches(['\n', '\r']);
        let rest = line.get(at..)?;
        let lower = line.to_ascii_lowercase();
        let may_hold_a_secret =
            MAY_HOLD_A_SECRET.iter().any(|it| lower.contains(it)) || may_hold_a_login(line);
        if line.len() > SHOWN_LINE_BYTES || may_hold_a_secret {
            return None;
        }
        Some(Self {
            text: line.to_owned(),
            marked: at..at + token_bytes(rest),
        })
    }

    fn snippet<'s>(&'s self, problem: &'s Problem) -> Snippet<'s, Annotation<'s>> {
        Snippet::source(&self.text)
            .line_start(problem.line as usize)
            .path(&problem.file)
            .annotation(AnnotationKind::Primary.span(self.marked.clone()))
    }
}

/// Returns whether a string of the line looks like `USER:PASSWORD@HOST`.
fn may_hold_a_login(line: &str) -> bool {
    let mut strings = line.split(['"', '\'']);
    strings.any(|it| {
        it.split_once(':')
            .is_some_and(|(_, rest)| rest.contains('@'))
    })
}

/// Returns the length of the string, word or sign at the start of a text.
fn token_bytes(text: &str) -> usize {
    let mut chars = text.char_indices();
    let Some((_, first)) = chars.next() else {
        return 0;
    };
    let is_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '+');
    match first {
        '"' | '\'' => chars
            .find(|(_, c)| *c == first)
            .map_or(text.len(), |(end, c)| end + c.len_utf8()),
        c if is_word(c) => text.find(|c| !is_word(c)).unwrap_or(text.len()),
        c => c.len_utf8(),
    }
}

/// Why a part of the configuration is unusable although the file itself is valid: a secret, key or certificate that it
/// refers to is missing or invalid. Every other part can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// The reason, which begins with the key's path.
    pub reason: String,
    pub help: String,
}

/// A value that a part needs, or the reason why it is unavailable.
pub type Ready<T> = Result<T, Unavailable>;

impl From<&Problem> for Unavailable {
    fn from(problem: &Problem) -> Self {
        Self {
            reason: problem.title(),
            help: problem.cure.clone(),
        }
    }
}

/// Every problem of one configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems by place, with files in the order in which they first appear, and removes duplicates. Returns `None`
    /// without problems.
    pub fn of(mut problems: Vec<Problem>) -> Option<Self> {
        let mut files: Vec<String> = Vec::new();
        for problem in &problems {
            if files.last() != Some(&problem.file) && !files.contains(&problem.file) {
                files.push(problem.file.clone());
            }
        }
        problems.sort_by_cached_key(|it| {
            let file = files.iter().position(|file| *file == it.file);
            (file, it.line, it.column, it.key.clone())
        });
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// Returns the one problem of a file that could not be read at all.
    pub(super) fn of_file(file: &str, message: String, cure: &str) -> Self {
        Self(vec![Problem {
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            cure: cure.into(),
            source: None,
        }])
    }

    /// Returns the problem of a bug in Postroom: nothing was read, and no problem was reported.
    pub(super) fn unsaid(file: &str) -> Self {
        Self::of_file(
            file,
            "internal error: rejected without a reason".into(),
            "this is a bug in Postroom; please report it",
        )
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// Prints the problems as rustc prints errors, with a blank line between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{}", problem.as_error())?;
        }
        Ok(())
    }
}
