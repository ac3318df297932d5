//! One look at a tenant's rule files: loads and tests what changed since the last look. It blocks, and nothing of it is
//! live yet.

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;

use postroom_sandbox::Rule;
use postroom_store::{GenerationCause, StoreError};

use super::files::{FileRef, Files, Fingerprint};
use super::pool::{LoadEnded, LoadPace};
use super::refusal::DEFECT;
use super::refused::Refused;
use super::{
    FailureWindow, LiveRule, LoadRefusal, RuleBook, RuleId, StrikeLimits, load_bytes, load_file,
};
use crate::cases::Tested;
use crate::crash;
use postroom_config::RuleUse;

/// The files of a rule at the last look.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Seen {
    pub files: Fingerprint,
    /// The files of its tests, if they are run: a new test changes no file that existed before.
    tests: Vec<PathBuf>,
    /// Whether a rule could be made from them.
    sound: bool,
}

/// The result of a look at the files.
#[derive(Default)]
pub struct Looked {
    pub rules: BTreeMap<RuleId, Arc<LiveRule>>,
    pub changed: Vec<RuleId>,
    /// Changed rules that were loaded from their current files.
    pub sound: Vec<RuleId>,
    /// Rules whose live version is now refused.
    pub returned: Vec<RuleId>,
    /// Rules that have refused versions and whose file has changed since.
    pub forgiven: Vec<RuleId>,
    /// The faults of changed files.
    pub refused: Vec<(RuleId, LoadRefusal)>,
    /// The passed tests of changed files.
    pub passed: Vec<(RuleId, Tested)>,
}

/// Why a look has no result.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Ended(#[from] LoadEnded),
}

impl Looked {
    /// Adds the result of a look at another tenant's files.
    pub fn add(&mut self, other: Looked) {
        self.rules.extend(other.rules);
        self.changed.extend(other.changed);
        self.sound.extend(other.sound);
        self.returned.extend(other.returned);
        self.forgiven.extend(other.forgiven);
        self.refused.extend(other.refused);
        self.passed.extend(other.passed);
    }

    /// Returns the cause of a new generation, if there is one.
    pub fn cause(&self) -> GenerationCause {
        match self.returned.is_empty() {
            true => GenerationCause::Saved,
            false => GenerationCause::SentBack,
        }
    }
}

impl RuleBook {
    /// Compares a tenant's files with those of the last look and loads what differs. At the first look nothing is live that was
    /// loaded in the same way.
    pub(super) fn look(
        &self,
        (uses, is_first): (&[RuleUse], bool),
        seen: &mut HashMap<RuleId, Seen>,
        pace: &LoadPace,
    ) -> Result<Looked, LookError> {
        let live = self.live.load_full();
        let wiring = self.wiring.load_full();
        let files = Files::default();
        let refused = Refused(self.served_before.refused_rules()?);
        let mut looked = Looked::default();
        for wanted in uses {
            let id = RuleId {
                tenant: wanted.tenant.clone(),
                name: wanted.rule.name.clone(),
            };
            let served = live.rules.get(&id).filter(|_| !is_first);
            let serving = served.filter(|rule| refused.reason(&id, &rule.hash).is_none());
            let before = seen.get(&id);
            let tests = wiring.gate.files(wanted);
            if let Some(serving) = serving
                && before.is_some_and(|it| it.files.holds(&files) && it.tests == tests)
            {
                looked.rules.insert(id, serving.clone());
                continue;
            }
            pace.step()?;
            let mut footprint = Fingerprint::default();
            let mut passed = None;
            let load = AssertUnwindSafe(|| {
                crash::point(crash::Point::BeforeLoad);
                let fresh = load_file(
                    &self.sandbox,
                    wanted,
                    wiring.strikes,
                    &files,
                    &mut footprint,
                )?;
                if let Some(reason) = refused.reason(&id, &fresh.hash) {
                    return Err(LoadRefusal::Returned {
                        name: id.name.clone(),
                        reason: reason.to_owned(),
                    });
                }
                for file in &tests {
                    // A file that cannot be read fails its test, which reports the reason.
                    let _ = footprint.read(&files, FileRef::anywhere(file));
                }
                let serves = serving.is_some_and(|it| it.hash == fresh.hash);
                passed = self.tested(wanted, &fresh, serves, pace)?;
                Ok(fresh)
            });
            let loaded = catch_unwind(load).unwrap_or_else(|_| {
                Err(LoadRefusal::Defect {
                    name: id.name.clone(),
                })
            });
            // Tests that were stopped say nothing about the rule.
            pace.step()?;
            if loaded.is_ok() && refused.has(&id) {
                looked.forgiven.push(id.clone());
            }
            let now = Seen {
                files: footprint,
                tests,
                sound: loaded.is_ok(),
            };
            let is_news = before != Some(&now);
            seen.insert(id.clone(), now);
            if let Some(tested) = passed.filter(|_| is_news) {
                looked.passed.push((id.clone(), tested));
            }
            let rule = match (loaded, serving) {
                // The same version again, for example after a broken save was undone.
                (Ok(fresh), Some(serving))
                    if fresh.hash == serving.hash && serving.rule.is_ok() =>
                {
                    serving.clone()
                }
                (Ok(fresh), _) => {
                    self.keep_without_predecessor(&id.tenant, &fresh)?;
                    looked.changed.push(id.clone());
                    looked.sound.push(id.clone());
                    let told = served.is_some_and(|it| it.strikes.is_told());
                    if told && !looked.forgiven.contains(&id) {
                        looked.forgiven.push(id.clone());
                    }
                    Arc::new(fresh)
                }
                (Err(refusal), serving) => {
                    let reason = refusal.to_string();
                    if is_news {
                        looked.refused.push((id.clone(), refusal));
                    }
                    match serving {
                        Some(serving) => serving.clone(),
                        None => {
                            looked.changed.push(id.clone());
                            if served.is_some() {
                                looked.returned.push(id.clone());
                            }
                            Arc::new(self.last_good(wanted, reason)?)
                        }
                    }
                }
            };
            looked.rules.insert(id, rule);
        }
        Ok(looked)
    }

