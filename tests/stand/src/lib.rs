//! The test stand: real servers (Dovecot, an authorization server, an SMTP sink, a webhook receiver, a private CA) and a double of
//! Microsoft Graph on free loopback ports, for tests that run Postroom as a subprocess.
//!
//! A test starts a [`Stand`], or shares one with the other tests of its binary through [`Stand::shared`] and uses its own
//! mailboxes; every address is an existing mailbox. However the process ends, no server and no file is left behind.

mod applications;
mod authority;
mod browser;
mod ca;
mod dovecot;
mod ews;
mod failure;
mod graph;
mod hostile;
mod listener;
mod mail;
mod pages;
mod ports;
mod process;
mod proxy;
mod servers;
mod smtp;
mod webhook;
mod wire;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use tokio::runtime::Runtime;

use crate::dovecot::{Dovecot, Neighbours};
use crate::listener::locked;
use crate::mail::{Imap, Lmtp};
use crate::pages::Visitor;
use crate::process::Janitor;

pub use crate::applications::{
    CERTIFICATE_CLIENT_ID, CLIENT_ID, CLIENT_SECRET, DELEGATED_CLIENT_ID, DELEGATED_CLIENT_SECRET,
    GOOGLE_CLIENT_ID, GOOGLE_CLIENT_SECRET, GOOGLE_SCOPE, MAIL_SCOPE, OTHER_SCOPE,
    PUBLIC_CLIENT_ID, SECOND_CLIENT_SECRET, SERVICE_ACCOUNT, USER_SCOPES,
};
pub use crate::authority::{
    Authority, Behaviour, EndpointRequest, Lifetimes, TokenRequest, UNKNOWN_TENANT, node,
};
pub use crate::browser::Browser;
pub use crate::dovecot::PASSWORD;
pub use crate::ews::{Ews, EwsFailure, EwsMail, EwsRequest};
pub use crate::failure::{AuthorityFailure, Endpoint, Only};
pub use crate::graph::{Graph, GraphFailure, GraphMail, GraphRequest, GraphSent, NO_MAILBOX};
pub use crate::hostile::{BadCertificate, Hostile, Hostility, Then, http_hostilities};
pub use crate::mail::StoredMail;
pub use crate::proxy::{PROXY_PASSWORD, PROXY_USER, ProxyServer};
pub use crate::servers::{ImapMaker, ImapServer, SubmissionMaker, SubmissionServer};
pub use crate::smtp::{SmtpFailure, SmtpMail, SmtpSink, SmtpStage};
pub use crate::webhook::{WEBHOOK_SECRET, Webhook, WebhookFailure, WebhookRequest};
pub use crate::wire::{Answer, Wire};

/// The options of a stand.
#[derive(Clone, Debug)]
pub struct Options {
    /// The lifetime of access tokens; [`Authority::set_token_lifetime`] changes it later.
    pub token_lifetime_secs: u64,
    /// Envelope sender of [`Stand::deliver`]; empty for the null sender, which makes a mail look like a
    /// bounce.
    pub sender: String,
}

/// The ports of the servers, all on 127.0.0.1; certificates are for `localhost` and 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// IMAP, unencrypted or STARTTLS.
    pub imap: u16,
    /// IMAP, implicit TLS.
    pub imaps: u16,
    /// POP3, unencrypted or STLS.
    pub pop3: u16,
    /// POP3, implicit TLS.
    pub pop3s: u16,
    /// Submission, unencrypted or STARTTLS; relays to the SMTP sink.
    pub submission: u16,
    /// Submission, implicit TLS.
    pub submissions: u16,
    /// LMTP, unencrypted.
    pub lmtp: u16,
    /// The SMTP sink, unencrypted, without authentication.
    pub smtp_sink: u16,
    /// The webhook receiver, HTTP.
    pub webhook: u16,
    /// The authorization server, HTTPS.
    pub authority: u16,
    /// The double of Microsoft Graph, HTTPS.
    pub graph: u16,
    /// Exchange Web Services, HTTPS.
    pub ews: u16,
}

/// The running servers. Dropping it stops them and removes its folder.
pub struct Stand {
    // Dropped in this order: the servers, then our runtime, then the janitor, which removes the folder.
    dovecot: Mutex<Dovecot>,
    authority: Authority,
    smtp: SmtpSink,
    webhook: Webhook,
    graph: Graph,
    ews: Ews,
    _runtime: Background,
    _janitor: Janitor,
    dir: PathBuf,
    ca_pem: PathBuf,
    ports: Ports,
    neighbours: Neighbours,
    sender: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            token_lifetime_secs: 3600,
            sender: "someone@outside.example".into(),
        }
    }
}

impl Stand {
    /// Starts a stand with the default options.
    pub fn start() -> Result<Self> {
        Self::start_with(Options::default())
    }

