//! The candidate: the rules in the chains of a replay. None of them goes live or is written to the store.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ChainKey;
use postroom_sandbox::Sandbox;
use postroom_store::RuleRecord;

use postroom_config::suggest::no_such;
use postroom_config::{Config, MailboxConfig, RuleConfig, RuleKind, RuleUse};
use postroom_rules::rulebook::{Chain, LiveRule, RuleId, load_bytes, load_now};

/// The candidate of a replay.
#[derive(Debug, Clone)]
pub enum Candidate {
    /// Every rule, as its files are now.
    Files,
    /// A file in place of one rule, with the others as their files are now.
    File {
        file: PathBuf,
        /// The rule's name in the chains; by default, the rule with this file or with its file name.
        in_place_of: Option<String>,
    },
    /// The rules of a generation in the store.
    Generation { number: u64, rules: Vec<RuleRecord> },
}

/// The chains of a candidate.
pub struct Prepared {
    /// The chains by mailbox and tenant, only for those whose chain includes the candidate.
    pub chains: HashMap<ChainKey, Chain>,
    /// Notes for people on deviations from the request.
    pub notes: Vec<String>,
}

/// Why a candidate cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum CandidateError {
    /// One line per rule.
    #[error("{}", .0.join("\n"))]
    NotLoaded(Vec<String>),
    #[error("--as: {0}")]
    NoSuchRule(String),
    #[error("--rule {}: it does not exist, or is not a file", .0.display())]
    NoFile(PathBuf),
    #[error(
        "--rule {}: no chain has a rule of this name. The chains have: {names}; help: name the rule that it replaces with --as NAME", .file.display()
    )]
    Unknown { file: PathBuf, names: String },
    #[error("--rule {}: it may replace each of {names}; help: name one with --as NAME", .file.display())]
    Ambiguous { file: PathBuf, names: String },
}

/// Loads the candidate's chains for these mailboxes, of which a shared one is given once for each tenant. The error names every rule that fails to load, with file, line and column.
pub fn prepare(
    config: &Config,
    sandbox: &Sandbox,
    mailboxes: &[&MailboxConfig],
    candidate: &Candidate,
) -> Result<Prepared, CandidateError> {
    let replaced = match candidate {
        Candidate::File { file, in_place_of } => {
            Some(replaced(mailboxes, file, in_place_of.as_deref())?)
        }
        _ => None,
    };
    let mut maker = Maker {
        sandbox,
        candidate,
        replaced: replaced.as_deref(),
        made: BTreeMap::new(),
        refused: Vec::new(),
        notes: Vec::new(),
    };
    let mut chains = HashMap::new();
    for mailbox in mailboxes {
        let has_part = maker
            .replaced
            .is_none_or(|name| rules_of(mailbox).any(|rule| rule.name == name));
        if let (true, Some(tenant)) = (has_part, config.tenant(&mailbox.tenant)) {
            let rules = rules_of(mailbox).filter_map(|rule| maker.rule(tenant.use_of(rule)));
            let chain = Chain {
                generation: match candidate {
                    Candidate::Generation { number, .. } => *number,
                    _ => 0,
                },
                rules: rules.collect(),
            };
            chains.insert((mailbox.name.clone(), mailbox.tenant.clone()), chain);
        }
    }
    if !maker.refused.is_empty() {
        return Err(CandidateError::NotLoaded(maker.refused));
    }
    Ok(Prepared {
        chains,
        notes: maker.notes,
    })
}

/// Makes each rule of each tenant once.
struct Maker<'a> {
    sandbox: &'a Sandbox,
    candidate: &'a Candidate,
    /// The name of the rule that the candidate's file replaces.
    replaced: Option<&'a str>,
    made: BTreeMap<RuleId, Option<Arc<LiveRule>>>,
    refused: Vec<String>,
    notes: Vec<String>,
}

