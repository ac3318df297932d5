//! Builds tokens, sources and outgoings from the configuration, for the service and for `mailbox test`.

use std::sync::Arc;

use anyhow::Context;
use postroom_auth::advice::advise_vault;
use postroom_auth::vault::{Vault, VaultError, VaultKey};
use postroom_auth::{Login, Tokens};
use postroom_mailbox::{After, ImapSettings, ImapTimeouts, Source, SpoolSettings};
use postroom_target::smtp::{Smtp, SmtpSettings, SmtpTimeouts};
use rustls::ClientConfig;

use crate::tls;
use postroom_config::{Config, Credential, Ready, Unavailable};

/// Why the vault cannot be used.
#[derive(Debug, thiserror::Error)]
enum NoVault {
    #[error(transparent)]
    Key(#[from] Unavailable),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Returns the profiles and accounts with the vault, which several processes may use at once. Sends no request. Fails with the
/// [`VaultError`] or [`Unavailable`] that prevents opening the vault.
pub fn tokens(config: &Config, tls: &Arc<ClientConfig>) -> anyhow::Result<Tokens> {
    match vault(config) {
        Ok(vault) => in_vault(config, tls, vault),
        Err(NoVault::Key(why)) => Err(why.into()),
        Err(NoVault::Vault(error)) => Err(error.into()),
    }
}

/// Does the same for a service, whose other mailboxes do not depend on the vault.
pub fn tokens_if_ready(config: &Config, tls: &Arc<ClientConfig>) -> anyhow::Result<Ready<Tokens>> {
    match vault(config) {
        Ok(vault) => in_vault(config, tls, vault).map(Ok),
        Err(NoVault::Key(why)) => Ok(Err(why)),
        Err(NoVault::Vault(error)) => Ok(Err(without(&error))),
    }
}

/// Returns why the vault's key is unavailable, without creating one; `None` if it is available or nothing needs it.
pub fn missing_key(config: &Config) -> Option<Unavailable> {
    if config.accounts.is_empty() {
        return None;
    }
    // A missing key is already reported with the configuration.
    let source = config.vault_key.as_ref().ok()?;
    let found = VaultKey::check(source, &config.data_dir);
    found.err().map(|error| without(&error))
}

fn vault(config: &Config) -> Result<Vault, NoVault> {
    // Without an account nothing is ever stored, so a configuration with only spool folders leaves no key in the home folder.
    let key = if config.accounts.is_empty() {
        VaultKey::random()?
    } else {
        let source = config.vault_key.as_ref().map_err(Unavailable::clone)?;
        VaultKey::load_for(source, &config.data_dir)?
    };
    Ok(Vault::open(&config.data_dir, key)?)
}

fn without(error: &VaultError) -> Unavailable {
    // The caller continues the sentence.
    let help = advise_vault(error).text;
    Unavailable {
        reason: error.to_string(),
        help: help.trim_end_matches('.').to_owned(),
    }
}

fn in_vault(config: &Config, tls: &Arc<ClientConfig>, vault: Vault) -> anyhow::Result<Tokens> {
    Ok(Tokens::new(
        tls::http_client(tls)?,
        config.profiles.clone(),
        config.accounts.clone(),
        vault,
    ))
}

/// Builds the source of a mailbox, without connecting.
pub fn source(
    mailbox: &postroom_config::Mailbox,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
) -> Ready<Box<dyn Source>> {
    Ok(match &mailbox.source {
        postroom_config::Source::Imap {
            server,
            login: sign_in,
            folder,
            import,
        } => {
            let settings = ImapSettings {
                name: mailbox.name.clone(),
                host: server.host.clone(),
                port: server.port,
                tls: server.tls,
                folder: folder.clone(),
                import: match import {
                    postroom_config::Import::New => postroom_mailbox::Import::New,
                    postroom_config::Import::All => postroom_mailbox::Import::All,
                    postroom_config::Import::Since(day) => postroom_mailbox::Import::Since(*day),
                },
                targets: targets(mailbox),
                unused: Vec::new(),
                timeouts: ImapTimeouts::default(),
            };
            let login = login(sign_in, tokens)?;
            Box::new(postroom_mailbox::imap(settings, login, tls.clone()))
        }
        postroom_config::Source::Spool { path } => Box::new(postroom_mailbox::spool(
            SpoolSettings::new(&mailbox.name, path),
        )),
    })
}

/// Returns the folders to which a mailbox's mail is moved, each once.
fn targets(mailbox: &postroom_config::Mailbox) -> Vec<String> {
    let mut targets = Vec::new();
    for after in [&mailbox.after_done, &mailbox.after_failed] {
        if let After::Move(target) = after
            && !targets.contains(target)
        {
            targets.push(target.clone());
        }
    }
    targets
}

/// Builds the SMTP client of an outgoing, without connecting.
pub fn smtp(
    way: &postroom_config::Outgoing,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
) -> anyhow::Result<Ready<Smtp>> {
    let settings = SmtpSettings {
        name: way.name.clone(),
        host: way.server.host.clone(),
        port: way.server.port,
        tls: way.server.tls,
        from: way.from.clone(),
        reply_to: way.reply_to.clone(),
        hello: way.hello.clone(),
        timeouts: SmtpTimeouts::default(),
    };
    let sign_in = way.login.as_ref().map(|it| login(it, tokens));
    let sign_in = match sign_in.transpose() {
        Ok(sign_in) => sign_in,
        Err(why) => return Ok(Err(why)),
    };
    let smtp = Smtp::new(settings, sign_in, tls.clone());
    smtp.map(Ok)
        .with_context(|| format!("outgoing.{}", way.name))
}

fn login(login: &postroom_config::Login, tokens: &Ready<Arc<Tokens>>) -> Ready<Login> {
    Ok(match &login.credential {
        Credential::Account { account, resource } => Login::Bearer {
            user: login.user.clone(),
            account: account.clone(),
            resource: *resource,
            tokens: tokens.clone()?,
        },
        Credential::Password(password) => Login::Password {
            user: login.user.clone(),
            password: password.clone(),
        },
        Credential::Unavailable(why) => return Err(why.clone()),
    })
}
