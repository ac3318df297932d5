//! A double of Microsoft Graph's mail: folders, delta queries, MIME, moves and sending, as strict as the real service where
//! Postroom relies on it.
//!
//! It accepts tokens of the stand's authority and checks them by introspection on each request. Every address is a mailbox,
//! except [`NO_MAILBOX`]. A user may open their own mailbox and those shared with them; an application may open every mailbox
//! until its access is restricted, as by an application access policy.

mod http;
mod mailbox;
mod message;
mod places;
mod routes;
mod send;
mod tokens;
mod upload;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Handle;
use tokio_rustls::TlsAcceptor;

use crate::listener::{Failures, Listener, locked};
use mailbox::Mailbox;
use places::Places;

pub use mailbox::{GraphAttachment, GraphMail};

/// The one address without a mailbox.
pub const NO_MAILBOX: &str = "nobody@acme.example";
/// The most concurrent requests from an application on one mailbox that are served.
const CONCURRENT_REQUESTS_MAX: usize = 4;

/// A request that the double received.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    pub method: String,
    /// Decoded, without the query.
    pub path: String,
    /// Decoded.
    pub query: Vec<(String, String)>,
    /// Headers by their names in lower case, without the token.
    pub headers: BTreeMap<String, String>,
    /// The mailbox that it names.
    pub mailbox: Option<String>,
    pub status: u16,
}

