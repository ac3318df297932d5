//! The figures of the classification and of the reply text on public sets and our own cases, with the goals that they must reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use postroom_core::{Classification, Message, ParseLimits, parse};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::mails::Mail;

/// The lowest share of mails called a bounce, or an auto-reply, that are one.
const PRECISION: f64 = 0.99;
const AUTO_REPLY_RECALL: f64 = 0.95;
/// The lowest share of replies that are exact or acceptable.
const REPLIES: f64 = 0.95;

/// The reply of each page in `talon/fixtures/html_replies`, as talon's test expects it.
const HTML_REPLY: &str = "Hi. I am fine.\n\nThanks,\nAlex";
/// The reply of each mail in `talon/fixtures/standard_replies` that has no file with another.
const STANDARD_REPLY: &str = "Hello";

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Kind {
    Bounce,
    AutoReply,
    Ordinary,
    /// Not counted.
    Either,
}

/// `judged.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    set: Vec<Set>,
    #[serde(default)]
    mails: Vec<Mails>,
    #[serde(default)]
    reply: Vec<Acceptable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Set {
    name: String,
    below: String,
    kind: Kind,
    recall: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mails {
    kind: Kind,
    reason: String,
    mails: Vec<String>,
}

/// A reply that is not the expected one, and as good.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Acceptable {
    case: String,
    text: String,
    reason: String,
}

/// The counts of one figure.
struct Figure {
    name: String,
    hits: usize,
    of: usize,
    goal: Option<f64>,
    note: String,
}

impl Figure {
    fn print(&self) -> bool {
        let share = self.hits as f64 / self.of.max(1) as f64;
        let reached = self.of > 0 && self.goal.is_none_or(|goal| share >= goal);
        let goal = self
            .goal
            .map_or_else(String::new, |goal| format!(" (goal {goal:.2})"));
        let verdict = if reached { "" } else { "  MISSED" };
        let counts = format!("{} of {}{goal}", self.hits, self.of);
        println!(
            "  {:<44} {share:.3}  {counts}{}{verdict}",
            self.name, self.note
        );
        reached
    }
}

/// Prints the figures and the mails that lower them. Returns the number of goals that are missed.
pub fn report(root: &Path, python: &str, mails: &[Mail], messages: &[Message]) -> Result<usize> {
    let path = root.join("tests/compare/judged.toml");
    let text = std::fs::read_to_string(&path)?;
    let judged: Judged = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let mut figures = classification(root, &judged, mails, messages)?;
    figures.push(recipients(root, python, mails, messages)?);
    figures.extend(replies(root, python, &judged, mails, messages)?);
    println!("\nFigures");
    Ok(figures.iter().filter(|figure| !figure.print()).count())
}

// --- classification ---