    /// Starts a stand.
    pub fn start_with(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("postroom-stand-")
            // Dovecot's unprivileged processes need to traverse it.
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()?
            .keep();
        let janitor = Janitor::spawn(&dir)?;
        ca::write(&dir)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let runtime = Background(Some(runtime));
        let smtp = SmtpSink::start(&handle)?;
        let webhook = Webhook::start(&handle)?;
        let authority = Authority::start(&dir, options.token_lifetime_secs)?;
        let graph = Graph::start(&handle, &dir, authority.introspection_port())?;
        let neighbours = Neighbours {
            introspection_port: authority.introspection_port(),
            smtp_sink_port: smtp.port(),
        };
        let dovecot = Dovecot::start(&dir, &neighbours, "")?;
        let ews = Ews::start(&handle, &dir, authority.introspection_port())?;
        let served = dovecot.ports();
        let ports = Ports {
            imap: served.imap,
            imaps: served.imaps,
            pop3: served.pop3,
            pop3s: served.pop3s,
            submission: served.submission,
            submissions: served.submissions,
            lmtp: served.lmtp,
            smtp_sink: smtp.port(),
            webhook: webhook.port(),
            authority: authority.port(),
            graph: graph.port(),
            ews: ews.port(),
        };
        Ok(Self {
            dovecot: Mutex::new(dovecot),
            authority,
            smtp,
            webhook,
            graph,
            ews,
            _runtime: runtime,
            _janitor: janitor,
            ca_pem: dir.join("ca.pem"),
            dir,
            ports,
            neighbours,
            sender: options.sender,
        })
    }

