//! What to do about a mail server's no: judged by the errors' types and the servers' codes, never by their words.

use postroom_auth::advice::{Advice, advise, exchange_commands};
use postroom_auth::provider::CLOUDS;
use postroom_auth::{AuthError, Grant, Profile, Provider};
use postroom_mailbox::{SourceError, Unreachable};
use postroom_target::smtp::{EnhancedStatus, SendError};
use rustls::{CertificateError, Error as TlsError};

use crate::config::{Config, Credential, Login, Mailbox, Outgoing, Server, Source, Tls};

/// What is tested, as far as advice speaks of it.
pub struct Place<'c> {
    /// Its table in the configuration.
    key: String,
    protocol: Protocol,
    /// `None` for a folder of this machine.
    server: Option<&'c Server>,
    /// The user that is signed in as.
    user: &'c str,
    /// Who signs in to the account, where one is named; a shared mailbox's `user` is another.
    account_login: Option<&'c str>,
    /// The address whose mailbox it is, or which it sends from.
    address: &'c str,
    /// `None` without one.
    profile: Option<&'c Profile>,
    provider: Provider,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Imap,
    Smtp,
    Spool,
}

impl<'c> Place<'c> {
    pub fn of_mailbox(config: &'c Config, mailbox: &'c Mailbox) -> Self {
        let key = format!("mailboxes.{}", mailbox.name);
        let address = mailbox.address.as_deref();
        match &mailbox.source {
            Source::Imap { server, login, .. } => {
                let address = address.unwrap_or(&login.user);
                Self::new(
                    config,
                    key,
                    Protocol::Imap,
                    Some(server),
                    Some(login),
                    address,
                )
            }
            Source::Spool { .. } => {
                let address = address.unwrap_or_default();
                Self::new(config, key, Protocol::Spool, None, None, address)
            }
        }
    }

    pub fn of_outgoing(config: &'c Config, way: &'c Outgoing) -> Self {
        let key = format!("outgoing.{}", way.name);
        let (server, login) = (Some(&way.server), way.login.as_ref());
        Self::new(config, key, Protocol::Smtp, server, login, &way.from.email)
    }

    fn new(
        config: &'c Config,
        key: String,
        protocol: Protocol,
        server: Option<&'c Server>,
        login: Option<&'c Login>,
        address: &'c str,
    ) -> Self {
        let profile = login.and_then(|login| match &login.credential {
            Credential::Account { account, .. } => config
                .profiles
                .iter()
                .find(|profile| profile.name == account.profile),
            Credential::Password(_) | Credential::Unavailable(_) => None,
        });
        Self {
            key,
            protocol,
            server,
            user: login.map_or("", |login| login.user.as_str()),
            account_login: login.and_then(|login| match &login.credential {
                Credential::Account { account, .. } => account.login.as_deref(),
                Credential::Password(_) | Credential::Unavailable(_) => None,
            }),
            address,
            profile,
            provider: provider(profile, server),
        }
    }

