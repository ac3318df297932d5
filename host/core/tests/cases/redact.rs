//! Each folder of tests/cases/redact: the redacted mail is compared with its expected.eml. UPDATE=1 rewrites these. For all
//! mails of the other cases, redaction keeps what rules see, except for private data.

use std::path::PathBuf;

use bytes::Bytes;
use postroom_core::{Message, Redactor};

use crate::{mails, parse};

#[test]
fn mails_are_redacted_as_expected() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/redact");
    let update = std::env::var_os("UPDATE").is_some();
    let (mut count, mut wrong) = (0, Vec::new());
    for entry in std::fs::read_dir(&root).expect("tests/cases/redact can be read") {
        let folder = entry.expect("an entry of tests/cases/redact").path();
        let raw = std::fs::read(folder.join("mail.eml")).expect("a mail.eml");
        let found = Redactor::default().mail(&Bytes::from(raw));
        let expected = folder.join("expected.eml");
        if update {
            std::fs::write(&expected, &found).expect("expected.eml can be written");
        }
        let wanted = std::fs::read(&expected).unwrap_or_default();
        if wanted != found {
            wrong.push(format!(
                "{}:\n{}",
                folder.display(),
                String::from_utf8_lossy(&found)
            ));
        }
        count += 1;
    }
    assert!(count > 0, "no cases in {}", root.display());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_mail_keeps_its_shape_and_loses_its_addresses() {
    for (folder, raw) in mails() {
        let name = folder.display();
        let mail = parse(&raw);
        let redacted = Bytes::from(Redactor::default().mail(&raw));
        let again = parse(&redacted);
        assert_eq!(
            mail.attachments.len(),
            again.attachments.len(),
            "{name}: attachments"
        );
        for (one, other) in mail.attachments.iter().zip(&again.attachments) {
            assert_eq!(one.content_type, other.content_type, "{name}");
            assert_eq!(one.inline, other.inline, "{name}");
        }
        assert_eq!(mail.classification, again.classification, "{name}");
        assert_eq!(mail.html.is_some(), again.html.is_some(), "{name}");
        assert_eq!(
            mail.text.trim().lines().count(),
            again.text.trim().lines().count(),
            "{name}: {}\n---\n{}",
            mail.text,
            again.text
        );
        assert_eq!(mail.references.len(), again.references.len(), "{name}");
        let text = String::from_utf8_lossy(&redacted).to_lowercase();
        for address in addresses(&mail) {
            assert!(!text.contains(&address), "{name}: {address} is left");
        }
    }
}

#[test]
fn the_same_redactor_gives_the_same_stand_in() {
    let mut redactor = Redactor::default();
    let once = redactor.text("dana@client.example, 10.1.2.3, 1234567");
    assert_eq!(
        once,
        redactor.text("dana@client.example, 10.1.2.3, 1234567")
    );
    assert_ne!(once, redactor.text("tom@client.example, 10.1.2.4, 1234568"));
}

#[test]
fn domains_that_are_kept_stay() {
    let mut redactor = Redactor::keeping(&["veeam.example".to_owned()]);
    assert_eq!(
        redactor.text("job@mail.veeam.example by dana@client.example, www.veeam.example"),
        "job@mail.veeam.example by person1@example.org, www.veeam.example"
    );
}

fn addresses(mail: &Message) -> Vec<String> {
    let lists = [&mail.to, &mail.cc, &mail.reply_to].into_iter().flatten();
    lists
        .chain(&mail.from)
        .map(|address| address.email.to_lowercase())
        .filter(|email| email.contains('@'))
        .collect()
}