    /// Returns the one stand that the tests of a binary share; it ends with the process.
    pub fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<Stand, String>> = OnceLock::new();
        SHARED
            .get_or_init(|| Self::start().map_err(|error| format!("{error:#}")))
            .as_ref()
            .map_err(|error| anyhow!("{error}"))
    }

    /// Returns the stand's folder: configs, logs (`dovecot.log`, `authority.log`) and mail.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the certificate to trust, PEM.
    pub fn ca_pem(&self) -> &Path {
        &self.ca_pem
    }

    /// Returns the ports of the servers.
    pub fn ports(&self) -> Ports {
        self.ports
    }

    /// Returns the token endpoint (v2.0) of a tenant; any tenant works.
    pub fn token_url(&self, tenant: &str) -> String {
        self.authority.token_url(tenant)
    }

    /// Returns the registered application, whose tokens open every mailbox.
    pub fn client_id(&self) -> &'static str {
        CLIENT_ID
    }

    /// Returns the application's secret.
    pub fn client_secret(&self) -> &'static str {
        CLIENT_SECRET
    }

    /// Returns the password of every mailbox.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Returns an access token by client credentials, for example for [`MAIL_SCOPE`].
    pub fn access_token(&self, scope: &str) -> Result<String> {
        let form = format!(
            "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope={scope}"
        );
        let (status, body) = Wire::tls(self.ports.authority, &self.ca_pem)?.http(
            "POST",
            "/stand/oauth2/v2.0/token",
            "application/x-www-form-urlencoded",
            form.as_bytes(),
        )?;
        ensure!(
            status == 200,
            "no token: {status} {}",
            String::from_utf8_lossy(&body)
        );
        let answer: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(answer["access_token"]
            .as_str()
            .context("an answer without a token")?
            .to_owned())
    }

    /// Returns the certificate of [`CERTIFICATE_CLIENT_ID`] and its key, in one PEM.
    pub fn certificate_pem(&self) -> Result<String> {
        self.authority.certificate_pem()
    }

    /// Returns the key file of [`SERVICE_ACCOUNT`], JSON.
    pub fn service_account_json(&self) -> Result<String> {
        self.authority.service_account_json()
    }

    /// Signs in on the pages of an authorize URL, accepting the consent, and returns the redirect URL without following it.
    /// A refused password is an error with the page's message.
    pub fn sign_in_by_http(
        &self,
        authorize_url: &str,
        user: &str,
        password: &str,
    ) -> Result<String> {
        self.visitor(user, password, true).redirect(authorize_url)
    }

    /// Does the same, but declines the consent: the redirect contains `error=access_denied`.
    pub fn decline_by_http(
        &self,
        authorize_url: &str,
        user: &str,
        password: &str,
    ) -> Result<String> {
        self.visitor(user, password, false).redirect(authorize_url)
    }

    /// Types a device's code, signs in and accepts.
    pub fn approve_device(&self, user_code: &str, user: &str, password: &str) -> Result<()> {
        self.visitor(user, password, true)
            .device(&self.device_page(), user_code)
    }

    /// Types a device's code, signs in and declines.
    pub fn decline_device(&self, user_code: &str, user: &str, password: &str) -> Result<()> {
        self.visitor(user, password, false)
            .device(&self.device_page(), user_code)
    }

    /// Returns the URL where a device's code is typed, as in the device response.
    pub fn device_page(&self) -> String {
        format!("{}/device", self.authority.issuer())
    }

    /// Returns a browser without a window that trusts the stand's servers. It takes seconds to start.
    pub fn browser(&self) -> Result<Browser> {
        Browser::start(&self.dir)
    }

    /// Delivers a mail to INBOX by LMTP from the default sender; Dovecot adds Return-Path, Delivered-To and
    /// Received.
    pub fn deliver(&self, rcpt: &str, mail: &[u8]) -> Result<()> {
        self.deliver_from(&self.sender, rcpt, mail)
    }

    /// Does the same with another envelope sender; an empty one is the null sender.
    pub fn deliver_from(&self, sender: &str, rcpt: &str, mail: &[u8]) -> Result<()> {
        Lmtp::connect(self.ports.lmtp)?.deliver(sender, rcpt, mail)
    }

    /// Delivers mails over one connection, in order.
    pub fn deliver_many<B: AsRef<[u8]>>(
        &self,
        rcpt: &str,
        mails: impl IntoIterator<Item = B>,
    ) -> Result<()> {
        let mut lmtp = Lmtp::connect(self.ports.lmtp)?;
        mails
            .into_iter()
            .try_for_each(|mail| lmtp.deliver(&self.sender, rcpt, mail.as_ref()))
    }

    /// Stores mails unchanged, without any added header, in a folder that is created if missing; with flags such as
    /// `\Seen`. By far the fastest way for thousands of mails, but an empty mail cannot be stored this way.
    pub fn append<B: AsRef<[u8]>>(
        &self,
        user: &str,
        folder: &str,
        flags: &str,
        mails: impl IntoIterator<Item = B>,
    ) -> Result<()> {
        self.imap(user)?.append(folder, flags, None, mails)
    }

    /// Stores mails in a folder, created if missing, as if they had arrived at a date such as `01-Nov-2020 10:00:00 +0000`.
    pub fn append_dated<B: AsRef<[u8]>>(
        &self,
        user: &str,
        folder: &str,
        date: &str,
        mails: impl IntoIterator<Item = B>,
    ) -> Result<()> {
        self.imap(user)?.append(folder, "", Some(date), mails)
    }

    /// Deletes a folder with its mails. If it is recreated, it has another UIDVALIDITY.
    pub fn delete_folder(&self, user: &str, folder: &str) -> Result<()> {
        self.imap(user)?.delete(folder)
    }

    /// Returns every mail of a folder, in UID order; none if it does not exist. Sets no flag.
    pub fn folder(&self, user: &str, folder: &str) -> Result<Vec<StoredMail>> {
        self.imap(user)?.folder(folder)
    }

    /// Returns the number of mails in a folder; 0 if it does not exist.
    pub fn message_count(&self, user: &str, folder: &str) -> Result<usize> {
        self.imap(user)?.message_count(folder)
    }

    /// Returns the authorization server.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Returns the SMTP sink.
    pub fn smtp(&self) -> &SmtpSink {
        &self.smtp
    }

    /// Returns the webhook receiver.
    pub fn webhook(&self) -> &Webhook {
        &self.webhook
    }

    /// The EWS double.
    pub fn ews(&self) -> &Ews {
        &self.ews
    }

    /// The double of Microsoft Graph.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Starts an IMAP server by another maker, or with other extensions, that has a mailbox for each of `users`. Its
    /// certificate is the stand's, the password of each mailbox is [`PASSWORD`].
    pub fn imap_server(&self, maker: ImapMaker, users: &[&str]) -> Result<ImapServer<'_>> {
        ImapServer::start(self, maker, users)
    }

    /// Starts a server for submission by another maker. Its certificate is the stand's, the password of each user is
    /// [`PASSWORD`].
    pub fn submission_server(&self, maker: SubmissionMaker) -> Result<SubmissionServer> {
        SubmissionServer::start(&self.dir, maker)
    }

    /// Stops IMAP, POP3, submission and LMTP, closing every connection.
    pub fn stop_dovecot(&self) -> Result<()> {
        locked(&self.dovecot).stop()
    }

    /// Starts them again, on the same ports and with the same mail.
    pub fn start_dovecot(&self) -> Result<()> {
        locked(&self.dovecot).resume()
    }

    /// Ends every session of a user: Dovecot sends BYE, as Exchange does when a token expires during a session.
    pub fn kick(&self, user: &str) -> Result<()> {
        locked(&self.dovecot).kick(user)
    }

    /// Returns Dovecot's log so far.
    pub fn dovecot_log(&self) -> String {
        locked(&self.dovecot).log()
    }

    fn visitor<'a>(&'a self, user: &'a str, password: &'a str, accepts: bool) -> Visitor<'a> {
        Visitor::new(self.ports.authority, &self.ca_pem, user, password, accepts)
    }

    fn imap(&self, user: &str) -> Result<Imap> {
        Imap::login(self.ports.imap, user, PASSWORD)
    }
}

/// Waits until `condition` holds, checking every 20 ms; returns whether it did within `timeout`.
pub fn wait_for(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The runtime of the stand's own servers; dropping it does not wait, so it works inside another runtime too.
struct Background(Option<Runtime>);

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
