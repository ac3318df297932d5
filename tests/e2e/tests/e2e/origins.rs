//! The origin of a decision: `rule try` and the recorded decision name the position in the rule's own files, as each case
//! expects.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use postroom_e2e::{Room, both, cases, mail, root};
use postroom_stand::Stand;
use serde_json::{Value, json};

/// A rule with its own tenant and spool mailbox.
struct Case {
    name: String,
    /// The rule's file, relative to the room.
    rule: String,
    /// `None` for a rule that fails.
    outcome: Option<String>,
    /// Innermost first; `None` if nothing is returned.
    path: Option<Vec<String>>,
}

#[test]
fn every_case_is_decided_where_it_says() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let cases: Vec<Case> = cases("tests/cases/origins")
        .iter()
        .map(|folder| case(&room, folder))
        .collect();
    let mut config = String::from("data_dir = \"data\"\n");
    for Case { name, rule, .. } in &cases {
        let _ = write!(
            config,
            "[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [{rule:?}]\n"
        );
        room.write(&format!("spool/{name}/one.eml"), mail(name, "…"));
    }
    room.write("postroom.toml", config);
    room.write("one.eml", mail("one", "…"));
    room.once();

    let mut wrong = String::new();
    for case in &cases {
        let tried = tried(&room, case);
        let decision = room.decision(&case.name);
        for problem in [judge_try(case, &tried), judge_decision(case, &decision)] {
            if let Err(problem) = problem {
                let _ = writeln!(wrong, "{}: {problem}\n{tried:#}\n{decision:#}\n", case.name);
            }
        }
        let said = both(&room.postroom(&["rule", "try", &case.rule, "one.eml"]));
        let lines: Vec<&str> = said.lines().map(str::trim).collect();
        for line in words(case) {
            if !lines.contains(&line.as_str()) {
                let _ = writeln!(wrong, "{}: no line {line:?} in\n{said}", case.name);
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    room.assert_balanced(cases.len() as u64);
}

#[test]
fn a_component_has_no_lines() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let core = root().join("target/guests/standard.wasm");
    room.ok(&["plugin", "build", core.to_str().unwrap(), "-o", "rule.wasm"]);
    room.write("one.eml", mail("one", "…"));
    let tried = &room.rows(&["rule", "try", "rule.wasm", "one.eml"])[0];
    assert_eq!(tried["decided_at"], Value::Null, "{tried:#}");
    assert_eq!(tried["called_from"], json!([]), "{tried:#}");
    let said = room.ok(&["rule", "try", "rule.wasm", "one.eml"]);
    assert!(
        !said.contains("  at ") && !said.contains("nothing"),
        "{said}"
    );
}

/// Copies a case's rule into the room.
fn case(room: &Room, folder: &Path) -> Case {
    let name = folder.file_name().unwrap().to_string_lossy().into_owned();
    let mut rule = None;
    for file in files(folder) {
        let inside = file.strip_prefix(folder).unwrap().display().to_string();
        let content = std::fs::read(&file).unwrap();
        room.write(&format!("rules/{name}/{inside}"), content);
        if inside.starts_with("rule.") {
            rule = Some(format!("rules/{name}/{inside}"));
        }
    }
    let expected = std::fs::read(folder.join("expected.json")).unwrap();
    let expected: Value = serde_json::from_slice(&expected).unwrap();
    let place = |place: &Value| format!("rules/{name}/{}", place.as_str().unwrap());
    let path = expected["path"].as_array();
    Case {
        rule: rule.unwrap_or_else(|| panic!("{name} has no rule")),
        outcome: expected["outcome"].as_str().map(str::to_owned),
        path: path.map(|path| path.iter().map(place).collect()),
        name,
    }
}

/// Returns all files of a folder except `expected.json`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files(&path),
            false => vec![path],
        })
        .filter(|path| !path.ends_with("expected.json"))
        .collect()
}

fn tried(room: &Room, case: &Case) -> Value {
    let output = room.postroom(&["rule", "try", &case.rule, "one.eml", "--json"]);
    let good = output.status.success() == case.outcome.is_some();
    assert!(good, "{}: {}", case.name, both(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn judge_try(case: &Case, tried: &Value) -> Result<(), String> {
    let path = case.path.as_deref().unwrap_or_default();
    same(&tried["outcome"], &json!(case.outcome))?;
    same(&tried["decided_at"], &json!(path.first()))?;
    same(
        &tried["called_from"],
        &json!(path.get(1..).unwrap_or_default()),
    )
}

/// Checks a decision. A mail that the rule passes or fails on is decided by `fallback`, which has no lines.
fn judge_decision(case: &Case, decision: &Value) -> Result<(), String> {
    let path = case.path.as_deref().unwrap_or_default();
    let decides = case.outcome.as_deref().is_some_and(|it| it != "pass");
    let rule = if decides { &case.rule } else { "fallback" };
    same(&decision["rule"], &json!(rule))?;
    let trouble = &decision["troubles"][0]["location"];
    match case.outcome {
        Some(_) => same(trouble, &Value::Null)?,
        None => same(trouble, &json!(path.first()))?,
    }
    let (place, calls) = match (decides, path) {
        (true, [place, calls @ ..]) => (Some(place), calls),
        _ => (None, &[][..]),
    };
    same(&decision["decided_at"], &json!(place))?;
    match calls {
        [] => same(&decision["called_from"], &Value::Null),
        calls => same(&decision["called_from"], &json!(calls)),
    }
}

fn same(found: &Value, expected: &Value) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{found} instead of {expected}")),
    }
}

/// Returns the lines that `rule try` prints for people.
fn words(case: &Case) -> Vec<String> {
    match (&case.outcome, case.path.as_deref()) {
        (None, _) => Vec::new(),
        (_, None) => vec!["decide returned nothing".into()],
        (_, Some([])) => vec!["at a position that the script hides".into()],
        (_, Some([place, calls @ ..])) => {
            let mut lines = vec![format!("at {place}")];
            lines.extend(calls.iter().map(|call| format!("called from {call}")));
            lines
        }
    }
}
