//! Patterns over a mail's fields, run by the host in linear time: compiled once per rule, bounded in every respect.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use postroom_core::{Address, Message};
use regex_automata::meta::Regex;
use regex_automata::nfa::thompson::{NFA, WhichCaptures};
use regex_automata::util::captures;
use regex_automata::{Anchored, Input};

use crate::bindings::types::{Captures, Field, PatternError};
use crate::deadline::Deadline;
use crate::error::Stop;
use crate::interruptible::{Interrupted, InterruptibleRegex};
use postroom_core::Limits;

/// The most work for the engine in one call, as states of the pattern times bytes of the haystack: about half a second in
/// the worst case. Longer searches run interruptibly.
const STEPS: usize = 50_000_000;
/// The cost of a group, in addition to its text, in the limit on results.
const GROUP_BYTES: usize = 16;

/// The compiled patterns of one rule, shared by all its instances. It is emptied when full.
#[derive(Debug, Default)]
pub(crate) struct PatternCache(RwLock<HashMap<Box<str>, Arc<Pattern>>>);

/// The patterns that one decision has used so far.
#[derive(Debug, Default)]
pub(crate) struct Patterns(HashMap<Box<str>, Arc<Pattern>>);

/// A pattern, or why it is invalid.
#[derive(Debug)]
pub(crate) enum Pattern {
    Ready(Box<Ready>),
    Syntax(String),
    TooLarge,
}

#[derive(Debug)]
pub(crate) struct Ready {
    regex: Regex,
    /// The named groups and their numbers.
    names: Vec<(String, u32)>,
    /// The number of the pattern's states in the engine.
    states: usize,
    text: Box<str>,
    /// Created when a field is first too large for the engine.
    interruptible: OnceLock<Option<InterruptibleRegex>>,
}

impl PatternCache {
    fn pattern(&self, text: &str, limits: &Limits) -> Arc<Pattern> {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(pattern) = known.get(text) {
            return pattern.clone();
        }
        drop(known);
        let pattern = Arc::new(Pattern::compile(text, limits));
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // A rule that creates a new pattern for every mail would make it grow without end.
        if known.len() >= limits.patterns.saturating_mul(2) {
            known.clear();
        }
        known.insert(text.into(), pattern.clone());
        pattern
    }
}

impl Patterns {
    /// Returns the compiled form of `text`, and counts it if it is new to this decision.
    pub(crate) fn pattern(
        &mut self,
        text: &str,
        cache: &PatternCache,
        limits: &Limits,
    ) -> Result<Arc<Pattern>, PatternError> {
        if let Some(pattern) = self.0.get(text) {
            return Ok(pattern.clone());
        }
        if text.len() > limits.pattern_bytes {
            return Err(PatternError::Limit(format!(
                "the pattern has {} bytes, over the limit of {}",
                text.len(),
                limits.pattern_bytes
            )));
        }
        if self.0.len() >= limits.patterns {
            return Err(PatternError::Limit(format!(
                "more than {} different patterns in one decision",
                limits.patterns
            )));
        }
        let pattern = cache.pattern(text, limits);
        self.0.insert(text.into(), pattern.clone());
        Ok(pattern)
    }
}

impl Pattern {
    fn compile(text: &str, limits: &Limits) -> Self {
        let config = Regex::config().nfa_size_limit(Some(limits.compiled_pattern_bytes));
        match Regex::builder().configure(config).build(text) {
            Ok(regex) => Pattern::Ready(Box::new(Ready {
                names: regex
                    .group_info()
                    .pattern_names(regex_automata::PatternID::ZERO)
                    .zip(0u32..)
                    .filter_map(|(name, number)| Some((name?.to_owned(), number)))
                    .collect(),
                states: states(text),
                regex,
                text: text.into(),
                interruptible: OnceLock::new(),
            })),
            Err(error) => match error.syntax_error() {
                Some(error) => Pattern::Syntax(error.to_string()),
                None => Pattern::TooLarge,
            },
        }
    }

