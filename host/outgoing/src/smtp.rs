//! Submission over SMTP (RFC 6409), one kept connection an outgoing.
//!
//! ```text
//! connect ─ TLS ─ EHLO ─ AUTH ─┬─ MAIL FROM ─ RCPT TO … ─ DATA ─ text ─ 250 ─┐
//!                              └──────────── NOOP, next mail ←───────────────┘
//! ```
//! The commands are given one by one, so that each failure is known by its step: before the text
//! was whole a mail was surely not accepted, after it nobody can tell.

use std::future::Future;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::AsyncSmtpConnection;
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::{ClientId, Extension, MailBodyParameter, MailParameter};
use lettre::transport::smtp::response::Response;
use postroom_auth::{AccessToken, Login, Trace};
use postroom_core::Address;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::error::{SendError, Step, tidy};
use crate::line::Line;
use crate::mail::{Composed, OutgoingMail, REPLIED, compose};
use crate::probe::Walk;
use crate::tap::Tap;

/// A connection that was idle for longer is not used again: servers end them at leisure.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// A farewell may take no longer.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);

/// How the connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314), as on port 465.
    Implicit,
    /// STARTTLS, required (RFC 3207), as on port 587.
    StartTls,
    /// No TLS: refused for any host but the machine itself.
    None,
}

/// One `[outgoing.NAME]` of the configuration.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// The From header and the envelope's sender.
    pub from: Address,
    pub reply_to: Option<Address>,
    /// For each step by itself, not for the whole mail.
    pub timeout: Duration,
}

/// The server's word that it has the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub code: u16,
    /// What the server said, often its queue's number.
    pub text: String,
    /// Those it would not take, while it took the others.
    pub refused: Vec<RefusedRecipient>,
    /// Those it would not take now, while it took the others: the mail is owed to them still.
    pub deferred: Vec<RefusedRecipient>,
}

/// A recipient the server refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecipient {
    pub address: String,
    pub code: u16,
    pub text: String,
}

/// A way out by SMTP. Mails go one after the other over one connection.
pub struct Smtp {
    settings: SmtpSettings,
    login: Option<Login>,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    trace: Option<Trace>,
    /// The last new token was refused as well: the fault lies elsewhere, and the profile's other users keep their token.
    distrusted: AtomicBool,
    idle: Mutex<Option<Session>>,
}

pub(crate) struct Session {
    connection: AsyncSmtpConnection,
    /// The token it was opened with: another one needs another connection.
    token: Option<AccessToken>,
    used: Instant,
}

