//! The mail as a rule sees it: the host's resource, with matches that are convenient to use.

use std::ops::{Deref, Index};

use crate::bindings::postroom::plugin::types::{Captures, Message, PatternError};
use crate::{Failure, Field};

/// The mail that is decided. Its parts stay in the host; each method fetches one (see the methods of the resource).
pub struct Mail<'a>(&'a Message);

/// One match of a pattern. `m[1]` and `m["name"]` are a group's text, which is empty if the group did not participate.
pub struct Match(Captures);

impl<'a> Mail<'a> {
    #[doc(hidden)]
    pub fn new(message: &'a Message) -> Self {
        Mail(message)
    }

    /// Returns the first match of a pattern in the syntax of the `regex` crate. The host runs it, in linear time, without
    /// copying the field.
    ///
    /// # Errors
    /// Fails if the pattern is malformed, or over a limit.
    pub fn find(&self, field: Field, pattern: &str) -> Result<Option<Match>, Failure> {
        Ok(self.0.match_(&field, pattern)?.map(Match))
    }

    /// Returns all matches, up to the host's limit.
    ///
    /// # Errors
    /// Fails if the pattern is malformed, or over a limit.
    pub fn find_all(&self, field: Field, pattern: &str) -> Result<Vec<Match>, Failure> {
        Ok(self
            .0
            .find_all(&field, pattern)?
            .into_iter()
            .map(Match)
            .collect())
    }
}

impl Deref for Mail<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        self.0
    }
}

impl Match {
    /// Returns a group by number; `None` if it did not participate. Group 0 is the whole match.
    pub fn group(&self, number: usize) -> Option<&str> {
        self.0.groups.get(number)?.as_deref()
    }

    /// Returns a group by name.
    pub fn named(&self, name: &str) -> Option<&str> {
        let (_, number) = self.0.names.iter().find(|(n, _)| n == name)?;
        self.group(*number as usize)
    }

    /// Returns where the match starts, in bytes of the field.
    pub fn start(&self) -> usize {
        self.0.start as usize
    }
}

impl Index<usize> for Match {
    type Output = str;

    fn index(&self, number: usize) -> &str {
        self.group(number).unwrap_or_default()
    }
}

impl Index<&str> for Match {
    type Output = str;

    fn index(&self, name: &str) -> &str {
        self.named(name).unwrap_or_default()
    }
}

impl From<PatternError> for Failure {
    fn from(error: PatternError) -> Failure {
        let message = match error {
            PatternError::Syntax(reason) => format!("bad pattern: {reason}"),
            PatternError::Limit(reason) => format!("pattern over a limit: {reason}"),
        };
        Failure {
            message,
            location: None,
        }
    }
}
