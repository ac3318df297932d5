//! `postroom shadow`: starts, lists, shows and stops shadows, and promotes candidates. Each command writes to the store
//! alongside a running service, which follows within a second.

mod show;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use postroom_core::counted;
use postroom_store::{Control, Listings, Shadow, ShadowState, StoreError};
use serde_json::{Value, json};

use crate::cli::ShadowArgs;
use crate::commands::replay::counts;
use crate::commands::{load_with_warnings, no_mailbox, open_listings, print, table};
use crate::store;
use postroom_config::suggest::hint;
use postroom_line::shadow::{self, Put};
use postroom_rules::rulebook;

pub use show::show;

/// The length of a hash that suffices to distinguish versions.
const SHORT: usize = 12;

pub fn start(config_file: &Path, args: &ShadowArgs) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config_file)?;
    let Some(mailbox) = config.mailbox(&args.mailbox) else {
        return Err(no_mailbox(&config, &args.mailbox));
    };
    let reader = open_listings(config_file)?;
    let sandbox = rulebook::configured_sandbox(&config, 1)?;
    let asked = shadow::Asked {
        mailbox,
        file: &args.rule,
        in_place_of: args.in_place_of.as_deref(),
        mails: args.mails,
        promote: args.promote,
    };
    let new = shadow::begin(&config, &sandbox, &*reader, &asked)?;
    let control = store::control(&config.data_dir);
    let begun =
        control.start_shadow(&new).map_err(|error| match error {
            StoreError::ShadowMails { .. } => anyhow::anyhow!("--mails {}: {error}", args.mails),
            StoreError::ShadowRuns { .. } => anyhow::anyhow!(
                "{error}; help: see its results with `postroom shadow show {0}`, and stop it with `postroom shadow stop {0}`",
                args.mailbox
            ),
            error => error.into(),
        })?;
    print(format!(
        "{} runs alongside {} on the next {} of {}; none of its decisions is stored or sent\n`postroom shadow show {}` shows the differences. A running service starts within a second.",
        args.rule.display(),
        begun.rule,
        counted(begun.wanted, "mail"),
        begun.mailbox,
        begun.mailbox
    ))?;
    if begun.promote {
        print(format!(
            "promoted if all decisions match: it is written over {}{}",
            begun.rule,
            also(&config, &begun)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

pub fn list(config_file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let shadows = open_listings(config_file)?.shadows()?;
    if json {
        for shadow in &shadows {
            print(listed(shadow))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let header = [
        "mailbox",
        "rule",
        "candidate",
        "began",
        "mails",
        "so far",
        "state",
    ];
    let rows = shadows.iter().map(|it| {
        vec![
            it.mailbox.clone(),
            it.rule.clone(),
            it.hash.hex().chars().take(SHORT).collect(),
            it.began.clone(),
            format!("{} of {}", it.decided(), it.wanted),
            counts(&show::report(it, &[])),
            state(it),
        ]
    });
    table::print(&header, rows)?;
    Ok(ExitCode::SUCCESS)
}

pub fn stop(config_file: &Path, mailbox: &str) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config_file)?;
    let shadow = newest(&*reader, mailbox)?;
    let data_dir = postroom_config::data_dir(config_file).map_err(|it| anyhow::anyhow!("{it}"))?;
    let control = store::control(&data_dir);
    if !control.end_shadow(shadow.id, ShadowState::Stopped, None)? {
        let now = reader.shadow(shadow.id)?.unwrap_or(shadow);
        bail!(
            "the shadow of {mailbox} does not run: it is {}. `postroom shadow show {mailbox}` shows its result",
            now.state.as_str()
        );
    }
    let stopped = reader.shadow(shadow.id)?.unwrap_or(shadow);
    print(format!(
        "stopped after {} of {}: {}",
        stopped.decided(),
        counted(stopped.wanted, "mail"),
        counts(&show::report(&stopped, &[]))
    ))?;
    Ok(ExitCode::SUCCESS)
}

pub fn promote(config_file: &Path, mailbox: &str, anyway: bool) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config_file)?;
    let reader = open_listings(config_file)?;
    let shadow = newest(&*reader, mailbox)?;
    if shadow.state == ShadowState::Promoted {
        bail!(
            "there is nothing to promote: the newest shadow of {mailbox} is already promoted ({})",
            shadow.reason.as_deref().unwrap_or("by hand")
        );
    }
    let sandbox = rulebook::configured_sandbox(&config, 1)?;
    let put = shadow::put(&config, &sandbox, &*reader, &shadow, anyway)
        .with_context(|| format!("the shadow of {mailbox} was not promoted"))?;
    let reason = format!("by hand, after {}", counted(shadow.decided(), "mail"));
    let control = store::control(&config.data_dir);
    control.end_shadow(shadow.id, ShadowState::Promoted, Some(&reason))?;
    print(match put {
        Put::Written => format!(
            "promoted: {} is now the candidate{}\nA running service puts it live like any other save; `postroom rules list` shows it, and `postroom rules rollback` rolls it back.",
            shadow.rule,
            also(&config, &shadow)
        ),
        Put::WasThere => format!("promoted: {} was already the candidate", shadow.rule),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the newest shadow of a mailbox, which need not be configured any more.
fn newest(reader: &dyn Listings, mailbox: &str) -> anyhow::Result<Shadow> {
    if let Some(shadow) = reader.shadow_of(mailbox)? {
        return Ok(shadow);
    }
    let all = reader.shadows()?;
    let hint = hint(mailbox, all.iter().map(|it| it.mailbox.as_str()));
    bail!(
        "{mailbox}: this mailbox never had a shadow (`postroom shadow list` lists them, `postroom shadow start` starts one){hint}"
    )
}

/// Names the other mailboxes that a promotion changes.
fn also(config: &postroom_config::Config, shadow: &Shadow) -> String {
    let mailbox = config.mailbox(&shadow.mailbox);
    let rule = mailbox.and_then(|it| it.rules.iter().find(|rule| rule.name == shadow.rule));
    let path = rule.and_then(postroom_config::RuleConfig::path);
    let others = path.map_or(Vec::new(), |path| {
        shadow::others(config, &shadow.mailbox, path)
    });
    match others.is_empty() {
        true => String::new(),
        false => format!(", which is also a rule of {}", others.join(", ")),
    }
}

/// Returns the state with its reason: `finished: not promoted: …`
fn state(shadow: &Shadow) -> String {
    let state = shadow.state.as_str();
    match &shadow.reason {
        Some(reason) => format!("{state}: {reason}"),
        None => state.to_owned(),
    }
}

fn listed(shadow: &Shadow) -> Value {
    json!({
        "mailbox": shadow.mailbox,
        "tenant": shadow.tenant,
        "rule": shadow.rule,
        "hash": shadow.hash.hex(),
        "began": shadow.began,
        "ended": shadow.ended,
        "state": shadow.state.as_str(),
        "reason": shadow.reason,
        "promote": shadow.promote,
        "mails": shadow.wanted,
        "decided": shadow.decided(),
        "same": shadow.same,
        "changed": shadow.changed,
        "failed": shadow.failed,
        "mended": shadow.mended,
        "unrecorded": shadow.unrecorded,
        "skipped": shadow.skipped,
    })
}
