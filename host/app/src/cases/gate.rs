//! The gate: a tenant may ask that a rule whose own tests fail does not go live.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postroom_sandbox::{Rule, Sandbox};

use super::{Case, Loaded, Terms, Verdict, folder_of, run};
use crate::config::{Config, RuleUse};

/// Cases run for one rule; one with more does not go live, so that none is left out unnoticed.
const MOST_CASES: usize = 200;
/// The time that the cases of one rule may take together.
const MOST_TIME: Duration = Duration::from_secs(10);
/// Failing cases that are named with their reason.
const NAMED: usize = 3;

/// The rules that have to pass their tests, each under its tenant's terms.
#[derive(Debug, Default)]
pub struct Gate {
    /// By tenant and rule.
    terms: HashMap<(String, String), Terms>,
}

impl Gate {
    /// The rules of all tenants with `rule_tests`.
    pub fn of(config: &Config) -> Self {
        let asks = |wanted: &RuleUse| {
            let tenant = config.tenant(&wanted.tenant);
            tenant.is_some_and(|tenant| tenant.rule_tests) && wanted.rule.path().is_some()
        };
        let guarded = config.rule_uses().into_iter().filter(asks);
        let terms = guarded.filter_map(|wanted| {
            let key = (wanted.tenant.clone(), wanted.rule.name.clone());
            Some((key, Terms::of_use(config, wanted)?))
        });
        Self {
            terms: terms.collect(),
        }
    }

    /// Whether this rule has to pass its tests and has none.
    pub fn is_untested(&self, wanted: &RuleUse) -> bool {
        self.terms_of(wanted).is_some()
            && wanted
                .rule
                .path()
                .is_some_and(|path| Case::all(&folder_of(path)).is_ok_and(|it| it.is_empty()))
    }

    /// The files that its tests are made of, for a rule that has to pass them.
    pub fn files(&self, wanted: &RuleUse) -> Vec<PathBuf> {
        let path = wanted
            .rule
            .path()
            .filter(|_| self.terms_of(wanted).is_some());
        let cases = path.and_then(|path| Case::all(&folder_of(path)).ok());
        let cases = cases.into_iter().flatten().take(MOST_CASES);
        cases.flat_map(|case| [case.mail, case.expected]).collect()
    }

    /// Why a rule that loaded must not go live; none when it may. Blocking, for up to the time limit.
    pub fn refusal(&self, sandbox: &Sandbox, wanted: &RuleUse, rule: &Rule) -> Option<String> {
        let terms = self.terms_of(wanted)?;
        let path = wanted.rule.path()?;
        let cases = match Case::all(&folder_of(path)) {
            Ok(cases) => cases,
            Err(reason) => return Some(format!("its tests cannot be read: {reason}")),
        };
        if cases.len() > MOST_CASES {
            let count = cases.len();
            return Some(format!(
                "its {count} tests are more than the {MOST_CASES} that are run before it goes live"
            ));
        }
        let started = Instant::now();
        let mut loaded = Loaded::with(sandbox, terms.clone(), rule.clone());
        let mut failing: Vec<String> = Vec::new();
        for (done, case) in cases.iter().enumerate() {
            if started.elapsed() > MOST_TIME {
                let (count, seconds) = (cases.len(), MOST_TIME.as_secs());
                return Some(format!(
                    "its tests take over {seconds} s: {done} of {count} ran"
                ));
            }
            if let Some(reason) = failure(case, &mut loaded) {
                failing.push(format!("{}: {reason}", case.name));
            }
        }
        if failing.is_empty() {
            return None;
        }
        let count = failing.len();
        failing.truncate(NAMED);
        let more = match count - failing.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "{count} of its {} tests fail: {}{more}",
            cases.len(),
            failing.join("; ")
        ))
    }

    fn terms_of(&self, wanted: &RuleUse) -> Option<&Terms> {
        self.terms
            .get(&(wanted.tenant.clone(), wanted.rule.name.clone()))
    }
}

fn failure(case: &Case, loaded: &mut Loaded<'_>) -> Option<String> {
    match run(case, loaded) {
        Verdict::Ok(_) | Verdict::Foreign => None,
        Verdict::Differs(_, _, mismatch) => Some(mismatch.summary()),
        Verdict::Unpinned(_) => Some(format!(
            "{} is missing; `postroom rule test --update` writes it",
            case.expected.display()
        )),
        Verdict::Broken(reason) => Some(reason),
    }
}