    /// Returns the first `most` matches in `haystack`.
    ///
    /// Checks the deadline between matches, and during them if they could take long.
    pub(crate) fn search(
        &self,
        haystack: &str,
        most: usize,
        limits: &Limits,
        deadline: Deadline,
    ) -> Result<Result<Vec<Captures>, PatternError>, Stop> {
        let ready = match self {
            Pattern::Ready(ready) => ready,
            Pattern::Syntax(message) => return Ok(Err(PatternError::Syntax(message.clone()))),
            Pattern::TooLarge => {
                return Ok(Err(PatternError::Limit(format!(
                    "the pattern is over {} bytes once compiled; repeat less, or match bytes with (?-u)",
                    limits.compiled_pattern_bytes
                ))));
            }
        };
        let haystack = &haystack[..haystack.floor_char_boundary(limits.haystack_bytes)];
        let mut answer = Answer {
            haystack,
            limits,
            position: Position::default(),
            bytes: 0,
            found: Vec::new(),
        };
        let searched = match ready.is_quick(haystack.len()) {
            true => ready.search(&mut answer, most, deadline),
            false => ready.search_stepwise(&mut answer, most, deadline),
        };
        match searched {
            Ok(()) => Ok(Ok(answer.found)),
            Err(Broken::Deadline) => Err(Stop::Deadline),
            Err(Broken::Limit(reason)) => Ok(Err(PatternError::Limit(reason))),
        }
    }
}

/// Why a search has no result.
enum Broken {
    Deadline,
    Limit(String),
}

impl Ready {
    fn is_quick(&self, bytes: usize) -> bool {
        self.states.saturating_mul(bytes) <= STEPS
    }

    fn search(
        &self,
        answer: &mut Answer<'_>,
        most: usize,
        deadline: Deadline,
    ) -> Result<(), Broken> {
        for captures in self.regex.captures_iter(answer.haystack).take(most) {
            if deadline.is_over() {
                return Err(Broken::Deadline);
            }
            answer.add(&captures, &self.names)?;
        }
        Ok(())
    }

    fn search_stepwise(
        &self,
        answer: &mut Answer<'_>,
        most: usize,
        deadline: Deadline,
    ) -> Result<(), Broken> {
        let Some(interruptible) = self
            .interruptible
            .get_or_init(|| InterruptibleRegex::new(&self.text))
        else {
            return Err(Broken::Limit("the pattern is too large".into()));
        };
        let mut captures = self.regex.create_captures();
        for found in interruptible.matches(answer.haystack, deadline).take(most) {
            let found = found.map_err(|halt| match halt {
                Interrupted::Deadline => Broken::Deadline,
                Interrupted::WordBoundary => Broken::Limit(format!(
                    "the pattern is too large for a field of {} bytes with a Unicode word boundary; say (?-u:\\b)",
                    answer.haystack.len()
                )),
            })?;
            if !self.is_quick(found.len()) {
                return Err(Broken::Limit(format!(
                    "the pattern is too large for a match of {} bytes; match less",
                    found.len()
                )));
            }
            let input = Input::new(answer.haystack)
                .range(found.range())
                .anchored(Anchored::Yes);
            self.regex.search_captures(&input, &mut captures);
            answer.add(&captures, &self.names)?;
        }
        Ok(())
    }
}

/// The results so far, with their limits.
struct Answer<'a> {
    haystack: &'a str,
    limits: &'a Limits,
    position: Position,
    bytes: usize,
    found: Vec<Captures>,
}

