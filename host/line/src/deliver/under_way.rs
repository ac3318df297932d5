//! Attempts in progress, by target. A drain waits for these.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::TargetId;

/// The number of attempts in progress at each target.
#[derive(Default)]
pub struct UnderWay(Mutex<BTreeMap<TargetId, usize>>);

/// One attempt. It ends when this is dropped, even by a panic.
pub struct Try<'a> {
    all: &'a UnderWay,
    target: &'a TargetId,
}

impl UnderWay {
    pub fn begin<'a>(&'a self, target: &'a TargetId) -> Try<'a> {
        *self.lock().entry(target.clone()).or_default() += 1;
        Try { all: self, target }
    }

    /// Returns the names of the targets with attempts in progress, sorted and without duplicates.
    pub fn targets(&self) -> Vec<String> {
        let busy = self.lock();
        let names = busy.keys().map(|(_, name)| name.clone());
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        names
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<TargetId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Try<'_> {
    fn drop(&mut self) {
        let mut all = self.all.lock();
        if let Some(tries) = all.get_mut(self.target) {
            *tries -= 1;
            if *tries == 0 {
                all.remove(self.target);
            }
        }
    }
}