    /// What to do when a mailbox cannot be read.
    pub fn of_source(&self, error: &SourceError) -> Advice {
        match error {
            SourceError::Unreachable { why, .. } => match why {
                Unreachable::UnknownHost => self.unknown_host(),
                Unreachable::Refused => self.nobody_listens(),
                Unreachable::Other => self.no_way(),
            },
            SourceError::Timeout {
                step: "connect", ..
            } => self.no_way(),
            SourceError::Timeout {
                step: "greeting" | "tls",
                ..
            }
            | SourceError::Transient {
                step: "greeting" | "tls",
                ..
            }
            | SourceError::Protocol {
                step: "greeting", ..
            } => self.no_greeting(),
            SourceError::Tls { cause, .. } => self.tls(cause.as_ref()),
            SourceError::Auth(error) => self.no_token(error),
            SourceError::RefusedLogin { code, .. } => self.refused_login(code.as_deref()),
            SourceError::Transient {
                step: "authenticate",
                ..
            }
            | SourceError::Timeout {
                step: "authenticate",
                ..
            } => self.cannot_check(),
            SourceError::NotConnected { .. } => self.not_connected(),
            SourceError::Transient { step: "select", .. } => say(
                "The sign-in was accepted, and then the server ended the session or could not open the mailbox. Exchange does so when too many sessions come and go: wait a few minutes and test again. When it stays so, treat it as a missing permission.",
                self.let_in(),
            ),
            SourceError::OverLimit { .. } => say(
                format!(
                    "The server has as many connections or commands of {} as it allows. Close other mail programs of this mailbox, let fewer mailboxes share one user, or raise the server's limit (mail_max_userip_connections at Dovecot). Postroom tries again by itself.",
                    self.user
                ),
                Vec::new(),
            ),
            SourceError::OverQuota { .. } => say(
                "The mailbox has no room left. Remove mail, or raise its quota.",
                Vec::new(),
            ),
            SourceError::Refused { step: "target", .. }
            | SourceError::Unusable { step: "target", .. } => say(
                "Decided mail could not be moved there. Name another folder in `after`, with the prefix and the separator that the server uses.",
                vec![format!("[{}] after = {{ done = \"move:…\" }}", self.key)],
            ),
            SourceError::Folder {
                missing: true,
                folder,
                ..
            } => say(
                format!(
                    "The mailbox opens, and has no folder {folder}. Write its name as the mail program shows it, the folders above it included, with the separator of the server (mostly / or .)."
                ),
                vec![format!("[{}] folder = \"…\"", self.key)],
            ),
            SourceError::Folder { folder, .. } => say(
                format!(
                    "Folder {folder} is there, and {} may not open it. Give it the right to read the folder, and to change it where `after` marks, moves or deletes mail.",
                    self.user
                ),
                self.let_in(),
            ),
            SourceError::File { path, .. } => say(
                "The folder must belong to the user that runs Postroom, with the right to make, move and remove files in it, and its disk must not be full.",
                vec![format!("ls -ld {}", path.display())],
            ),
            SourceError::Transient { .. } | SourceError::Timeout { .. } => self.try_later(),
            SourceError::Refused { .. } | SourceError::Protocol { .. } => say(
                "The server does not do what mail servers do. Its administrator finds more in its log; `--trace` shows what was said.",
                Vec::new(),
            ),
            SourceError::UnknownCursor { .. } | SourceError::Unusable { .. } => self.correct(),
        }
    }

    /// What to do when mail cannot be sent.
    pub fn of_sending(&self, error: &SendError) -> Advice {
        use postroom_target::smtp::{Step, Unreachable};
        if let Some(advice) = error.enhanced_status().and_then(|it| self.by_status(it)) {
            return advice;
        }
        match error {
            SendError::Unreachable { why, .. } => match why {
                Unreachable::UnknownHost => self.unknown_host(),
                Unreachable::Refused => self.nobody_listens(),
                Unreachable::Other => self.no_way(),
            },
            SendError::Timeout {
                step: Step::Connect,
                ..
            } => self.no_way(),
            SendError::Timeout {
                step: Step::Tls | Step::Hello,
                ..
            }
            | SendError::Transient {
                step: Step::Tls | Step::Hello,
                code: None,
                ..
            } => self.no_greeting(),
            SendError::Tls { cause, .. } => self.tls(cause.as_ref()),
            SendError::Auth(error) => self.no_token(error),
            SendError::RefusedLogin { .. } => self.refused_login(None),
            SendError::Transient {
                step: Step::Login, ..
            }
            | SendError::Timeout {
                step: Step::Login, ..
            } => self.cannot_check(),
            SendError::Denied { .. }
            | SendError::Unsupported {
                step: Step::Login, ..
            } => say(
                "The server offers no sign-in of this kind here. Submission is at port 587 (tls = \"starttls\") or 465 (\"implicit\"), not at 25; at an Exchange of your own the connector must allow it.",
                self.ports(),
            ),
            SendError::Unsupported { .. } => self.tls(None),
            SendError::Permanent {
                step: Step::Sender, ..
            } => say(
                format!(
                    "The server does not let {} send as {}. Give it that right, or write the address of the mailbox that signs in as `from`.",
                    self.signing_in(),
                    self.address
                ),
                self.let_in(),
            ),
            SendError::Permanent { .. } => say(
                "The server takes mail from Postroom, and not this one. Its words say why: mostly the recipient's address, or a limit or filter of the server.",
                Vec::new(),
            ),
            SendError::Lost { .. } => say(
                "The mail was sent whole, and the server's answer was lost. Look whether it arrived; then test again.",
                Vec::new(),
            ),
            SendError::Transient { .. } | SendError::Timeout { .. } => self.try_later(),
            SendError::Settings { .. } => self.correct(),
        }
    }

