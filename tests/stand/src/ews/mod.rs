//! The EWS double: Exchange Web Services over HTTPS, strict where Exchange is, with mailboxes that tests can fill and inspect.
//!
//! It is not Exchange: it follows what Microsoft's reference says about Exchange. In the test run, independent clients prove that
//! it serves them.

mod operations;
mod schema;
mod server;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::{Context, Result};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::listener::{Listener, locked};
use store::Store;

/// A request that the double received.
#[derive(Clone, Debug)]
pub struct EwsRequest {
    /// The operation, such as `SyncFolderItems`; empty if none could be read.
    pub operation: String,
    /// The user who signed in, or `application`; empty if nobody did.
    pub user: String,
    /// The mailbox whose owner the user impersonated.
    pub impersonated: Option<String>,
    /// `Basic` or `Bearer`.
    pub scheme: String,
    /// The SOAP envelope.
    pub body: String,
    /// The HTTP status of the response, or `None` if there was none.
    pub status: Option<u16>,
    pub received: SystemTime,
}

/// A mail in a mailbox of the double.
#[derive(Clone, Debug)]
pub struct EwsMail {
    pub mime: Vec<u8>,
    pub is_read: bool,
}

/// A mail that was sent.
#[derive(Clone, Debug)]
pub struct EwsSent {
    /// The mailbox it was sent from.
    pub mailbox: String,
    pub mime: Vec<u8>,
    /// The Message-ID that it was sent with, which replaces the client's.
    pub message_id: String,
}

