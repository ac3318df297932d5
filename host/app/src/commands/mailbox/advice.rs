//! Advice on refusals by a mail server or a webhook receiver, chosen by error types and server codes, never by their text.

mod table;
mod targets;

use postroom_auth::advice::{Advice, advise, exchange_commands, graph_commands};
use postroom_auth::provider::CLOUDS;
use postroom_auth::{AuthError, Grant, Profile, Provider};
use postroom_mailbox::SourceError;
use postroom_net::{ProxyFault, Step, TlsMode, Unreachable};
use rustls::{CertificateError, Error as TlsError};

use postroom_config::{
    Config, Credential, EWS, MailLogin, MailboxConfig, Outgoing, Server, ServerProtocol, Sink,
    SinkConfig,
};
use table::{Trouble, row};

/// The facts about the tested part that advice uses.
pub struct Place<'c> {
    /// Its table in the configuration.
    key: String,
    /// `None` if it is not a mail server.
    protocol: Option<&'static ServerProtocol>,
    /// `None` for a folder on this machine.
    server: Option<Server>,
    /// Whether the server is configured by a URL.
    has_url: bool,
    /// The user that signs in.
    user: &'c str,
    /// The login of the account, if it is named; it differs from a shared mailbox's `user`.
    account_login: Option<&'c str>,
    /// The address of the mailbox, or the sender's address.
    address: &'c str,
    /// `None` if there is no profile.
    profile: Option<&'c Profile>,
    provider: Provider,
}

impl<'c> Place<'c> {
    pub fn of_mailbox(config: &'c Config, mailbox: &'c MailboxConfig) -> Self {
        let source = &mailbox.source;
        let user = source.login().map(|login| login.user.as_str());
        Self::new(
            config,
            format!("mailboxes.{}", mailbox.name),
            source.protocol().server,
            (source.server(), source.login()),
            mailbox.address.as_deref().or(user).unwrap_or_default(),
        )
    }

    pub fn of_outgoing(config: &'c Config, way: &'c Outgoing) -> Self {
        Self::new(
            config,
            format!("outgoing.{}", way.name),
            way.target.protocol().server,
            (way.target.server(), way.target.login()),
            &way.from.email,
        )
    }

    pub fn of_sink(config: &'c Config, sink: &'c Sink) -> Self {
        let server = match &sink.target {
            SinkConfig::Webhook(webhook) => Server {
                host: webhook.url.host_str().unwrap_or_default().to_owned(),
                port: webhook.url.port_or_known_default().unwrap_or_default(),
                tls: match webhook.url.scheme() {
                    "https" => TlsMode::Implicit,
                    _ => TlsMode::None,
                },
            },
        };
        let key = format!("sinks.{}", sink.name);
        Self {
            has_url: true,
            provider: by_host(&server),
            server: Some(server),
            ..Self::new(config, key, None, (None, None), "")
        }
    }

    fn new(
        config: &'c Config,
        key: String,
        protocol: Option<&'static ServerProtocol>,
        (server, login): (Option<&'c Server>, Option<&'c MailLogin>),
        address: &'c str,
    ) -> Self {
        let account = login.and_then(|login| match &login.credential {
            Credential::Account { account, .. } => Some(account),
            Credential::Password(_) | Credential::Unavailable(_) => None,
        });
        let profile = account.and_then(|account| {
            let mut profiles = config.profiles.iter();
            profiles.find(|profile| profile.name == account.profile)
        });
        Self {
            key,
            protocol,
            server: server.cloned(),
            has_url: false,
            user: login.map_or("", |login| login.user.as_str()),
            account_login: account.and_then(|account| account.login.as_deref()),
            address,
            profile,
            provider: provider(profile, server),
        }
    }

