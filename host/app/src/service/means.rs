//! Makes mailboxes and targets from the configuration, with the store, the tokens, TLS and the clock of a running service.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use postroom_auth::{RefreshStep, Tokens};
use postroom_config::{
    Config, Credential, MailLogin, MailboxConfig, Outgoing, Ready, Sink, Unavailable,
};
use postroom_core::Clock;
use postroom_line::deliver::{Deliveries, TargetId, Targets};
use postroom_line::intake::Intake;
use postroom_line::positions::JournalPositions;
use postroom_line::target::GuardedTarget;
use postroom_line::{Line, Mailbox};
use postroom_mailbox::{InFlight, Source};
use postroom_net::HttpClient;
use postroom_rules::crash;
use postroom_store::{OutboxKind, Store};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::connections;
use crate::protocol_log::ProtocolLog;

/// The parts of a service that stay the same from its start to its end.
pub struct Means {
    pub data_dir: PathBuf,
    pub store: Arc<dyn Store>,
    pub line: Arc<Line>,
    pub tls: Arc<ClientConfig>,
    pub http: HttpClient,
    pub tokens: KeptTokens,
    pub in_flight: InFlight,
    pub clock: Clock,
    pub stop: CancellationToken,
}

/// The tokens in use. A configuration with the first account needs a vault that none before it needed.
#[derive(Clone)]
pub struct KeptTokens(Arc<RwLock<Ready<Arc<Tokens>>>>);

/// The targets of a configuration, and those that cannot be used, as `sink NAME` and `outgoing NAME`.
pub struct MadeTargets {
    pub targets: Targets,
    pub misconfigured: Vec<(String, Unavailable)>,
}

impl KeptTokens {
    pub fn open(config: &Config, tls: &Arc<ClientConfig>, clock: &Clock) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(RwLock::new(open(config, tls, clock)?))))
    }

    pub fn current(&self) -> Ready<Arc<Tokens>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Takes over the profiles and accounts of a changed configuration. Returns whether other tokens are in use now, which have to be
    /// kept fresh.
    pub fn configure(
        &self,
        before: &Config,
        after: &Config,
        tls: &Arc<ClientConfig>,
        clock: &Clock,
    ) -> anyhow::Result<bool> {
        if let Ok(tokens) = self.current()
            && !before.accounts.is_empty()
        {
            tokens.configure(after.profiles.clone(), after.accounts.clone());
            return Ok(false);
        }
        if after.accounts.is_empty() {
            return Ok(false);
        }
        let opened = open(after, tls, clock)?;
        let is_open = opened.is_ok();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = opened;
        Ok(is_open)
    }
}

impl Means {
    /// Makes a mailbox's intake, and says whether it can fetch mail. Does not connect.
    pub fn intake(
        &self,
        mailbox: &MailboxConfig,
        configured: watch::Receiver<Arc<Mailbox>>,
        stop: CancellationToken,
    ) -> (Intake, bool) {
        let tokens = self.tokens.current();
        let source = self.source(mailbox, &tokens);
        let is_ready = source.is_ok();
        let login = mailbox.source.login();
        let intake = Intake::new(
            self.line.clone(),
            configured,
            source,
            mailbox.every,
            self.in_flight.clone(),
            login.and_then(|login| recovered(login, &tokens)),
            stop,
        );
        (intake, is_ready)
    }

    /// Builds a mailbox's source, which may ask the journal for known positions.
    fn source(
        &self,
        mailbox: &MailboxConfig,
        tokens: &Ready<Arc<Tokens>>,
    ) -> Ready<Box<dyn Source>> {
        let mut source = connections::source(mailbox, tokens, &self.tls)?;
        if let Some(server) = mailbox.source.server() {
            source.set_dials(self.line.dials().to(&server.host));
        }
        let known = JournalPositions::new(self.store.clone(), &mailbox.name);
        source.set_known(Arc::new(known));
        source.set_clock(self.clock.clone());
        if let Some(bytes_max) = mailbox.protocol_log_bytes {
            let clock = self.clock.clone();
            let log = ProtocolLog::new(&self.data_dir, &mailbox.name, bytes_max, clock);
            source.set_trace(log.trace());
        }
        Ok(source)
    }

