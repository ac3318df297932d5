//! Interruptible regex search: the same results as the regex engine's, computed byte by byte with checks of the deadline.
//!
//! The engine's own search is linear, but in the size of the pattern as well: a large pattern over a large field can take
//! it half a minute, which nothing interrupts.

use regex_automata::hybrid::dfa::{Cache, Config, DFA};
use regex_automata::hybrid::regex::{Builder, Regex};
use regex_automata::hybrid::{CacheError, LazyStateID};
use regex_automata::util::iter::Searcher;
use regex_automata::{Anchored, Input, Match, PatternID};

use crate::deadline::Deadline;

/// The number of bytes between two checks of the deadline. A byte costs a nanosecond, or many microseconds if a new state
/// has to be built for it.
const LOOK: usize = 256;
/// Memory for the states of one direction.
const CACHE_BYTES: usize = 2 << 20;

/// A pattern for interruptible searches.
#[derive(Debug)]
pub(crate) struct InterruptibleRegex(Regex);

/// Why a search ended without a result.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Interrupted {
    Deadline,
    /// A Unicode word boundary next to a non-ASCII byte, which no automaton of this kind can handle.
    WordBoundary,
}

/// Iterates over the matches in a haystack.
pub(crate) struct Matches<'a> {
    regex: &'a Regex,
    forward: Cache,
    reverse: Cache,
    searcher: Searcher<'a>,
    deadline: Deadline,
}

impl InterruptibleRegex {
    /// Compiles a pattern. Returns `None` if it is not a pattern.
    pub(crate) fn new(pattern: &str) -> Option<Self> {
        let automaton = Config::new()
            .cache_capacity(CACHE_BYTES)
            .skip_cache_capacity_check(true)
            .unicode_word_boundary(true);
        Builder::new().dfa(automaton).build(pattern).ok().map(Self)
    }

    pub(crate) fn matches<'a>(&'a self, haystack: &'a str, deadline: Deadline) -> Matches<'a> {
        Matches {
            regex: &self.0,
            forward: self.0.forward().create_cache(),
            reverse: self.0.reverse().create_cache(),
            searcher: Searcher::new(Input::new(haystack)),
            deadline,
        }
    }
}

impl Iterator for Matches<'_> {
    type Item = Result<Match, Interrupted>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut halt = None;
        let found = self.searcher.advance(|input| {
            let found = find(
                self.regex,
                &mut self.forward,
                &mut self.reverse,
                input.clone(),
                self.deadline,
            );
            Ok(found.unwrap_or_else(|reason| {
                halt = Some(reason);
                None
            }))
        });
        match halt {
            Some(reason) => Some(Err(reason)),
            None => found.map(Ok),
        }
    }
}

/// Returns the leftmost match: a forward run finds its end, and a backward run from there finds its start.
fn find(
    regex: &Regex,
    forward: &mut Cache,
    reverse: &mut Cache,
    mut input: Input<'_>,
    deadline: Deadline,
) -> Result<Option<Match>, Interrupted> {
    while !input.is_done() {
        let Some(end) = run_forward(regex.forward(), forward, &input, deadline)? else {
            return Ok(None);
        };
        let before = input
            .clone()
            .range(input.start()..end)
            .anchored(Anchored::Yes);
        let start = run_reverse(regex.reverse(), reverse, &before, deadline)?.unwrap_or(end);
        if start < end || input.is_char_boundary(end) {
            return Ok(Some(Match::new(PatternID::ZERO, start..end)));
        }
        // An empty match inside a character does not count.
        input.set_start(end + 1);
    }
    Ok(None)
}

fn run_forward(
    dfa: &DFA,
    cache: &mut Cache,
    input: &Input<'_>,
    deadline: Deadline,
) -> Result<Option<usize>, Interrupted> {
    let mut state = dfa
        .start_state_forward(cache, input)
        .map_err(|_| Interrupted::WordBoundary)?;
    let haystack = input.haystack();
    let mut found = None;
    for at in input.get_range() {
        if at % LOOK == 0 && deadline.is_over() {
            return Err(Interrupted::Deadline);
        }
        state = stepped(dfa.next_state(cache, state, haystack[at]))?;
        // The automaton reports a match one byte late.
        if state.is_match() {
            found = Some(at);
        } else if state.is_dead() {
            return Ok(found);
        }
    }
    let last = match haystack.get(input.end()) {
        Some(byte) => dfa.next_state(cache, state, *byte),
        None => dfa.next_eoi_state(cache, state),
    };
    if stepped(last)?.is_match() {
        found = Some(input.end());
    }
    Ok(found)
}

