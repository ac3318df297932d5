//! The recipes for rules (`examples/recipes`): each decides its mails as its cases expect, and the pages contain it
//! unchanged.

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
/// The fewest mails of a recipe: one that raises the alert, one that closes it, an odd one, and an unrelated one.
const FEWEST_CASES: usize = 4;

struct Case {
    mail: PathBuf,
    expected: Value,
}

/// Returns `NAME.js` and the mails of `NAME.cases`, by name.
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

/// Returns the actions of a case; none for a mail that passes.
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

/// Returns the fenced blocks of a language between a heading and the next.
fn blocks<'a>(page: &'a str, heading: &str, language: &str) -> Vec<&'a str> {
    let part = page.split_once(heading).unwrap().1;
    let part = part.split("\n## ").next().unwrap();
    let fence = format!("\n```{language}\n");
    let blocks: Vec<&str> = part
        .split(&fence)
        .skip(1)
        .map(|rest| rest.split_once("\n```").unwrap().0)
        .collect();
    assert!(!blocks.is_empty(), "no block of {language}");
    blocks
}

/// The page shows the output of `rule try` for the first rule, except for time and memory.
#[test]
fn the_first_rule_is_tried_as_the_page_shows_it() {
    let page = std::fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let shown = page.split_once("\n## Trying a rule\n").unwrap().1;
    let shown = shown.split_once("```\n").unwrap().1;
    let shown = shown.split_once("```\n").unwrap().0;
    let (command, shown) = shown.split_once('\n').unwrap();
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.ok(&["init", "."]);
    let words: Vec<&str> = command.split(' ').skip(2).collect();
    let said = room.ok(&words);
    let without_figures = |text: &str| text.split_once("\n\ntime ").unwrap().0.to_owned();
    assert_eq!(without_figures(&said), without_figures(shown));
}

#[test]
fn the_tutorial_works_as_it_is_written() {
    let page = std::fs::read_to_string(root().join("docs/rules.md")).unwrap();
    let of = |language| blocks(&page, "## From an odd backup mail", language);
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.ok(&["init", "."]);
    let mail = "rules/nightly.cases/failed.eml";
    room.write(mail, of("eml")[0]);
    let (rules, shown) = (of("js"), of("text"));
    assert_eq!(rules.len(), shown.len(), "each rule is tried");
    for (rule, shown) in rules.iter().zip(shown) {
        room.write("rules/nightly.js", rule);
        let said = room.ok(&["rule", "try", "rules/nightly.js", mail]);
        assert!(
            said.starts_with(&format!("{shown}\n\ntime ")),
            "{said}\n---\n{shown}"
        );
    }
    let good = of("eml")[0].replace("FAILED", "OK");
    room.write("rules/nightly.cases/good.eml", good);
    let row = &room.rows(&[
        "rule",
        "try",
        "rules/nightly.js",
        "rules/nightly.cases/good.eml",
    ])[0];
    assert_eq!(row["actions"][0]["state"], "resolved", "{row:#}");
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let before = r#"rules = ["rules/first.js", "standard"]"#;
    let named = config.replacen(before, of("toml")[0], 1);
    assert_ne!(named, config);
    room.write("postroom.toml", named);
    room.ok(&["check"]);
    room.ok(&["rule", "test", "--update"]);
    let tested = room.ok(&["rule", "test"]);
    for case in ["ok       failed", "ok       good"] {
        assert!(tested.contains(case), "{tested}");
    }
    room.write("spool/failed.eml", of("eml")[0]);
    room.once();
    let item = &room.items()[0];
    assert_eq!(item["kind"], "alert", "{item:#}");
}
