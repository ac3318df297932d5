//! `postroom auth`: signing in and out, and the status of accounts.

mod input;
mod login;
mod status;

use std::fmt::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use postroom_auth::advice::{self, Advice};
use postroom_auth::vault::VaultError;
use postroom_auth::{Account, AuthError, Profile, Tokens};
use postroom_core::harmless::harmless;

use crate::cli::Who;
use crate::commands::{load_with_warnings, print, runtime};
use crate::{connections, tls};
use postroom_config::suggest::no_such;
use postroom_config::{Config, Credential, Unavailable};

pub use login::login;
pub use status::status;

pub fn logout(config: &Path, who: &Who) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config)?;
    let account = account_of(&config, who)?;
    runtime()?.block_on(async {
        let tokens = tokens(&config)?;
        match tokens.sign_out(&account).await {
            Ok(true) => print(format!(
                "signed out: {account}\nA running service stops fetching mail within seconds; sessions opened with an access token may last until it expires, an hour at most.\nThe provider was not notified, and may still list the application."
            ))?,
            Ok(false) => print(format!("nothing was stored for {account}"))?,
            Err(error) => {
                return Err(explained(&error, tokens.profile(&account.profile).as_deref()));
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Opens the tokens of the vault; sends no request, and leaves the reporting of failures to the command.
fn tokens(config: &Config) -> anyhow::Result<Tokens> {
    let tls = tls::client_config(&config.extra_roots)?;
    let tokens = connections::tokens(config, &tls).map(Tokens::quiet);
    tokens.map_err(|error| match error.downcast_ref::<VaultError>() {
        Some(vault) => with_advice(vault.to_string(), &advice::advise_vault(vault)),
        None => match error.downcast_ref::<Unavailable>() {
            Some(why) => misconfigured(why),
            None => error,
        },
    })
}

/// Returns every profile of the configuration, including those that are unusable.
fn profile_names(config: &Config) -> Vec<&str> {
    let ready = config.profiles.iter().map(|profile| profile.name.as_str());
    let others = config.unavailable_profiles.keys().map(String::as_str);
    ready.chain(others).collect()
}

fn misconfigured(why: &Unavailable) -> anyhow::Error {
    anyhow!("{}\nhelp: {}", why.reason, why.help)
}

/// Returns the account that a command line names.
fn account_of(config: &Config, who: &Who) -> anyhow::Result<Account> {
    let target = who.target.as_str();
    let profile = config
        .profiles
        .iter()
        .find(|profile| profile.name == target);
    if let Some(why) = config.unavailable_profiles.get(target) {
        return Err(misconfigured(why));
    }
    match (profile, config.mailbox(target)) {
        (Some(profile), _) => of_profile(config, profile, who.login.as_deref()),
        (None, Some(mailbox)) => match mailbox.source.login().map(|login| &login.credential) {
            None => bail!("mailbox {target} is a folder on this machine: there is no sign-in"),
            Some(Credential::Password(_)) => bail!(
                "mailbox {target} signs in with a password, not with OAuth: it needs no sign-in"
            ),
            Some(Credential::Account { account, .. }) => of_mailbox(target, account, who),
            Some(Credential::Unavailable(why)) => Err(misconfigured(why)),
        },
        (None, None) => {
            let profiles = profile_names(config).into_iter();
            let mailboxes = config.mailboxes.iter().map(|mailbox| mailbox.name.as_str());
            let known: Vec<&str> = profiles.chain(mailboxes).collect();
            bail!(no_such("profile and no mailbox", target, &known))
        }
    }
}

fn of_profile(config: &Config, profile: &Profile, login: Option<&str>) -> anyhow::Result<Account> {
    let name = &profile.name;
    let accounts = config.accounts.iter().map(|usage| &usage.account);
    let accounts: Vec<&Account> = accounts
        .filter(|account| account.profile == *name)
        .collect();
    if let (Some(login), true) = (login, profile.grant.is_app_only()) {
        bail!(
            "profile {name} signs in as itself ({}): omit --as {login}",
            profile.grant.name()
        );
    }
    let chosen = match login {
        Some(login) => accounts.iter().find(|account| {
            let known = account.login.as_deref();
            known.is_some_and(|known| known.eq_ignore_ascii_case(login))
        }),
        None if accounts.len() > 1 => None,
        None => accounts.first(),
    };
    if let Some(account) = chosen {
        return Ok((*account).clone());
    }
    if accounts.is_empty() {
        bail!("no mailbox and no outgoing uses profile {name}: add profile = \"{name}\" to one");
    }
    let asked = match login {
        Some(login) => format!("profile {name} has no login {login}"),
        None => format!("profile {name} has several logins"),
    };
    let mut text = format!("{asked}; name one of them:");
    for account in accounts {
        write!(text, "\n  {}", advice::sign_in_command(account))?;
    }
    bail!(text)
}

fn of_mailbox(mailbox: &str, account: &Account, who: &Who) -> anyhow::Result<Account> {
    let known = account.login.as_deref().unwrap_or_default();
    match who.login.as_deref() {
        Some(login) if !known.eq_ignore_ascii_case(login) => {
            bail!("mailbox {mailbox} signs in with {account}: omit --as {login}")
        }
        _ => Ok(account.clone()),
    }
}

/// Returns an error with its advice, as text for people.
fn explained(error: &AuthError, profile: Option<&Profile>) -> anyhow::Error {
    with_advice(error.to_string(), &advice::advise(error, profile))
}

fn with_advice(mut text: String, advice: &Advice) -> anyhow::Error {
    text.push_str("\n\n");
    text.push_str(&advice.text);
    for step in &advice.steps {
        text.push_str("\n  - ");
        text.push_str(step);
    }
    anyhow!(text)
}

/// Returns the profile of an account in the configuration.
fn profile_of(tokens: &Tokens, account: &Account) -> anyhow::Result<Arc<Profile>> {
    tokens
        .profile(&account.profile)
        .with_context(|| format!("there is no profile {}", account.profile))
}

#[cfg(test)]
mod tests;