fn classification(
    root: &Path,
    judged: &Judged,
    mails: &[Mail],
    messages: &[Message],
) -> Result<Vec<Figure>> {
    let mut single = BTreeMap::new();
    for group in &judged.mails {
        if group.reason.trim().is_empty() {
            bail!("judged.toml: a group of mails has no reason");
        }
        for mail in &group.mails {
            if !mails.iter().any(|known| known.name == *mail) {
                bail!("judged.toml: no corpus holds {mail}");
            }
            single.insert(mail.as_str(), group.kind);
        }
    }
    // Hits and totals of each set that consists of bounces, and of auto-replies.
    let mut sets: Vec<(usize, usize)> = vec![(0, 0); judged.set.len()];
    let (mut absences, mut called) = ((0, 0), [(0, 0); 2]);
    let mut ordinary = 0;
    println!("\nMails classified otherwise than judged");
    for (mail, message) in mails.iter().zip(messages) {
        let set = judged
            .set
            .iter()
            .position(|set| mail.name.starts_with(&set.below));
        let kind = match (single.get(mail.name.as_str()), set) {
            (Some(&kind), _) => kind,
            (None, Some(set)) => judged.set[set].kind,
            (None, None) => kind_of_case(root, &mail.name)?,
        };
        if kind == Kind::Either {
            continue;
        }
        let found = match message.classification {
            Classification::Bounce => Kind::Bounce,
            Classification::AutoReply => Kind::AutoReply,
            _ => Kind::Ordinary,
        };
        let hit = usize::from(found == kind);
        match (kind, set) {
            (Kind::Bounce, Some(set)) => {
                sets[set].0 += hit;
                sets[set].1 += 1;
            }
            (Kind::AutoReply, _) => {
                absences.0 += hit;
                absences.1 += 1;
            }
            (Kind::Ordinary, _) => ordinary += 1,
            _ => {}
        }
        for (slot, called_kind) in called.iter_mut().zip([Kind::Bounce, Kind::AutoReply]) {
            if found == called_kind {
                slot.0 += hit;
                slot.1 += 1;
            }
        }
        if hit == 0 {
            let (name, reason) = (&mail.name, &message.classification_reason);
            println!(
                "  {name}: {kind:?}, found {:?}; {reason}",
                message.classification
            );
        }
    }
    let mut figures = Vec::new();
    let mut add = |name: &str, (hits, of): (usize, usize), goal: Option<f64>, note: String| {
        figures.push(Figure {
            name: name.to_owned(),
            hits,
            of,
            goal,
            note,
        });
    };
    for (set, counts) in judged.set.iter().zip(&sets) {
        if set.kind == Kind::Bounce {
            add(
                &format!("bounces of {}, recall", set.name),
                *counts,
                set.recall,
                String::new(),
            );
        }
    }
    let beside = format!(", beside {ordinary} ordinary mails");
    add(
        "bounces, precision",
        called[0],
        Some(PRECISION),
        beside.clone(),
    );
    add(
        "auto-replies, recall",
        absences,
        Some(AUTO_REPLY_RECALL),
        String::new(),
    );
    add(
        "auto-replies, precision",
        called[1],
        Some(PRECISION),
        beside,
    );
    Ok(figures)
}

fn kind_of_case(root: &Path, name: &str) -> Result<Kind> {
    let expected = expected_of_case(root, name)?;
    Ok(match expected["classification"].as_str() {
        Some("bounce") => Kind::Bounce,
        Some("auto-reply") => Kind::AutoReply,
        _ => Kind::Ordinary,
    })
}

