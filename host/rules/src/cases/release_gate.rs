//! The gate: with `rule_tests`, a tenant's rule whose own tests fail does not go live.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use postroom_core::{TestLimits, counted};
use postroom_sandbox::{Rule, Sandbox};

use super::{Case, CaseVerdict, Loaded, Mismatch, Terms, folder_of, run};
use postroom_config::{Config, RuleUse};

/// The most failing cases that are named with their reason.
const NAMED: usize = 3;

/// The rules that have to pass their tests, each under its tenant's terms.
#[derive(Debug, Default)]
pub struct ReleaseGate {
    /// By tenant and rule.
    terms: HashMap<(String, String), Terms>,
}

/// The result of a rule's own tests.
#[derive(Debug, Default)]
pub struct Tested {
    /// The number of tests.
    pub cases: usize,
    pub failing: Vec<Failing>,
    /// Why they count as failed before all of them ran.
    pub broken: Option<String>,
}

/// A case that fails.
#[derive(Debug)]
pub struct Failing {
    pub case: String,
    /// One line for people.
    pub reason: String,
    /// The difference.
    pub mismatch: Option<Mismatch>,
}

impl ReleaseGate {
    /// Returns the rules of all tenants with `rule_tests`.
    pub fn of(config: &Config) -> Self {
        Self::around(config, |wanted| {
            let tenant = config.tenant(&wanted.tenant);
            tenant.is_some_and(|tenant| tenant.rule_tests)
        })
    }

    /// Returns the rules of all tenants.
    pub fn of_all(config: &Config) -> Self {
        Self::around(config, |_| true)
    }

    fn around(config: &Config, asks: impl Fn(&RuleUse) -> bool) -> Self {
        let guarded = config.rule_uses().into_iter();
        let guarded = guarded.filter(|wanted| wanted.rule.path().is_some() && asks(wanted));
        let terms = guarded.filter_map(|wanted| {
            let key = (wanted.tenant.clone(), wanted.rule.name.clone());
            Some((key, Terms::of_use(config, wanted)?))
        });
        Self {
            terms: terms.collect(),
        }
    }

    /// Returns whether this rule has to pass its tests and has none.
    pub fn is_untested(&self, wanted: &RuleUse) -> bool {
        self.terms_of(wanted).is_some()
            && wanted
                .rule
                .path()
                .is_some_and(|path| Case::all(&folder_of(path)).is_ok_and(|it| it.is_empty()))
    }

    /// Returns the folders of tests that exist.
    pub fn folders(&self) -> impl Iterator<Item = PathBuf> {
        let rules = self.terms.values().filter_map(|it| it.wanted.rule.path());
        let folders = rules.map(folder_of);
        folders.filter(|folder| folder.is_dir())
    }

    /// Returns the files of its tests, for a rule that has to pass them.
    pub fn files(&self, wanted: &RuleUse) -> Vec<PathBuf> {
        let path = wanted
            .rule
            .path()
            .filter(|_| self.terms_of(wanted).is_some());
        let cases = path.and_then(|path| Case::all(&folder_of(path)).ok());
        let cases = cases.into_iter().flatten().take(wanted.tests.cases);
        cases.flat_map(|case| [case.mail, case.expected]).collect()
    }

    /// Runs the tests of a loaded rule; returns `None` if it need not pass any. Blocks, for up to the time limit.
    pub fn test(&self, sandbox: &Sandbox, wanted: &RuleUse, rule: &Rule) -> Option<Tested> {
        self.test_while(sandbox, wanted, rule, &|| true)
    }

    /// Does the same. Before each case `go_on` is called, which may wait; if it returns false, the tests end without a
    /// result.
    pub fn test_while(
        &self,
        sandbox: &Sandbox,
        wanted: &RuleUse,
        rule: &Rule,
        go_on: &dyn Fn() -> bool,
    ) -> Option<Tested> {
        let terms = self.terms_of(wanted)?;
        let path = wanted.rule.path()?;
        let mut tested = Tested::default();
        let cases = match Case::all(&folder_of(path)) {
            Ok(cases) => cases,
            Err(reason) => {
                tested.broken = Some(format!("its tests cannot be read: {reason}"));
                return Some(tested);
            }
        };
        tested.cases = cases.len();
        let TestLimits { cases: most, time } = wanted.tests;
        if cases.len() > most {
            let count = cases.len();
            tested.broken = Some(format!(
                "its {count} tests exceed the limit test_cases of {most}"
            ));
            return Some(tested);
        }
        let mut spent = Duration::ZERO;
        let mut loaded = Loaded::with(sandbox, terms.clone(), rule.clone());
        for (done, case) in cases.iter().enumerate() {
            if !go_on() {
                break;
            }
            if spent > time {
                let (count, seconds) = (cases.len(), time.as_secs());
                tested.broken = Some(format!(
                    "its tests exceed the limit test_time of {seconds} s: {done} of {count} ran"
                ));
                break;
            }
            let began = Instant::now();
            tested.failing.extend(failure(case, &mut loaded));
            spent += began.elapsed();
        }
        Some(tested)
    }

    fn terms_of(&self, wanted: &RuleUse) -> Option<&Terms> {
        self.terms
            .get(&(wanted.tenant.clone(), wanted.rule.name.clone()))
    }
}

impl Tested {
    /// Returns why the rule must not go live; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        if self.broken.is_some() {
            return self.broken.clone();
        }
        let named = self.failing.iter().take(NAMED);
        let named: Vec<String> = named
            .map(|failing| format!("{}: {}", failing.case, failing.reason))
            .collect();
        let count = match self.failing.len() {
            0 => return None,
            count => count,
        };
        let more = match count - named.len() {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        Some(format!(
            "{count} of its {} failed: {}{more}",
            counted(self.cases, "test"),
            named.join("; ")
        ))
    }
}

/// Returns the failure of a case; `None` if it passes, or belongs to another tenant.
fn failure(case: &Case, loaded: &mut Loaded<'_>) -> Option<Failing> {
    let (reason, mismatch) = match run(case, loaded) {
        CaseVerdict::Ok(_) | CaseVerdict::Foreign => return None,
        CaseVerdict::Differs(_, _, mismatch) => (mismatch.summary(), Some(mismatch)),
        CaseVerdict::Unpinned(_) => {
            let file = case.expected.display();
            let reason = format!("{file} is missing; `postroom rule test --update` writes it");
            (reason, None)
        }
        CaseVerdict::Broken(reason) => (reason, None),
    };
    Some(Failing {
        case: case.name.clone(),
        reason,
        mismatch,
    })
}
