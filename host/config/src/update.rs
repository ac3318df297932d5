//! Reads saved files while a configuration is in use. A file with a fault stays as it was, so that a broken save changes nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::changes::Changes;
use super::documents::{Documents, read_texts};
use super::{Config, Problem, Problems};

/// The files of a configuration as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    documents: Documents,
    /// The files that cannot be read.
    unreadable: Vec<Problem>,
}

/// A saved configuration that can be applied.
#[derive(Debug)]
pub struct Update {
    pub config: Config,
    pub changes: Changes,
    /// The faults of saved files. These files are used as they were before.
    pub refused: Vec<Problem>,
}

impl Snapshot {
    /// Reads the files of the configuration in use. Fails if its main file cannot be read.
    pub fn read(running: &Config) -> Result<Self, Problems> {
        let main = running.documents.get(&running.file).unwrap_or_default();
        let (documents, unreadable) = read_texts(&running.file, main)?;
        Ok(Self {
            documents,
            unreadable,
        })
    }

    /// Returns whether these are the texts in use.
    pub fn is_of(&self, running: &Config) -> bool {
        self.documents == running.documents
    }

    /// Returns the configuration that these files describe, without those that have a new fault: they are used as they were. Fails
    /// with the faults if what remains would disable a part that is in use.
    pub fn update(
        &self,
        running: &Config,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Update, Problems> {
        let known: Vec<&Problem> = faults(running).collect();
        let is_new = |problem: &&Problem| !known.iter().any(|it| it.is_same(problem));
        let mut documents = self.documents.clone();
        let mut refused = Vec::new();
        // A file that cannot be read, or whose folder cannot, would count as removed.
        for (file, text) in running.documents.iter() {
            if documents.get(file).is_none() && file.try_exists().unwrap_or(true) {
                documents.insert(file.to_owned(), text);
            }
        }
        refused.extend(self.unreadable.iter().filter(is_new).cloned());
        let read = Config::load_documents(&running.file, &documents, environment);
        let found: Vec<Problem> = match &read {
            Ok(config) => faults(config).filter(is_new).cloned().collect(),
            Err(problems) => problems.iter().filter(is_new).cloned().collect(),
        };
        let broken: BTreeSet<PathBuf> = found
            .iter()
            .map(|problem| PathBuf::from(&problem.file))
            .filter(|file| differs(running, &documents, file))
            .collect();
        let config = match read {
            read if broken.is_empty() => read?,
            _ => {
                for file in &broken {
                    let before = running.documents.get(file).unwrap_or_default();
                    documents.insert(file.clone(), before);
                }
                let is_broken = |it: &&Problem| broken.contains(Path::new(&it.file));
                refused.extend(found.iter().filter(is_broken).cloned());
                let all = || Problems::of(found.clone());
                Config::load_documents(&running.file, &documents, environment)
                    .map_err(|problems| all().unwrap_or(problems))?
            }
        };
        // A fault in a file that was not changed, or that cannot be kept as it was.
        let of_used = |it: &&Problem| running.documents.get(Path::new(&it.file)).is_some();
        let spreading = faults(&config).filter(is_new).filter(of_used).cloned();
        if let Some(problems) = Problems::of(spreading.chain(refused.iter().cloned()).collect())
            && problems.iter().len() > refused.len()
        {
            return Err(problems);
        }
        let mut config = config;
        let mut changes = Changes::of_settings(running, &config);
        config.keep_until_restart(running);
        changes.add_parts(running, &config);
        Ok(Update {
            config,
            changes,
            refused,
        })
    }
}

/// Returns what a configuration cannot use, and why.
fn faults(config: &Config) -> impl Iterator<Item = &Problem> {
    let misconfigured = config.misconfigured.iter().flat_map(|it| &it.problems);
    misconfigured.chain(&config.unavailable)
}

/// Returns whether a file that is in use has another text now.
fn differs(running: &Config, documents: &Documents, file: &Path) -> bool {
    let before = running.documents.get(file);
    before.is_some() && documents.get(file) != before
}

impl Problem {
    /// Returns whether this is the other problem, which may have moved to another line.
    fn is_same(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.file.clone(), it.key.clone(), it.message.clone());
        parts(self) == parts(other)
    }
}