fn expected_of_case(root: &Path, name: &str) -> Result<serde_json::Value> {
    let name = name.strip_prefix("cases/").unwrap_or(name);
    let path = root
        .join("tests/cases/mail")
        .join(name)
        .join("expected.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(serde_json::from_str(&text)?)
}

// --- delivery reports ---

/// Compares the addresses that bounces report with those that flufl.bounce's tests expect.
fn recipients(root: &Path, python: &str, mails: &[Mail], messages: &[Message]) -> Result<Figure> {
    #[derive(Deserialize)]
    struct Expected {
        mail: String,
        recipients: BTreeSet<String>,
        temporary: bool,
    }
    let tests = root.join("target/corpora/flufl/test_detectors.py");
    let expected: Vec<Expected> = expectations(root, python, "flufl.py", &tests)?;
    let (mut hits, mut as_lasting) = (0, 0);
    println!("\nBounces whose failed addresses differ from flufl.bounce's");
    for expected in &expected {
        let name = format!("flufl/data/{}", expected.mail);
        let at = mails
            .iter()
            .position(|mail| mail.name == name)
            .with_context(|| format!("no corpus holds {name}"))?;
        let report = messages[at].delivery.as_ref();
        let failed = report.map_or(&[][..], |report| &report.recipients);
        let found: BTreeSet<String> = failed
            .iter()
            .map(|failed| failed.email.to_lowercase())
            .collect();
        if found == expected.recipients {
            hits += 1;
            as_lasting += usize::from(
                failed
                    .iter()
                    .all(|failed| failed.permanent != expected.temporary),
            );
        } else {
            println!("  {name}: {:?}, found {found:?}", expected.recipients);
        }
    }
    Ok(Figure {
        name: "failed addresses of flufl.bounce".to_owned(),
        hits,
        of: expected.len(),
        goal: None,
        note: format!(", {as_lasting} of them permanent or delayed alike"),
    })
}

/// Returns what a script reads from the source of a test.
fn expectations<T: DeserializeOwned>(
    root: &Path,
    python: &str,
    script: &str,
    tests: &Path,
) -> Result<Vec<T>> {
    let output = Command::new(python)
        .arg(root.join("tests/compare/peers").join(script))
        .arg(tests)
        .output()
        .with_context(|| format!("{python} cannot be started"))?;
    if !output.status.success() {
        bail!("{script}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let lines = String::from_utf8(output.stdout)?;
    let found: Vec<T> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    if found.is_empty() {
        bail!("{script} found nothing in {}", tests.display());
    }
    Ok(found)
}

// --- replies ---

struct ReplyCase {
    name: String,
    expected: String,
    found: String,
}

fn replies(
    root: &Path,
    python: &str,
    judged: &Judged,
    mails: &[Mail],
    messages: &[Message],
) -> Result<Vec<Figure>> {
    let talon = root.join("target/corpora/talon");
    let mut of_talon = Vec::new();
    let mut of_cases = Vec::new();
    for (mail, message) in mails.iter().zip(messages) {
        if let Some(name) = mail.name.strip_prefix("talon/fixtures/standard_replies/") {
            let beside = mail.path.with_extension("").display().to_string() + "_reply_text";
            let expected = std::fs::read_to_string(beside).unwrap_or(STANDARD_REPLY.to_owned());
            of_talon.push(ReplyCase {
                name: format!("talon/{name}"),
                expected,
                // As talon reads it: the plain text alone. The mails have lost the headers of an answer.
                found: answer("text/plain", message.text.as_bytes()).reply,
            });
        } else if mail.name.starts_with("cases/") {
            // A case whose reply is its whole text leaves it out.
            if let Some(expected) = expected_of_case(root, &mail.name)?["reply"].as_str() {
                of_cases.push(ReplyCase {
                    name: mail.name.clone(),
                    expected: expected.to_owned(),
                    found: message.reply.clone(),
                });
            }
        }
    }
    let mut pages: Vec<_> = std::fs::read_dir(talon.join("fixtures/html_replies"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    pages.sort();
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|e| e == "html"))
    {
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        of_talon.push(ReplyCase {
            name: format!("talon/{name}"),
            expected: HTML_REPLY.to_owned(),
            found: answer("text/html", &std::fs::read(page)?).reply,
        });
    }
    of_talon.extend(of_talons_tests(root, python, &talon)?);

    let mut figures = Vec::new();
    println!("\nReplies that are not exact");
    for (name, cases) in [
        ("replies of talon", of_talon),
        ("replies of our cases", of_cases),
    ] {
        let (mut exact, mut acceptable) = (0, 0);
        for case in &cases {
            let same = |text: &str| words(text) == words(&case.found);
            let as_good = judged
                .reply
                .iter()
                .find(|other| other.case == case.name && same(&other.text));
            if same(&case.expected) {
                exact += 1;
            } else if let Some(other) = as_good {
                acceptable += 1;
                println!("  {}: acceptable: {}", case.name, other.reason);
            } else {
                println!(
                    "  {}\n    expected {:?}\n    found    {:?}",
                    case.name,
                    case.expected.trim(),
                    case.found
                );
            }
        }
        figures.push(Figure {
            name: format!("{name}, exact or acceptable"),
            hits: exact + acceptable,
            of: cases.len(),
            goal: Some(REPLIES),
            note: format!(", {exact} of them exact"),
        });
    }
    Ok(figures)
}

/// Replies are compared by their words, in order: talon joins lines that a mail program has broken.
fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

fn of_talons_tests(root: &Path, python: &str, talon: &Path) -> Result<Vec<ReplyCase>> {
    #[derive(Deserialize)]
    struct Case {
        name: String,
        body: String,
        reply: String,
    }
    let tests = talon.join("text_quotations_test.py");
    let cases: Vec<Case> = expectations(root, python, "talon.py", &tests)?;
    let cases = cases.into_iter().map(|case| ReplyCase {
        name: format!("talon/{}", case.name),
        expected: case.reply,
        found: answer("text/plain", case.body.as_bytes()).reply,
    });
    Ok(cases.collect())
}

/// Parses a body as that of a mail that answers another.
fn answer(content_type: &str, body: &[u8]) -> Message {
    let head = format!(
        "From: Tom Hill <tom@contoso.example>\r\nTo: support@acme.example\r\nSubject: Re: Printer\r\n\
         Message-ID: <2@contoso.example>\r\nIn-Reply-To: <1@acme.example>\r\n\
         Content-Type: {content_type}; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    );
    let raw = Bytes::from([head.as_bytes(), body].concat());
    parse(&raw, &ParseLimits::default(), &[])
}