/// An ordered failure.
#[derive(Clone, Debug)]
pub enum GraphFailure {
    /// 429 with `Retry-After`.
    Throttled { retry_after_secs: u64 },
    /// A status with an error's code.
    Status { status: u16, code: &'static str },
    /// Closes the connection without a response.
    Drop,
    /// Does what is asked, then closes the connection without a response.
    AnswerLost,
    /// Never answers.
    Hang,
}

/// A mail that was sent.
#[derive(Clone, Debug)]
pub struct GraphSent {
    /// The mailbox it was sent from.
    pub mailbox: String,
    pub mime: Vec<u8>,
    /// The Message-ID that it was sent with, which replaces the client's.
    pub message_id: String,
    /// Whether it was sent as MIME.
    pub as_mime: bool,
    /// The files attached to its draft besides those in the MIME.
    pub attachments: Vec<GraphAttachment>,
}

/// A failure waiting for a request.
#[derive(Clone)]
struct Ordered {
    /// `None` for any mailbox.
    mailbox: Option<String>,
    /// The last segment of the path; `None` for any.
    segment: Option<&'static str>,
    failure: GraphFailure,
}

/// The running double.
pub struct Graph {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    /// The port on which the authority serves introspection.
    introspection_port: u16,
    state: Mutex<State>,
    failures: Failures<Ordered>,
}

#[derive(Default)]
struct State {
    port: u16,
    mailboxes: HashMap<String, Mailbox>,
    places: Places,
    requests: Vec<GraphRequest>,
    sent: Vec<GraphSent>,
    uploads: upload::Uploads,
    message_ids: u64,
    /// Mailboxes that a user may open in addition to their own.
    shared_with: HashMap<String, HashSet<String>>,
    /// Mailboxes that an application may open; an application that is not listed here may open all.
    covered: HashMap<String, HashSet<String>>,
    /// The number of requests in progress, by application and mailbox.
    under_way: HashMap<(String, String), usize>,
    most_under_way: HashMap<String, usize>,
}

impl Graph {
    pub(crate) fn start(runtime: &Handle, dir: &Path, introspection_port: u16) -> Result<Self> {
        let certificate = CertificateDer::from_pem_file(dir.join("server.pem"))?;
        let key = PrivateKeyDer::from_pem_file(dir.join("server.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .context("the certificate of the Graph double")?;
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let shared = Arc::new(Shared {
            introspection_port,
            state: Mutex::new(State::default()),
            failures: Failures::new(),
        });
        let listener = Listener::start(runtime, {
            let shared = Arc::clone(&shared);
            move |stream| {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                async move {
                    // A broken connection is the client's concern.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        http::serve(stream, shared).await;
                    }
                }
            }
        })?;
        locked(&shared.state).port = listener.port;
        Ok(Self { listener, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns the base URL of the service, including its version.
    pub fn base_url(&self) -> String {
        format!("https://localhost:{}/v1.0", self.port())
    }

    /// Puts a mail into the inbox, received now. Returns its immutable id.
    pub fn deliver(&self, mailbox: &str, mime: impl AsRef<[u8]>) -> String {
        self.deliver_dated(mailbox, "inbox", jiff::Timestamp::now(), mime)
    }

    /// Puts a mail into a folder, created if missing, as if it had been received at that time.
    pub fn deliver_dated(
        &self,
        mailbox: &str,
        folder: &str,
        received: jiff::Timestamp,
        mime: impl AsRef<[u8]>,
    ) -> String {
        self.with(mailbox, |mailbox| {
            let folder = mailbox.folder_or_make(folder);
            mailbox.add(&folder, received, mime.as_ref().to_vec(), false)
        })
    }

    /// Returns every mail in a folder, by well-known name or display name, oldest first; none if it does not exist.
    pub fn folder(&self, mailbox: &str, folder: &str) -> Vec<GraphMail> {
        self.with(mailbox, |mailbox| mailbox.mails(folder))
    }

    /// Puts a category on a mail, as a person would.
    pub fn categorize(&self, mailbox: &str, id: &str, category: &str) {
        self.with(mailbox, |mailbox| mailbox.categorize(id, category));
    }

    /// Deletes a folder with its mails. If it is created again, it has a new id.
    pub fn delete_folder(&self, mailbox: &str, folder: &str) {
        self.with(mailbox, |mailbox| mailbox.delete_folder(folder));
    }

    /// Lets a user open another user's mailbox.
    pub fn share(&self, user: &str, mailbox: &str) {
        let mut state = locked(&self.shared.state);
        let shared = state.shared_with.entry(user.to_lowercase()).or_default();
        shared.insert(mailbox.to_lowercase());
    }

    /// Restricts an application to these mailboxes.
    pub fn cover(&self, client_id: &str, mailboxes: &[&str]) {
        let covered = mailboxes.iter().map(|it| it.to_lowercase()).collect();
        let mut state = locked(&self.shared.state);
        state.covered.insert(client_id.to_owned(), covered);
    }

    /// Forgets every place in a listing: the links issued so far return 410.
    pub fn forget_places(&self) {
        locked(&self.shared.state).places.forget();
    }

    /// Orders the next `count` requests to fail, after those ordered before.
    pub fn fail_next(&self, count: usize, failure: GraphFailure) {
        let ordered = Ordered {
            mailbox: None,
            segment: None,
            failure,
        };
        self.shared.failures.order(count, ordered);
    }

    /// Does the same for requests on one mailbox; others are served in between.
    pub fn fail_next_of(&self, mailbox: &str, count: usize, failure: GraphFailure) {
        let ordered = Ordered {
            mailbox: Some(mailbox.to_lowercase()),
            segment: None,
            failure,
        };
        self.shared.failures.order(count, ordered);
    }

    /// Does the same for requests on one mailbox whose path ends in this segment, such as `send`.
    pub fn fail_next_at(
        &self,
        mailbox: &str,
        segment: &'static str,
        count: usize,
        failure: GraphFailure,
    ) {
        let ordered = Ordered {
            mailbox: Some(mailbox.to_lowercase()),
            segment: Some(segment),
            failure,
        };
        self.shared.failures.order(count, ordered);
    }

    /// Returns the mails that were sent from a mailbox, oldest first.
    pub fn sent_from(&self, mailbox: &str) -> Vec<GraphSent> {
        let mut sent = self.sent();
        sent.retain(|mail| mail.mailbox == mailbox.to_lowercase());
        sent
    }

    /// Returns every request since the start or the last [`clear`](Self::clear), oldest first.
    pub fn requests(&self) -> Vec<GraphRequest> {
        locked(&self.shared.state).requests.clone()
    }

    /// Returns the requests on one mailbox.
    pub fn requests_of(&self, mailbox: &str) -> Vec<GraphRequest> {
        let mut requests = self.requests();
        let mailbox = mailbox.to_lowercase();
        requests.retain(|it| it.mailbox.as_deref() == Some(&mailbox));
        requests
    }

    /// Returns the most requests on one mailbox that were served at a time.
    pub fn most_at_a_time(&self, mailbox: &str) -> usize {
        let state = locked(&self.shared.state);
        let most = state.most_under_way.get(&mailbox.to_lowercase());
        most.copied().unwrap_or_default()
    }

    /// Returns every mail sent since the start or the last [`clear`](Self::clear), oldest first.
    pub fn sent(&self) -> Vec<GraphSent> {
        locked(&self.shared.state).sent.clone()
    }

    /// Forgets the requests, the sent mails and the pending failures. Mailboxes and rights stay.
    pub fn clear(&self) {
        let mut state = locked(&self.shared.state);
        state.requests.clear();
        state.sent.clear();
        state.most_under_way.clear();
        self.shared.failures.clear();
    }

    fn with<T>(&self, mailbox: &str, work: impl FnOnce(&mut Mailbox) -> T) -> T {
        work(locked(&self.shared.state).mailbox(&mailbox.to_lowercase()))
    }
}

impl State {
    /// Returns a Message-ID as Exchange makes them.
    fn new_message_id(&mut self) -> String {
        self.message_ids += 1;
        let at = jiff::Timestamp::now().as_nanosecond();
        format!(
            "STAND{:04}{at:X}@graph.prod.outlook.example",
            self.message_ids
        )
    }

    /// Returns a mailbox by its address in lower case.
    fn mailbox(&mut self, address: &str) -> &mut Mailbox {
        self.mailboxes
            .entry(address.to_owned())
            .or_insert_with(|| Mailbox::new(address))
    }
}
