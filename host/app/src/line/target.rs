//! One target of deliveries: what sends to it, its circuit breaker, and what a failed try of it speaks of.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postroom_core::MailKind;
use postroom_outgoing::{OutgoingMail, Receipt, SendError, Smtp, Step};
use postroom_sink::{SinkError, SpeaksOf, Webhook};
use postroom_store::{JournalId, OutboxEntry, OutboxKind, Store, StoreError, Turn};

use super::breaker::{CircuitBreaker, Fault, Pace, Report, Scope, Severity, Verdict};

/// Deliveries to one target under way at a time: one that hangs holds up no other, and is not flooded.
const AT_ONCE: usize = 4;

/// A sink or an outgoing of the configuration.
pub struct Target {
    sender: Sender,
    breaker: Mutex<CircuitBreaker>,
    /// Whoever holds it sends a mail: those behind it learn of an outage before they run into it themselves.
    turn: tokio::sync::Mutex<()>,
    /// Where the round over the tenants stands.
    served: Mutex<i64>,
}

/// What sends.
pub enum Sender {
    Webhook(Box<Webhook>),
    Smtp {
        smtp: Box<Smtp>,
        /// Whether it signs in with a password.
        by_password: bool,
    },
}

/// How one try ended.
pub enum Tried {
    /// With what the target said.
    Delivered(String),
    /// Delivered to some recipients, and owed to the others still.
    Partly {
        payload: String,
        receipt: String,
        problem: String,
    },
    Failed(Fault),
    /// No other try can help.
    Final(String),
}

impl Target {
    pub fn new(sender: Sender) -> Self {
        Self {
            sender,
            breaker: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            served: Mutex::new(0),
        }
    }

    /// How long nothing is tried.
    pub fn held_for(&self) -> Option<Duration> {
        self.breaker().held_for(Instant::now())
    }

    /// How many tries may be under way now.
    pub fn permits(&self) -> usize {
        self.breaker().permits(Instant::now(), AT_ONCE)
    }

    /// Waits for the turn of an entry. Mails go one after the other over one connection; webhooks wait for nothing. It is held
    /// until the outcome is judged.
    pub async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match &self.sender {
            Sender::Webhook(_) => None,
            Sender::Smtp { .. } => Some(self.turn.lock().await),
        }
    }

    /// What keeps everything waiting now.
    pub fn holds(&self) -> Option<String> {
        let now = Instant::now();
        self.breaker().holds(now).map(str::to_owned)
    }

    /// What kept it may be over: the next entry is tried.
    pub fn probe_now(&self) {
        self.breaker().probe_now(Instant::now());
    }

    /// Returns up to `limit` entries whose turn it is, without those to `skip`. A probe is another entry each time.
    pub fn due(
        &self,
        store: &Store,
        (kind, name): (OutboxKind, &str),
        now_ms: i64,
        limit: usize,
        skip: HashSet<i64>,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let turn = Turn {
            after: *self.served(),
            skip,
        };
        let probed = self.breaker().probed().cloned();
        let mut due = Vec::new();
        if let Some(probed) = probed {
            let others = Turn {
                after: turn.after,
                skip: turn.skip.union(&probed).copied().collect(),
            };
            due = store.due_outbox(kind, name, now_ms, limit, &others)?;
            if due.is_empty() {
                self.breaker().next_round();
            }
        }
        if due.is_empty() {
            due = store.due_outbox(kind, name, now_ms, limit, &turn)?;
        }
        if let Some(last) = due.last() {
            *self.served() = last.turn;
        }
        Ok(due)
    }

    /// Notes that the target took the entry, or spoke a final word on it.
    pub fn taken(&self, entry: i64) -> Option<Report> {
        self.breaker().taken(entry)
    }

    pub fn failed(&self, entry: i64, fault: &Fault) -> (Verdict, Option<Report>) {
        let seed = RandomState::new().hash_one(());
        self.breaker().failed(entry, fault, Instant::now(), seed)
    }

    /// Tries once.
    pub async fn attempt(&self, store: &Store, entry: &OutboxEntry) -> Tried {
        match &self.sender {
            Sender::Webhook(webhook) => post(webhook, entry).await,
            Sender::Smtp { smtp, by_password } => send(store, smtp, *by_password, entry).await,
        }
    }

    /// Ends a kept connection politely.
    pub async fn close(&self) {
        if let Sender::Smtp { smtp, .. } = &self.sender {
            smtp.close().await;
        }
    }

    /// Never held while waiting for anything.
    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> MutexGuard<'_, i64> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn post(webhook: &Webhook, entry: &OutboxEntry) -> Tried {
    let posted = webhook.post(&entry.idempotency_key, Timestamp::now(), &entry.payload);
    let error = match posted.await {
        Ok(receipt) => return Tried::Delivered(receipt.status.to_string()),
        Err(error) => error,
    };
    let problem = error.to_string();
    Tried::Failed(match error {
        SinkError::Failed {
            speaks_of,
            retry_after,
            ..
        } => Fault {
            retry_after,
            ..Fault::new(scope(speaks_of), problem)
        },
        SinkError::Settings { .. } => Fault {
            severity: Severity::Error,
            ..Fault::new(Scope::Target, problem)
        },
    })
}

