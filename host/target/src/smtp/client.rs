//! Submission over SMTP (RFC 6409), one kept connection an outgoing.
//!
//! ```text
//! connect ─ TLS ─ EHLO ─ AUTH ─┬─ MAIL FROM ─ RCPT TO … ─ DATA ─ text ─ 250 ─┐
//!                              └──────────── NOOP, next mail ←───────────────┘
//! ```
//! The commands are given one by one, so that each failure is known by its step: before the text
//! was whole a mail was surely not accepted, after it nobody can tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use postroom_auth::{AccessToken, Login};
use postroom_core::Address;
use postroom_net::{Step as ProbedStep, TlsMode, Trace, is_loopback, server_name};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;

use crate::smtp::error::{SendError, Step};
use crate::smtp::line::Line;
use crate::smtp::login;
use crate::smtp::mail::{Draft, OutgoingMail, REPLIED};
use crate::smtp::probe::{Reporter, limits};
use crate::smtp::session::{Session, SmtpTimeouts, own_name, within};
use crate::smtp::submit::submit;
use crate::smtp::tap::Tap;

/// A connection that was idle for longer is not used again: servers end them at leisure.
const MAX_IDLE: Duration = Duration::from_secs(60);

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
    /// The name by which EHLO introduces this machine; without one its own full name, else its address.
    pub hello: Option<String>,
    pub timeouts: SmtpTimeouts,
}

/// The server's word that it has the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub code: u16,
    /// The server's answer, often with its queue id.
    pub text: String,
    /// Those it will never take, while it took the others.
    pub refused: Vec<RefusedRecipient>,
    /// Those it does not take now, while it took the others.
    pub deferred: Vec<RefusedRecipient>,
}

/// A recipient the server refused, for good or for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecipient {
    /// As it stands in [`OutgoingMail::to`].
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
                let name = server_name(&settings.host);
                let name = name.map_err(|error| SendError::Settings {
                    problem: error.to_string(),
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

    /// Records the conversation with the server from now on, without secrets and mails.
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
        let draft = self.draft(mail, REPLIED)?;
        let mut idle = self.idle.lock().await;
        let mut session = self.session(idle.take()).await?;
        match submit(&mut session, draft).await {
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
        let quiet = &mut Reporter::quiet();
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
            && session.still_answers().await
    }

    /// A connection that greeted us, under TLS where that is configured.
    pub(crate) async fn connect(&self, probe: &mut Reporter<'_>) -> Result<Session, SendError> {
        let SmtpSettings { host, port, .. } = &self.settings;
        let timeouts = limits(probe, self.settings.timeouts);
        let limit = timeouts.connect;
        let tap = self.trace.clone().map(Tap::new);
        let mut line = within(Step::Connect, limit, Line::dial(host, *port, tap)).await?;
        probe.passed(ProbedStep::Connect, || {
            format!("{host}:{port} ({})", line.peer().ip())
        });
        let own = self.settings.hello.clone();
        let own = own.unwrap_or_else(|| own_name(line.local()));
        let mut session = match &self.tls {
            None => Session::over(line, timeouts),
            Some((tls, name)) => {
                let start_tls = self.settings.tls == TlsMode::StartTls;
                if start_tls {
                    let mut session = Session::over(line, timeouts);
                    session.greeting().await?;
                    session.hello(Step::Tls, &own).await?;
                    session.start_tls().await?;
                    line = session.line;
                }
                let securing = line.secure(tls, name.clone());
                let (line, version) = within(Step::Tls, limit, securing).await?;
                probe.passed(ProbedStep::Tls, || match start_tls {
                    true => format!("STARTTLS, {version}"),
                    false => version,
                });
                Session::over(line, timeouts)
            }
        };
        if self.settings.tls != TlsMode::StartTls {
            session.greeting().await?;
        }
        session.hello(Step::Hello, &own).await?;
        probe.passed(ProbedStep::Hello, || session.offers.server.clone());
        Ok(session)
    }

    /// Signs in, where that is configured. A token can be withdrawn before its time: in place of a refused one a new one gets
    /// one try, over a new connection.
    pub(crate) async fn sign_in(
        &self,
        session: Session,
        token: Option<AccessToken>,
    ) -> Result<Session, SendError> {
        let signed_in = self.sign_in_once(session, token.clone()).await;
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
                let connection = self.connect(&mut Reporter::quiet()).await?;
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
        mut session: Session,
        token: Option<AccessToken>,
    ) -> Result<Session, SendError> {
        if let Some(login) = &self.login {
            login::sign_in(&mut session, login, token.as_ref(), self.trace.as_ref()).await?;
        }
        session.token = token;
        Ok(session)
    }

    /// A mail as it will be written once it is known what the server offers.
    pub(crate) fn draft<'m>(
        &'m self,
        mail: &'m OutgoingMail,
        automatic: &'static str,
    ) -> Result<Draft<'m>, SendError> {
        let (from, reply_to) = (&self.settings.from, self.settings.reply_to.as_ref());
        Draft::new(mail, from, reply_to, automatic)
    }
}