    /// Makes every target that is usable as configured. Those that a configuration before it has the same stay, with their
    /// connections and their circuit breakers.
    pub fn targets(
        &self,
        config: &Config,
        before: Option<(&Config, &Deliveries)>,
    ) -> anyhow::Result<MadeTargets> {
        let tokens = self.tokens.current();
        let (mut by_id, mut misconfigured) = (BTreeMap::new(), Vec::new());
        let now_ms = self.clock.now_ms();
        let kept = |id: &TargetId, is_same: &dyn Fn(&Config) -> bool| {
            let (_, deliveries) = before.filter(|(config, _)| is_same(config))?;
            deliveries.target(id)
        };
        for sink in &config.sinks {
            let id = (OutboxKind::Sink, sink.name.clone());
            let is_same =
                |before: &Config| before.sink(&sink.name).is_some_and(|it| same(it, sink));
            match kept(&id, &is_same) {
                Some(target) => drop(by_id.insert(id, target)),
                None => match connections::sink(sink, &self.http, &self.tls, &self.clock)? {
                    Ok(target) => {
                        drop(by_id.insert(id, Arc::new(GuardedTarget::new(target, now_ms))))
                    }
                    Err(why) => misconfigured.push((format!("sink {}", sink.name), why)),
                },
            }
        }
        let mut signed_in = Vec::new();
        for way in &config.outgoing {
            let id = (OutboxKind::Mail, way.name.clone());
            let is_same = |before: &Config| before.outgoing(&way.name) == Some(way);
            match kept(&id, &is_same) {
                Some(target) => drop(by_id.insert(id, target)),
                None => match connections::outgoing(way, &tokens, &self.tls)? {
                    Ok(target) => {
                        drop(by_id.insert(id, Arc::new(GuardedTarget::new(target, now_ms))))
                    }
                    Err(why) => misconfigured.push((format!("outgoing {}", way.name), why)),
                },
            }
            signed_in.extend(signed_in_of(way, &tokens));
        }
        Ok(MadeTargets {
            targets: Targets::new(by_id, signed_in, &config.limits),
            misconfigured,
        })
    }
}

/// Returns whether two sinks have the same target, whatever they receive.
fn same(one: &Sink, other: &Sink) -> bool {
    one.target == other.target
}

fn signed_in_of(
    way: &Outgoing,
    tokens: &Ready<Arc<Tokens>>,
) -> Option<(String, watch::Receiver<u64>)> {
    let news = recovered(way.target.login()?, tokens)?;
    Some((way.name.clone(), news))
}

fn open(
    config: &Config,
    tls: &Arc<ClientConfig>,
    clock: &Clock,
) -> anyhow::Result<Ready<Arc<Tokens>>> {
    let tokens = connections::tokens_if_ready(config, tls)?;
    Ok(tokens.map(|tokens| Arc::new(tokens.on_step(crash_at).with_clock(clock.clone()))))
}

/// Returns a receiver that changes when the login's account works again after a failure.
fn recovered(login: &MailLogin, tokens: &Ready<Arc<Tokens>>) -> Option<watch::Receiver<u64>> {
    match &login.credential {
        Credential::Account { account, .. } => Some(tokens.as_ref().ok()?.recovered(account)),
        Credential::Password(_) | Credential::Unavailable(_) => None,
    }
}

/// Triggers the crash point of a token refresh step.
fn crash_at(step: RefreshStep) {
    crash::point(match step {
        RefreshStep::Begun => crash::Point::BeforeTokenRequest,
        RefreshStep::Received => crash::Point::BeforeTokenStored,
        RefreshStep::Stored => crash::Point::AfterTokenStored,
    });
}