fn scope(speaks_of: SpeaksOf) -> Scope {
    match speaks_of {
        SpeaksOf::Receiver => Scope::Target,
        SpeaksOf::Either => Scope::Unclear,
        SpeaksOf::Item => Scope::Entry,
    }
}

async fn send(store: &Store, smtp: &Smtp, by_password: bool, entry: &OutboxEntry) -> Tried {
    let payload: postroom_core::OutgoingMail = match serde_json::from_str(&entry.payload) {
        Ok(payload) => payload,
        Err(error) => return Tried::Final(format!("its payload cannot be read: {error}")),
    };
    let attached = match payload.kind {
        MailKind::Reply | MailKind::Notice => None,
        MailKind::Forward => match store.raw(JournalId(entry.decision.0)) {
            Ok(Some(raw)) => Some(raw),
            Ok(None) => return Tried::Final("the mail to forward was purged".into()),
            Err(error) => return Tried::Failed(Fault::new(Scope::Entry, error.to_string())),
        },
    };
    let mail = OutgoingMail {
        to: payload.to.clone(),
        subject: payload.subject.clone(),
        text: payload.text.clone(),
        html: payload.html.clone(),
        message_id: payload.message_id.clone(),
        in_reply_to: payload.in_reply_to.clone(),
        references: payload.references.clone(),
        auto_submitted: payload.kind == MailKind::Reply,
        attached,
    };
    match smtp.send(&mail).await {
        Ok(receipt) => sent(payload, &receipt),
        Err(error) if is_final(&error) => Tried::Final(error.to_string()),
        // Also when the answer was lost and the mail may have arrived: its Message-ID stays the same.
        Err(error) => Tried::Failed(fault(&error, by_password)),
    }
}

/// A mail that was accepted for those who are not deferred.
fn sent(mut payload: postroom_core::OutgoingMail, receipt: &Receipt) -> Tried {
    let mut text = format!("{} {}", receipt.code, receipt.text);
    if !receipt.refused.is_empty() {
        text = format!("{text}; refused: {}", named(&receipt.refused));
    }
    if receipt.deferred.is_empty() {
        return Tried::Delivered(text);
    }
    payload.to.retain(|to| {
        let mut deferred = receipt.deferred.iter();
        deferred.any(|one| one.address.eq_ignore_ascii_case(&to.email))
    });
    let problem = format!("deferred: {}", named(&receipt.deferred));
    if payload.to.is_empty() {
        // Nobody to whom it could be owed.
        return Tried::Delivered(format!("{text}; {problem}"));
    }
    match serde_json::to_string(&payload) {
        Ok(payload) => Tried::Partly {
            payload,
            receipt: text,
            problem,
        },
        Err(error) => Tried::Final(format!("its payload cannot be written: {error}")),
    }
}

fn named(recipients: &[postroom_outgoing::RefusedRecipient]) -> String {
    let named = recipients
        .iter()
        .map(|one| format!("{}: {} {}", one.address, one.code, one.text));
    named.collect::<Vec<_>>().join("; ")
}

/// Whether the server spoke its last word on this very mail (RFC 5321 section 4.2.1). At MAIL FROM it has heard nothing of the mail
/// but its size (552) and encoding (555): any other refusal is of the sender, which all mails share.
fn is_final(error: &SendError) -> bool {
    let of_all = matches!(
        error,
        SendError::Permanent { step: Step::Sender, code: Some(code), .. } if !matches!(code, 552 | 555)
    );
    error.is_permanent() && !error.is_before_mail() && !of_all
}

