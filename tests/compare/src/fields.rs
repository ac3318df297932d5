//! The fields of a mail, the opinions of readers on them, and where two of them agree and Postroom differs.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reading::{Mailbox, Part, Reading, is_text};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Field {
    Subject,
    /// The first address of From: Postroom reports no more.
    From,
    FromName,
    To,
    Cc,
    ReplyTo,
    Date,
    MessageId,
    References,
    Text,
    Html,
    /// Number and content of the attachments.
    Attachments,
    AttachmentNames,
    AttachmentTypes,
}

pub const FIELDS: [Field; 14] = [
    Field::Subject,
    Field::From,
    Field::FromName,
    Field::To,
    Field::Cc,
    Field::ReplyTo,
    Field::Date,
    Field::MessageId,
    Field::References,
    Field::Text,
    Field::Html,
    Field::Attachments,
    Field::AttachmentNames,
    Field::AttachmentTypes,
];

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Subject => "subject",
            Self::From => "from",
            Self::FromName => "from-name",
            Self::To => "to",
            Self::Cc => "cc",
            Self::ReplyTo => "reply-to",
            Self::Date => "date",
            Self::MessageId => "message-id",
            Self::References => "references",
            Self::Text => "text",
            Self::Html => "html",
            Self::Attachments => "attachments",
            Self::AttachmentNames => "attachment-names",
            Self::AttachmentTypes => "attachment-types",
        })
    }
}

/// A reader's opinion on a field: values of which single ones may be unknown.
pub type Opinion = Vec<Option<String>>;

/// Two readers agree on a field, and Postroom differs.
pub struct Difference {
    pub field: Field,
    pub ours: Opinion,
    pub theirs: Opinion,
    /// The readers that agree.
    pub peers: Vec<&'static str>,
}

