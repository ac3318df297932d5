//! The lookups of a rule within one decision: counted, bounded, and recorded with their results.

use std::sync::Arc;

use postroom_core::lookup::{Query, QueryResult};

use crate::error::Stop;
use postroom_core::Limits;

/// The data source of a rule's lookups during a decision. One value per tenant; it contains no other tenant's data.
pub trait Lookup: Send + Sync {
    /// Returns the first `most` rows. The result has the kind of the query.
    fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError>;
}

/// The data source of `lookup` failed. The decision ends with [`RuleTrouble::Lookup`](crate::Trouble::Lookup).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LookupError(pub String);

/// An empty `lookup`, for rules without a tenant.
pub struct NoLookup;

impl Lookup for NoLookup {
    fn ask(&self, question: &Query, _most: usize) -> Result<QueryResult, LookupError> {
        Ok(question.nothing())
    }
}

/// The lookups of one decision.
pub(crate) struct LookupSession {
    source: Arc<dyn Lookup>,
    /// The results, in the order of the queries, each query once.
    pub(crate) answers: Vec<(Query, QueryResult)>,
    asked: usize,
    bytes: usize,
}

impl LookupSession {
    pub(crate) fn new(source: Arc<dyn Lookup>) -> Self {
        Self {
            source,
            answers: Vec::new(),
            asked: 0,
            bytes: 0,
        }
    }

    /// Runs a query. A repeated query gets the same result and counts again.
    pub(crate) fn ask(&mut self, question: Query, limits: &Limits) -> Result<QueryResult, Stop> {
        if self.asked >= limits.lookups {
            return Err(Stop::Output(format!(
                "more than {} lookups in one decision",
                limits.lookups
            )));
        }
        self.asked += 1;
        // No record has such a long name, number or key.
        if question.longest() > limits.key_bytes {
            return Ok(question.nothing());
        }
        let known = self.answers.iter().find(|(asked, _)| *asked == question);
        let found = match known {
            Some((_, found)) => found.clone(),
            None => self
                .source
                .ask(&question, limits.lookup_rows)
                .map_err(|error| Stop::Lookup(error.to_string()))?,
        };
        self.bytes = self.bytes.saturating_add(found.bytes());
        if self.bytes > limits.lookup_bytes {
            return Err(Stop::Output(format!(
                "lookup returned more than {} bytes in one decision",
                limits.lookup_bytes
            )));
        }
        if known.is_none() {
            self.answers.push((question, found.clone()));
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::lookup::Contact;

    use super::*;

    /// Returns as many contacts as permitted, for any query about contacts.
    struct Crowd;

    impl Lookup for Crowd {
        fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError> {
            match question {
                Query::Contacts(_) => Ok(QueryResult::Contacts(vec![Contact::default(); most])),
                Query::Ticket(_) => Err(LookupError("the disk is gone".into())),
                other => Ok(other.nothing()),
            }
        }
    }

    fn contacts(text: &str) -> Query {
        Query::Contacts(text.into())
    }

    fn inquiry() -> LookupSession {
        LookupSession::new(Arc::new(Crowd))
    }

    #[test]
    fn questions_are_counted_and_recorded_once() {
        let limits = Limits {
            lookups: 3,
            lookup_rows: 2,
            ..Limits::default()
        };
        let mut inquiry = inquiry();
        for text in ["a", "a", "b"] {
            assert_eq!(inquiry.ask(contacts(text), &limits).unwrap().len(), 2);
        }
        assert_eq!(inquiry.answers.len(), 2);
        let over = inquiry.ask(contacts("a"), &limits).unwrap_err();
        assert!(over.to_string().contains("more than 3 lookups"), "{over}");
    }

    #[test]
    fn answers_are_bounded_together() {
        let one = QueryResult::Contacts(vec![Contact::default()]).bytes();
        let limits = Limits {
            lookup_rows: 1,
            lookup_bytes: 2 * one,
            ..Limits::default()
        };
        let mut inquiry = inquiry();
        for text in ["a", "a"] {
            inquiry.ask(contacts(text), &limits).unwrap();
        }
        let over = inquiry.ask(contacts("b"), &limits).unwrap_err();
        assert!(
            matches!(&over, Stop::Output(text) if text.contains("bytes")),
            "{over}"
        );
    }

    #[test]
    fn an_overlong_text_finds_nothing_and_is_not_passed_on() {
        let limits = Limits::default();
        let mut inquiry = inquiry();
        let long = "x".repeat(limits.key_bytes + 1);
        assert!(inquiry.ask(contacts(&long), &limits).unwrap().is_empty());
        assert!(
            inquiry
                .ask(Query::Ticket(long), &limits)
                .unwrap()
                .is_empty()
        );
        assert!(inquiry.answers.is_empty());
    }

    #[test]
    fn a_failing_source_is_not_an_empty_one() {
        let asked = inquiry().ask(Query::Ticket("T-1".into()), &Limits::default());
        assert!(matches!(asked, Err(Stop::Lookup(_))));
    }
}