fn run_reverse(
    dfa: &DFA,
    cache: &mut Cache,
    input: &Input<'_>,
    deadline: Deadline,
) -> Result<Option<usize>, Interrupted> {
    let mut state = dfa
        .start_state_reverse(cache, input)
        .map_err(|_| Interrupted::WordBoundary)?;
    let haystack = input.haystack();
    let mut found = None;
    for at in input.get_range().rev() {
        if at % LOOK == 0 && deadline.is_over() {
            return Err(Interrupted::Deadline);
        }
        state = stepped(dfa.next_state(cache, state, haystack[at]))?;
        if state.is_match() {
            found = Some(at + 1);
        } else if state.is_dead() {
            return Ok(found);
        }
    }
    let last = match input.start().checked_sub(1) {
        Some(before) => dfa.next_state(cache, state, haystack[before]),
        None => dfa.next_eoi_state(cache, state),
    };
    if stepped(last)?.is_match() {
        found = Some(input.start());
    }
    Ok(found)
}

fn stepped(next: Result<LazyStateID, CacheError>) -> Result<LazyStateID, Interrupted> {
    match next {
        Ok(state) if state.is_quit() => Err(Interrupted::WordBoundary),
        Ok(state) => Ok(state),
        // The cache is cleared when full, without a limit on how often, so this does not happen.
        Err(_) => Err(Interrupted::Deadline),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    const PATTERNS: [&str; 24] = [
        "a",
        "a*",
        "a*?",
        "(?:)",
        "b|",
        "^",
        "$",
        "(?m)^",
        "(?m)$",
        "a+b",
        "(a|ab)(c|bcd)?",
        "ab|a",
        "a|ab",
        r"\bfoo\b",
        r"\Bo",
        r"(?-u:\B)",
        "[^a]",
        "é",
        "é*",
        ".",
        "(?s).*",
        r"\w+",
        r"\s*x",
        "(?i)FOO",
    ];
    const HAYSTACKS: [&str; 12] = [
        "",
        "a",
        "aaa",
        "aab ab a",
        "abcd abc ab",
        "foo food\nfoo",
        "é",
        "aéa😀é",
        "x y  x",
        "\n\na\n",
        "ééé foo é",
        "abababababababab",
    ];

    #[test]
    fn answers_as_the_engine_does() {
        let deadline = Deadline::after(Duration::from_secs(60));
        let mut compared = 0;
        for pattern in PATTERNS {
            let engine = regex_automata::meta::Regex::new(pattern).unwrap();
            let interruptible = InterruptibleRegex::new(pattern).unwrap();
            for haystack in HAYSTACKS {
                let found: Result<Vec<_>, _> = interruptible.matches(haystack, deadline).collect();
                if found == Err(Interrupted::WordBoundary) {
                    assert!(pattern.contains('\\') && !haystack.is_ascii());
                    continue;
                }
                let expected: Vec<_> = engine.find_iter(haystack).collect();
                assert_eq!(found.unwrap(), expected, "{pattern:?} in {haystack:?}");
                compared += 1;
            }
        }
        assert!(compared > 250);
    }

    #[test]
    fn is_broken_off_in_time() {
        // Every byte leads to a state that was never built.
        let pattern = "(?-u)a[ab]{2000}[0-9]";
        let mut seed = 1u32;
        let haystack: String = (0..1 << 20)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if seed >> 31 == 0 { 'a' } else { 'b' }
            })
            .collect();
        let started = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(50));
        let first = InterruptibleRegex::new(pattern)
            .unwrap()
            .matches(&haystack, deadline)
            .next();
        assert_eq!(first, Some(Err(Interrupted::Deadline)));
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