    /// By the status codes that providers document.
    fn by_status(&self, status: EnhancedStatus) -> Option<Advice> {
        let advice = match status {
            EnhancedStatus(5, 7, 139) => say(
                format!(
                    "Exchange Online refuses this sign-in by a rule of the organization. Mostly SMTP AUTH is switched off, for the organization or for {}: an administrator switches it on. With a password it may also be security defaults or Conditional Access, which no switch of the mailbox lifts: sign in by a profile then.",
                    self.user
                ),
                vec![
                    "# In PowerShell, after Connect-ExchangeOnline:".into(),
                    format!(
                        "Set-CASMailbox -Identity '{}' -SmtpClientAuthenticationDisabled $false",
                        quoted(self.user)
                    ),
                    "Get-TransportConfig | Format-List SmtpClientAuthenticationDisabled".into(),
                    "# The mailbox's own switch overrides the organization's. For all mailboxes:"
                        .into(),
                    "Set-TransportConfig -SmtpClientAuthenticationDisabled $false".into(),
                ],
            ),
            EnhancedStatus(5, 7, 30) => say(
                "Exchange Online takes no passwords for sending any more. Sign in by OAuth: give the outgoing a profile.",
                vec![format!(
                    "[{}] profile = \"NAME\" in place of password",
                    self.key
                )],
            ),
            EnhancedStatus(5, 7, 57) => say(
                "The server wants a sign-in before it takes mail, and the outgoing has none.",
                vec![format!(
                    "[{}] profile = \"NAME\", or password = {{ env = \"NAME\" }}",
                    self.key
                )],
            ),
            EnhancedStatus(5, 7, 60) | EnhancedStatus(5, 2, 0 | 252) => say(
                format!(
                    "{} is signed in and has no right to send as {}. Give it Send As.",
                    self.signing_in(),
                    self.address
                ),
                self.send_as(),
            ),
            EnhancedStatus(5, 7, 9) if self.provider == Provider::Google => self.app_password(),
            EnhancedStatus(5, 7, 14) if self.provider == Provider::Google => self.web_login(),
            _ => return None,
        };
        Some(advice)
    }

    fn unknown_host(&self) -> Advice {
        say(
            format!(
                "No address is known for {}: the name is wrong, or this machine's DNS does not answer.",
                self.host()
            ),
            vec![
                format!("[{}] host = \"…\"", self.key),
                format!("getent hosts {}", self.host()),
            ],
        )
    }

    fn nobody_listens(&self) -> Advice {
        say(
            format!(
                "{} is there, and nobody listens at port {}. Correct the port, or start the server.",
                self.host(),
                self.port()
            ),
            self.ports(),
        )
    }

    fn no_way(&self) -> Advice {
        say(
            format!(
                "There is no way from this machine to {}, port {}: a firewall drops the connection, or the network is down. Postroom uses no proxy.",
                self.host(),
                self.port()
            ),
            vec![format!("nc -vz {} {}", self.host(), self.port())],
        )
    }

    fn no_greeting(&self) -> Advice {
        let text = match self.server.map(|server| server.tls) {
            Some(Tls::StartTls | Tls::None) => {
                "The connection stands, and no mail server greets on it in clear. Most likely the port expects TLS from the first byte: write tls = \"implicit\". Else something else listens there, or the server is overloaded."
            }
            _ => {
                "The connection stands, and no mail server greets on it. Most likely another protocol or a firewall answers at this port, or the server is overloaded."
            }
        };
        say(text, self.ports())
    }

    fn tls(&self, cause: Option<&TlsError>) -> Advice {
        let host = self.host();
        match cause {
            None => say(
                "The server offers no STARTTLS here. Use the port that speaks TLS from the first byte, with tls = \"implicit\"; nothing is ever signed in to without TLS.",
                self.ports(),
            ),
            Some(TlsError::InvalidMessage(_) | TlsError::InappropriateMessage { .. }) => say(
                "What answers here does not speak TLS from the first byte. Most likely the port wants STARTTLS: write tls = \"starttls\", or take the port for TLS.",
                self.ports(),
            ),
            Some(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => say(
                format!(
                    "The server's certificate is not for the name {host}. Write the name that stands in the certificate as host."
                ),
                vec![self.certificate_command()],
            ),
            Some(TlsError::InvalidCertificate(
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. },
            )) => say(
                "The server's certificate is out of its time. Either it was not renewed, or this machine's clock is wrong.",
                vec!["date --utc".into(), self.certificate_command()],
            ),
            Some(TlsError::InvalidCertificate(_)) => say(
                format!(
                    "The certificate of {host} is signed by nobody that this machine trusts. A private authority's certificate is named in the configuration. If {host} belongs to a large provider, a firewall between opens TLS: its authority is the one to name."
                ),
                vec![
                    "[tls] ca = \"authority.pem\"".into(),
                    self.certificate_command(),
                ],
            ),
            Some(_) => say(
                "The server and Postroom could not agree on TLS. Postroom needs TLS 1.2 or 1.3; old servers and firewalls that open TLS may not have it.",
                vec![self.certificate_command()],
            ),
        }
    }

