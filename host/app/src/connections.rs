//! Builds tokens, sources and targets from the configuration, for the service and for the commands that test them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use postroom_auth::advice::advise_vault;
use postroom_auth::vault::{Vault, VaultError, VaultKey};
use postroom_auth::{Login, Tokens};
use postroom_core::Clock;
use postroom_mailbox::{
    After, EwsSettings, EwsTimeouts, GraphSettings, GraphTimeouts, ImapSettings, ImapTimeouts,
    Pop3Settings, Pop3Timeouts, Source, SpoolSettings,
};
use postroom_net::HttpClient;
use postroom_target::smtp::{Smtp, SmtpSettings, SmtpTarget, SmtpTimeouts};
use postroom_target::webhook::{Webhook, WebhookSettings, WebhookTarget};
use postroom_target::{
    EwsLimits, EwsTarget, EwsTargetSettings, GraphLimits, GraphTarget, GraphTargetSettings, Target,
};
use rustls::ClientConfig;

use postroom_config::{
    Config, Credential, Outgoing, OutgoingConfig, Ready, Sink, SinkConfig, Unavailable,
};

/// The time limit of one webhook delivery.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Returns the same for a service, whose mailboxes without an account do not depend on the vault.
pub fn tokens_if_ready(config: &Config, tls: &Arc<ClientConfig>) -> anyhow::Result<Ready<Tokens>> {
    match vault(config) {
        Ok(vault) => in_vault(config, tls, vault).map(Ok),
        Err(NoVault::Key(why)) => Ok(Err(why)),
        Err(NoVault::Vault(error)) => Ok(Err(without(&error))),
    }
}

/// Returns why the vault's key is unavailable, without creating one, or `None` if it is available or nothing needs it.
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
        HttpClient::new(tls, &config.proxies, |it| it).context("HTTP client")?,
        config.profiles.clone(),
        config.accounts.clone(),
        vault,
    ))
}

/// Builds the source of a mailbox, without connecting.
pub fn source(
    mailbox: &postroom_config::MailboxConfig,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
) -> Ready<Box<dyn Source>> {
    Ok(match &mailbox.source {
        postroom_config::SourceConfig::Imap {
            server,
            login: sign_in,
            folders,
            import,
        } => {
            let settings = ImapSettings {
                name: mailbox.name.clone(),
                host: server.host.clone(),
                port: server.port,
                tls: server.tls,
                folders: folders.clone(),
                every: mailbox.every,
                import: *import,
                targets: targets(mailbox),
                unused: Vec::new(),
                proxies: mailbox.proxies.clone(),
                timeouts: ImapTimeouts::default(),
            };
            let login = login(sign_in, tokens)?;
            Box::new(postroom_mailbox::imap(settings, login, tls.clone()))
        }
        postroom_config::SourceConfig::Graph {
            base,
            login: sign_in,
            folder,
            import,
            ..
        } => {
            let settings = GraphSettings {
                name: mailbox.name.clone(),
                base: base.clone(),
                folder: folder.clone(),
                import: *import,
                targets: targets(mailbox),
                proxies: mailbox.proxies.clone(),
                timeouts: GraphTimeouts::default(),
            };
            let login = login(sign_in, tokens)?;
            Box::new(postroom_mailbox::graph(settings, login, tls.clone()))
        }
        postroom_config::SourceConfig::Pop3 {
            server,
            login: sign_in,
            import,
        } => {
            let settings = Pop3Settings {
                name: mailbox.name.clone(),
                host: server.host.clone(),
                port: server.port,
                tls: server.tls,
                import: *import,
                every: mailbox.every,
                proxies: mailbox.proxies.clone(),
                timeouts: Pop3Timeouts::default(),
            };
            let login = login(sign_in, tokens)?;
            Box::new(postroom_mailbox::pop3(settings, login, tls.clone()))
        }
        postroom_config::SourceConfig::Spool { path } => Box::new(postroom_mailbox::spool(
            SpoolSettings::new(&mailbox.name, path),
        )),
        postroom_config::SourceConfig::Ews {
            address,
            login: sign_in,
            mailbox: owner,
            impersonation,
            folder,
            import,
        } => {
            let settings = EwsSettings {
                name: mailbox.name.clone(),
                url: address.url.clone(),
                host: address.server.host.clone(),
                port: address.server.port,
                tls: address.server.tls,
                address: owner.clone(),
                impersonation: *impersonation,
                folder: folder.clone(),
                import: *import,
                targets: targets(mailbox),
                proxies: mailbox.proxies.clone(),
                timeouts: EwsTimeouts::default(),
            };
            let login = login(sign_in, tokens)?;
            let source = postroom_mailbox::ews(settings, login, tls.clone());
            Box::new(source.map_err(|error| Unavailable {
                reason: format!("mailboxes.{}: {error}", mailbox.name),
                help: "correct it as the error says".into(),
            })?)
        }
    })
}

