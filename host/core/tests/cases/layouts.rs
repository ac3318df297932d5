//! The cases with a layout.json: the links of the mail, its labels with their values, and the HTML that a reader may see.
//! UPDATE=1 rewrites these files.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::{mails, parse};

#[test]
fn links_and_pairs_as_expected() {
    let update = std::env::var_os("UPDATE").is_some();
    let mut trouble = String::new();
    let mut cases = 0;
    for (folder, raw) in mails() {
        let path = folder.join("layout.json");
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        cases += 1;
        let mail = parse(&raw);
        let links: Vec<Value> = postroom_core::links(&mail)
            .into_iter()
            .map(|link| json!([link.text, link.url]))
            .collect();
        let found = json!({ "links": links, "pairs": postroom_core::pairs(&mail) });
        if update {
            let text = serde_json::to_string_pretty(&found).expect("JSON") + "\n";
            std::fs::write(&path, text).expect("layout.json can be written");
            continue;
        }
        let expected: Value =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for part in ["links", "pairs"] {
            if expected[part] != found[part] {
                let _ = writeln!(
                    trouble,
                    "{} {part}\n  expected {}\n  found    {}",
                    folder.display(),
                    expected[part],
                    found[part]
                );
            }
        }
    }
    assert!(trouble.is_empty(), "\n{trouble}");
    assert!(cases > 0, "no case has a layout.json");
}