impl Answer<'_> {
    fn add(
        &mut self,
        captures: &captures::Captures,
        names: &[(String, u32)],
    ) -> Result<(), Broken> {
        let spans: Vec<_> = captures.iter().collect();
        self.bytes += spans
            .iter()
            .map(|span| GROUP_BYTES + span.map_or(0, |span| span.len()))
            .sum::<usize>();
        if self.bytes > self.limits.match_bytes {
            return Err(Broken::Limit(format!(
                "the matches have more than {} bytes; capture less",
                self.limits.match_bytes
            )));
        }
        let start = captures.get_match().map_or(0, |whole| whole.start());
        self.found.push(Captures {
            start: clamp(start),
            start_utf16: clamp(self.position.advance(self.haystack, start)),
            groups: spans
                .into_iter()
                .map(|span| span.map(|span| self.haystack[span.range()].to_owned()))
                .collect(),
            names: names.to_vec(),
        });
        Ok(())
    }
}

/// Returns the text of a field as patterns see it.
pub(crate) fn field<'a>(mail: &'a Message, field: &'a Field) -> Cow<'a, str> {
    match field {
        Field::Subject => mail.subject.as_str().into(),
        Field::From => mail
            .from
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default()
            .into(),
        Field::To => addresses(&mail.to),
        Field::Cc => addresses(&mail.cc),
        Field::Text => mail.text.as_str().into(),
        Field::Html => mail.html.as_deref().unwrap_or_default().into(),
        Field::Reply => mail.reply.as_str().into(),
        Field::Header(name) => join(mail.headers(name).map(Cow::from), "\n"),
    }
}

fn addresses(list: &[Address]) -> Cow<'_, str> {
    join(list.iter().map(|it| Cow::from(it.to_string())), ", ")
}

/// Returns the number of a pattern's states in the engine; the pattern has compiled already.
fn states(text: &str) -> usize {
    let config = NFA::config().which_captures(WhichCaptures::Implicit);
    NFA::compiler()
        .configure(config)
        .build(text)
        .map_or(usize::MAX, |nfa| nfa.states().len())
}

/// Joins the parts, without a copy if there is only one.
fn join<'a>(mut parts: impl Iterator<Item = Cow<'a, str>>, separator: &str) -> Cow<'a, str> {
    let mut all = parts.next().unwrap_or_default();
    for part in parts {
        let text = all.to_mut();
        text.push_str(separator);
        text.push_str(&part);
    }
    all
}

/// Counts UTF-16 code units from match to match, so that many matches cost one pass.
#[derive(Default)]
struct Position {
    byte: usize,
    utf16: usize,
}

impl Position {
    fn advance(&mut self, text: &str, to: usize) -> usize {
        let between = &text.as_bytes()[self.byte..to];
        // A character is one unit, or two if its UTF-8 takes four bytes.
        self.utf16 += between
            .iter()
            .map(|byte| usize::from(byte & 0xC0 != 0x80) + usize::from(*byte >= 0xF0))
            .sum::<usize>();
        self.byte = to;
        self.utf16
    }
}