    /// Tests a fresh rule. If its own tests fail, it counts as not loaded. Its tests count as files of the rule.
    fn tested(
        &self,
        wanted: &RuleUse,
        fresh: &LiveRule,
        serves: bool,
        pace: &LoadPace,
    ) -> Result<Option<Tested>, LoadRefusal> {
        let wiring = self.wiring.load_full();
        let rule = fresh.rule.as_ref().ok();
        let test = |rule| {
            let go_on = || pace.step().is_ok();
            wiring.gate.test_while(&self.sandbox, wanted, rule, &go_on)
        };
        match rule.and_then(test) {
            Some(tested) if tested.refusal().is_some() => Err(LoadRefusal::Tests {
                name: wanted.rule.name.clone(),
                tested,
                serves,
            }),
            tested => Ok(tested),
        }
    }

    /// Returns the last live version from the store, or a rule that states why it cannot run.
    fn last_good(&self, wanted: &RuleUse, reason: String) -> Result<LiveRule, StoreError> {
        let name = wanted.rule.name.clone();
        let Some(record) = self.served_before.last_good(&wanted.tenant, &name)? else {
            return Ok(LiveRule {
                name,
                hash: String::new(),
                rule: Err(reason),
                strikes: FailureWindow::new(StrikeLimits::NEVER),
                on_failure: wanted.on_failure,
                record: None,
            });
        };
        let kept = |bytes: &[u8]| {
            let load = || load_bytes(&self.sandbox, wanted, bytes).map_err(|it| it.to_string());
            catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err(DEFECT.to_owned()))
        };
        let rule = LiveRule {
            name,
            hash: record.hash.hex(),
            rule: kept(&record.bytes)
                .map_err(|error| format!("{reason}; and its last good version: {error}")),
            strikes: FailureWindow::new(self.wiring.load().strikes),
            on_failure: wanted.on_failure,
            record: Some(record),
        };
        self.keep_without_predecessor(&wanted.tenant, &rule)?;
        Ok(rule)
    }

    /// Keeps a version without a predecessor, whatever it does: a rule that is switched off protects from nothing.
    fn keep_without_predecessor(&self, tenant: &str, rule: &LiveRule) -> Result<(), StoreError> {
        let hash = rule.rule.as_ref().ok().map(Rule::hash);
        if let Some(hash) = hash
            && self
                .served_before
                .good_before(tenant, &rule.name, &hash)?
                .is_none()
        {
            rule.strikes.stay();
        }
        Ok(())
    }
}
