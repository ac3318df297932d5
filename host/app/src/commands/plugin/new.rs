//! `postroom plugin new`: creates a folder with a rule in a language that compiles to a component, which builds, passes its
//! tests and runs unchanged.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use include_dir::{Dir, DirEntry, include_dir};

use crate::cli::Language;

/// The templates by language, and `common` for all languages. In paths and texts `{{name}}` is the rule's name and `{{version}}` Postroom's. A file
/// `X.in` is written as `X`; under its real name, tools that search this repository would treat it as ours.
static TEMPLATES: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/src/templates/plugin");
static SDK: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/../../plugins/sdk/src");
const CONTRACT: &str = include_str!("../../../../../wit/plugin.wit");

const NAME_BYTES: usize = 64;

/// Writes the project into a folder, which must be missing or empty. The last part of its path is the rule's name.
pub fn new(language: Language, dir: &Path) -> anyhow::Result<ExitCode> {
    let name = name_of(dir)?;
    refuse_occupied(dir)?;
    for (file, text) in files(language, name) {
        let file = dir.join(file);
        write_new(&file, &text).with_context(|| format!("writing {}", file.display()))?;
        println!("{}", file.display());
    }
    eprintln!("{}", next_steps(language, dir, name));
    Ok(ExitCode::SUCCESS)
}

/// Returns the name of the rule, suitable for a file, a crate and an npm package.
fn name_of(dir: &Path) -> anyhow::Result<&str> {
    let name = dir
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let sound = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(letters)
        && !name.ends_with('-')
        && !name.contains("--")
        && name.len() <= NAME_BYTES;
    if !sound {
        bail!(
            "{:?} is not a valid name for a rule; help: start with a lower-case letter, continue with lower-case letters, digits and single hyphens, \
             {NAME_BYTES} at most: postroom plugin new --lang rust disk-full",
            dir.display().to_string()
        );
    }
    if name == "postroom-sdk" {
        bail!("postroom-sdk is the SDK's name; help: name the rule for what it does");
    }
    Ok(name)
}

fn refuse_occupied(dir: &Path) -> anyhow::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("looking at {}", dir.display())),
        Ok(there) if there.is_dir() => {
            let mut inside =
                fs::read_dir(dir).with_context(|| format!("looking into {}", dir.display()))?;
            if inside.next().is_none() {
                return Ok(());
            }
        }
        Ok(_) => {}
    }
    bail!(
        "{} already exists, and nothing is overwritten; help: choose another name",
        dir.display()
    );
}

/// Returns the project's files: relative path and text.
fn files(language: Language, name: &str) -> Vec<(String, String)> {
    let fill = |text: &str| {
        text.replace("{{name}}", name)
            .replace("{{version}}", env!("CARGO_PKG_VERSION"))
    };
    let mut files = Vec::new();
    for folder in ["common", language.name()] {
        for (path, text) in texts(&TEMPLATES, folder) {
            let path = path.strip_suffix(".in").unwrap_or(path);
            let path = match path.strip_prefix("cases/") {
                Some(case) => format!("{name}.cases/{case}"),
                None if path == "gitignore" => ".gitignore".into(),
                None => path.into(),
            };
            let text = match path == "Cargo.lock" {
                true => sorted_lock(&fill(text)),
                false => fill(text),
            };
            files.push((path, text));
        }
    }
    files.push(("wit/plugin.wit".into(), CONTRACT.into()));
    if language == Language::Rust {
        for (path, text) in texts(&SDK, "") {
            files.push((format!("postroom/sdk/src/{path}"), text.into()));
        }
    }
    files.sort();
    files
}

/// Returns the files below a folder of an embedded one, by relative path.
fn texts<'a>(dir: &'a Dir<'a>, folder: &str) -> Vec<(&'a str, &'a str)> {
    let mut found = Vec::new();
    let mut open = vec![match folder {
        "" => Some(dir),
        folder => dir.get_dir(folder),
    }];
    while let Some(Some(dir)) = open.pop() {
        for entry in dir.entries() {
            match entry {
                DirEntry::Dir(dir) => open.push(Some(dir)),
                DirEntry::File(file) => {
                    let path = file.path();
                    let path = path.strip_prefix(folder).unwrap_or(path);
                    found.extend(path.to_str().zip(file.contents_utf8()));
                }
            }
        }
    }
    found
}

