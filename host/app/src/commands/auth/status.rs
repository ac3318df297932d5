//! `postroom auth status`: the accounts, their expiries, and what breaks next; no server is contacted.

use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use postroom_auth::expiry::{About, Notice, State, Status};
use postroom_core::Clock;

use super::{explained, profile_names, tokens};
use crate::commands::{load_with_warnings, print, table};
use crate::expiry::notices;
use postroom_config::Config;
use postroom_config::suggest::no_such;

pub fn status(config: &Path, profile: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config)?;
    if let Some(name) = profile {
        known_profile(&config, name)?;
    }
    let tokens = tokens(&config)?;
    let now = Clock::system().now();
    let mut statuses = tokens.statuses(now).map_err(|error| {
        let profile = tokens.profile(error.profile());
        explained(&error, profile.as_deref())
    })?;
    statuses.retain(|status| profile.is_none_or(|name| status.profile == name));
    if json {
        for status in &statuses {
            print(serde_json::to_string(status)?)?;
        }
    } else {
        table::print(
            &["profile", "login", "state", "until"],
            statuses.iter().map(cells),
        )?;
        tell(&statuses, &config, profile, now)?;
    }
    let misconfigured = config.unavailable_profiles.iter();
    let misconfigured = misconfigured.filter(|(name, _)| profile.is_none_or(|it| it == *name));
    let mut failed = statuses.iter().any(|status| status.state == State::Failed);
    for (name, why) in misconfigured {
        failed = true;
        // To stderr, for people and programs alike, since it is not a row.
        eprintln!("profile {name} cannot be used: {}", why.reason);
        eprintln!("help: {}", why.help);
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn known_profile(config: &Config, name: &str) -> anyhow::Result<()> {
    let names = profile_names(config);
    if names.contains(&name) {
        return Ok(());
    }
    bail!(no_such("profile", name, &names))
}

/// Prints what does not fit into one line per account.
fn tell(
    statuses: &[Status],
    config: &Config,
    profile: Option<&str>,
    now: Timestamp,
) -> std::io::Result<()> {
    let worded = statuses.iter().filter(|status| !status.advice.is_empty());
    for status in worded {
        let login = status.login.as_deref();
        let who = login.map_or(status.profile.clone(), |login| {
            format!("{} as {login}", status.profile)
        });
        print(format!("\n{who}: {}", status.advice))?;
    }
    // An account's advice covers its own secret or certificate.
    let dates = notices(config, now);
    for notice in dates {
        let shown = match &notice.about {
            About::Credential(_) => false,
            About::Profile(name) => profile.is_none_or(|wanted| wanted == name),
            About::Outgoing(_) | About::Root => profile.is_none(),
        };
        if shown {
            let Notice {
                key, message, cure, ..
            } = notice;
            print(format!("\n{key}: {message}: {cure}."))?;
        }
    }
    Ok(())
}

/// Returns one row; a cell has one line for each fact, so that a row fits 80 columns.
fn cells(status: &Status) -> Vec<String> {
    let mut login = status.login.clone().unwrap_or_else(|| "-".into());
    if let Some(identity) = &status.identity
        && Some(identity) != status.login.as_ref()
    {
        login.push_str("\nis ");
        login.push_str(&super::harmless(identity));
    }
    let until = [
        ("access", status.access_expires.map(minute)),
        ("refresh", status.refresh_expires.map(day)),
        ("secret", status.secret_expires.map(day)),
    ];
    let until: Vec<String> = until
        .into_iter()
        .filter_map(|(what, when)| Some(format!("{what:<8}{}", when?)))
        .collect();
    vec![
        format!("{}\n{}", status.profile, status.grant),
        login,
        status.state.as_str().into(),
        until.join("\n"),
    ]
}

fn day(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).date().to_string()
}

fn minute(at: Timestamp) -> String {
    at.to_zoned(TimeZone::UTC).strftime("%F %H:%MZ").to_string()
}
