//! `accepted.toml`: the differences that are right, with a reason each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::fields::Field;

/// The reason of a difference that nobody has judged yet. It fails the run.
pub const UNJUDGED: &str = "UNJUDGED";

const HEAD: &str = "\
# Differences from two peers that agree in which Postroom is right, with a reason each. `make compare` fails on a difference that
# is not listed here and on an entry that no longer occurs. `make compare UPDATE=1` removes these and adds new differences with the
# reason UNJUDGED, which fails the run until a person has written the reason.
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accepted: Vec<Group>,
}

/// Mails that differ in one field for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    field: Field,
    mails: Vec<String>,
}

pub type Key = (String, Field);

#[derive(Debug, Default)]
pub struct Accepted {
    groups: Vec<Group>,
}

impl Accepted {
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let mut seen = BTreeSet::new();
        for group in &file.accepted {
            if group.reason.trim().is_empty() {
                bail!("a group of {} has no reason", group.field);
            }
            for mail in &group.mails {
                if !seen.insert((mail.clone(), group.field)) {
                    bail!("{mail}, {} is listed twice", group.field);
                }
            }
        }
        Ok(Self {
            groups: file.accepted,
        })
    }

    /// Returns the reason of each entry.
    pub fn reasons(&self) -> BTreeMap<Key, &str> {
        let entries = self.groups.iter().flat_map(|group| {
            let key = |mail: &String| ((mail.clone(), group.field), group.reason.as_str());
            group.mails.iter().map(key)
        });
        entries.collect()
    }

    /// Removes the entries that no longer occur, and adds new ones, which are unjudged.
    pub fn update(&mut self, occurring: &BTreeSet<Key>) {
        let known: BTreeSet<Key> = self.reasons().into_keys().collect();
        for group in &mut self.groups {
            let field = group.field;
            group
                .mails
                .retain(|mail| occurring.contains(&(mail.clone(), field)));
            group.mails.sort();
        }
        self.groups.retain(|group| !group.mails.is_empty());
        for (mail, field) in occurring.difference(&known) {
            let unjudged = |group: &&mut Group| group.field == *field && group.reason == UNJUDGED;
            match self.groups.iter_mut().find(unjudged) {
                Some(group) => group.mails.push(mail.clone()),
                None => self.groups.push(Group {
                    reason: UNJUDGED.to_owned(),
                    field: *field,
                    mails: vec![mail.clone()],
                }),
            }
        }
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_text()).with_context(|| path.display().to_string())
    }

    fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for group in &self.groups {
            let reason = toml::Value::String(group.reason.clone());
            let _ = write!(
                text,
                "\n[[accepted]]\nreason = {reason}\nfield = \"{}\"\nmails = [\n",
                group.field
            );
            for mail in &group.mails {
                let _ = writeln!(text, "  {},", toml::Value::String(mail.clone()));
            }
            text.push_str("]\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "[[accepted]]\nreason = \"r\"\nfield = \"text\"\nmails = [\"a\", \"b\"]\n";

    fn keys(keys: &[(&str, Field)]) -> BTreeSet<Key> {
        keys.iter()
            .map(|(mail, field)| ((*mail).to_owned(), *field))
            .collect()
    }

    #[test]
    fn an_update_keeps_what_occurs_drops_what_does_not_and_adds_the_rest_unjudged() {
        let mut accepted = Accepted::parse(ONE).expect("it parses");
        accepted.update(&keys(&[
            ("b", Field::Text),
            ("b", Field::Date),
            ("c", Field::Date),
        ]));
        let written = Accepted::parse(&accepted.to_text()).expect("what is written can be read");
        let reasons = written.reasons();
        assert_eq!(reasons.len(), 3);
        assert_eq!(reasons[&("b".to_owned(), Field::Text)], "r");
        assert_eq!(reasons[&("b".to_owned(), Field::Date)], UNJUDGED);
        assert_eq!(reasons[&("c".to_owned(), Field::Date)], UNJUDGED);
    }

    #[test]
    fn an_entry_without_reason_or_listed_twice_is_refused() {
        assert!(Accepted::parse(&ONE.replace("\"r\"", "\" \"")).is_err());
        assert!(Accepted::parse(&format!("{ONE}{ONE}")).is_err());
        assert!(Accepted::parse(&ONE.replace("text", "colour")).is_err());
    }
}
