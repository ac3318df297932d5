//! Figures of the classification on public corpora, which `scripts/corpora` downloads into target/corpora. Run by
//! `cargo test -p postroom-core --test cases figures -- --ignored --nocapture`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use postroom_core::{Classification, Message};

use crate::parse;

/// Corpora of bounces, with the lowest recall allowed.
const BOUNCES: &[(&str, f64)] = &[("flufl", 0.97), ("bounceparser", 0.95), ("bounced", 0.95)];
/// Corpora of other mail, for precision.
const ORDINARY: &[&str] = &[
    "horde",
    "mail-parser",
    "notmuch",
    "python",
    "request-tracker",
    "rspamd",
];
/// Mails in the corpora of bounces that answer by themselves.
const AUTO_REPLIES: &[&str] = &[
    "bounceparser/aol-vacation.msg",
    "bounceparser/autoreply.msg",
    "bounceparser/bluebottle.msg",
    "bounceparser/boxbe-cr.msg",
    "bounceparser/boxbe-cr2.msg",
    "bounceparser/polish-autoreply.msg",
    "bounceparser/warning-6.msg",
    "flufl/data/qmail_08.txt",
];
/// Other mails in the corpora of bounces: a person's, spam, and a complaint.
const NEITHER: &[&str] = &[
    "bounced/bounce-auto-respond.eml",
    "bounceparser/spam-bogus-email-in-report.msg",
    "bounceparser/spam-with-image.msg",
    "flufl/data/groupwise_03.txt",
];
/// Bounces and automatic answers among ordinary mail.
const OTHERS: &[(&str, Classification)] = &[
    ("python/msg_05.txt", Classification::Bounce),
    ("python/msg_16.txt", Classification::Bounce),
    ("python/msg_25.txt", Classification::Bounce),
    ("python/msg_42.txt", Classification::Bounce),
    ("python/msg_43.txt", Classification::Bounce),
    (
        "request-tracker/emails/multipart-report",
        Classification::Bounce,
    ),
];

#[test]
#[ignore = "needs target/corpora, which scripts/corpora downloads"]
fn figures_of_classification_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/corpora");
    let mut mails = BTreeMap::new();
    for corpus in BOUNCES.iter().map(|(name, _)| name).chain(ORDINARY) {
        collect(&root, &root.join(corpus), &mut mails);
    }
    let expected: BTreeMap<&str, Classification> = mails
        .keys()
        .map(|name| (name.as_str(), expected(name)))
        .collect();
    let mut trouble = Vec::new();
    for (corpus, least) in BOUNCES {
        let (found, of) = recall(&mails, &expected, Classification::Bounce, corpus);
        trouble.extend(print(
            &format!("bounces of {corpus}: recall"),
            found,
            of,
            *least,
        ));
    }
    let (found, of) = recall(&mails, &expected, Classification::AutoReply, "");
    trouble.extend(print("automatic answers: recall", found, of, 0.95));
    for kind in [Classification::Bounce, Classification::AutoReply] {
        let wrong: Vec<_> = mails
            .iter()
            .filter(|(name, mail)| mail.classification == kind && expected[name.as_str()] != kind)
            .collect();
        let ordinary = expected.values().filter(|other| **other != kind).count();
        for (name, mail) in &wrong {
            println!("  {name}: {kind:?} by {}", mail.classification_reason);
        }
        trouble.extend(print(
            &format!("other mail that is no {kind:?}"),
            ordinary - wrong.len(),
            ordinary,
            0.99,
        ));
    }
    trouble.extend(addresses(&root, &mails));
    assert!(trouble.is_empty(), "{trouble:#?}");
}

/// Compares the failed recipients with those that flufl.bounce's tests expect.
fn addresses(root: &Path, mails: &BTreeMap<String, Message>) -> Option<String> {
    let table = std::fs::read_to_string(root.join("flufl/test_detectors.py")).ok()?;
    let table = table.split_once("DETECTORS = [")?.1;
    let table = table.split_once("\n]")?.0.replace('\n', " ");
    let (mut right, mut of) = (0, 0);
    for row in table.split("('").skip(1) {
        let file = row.split('\'').nth(2).unwrap_or("");
        let wanted: BTreeSet<String> = row
            .split("b'")
            .skip(1)
            .filter_map(|word| word.split('\'').next())
            .map(str::to_ascii_lowercase)
            .collect();
        let Some(mail) = mails
            .get(&format!("flufl/data/{file}"))
            .filter(|_| !wanted.is_empty())
        else {
            continue;
        };
        let recipients = mail.delivery.iter().flat_map(|report| &report.recipients);
        let found: BTreeSet<String> = recipients
            .clone()
            .map(|one| one.email.to_ascii_lowercase())
            .collect();
        of += 1;
        if found == wanted {
            right += 1;
        } else {
            println!("  {file}: expected {wanted:?}, found {found:?}");
        }
        let delay = row.contains("], True)");
        if recipients.clone().any(|one| delay && one.permanent) {
            println!("  {file}: a delay was read as a failure");
        }
    }
    print("recipients as flufl.bounce expects", right, of, 0.95)
}

fn expected(name: &str) -> Classification {
    let bounces = BOUNCES
        .iter()
        .any(|(corpus, _)| name.starts_with(&format!("{corpus}/")));
    if AUTO_REPLIES.contains(&name) {
        Classification::AutoReply
    } else if bounces && !NEITHER.contains(&name) {
        Classification::Bounce
    } else {
        let other = OTHERS.iter().find(|(other, _)| *other == name);
        other.map_or(Classification::Person, |(_, kind)| *kind)
    }
}

fn recall(
    mails: &BTreeMap<String, Message>,
    expected: &BTreeMap<&str, Classification>,
    kind: Classification,
    corpus: &str,
) -> (usize, usize) {
    let wanted = mails.iter().filter(|(name, _)| {
        expected[name.as_str()] == kind
            && (corpus.is_empty() || name.starts_with(&format!("{corpus}/")))
    });
    let mut found = (0, 0);
    for (name, mail) in wanted {
        found.1 += 1;
        if mail.classification == kind {
            found.0 += 1;
        } else {
            println!(
                "  {name}: {:?} by {}; {:?}",
                mail.classification, mail.classification_reason, mail.subject
            );
        }
    }
    found
}

/// Prints a figure. Returns it as trouble if it is below the lowest allowed.
fn print(what: &str, found: usize, of: usize, least: f64) -> Option<String> {
    #[allow(clippy::cast_precision_loss)]
    let share = found as f64 / of.max(1) as f64;
    let line = format!("{what}: {found} of {of} ({share:.3}, at least {least})");
    println!("{line}");
    (share < least || of == 0).then_some(line)
}

fn collect(root: &Path, folder: &Path, mails: &mut BTreeMap<String, Message>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let path: PathBuf = entry.path();
        if path.is_dir() {
            collect(root, &path, mails);
            continue;
        }
        let name = path.strip_prefix(root).expect("below the root");
        let name = name.to_string_lossy().replace('\\', "/");
        let is_mail = !name.ends_with("VERSION") && !name.ends_with(".py");
        if is_mail && let Ok(raw) = std::fs::read(&path) {
            mails.insert(name, parse(&Bytes::from(raw)));
        }
    }
}
