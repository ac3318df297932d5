//! The state that all clients of one mailbox share, whether they read or send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use reqwest::Url;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::CONCURRENT_REQUESTS;

/// Exchange counts requests per mailbox, whatever they are for.
pub(super) struct MailboxGate {
    pub permits: Semaphore,
    /// The server asked not to be contacted before this time.
    pub not_before: Mutex<Option<Instant>>,
}

/// The gates of the mailboxes that have a client, by server and address.
static GATES: Mutex<BTreeMap<String, Weak<MailboxGate>>> = Mutex::new(BTreeMap::new());

impl MailboxGate {
    /// Returns the gate of a mailbox, shared with its other clients in this process.
    pub fn of(base: &Url, user: &str) -> Arc<Self> {
        let key = format!("{base} {}", user.to_lowercase());
        let mut gates = GATES.lock().unwrap_or_else(PoisonError::into_inner);
        gates.retain(|_, gate| gate.strong_count() > 0);
        if let Some(gate) = gates.get(&key).and_then(Weak::upgrade) {
            return gate;
        }
        let gate = Arc::new(Self {
            permits: Semaphore::new(CONCURRENT_REQUESTS),
            not_before: Mutex::new(None),
        });
        gates.insert(key, Arc::downgrade(&gate));
        gate
    }
}