/// Returns the differences of a mail. `flowed` says that its text may be broken into lines differently (RFC 3676).
pub fn differences(
    ours: &Reading,
    peers: &[(&'static str, &Reading)],
    flowed: bool,
) -> Vec<Difference> {
    let mut found = Vec::new();
    for field in FIELDS {
        let Some(our) = opinion(field, ours, flowed) else {
            continue;
        };
        let opinions: Vec<_> = peers
            .iter()
            .filter_map(|(name, reading)| Some((*name, opinion(field, reading, flowed)?)))
            .collect();
        if let Some((theirs, agreed)) = agreement(&opinions)
            && !agrees(&our, &theirs)
            && !is_beyond_peers(field, &our, &theirs, ours)
        {
            found.push(Difference {
                field,
                ours: our,
                theirs,
                peers: agreed,
            });
        }
    }
    found
}

/// Returns the opinion that at least two readers share, and these readers. A value that only one of them knows is unknown.
fn agreement(opinions: &[(&'static str, Opinion)]) -> Option<(Opinion, Vec<&'static str>)> {
    for (at, first) in opinions.iter().enumerate() {
        let mut agreed = vec![first];
        for other in &opinions[at + 1..] {
            if agreed.iter().all(|(_, opinion)| agrees(opinion, &other.1)) {
                agreed.push(other);
            }
        }
        if agreed.len() < 2 {
            continue;
        }
        let value = |index: usize| {
            let mut known = agreed
                .iter()
                .filter_map(|(_, opinion)| opinion[index].as_ref());
            known.next().filter(|_| known.next().is_some()).cloned()
        };
        let shared = (0..first.1.len()).map(value).collect();
        return Some((shared, agreed.iter().map(|(name, _)| *name).collect()));
    }
    None
}

fn agrees(a: &Opinion, b: &Opinion) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|pair| match pair {
            (Some(a), Some(b)) => a == b,
            _ => true,
        })
}

/// True if Postroom reports something by design where the peers report nothing.
fn is_beyond_peers(field: Field, ours: &Opinion, theirs: &Opinion, reading: &Reading) -> bool {
    let nothing = |opinion: &Opinion| opinion.iter().flatten().all(String::is_empty);
    match field {
        // A mail without a text part gets its text from the HTML.
        Field::Text => {
            nothing(theirs) && reading.html.as_deref().is_some_and(|html| !html.is_empty())
        }
        // An attachment without a name may get one; then all names that the peers know have to be right.
        Field::AttachmentNames => ours
            .iter()
            .zip(theirs)
            .all(|(our, their)| their.as_deref().is_none_or(str::is_empty) || our == their),
        _ => false,
    }
}

fn opinion(field: Field, reading: &Reading, flowed: bool) -> Option<Opinion> {
    let one = |text: String| Some(vec![Some(text)]);
    match field {
        Field::Subject => one(words(reading.subject.as_ref()?)),
        Field::From => one(reading
            .from
            .as_ref()?
            .first()
            .map_or_else(String::new, address)),
        Field::FromName => one(words(
            reading.from.as_ref()?.first().map_or("", |from| &from.name),
        )),
        Field::To => one(list(reading.to.as_ref()?.iter().map(address))),
        Field::Cc => one(list(reading.cc.as_ref()?.iter().map(address))),
        Field::ReplyTo => one(list(reading.reply_to.as_ref()?.iter().map(address))),
        Field::Date => one(reading.date?.to_string()),
        Field::MessageId => one(bare(reading.message_id.as_ref()?).to_owned()),
        Field::References => {
            let newest_first = reading.references.as_ref()?.iter().rev();
            let mut ids: Vec<&str> = Vec::new();
            for id in reading.in_reply_to.as_ref()?.iter().chain(newest_first) {
                let id = bare(id);
                // In-Reply-To may hold words beside the id (RFC 822).
                if id.contains('@') && !ids.contains(&id) {
                    ids.push(id);
                }
            }
            one(ids.join(" "))
        }
        Field::Text if flowed => one(dense(&reading.text.as_ref()?.replace('>', ""))),
        Field::Text => one(lines(reading.text.as_ref()?)),
        Field::Html => {
            // mailparser puts these between the parts that it joins.
            one(dense(&reading.html.as_ref()?.replace("<br/>", "")).replace("<br/>", ""))
        }
        Field::Attachments => parts(reading, |part| {
            let hash = part.hash.as_ref()?;
            // The size of text depends on its line ends, its hash does not.
            let size = part.size.filter(|_| !is_text(&part.content_type));
            Some(size.map_or_else(|| hash.clone(), |size| format!("{size} bytes, {hash}")))
        }),
        Field::AttachmentNames => parts(reading, |part| Some(words(&part.name))),
        Field::AttachmentTypes => {
            parts(reading, |part| Some(part.content_type.to_ascii_lowercase()))
        }
    }
}

fn parts(reading: &Reading, value: impl Fn(&Part) -> Option<String>) -> Option<Opinion> {
    Some(reading.attachments.as_ref()?.iter().map(value).collect())
}

/// Domains are compared without case.
fn address(mailbox: &Mailbox) -> String {
    match mailbox.email.rsplit_once('@') {
        Some((local, domain)) => format!("{local}@{}", domain.to_lowercase()),
        None => mailbox.email.clone(),
    }
}

fn list(values: impl Iterator<Item = String>) -> String {
    values.collect::<Vec<_>>().join(", ")
}

/// Returns a Message-ID without its brackets.
fn bare(id: &str) -> &str {
    let id = id.trim();
    id.strip_prefix('<')
        .unwrap_or(id)
        .strip_suffix('>')
        .unwrap_or(id.strip_prefix('<').unwrap_or(id))
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn dense(text: &str) -> String {
    text.split_whitespace().collect()
}

/// Returns the lines without white space at their ends, and without empty ones: readers join parts differently.
fn lines(text: &str) -> String {
    let lines = text
        .lines()
        .map(str::trim_end)
        .filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(text: &str) -> Reading {
        Reading {
            subject: Some(text.to_owned()),
            ..Reading::default()
        }
    }

    fn attached(parts: &[(&str, Option<&str>)]) -> Reading {
        let part = |&(name, hash): &(&str, Option<&str>)| Part {
            name: name.to_owned(),
            content_type: "image/png".to_owned(),
            size: hash.map(|_| 3),
            hash: hash.map(str::to_owned),
        };
        Reading {
            attachments: Some(parts.iter().map(part).collect()),
            ..Reading::default()
        }
    }

    fn found(ours: &Reading, theirs: [&Reading; 3]) -> Vec<Field> {
        let peers = [("a", theirs[0]), ("b", theirs[1]), ("c", theirs[2])];
        differences(ours, &peers, false)
            .iter()
            .map(|difference| difference.field)
            .collect()
    }

    #[test]
    fn two_peers_that_agree_outweigh_us_and_one_does_not() {
        let (ours, other, third) = (subject("ours"), subject("other"), subject("third"));
        assert_eq!(found(&ours, [&other, &third, &other]), [Field::Subject]);
        assert!(found(&ours, [&other, &third, &ours]).is_empty());
        assert!(found(&ours, [&other, &ours, &ours]).is_empty());
    }

    #[test]
    fn a_peer_without_opinion_agrees_with_nobody() {
        let (ours, other, none) = (subject("ours"), subject("other"), Reading::default());
        assert!(found(&ours, [&other, &none, &none]).is_empty());
    }

    #[test]
    fn a_value_that_one_peer_alone_knows_counts_for_nothing() {
        let ours = attached(&[("a", Some("aa"))]);
        let (known, unknown) = (attached(&[("a", Some("bb"))]), attached(&[("a", None)]));
        assert!(found(&ours, [&known, &unknown, &unknown]).is_empty());
        assert_eq!(
            found(&ours, [&known, &unknown, &known]),
            [Field::Attachments]
        );
    }

    #[test]
    fn a_name_that_only_we_report_is_no_difference() {
        let (ours, none) = (
            attached(&[("made.png", Some("aa"))]),
            attached(&[("", Some("aa"))]),
        );
        assert!(found(&ours, [&none, &none, &none]).is_empty());
        assert_eq!(
            found(&none, [&ours, &ours, &none]),
            [Field::AttachmentNames]
        );
    }

    #[test]
    fn references_are_the_answered_mail_and_then_the_newest() {
        let of = |in_reply_to: &[&str], references: &[&str]| {
            let owned = |ids: &[&str]| Some(ids.iter().map(|id| (*id).to_owned()).collect());
            let reading = Reading {
                in_reply_to: owned(in_reply_to),
                references: owned(references),
                ..Reading::default()
            };
            opinion(Field::References, &reading, false)
        };
        let newest_first = of(&["3@x", "2@x", "1@x"], &[]);
        assert_eq!(of(&["<3@x>"], &["<1@x>", "<2@x>", "<3@x>"]), newest_first);
        assert_eq!(
            of(&["Your", "message", "<3@x>"], &["1@x", "2@x"]),
            newest_first
        );
        assert_ne!(of(&["<3@x>"], &["<2@x>", "<1@x>"]), newest_first);
    }

    #[test]
    fn line_ends_and_empty_lines_of_text_are_not_compared_and_words_are() {
        assert_eq!(lines("a \r\n\r\nb\n"), lines("a\nb"));
        assert_ne!(lines("a\nb"), lines("a b"));
    }
}
