//! The findings of `check` that concern the configuration as a whole: parts that do not fit together, and files that nothing
//! uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use postroom_auth::expiry::State;
use postroom_auth::vault::Vault;
use postroom_config::suggest::{closest, hint};
use postroom_config::{Config, MailboxConfig, Problem, RuleKind, RuleUse, key_path};
use postroom_sandbox::standard_settings;

use super::{Wanted, of_file};
use crate::{connections, tls};

/// The kinds of action that need a mailbox's outgoing.
const SENDING: [&str; 2] = ["reply", "forward"];
/// The setting that makes the standard rule reply.
const ACKNOWLEDGE: &str = "acknowledge";
/// The number of folders searched for rules that no mailbox names.
const FOLDERS: usize = 100;

/// Returns the mailboxes without an outgoing whose rules send mail.
pub fn mute(config: &Config, wants: &[Wanted]) -> Vec<Problem> {
    let sends = |tenant: &str, rule: &str| {
        wants.iter().find_map(|it| {
            let is_it = it.tenant == tenant && it.rule == rule;
            let sending = SENDING.iter().find(|kind| it.wants.contains(kind))?;
            is_it.then_some(*sending)
        })
    };
    let acknowledges = |tenant: &str| {
        let settings = config.tenant(tenant)?.settings.get("standard")?;
        let text = settings.get(ACKNOWLEDGE)?.as_str()?;
        (!text.is_empty()).then_some("reply")
    };
    let mut problems = Vec::new();
    let silent = config.mailboxes.iter().filter(|it| it.outgoing.is_none());
    for mailbox in silent.flat_map(MailboxConfig::by_tenant) {
        let tenant = &mailbox.tenant;
        let sending = mailbox.rules.iter().find_map(|rule| {
            let kind = match rule.kind {
                RuleKind::Standard => acknowledges(tenant),
                _ => sends(tenant, &rule.name),
            };
            kind.map(|kind| (rule, kind))
        });
        if let Some((rule, kind)) = sending {
            problems.push(Problem {
                key: format!("mailboxes.{}.outgoing", mailbox.name),
                ..of_file(
                    &file_of(config, tenant),
                    format!("is missing, and {} needs it for {kind}", rule.name),
                    "add outgoing = \"NAME\" to the mailbox; until then its replies and forwards are refused",
                )
            });
        }
    }
    problems
}

/// Returns the rules in the same folders as the used ones that no mailbox names. `used` holds the files of all loaded rules.
pub fn unused(uses: &[RuleUse], used: &BTreeSet<PathBuf>) -> Vec<Problem> {
    let paths = || uses.iter().filter_map(|it| it.rule.path());
    let folders: BTreeSet<&Path> = paths().filter_map(Path::parent).collect();
    let named: BTreeSet<&Path> = paths().collect();
    let mut unused = Vec::new();
    for folder in folders.into_iter().take(FOLDERS) {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            let name = file.to_string_lossy();
            let is_rule = [".js", ".ts", ".wasm"].iter().any(|it| name.ends_with(it));
            let is_unused = !named.contains(file.as_path()) && !used.contains(&file);
            if is_rule && !name.ends_with(".d.ts") && is_unused && file.is_file() {
                let shown = file.strip_prefix(".").unwrap_or(&file);
                unused.push(of_file(
                    &shown.display().to_string(),
                    "is in no mailbox's rules, and no rule imports it".into(),
                    "name it in the rules of a mailbox, or move it elsewhere",
                ));
            }
        }
    }
    unused
}

/// Returns the accounts that a person must sign in once and nobody has.
pub fn signed_out(config: &Config, now: Timestamp) -> Vec<Problem> {
    // A check does not create a vault.
    if !Vault::is_used(&config.data_dir).unwrap_or_default() {
        return never_signed_in(config);
    }
    let Ok(tls) = tls::client_config(&config.extra_roots) else {
        return Vec::new();
    };
    // A vault that cannot be opened is reported separately.
    let Ok(tokens) = connections::tokens(config, &tls) else {
        return Vec::new();
    };
    let statuses = tokens.statuses(now).unwrap_or_default();
    let signed_out = statuses
        .into_iter()
        .filter(|it| it.state == State::SignedOut);
    signed_out
        .map(|it| nobody(config, &it.profile, it.login.as_deref()))
        .collect()
}

fn never_signed_in(config: &Config) -> Vec<Problem> {
    let accounts = config.accounts.iter().map(|it| &it.account);
    accounts
        .filter(|account| {
            let mut profiles = config.profiles.iter();
            let profile = profiles.find(|it| it.name == account.profile);
            profile.is_some_and(|it| it.grant.is_interactive())
        })
        .map(|account| nobody(config, &account.profile, account.login.as_deref()))
        .collect()
}

fn nobody(config: &Config, profile: &str, login: Option<&str>) -> Problem {
    let who = login.map_or_else(String::new, |login| format!(" as {login}"));
    let command = login.map_or_else(String::new, |login| format!(" --as {login}"));
    Problem {
        key: format!("profiles.{profile}"),
        ..of_file(
            &config.file.display().to_string(),
            format!("nobody is signed in{who}"),
            &format!("run `postroom auth login {profile}{command}`"),
        )
    }
}

/// Returns the settings that their rule does not declare. `declared` holds the declarations of rules in files, by name; other
/// rules are not checked.
pub fn unknown_settings(
    config: &Config,
    uses: &[RuleUse],
    declared: &BTreeMap<String, Vec<String>>,
) -> Vec<Problem> {
    let of_standard = standard_settings();
    let mut problems = Vec::new();
    for wanted in uses {
        let Some(tenant) = config.tenant(&wanted.tenant) else {
            continue;
        };
        let given = tenant.settings.get(&wanted.rule.name);
        let Some(given) = given.and_then(|it| it.as_object()) else {
            continue;
        };
        let declared = match &wanted.rule.kind {
            RuleKind::Standard => Some(&of_standard),
            _ => declared.get(&wanted.rule.name),
        };
        let Some(declared) = declared else {
            continue;
        };
        let known = || declared.iter().map(String::as_str);
        for key in given.keys().filter(|key| !declared.contains(key)) {
            let cure = match closest(key, known()) {
                Some(near) => format!("write {near}, or remove it"),
                None => format!("remove it; the rule declares {}", declared.join(", ")),
            };
            problems.push(Problem {
                key: key_path(&["tenants", &tenant.name, "settings", &wanted.rule.name, key]),
                ..of_file(
                    &tenant.file,
                    format!(
                        "is not a setting of {}{}",
                        wanted.rule.name,
                        hint(key, known())
                    ),
                    &cure,
                )
            });
        }
    }
    problems
}

fn file_of(config: &Config, tenant: &str) -> String {
    let tenant = config.tenant(tenant);
    tenant.map_or_else(
        || config.file.display().to_string(),
        |tenant| tenant.file.clone(),
    )
}
