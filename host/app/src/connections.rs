//! Makes of the configuration what signs in, fetches and sends: for the service, and for whoever tests one mailbox.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{Login, Tokens};
use postroom_mailbox::{After, ImapSettings, ImapSource, ImapTimeouts, SpoolSettings, SpoolSource};
use postroom_outgoing::{Smtp, SmtpSettings};
use rustls::ClientConfig;

use crate::config::{self, Config, Credential};
use crate::tls;

/// One step of a submission takes at most so long.
const SMTP_TIMEOUT: Duration = Duration::from_secs(60);

/// A mailbox's source by its kind.
pub enum AnySource {
    Imap(Box<ImapSource>),
    Spool(Box<SpoolSource>),
}

/// The profiles and accounts with the vault, which several processes may use at once. Asks nobody.
pub fn tokens(config: &Config, tls: &Arc<ClientConfig>) -> anyhow::Result<Tokens> {
    // Without an account nothing is ever stored: no key is left in anybody's home for a mail room of spool folders.
    let key = if config.accounts.is_empty() {
        VaultKey::random()?
    } else {
        VaultKey::load_for(&config.vault_key, &config.data_dir)?
    };
    let vault = Vault::open(&config.data_dir, key)?;
    Ok(Tokens::new(
        tls::http_client(tls)?,
        config.profiles.clone(),
        config.accounts.clone(),
        vault,
    ))
}

/// Connects to nothing yet.
pub fn source(
    mailbox: &config::Mailbox,
    tokens: &Arc<Tokens>,
    tls: &Arc<ClientConfig>,
) -> AnySource {
    match &mailbox.source {
        config::Source::Imap {
            server,
            login: sign_in,
            folder,
            import,
        } => {
            let settings = ImapSettings {
                name: mailbox.name.clone(),
                host: server.host.clone(),
                port: server.port,
                tls: match server.tls {
                    config::Tls::Implicit => postroom_mailbox::TlsMode::Implicit,
                    config::Tls::StartTls => postroom_mailbox::TlsMode::StartTls,
                    config::Tls::None => postroom_mailbox::TlsMode::None,
                },
                folder: folder.clone(),
                import: match import {
                    config::Import::New => postroom_mailbox::Import::New,
                    config::Import::All => postroom_mailbox::Import::All,
                    config::Import::Since(day) => postroom_mailbox::Import::Since(*day),
                },
                targets: targets(mailbox),
                unused: Vec::new(),
                timeouts: ImapTimeouts::default(),
            };
            let login = login(sign_in, tokens);
            let source = postroom_mailbox::imap(settings, login, tls.clone());
            AnySource::Imap(Box::new(source))
        }
        config::Source::Spool { path } => AnySource::Spool(Box::new(spool(&mailbox.name, path))),
    }
}

/// The folders that a mailbox's mail is moved to, each once.
fn targets(mailbox: &config::Mailbox) -> Vec<String> {
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

fn spool(name: &str, path: &Path) -> SpoolSource {
    postroom_mailbox::spool(SpoolSettings::new(name, path))
}

/// Connects to nothing yet.
pub fn smtp(
    way: &config::Outgoing,
    tokens: &Arc<Tokens>,
    tls: &Arc<ClientConfig>,
) -> anyhow::Result<Smtp> {
    let settings = SmtpSettings {
        name: way.name.clone(),
        host: way.server.host.clone(),
        port: way.server.port,
        tls: match way.server.tls {
            config::Tls::Implicit => postroom_outgoing::TlsMode::Implicit,
            config::Tls::StartTls => postroom_outgoing::TlsMode::StartTls,
            config::Tls::None => postroom_outgoing::TlsMode::None,
        },
        from: way.from.clone(),
        reply_to: way.reply_to.clone(),
        timeout: SMTP_TIMEOUT,
    };
    let sign_in = way.login.as_ref().map(|it| login(it, tokens));
    Smtp::new(settings, sign_in, tls.clone()).with_context(|| format!("outgoing.{}", way.name))
}

fn login(login: &config::Login, tokens: &Arc<Tokens>) -> Login {
    match &login.credential {
        Credential::Account { account, resource } => Login::Bearer {
            user: login.user.clone(),
            account: account.clone(),
            resource: *resource,
            tokens: tokens.clone(),
        },
        Credential::Password(password) => Login::Password {
            user: login.user.clone(),
            password: password.clone(),
        },
    }
}
