//! Problems of a configuration, each with its place, its cause and a help line.

use std::fmt;

use serde::Serialize;

/// One thing that is wrong, and how it is put right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file as the user named it.
    pub file: String,
    /// From 1; 0 when the file as a whole is meant.
    pub line: u32,
    /// From 1, in characters; 0 when the line as a whole is meant.
    pub column: u32,
    /// The key's path, such as `mailboxes.acme.rules[0]`; empty without a key.
    pub key: String,
    pub message: String,
    pub cure: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
            if self.column > 0 {
                write!(f, ":{}", self.column)?;
            }
        }
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        let stop = if self.message.ends_with('?') { "" } else { "." };
        write!(f, ": {}{stop} Cure: {}", self.message, self.cure)
    }
}

/// Why a part of the configuration cannot be used, where only what it points to is at fault: a secret, key or certificate that cannot
/// be had, or is none. Every other part can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unavailable {
    /// Begins with the key's path.
    pub reason: String,
    pub help: String,
}

/// A value that a part needs, or the reason why it is unavailable.
pub type Ready<T> = Result<T, Unavailable>;

impl From<&Problem> for Unavailable {
    fn from(problem: &Problem) -> Self {
        Self {
            reason: format!("{}: {}", problem.key, problem.message),
            help: problem.cure.clone(),
        }
    }
}

/// Every problem of one configuration, in the order of the file. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Sorts the problems by place and removes duplicates. `None` without problems.
    pub fn of(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| {
            let place = |p: &Problem| (p.line, p.column);
            place(a).cmp(&place(b)).then_with(|| a.key.cmp(&b.key))
        });
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// The one problem of a file that could not be read at all.
    pub(super) fn of_file(file: &str, message: String, cure: &str) -> Self {
        Self(vec![Problem {
            file: file.into(),
            line: 0,
            column: 0,
            key: String::new(),
            message,
            cure: cure.into(),
        }])
    }

    /// For a defect of ours: nothing was read, and nobody said why.
    pub(super) fn unsaid(file: &str) -> Self {
        Self::of_file(
            file,
            "is not understood, for a reason that went unsaid".into(),
            "tell the makers of Postroom",
        )
    }

    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}
