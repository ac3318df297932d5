//! `postroom plugin`: core module to component, and what a component is made of.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use postroom_sandbox::{Inspection, Kind};

use crate::rulebook::read_rule;

pub fn build(module: &Path, output: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let bytes = read(module)?;
    let component = postroom_sandbox::componentize(&bytes)
        .with_context(|| format!("{} does not become a component", module.display()))?;
    let output = output.unwrap_or_else(|| module.with_extension("component.wasm"));
    std::fs::write(&output, &component).with_context(|| format!("writing {}", output.display()))?;
    eprintln!("{}: {} bytes", output.display(), component.len());
    Ok(ExitCode::SUCCESS)
}

pub fn inspect(component: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let bytes = read(component)?;
    let found = postroom_sandbox::inspect(&bytes)
        .with_context(|| format!("{} cannot be read", component.display()))?;
    let needs = needs(&found);
    let kind = match found.kind {
        Kind::Component => "component",
        Kind::CoreModule => "core module",
    };
    if json {
        println!(
            "{}",
            serde_json::json!({
                "kind": kind,
                "world": found.world,
                "imports": found.imports,
                "exports": found.exports,
                "needs": needs,
                "size": found.size,
                "hash": found.hash.hex(),
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{}: {kind}, {} bytes", component.display(), found.size);
    println!("hash     {}", found.hash);
    println!(
        "world    {}",
        found.world.as_deref().unwrap_or("none of Postroom's")
    );
    for (title, names) in [("imports", &found.imports), ("exports", &found.exports)] {
        println!("{title}");
        for name in names {
            println!("  {name}");
        }
    }
    if !needs.is_empty() {
        println!("needs    {}", needs.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

/// What a tenant must grant before this component loads, and what it is given empty.
fn needs(found: &Inspection) -> Vec<&'static str> {
    let mut needs = Vec::new();
    if found.needs_kv() {
        needs.push("the grant kv");
    }
    if found.needs_wasi() {
        needs.push("WASI (it gets an empty one)");
    }
    needs
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_rule(file).map_err(|reason| anyhow::anyhow!("{}: {reason}", file.display()))
}
