//! `postroom plugin`: a new project, a component from a core module, and the inspection of a component.

mod new;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use postroom_sandbox::{Inspection, Kind, Limits};

use postroom_rules::rulebook::read_rule;

pub use new::new;

pub fn build(module: &Path, output: Option<PathBuf>) -> anyhow::Result<ExitCode> {
    let bytes = read(module)?;
    let component = postroom_sandbox::componentize(&bytes)
        .with_context(|| format!("{} cannot be made into a component", module.display()))?;
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
    let limits = limits(&Limits::default());
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
                "limits": limits.iter().cloned().collect::<serde_json::Map<_, _>>(),
                "on_demand": found.runs_on_demand(),
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
    println!(
        "needs    {}",
        match needs.as_slice() {
            [] => "no grant".to_owned(),
            needs => needs.join(", "),
        }
    );
    println!(
        "runs     {}",
        match (found.kind, found.runs_on_demand()) {
            (Kind::CoreModule, _) => "not as it is: `postroom plugin build` makes it a component",
            (Kind::Component, true) =>
                "in memory allocated for each mail: it contains a language's runtime",
            (Kind::Component, false) => "in the pool of warm memory, where it fits",
        }
    );
    let limits: Vec<String> = limits
        .iter()
        .map(|(name, value)| {
            format!(
                "{name} {}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            )
        })
        .collect();
    println!("limits   {}", limits.join(", "));
    println!("         unless [limits] or [tenants.NAME.limits] say otherwise");
    Ok(ExitCode::SUCCESS)
}

/// Returns the grants that this component needs, and the empty interfaces it gets.
fn needs(found: &Inspection) -> Vec<String> {
    let grants = found.needs().into_iter();
    let mut needs: Vec<String> = grants.map(|grant| format!("the grant {grant}")).collect();
    if found.needs_wasi() {
        needs.push("WASI (an empty environment)".into());
    }
    needs
}

/// Returns the limits of a component, by their names in the configuration and in their form there.
fn limits(limits: &Limits) -> Vec<(String, serde_json::Value)> {
    let size = |bytes: usize| match bytes {
        bytes if bytes % (1 << 20) == 0 => format!("{}MiB", bytes >> 20),
        bytes => format!("{}KiB", bytes >> 10),
    };
    let time = |time: std::time::Duration| match time.subsec_millis() {
        0 => format!("{}s", time.as_secs()),
        _ => format!("{}ms", time.as_millis()),
    };
    vec![
        ("memory".into(), size(limits.memory_bytes).into()),
        ("time".into(), time(limits.time).into()),
        ("init_time".into(), time(limits.init_time).into()),
        ("output".into(), size(limits.output_bytes).into()),
        ("actions".into(), limits.actions.into()),
        ("log".into(), size(limits.log_bytes).into()),
        ("patterns".into(), limits.patterns.into()),
        ("matches".into(), limits.matches.into()),
        ("kv_keys".into(), limits.kv_total_keys.into()),
        (
            "kv_bytes".into(),
            size(limits.kv_total_bytes as usize).into(),
        ),
        ("lookups".into(), limits.lookups.into()),
        ("lookup_rows".into(), limits.lookup_rows.into()),
        ("lookup_bytes".into(), size(limits.lookup_bytes).into()),
    ]
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    read_rule(file).map_err(|reason| anyhow::anyhow!("{}: {reason}", file.display()))
}
