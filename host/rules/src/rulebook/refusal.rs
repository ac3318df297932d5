//! Refusals: why a rule's current files do not go live, typed so that reports can show the position.

use std::fmt;

use postroom_sandbox::LoadError;

use super::files::{Files, Fingerprint};
use crate::cases::Tested;
use postroom_config::RuleUse;

/// The message for a panic during a load.
pub const DEFECT: &str =
    "loading it panicked; this is a bug in Postroom, please report it with the log";

/// The fault of a rule's files. Displays one line that begins with the file and, if known, the position.
#[derive(Debug)]
pub enum LoadRefusal {
    /// Its file cannot be read.
    Unread { name: String, reason: String },
    /// No rule can be made from it.
    NoRule {
        error: LoadError,
        /// The line of the source that the error names.
        source_line: Option<String>,
    },
    /// This version was rolled back, by a person or automatically.
    Returned { name: String, reason: String },
    /// Its own tests fail.
    Tests {
        name: String,
        tested: Tested,
        /// Whether this very version is live: then its tests changed, or their inputs.
        serves: bool,
    },
    /// A panic ended its load.
    Defect { name: String },
}

impl LoadRefusal {
    pub(super) fn no_rule(
        error: LoadError,
        wanted: &RuleUse,
        files: &Files,
        footprint: &Fingerprint,
    ) -> Self {
        let source_line = match &error {
            LoadError::Script { file, line, .. } => {
                let path = wanted.rule.base().join(file);
                footprint.line(files, &path, *line as usize)
            }
            _ => None,
        };
        Self::NoRule { error, source_line }
    }
}

impl fmt::Display for LoadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unread { name, reason } => write!(f, "{name}: {reason}"),
            Self::NoRule { error, .. } => error.fmt(f),
            Self::Returned { name, reason } => write!(
                f,
                "{name}: this version was {reason}; it is refused until the file changes"
            ),
            Self::Tests { name, tested, .. } => {
                let reason = tested.refusal().unwrap_or_default();
                write!(f, "{name}: {reason}")
            }
            Self::Defect { name } => write!(f, "{name}: {DEFECT}"),
        }
    }
}
