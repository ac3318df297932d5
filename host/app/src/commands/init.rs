//! `postroom init`: a working configuration, a first rule and its test case, to be edited.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};

/// The files to write, by path in the new folder.
const FILES: &[(&str, &str)] = &[
    ("postroom.toml", include_str!("../templates/postroom.toml")),
    ("rules/first.js", include_str!("../templates/first.js")),
    (
        "rules/first.cases/hello.eml",
        include_str!("../templates/hello.eml"),
    ),
    (
        "rules/first.cases/hello.expected.json",
        include_str!("../templates/hello.expected.json"),
    ),
    ("jsconfig.json", include_str!("../templates/jsconfig.json")),
    (
        "postroom.d.ts",
        include_str!("../../../../plugins/script/postroom.d.ts"),
    ),
];

/// Writes the first files into a folder, which is created if missing. Overwrites nothing.
pub fn init(dir: &Path) -> anyhow::Result<ExitCode> {
    let standing: Vec<&str> = FILES
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| dir.join(name).symlink_metadata().is_ok())
        .collect();
    if !standing.is_empty() {
        bail!(
            "{} already has {}, and nothing is overwritten; help: name an empty folder: postroom init my-mailroom",
            dir.display(),
            standing.join(", ")
        );
    }
    for (name, text) in FILES {
        let file = dir.join(name);
        write_new(&file, text).with_context(|| format!("writing {}", file.display()))?;
        println!("{}", file.display());
    }
    eprintln!("{}", next_steps(dir));
    Ok(ExitCode::SUCCESS)
}

/// Writes a file that does not exist yet.
fn write_new(file: &Path, text: &str) -> std::io::Result<()> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::File::create_new(file)?.write_all(text.as_bytes())
}

fn next_steps(dir: &Path) -> String {
    let enter = match dir.to_str() {
        Some(".") | None => String::new(),
        Some(dir) => format!("  cd {dir}\n"),
    };
    format!(
        "
Next:
{enter}  postroom check                                   nothing is wrong yet
  postroom rule try rules/first.js rules/first.cases/hello.eml --mailbox drop
                                                   what the rule makes of one mail
  mkdir -p spool && cp rules/first.cases/hello.eml spool/
  postroom run --once && postroom items            the mail is a ticket
Then run `postroom dev`, change rules/first.js to your liking, and give postroom.toml a real mailbox."
    )
}
