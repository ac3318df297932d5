//! The cost of the sandbox for a mail: one decision in a fresh instance, repeated, without anything around it.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use bytes::Bytes;
use postroom_core::{Context, Message, ParseLimits};
use postroom_sandbox::{Grants, Limits, NoKv, NoLookup, Rule, RuleSource, Sandbox, SandboxConfig};

use crate::bare::Bare;
use crate::figures::{median, percentile, table, time};
use crate::room::{TEN_JS, TRIVIAL_JS, component};

/// The runs before measuring, in which caches fill and patterns are compiled.
const WARM_UP: usize = 200;
/// The size of the mail's text, in bytes.
const TEXT: usize = 8 * 1024;

struct Case {
    name: &'static str,
    rule: Rule,
    goal: &'static str,
    taken: Vec<Duration>,
}

/// Measures each rule `runs` times, in turn, so that disturbances affect all alike.
pub fn run(runs: usize) -> Result<()> {
    println!("Sandbox: one decision in a fresh instance, a mail of 8 KiB text, {runs} runs each");
    let cache = tempfile::tempdir_in(crate::room::target()?)?;
    let sandbox = Sandbox::new(SandboxConfig {
        cache_dir: Some(cache.path().join("cache")),
        ..SandboxConfig::default()
    })?;
    let (ten, trivial) = (component("ten")?, component("trivial")?);
    let rust = |name, bytes| RuleSource::Component { name, bytes };
    let script = |name, text| RuleSource::Script { name, text };
    let cases = [
        (
            "Rust rule, trivial",
            rust("trivial.wasm", &trivial),
            "<= 35 µs",
        ),
        ("Rust rule, 10 patterns", rust("ten.wasm", &ten), "<= 35 µs"),
        (
            "JS rule, trivial",
            script("trivial.js", TRIVIAL_JS),
            "<= 60 µs",
        ),
        (
            "JS rule, 10 patterns",
            script("ten.js", TEN_JS),
            "<= 150 µs",
        ),
    ];
    let mut cases: Vec<Case> = cases
        .into_iter()
        .map(|(name, source, goal)| {
            let rule = sandbox.load(source, "{}", &Grants::default(), &Limits::default())?;
            Ok(Case {
                name,
                rule,
                goal,
                taken: Vec::with_capacity(runs),
            })
        })
        .collect::<Result<_>>()?;

    let raw = mail();
    let limits = ParseLimits::default();
    let mail = Arc::new(postroom_core::parse(&raw, &limits, &[]));
    let failed = |error: wasmtime::Error| anyhow!("a bare call: {error:#}");
    let bare = Bare::new(&trivial).map_err(failed)?;
    let mut bare_taken = Vec::with_capacity(runs);
    for turn in 0..WARM_UP + runs {
        let taken = bare.decide().map_err(failed)?;
        if turn >= WARM_UP {
            bare_taken.push(taken);
        }
        for case in &mut cases {
            let taken = decide(&case.rule, &mail)?;
            if turn >= WARM_UP {
                case.taken.push(taken);
            }
        }
    }
    let unit = median(&bare_taken);
    let mut rows = vec![row("bare wasmtime call", &bare_taken, unit, "")];
    rows.extend(
        cases
            .iter()
            .map(|case| row(case.name, &case.taken, unit, case.goal)),
    );
    let head = ["decision by", "median", "p99", "to bare", "goal (median)"];
    table(&head, &rows);

    let parsed: Vec<Duration> = (0..runs)
        .map(|_| {
            let started = Instant::now();
            std::hint::black_box(postroom_core::parse(
                std::hint::black_box(&raw),
                &limits,
                &[],
            ));
            started.elapsed()
        })
        .collect();
    println!(
        "  for comparison, parsing that mail: {}",
        time(median(&parsed))
    );
    Ok(())
}

/// Formats a row; `unit` is the time of a bare call.
fn row(name: &str, taken: &[Duration], unit: Duration, goal: &str) -> Vec<String> {
    let median = median(taken);
    vec![
        name.to_owned(),
        time(median),
        time(percentile(taken, 0.99)),
        format!("{:.1}x", median.as_secs_f64() / unit.as_secs_f64()),
        goal.to_owned(),
    ]
}

/// Returns the time of one decision, including the end of the instance. No pattern matches the mail, so all ten run.
fn decide(rule: &Rule, mail: &Arc<Message>) -> Result<Duration> {
    let context = Context {
        tenant: "acme".into(),
        mailbox: "support".into(),
        client: None,
        staff: false,
        thread: None,
        now: "2026-11-16T09:05:00.000Z".into(),
        ..Context::default()
    };
    let started = Instant::now();
    let run = rule.decide(mail, &context, Arc::new(NoKv), Arc::new(NoLookup));
    let taken = started.elapsed();
    match run.verdict {
        Ok(Some(actions)) if actions.len() == 1 => Ok(taken),
        other => Err(anyhow!("{} decided {other:?}", rule.name())),
    }
}

fn mail() -> Bytes {
    let mut text = String::from(
        "From: Dana Whitfield <dana@acme.example>\r\nTo: support@acme.example\r\nSubject: Printer on the second floor\r\nMessage-ID: <sandbox.bench@mail.acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n",
    );
    let mut line = 0;
    let end = text.len() + TEXT;
    while text.len() < end {
        line += 1;
        let _ = write!(
            text,
            "Line {line}: the printer takes longer than before since the update of the server\r\n"
        );
    }
    text.into()
}
