//! Finding out whether a mailbox can be read: the steps, each named, timed and told as soon as it ended.

use std::time::{Duration, Instant};

use crate::SourceError;

/// One step of a probe.
#[derive(Debug)]
pub struct ProbeStep {
    pub name: &'static str,
    pub elapsed: Duration,
    /// What was found, for people.
    pub outcome: Result<String, SourceError>,
}

/// Tells of the steps of opening a mailbox; a source that merely serves has nobody to tell.
pub(crate) struct Walk<'t> {
    tell: Option<&'t mut (dyn FnMut(ProbeStep) + Send)>,
    since: Instant,
    has_token: bool,
}

impl<'t> Walk<'t> {
    pub(crate) fn quiet() -> Self {
        Self {
            tell: None,
            since: Instant::now(),
            has_token: false,
        }
    }

    pub(crate) fn telling(tell: &'t mut (dyn FnMut(ProbeStep) + Send)) -> Self {
        Self {
            tell: Some(tell),
            ..Self::quiet()
        }
    }

    /// A step ended well, and the next begins.
    pub(crate) fn done(&mut self, name: &'static str, detail: impl FnOnce() -> String) {
        self.has_token |= name == "token";
        if self.tell.is_some() {
            self.ended(name, Ok(detail()));
        }
    }

    /// The step under way failed.
    pub(crate) fn failed(&mut self, error: SourceError) {
        let name = match &error {
            // The new token, in place of one that the server refused.
            SourceError::Auth(_) if self.has_token => "authenticate",
            _ => error.step(),
        };
        self.ended(name, Err(error));
    }

    /// A step ended. Whether it did so well.
    pub(crate) fn ended(
        &mut self,
        name: &'static str,
        outcome: Result<String, SourceError>,
    ) -> bool {
        let is_ok = outcome.is_ok();
        let now = Instant::now();
        let elapsed = now - std::mem::replace(&mut self.since, now);
        if let Some(tell) = &mut self.tell {
            tell(ProbeStep {
                name,
                elapsed,
                outcome,
            });
        }
        is_ok
    }
}
