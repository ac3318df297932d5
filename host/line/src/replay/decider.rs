//! Decides one recorded mail again with other rules: the part that a replay and a shadow share.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postroom_core::attribution::NoContacts;
use postroom_core::{COPIES_RULE, MailboxPolicy, Outcome, ParseLimits, Threading, parse};
use postroom_store::{Evidence, RecordedMail, Records, StoreError};

use super::answers::FromRecord;
use super::{Compared, End, Skip, compare};
use crate::decide::panic_text;
use postroom_config::{Config, MailboxConfig, Tenant};
use postroom_rules::chain_run::{self, FALLBACK, Place};
use postroom_rules::rulebook::Chain;
use postroom_rules::senders::{Sender, Senders};

/// The parts shared by all mailboxes. Reads the store and writes nothing.
pub struct ReplayDecider {
    pub records: Arc<dyn Records>,
    own_addresses: Vec<String>,
    senders: Senders,
    parse_limits: ParseLimits,
}

/// A mailbox with its candidate chain.
pub struct MailboxUnderTest {
    tenant: String,
    is_shared: bool,
    trusted: Vec<String>,
    has_outgoing: bool,
    policy: MailboxPolicy,
    message_bytes: u64,
    chain: Chain,
}

impl MailboxUnderTest {
    pub fn new(tenant: &Tenant, mailbox: &MailboxConfig, chain: Chain) -> Self {
        Self {
            tenant: tenant.name.clone(),
            is_shared: mailbox.shared.is_some(),
            trusted: mailbox.trusted.clone(),
            has_outgoing: mailbox.outgoing.is_some(),
            policy: mailbox.policy_of(tenant),
            message_bytes: mailbox.size.message_bytes,
            chain,
        }
    }

    /// Returns the rule's position in the chain.
    pub fn place_of(&self, rule: &str) -> Option<usize> {
        self.chain.rules.iter().position(|it| it.name == rule)
    }
}

impl ReplayDecider {
    pub fn new(config: &Config, records: Arc<dyn Records>) -> Self {
        Self {
            records,
            own_addresses: config.own_addresses().into_iter().collect(),
            senders: Senders::of(config),
            parse_limits: config.limits.parsing(),
        }
    }

    /// Decides a mail again with its mailbox's candidate and compares the decisions. Blocks for as long as the rules take.
    pub fn decide(
        &self,
        room: Option<&MailboxUnderTest>,
        mail: &RecordedMail,
        evidence: Option<Evidence>,
    ) -> Result<End, StoreError> {
        // The mailbox may belong to another tenant now.
        let Some(room) = room.filter(|room| room.tenant == mail.tenant) else {
            return Ok(End::Skipped(Skip::NotConfigured));
        };
        if !mail.whole || mail.size > room.message_bytes {
            return Ok(End::Skipped(Skip::SetAside));
        }
        let read = evidence
            .as_ref()
            .map(|evidence| evidence.read(mail.outcome));
        let (Some(evidence), Some(Ok(recorded))) = (&evidence, read) else {
            tracing::error!(mail = mail.id.0, "the record of a decision cannot be read");
            return Ok(End::Skipped(Skip::Unreadable));
        };
        let before = recorded.decision.as_decided();
        if before.outcome == Outcome::Quarantined && before.rule == FALLBACK {
            return Ok(End::Skipped(Skip::SetAside));
        }
        if before.rule == COPIES_RULE {
            return Ok(End::Skipped(Skip::Copy));
        }
        let Some(raw) = &evidence.raw else {
            return Ok(End::Skipped(Skip::Purged));
        };
        let answers = FromRecord {
            facts: &*self.records,
            tenant: &mail.tenant,
            kv_reads: Arc::new(recorded.kv_reads),
            lookups: Arc::new(recorded.lookups),
        };
        let place = Place {
            chain: &room.chain,
            own_addresses: &self.own_addresses,
            has_outgoing: room.has_outgoing,
            policy: &room.policy,
            released: false,
            capabilities: &answers,
        };
        let walked = catch_unwind(AssertUnwindSafe(|| {
            let mut message = parse(raw, &self.parse_limits, &room.trusted);
            if let Some(reply) = recorded.reply {
                message.reply = reply;
            }
            let message = Arc::new(message);
            if message.over_limit.is_some() {
                return Ok(None);
            }
            let known = &before.provenance;
            let sender = match known.client.is_some() || room.is_shared {
                // By the contacts and tickets of that time.
                true => Sender {
                    client: known.client.clone(),
                    ..self.senders.without_client(&message)
                },
                false => self.senders.of_tenant(&mail.tenant, &message, &NoContacts),
            };
            let threading = Threading {
                thread: before.thread.clone(),
                steps: known.steps.clone(),
            };
            let threading = room.policy.threads.verify(&message, threading);
            let (tenant, mailbox) = (&mail.tenant, &mail.mailbox);
            let context = chain_run::context(tenant, mailbox, sender, threading, mail.received_ms);
            chain_run::run_chain(place, &message, context).map(Some)
        }));
        let answer = match walked {
            Ok(Ok(None)) => return Ok(End::Skipped(Skip::SetAside)),
            Ok(Ok(Some(answer))) => answer,
            Ok(Err(error)) => return Err(error),
            Err(panic) => {
                let reason = panic_text(&*panic);
                tracing::error!(mail = mail.id.0, %reason, "a defect of Postroom: this mail could not be decided again");
                return Ok(End::Skipped(Skip::Defect));
            }
        };
        Ok(End::Decided(Box::new(Compared {
            from: recorded.from,
            subject: recorded.subject,
            verdict: compare(&before, &answer.decision),
            unrecorded: answers.unrecorded(&answer),
            spent: answer.spent,
            before,
            after: Arc::unwrap_or_clone(answer.conclusion).decision,
        })))
    }
}