/// Sorts a lock file. Cargo sorts packages by name, and treats another order as out of date.
fn sorted_lock(text: &str) -> String {
    const PACKAGE: &str = "[[package]]\n";
    let mut parts = text.trim_end().split(PACKAGE).map(str::trim_end);
    let mut lock = parts.next().unwrap_or_default().to_owned();
    let mut packages: Vec<&str> = parts.collect();
    packages.sort_unstable();
    for package in packages {
        lock.push_str("\n\n");
        lock.push_str(PACKAGE);
        lock.push_str(package);
    }
    lock.push('\n');
    lock
}

fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(file)?.write_all(text.as_bytes())
}

fn next_steps(language: Language, dir: &Path, name: &str) -> String {
    let (source, needs) = match language {
        Language::Rust => (
            "src/lib.rs",
            "rustup target add wasm32-unknown-unknown (or Debian's compiler: README.md)",
        ),
        Language::Js => ("rule.js", "Node.js 20 or newer with npm"),
        Language::Python => ("app.py", "Python 3.10 or newer with venv"),
        Language::C => ("rule.c", "clang with wasm-ld (README.md)"),
    };
    format!(
        "
Next:
  cd {dir}
  make              builds {name}.wasm; needs {needs}
  make test         runs the mails of {name}.cases
Then change {source} to your liking, and name {name}.wasm in a mailbox's `rules`. README.md says more.",
        dir = dir.display()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::ValueEnum;

    use super::{files, name_of};
    use crate::cli::Language;

    #[test]
    fn only_names_that_every_tool_takes() {
        for good in ["disk-full", "a", "rules/b2", "/tmp/veeam-8"] {
            assert!(name_of(Path::new(good)).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            ".",
            "..",
            "/",
            "Disk",
            "2fast",
            "-x",
            "x-",
            "a--b",
            "a_b",
            "a b",
            "ä",
            "a/..",
            "x.js",
            "postroom-sdk",
            &long,
        ] {
            assert!(name_of(Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_project_is_whole() {
        for language in Language::value_variants() {
            let files = files(*language, "disk-full");
            for wanted in [
                "README.md",
                "Makefile",
                ".gitignore",
                "wit/plugin.wit",
                "disk-full.cases/full.eml",
                "disk-full.cases/full.expected.json",
            ] {
                assert!(
                    files.iter().any(|(path, _)| path == wanted),
                    "{language:?}: {wanted}"
                );
            }
            for (path, text) in &files {
                assert!(!text.contains("{{"), "{language:?}: {path}");
            }
        }
    }

    #[test]
    fn the_sdk_of_a_project_depends_on_what_ours_does() {
        let ours: toml::Table = toml::from_str(include_str!("../../../../../plugins/Cargo.toml"))
            .expect("our manifest");
        let files = files(Language::Rust, "disk-full");
        let (_, theirs) = files
            .iter()
            .find(|(path, _)| path == "postroom/sdk/Cargo.toml")
            .expect("the SDK's manifest");
        let theirs: toml::Table = toml::from_str(theirs).expect("a manifest");
        assert_eq!(
            theirs["dependencies"]["wit-bindgen"],
            ours["workspace"]["dependencies"]["wit-bindgen"]
        );
        assert_eq!(
            theirs["package"]["rust-version"],
            ours["workspace"]["package"]["rust-version"]
        );
        let sdk: toml::Table =
            toml::from_str(include_str!("../../../../../plugins/sdk/Cargo.toml"))
                .expect("the SDK's manifest");
        assert_eq!(theirs["features"], sdk["features"]);
        let names = |table: &toml::Table| {
            table["dependencies"]
                .as_table()
                .map(|it| it.keys().cloned().collect::<Vec<_>>())
        };
        assert_eq!(names(&theirs), names(&sdk));
    }
}
