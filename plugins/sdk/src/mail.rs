//! The mail as a rule sees it: the host's resource, with matches that are convenient to use.

use std::ops::{Deref, Index};

use crate::bindings::postroom::plugin::types::{Captures, Message, PatternError};
use crate::{Failure, Field};

/// A mail. Its parts stay in the host; each method fetches one (see the methods of the resource).
pub struct Mail<'a>(Handle<'a>);

enum Handle<'a> {
    Decided(&'a Message),
    Opened(Message),
}

/// One match of a pattern. `m[1]` and `m["name"]` are a group's text, which is empty if the group did not participate.
pub struct Match(Captures);

impl<'a> Mail<'a> {
    #[doc(hidden)]
    pub fn new(message: &'a Message) -> Self {
        Mail(Handle::Decided(message))
    }

    /// Returns the first match of a pattern in the syntax of the `regex` crate. The host runs it, in linear time, without
    /// copying the field.
    ///
    /// # Errors
    /// Fails if the pattern is malformed, or over a limit.
    pub fn find(&self, field: Field, pattern: &str) -> Result<Option<Match>, Failure> {
        Ok(Message::match_(self, &field, pattern)?.map(Match))
    }

    /// Returns all matches, up to the host's limit.
    ///
    /// # Errors
    /// Fails if the pattern is malformed, or over a limit.
    pub fn find_all(&self, field: Field, pattern: &str) -> Result<Vec<Match>, Failure> {
        let found = Message::find_all(self, &field, pattern)?;
        Ok(found.into_iter().map(Match).collect())
    }

    /// Returns the value beside a label, see `pairs`. Case is ignored, and the first one counts.
    pub fn field(&self, label: &str) -> Option<String> {
        let label = label.trim().to_lowercase();
        let mut pairs = self.pairs().into_iter();
        pairs.find_map(|(name, value)| (name.to_lowercase() == label).then_some(value))
    }

    /// Returns the mail that a person forwarded with this one, inline or attached.
    pub fn forwarded(&self) -> Option<Mail<'static>> {
        Message::forwarded(self).map(|mail| Mail(Handle::Opened(mail)))
    }

    /// Returns the mail in an attachment; `None` if it is not one.
    pub fn attached_mail(&self, index: u32) -> Option<Mail<'static>> {
        Message::attached_mail(self, index).map(|mail| Mail(Handle::Opened(mail)))
    }
}

impl Deref for Mail<'_> {
    type Target = Message;

    fn deref(&self) -> &Message {
        match &self.0 {
            Handle::Decided(message) => message,
            Handle::Opened(message) => message,
        }
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