    /// Returns what to do when a mailbox cannot be read.
    pub fn of_source(&self, error: &SourceError) -> Advice {
        let mut folder = "";
        let path;
        let trouble = match error {
            SourceError::Auth(error) => return self.no_token(error),
            SourceError::Unreachable { why, .. } => unreachable(*why),
            SourceError::Tls { cause, .. } => self.mail_tls(cause.as_ref()),
            SourceError::RefusedLogin { code, .. } => self.refused_login(code.as_deref()),
            SourceError::NotConnected { .. } if self.is_ews() => Trouble::NoEwsMailbox,
            SourceError::NotConnected { .. } => Trouble::NotConnected,
            SourceError::AccessDenied { .. } => self.access_denied(),
            SourceError::OverLimit { .. } => Trouble::OverLimit,
            SourceError::OverQuota { .. } => Trouble::OverQuota,
            SourceError::InUse { .. } => Trouble::InUse,
            SourceError::NoUniqueIds { .. } => Trouble::NoUniqueIds,
            SourceError::Folder {
                missing,
                folder: name,
                ..
            } => {
                folder = name;
                match missing {
                    true => Trouble::FolderMissing,
                    false => Trouble::FolderForbidden,
                }
            }
            SourceError::File { path: file, .. } => {
                path = file.display().to_string();
                folder = &path;
                Trouble::FilesForbidden
            }
            SourceError::Timeout { step, .. } => match step {
                Step::Connect => Trouble::NoRoute,
                Step::Greeting | Step::Tls => self.no_greeting(),
                Step::Authenticate => Trouble::SignInNotChecked,
                _ => Trouble::Passing,
            },
            SourceError::Transient { step, .. } => match step {
                Step::Greeting | Step::Tls => self.no_greeting(),
                Step::Authenticate => Trouble::SignInNotChecked,
                Step::Select if self.url_key().is_none() => Trouble::SessionEnded,
                _ => Trouble::Passing,
            },
            SourceError::Protocol { step, .. } => match step {
                Step::Greeting => self.no_greeting(),
                _ => self.no_mail_server(),
            },
            SourceError::Refused { step, code, .. } => match (step, code.as_deref()) {
                (Step::Target, _) => Trouble::NoMoveThere,
                (_, Some("SYS/PERM")) => Trouble::MailboxBroken,
                (Step::Select, _) if self.url_key().is_some() && !self.is_ews() => {
                    Trouble::NoMailbox
                }
                _ => self.no_mail_server(),
            },
            SourceError::Unusable { step, .. } => match step {
                Step::Target => Trouble::NoMoveThere,
                _ => Trouble::Unusable,
            },
            SourceError::UnknownCursor { .. } => Trouble::Unusable,
        };
        self.advice(trouble, folder)
    }

    fn no_token(&self, error: &AuthError) -> Advice {
        advise(error, self.profile)
    }

    fn no_greeting(&self) -> Trouble {
        match self.mode() {
            Some(TlsMode::StartTls | TlsMode::None) => Trouble::NoGreetingInClear,
            Some(TlsMode::Implicit) | None => Trouble::NoGreeting,
        }
    }

    fn mail_tls(&self, cause: Option<&TlsError>) -> Trouble {
        match (tls(cause), self.mode()) {
            (Trouble::NoTlsFromFirstByte, Some(TlsMode::StartTls)) => Trouble::StartTlsBroken,
            (trouble, _) => trouble,
        }
    }

    fn no_mail_server(&self) -> Trouble {
        match self.is_ews() {
            true => Trouble::NoEws,
            false => Trouble::NoMailServer,
        }
    }

    fn is_ews(&self) -> bool {
        self.protocol.is_some_and(|it| it.name == EWS.name)
    }