/// What a mail that was not sent tells of its server.
fn fault(error: &SendError, by_password: bool) -> Fault {
    let scope = match error {
        SendError::Settings { .. } => Scope::Target,
        error if error.is_before_mail() => Scope::Target,
        SendError::Transient {
            step: Step::Recipient,
            ..
        } => Scope::Entry,
        _ => Scope::Unclear,
    };
    let severity = match error {
        SendError::Auth(_) => Severity::ReportedElsewhere,
        SendError::RefusedLogin { .. }
        | SendError::Tls { .. }
        | SendError::Unsupported { .. }
        | SendError::Settings { .. } => Severity::Error,
        _ => Severity::Warning,
    };
    let pace = match error {
        SendError::Auth(_) => Pace::Token,
        SendError::RefusedLogin { .. } if by_password => Pace::Password,
        _ => Pace::Usual,
    };
    let retry_after = match error {
        SendError::Auth(error) => error.retry_after(),
        _ => None,
    };
    Fault {
        scope,
        problem: error.to_string(),
        pace,
        severity,
        retry_after,
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::Address;
    use postroom_outgoing::RefusedRecipient;

    use super::*;

    fn address(email: &str) -> Address {
        Address {
            name: Some("Somebody".into()),
            email: email.into(),
        }
    }

    fn forward(to: &[&str]) -> postroom_core::OutgoingMail {
        postroom_core::OutgoingMail {
            kind: MailKind::Forward,
            to: to.iter().map(|to| address(to)).collect(),
            subject: "Fwd: x".into(),
            text: String::new(),
            html: None,
            message_id: "7.1@acme.example".into(),
            in_reply_to: None,
            references: Vec::new(),
        }
    }

    fn recipient(address: &str, code: u16) -> RefusedRecipient {
        RefusedRecipient {
            address: address.into(),
            code,
            text: "later".into(),
        }
    }

    #[test]
    fn a_deferred_recipient_is_still_owed_the_same_mail() {
        let receipt = Receipt {
            code: 250,
            text: "queued".into(),
            refused: vec![recipient("gone@x.example", 550)],
            deferred: vec![recipient("Full@x.example", 451)],
        };
        let payload = forward(&["ok@x.example", "full@x.example", "gone@x.example"]);
        let Tried::Partly {
            payload,
            receipt,
            problem,
        } = sent(payload, &receipt)
        else {
            panic!("nobody is owed anything");
        };
        let payload: postroom_core::OutgoingMail = serde_json::from_str(&payload).unwrap();
        assert_eq!(payload, forward(&["full@x.example"]));
        assert_eq!(receipt, "250 queued; refused: gone@x.example: 550 later");
        assert_eq!(problem, "deferred: Full@x.example: 451 later");
    }

    #[test]
    fn a_refused_sender_ends_no_mail() {
        let refused = |step, code| SendError::Permanent {
            step,
            code,
            problem: "no".into(),
        };
        for (step, code, expected) in [
            (Step::Sender, Some(530), false),
            (Step::Sender, Some(550), false),
            (Step::Sender, Some(552), true),
            (Step::Recipient, Some(550), true),
            (Step::Text, Some(554), true),
            (Step::Recipient, None, true),
            (Step::Hello, Some(554), false),
        ] {
            assert_eq!(is_final(&refused(step, code)), expected, "{step} {code:?}");
        }
        assert_eq!(
            fault(&refused(Step::Sender, Some(550)), false).scope,
            Scope::Unclear
        );
    }

    #[test]
    fn a_deferred_recipient_says_nothing_of_the_server() {
        let transient = |step| SendError::Transient {
            step,
            code: Some(451),
            problem: "later".into(),
        };
        for (error, expected) in [
            (transient(Step::Recipient), Scope::Entry),
            (transient(Step::Text), Scope::Unclear),
            (transient(Step::Hello), Scope::Target),
            (
                SendError::Lost {
                    problem: "x".into(),
                },
                Scope::Unclear,
            ),
        ] {
            assert_eq!(fault(&error, false).scope, expected, "{error}");
        }
    }
}
