//! The memory of a hundred scripts: a service that runs them, compared with the same service with one.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::figures::{mebibytes, table};
use crate::process::Background;
use crate::room;

const SCRIPTS: usize = 100;
const GOAL: u64 = 150 << 20;
const PATIENCE: Duration = Duration::from_secs(120);
/// The scripts, each for one kind of mail, as real rules are.
const RECIPES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/recipes");

/// Starts the service with one and with a hundred rules and prints their memory, after a mail that all rules ran on.
pub fn run() -> Result<()> {
    let recipes = recipes()?;
    let bytes: usize = recipes.iter().map(|(_, text)| text.len()).sum();
    println!(
        "Memory: {SCRIPTS} scripts in one service, variations of {} recipes of {:.1} KiB each on average, after a mail that all were asked about",
        recipes.len(),
        bytes as f64 / recipes.len() as f64 / 1024.0
    );
    let one = settled(&recipes, 1)?;
    let all = settled(&recipes, SCRIPTS)?;
    let row = |name: &str, of: fn(&Held) -> u64, goal: &str| {
        let (one, all) = (of(&one), of(&all));
        let each = all.saturating_sub(one) as f64 / (SCRIPTS - 1) as f64;
        vec![
            name.to_owned(),
            mebibytes(one),
            mebibytes(all),
            format!("{:.0} KiB", each / 1024.0),
            goal.to_owned(),
        ]
    };
    let goal = format!("<= {}", mebibytes(GOAL));
    let rows = [
        row("resident, memory files apart", |held| held.resident, ""),
        row("memory files, mapped or not", |held| held.files, ""),
        row("together", Held::total, &goal),
    ];
    let all = format!("{SCRIPTS} scripts");
    table(&["", "1 script", &all, "each", "goal"], &rows);
    Ok(())
}

/// In bytes.
struct Held {
    /// The memory of the process, without mapped memory files.
    resident: u64,
    /// The images of scripts, which the kernel keeps for the process even if they are not mapped.
    files: u64,
}

impl Held {
    fn total(&self) -> u64 {
        self.resident + self.files
    }
}

/// Returns name and text of every recipe.
fn recipes() -> Result<Vec<(String, String)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(RECIPES)
        .context(RECIPES)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|it| it == "js"))
        .collect();
    files.sort();
    ensure!(!files.is_empty(), "no recipe in {RECIPES}");
    files
        .iter()
        .map(|path| {
            let name = path.file_stem().context("a recipe without a name")?;
            Ok((
                name.to_string_lossy().into_owned(),
                fs::read_to_string(path)?,
            ))
        })
        .collect()
}

/// Returns the memory of a service with this many rules, once each has run.
fn settled(recipes: &[(String, String)], count: usize) -> Result<Held> {
    let dir = TempDir::with_prefix_in("bench-", room::target()?)?;
    fs::create_dir(dir.path().join("rules"))?;
    fs::create_dir(dir.path().join("spool"))?;
    let mut rules = Vec::new();
    for (number, (name, text)) in recipes.iter().cycle().take(count).enumerate() {
        let rule = format!("rules/{name}-{number}.js");
        let client = format!("export const client = \"client {number}\";\n");
        fs::write(dir.path().join(&rule), client + text)?;
        rules.push(format!("{rule:?}"));
    }
    let mut config = String::from("data_dir = \"data\"\n");
    let _ = write!(
        config,
        "[tenants.acme]\ngrants = [\"kv\"]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [{}]\n",
        rules.join(", ")
    );
    fs::write(dir.path().join("postroom.toml"), config)?;
    // The first start compiles the interpreter, which is not measured.
    let log = dir.path().join("run.log");
    crate::process::measure(&mut postroom(dir.path(), &["run", "--once"])?, &log)?;
    let service = Background::start(&mut postroom(dir.path(), &["run"])?, &log)?;
    let mail = "From: a@elsewhere.example\r\nMessage-ID: <one@elsewhere.example>\r\nSubject: Nobody's\r\n\r\nNobody's mail.\r\n";
    fs::write(dir.path().join("spool/one.eml"), mail)?;
    let started = Instant::now();
    while decisions(dir.path())? == 0 {
        ensure!(started.elapsed() < PATIENCE, "the mail is not decided");
        std::thread::sleep(Duration::from_millis(100));
    }
    std::thread::sleep(Duration::from_secs(1));
    let held = Held {
        resident: service.unshared()?,
        files: service.memory_files()?,
    };
    service.stop()?;
    Ok(held)
}

fn postroom(dir: &Path, args: &[&str]) -> Result<Command> {
    let mut command = Command::new(room::postroom()?);
    command
        .args(args)
        .current_dir(dir)
        .env("XDG_CONFIG_HOME", dir)
        .env_remove("RUST_LOG");
    Ok(command)
}

/// Returns how many mails were decided; all must have passed every rule.
fn decisions(dir: &Path) -> Result<usize> {
    let output = postroom(dir, &["decisions", "--json"])?.output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        let decision: serde_json::Value = serde_json::from_str(line)?;
        ensure!(
            decision["rule"] == "fallback" && decision["troubles"].is_null(),
            "not all rules passed: {decision}"
        );
    }
    Ok(text.lines().count())
}