    fn refused_login(&self, code: Option<&str>) -> Trouble {
        let takes_passwords = self
            .protocol
            .is_none_or(|protocol| protocol.takes_passwords);
        let grant = self.profile.map(|profile| &profile.grant);
        if self.url_key().is_some() && !self.is_ews() {
            return Trouble::ApiTokenRefused;
        }
        match (code, grant, self.provider) {
            (Some("LOGINDISABLED" | "PRIVACYREQUIRED"), ..) => Trouble::SignInNeedsTls,
            (Some("WEBALERT"), _, Provider::Google) => Trouble::BrowserSignIn,
            (Some("EXPIRED"), None, _) => Trouble::PasswordExpired,
            (_, Some(Grant::ClientCredentials), Provider::Microsoft(_)) => {
                Trouble::ApplicationRefused
            }
            (_, Some(_), Provider::Microsoft(_)) => Trouble::UserTokenRefused,
            (_, Some(Grant::ServiceAccount(_)), Provider::Google) => Trouble::ServiceAccountRefused,
            (_, Some(_), Provider::Google) => Trouble::GoogleTokenRefused,
            (_, Some(_), Provider::Custom) => Trouble::CustomTokenRefused,
            (_, None, Provider::Microsoft(_)) if !takes_passwords => Trouble::NoPasswordsAtExchange,
            (_, None, Provider::Google) => Trouble::AppPassword,
            (_, None, _) if self.is_ews() => Trouble::BasicRefused,
            (_, None, _) => Trouble::PasswordRefused,
        }
    }

    /// Returns what to do about a mailbox that opens although it must not.
    pub fn of_open_mailbox(&self) -> Advice {
        match self.is_app_only() {
            true => self.advice(Trouble::ApplicationOpensTooMuch, ""),
            false => self.advice(Trouble::UserOpensTooMuch, ""),
        }
    }

    fn access_denied(&self) -> Trouble {
        match self.is_app_only() {
            true => Trouble::ApplicationNotCovered,
            false => Trouble::UserNotCovered,
        }
    }

    fn is_app_only(&self) -> bool {
        self.profile
            .is_some_and(|profile| profile.grant.is_app_only())
    }

    /// Fills in a row of the table. `folder` is the folder that the error names.
    fn advice(&self, trouble: Trouble, folder: &str) -> Advice {
        let row = row(trouble);
        let steps = row.steps.iter().flat_map(|step| match *step {
            "{ports}" => self.ports(),
            "{let_in}" => self.let_in(),
            "{send_as}" => self.send_as(),
            "{cover}" => self.cover(),
            "{certificate}" => vec![self.certificate_command()],
            "{allow_protocol}" => vec![self.allow_protocol()],
            step => vec![self.filled(step, folder)],
        });
        Advice {
            text: self.filled(row.text, folder),
            steps: steps.collect(),
        }
    }

    fn filled(&self, template: &str, folder: &str) -> String {
        let sender = match self.user {
            "" => "Postroom",
            user => user,
        };
        let of_protocol =
            |fact: fn(&ServerProtocol) -> &'static str| self.protocol.map_or("", fact).to_owned();
        fill(template, |word| {
            Some(match word {
                "key" => self.key.clone(),
                "host" => self.host().to_owned(),
                "port" => self.port().to_string(),
                "user" => self.user.to_owned(),
                "quoted_user" => quoted(self.user),
                "quoted_address" => quoted(self.address),
                "sender" => sender.to_owned(),
                "address" => self.address.to_owned(),
                "folder" => folder.to_owned(),
                "host_setting" => match self.url_key() {
                    Some(key) => format!("{key} = \"https://…\""),
                    None => "host = \"…\"".into(),
                },
                "host_key" => match self.url_key() {
                    Some(key) => format!("the {key}'s host"),
                    None => "host".into(),
                },
                "protocol" => of_protocol(|it| it.sign_in),
                "permission" => of_protocol(|it| it.permission),
                "app_permission" => of_protocol(|it| it.app_permission),
                _ => return None,
            })
        })
    }

