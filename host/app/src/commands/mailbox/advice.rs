//! Advice about a mail server's refusal, based on the types of errors and the codes of servers, never on their texts.

mod table;

use postroom_auth::advice::{Advice, advise, exchange_commands};
use postroom_auth::provider::CLOUDS;
use postroom_auth::{AuthError, Grant, Profile, Provider};
use postroom_mailbox::SourceError;
use postroom_net::{Step, TlsMode, Unreachable};
use postroom_target::smtp::{EnhancedStatus, SendError, Step as SmtpStep};
use rustls::{CertificateError, Error as TlsError};

use postroom_config::{
    Config, Credential, Login, Mailbox, Outgoing, SUBMISSION, Server, ServerProtocol,
};
use table::{Trouble, row};

/// The facts about the tested part that advice uses.
pub struct Place<'c> {
    /// Its table in the configuration.
    key: String,
    /// `None` for a folder on this machine, as is `server`.
    protocol: Option<&'static ServerProtocol>,
    server: Option<&'c Server>,
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
    pub fn of_mailbox(config: &'c Config, mailbox: &'c Mailbox) -> Self {
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
            Some(&SUBMISSION),
            (Some(&way.server), way.login.as_ref()),
            &way.from.email,
        )
    }

    fn new(
        config: &'c Config,
        key: String,
        protocol: Option<&'static ServerProtocol>,
        (server, login): (Option<&'c Server>, Option<&'c Login>),
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
            server,
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
            SourceError::Tls { cause, .. } => tls(cause.as_ref()),
            SourceError::RefusedLogin { code, .. } => self.refused_login(code.as_deref()),
            SourceError::NotConnected { .. } => Trouble::NotConnected,
            SourceError::OverLimit { .. } => Trouble::OverLimit,
            SourceError::OverQuota { .. } => Trouble::OverQuota,
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
                Step::Select => Trouble::SessionEnded,
                _ => Trouble::Passing,
            },
            SourceError::Protocol { step, .. } => match step {
                Step::Greeting => self.no_greeting(),
                _ => Trouble::NoMailServer,
            },
            SourceError::Refused { step, .. } => match step {
                Step::Target => Trouble::NoMoveThere,
                _ => Trouble::NoMailServer,
            },
            SourceError::Unusable { step, .. } => match step {
                Step::Target => Trouble::NoMoveThere,
                _ => Trouble::Unusable,
            },
            SourceError::UnknownCursor { .. } => Trouble::Unusable,
        };
        self.advice(trouble, folder)
    }

    /// Returns what to do when mail cannot be sent.
    pub fn of_sending(&self, error: &SendError) -> Advice {
        if let Some(trouble) = error.enhanced_status().and_then(|it| self.by_status(it)) {
            return self.advice(trouble, "");
        }
        let trouble = match error {
            SendError::Auth(error) => return self.no_token(error),
            SendError::Unreachable { why, .. } => unreachable(*why),
            SendError::Tls { cause, .. } => tls(cause.as_ref()),
            SendError::RefusedLogin { .. } => self.refused_login(None),
            SendError::Timeout { step, .. } => match step {
                SmtpStep::Connect => Trouble::NoRoute,
                SmtpStep::Tls | SmtpStep::Hello => self.no_greeting(),
                SmtpStep::Login => Trouble::SignInNotChecked,
                _ => Trouble::Passing,
            },
            SendError::Transient { step, code, .. } => match (step, code) {
                (SmtpStep::Tls | SmtpStep::Hello, None) => self.no_greeting(),
                (SmtpStep::Login, _) => Trouble::SignInNotChecked,
                _ => Trouble::Passing,
            },
            SendError::Denied { .. } => Trouble::NoSuchSignIn,
            SendError::Unsupported { step, .. } => match step {
                SmtpStep::Login => Trouble::NoSuchSignIn,
                _ => Trouble::NoStartTls,
            },
            SendError::Permanent { step, .. } => match step {
                SmtpStep::Sender => Trouble::SenderRefused,
                _ => Trouble::MailRefused,
            },
            SendError::Lost { .. } => Trouble::AnswerLost,
            SendError::Settings { .. } => Trouble::Unusable,
        };
        self.advice(trouble, "")
    }

    /// Determines the cause from the status codes that providers document.
    fn by_status(&self, status: EnhancedStatus) -> Option<Trouble> {
        match status {
            EnhancedStatus(5, 7, 139) => Some(Trouble::SmtpAuthOff),
            EnhancedStatus(5, 7, 30) => Some(Trouble::NoPasswordsForSending),
            EnhancedStatus(5, 7, 57) => Some(Trouble::NoSignIn),
            EnhancedStatus(5, 7, 60) | EnhancedStatus(5, 2, 0 | 252) => Some(Trouble::NoSendAs),
            EnhancedStatus(5, 7, 9) if self.provider == Provider::Google => {
                Some(Trouble::AppPassword)
            }
            EnhancedStatus(5, 7, 14) if self.provider == Provider::Google => {
                Some(Trouble::BrowserSignIn)
            }
            _ => None,
        }
    }

    fn no_token(&self, error: &AuthError) -> Advice {
        advise(error, self.profile)
    }

    fn no_greeting(&self) -> Trouble {
        match self.server.map(|server| server.tls) {
            Some(TlsMode::StartTls | TlsMode::None) => Trouble::NoGreetingInClear,
            Some(TlsMode::Implicit) | None => Trouble::NoGreeting,
        }
    }

    fn refused_login(&self, code: Option<&str>) -> Trouble {
        let takes_passwords = self
            .protocol
            .is_none_or(|protocol| protocol.takes_passwords);
        let grant = self.profile.map(|profile| &profile.grant);
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
            (_, None, _) => Trouble::PasswordRefused,
        }
    }

    /// Fills in a row of the table. `folder` is the one that the error names.
    fn advice(&self, trouble: Trouble, folder: &str) -> Advice {
        let row = row(trouble);
        let steps = row.steps.iter().flat_map(|step| match *step {
            "{ports}" => self.ports(),
            "{let_in}" => self.let_in(),
            "{send_as}" => self.send_as(),
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
                "sender" => sender.to_owned(),
                "address" => self.address.to_owned(),
                "folder" => folder.to_owned(),
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
                self.exchange_commands(profile, self.mailbox())
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
                vec![
                    note.into(),
                    format!(
                        "Add-MailboxPermission -Identity '{}' -User {user} -AccessRights FullAccess",
                        quoted(self.mailbox())
                    ),
                    self.allow_protocol(),
                ]
            }
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
        let mode = self.server.map_or(TlsMode::None, |server| server.tls);
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
        let start = match (self.server.map(|server| server.tls), self.protocol) {
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

    fn host(&self) -> &str {
        self.server.map_or("", |server| server.host.as_str())
    }

    fn port(&self) -> u16 {
        self.server.map_or(0, |server| server.port)
    }
}

fn unreachable(why: Unreachable) -> Trouble {
    match why {
        Unreachable::UnknownHost => Trouble::UnknownHost,
        Unreachable::Refused => Trouble::NobodyListens,
        Unreachable::Other => Trouble::NoRoute,
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
    let cloud = CLOUDS
        .iter()
        .find(|cloud| is(Some(cloud.mail_host)) || is(Some(cloud.smtp_host)));
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