fn clamp(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn search(
        pattern: &str,
        haystack: &str,
        limits: &Limits,
    ) -> Result<Result<Vec<Captures>, PatternError>, Stop> {
        let deadline = Deadline::after(Duration::from_secs(60));
        Pattern::compile(pattern, limits).search(haystack, limits.matches, limits, deadline)
    }

    fn found(pattern: &str, haystack: &str) -> Vec<Captures> {
        match search(pattern, haystack, &Limits::default()) {
            Ok(Ok(found)) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn counts_as_javascript_does() {
        let found = found(r"\d", "a1 é2 😀3");
        let starts: Vec<_> = found.iter().map(|m| (m.start, m.start_utf16)).collect();
        assert_eq!(starts, [(1, 1), (5, 4), (11, 8)]);
    }

    #[test]
    fn names_groups() {
        let found = found(r"(?<key>\w+)=(\w+)?", "job=");
        assert_eq!(found[0].names, [("key".to_owned(), 1)]);
        assert_eq!(
            found[0].groups,
            [Some("job=".to_owned()), Some("job".to_owned()), None]
        );
    }

    #[test]
    fn says_where_the_syntax_is_wrong() {
        assert!(matches!(
            search("(", "", &Limits::default()),
            Ok(Err(PatternError::Syntax(message))) if message.contains("unclosed group")
        ));
    }

    #[test]
    fn look_around_is_not_linear_and_refused() {
        assert!(matches!(
            search("(?=a)", "", &Limits::default()),
            Ok(Err(PatternError::Syntax(_)))
        ));
    }

    #[test]
    fn bounds_the_compiled_size() {
        assert!(matches!(
            search(r"(\w{1000}){1000}", "", &Limits::default()),
            Ok(Err(PatternError::Limit(_)))
        ));
    }

    #[test]
    fn bounds_the_matches() {
        let limits = Limits {
            matches: 3,
            ..Limits::default()
        };
        assert_eq!(search("a", "aaaaa", &limits).unwrap().unwrap().len(), 3);
    }

    #[test]
    fn bounds_what_matches_hold() {
        let limits = Limits {
            match_bytes: 100,
            ..Limits::default()
        };
        assert_eq!(
            search("(a+)", &"a".repeat(30), &limits)
                .unwrap()
                .unwrap()
                .len(),
            1
        );
        assert!(matches!(
            search("((a+))", &"a".repeat(30), &limits),
            Ok(Err(PatternError::Limit(_)))
        ));
    }

    #[test]
    fn bounds_the_haystack() {
        let limits = Limits {
            haystack_bytes: 4,
            ..Limits::default()
        };
        assert_eq!(search("é", "ééé", &limits).unwrap().unwrap().len(), 2);
        assert_eq!(search("é", "aéé", &limits).unwrap().unwrap().len(), 1);
    }

    #[test]
    fn looks_at_the_deadline() {
        let limits = Limits::default();
        let pattern = Pattern::compile("a", &limits);
        assert!(matches!(
            pattern.search("aaa", 10, &limits, Deadline::after(Duration::ZERO)),
            Err(Stop::Deadline)
        ));
    }

    #[test]
    fn a_large_pattern_in_a_large_field_takes_no_longer_than_it_may() {
        let limits = Limits::default();
        let started = Instant::now();
        // Would take the engine itself half a minute.
        let pattern = Pattern::compile("(?-u)[a-z ]{1,2000}[0-9]", &limits);
        let haystack = "ab cd ".repeat(170_000);
        let deadline = Deadline::after(Duration::from_millis(100));
        assert!(
            matches!(
                pattern.search(&haystack, 1, &limits, deadline),
                Ok(Ok(none)) if none.is_empty()
            ) || deadline.is_over()
        );
        assert!(started.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn a_small_pattern_is_at_home_in_a_large_field() {
        let haystack = format!("{}é code=17;", "lorem ipsum é ".repeat(100_000));
        let found = found(r"code=(\w+)(?<end>;)", &haystack);
        assert_eq!(found[0].start as usize, haystack.len() - 8);
        assert_eq!(found[0].groups[1].as_deref(), Some("17"));
        assert_eq!(found[0].names, [("end".to_owned(), 2)]);
    }

    #[test]
    fn counts_different_patterns() {
        let limits = Limits {
            patterns: 2,
            pattern_bytes: 3,
            ..Limits::default()
        };
        let cache = PatternCache::default();
        let mut patterns = Patterns::default();
        for text in ["a", "b", "a"] {
            assert!(patterns.pattern(text, &cache, &limits).is_ok());
        }
        assert!(matches!(
            patterns.pattern("c", &cache, &limits),
            Err(PatternError::Limit(_))
        ));
        assert!(matches!(
            Patterns::default().pattern("long", &cache, &limits),
            Err(PatternError::Limit(_))
        ));
        // The cache outlives the decision, and is emptied when full.
        for text in ["d", "e", "f"] {
            assert!(Patterns::default().pattern(text, &cache, &limits).is_ok());
        }
        assert!(cache.0.read().unwrap().len() <= 4);
    }
}