    /// Returns how an administrator gives the signed-in user access to the mailbox.
    fn let_in(&self) -> Vec<String> {
        let Provider::Microsoft(_) = self.provider else {
            return Vec::new();
        };
        match self.profile {
            Some(profile) if profile.grant.is_app_only() => {
                let mut commands = self.exchange_commands(profile, self.mailbox());
                commands.push(self.allow_protocol());
                commands
            }
            _ => {
                let login = self.account_login;
                let note = match login {
                    Some(_) => "# In PowerShell, after Connect-ExchangeOnline:",
                    None => {
                        "# In PowerShell, after Connect-ExchangeOnline; the user is the one that `postroom auth status` names:"
                    }
                };
                let user = login.map_or("USER".into(), |login| format!("'{}'", quoted(login)));
                let mut steps = vec![
                    note.into(),
                    format!(
                        "Add-MailboxPermission -Identity '{}' -User {user} -AccessRights FullAccess",
                        quoted(self.mailbox())
                    ),
                ];
                if self.url_key().is_none() {
                    steps.push(self.allow_protocol());
                }
                steps
            }
        }
    }

    /// Returns how an administrator gives an application access to this mailbox and to no other.
    fn cover(&self) -> Vec<String> {
        match self.profile {
            Some(profile) => {
                let provider = self.provider;
                let profile = profile.clone();
                graph_commands(
                    &Profile {
                        provider,
                        ..profile
                    },
                    self.mailbox(),
                )
            }
            None => Vec::new(),
        }
    }

    fn send_as(&self) -> Vec<String> {
        let Provider::Microsoft(_) = self.provider else {
            return Vec::new();
        };
        match self.profile {
            Some(profile) if profile.grant.is_app_only() => {
                self.exchange_commands(profile, self.address)
            }
            _ => vec![
                "# In PowerShell, after Connect-ExchangeOnline:".into(),
                format!(
                    "Add-RecipientPermission -Identity '{}' -Trustee '{}' -AccessRights SendAs -Confirm:$false",
                    quoted(self.address),
                    quoted(self.user)
                ),
            ],
        }
    }

    /// Returns the Exchange commands, also for a custom provider in front of a Microsoft server.
    fn exchange_commands(&self, profile: &Profile, mailbox: &str) -> Vec<String> {
        let profile = Profile {
            provider: self.provider,
            ..profile.clone()
        };
        exchange_commands(&profile, mailbox)
    }

    fn allow_protocol(&self) -> String {
        let switch = self
            .protocol
            .map_or("", |protocol| protocol.exchange_switch);
        let mailbox = quoted(self.mailbox());
        format!("Set-CASMailbox -Identity '{mailbox}' {switch}")
    }

    /// Returns the mailbox that is opened.
    fn mailbox(&self) -> &str {
        if self.user.is_empty() {
            self.address
        } else {
            self.user
        }
    }

    /// Returns the configured port, and the protocol's usual ports, the default one first.
    fn ports(&self) -> Vec<String> {
        if self.is_ews() {
            let (host, port) = (self.host(), self.port());
            let url = format!("https://{host}:{port}/EWS/Exchange.asmx");
            return vec![
                format!(
                    "[{}] url = \"{url}\", or as the server's administrator says",
                    self.key
                ),
                format!("curl -i {url}"),
            ];
        }
        if let Some(key) = self.url_key() {
            return vec![format!(
                "[{}] {key} names now: host {}, port {}",
                self.key,
                self.host(),
                self.port()
            )];
        }
        let mode = self.mode().unwrap_or(TlsMode::None);
        let now = format!(
            "[{}] host, port and tls are now: {}, {}, \"{mode}\"",
            self.key,
            self.host(),
            self.port(),
        );
        let Some(protocol) = self.protocol else {
            return vec![now];
        };
        let ports = &protocol.ports;
        let mut usual = [
            (ports.implicit, TlsMode::Implicit),
            (ports.start_tls, TlsMode::StartTls),
        ];
        usual.sort_by_key(|(port, _)| *port != ports.default);
        let usual = usual.map(|(port, mode)| format!("port = {port} with tls = \"{mode}\""));
        let usual = format!("usual for {}: {}", protocol.name, usual.join(", "));
        vec![now, usual]
    }