    fn no_token(&self, error: &AuthError) -> Advice {
        advise(error, self.profile)
    }

    fn refused_login(&self, code: Option<&str>) -> Advice {
        match (code, self.profile) {
            (Some("LOGINDISABLED" | "PRIVACYREQUIRED"), _) => say(
                "The server takes no sign-in on this connection; mostly it wants TLS first.",
                self.ports(),
            ),
            (Some("WEBALERT"), _) if self.provider == Provider::Google => self.web_login(),
            (Some("EXPIRED"), None) => say(
                format!(
                    "The password of {} has expired. Set a new one, and write it where the configuration reads it from.",
                    self.user
                ),
                Vec::new(),
            ),
            (_, Some(profile)) => self.refused_token(profile),
            (_, None) => self.refused_password(),
        }
    }

    fn refused_token(&self, profile: &Profile) -> Advice {
        let user = self.user;
        match (self.provider, &profile.grant) {
            (Provider::Microsoft(_), Grant::ClientCredentials) => say(
                format!("The application has a token, and Exchange does not let it into {user}. It must be known to Exchange by the Object ID of the enterprise application, and have rights on this mailbox; a change takes up to an hour. The application permission {} must be granted with admin consent, too.", self.app_permission()),
                self.let_in(),
            ),
            (Provider::Microsoft(_), _) => say(
                format!("There is a token, and Exchange does not take it for {user}. The account that signed in must be {user} itself or have Full Access to it (a shared mailbox: address = the mailbox, login = who signs in), {} must be among the permissions it consented to, and {} be allowed for the mailbox.", self.permission(), self.protocol()),
                vec![
                    "postroom auth status".into(),
                    "# In PowerShell, after Connect-ExchangeOnline:".into(),
                    self.allow_protocol(),
                ],
            ),
            (Provider::Google, Grant::ServiceAccount(_)) => say(
                format!("There is a token, and Gmail does not take it for {user}. The service account needs domain-wide delegation for the scope https://mail.google.com/, {user} must be a user of that domain, and its Gmail be switched on with IMAP allowed."),
                vec!["Google Admin console > Security > Access and data control > API controls > Domain-wide delegation".into()],
            ),
            (Provider::Google, _) => say(
                format!("There is a token, and Gmail does not take it for {user}. Sign in as {user} in the browser, and not as another account; in a company's domain an administrator must allow IMAP and this application."),
                vec![
                    "postroom auth status".into(),
                    "Google Admin console > Apps > Google Workspace > Gmail > End User Access".into(),
                ],
            ),
            (Provider::Custom, _) => say(
                format!("There is a token, and {} does not take it for {user}. To a mail server a bad, an expired and another user's token look alike: it must ask the same authorization server as this profile, the token must be {user}'s or open every mailbox, and its scope be the one that the server wants.", self.host()),
                vec![
                    "postroom auth status".into(),
                    "the mail server's log names the reason; for Dovecot: auth_verbose = yes".into(),
                ],
            ),
        }
    }

    fn refused_password(&self) -> Advice {
        match self.provider {
            Provider::Microsoft(_) if self.protocol == Protocol::Imap => say(
                "Exchange Online takes no passwords for IMAP. Sign in by OAuth: give the mailbox a profile.",
                vec![format!(
                    "[{}] profile = \"NAME\" in place of password",
                    self.key
                )],
            ),
            Provider::Google => self.app_password(),
            _ => say(
                format!(
                    "User or password is wrong, or the server does not let {} sign in. Providers switch passwords off for mail programs: a profile signs in by OAuth.",
                    self.user
                ),
                vec![format!(
                    "[{}] login = \"…\", password = {{ env = \"NAME\" }}",
                    self.key
                )],
            ),
        }
    }

    fn app_password(&self) -> Advice {
        say(
            "Gmail does not take the account's own password. Sign in by OAuth with a profile; where that cannot be, an app password of an account with 2-step verification serves.",
            vec![
                format!("[{}] profile = \"NAME\" in place of password", self.key),
                "https://myaccount.google.com/apppasswords".into(),
            ],
        )
    }

