//! Each folder of tests/cases/mail: the mail is parsed and compared with its expected.json. UPDATE=1 rewrites these.

use std::fmt::Write;

use postroom_core::{Authentication, Message, message_id};
use serde_json::{Map, Value, json};

use crate::{mails, parse};

#[test]
fn mails_parse_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut trouble = String::new();
    for (folder, raw) in mails() {
        let mail = parse(&raw);
        let path = folder.join("expected.json");
        let found = shown(&mail);
        if update {
            let text = serde_json::to_string_pretty(&found).expect("JSON") + "\n";
            std::fs::write(&path, text).expect("expected.json can be written");
            continue;
        }
        let expected: Value = match std::fs::read_to_string(&path) {
            Ok(text) => {
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            }
            Err(e) => panic!("{}: {e}; UPDATE=1 writes it", path.display()),
        };
        let differences = compare(&expected, &found);
        if !differences.is_empty() {
            let _ = write!(trouble, "\n{}\n{differences}", folder.display());
        }
    }
    assert!(trouble.is_empty(), "{trouble}");
}

#[test]
fn message_id_alone_agrees_with_the_parsed_one() {
    for (folder, raw) in mails() {
        let mail = parse(&raw);
        match message_id(&raw) {
            Some(id) => assert_eq!(id, mail.message_id, "{}", folder.display()),
            None => assert!(
                mail.message_id.ends_with("@synthetic.postroom.invalid"),
                "{}: {}",
                folder.display(),
                mail.message_id
            ),
        }
    }
}

/// Returns the part of a mail that a case pins. What is empty or as usual is left out.
fn shown(mail: &Message) -> Value {
    let mut out = Map::new();
    let mut put = |name: &str, value: Value, usual: Value| {
        if value != usual {
            out.insert(name.to_owned(), value);
        }
    };
    put("subject", json!(mail.subject), json!(""));
    put(
        "from",
        json!(mail.from.as_ref().map(ToString::to_string)),
        Value::Null,
    );
    put(
        "to",
        addresses(&mail.to),
        json!(["Acme Support <support@acme.example>"]),
    );
    put("cc", addresses(&mail.cc), json!([]));
    put("reply_to", addresses(&mail.reply_to), json!([]));
    put("date", json!(mail.date), json!("2024-03-04T10:15:00+01:00"));
    put("message_id", json!(mail.message_id), Value::Null);
    put("references", json!(mail.references), json!([]));
    put(
        "classification",
        json!(mail.classification),
        json!("person"),
    );
    let no_mark = "no mark of a machine";
    put(
        "classification_reason",
        json!(mail.classification_reason),
        json!(no_mark),
    );
    put("challenge", json!(mail.challenge), json!(false));
    put("delivery", json!(mail.delivery), Value::Null);
    put("null_sender", json!(mail.null_sender), json!(false));
    put(
        "authentication",
        json!(mail.authentication),
        json!(Authentication::UNKNOWN),
    );
    put("text", json!(mail.text), json!(""));
    put("reply", json!(mail.reply), json!(mail.text.trim()));
    put("html", json!(mail.html.is_some()), json!(false));
    put("calendar", json!(mail.calendar), Value::Null);
    put("repairs", json!(mail.repairs), json!([]));
    let attachments: Vec<Value> = mail
        .attachments
        .iter()
        .map(|attachment| {
            json!({
                "name": attachment.name,
                "type": attachment.content_type,
                "charset": attachment.charset,
                "size": attachment.bytes.len(),
                "inline": attachment.inline,
                "content_id": attachment.content_id,
            })
        })
        .collect();
    put("attachments", json!(attachments), json!([]));
    Value::Object(out)
}

fn addresses(list: &[postroom_core::Address]) -> Value {
    list.iter()
        .map(|address| json!(address.to_string()))
        .collect()
}

fn compare(expected: &Value, found: &Value) -> String {
    let empty = Map::new();
    let expected = expected.as_object().unwrap_or(&empty);
    let found = found.as_object().unwrap_or(&empty);
    let mut out = String::new();
    let mut names: Vec<&String> = expected.keys().chain(found.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (left, right) = (expected.get(name), found.get(name));
        if left != right {
            let show =
                |value: Option<&Value>| value.map_or("(as usual)".to_owned(), Value::to_string);
            let _ = writeln!(
                out,
                "  {name}\n    expected {}\n    found    {}",
                show(left),
                show(right)
            );
        }
    }
    out
}
