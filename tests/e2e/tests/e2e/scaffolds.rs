//! The output of `postroom plugin new`: each language's project, built as its README says, decides its own cases.

use std::path::{Path, PathBuf};

use postroom_e2e::{Room, root};
use postroom_stand::Stand;
use serde_json::Value;
use wit_bindgen_c::{Enabled, Opts};
use wit_bindgen_core::Files;

const NAME: &str = "disk-full";
const CONTRACT: &str = "wit/plugin.wit";
const C_BINDINGS: &str = "host/app/src/templates/plugin/c/postroom";

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

fn is_built(language: &str) -> PathBuf {
    root()
        .join("target/scaffolds")
        .join(language)
        .join(NAME)
        .join(format!("{NAME}.wasm"))
}

/// Checks that the project that was built is the one `plugin new` writes, that its cases pass, and that it needs no grant.
fn decides_its_cases(language: &str, on_demand: bool) {
    let room = room();
    let built = is_built(language);
    let project = built.parent().unwrap();
    room.ok(&["plugin", "new", "--lang", language, NAME]);
    let written = files(&room.path().join(NAME));
    assert!(written.iter().any(|file| file == Path::new("Makefile")));
    for file in &written {
        let ours = std::fs::read(project.join(file)).unwrap_or_default();
        assert!(
            ours == std::fs::read(room.path().join(NAME).join(file)).unwrap(),
            "{language}: {} is of another version: scripts/guests scaffolds",
            file.display()
        );
    }

    let built = built.to_str().unwrap();
    let tested = room.rows(&["rule", "test", built]);
    assert_eq!(tested.len(), 2, "{language}: {tested:#?}");
    let inspected = &room.rows(&["plugin", "inspect", built])[0];
    assert_eq!(inspected["kind"], "component");
    assert_eq!(inspected["world"], "postroom:plugin/rule@2.0.0");
    assert_eq!(inspected["on_demand"], on_demand, "{language}");
    assert_eq!(inspected["limits"]["memory"], "64MiB");
    let needs = inspected["needs"].as_array().unwrap();
    assert!(!needs.contains(&Value::from("the grant kv")), "{language}");

    let mail = project.join(format!("{NAME}.cases/full.eml"));
    let tried = &room.rows(&["rule", "try", built, mail.to_str().unwrap()])[0];
    assert_eq!(tried["actions"][0]["key"], "disk/srv-01.acme.example");
}

/// Returns all files below a folder, by their path in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut open) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => found.push(path.strip_prefix(folder).unwrap().to_owned()),
            }
        }
    }
    found
}

#[test]
fn a_project_in_rust() {
    decides_its_cases("rust", false);
}

#[test]
fn a_project_in_javascript() {
    decides_its_cases("js", true);
}

#[test]
fn a_project_in_python() {
    decides_its_cases("python", true);
}

#[test]
fn a_project_in_c() {
    decides_its_cases("c", false);
}

#[test]
fn nothing_is_overwritten_and_names_are_checked() {
    let room = room();
    room.ok(&["plugin", "new", "--lang", "c", "rules/disk-full"]);
    room.write("rules/disk-full/rule.c", "mine");
    room.write("a-file", "mine");
    std::fs::create_dir(room.path().join("empty")).unwrap();
    room.ok(&["plugin", "new", "--lang", "js", "empty"]);
    for (lang, name, says, code) in [
        ("c", "rules/disk-full", "already exists", 1),
        ("rust", "rules/disk-full", "already exists", 1),
        ("rust", "a-file", "already exists", 1),
        ("rust", "Disk Full", "is not a valid name for a rule", 1),
        ("rust", "..", "is not a valid name for a rule", 1),
        (
            "cobol",
            "disk-full",
            "[possible values: rust, js, python, c]",
            2,
        ),
    ] {
        let output = room.postroom(&["plugin", "new", "--lang", lang, name]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(says), "{said}");
    }
    let kept = std::fs::read_to_string(room.path().join("rules/disk-full/rule.c")).unwrap();
    assert_eq!(kept, "mine");
}

/// Compares `postroom.c` and `postroom.h` of a project in C with the generated ones. UPDATE=1 writes them.
#[test]
fn the_bindings_for_c_are_what_the_contract_says() {
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_file(root().join(CONTRACT)).unwrap();
    let world = resolve.select_world(&[package], Some("rule")).unwrap();
    let options = Opts {
        // `postroom plugin build` determines the world.
        no_object_file: true,
        autodrop_borrows: Enabled::Yes,
        rename_world: Some("postroom".into()),
        ..Default::default()
    };
    let mut made = Files::default();
    options
        .build()
        .generate(&mut resolve, world, &mut made)
        .unwrap();
    assert_eq!(made.iter().count(), 2);
    for (name, text) in made.iter() {
        let path = root().join(C_BINDINGS).join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, text).unwrap();
        }
        assert!(
            std::fs::read(&path).unwrap_or_default() == text,
            "{C_BINDINGS}/{name} is not what {CONTRACT} says: UPDATE=1 writes it"
        );
    }
}
