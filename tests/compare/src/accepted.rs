//! `accepted.toml`: the differences that are right, with a reason each.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use glob::Pattern;
use serde::Deserialize;

use crate::fields::Field;

/// The reason of a difference that nobody has judged yet. It fails the run.
pub const UNJUDGED: &str = "UNJUDGED";

const HEAD: &str = "\
# Differences from two peers that agree in which Postroom is right, with a reason each. `*` in a mail stands for any characters.
# `make compare` fails on a difference that is not listed here, and on a mail or a field of a group that no longer occurs.
# `make compare UPDATE=1` removes these and adds new differences with the reason UNJUDGED, which fails the run until a person has
# written the reason.
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accepted: Vec<Group>,
}

/// Mails that differ in some of the fields for one reason.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    reason: String,
    fields: Vec<Field>,
    mails: Vec<MailPattern>,
}

#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct MailPattern(Pattern);

impl TryFrom<String> for MailPattern {
    type Error = glob::PatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Pattern::new(&text).map(Self)
    }
}

/// A mail's name, and the field in which it differs.
pub type Key = (String, Field);

impl Group {
    fn covers(&self, (mail, field): &Key) -> bool {
        self.fields.contains(field) && self.mails.iter().any(|pattern| pattern.0.matches(mail))
    }
}

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
                bail!("a group of mails has no reason");
            }
            for mail in &group.mails {
                for field in &group.fields {
                    if !seen.insert((mail.0.as_str(), *field)) {
                        bail!("{}, {field} is listed twice", mail.0);
                    }
                }
            }
        }
        Ok(Self {
            groups: file.accepted,
        })
    }

    /// Returns why a difference is accepted: the reason of the first group that lists it.
    pub fn reason(&self, key: &Key) -> Option<&str> {
        let group = self.groups.iter().find(|group| group.covers(key))?;
        Some(&group.reason)
    }

    /// Returns what no longer occurs, in words.
    pub fn stale(&self, occurring: &BTreeSet<Key>) -> Vec<String> {
        let mut stale = Vec::new();
        for group in &self.groups {
            let covered: Vec<&Key> = occurring.iter().filter(|key| group.covers(key)).collect();
            for mail in &group.mails {
                if !covered.iter().any(|(name, _)| mail.0.matches(name)) {
                    stale.push(format!("{}: {}", mail.0, group.reason));
                }
            }
            for field in &group.fields {
                if !covered.iter().any(|(_, used)| used == field) {
                    stale.push(format!("field {field}: {}", group.reason));
                }
            }
        }
        stale
    }

    /// Removes what no longer occurs, and adds new differences, which are unjudged.
    pub fn update(&mut self, occurring: &BTreeSet<Key>) {
        for group in &mut self.groups {
            let covered: Vec<&Key> = occurring.iter().filter(|key| group.covers(key)).collect();
            group
                .mails
                .retain(|mail| covered.iter().any(|(name, _)| mail.0.matches(name)));
            group
                .fields
                .retain(|field| covered.iter().any(|(_, used)| used == field));
        }
        self.groups.retain(|group| !group.mails.is_empty());
        let mut new: BTreeMap<&str, Vec<Field>> = BTreeMap::new();
        for key in occurring {
            if self.reason(key).is_none() {
                new.entry(&key.0).or_default().push(key.1);
            }
        }
        let mut unjudged: BTreeMap<Vec<Field>, Vec<MailPattern>> = BTreeMap::new();
        for (mail, fields) in new {
            // A mail's name may hold characters that mean something in a pattern.
            if let Ok(pattern) = Pattern::new(&Pattern::escape(mail)) {
                unjudged
                    .entry(fields)
                    .or_default()
                    .push(MailPattern(pattern));
            }
        }
        self.groups
            .extend(unjudged.into_iter().map(|(fields, mails)| Group {
                reason: UNJUDGED.to_owned(),
                fields,
                mails,
            }));
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        std::fs::write(path, self.to_text()).with_context(|| path.display().to_string())
    }

    fn to_text(&self) -> String {
        let mut text = HEAD.to_owned();
        for group in &self.groups {
            let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
            let fields: Vec<String> = group.fields.iter().map(|f| format!("\"{f}\"")).collect();
            let _ = write!(
                text,
                "\n[[accepted]]\nreason = {}\nfields = [{}]\nmails = [\n",
                quoted(&group.reason),
                fields.join(", ")
            );
            let mut mails: Vec<&str> = group.mails.iter().map(|mail| mail.0.as_str()).collect();
            mails.sort_unstable();
            for mail in mails {
                let _ = writeln!(text, "  {},", quoted(mail));
            }
            text.push_str("]\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str =
        "[[accepted]]\nreason = \"r\"\nfields = [\"text\", \"date\"]\nmails = [\"a\", \"b-*\"]\n";

    fn keys(keys: &[(&str, Field)]) -> BTreeSet<Key> {
        keys.iter()
            .map(|(mail, field)| ((*mail).to_owned(), *field))
            .collect()
    }

    #[test]
    fn a_mail_and_a_field_that_no_longer_occur_are_stale() {
        let accepted = Accepted::parse(ONE).expect("it parses");
        let all = keys(&[("a", Field::Text), ("b-1", Field::Date)]);
        assert!(accepted.stale(&all).is_empty());
        assert_eq!(accepted.stale(&keys(&[("a", Field::Text)])).len(), 2);
        assert_eq!(
            accepted
                .stale(&keys(&[("a", Field::Text), ("a", Field::Date)]))
                .len(),
            1
        );
    }

    #[test]
    fn an_update_keeps_what_occurs_drops_what_does_not_and_adds_the_rest_unjudged() {
        let mut accepted = Accepted::parse(ONE).expect("it parses");
        let found = keys(&[
            ("b-1", Field::Text),
            ("b-1", Field::Html),
            ("c[2", Field::Html),
        ]);
        accepted.update(&found);
        let written = Accepted::parse(&accepted.to_text()).expect("what is written can be read");
        assert!(written.stale(&found).is_empty());
        let reason = |mail: &str, field| written.reason(&(mail.to_owned(), field));
        assert_eq!(reason("b-1", Field::Text), Some("r"));
        assert_eq!(reason("b-1", Field::Html), Some(UNJUDGED));
        assert_eq!(reason("c[2", Field::Html), Some(UNJUDGED));
        assert_eq!(reason("a", Field::Text), None);
        assert_eq!(reason("b-1", Field::Date), None);
    }

    #[test]
    fn an_entry_without_reason_or_listed_twice_is_refused() {
        assert!(Accepted::parse(&ONE.replace("\"r\"", "\" \"")).is_err());
        assert!(Accepted::parse(&format!("{ONE}{ONE}")).is_err());
        assert!(Accepted::parse(&ONE.replace("date", "colour")).is_err());
    }
}
