//! Tests of the core on whole mails: folders of cases, limits, big and hostile mails, mutations, and completed decisions.

mod authentication;
mod bounces;
mod charsets;
mod classification;
mod corpus;
mod decisions;
mod headers;
mod hostile;
mod layouts;
mod mutations;
mod opened;
mod params;
mod redact;
mod replies;

use std::path::PathBuf;

use bytes::Bytes;
use postroom_core::{Message, ParseLimits};

/// The authserv-id that the cases trust.
const BOUNDARY: &str = "mx.postroom.example";

/// Returns the folder of the mail cases, shared with other tests of the repository.
fn cases() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/mail")
}

/// Returns every case: its folder and its mail, sorted by name.
fn mails() -> Vec<(PathBuf, Bytes)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(cases()).expect("tests/cases/mail can be read") {
        let folder = entry.expect("an entry of tests/cases/mail").path();
        let mail = std::fs::read(folder.join("mail.eml"))
            .unwrap_or_else(|e| panic!("{}/mail.eml: {e}", folder.display()));
        found.push((folder, Bytes::from(mail)));
    }
    assert!(!found.is_empty(), "no cases in {}", cases().display());
    found.sort();
    found
}

fn parse(raw: &Bytes) -> Message {
    postroom_core::parse(raw, &ParseLimits::default(), &[BOUNDARY.to_owned()])
}
