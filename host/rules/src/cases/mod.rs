//! A rule's own tests: mails in a folder next to the rule, with the expected results.

mod compare;
mod expected;
mod release_gate;
mod run;
mod terms;

use std::path::{Path, PathBuf};

use postroom_files::Unread;

pub use compare::{Mismatch, first_difference};
pub use expected::{Expected, Given};
pub use release_gate::{ReleaseGate, Tested};
pub use run::{CaseVerdict, Loaded, RuleResult, run};
pub use terms::Terms;

/// The suffix of the file with a case's expected result.
const EXPECTED: &str = ".expected.json";

/// Returns the folder of a rule's cases: `rules/first.cases` for `rules/first.js`.
pub fn folder_of(rule: &Path) -> PathBuf {
    rule.with_extension("cases")
}

/// One mail and its expected result.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    pub name: String,
    /// `NAME.eml`
    pub mail: PathBuf,
    /// `NAME.expected.json`, which may be missing.
    pub expected: PathBuf,
}

impl Case {
    /// Returns the case of a mail; `None` for another file.
    pub fn of(mail: &Path) -> Option<Self> {
        let is_mail = mail
            .extension()
            .is_some_and(|it| it.eq_ignore_ascii_case("eml"));
        let name = mail.file_stem().filter(|_| is_mail)?.to_str()?;
        let folder = mail.parent().unwrap_or(Path::new("."));
        Some(Self {
            // As written: some mail programs save `.EML`.
            mail: mail.strip_prefix(".").unwrap_or(mail).to_owned(),
            ..Self::named(folder, name)
        })
    }

    pub fn named(folder: &Path, name: &str) -> Self {
        let folder = folder.strip_prefix(".").unwrap_or(folder);
        Self {
            name: name.to_owned(),
            mail: folder.join(format!("{name}.eml")),
            expected: folder.join(format!("{name}{EXPECTED}")),
        }
    }

    /// Returns the cases of a folder by name, including those whose mail is gone; none if there is no folder. The reason is
    /// text for people.
    pub fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(format!("{}: {error}", folder.display())),
        };
        let files: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        let mut cases: Vec<Self> = files.iter().filter_map(|file| Self::of(file)).collect();
        let expectations = files.iter().filter_map(|file| {
            let name = file.file_name()?.to_str()?.strip_suffix(EXPECTED)?;
            Some(Self::named(folder, name))
        });
        for case in expectations {
            if !cases.iter().any(|it| it.name == case.name) {
                cases.push(case);
            }
        }
        cases.sort();
        Ok(cases)
    }
}

/// Returns why a file of a case is not read, as text for people.
fn unread(file: &Path, unread: Unread, most: u64) -> String {
    let shown = file.display();
    match unread {
        Unread::TooLarge(_) => format!("{shown}: over {most} bytes"),
        Unread::Other(reason) => format!("{shown}: {reason}"),
        unread => format!("{shown} {unread}"),
    }
}