    fn web_login(&self) -> Advice {
        say(
            format!(
                "Google holds this sign-in for suspicious. Sign in as {} in a browser once and confirm that it was you; then test again.",
                self.user
            ),
            vec!["https://accounts.google.com/DisplayUnlockCaptcha".into()],
        )
    }

    fn not_connected(&self) -> Advice {
        say(
            format!(
                "The sign-in is valid, and its user has no way into the mailbox {}. Either the right to the mailbox is missing, or the token is of another user than the mailbox it asks for, or IMAP is switched off for it. Exchange says the same for a while when too many sessions come and go.",
                self.user
            ),
            self.let_in(),
        )
    }

    fn cannot_check(&self) -> Advice {
        say(
            "The server cannot check sign-ins at the moment; mostly it does not reach the authorization server itself. That is not the token's fault, and Postroom tries again by itself. When it lasts, its administrator has to look.",
            Vec::new(),
        )
    }

    fn try_later(&self) -> Advice {
        say(
            "The server or the network failed in between. Postroom tries again by itself, and no mail is lost. Test again in some minutes.",
            Vec::new(),
        )
    }

    fn correct(&self) -> Advice {
        say(
            format!(
                "[{}] cannot be used as it is configured. Correct it as the error says.",
                self.key
            ),
            vec!["postroom check".into()],
        )
    }

    /// How an administrator lets the signed-in user into the mailbox.
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

    /// Also for a custom provider in front of a Microsoft server.
    fn exchange_commands(&self, profile: &Profile, mailbox: &str) -> Vec<String> {
        let profile = Profile {
            provider: self.provider,
            ..profile.clone()
        };
        exchange_commands(&profile, mailbox)
    }

    fn allow_protocol(&self) -> String {
        let mailbox = quoted(self.mailbox());
        match self.protocol {
            Protocol::Smtp => {
                format!(
                    "Set-CASMailbox -Identity '{mailbox}' -SmtpClientAuthenticationDisabled $false"
                )
            }
            _ => format!("Set-CASMailbox -Identity '{mailbox}' -ImapEnabled $true"),
        }
    }

    /// The mailbox that is opened.
    fn mailbox(&self) -> &str {
        if self.user.is_empty() {
            self.address
        } else {
            self.user
        }
    }

    fn signing_in(&self) -> &str {
        if self.user.is_empty() {
            "Postroom"
        } else {
            self.user
        }
    }

    fn permission(&self) -> &'static str {
        match self.protocol {
            Protocol::Smtp => "SMTP.Send",
            _ => "IMAP.AccessAsUser.All",
        }
    }

    fn app_permission(&self) -> &'static str {
        match self.protocol {
            Protocol::Smtp => "SMTP.SendAsApp",
            _ => "IMAP.AccessAsApp",
        }
    }

    fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Smtp => "SMTP AUTH",
            _ => "IMAP",
        }
    }

    fn ports(&self) -> Vec<String> {
        let usual = match self.protocol {
            Protocol::Smtp => {
                "usual for submission: port = 587 with tls = \"starttls\", port = 465 with tls = \"implicit\""
            }
            _ => {
                "usual for IMAP: port = 993 with tls = \"implicit\", port = 143 with tls = \"starttls\""
            }
        };
        vec![
            format!(
                "[{}] host, port and tls are now: {}, {}, \"{}\"",
                self.key,
                self.host(),
                self.port(),
                self.mode()
            ),
            usual.into(),
        ]
    }

    fn certificate_command(&self) -> String {
        let start = match (self.server.map(|server| server.tls), self.protocol) {
            (Some(Tls::StartTls), Protocol::Smtp) => " -starttls smtp",
            (Some(Tls::StartTls), _) => " -starttls imap",
            _ => "",
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

    fn mode(&self) -> &'static str {
        match self.server.map(|server| server.tls) {
            Some(Tls::Implicit) => "implicit",
            Some(Tls::StartTls) => "starttls",
            Some(Tls::None) | None => "none",
        }
    }
}

/// Whose server it is: as the profile says, else by its name.
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

/// Text within PowerShell's single quotes.
fn quoted(text: &str) -> String {
    text.replace('\'', "''")
}

fn say(text: impl Into<String>, steps: Vec<String>) -> Advice {
    Advice {
        text: text.into(),
        steps,
    }
}

#[cfg(test)]
mod tests;