impl Smtp {
    /// Connects to nothing yet.
    pub fn new(
        settings: SmtpSettings,
        login: Option<Login>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, SendError> {
        let tls = match settings.tls {
            TlsMode::None if is_loopback(&settings.host) => None,
            TlsMode::None => {
                return Err(SendError::Settings {
                    problem: format!(
                        "tls = \"none\" would send mail and secrets in clear to {}",
                        settings.host
                    ),
                });
            }
            TlsMode::Implicit | TlsMode::StartTls => {
                let name = ServerName::try_from(settings.host.clone());
                let name = name.map_err(|_| SendError::Settings {
                    problem: format!("{} is no name a certificate can have", settings.host),
                })?;
                Some((tls, name))
            }
        };
        Ok(Self {
            settings,
            login,
            tls,
            trace: None,
            distrusted: AtomicBool::new(false),
            idle: Mutex::new(None),
        })
    }

    /// Records from now on what is said to the server, secrets and mails left out.
    pub fn with_trace(mut self, trace: Trace) -> Self {
        self.trace = Some(trace);
        self
    }

    /// The outgoing's name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn settings(&self) -> &SmtpSettings {
        &self.settings
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Sends one mail; when this returns `Ok`, the server has it.
    pub async fn send(&self, mail: &OutgoingMail) -> Result<Receipt, SendError> {
        let (from, reply_to) = (&self.settings.from, self.settings.reply_to.as_ref());
        let composed = compose(mail, from, reply_to, REPLIED)?;
        let mut idle = self.idle.lock().await;
        let mut session = self.session(idle.take()).await?;
        match self.submit(&mut session, &composed).await {
            Ok(receipt) => {
                session.used = Instant::now();
                *idle = Some(session);
                Ok(receipt)
            }
            Err(error) => {
                if error.is_answer() {
                    session.quit().await;
                }
                Err(error)
            }
        }
    }

    /// Ends the kept connection politely.
    pub async fn close(&self) {
        if let Some(session) = self.idle.lock().await.take() {
            session.quit().await;
        }
    }

    /// The kept connection when it still serves, else a new one.
    async fn session(&self, idle: Option<Session>) -> Result<Session, SendError> {
        let quiet = &mut Walk::quiet();
        let token = self.token().await?;
        if let Some(mut session) = idle {
            if self.still_serves(&mut session, token.as_ref()).await {
                return Ok(session);
            }
            session.quit().await;
        }
        let connection = self.connect(quiet).await?;
        self.sign_in(connection, token).await
    }

    /// `None` where none is needed.
    pub(crate) async fn token(&self) -> Result<Option<AccessToken>, SendError> {
        match &self.login {
            Some(Login::Bearer {
                account,
                resource,
                tokens,
                ..
            }) => Ok(Some(tokens.access_token(account, *resource).await?)),
            Some(Login::Password { .. }) | None => Ok(None),
        }
    }

    async fn still_serves(&self, session: &mut Session, token: Option<&AccessToken>) -> bool {
        session.token.as_ref() == token
            && session.used.elapsed() < MAX_IDLE
            && timeout(self.settings.timeout, session.connection.test_connected())
                .await
                .unwrap_or(false)
    }

    /// A connection that greeted us, under TLS where that is configured.
    pub(crate) async fn connect(
        &self,
        walk: &mut Walk<'_>,
    ) -> Result<AsyncSmtpConnection, SendError> {
        let hello = ClientId::default();
        let (host, port) = (self.settings.host.as_str(), self.settings.port);
        let tap = self.trace.clone().map(Tap::new);
        let mut line = self
            .within(Step::Connect, Line::dial(host, port, tap))
            .await?;
        walk.done("connect", || {
            format!("{host}:{port} ({})", line.peer().ip())
        });
        if let Some((tls, name)) = &self.tls {
            let start_tls = self.settings.tls == TlsMode::StartTls;
            if start_tls {
                let greeting = self.within(Step::Hello, line.greeting()).await?;
                let asked = line.start_tls(&hello, greeting);
                self.within(Step::Tls, asked).await?;
            }
            let securing = line.secure(tls, name.clone());
            let (secured, version) = self.within(Step::Tls, securing).await?;
            line = secured;
            walk.done("tls", || match start_tls {
                true => format!("STARTTLS, {version}"),
                false => version,
            });
        }
        let greeting = AsyncSmtpConnection::connect_with_transport(Box::new(line), &hello);
        let connection = self.step(Step::Hello, greeting).await?;
        walk.done("hello", || connection.server_info().name().into());
        Ok(connection)
    }

    /// Signs in, where that is configured. A token can be withdrawn before its time: in place of a refused one a new one gets
    /// one try, over a new connection.
    pub(crate) async fn sign_in(
        &self,
        connection: AsyncSmtpConnection,
        token: Option<AccessToken>,
    ) -> Result<Session, SendError> {
        let signed_in = self.sign_in_once(connection, token.clone()).await;
        let signed_in = match (signed_in, &self.login, token) {
            (
                Err(refused @ SendError::RefusedLogin { .. }),
                Some(Login::Bearer {
                    account, tokens, ..
                }),
                Some(stale),
            ) if !self.distrusted.load(Ordering::Relaxed) => {
                tracing::debug!(outgoing = %self.settings.name, %refused, "asking for a new token");
                tokens.reject(account, &stale).await;
                let newer = self.token().await?;
                let connection = self.connect(&mut Walk::quiet()).await?;
                let signed_in = self.sign_in_once(connection, newer).await;
                let again = matches!(signed_in, Err(SendError::RefusedLogin { .. }));
                self.distrusted.store(again, Ordering::Relaxed);
                signed_in
            }
            (signed_in, ..) => signed_in,
        };
        if signed_in.is_ok() {
            self.distrusted.store(false, Ordering::Relaxed);
        }
        signed_in
    }

    async fn sign_in_once(
        &self,
        mut connection: AsyncSmtpConnection,
        token: Option<AccessToken>,
    ) -> Result<Session, SendError> {
        match (&self.login, &token) {
            (None, _) => {}
            (Some(Login::Password { user, password }), _) => {
                let credentials = Credentials::new(user.clone(), password.expose().to_owned());
                self.sign_in_by_password(&mut connection, user, &credentials)
                    .await?;
            }
            (Some(Login::Bearer { user, .. }), Some(token)) => {
                self.sign_in_by_token(&mut connection, user, token).await?;
            }
            (Some(Login::Bearer { .. }), None) => {
                return Err(SendError::Settings {
                    problem: "a sign-in by token has no token".into(),
                });
            }
        }
        Ok(Session {
            connection,
            token,
            used: Instant::now(),
        })
    }

    async fn sign_in_by_password(
        &self,
        connection: &mut AsyncSmtpConnection,
        user: &str,
        credentials: &Credentials,
    ) -> Result<(), SendError> {
        let mechanisms = [Mechanism::Plain, Mechanism::Login];
        if connection
            .server_info()
            .get_auth_mechanism(&mechanisms)
            .is_none()
        {
            return Err(SendError::Unsupported {
                step: Step::Login,
                feature: "AUTH PLAIN or LOGIN",
            });
        }
        let answer = timeout(
            self.settings.timeout,
            connection.auth(&mechanisms, credentials),
        );
        self.sign_in_answer(user, None, answer).await.map(drop)
    }

    /// XOAUTH2, by hand: lettre's own way would lose the error JSON and the final code.
    async fn sign_in_by_token(
        &self,
        connection: &mut AsyncSmtpConnection,
        user: &str,
        token: &AccessToken,
    ) -> Result<(), SendError> {
        if !connection
            .server_info()
            .supports_auth_mechanism(Mechanism::Xoauth2)
        {
            return Err(SendError::Unsupported {
                step: Step::Login,
                feature: "AUTH XOAUTH2",
            });
        }
        let response = BASE64.encode(format!(
            "user={user}\x01auth=Bearer {}\x01\x01",
            token.expose()
        ));
        let limit = self.settings.timeout;
        let answer = timeout(
            limit,
            connection.command(format!("AUTH XOAUTH2 {response}\r\n")),
        );
        let mut answer = self.sign_in_answer(user, None, answer).await?;
        if answer.has_code(334) && answer.first_word().is_none() {
            // The server overlooked the initial response and asks for it.
            let again = timeout(limit, connection.command(format!("{response}\r\n")));
            answer = self.sign_in_answer(user, None, again).await?;
        }
        if !answer.has_code(334) {
            return Ok(());
        }
        let challenge = answer
            .first_word()
            .and_then(|word| BASE64.decode(word).ok())
            .map(|json| tidy(&String::from_utf8_lossy(&json)));
        let last = timeout(limit, connection.command("\r\n"));
        let answer = self.sign_in_answer(user, challenge, last).await?;
        Err(SendError::Transient {
            step: Step::Login,
            code: Some(answer.code().into()),
            problem: "the server refused the token, then accepted an empty answer".into(),
        })
    }

    async fn sign_in_answer(
        &self,
        user: &str,
        challenge: Option<String>,
        answer: impl Future<Output = Result<Result<Response, SmtpError>, tokio::time::error::Elapsed>>,
    ) -> Result<Response, SendError> {
        let error = match answer.await {
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => SendError::at(Step::Login, &error),
            Err(_) => self.late(Step::Login),
        };
        Err(match error {
            SendError::Transient {
                code: Some(code @ 500..),
                problem,
                ..
            } => SendError::RefusedLogin {
                user: user.to_owned(),
                code,
                text: problem,
                challenge,
            },
            other => other,
        })
    }

    /// One mail over an open connection (RFC 5321 section 3.3).
    pub(crate) async fn submit(
        &self,
        session: &mut Session,
        mail: &Composed,
    ) -> Result<Receipt, SendError> {
        let connection = &mut session.connection;
        let parameters = mail_parameters(connection, mail)?;
        let sender = Mail::new(Some(mail.from.clone()), parameters);
        self.step(Step::Sender, connection.command(sender)).await?;

        let mut refused = Vec::new();
        for recipient in &mail.to {
            let answer = connection.command(Rcpt::new(recipient.clone(), vec![]));
            match self.step(Step::Recipient, answer).await {
                Ok(_) => {}
                Err(SendError::Permanent {
                    code: Some(code),
                    problem,
                    ..
                }) => refused.push(RefusedRecipient {
                    address: recipient.to_string(),
                    code,
                    text: problem,
                }),
                Err(error) => return Err(error),
            }
        }
        if let (true, Some(first)) = (refused.len() == mail.to.len(), refused.first()) {
            return Err(SendError::Permanent {
                step: Step::Recipient,
                code: Some(first.code),
                problem: format!("{}: {}", first.address, first.text),
            });
        }

        self.step(Step::Data, connection.command(Data)).await?;
        let mut whole = false;
        // Asked for more, everything before is written: only the final dot is left.
        let end = iter::from_fn(|| {
            whole = true;
            None
        });
        let text = connection.message_iter(iter::once(mail.bytes.as_slice()).chain(end));
        match self.step(Step::Text, text).await {
            Ok(response) => Ok(Receipt {
                code: response.code().into(),
                text: tidy(&response.message().collect::<Vec<_>>().join(" ")),
                refused,
                deferred: Vec::new(),
            }),
            Err(error @ (SendError::Timeout { .. } | SendError::Transient { code: None, .. }))
                if whole =>
            {
                Err(SendError::Lost {
                    problem: error.to_string(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// One step of lettre's under its time limit.
    async fn step<T>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, SmtpError>>,
    ) -> Result<T, SendError> {
        let work = async { work.await.map_err(|error| SendError::at(step, &error)) };
        self.within(step, work).await
    }

    async fn within<T>(
        &self,
        step: Step,
        work: impl Future<Output = Result<T, SendError>>,
    ) -> Result<T, SendError> {
        timeout(self.settings.timeout, work)
            .await
            .unwrap_or_else(|_| Err(self.late(step)))
    }

    fn late(&self, step: Step) -> SendError {
        SendError::Timeout {
            step,
            secs: self.settings.timeout.as_secs(),
        }
    }
}

impl Session {
    pub(crate) async fn quit(mut self) {
        // Whether the farewell was heard changes nothing.
        let _ = timeout(QUIT_TIMEOUT, self.connection.abort()).await;
    }
}

fn mail_parameters(
    connection: &AsyncSmtpConnection,
    mail: &Composed,
) -> Result<Vec<MailParameter>, SendError> {
    let mut parameters = Vec::new();
    let mut require = |extension, parameter, feature: &str| {
        if connection.server_info().supports_feature(extension) {
            parameters.push(parameter);
            return Ok(());
        }
        Err(SendError::Permanent {
            step: Step::Sender,
            code: None,
            problem: format!("an address is not ASCII and the server does not offer {feature}"),
        })
    };
    if mail.has_international_address() {
        require(
            Extension::SmtpUtfEight,
            MailParameter::SmtpUtfEight,
            "SMTPUTF8",
        )?;
    }
    if !mail.bytes.is_ascii() {
        require(
            Extension::EightBitMime,
            MailParameter::Body(MailBodyParameter::EightBitMime),
            "8BITMIME",
        )?;
    }
    Ok(parameters)
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .trim_matches(['[', ']'])
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}
