//! The recipes for rules (`examples/recipes`): each decides its mails as its cases say, and stands in the pages as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use postroom_e2e::{Room, root};
use postroom_stand::Stand;
use serde_json::Value;

/// The pages that explain the recipes.
const PAGES: &[&str] = &[
    "docs/rule-recipes-backup.md",
    "docs/rule-recipes-monitoring.md",
    "docs/rule-recipes-office.md",
];
/// Mails of a recipe at least: what raises it, what closes it, an odd one, and one that is none of its business.
const FEWEST_CASES: usize = 4;

struct Case {
    mail: PathBuf,
    expected: Value,
}

/// `NAME.js` and the mails of `NAME.cases`, by name.
fn recipes() -> BTreeMap<String, Vec<Case>> {
    let folder = root().join("examples/recipes");
    let recipes: BTreeMap<String, Vec<Case>> = files(&folder, "js")
        .iter()
        .map(|rule| (stem(rule), cases(&rule.with_extension("cases"))))
        .collect();
    assert!(!recipes.is_empty(), "no recipe in {}", folder.display());
    recipes
}

fn cases(folder: &Path) -> Vec<Case> {
    let cases: Vec<Case> = files(folder, "eml")
        .into_iter()
        .map(|mail| Case {
            expected: read_json(&mail.with_extension("expected.json")),
            mail,
        })
        .collect();
    assert!(cases.len() >= FEWEST_CASES, "{}", folder.display());
    cases
}

fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == extension))
        .collect();
    files.sort();
    files
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap().to_string_lossy().into_owned()
}

fn read_json(path: &Path) -> Value {
    let text =
        std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The actions of a case, none for a mail that passes.
fn actions(case: &Case) -> &[Value] {
    case.expected["actions"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

#[test]
fn every_recipe_decides_its_mails() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    for (name, cases) in recipes() {
        let rule = format!("rules/{name}.js");
        let source = root().join(format!("examples/recipes/{name}.js"));
        room.write(&rule, std::fs::read(source).unwrap());
        for case in cases {
            let settings = toml::to_string(&case.expected["settings"]).unwrap_or_default();
            let settings = format!("[tenants.acme.settings.{rule:?}]\n{settings}");
            room.write("postroom.toml", room.config(&[&rule], &settings));
            let mail = case.mail.canonicalize().unwrap().display().to_string();
            let answer = &room.rows(&["rule", "try", &rule, &mail, "--mailbox", "support"])[0];
            for key in ["outcome", "actions"] {
                assert_eq!(answer[key], case.expected[key], "{mail}: {answer:#}");
            }
            let refused = answer["refused"].as_array().map_or(0, Vec::len);
            assert_eq!(refused, 0, "{mail}: {answer:#}");
        }
    }
}

#[test]
fn every_recipe_passes_what_is_not_its_business() {
    for (name, cases) in recipes() {
        let passes = cases.iter().any(|case| case.expected["outcome"] == "pass");
        assert!(passes, "{name} takes every mail it was shown");
    }
}

#[test]
fn what_a_recipe_closes_it_raised_under_the_same_key() {
    let mut closing = 0;
    for (name, cases) in recipes() {
        let keys = |state: &str| -> BTreeSet<&str> {
            cases
                .iter()
                .flat_map(actions)
                .filter(|action| action["state"] == state)
                .filter_map(|action| action["key"].as_str())
                .collect()
        };
        let (raised, closed) = (keys("firing"), keys("resolved"));
        assert!(
            raised.is_empty() || raised.intersection(&closed).next().is_some(),
            "{name}: no case closes any of {raised:?}; closed are {closed:?}"
        );
        closing += closed.len();
    }
    assert!(closing > 0, "no recipe closes anything");
}

#[test]
fn the_pages_show_each_recipe_as_it_is() {
    let pages: String = PAGES
        .iter()
        .map(|page| std::fs::read_to_string(root().join(page)).unwrap())
        .collect();
    for name in recipes().keys() {
        let file = format!("examples/recipes/{name}.js");
        let rule = std::fs::read_to_string(root().join(&file)).unwrap();
        assert!(
            pages.contains(&format!("```js\n{rule}```")),
            "no page shows {file} as it is"
        );
        assert!(pages.contains(&file), "no page names {file}");
    }
}
