//! Submission over SMTP (RFC 6409): one kept connection per outgoing, to one of at most two servers.
//!
//! ```text
//! connect ─ TLS ─ EHLO ─ AUTH ─┬─ MAIL FROM ─ RCPT TO … ─ DATA ─ text ─ 250 ─┐
//!                              └──────────── NOOP, next mail ←───────────────┘
//! ```
//! Each failure is identified by its step: before the text was complete, the mail was certainly not accepted; after that, nobody
//! can tell.
//!
//! A server that cannot be reached, does not greet or cannot check the sign-in is avoided for [`SmtpTimeouts::return_after`]: new
//! sessions go to the alternate server first. After that time the first server is tried again, even if a session with the
//! alternate one is kept.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use postroom_auth::{AccessToken, Login};
use postroom_core::{Address, OutgoingMail};
use postroom_net::{Proxies, Step, TlsMode, Trace, is_loopback, server_name};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::sync::Mutex;

use crate::mail::{MailAttachment, Sender};
use crate::smtp::draft::Draft;
use crate::smtp::error::{SendError, SmtpStep};
use crate::smtp::line::Line;
use crate::smtp::login;
use crate::smtp::probe::{Reporter, limits};
use crate::smtp::session::{Session, SmtpTimeouts, own_name, within};
use crate::smtp::submit::submit;
use crate::smtp::tap::Tap;

/// A connection that was idle for longer is not reused, because servers end idle connections at any time.
const MAX_IDLE: Duration = Duration::from_secs(60);
/// The index of the first server.
pub(crate) const FIRST: usize = 0;
/// The index of the alternate server.
pub(crate) const ALTERNATE: usize = 1;

/// The settings of one `[outgoing.NAME]` in the configuration.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    pub name: String,
    pub host: String,
    /// Used while `host` fails, with the same port, TLS and sign-in.
    pub alternate_host: Option<String>,
    pub port: u16,
    pub tls: TlsMode,
    /// The From header and the envelope's sender.
    pub from: Address,
    pub reply_to: Option<Address>,
    /// Whether the address for answers gets the ticket's token as its tag.
    pub tag_replies: bool,
    /// The name that EHLO gives for this machine. By default its own full name, otherwise its address.
    pub hello: Option<String>,
    pub proxies: Proxies,
    pub timeouts: SmtpTimeouts,
}

/// The server's confirmation that it has the mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmtpReceipt {
    pub code: u16,
    /// The server's reply, often with its queue id.
    pub text: String,
    /// Recipients that it will never accept, while it accepted the others.
    pub refused: Vec<RefusedRecipient>,
    /// Recipients that it does not accept now, while it accepted the others.
    pub deferred: Vec<RefusedRecipient>,
}

/// A recipient that the server refused, permanently or for now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecipient {
    /// The address as written in [`OutgoingMail::to`].
    pub address: String,
    pub code: u16,
    pub text: String,
}

/// An SMTP outgoing. Mails are sent one after the other over one connection.
pub struct Smtp {
    settings: SmtpSettings,
    login: Option<Login>,
    /// The first server, then the alternate one, if there is one.
    servers: Vec<SmtpServer>,
    trace: Option<Trace>,
    /// When the first server last failed, unless it has worked since.
    failed: std::sync::Mutex<Option<Instant>>,
    /// The last new token was refused as well: the cause lies elsewhere, and the profile's other users keep their token.
    distrusted: AtomicBool,
    idle: Mutex<Option<Session>>,
}

