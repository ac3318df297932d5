//! The seeds of each target, taken from the folders of cases.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use postroom_core::{ParseLimits, parse};

/// The size limit of seeds: larger files make a fuzzer slow and find nothing that smaller ones do not.
const SEED_BYTES: u64 = 64 * 1024;

/// Returns the seeds of a target: the inputs in `tests/cases/fuzz/TARGET`, and suitable files of other cases.
pub fn seeds(target: &str) -> io::Result<Vec<Vec<u8>>> {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cases");
    let of = |folder: &str, extension: &str| files(&cases.join(folder), Some(extension));
    let mut seeds = files(&cases.join("fuzz").join(target), None)?;
    let mut parsed = |part: fn(postroom_core::Message) -> Option<String>| -> io::Result<()> {
        for mail in of("mail", "eml")? {
            let mail = parse(&Bytes::from(mail), &ParseLimits::default(), &[]);
            seeds.extend(part(mail).map(String::into_bytes));
        }
        Ok(())
    };
    match target {
        "mime" => seeds.extend([of("mail", "eml")?, of("redact", "eml")?].concat()),
        "html" => parsed(|mail| mail.html)?,
        "reply" => parsed(|mail| Some(mail.text))?,
        "bundle" => seeds.extend(of("check", "js")?),
        "table" => {
            for folder in ["config", "check", "dev"] {
                seeds.extend(of(folder, "csv")?);
                seeds.extend(of(folder, "toml")?);
            }
        }
        "javascript" => {
            let scripts = files(&cases.join("../hostile/scripts"), Some("js"))?;
            let examples = files(&cases.join("../../examples"), Some("js"))?;
            seeds.extend([scripts, examples, of("origins", "js")?, of("check", "js")?].concat());
        }
        _ => {}
    }
    Ok(seeds)
}

/// Returns the files below a folder, ordered by name; none if there is no folder.
fn files(folder: &Path, extension: Option<&str>) -> io::Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop().filter(|folder| folder.is_dir()) {
        let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
        let mut entries = entries.collect::<io::Result<Vec<PathBuf>>>()?;
        entries.sort();
        for entry in entries {
            let fits = extension.is_none_or(|it| entry.extension().is_some_and(|has| has == it));
            if entry.is_dir() {
                folders.push(entry);
            } else if fits && entry.metadata()?.len() <= SEED_BYTES {
                found.push(fs::read(entry)?);
            }
        }
    }
    Ok(found)
}