/// Returns the folders to which a mailbox's mail is moved, each once.
fn targets(mailbox: &postroom_config::MailboxConfig) -> Vec<String> {
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

/// Builds the target of an outgoing. Does not connect yet.
pub fn outgoing(
    way: &Outgoing,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
) -> anyhow::Result<Ready<Box<dyn Target>>> {
    match &way.target {
        OutgoingConfig::Smtp(smtp) => {
            let settings = SmtpSettings {
                name: way.name.clone(),
                host: smtp.server.host.clone(),
                alternate_host: smtp.alternate_host.clone(),
                port: smtp.server.port,
                tls: smtp.server.tls,
                from: way.from.clone(),
                reply_to: way.reply_to.clone(),
                tag_replies: way.tag_replies,
                hello: smtp.hello.clone(),
                proxies: way.proxies.clone(),
                timeouts: SmtpTimeouts::default(),
            };
            let sign_in = smtp.login.as_ref().map(|it| login(it, tokens));
            let sign_in = match sign_in.transpose() {
                Ok(sign_in) => sign_in,
                Err(why) => return Ok(Err(why)),
            };
            let by_password = matches!(sign_in, Some(Login::Password { .. }));
            let smtp = Smtp::new(settings, sign_in, tls.clone())
                .with_context(|| format!("outgoing.{}", way.name))?;
            Ok(Ok(Box::new(SmtpTarget::new(smtp, by_password))))
        }
        OutgoingConfig::Graph(graph) => {
            let settings = GraphTargetSettings {
                name: way.name.clone(),
                base: graph.base.clone(),
                from: way.from.clone(),
                reply_to: way.reply_to.clone(),
                tag_replies: way.tag_replies,
                read_back: graph.read_back,
                proxies: way.proxies.clone(),
                limits: GraphLimits::default(),
            };
            let sign_in = match login(&graph.login, tokens) {
                Ok(sign_in) => sign_in,
                Err(why) => return Ok(Err(why)),
            };
            let target = GraphTarget::new(settings, sign_in, tls.clone())
                .with_context(|| format!("outgoing.{}", way.name))?;
            Ok(Ok(Box::new(target)))
        }
        OutgoingConfig::Ews(ews) => {
            let settings = EwsTargetSettings {
                name: way.name.clone(),
                url: ews.address.url.parse()?,
                address: ews.mailbox.clone(),
                impersonation: ews.impersonation,
                from: way.from.clone(),
                reply_to: way.reply_to.clone(),
                tag_replies: way.tag_replies,
                proxies: way.proxies.clone(),
                limits: EwsLimits::default(),
            };
            let sign_in = match login(&ews.login, tokens) {
                Ok(sign_in) => sign_in,
                Err(why) => return Ok(Err(why)),
            };
            let target = EwsTarget::new(settings, sign_in, tls.clone())
                .with_context(|| format!("outgoing.{}", way.name))?;
            Ok(Ok(Box::new(target)))
        }
    }
}

/// Builds the target of a sink. Does not connect yet. `http` comes from [`webhook::client`].
pub fn sink(
    sink: &Sink,
    http: &HttpClient,
    tls: &Arc<ClientConfig>,
    clock: &Clock,
) -> anyhow::Result<Ready<Box<dyn Target>>> {
    match &sink.target {
        SinkConfig::Webhook(config) => {
            let secret = match &config.secret {
                Ok(secret) => secret.clone(),
                Err(why) => return Ok(Err(why.clone())),
            };
            let settings = WebhookSettings {
                name: sink.name.clone(),
                url: config.url.clone(),
                secret,
                timeout: WEBHOOK_TIMEOUT,
            };
            let webhook = Webhook::new(settings, http.clone())
                .with_context(|| format!("sinks.{}", sink.name))?;
            Ok(Ok(Box::new(WebhookTarget::new(
                webhook,
                tls.clone(),
                clock.clone(),
            ))))
        }
    }
}

fn login(login: &postroom_config::MailLogin, tokens: &Ready<Arc<Tokens>>) -> Ready<Login> {
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