/// One of the servers.
struct SmtpServer {
    host: String,
    /// `None` without TLS.
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl SmtpServer {
    fn new(host: &str, mode: TlsMode, tls: &Arc<ClientConfig>) -> Result<Self, SendError> {
        let tls = match mode {
            TlsMode::None if is_loopback(host) => None,
            TlsMode::None => {
                return Err(SendError::Settings {
                    problem: format!(
                        "tls = \"none\" would send mail and secrets in clear to {host}"
                    ),
                });
            }
            TlsMode::Implicit | TlsMode::StartTls => {
                let name = server_name(host).map_err(|error| SendError::Settings {
                    problem: error.to_string(),
                })?;
                Some((tls.clone(), name))
            }
        };
        Ok(Self {
            host: host.to_owned(),
            tls,
        })
    }
}

impl Smtp {
    /// Creates the outgoing. Connects to nothing yet.
    pub fn new(
        settings: SmtpSettings,
        login: Option<Login>,
        tls: Arc<ClientConfig>,
    ) -> Result<Self, SendError> {
        let hosts = [Some(&settings.host), settings.alternate_host.as_ref()];
        let servers = hosts
            .into_iter()
            .flatten()
            .map(|host| SmtpServer::new(host, settings.tls, &tls))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            settings,
            login,
            servers,
            trace: None,
            failed: std::sync::Mutex::default(),
            distrusted: AtomicBool::new(false),
            idle: Mutex::new(None),
        })
    }

    /// Records the conversation with the server from now on, without secrets and mails.
    pub fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    /// Returns the outgoing's name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    pub(crate) fn settings(&self) -> &SmtpSettings {
        &self.settings
    }

    pub(crate) fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Sends one mail. When this returns `Ok`, the server has it.
    pub async fn send(
        &self,
        mail: &OutgoingMail,
        attachments: &[MailAttachment],
    ) -> Result<SmtpReceipt, SendError> {
        let sender = Sender {
            from: &self.settings.from,
            reply_to: self.settings.reply_to.as_ref(),
            tagged: self.settings.tag_replies,
        };
        let draft = Draft::new(mail, attachments, sender)?;
        let mut idle = self.idle.lock().await;
        let mut session = self.session(idle.take()).await?;
        match submit(&mut session, draft).await {
            Ok(receipt) => {
                session.used = Instant::now();
                *idle = Some(session);
                Ok(receipt)
            }
            Err(error) => {
                if error.ended_session() {
                    self.note(session.server, false);
                }
                if error.is_answer() {
                    session.quit().await;
                }
                Err(error)
            }
        }
    }

    /// Closes the kept connection properly.
    pub async fn close(&self) {
        if let Some(session) = self.idle.lock().await.take() {
            session.quit().await;
        }
    }

    /// Returns the kept connection if it is still usable, otherwise a new one.
    async fn session(&self, idle: Option<Session>) -> Result<Session, SendError> {
        let token = self.token().await?;
        if let Some(mut session) = idle {
            if self.still_serves(&mut session, token.as_ref()).await {
                return Ok(session);
            }
            session.quit().await;
        }
        self.open(token).await
    }

    /// Opens a session with the first server that works, in the current order. Fails with the first server's error, since that is
    /// the one that people look into.
    async fn open(&self, token: Option<AccessToken>) -> Result<Session, SendError> {
        let mut failed = None;
        for server in self.order() {
            let opened = async {
                let connection = self.connect(server, &mut Reporter::quiet()).await?;
                self.sign_in(connection, token.clone()).await
            };
            let error = match opened.await {
                Ok(session) => {
                    self.note(server, true);
                    return Ok(session);
                }
                Err(error) => error,
            };
            if !error.is_of_server() {
                return Err(error);
            }
            self.note(server, false);
            tracing::debug!(outgoing = %self.settings.name, host = %self.servers[server].host, %error, "server failed");
            if failed.is_none() || server == FIRST {
                failed = Some(error);
            }
        }
        Err(failed.unwrap_or_else(|| SendError::Settings {
            problem: "there is no server".into(),
        }))
    }

    /// Returns the servers in the order in which they are currently tried.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (FIRST..self.servers.len()).collect();
        if self.avoids_first() {
            order.reverse();
        }
        order
    }

    /// Returns whether the first server failed so recently that the alternate one is preferred.
    fn avoids_first(&self) -> bool {
        let failed = self.failed.lock();
        let failed = failed.unwrap_or_else(PoisonError::into_inner);
        self.servers.len() > 1
            && failed.is_some_and(|at| at.elapsed() < self.settings.timeouts.return_after)
    }

    /// Records whether a server works.
    fn note(&self, server: usize, works: bool) {
        if server != FIRST || self.servers.len() == 1 {
            return;
        }
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let (outgoing, host) = (&self.settings.name, &self.settings.host);
        match (works, *failed) {
            (true, Some(_)) => tracing::info!(%outgoing, %host, "server works again"),
            (false, None) => {
                tracing::warn!(%outgoing, %host, "server failed; using the alternate host");
            }
            _ => {}
        }
        *failed = (!works).then(Instant::now);
    }

    /// Returns the access token, or `None` if none is needed.
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
            && (session.server == FIRST || self.avoids_first())
            && session.used.elapsed() < MAX_IDLE
            && session.still_answers().await
    }

    /// Opens a connection and reads the greeting, under TLS if configured.
    pub(crate) async fn connect(
        &self,
        server: usize,
        probe: &mut Reporter<'_>,
    ) -> Result<Session, SendError> {
        let SmtpServer { host, tls } = &self.servers[server];
        let port = &self.settings.port;
        let timeouts = limits(probe, self.settings.timeouts);
        let limit = timeouts.connect;
        let tap = self.trace.clone().map(Tap::new);
        let proxy = self.settings.proxies.for_mail(host);
        let mut line = Line::dial((host, *port), proxy, limit, tap, probe).await?;
        let own = self.settings.hello.clone();
        let own = own.unwrap_or_else(|| own_name(line.local()));
        let mut session = match tls {
            None => Session::over(line, server, timeouts),
            Some((tls, name)) => {
                let start_tls = self.settings.tls == TlsMode::StartTls;
                if start_tls {
                    let mut session = Session::over(line, server, timeouts);
                    session.greeting().await?;
                    session.hello(SmtpStep::Tls, &own).await?;
                    session.start_tls().await?;
                    line = session.line;
                }
                let securing = line.secure(tls, name.clone());
                let (line, version) = within(SmtpStep::Tls, limit, securing).await?;
                probe.passed(Step::Tls, || match start_tls {
                    true => format!("STARTTLS, {version}"),
                    false => version,
                });
                Session::over(line, server, timeouts)
            }
        };
        if self.settings.tls != TlsMode::StartTls {
            session.greeting().await?;
        }
        session.hello(SmtpStep::Hello, &own).await?;
        probe.passed(Step::Hello, || session.offers.server.clone());
        Ok(session)
    }

    /// Signs in if configured. A token can be revoked early: a refused token is replaced by a new one once, over a new
    /// connection.
    pub(crate) async fn sign_in(
        &self,
        session: Session,
        token: Option<AccessToken>,
    ) -> Result<Session, SendError> {
        let server = session.server;
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
                let connection = self.connect(server, &mut Reporter::quiet()).await?;
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
}