    fn certificate_command(&self) -> String {
        let start = match (self.mode(), self.protocol) {
            (Some(TlsMode::StartTls), Some(protocol)) => {
                format!(" -starttls {}", protocol.starttls)
            }
            _ => String::new(),
        };
        let (host, port) = (self.host(), self.port());
        format!(
            "openssl s_client -connect {host}:{port} -servername {host}{start} -showcerts </dev/null"
        )
    }

    fn mode(&self) -> Option<TlsMode> {
        self.server.as_ref().map(|server| server.tls)
    }

    /// Returns the key of the whole URL, if there is one in place of host and port.
    fn url_key(&self) -> Option<&'static str> {
        match self.has_url {
            true => Some("url"),
            false => self.protocol.and_then(|protocol| protocol.url_key),
        }
    }

    fn host(&self) -> &str {
        self.server.as_ref().map_or("", |server| &server.host)
    }

    fn port(&self) -> u16 {
        self.server.as_ref().map_or(0, |server| server.port)
    }
}

fn unreachable(why: Unreachable) -> Trouble {
    match why {
        Unreachable::UnknownHost => Trouble::UnknownHost,
        Unreachable::Refused => Trouble::NobodyListens,
        Unreachable::Other => Trouble::NoRoute,
        Unreachable::Proxy(fault) => match fault {
            ProxyFault::UnknownHost | ProxyFault::Unreachable => Trouble::ProxyUnreachable,
            ProxyFault::Timeout => Trouble::ProxySilent,
            ProxyFault::CredentialsRequired | ProxyFault::CredentialsRefused => {
                Trouble::ProxyCredentials
            }
            ProxyFault::Forbidden => Trouble::ProxyForbids,
            ProxyFault::ServerUnreachable => Trouble::ProxyCannotConnect,
            ProxyFault::NotAProxy => Trouble::NotAProxy,
        },
    }
}

fn tls(cause: Option<&TlsError>) -> Trouble {
    match cause {
        None => Trouble::NoStartTls,
        Some(TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. }) => {
            Trouble::NoTlsFromFirstByte
        }
        Some(TlsError::InvalidCertificate(fault)) => match fault {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Trouble::CertificateName
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Trouble::CertificateTime,
            _ => Trouble::CertificateAuthority,
        },
        Some(_) => Trouble::NoTlsAgreement,
    }
}

/// Returns the server's provider: that of the profile, or otherwise determined by the server's name.
fn provider(profile: Option<&Profile>, server: Option<&Server>) -> Provider {
    match profile.map(|profile| profile.provider) {
        Some(Provider::Custom) | None => server.map_or(Provider::Custom, by_host),
        Some(provider) => provider,
    }
}

fn by_host(server: &Server) -> Provider {
    let is = |known: Option<&str>| known.is_some_and(|it| it.eq_ignore_ascii_case(&server.host));
    let cloud = CLOUDS.iter().find(|cloud| {
        [cloud.mail_host, cloud.smtp_host, cloud.graph_host]
            .into_iter()
            .any(|host| is(Some(host)))
    });
    match cloud {
        Some(cloud) => Provider::Microsoft(cloud),
        None if is(Provider::Google.imap_host()) || is(Provider::Google.smtp_host()) => {
            Provider::Google
        }
        None => Provider::Custom,
    }
}

/// Returns text in PowerShell's single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

/// Replaces each known word in braces. Other braces stay, since TOML uses them too.
fn fill(template: &str, word: impl Fn(&str) -> Option<String>) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let known = after
            .split_once('}')
            .and_then(|(name, behind)| Some((word(name)?, behind)));
        match known {
            Some((text, behind)) => {
                filled.push_str(&text);
                rest = behind;
            }
            None => {
                filled.push('{');
                rest = after;
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests;
