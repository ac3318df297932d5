//! Limits how much one client, mailbox or target may log: a token bucket for each, and a count of omitted lines.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};
use tracing_subscriber::registry::LookupSpan;

use super::context::context_of;

/// The most lines that one name may log at once.
const BURST: u32 = 300;
/// The lines that one name may log in each [`WINDOW`] after that.
const LINES: u32 = 60;
const WINDOW: Duration = Duration::from_secs(60);
/// The most names remembered; beyond it, quiet names are forgotten.
const NAMES: usize = 10_000;
/// Fields that name whose line it is. The first of them that a line has counts, or else
/// the first one of its context.
const NAMING: [&str; 4] = ["tenant", "mailbox", "to", "target"];

/// Passes each name's lines until its bucket is empty. Lines without such a field always pass.
#[derive(Default)]
pub struct Budget {
    names: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: u32,
    since: Instant,
    left_out: u64,
}

/// A bucket's verdict on one line.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Passes,
    /// It passes, after this many omitted lines.
    PassesAfter(u64),
    LeftOut,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Filter<S> for Budget {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, spans: &Context<'_, S>) -> bool {
        let mut naming = Naming::default();
        event.record(&mut naming);
        if naming.0.is_none() {
            let mut context = context_of(event, spans).into_iter();
            naming.0 = context
                .find(|(field, _)| NAMING.contains(field))
                .map(|(_, value)| (0, value));
        }
        let Some((_, name)) = naming.0 else {
            return true;
        };
        match self.admit(&name, Instant::now()) {
            Verdict::Passes => true,
            Verdict::PassesAfter(lines) => {
                // The state of the outer event would filter a nested one, so this line is written directly, in the same form.
                eprintln!(
                    "{:.6}  WARN omitted {lines} log lines: this name logs more than {LINES} a minute name={name}",
                    postroom_core::Clock::system().now()
                );
                true
            }
            Verdict::LeftOut => false,
        }
    }
}

impl Budget {
    fn admit(&self, name: &str, now: Instant) -> Verdict {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= NAMES && !names.contains_key(name) {
            names.retain(|_, bucket| {
                bucket.left_out > 0 || now.saturating_duration_since(bucket.since) < WINDOW
            });
        }
        let bucket = names.entry(name.to_owned()).or_insert(Bucket {
            left: BURST,
            since: now,
            left_out: 0,
        });
        let windows = now.saturating_duration_since(bucket.since).as_secs() / WINDOW.as_secs();
        if windows > 0 {
            let more = LINES.saturating_mul(u32::try_from(windows).unwrap_or(u32::MAX));
            bucket.left = bucket.left.saturating_add(more).min(BURST);
            bucket.since = now;
        }
        if bucket.left == 0 {
            bucket.left_out += 1;
            return Verdict::LeftOut;
        }
        bucket.left -= 1;
        match std::mem::take(&mut bucket.left_out) {
            0 => Verdict::Passes,
            lines => Verdict::PassesAfter(lines),
        }
    }
}

/// The value of the first naming field, with its index in [`NAMING`].
#[derive(Default)]
struct Naming(Option<(usize, String)>);

impl Naming {
    fn found(&mut self, field: &Field, value: impl FnOnce() -> String) {
        let Some(place) = NAMING.iter().position(|name| *name == field.name()) else {
            return;
        };
        if self.0.as_ref().is_none_or(|(best, _)| place < *best) {
            self.0 = Some((place, value()));
        }
    }
}

impl Visit for Naming {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.found(field, || value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.found(field, || format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_is_cut_and_counted_while_others_pass() {
        let budget = Budget::default();
        let start = Instant::now();
        for _ in 0..BURST {
            assert_eq!(budget.admit("acme", start), Verdict::Passes);
        }
        for _ in 0..7 {
            assert_eq!(budget.admit("acme", start), Verdict::LeftOut);
        }
        assert_eq!(budget.admit("globex", start), Verdict::Passes);
        let later = start + WINDOW;
        assert_eq!(budget.admit("acme", later), Verdict::PassesAfter(7));
        for _ in 1..LINES {
            assert_eq!(budget.admit("acme", later), Verdict::Passes);
        }
        assert_eq!(budget.admit("acme", later), Verdict::LeftOut);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let budget = Budget::default();
        let start = Instant::now();
        for n in 0..NAMES {
            budget.admit(&n.to_string(), start);
        }
        budget.admit("one more", start + WINDOW);
        assert_eq!(budget.names.lock().unwrap().len(), 1);
    }
}