impl Maker<'_> {
    /// Returns `None` for a rule that fails to load, and records why.
    fn rule(&mut self, wanted: RuleUse) -> Option<Arc<LiveRule>> {
        let id = RuleId {
            tenant: wanted.tenant.clone(),
            name: wanted.rule.name.clone(),
        };
        if let Some(made) = self.made.get(&id) {
            return made.clone();
        }
        let on_failure = wanted.on_failure;
        let made = match self.load(wanted) {
            Ok(rule) => Some(Arc::new(LiveRule::tried(&id.name, rule, on_failure))),
            Err(reason) => {
                // One file may be the rule of many tenants.
                if !self.refused.contains(&reason) {
                    self.refused.push(reason);
                }
                None
            }
        };
        self.made.insert(id, made.clone());
        made
    }

    fn load(&mut self, mut wanted: RuleUse) -> Result<postroom_sandbox::Rule, String> {
        match self.candidate {
            Candidate::File { file, .. } if self.replaced == Some(&wanted.rule.name) => {
                wanted.rule = RuleConfig::of_file(file);
                load_now(self.sandbox, &wanted)
            }
            Candidate::Generation { number, rules } if wanted.rule.path().is_some() => {
                let is_meant = |record: &&RuleRecord| {
                    record.tenant == wanted.tenant && record.name == wanted.rule.name
                };
                let Some(record) = rules.iter().find(is_meant) else {
                    self.notes.push(format!(
                        "{} of tenant {} is not in generation {number}: taken as its file is now",
                        wanted.rule.name, wanted.tenant
                    ));
                    return load_now(self.sandbox, &wanted);
                };
                wanted.settings_json = record.settings_json.clone();
                load_bytes(self.sandbox, &wanted, &record.bytes)
                    .map_err(|error| format!("generation {number}: {error}"))
            }
            _ => load_now(self.sandbox, &wanted),
        }
    }
}

/// Returns the rule that a file replaces: by the given name, by the same file, or by its file name.
pub fn replaced(
    mailboxes: &[&MailboxConfig],
    file: &Path,
    in_place_of: Option<&str>,
) -> Result<String, CandidateError> {
    let rules: BTreeSet<&RuleConfig> = mailboxes.iter().flat_map(|it| rules_of(it)).collect();
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    let all = names.join(", ");
    if let Some(wanted) = in_place_of {
        let wanted = wanted.strip_prefix("./").unwrap_or(wanted);
        if names.contains(&wanted) {
            return Ok(wanted.to_owned());
        }
        let problem = no_such("rule of a chain", wanted, &names);
        return Err(CandidateError::NoSuchRule(problem));
    }
    if !file.is_file() {
        return Err(CandidateError::NoFile(file.to_owned()));
    }
    let real = file.canonicalize().ok();
    let is_it = |rule: &&&RuleConfig| {
        let path = rule.path().and_then(|path| path.canonicalize().ok());
        path.is_some() && path == real
    };
    let is_named_so = |rule: &&&RuleConfig| {
        let name = rule.path().and_then(Path::file_name);
        name.is_some() && name == file.file_name()
    };
    if let Some(rule) = rules.iter().find(is_it) {
        return Ok(rule.name.clone());
    }
    let named_so: Vec<&str> = rules
        .iter()
        .filter(is_named_so)
        .map(|rule| rule.name.as_str())
        .collect();
    match named_so.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(CandidateError::Unknown {
            file: file.to_owned(),
            names: all,
        }),
        several => Err(CandidateError::Ambiguous {
            file: file.to_owned(),
            names: several.join(", "),
        }),
    }
}

/// Returns the rules to load. `fallback` needs no loading, because it ends every chain anyway.
fn rules_of(mailbox: &MailboxConfig) -> impl Iterator<Item = &RuleConfig> {
    let rules = mailbox.rules.iter();
    rules.take_while(|rule| rule.kind != RuleKind::Fallback)
}