/// A failure ordered by a test.
#[derive(Clone, Debug)]
pub enum EwsFailure {
    /// ErrorServerBusy with BackOffMilliseconds, in a fault with status 500.
    Busy { back_off_millis: u64 },
    /// The same in response messages with status 200.
    BusyMessage { back_off_millis: u64 },
    /// A ResponseCode in each response message.
    Code(&'static str),
    /// A fault with a ResponseCode.
    Fault(&'static str),
    /// A status with headers and a body.
    Status {
        code: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Never answers.
    Hang,
    /// Does what is asked, then closes the connection without a response.
    AnswerLost,
    /// Somebody else changes the items in the request first.
    Conflict,
}

/// The running double.
pub struct Ews {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    store: Mutex<Store>,
    rights: Mutex<Rights>,
    requests: Mutex<Vec<EwsRequest>>,
    failures: Mutex<Vec<Ordered>>,
    /// Changes with each change to a mailbox, so that streams check for their events.
    changed: watch::Sender<u64>,
    introspection_port: u16,
}

/// The access rights to mailboxes.
#[derive(Default)]
struct Rights {
    /// Users who may impersonate everybody, and pairs of a user and a mailbox.
    impersonators: BTreeSet<String>,
    impersonations: BTreeSet<(String, String)>,
    shares: BTreeMap<String, BTreeSet<String>>,
    /// Mailboxes that do not exist, and those that applications may not open.
    missing: BTreeSet<String>,
    closed: BTreeSet<String>,
}

/// A failure waiting for requests on a mailbox.
struct Ordered {
    mailbox: String,
    /// `None` for any operation.
    operation: Option<&'static str>,
    count: usize,
    failure: EwsFailure,
}

impl Ews {
    /// Starts the double. The certificate is expected in `dir`.
    pub(crate) fn start(runtime: &Handle, dir: &Path, introspection_port: u16) -> Result<Self> {
        let tls = server::tls(dir).context("the certificate of the EWS double")?;
        let shared = Arc::new(Shared {
            store: Mutex::default(),
            rights: Mutex::default(),
            requests: Mutex::default(),
            failures: Mutex::default(),
            changed: watch::Sender::default(),
            introspection_port,
        });
        let listener = Listener::start(runtime, {
            let shared = Arc::clone(&shared);
            move |stream| {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                async move {
                    // A broken connection is the client's concern.
                    let _ = server::serve(stream, &tls, &shared).await;
                }
            }
        })?;
        Ok(Self { listener, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns the URL of the service.
    pub fn url(&self) -> String {
        format!("https://localhost:{}/EWS/Exchange.asmx", self.port())
    }

    /// Delivers a mail to the inbox.
    pub fn deliver(&self, mailbox: &str, mime: &[u8]) {
        self.deliver_at(mailbox, "inbox", SystemTime::now(), mime);
    }

    /// Puts a mail into a folder, as if it had arrived at that time.
    pub fn deliver_at(&self, mailbox: &str, folder: &str, received: SystemTime, mime: &[u8]) {
        self.put(mailbox, folder, received, mime, None);
    }

    /// Delivers a mail with a wrong stated size.
    pub fn deliver_misstated(&self, mailbox: &str, mime: &[u8], stated_size: u64) {
        self.put(mailbox, "inbox", SystemTime::now(), mime, Some(stated_size));
    }

    fn put(
        &self,
        mailbox: &str,
        folder: &str,
        received: SystemTime,
        mime: &[u8],
        stated: Option<u64>,
    ) {
        {
            let mut store = locked(&self.shared.store);
            let (mailbox, clock) = store.mailbox(mailbox);
            let folder = match mailbox.named(folder).map(|it| it.id.clone()) {
                Some(id) => id,
                None => {
                    let root = mailbox.well_known("msgfolderroot").map(|it| it.id.clone());
                    mailbox.make_folder(clock, &root.unwrap_or_default(), folder)
                }
            };
            let id = mailbox.add(clock, &folder, mime.to_vec(), received, true);
            if let Some(item) = mailbox.items.get_mut(&id) {
                item.stated_size = stated;
            }
        }
        self.shared.has_changed();
    }

    /// Returns every mail in a folder, given by its path below the root, oldest first; none if there is no such folder.
    pub fn folder(&self, mailbox: &str, folder: &str) -> Vec<EwsMail> {
        let mut store = locked(&self.shared.store);
        let (mailbox, _) = store.mailbox(mailbox);
        let Some(id) = mailbox.named(folder).map(|it| it.id.clone()) else {
            return Vec::new();
        };
        let items = mailbox.in_folder(&id).into_iter();
        let mails = items.map(|item| EwsMail {
            mime: item.mime.clone(),
            is_read: item.is_read,
        });
        mails.collect()
    }

    /// Returns the mails that were sent from a mailbox, oldest first.
    pub fn sent_from(&self, mailbox: &str) -> Vec<EwsSent> {
        let store = locked(&self.shared.store);
        let sent = store.sent.iter();
        let sent = sent.filter(|mail| mail.mailbox == mailbox.to_lowercase());
        sent.cloned().collect()
    }

    /// Removes every mail from a folder.
    pub fn empty(&self, mailbox: &str, folder: &str) {
        let mut store = locked(&self.shared.store);
        let (mailbox, clock) = store.mailbox(mailbox);
        let Some(id) = mailbox.named(folder).map(|it| it.id.clone()) else {
            return;
        };
        let ids: Vec<_> = mailbox
            .in_folder(&id)
            .iter()
            .map(|it| it.id.clone())
            .collect();
        for id in ids {
            mailbox.remove(clock, &id);
        }
    }

    /// Invalidates every sync state of a mailbox, as moving it to another database does.
    pub fn forget_states(&self, mailbox: &str) {
        locked(&self.shared.store)
            .mailbox(mailbox)
            .0
            .forget_states();
    }

    /// Ends every notification stream of a mailbox, along with its subscription.
    pub fn forget_subscriptions(&self, mailbox: &str) {
        locked(&self.shared.store)
            .mailbox(mailbox)
            .0
            .subscriptions
            .clear();
        self.shared.has_changed();
    }

    /// Returns the number of subscriptions of a mailbox.
    pub fn subscriptions(&self, mailbox: &str) -> usize {
        locked(&self.shared.store)
            .mailbox(mailbox)
            .0
            .subscriptions
            .len()
    }

    /// Gives a user the ApplicationImpersonation role.
    pub fn let_impersonate(&self, user: &str) {
        let mut rights = locked(&self.shared.rights);
        rights.impersonators.insert(user.to_lowercase());
    }

    /// Does the same for one mailbox (a management scope).
    pub fn let_impersonate_one(&self, user: &str, mailbox: &str) {
        let mut rights = locked(&self.shared.rights);
        rights
            .impersonations
            .insert((user.to_lowercase(), mailbox.to_lowercase()));
    }

    /// Gives a user Full Access to another user's mailbox.
    pub fn share(&self, user: &str, mailbox: &str) {
        let mut rights = locked(&self.shared.rights);
        let shares = rights.shares.entry(user.to_lowercase()).or_default();
        shares.insert(mailbox.to_lowercase());
    }

    /// Removes a mailbox: from now on, its address does not exist.
    pub fn remove_mailbox(&self, mailbox: &str) {
        locked(&self.shared.rights)
            .missing
            .insert(mailbox.to_lowercase());
    }

    /// Denies applications access to a mailbox.
    pub fn close_to_applications(&self, mailbox: &str) {
        locked(&self.shared.rights)
            .closed
            .insert(mailbox.to_lowercase());
    }

    /// Returns every request on a mailbox, oldest first.
    pub fn requests(&self, mailbox: &str) -> Vec<EwsRequest> {
        let requests = locked(&self.shared.requests);
        let wanted = mailbox.to_lowercase();
        let of_mailbox = |it: &&EwsRequest| {
            let impersonated = it.impersonated.as_deref().map(str::to_lowercase);
            impersonated.as_ref() == Some(&wanted)
                || it.user == wanted
                || it.body.to_lowercase().contains(&wanted)
        };
        requests.iter().filter(of_mailbox).cloned().collect()
    }

    /// Orders the next requests on behalf of a mailbox to fail, for any operation or for one.
    pub fn fail_next(
        &self,
        mailbox: &str,
        operation: Option<&'static str>,
        count: usize,
        failure: EwsFailure,
    ) {
        locked(&self.shared.failures).push(Ordered {
            mailbox: mailbox.to_lowercase(),
            operation,
            count,
            failure,
        });
    }
}

impl Shared {
    fn has_changed(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Takes the failure that was ordered for a request, if any.
    fn failure(&self, mailbox: &str, operation: &str) -> Option<EwsFailure> {
        let mut failures = locked(&self.failures);
        let found = failures.iter_mut().find(|it| {
            it.count > 0 && it.mailbox == mailbox && it.operation.is_none_or(|it| it == operation)
        })?;
        found.count -= 1;
        Some(found.failure.clone())
    }
}
