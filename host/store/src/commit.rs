//! The commit: a decision and everything that follows from it become durable in one transaction, or nothing does.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;

use postroom_core::lookup::{Found, Question};
use postroom_core::{
    Action, Address, ContentHash, Decision, InstallationSecret, MailIdentity, Outcome,
};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::brakes::{AutomaticLimits, Sending};
use crate::compose::{self, OutgoingMailPayload};
use crate::ids::{
    DecisionId, JournalId, message_key, now_ms, outcome_number, ticket_name, ticket_number,
};
use crate::installation::Installation;
use crate::items::{self, Origin};
use crate::outbox::{self, NewEntry, OutboxKind};
use crate::record::Record;
use crate::{Store, StoreError, acks};

/// Addresses of one mail that join a ticket at most.
const PARTICIPANTS: usize = 50;
/// Why an old mail is neither answered nor forwarded.
const OLD: &str = "old mail";

/// A decision with all that must be written with it.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub journal: JournalId,
    pub conclusion: Arc<Conclusion>,
    pub mail: MailFacts,
    pub outlets: Arc<Outlets>,
}

/// A decision with what the rules read and wrote on the way to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    pub decision: Decision,
    pub kv_writes: Vec<KvWrite>,
    /// What the rules read from their memory, kept so that the mail can be decided again.
    pub kv_reads: Vec<KvRead>,
    /// What they asked about the tenant, kept for the same.
    pub lookups: Vec<LookupRead>,
}

/// Where what is decided about a mailbox's mail goes.
#[derive(Debug, Clone, Default)]
pub struct Outlets {
    pub routes: Routes,
    /// Whether the items of old mail go to the sinks like those of any other. It is never answered nor forwarded.
    pub deliver_old: bool,
    /// None when the mailbox has no way to send; replies and forwards are then refused.
    pub outgoing: Option<OutgoingRoute>,
}

/// What the store needs to know of the mail that was decided.
#[derive(Debug, Clone, Default)]
pub struct MailFacts {
    /// Without angle brackets, as journalled.
    pub message_id: String,
    /// The newest first.
    pub references: Vec<String>,
    pub from: Option<Address>,
    pub subject: String,
    /// From, To and Cc without our own addresses: who may write to the ticket.
    pub participants: Vec<String>,
    /// Whether the trusted boundary says that the mail comes from the domain of its From. Anybody can write any From.
    pub confirmed: bool,
}

/// What a rule read from its memory; no value where there was none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRead {
    pub rule: String,
    pub key: String,
    pub value: Option<String>,
}

/// What a rule asked about its tenant, and what was found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookupRead {
    pub rule: String,
    pub question: Question,
    pub found: Found,
}

/// A change of a rule's memory; no value deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    pub rule: String,
    pub key: String,
    pub value: Option<String>,
}

/// The sinks that receive each kind of item, by name.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    pub ticket: Vec<String>,
    pub note: Vec<String>,
    pub alert: Vec<String>,
}

/// The mailbox's way to send.
#[derive(Debug, Clone)]
pub struct OutgoingRoute {
    pub name: String,
    /// The domain of its From address, for Message-IDs.
    pub from_domain: String,
    pub automatic: AutomaticLimits,
}

/// What a commit made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    pub decision_id: DecisionId,
    /// The numbers of new tickets, such as `T-12`, in the order of the actions.
    pub tickets: Vec<String>,
}

impl Store {
    /// Writes all verdicts in one transaction, in order; the first error is answered and nothing of any is written.
    pub async fn commit(&self, verdicts: Vec<Verdict>) -> Result<Vec<Committed>, StoreError> {
        let weight = verdicts.iter().map(weight_bytes).sum();
        let installation = self.installation.clone();
        self.writer
            .submit(weight, move |conn| {
                let write = |verdict| write(conn, &installation, verdict);
                verdicts.into_iter().map(write).collect()
            })
            .await
    }
}

/// A journalled mail while its decision is written.
struct Desk<'a> {
    conn: &'a Connection,
    journal: JournalId,
    origin: Origin,
    mail: &'a JournalledMail,
    secret: &'a InstallationSecret,
    facts: &'a MailFacts,
    routes: &'a Routes,
    /// Whether the mail's items go to the sinks.
    delivers: bool,
    outgoing: Option<&'a OutgoingRoute>,
    /// The new ticket, or the one noted on.
    ticket: Option<i64>,
    /// Whom a rule forwards to takes part in the ticket.
    joins: bool,
}

/// What identifies a journalled mail, and what it is known by outside.
pub(crate) struct JournalledMail {
    pub tenant_row: i64,
    pub mailbox_row: i64,
    pub tenant: String,
    pub mailbox: String,
    pub message_id: String,
    content: ContentHash,
    old: bool,
}

impl JournalledMail {
    pub(crate) fn read(conn: &Connection, journal: JournalId) -> Result<Self, StoreError> {
        conn.prepare_cached(
            "SELECT j.tenant, j.mailbox, t.name, m.name, j.message_id, j.content_hash, j.old
             FROM journal j JOIN mailbox m ON m.id = j.mailbox JOIN tenant t ON t.id = j.tenant WHERE j.id = ?1",
        )?
        .query_row([journal], |row| {
            Ok(Self {
                tenant_row: row.get(0)?,
                mailbox_row: row.get(1)?,
                tenant: row.get(2)?,
                mailbox: row.get(3)?,
                message_id: row.get(4)?,
                content: ContentHash(row.get(5)?),
                old: row.get(6)?,
            })
        })
        .optional()?
        .ok_or(StoreError::UnknownMail { journal })
    }

    /// No command decides a mail again on purpose yet: the repetition is 0.
    pub(crate) fn identity(&self) -> MailIdentity<'_> {
        MailIdentity {
            tenant: &self.tenant,
            mailbox: &self.mailbox,
            message_id: &self.message_id,
            content: &self.content,
            repetition: 0,
        }
    }
}

fn weight_bytes(verdict: &Verdict) -> usize {
    let body = |action: &Action| match action {
        Action::Ticket(t) => t.body.as_deref().map_or(0, str::len),
        Action::Note(n) => n.body.as_deref().map_or(0, str::len),
        _ => 0,
    };
    verdict
        .conclusion
        .decision
        .actions
        .iter()
        .map(body)
        .sum::<usize>()
        + 1024
}

fn write(
    conn: &Connection,
    installation: &Installation,
    verdict: Verdict,
) -> Result<Committed, StoreError> {
    let Verdict {
        journal,
        conclusion,
        mail: facts,
        outlets,
    } = verdict;
    let decision = &conclusion.decision;
    let mail = undecided(conn, journal)?;
    let (tenant, mailbox_row) = (mail.tenant_row, mail.mailbox_row);
    let origin = Origin {
        tenant,
        decision: DecisionId(journal.0),
        now_ms: now_ms(),
        old: mail.old,
    };

    let mut numbers = new_tickets(conn, installation, &decision.actions)?;
    let ticket = numbers
        .first()
        .copied()
        .or_else(|| noted_ticket(&decision.actions));
    let tickets = numbers.iter().copied().map(ticket_name).collect();
    conn.prepare_cached("DELETE FROM pending WHERE mailbox = ?1 AND journal = ?2")?
        .execute((mailbox_row, journal))?;
    conn.prepare_cached(
        "INSERT INTO decision (journal, outcome, ticket, decided_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((
        journal,
        outcome_number(decision.outcome),
        ticket,
        origin.now_ms,
    ))?;

    let desk = Desk {
        conn,
        journal,
        origin,
        mail: &mail,
        secret: &installation.secret,
        facts: &facts,
        routes: &outlets.routes,
        delivers: outlets.deliver_old || !mail.old,
        outgoing: outlets.outgoing.as_ref(),
        ticket,
        joins: may_join(decision),
    };
    let mut refused = Vec::new();
    for (n, action) in decision.actions.iter().enumerate() {
        if let Err(reason) = desk.carry_out(n, action, &mut numbers)? {
            refused.push((n, reason.into_owned()));
        }
    }

    for change in &conclusion.kv_writes {
        write_kv(conn, tenant, change)?;
    }
    let record = Record {
        from: facts.from.as_ref().map(Cow::Borrowed),
        subject: Cow::Borrowed(&facts.subject),
        decision: match refused.is_empty() {
            true => Cow::Borrowed(decision),
            false => Cow::Owned(decision.held_back(refused)),
        },
        kv_reads: Cow::Borrowed(&conclusion.kv_reads),
        lookups: Cow::Borrowed(&conclusion.lookups),
    };
    conn.prepare_cached("INSERT INTO decision_record (journal, record) VALUES (?1, ?2)")?
        .execute((journal, serde_json::to_string(&record)?))?;
    acks::release(conn, journal, origin.now_ms)?;
    Ok(Committed {
        decision_id: origin.decision,
        tickets,
    })
}

fn undecided(conn: &Connection, journal: JournalId) -> Result<JournalledMail, StoreError> {
    let mail = JournalledMail::read(conn, journal)?;
    let decided = conn
        .prepare_cached("SELECT 1 FROM decision WHERE journal = ?1")?
        .exists([journal])?;
    match decided {
        true => Err(StoreError::AlreadyDecided { journal }),
        false => Ok(mail),
    }
}

/// One number for each new ticket, in order, from the one sequence.
fn new_tickets(
    conn: &Connection,
    installation: &Installation,
    actions: &[Action],
) -> Result<Vec<i64>, StoreError> {
    let wanted = actions
        .iter()
        .filter(|a| matches!(a, Action::Ticket(_)))
        .count() as i64;
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let last: i64 = conn
        .prepare_cached(
            "UPDATE sequence SET last = last + ?1 WHERE name = 'ticket' RETURNING last",
        )?
        .query_row([wanted], |row| row.get(0))?;
    installation.raise(last);
    Ok((last - wanted + 1..=last).collect())
}

fn noted_ticket(actions: &[Action]) -> Option<i64> {
    actions.iter().find_map(|action| match action {
        Action::Note(note) => note.ticket.as_deref().and_then(ticket_number),
        _ => None,
    })
}

/// Whether whom the decision writes to may join its ticket. A stranger's note must not bring it about.
fn may_join(decision: &Decision) -> bool {
    match decision.outcome {
        Outcome::Ticket => true,
        Outcome::Note => decision.thread.as_ref().is_some_and(|t| t.authorised),
        _ => false,
    }
}

fn write_kv(conn: &Connection, tenant: i64, change: &KvWrite) -> Result<(), StoreError> {
    match &change.value {
        Some(value) => conn
            .prepare_cached(
                "INSERT INTO kv (tenant, rule, key, value) VALUES (?1, ?2, ?3, ?4)
                 ON CONFLICT DO UPDATE SET value = excluded.value",
            )?
            .execute((tenant, &change.rule, &change.key, value))?,
        None => conn
            .prepare_cached("DELETE FROM kv WHERE tenant = ?1 AND rule = ?2 AND key = ?3")?
            .execute((tenant, &change.rule, &change.key))?,
    };
    Ok(())
}

impl Desk<'_> {
    /// Writes one action. The inner error is a refusal, which is recorded; `numbers` holds those of tickets not made yet.
    fn carry_out(
        &self,
        n: usize,
        action: &Action,
        numbers: &mut Vec<i64>,
    ) -> Result<Result<(), Cow<'static, str>>, StoreError> {
        match action {
            Action::Ticket(ticket) => {
                let number = numbers.remove(0);
                let item = items::add_ticket(self.conn, self.origin, number, ticket)?;
                let requester = ticket.requester.as_deref().map(compose::bare_address);
                let from = self.facts.from.as_ref().map(|from| from.email.as_str());
                self.join(
                    number,
                    requester.into_iter().chain(from).chain(self.people()),
                )?;
                self.tell(n, "ticket.created", item, &self.routes.ticket)?;
            }
            Action::Note(note) => {
                let named = note.ticket.as_deref().unwrap_or_default();
                let number = ticket_number(named);
                let (number, lane) = match number {
                    Some(number) => (
                        number,
                        items::ticket_row(self.conn, self.origin.tenant, number)?,
                    ),
                    None => (0, None),
                };
                let lane = lane.ok_or_else(|| StoreError::NoSuchTicket {
                    journal: self.journal,
                    ticket: named.to_owned(),
                })?;
                let item =
                    items::add_note(self.conn, self.origin, number, &self.facts.subject, note)?;
                if self.is_confirmed_requester(number)? {
                    self.join(number, self.people())?;
                }
                self.tell_in_lane(n, "note.created", item, lane, &self.routes.note)?;
            }
            Action::Alert(alert) => {
                if let Some(item) = items::put_alert(self.conn, self.origin, alert)? {
                    let event = format!("alert.{}", items::alert_state(alert.state));
                    self.tell(n, &event, item, &self.routes.alert)?;
                }
            }
            Action::Reply(_) | Action::Forward { .. } if self.mail.old => {
                return Ok(Err(OLD.into()));
            }
            Action::Reply(reply) => {
                let Some(to) = &self.facts.from else {
                    return Ok(Err("the mail names no sender".into()));
                };
                let Some(outgoing) = self.outgoing else {
                    return Ok(Err("the mailbox has no outgoing".into()));
                };
                let ticket = self.ticket.map(ticket_name);
                let id = self.message_id(n, outgoing);
                let payload =
                    compose::reply(self.journal, self.facts, to, reply, ticket.as_deref(), id);
                return self.send(n, outgoing, &payload);
            }
            Action::Forward { to } => {
                let Some(outgoing) = self.outgoing else {
                    return Ok(Err("the mailbox has no outgoing".into()));
                };
                let id = self.message_id(n, outgoing);
                let payload = compose::forward(self.journal, self.facts, to, id);
                let sent = self.send(n, outgoing, &payload)?;
                if let (Ok(()), true, Some(ticket)) = (&sent, self.joins, self.ticket) {
                    self.join(ticket, payload.to.iter().map(|to| to.email.as_str()))?;
                }
                return Ok(sent);
            }
            // Their record is the decision itself.
            Action::Ignore { .. }
            | Action::Quarantine { .. }
            | Action::Expect(_)
            | Action::Custom { .. } => {}
        }
        Ok(Ok(()))
    }

    fn message_id(&self, n: usize, outgoing: &OutgoingRoute) -> String {
        let identity = self.mail.identity();
        identity.outgoing_message_id(self.secret, n, &outgoing.from_domain)
    }

    fn idempotency_key(&self, n: usize, target: &str) -> String {
        let identity = self.mail.identity();
        identity.idempotency_key(self.secret, n, target)
    }

    fn people(&self) -> impl Iterator<Item = &str> {
        self.facts.participants.iter().map(String::as_str)
    }

    /// Whether the mail is proven to be the requester's. Only then do those whom a note is addressed to join its ticket: a From alone
    /// is anybody's, and who has joined may write for good.
    fn is_confirmed_requester(&self, ticket: i64) -> Result<bool, StoreError> {
        let Some(from) = self.facts.from.as_ref().filter(|_| self.facts.confirmed) else {
            return Ok(false);
        };
        let requester = items::requester(self.conn, ticket)?;
        Ok(requester.is_some_and(|requester| requester == from.email.to_lowercase()))
    }

    /// Makes people participants of a ticket.
    fn join<'p>(
        &self,
        ticket: i64,
        people: impl Iterator<Item = &'p str>,
    ) -> Result<(), StoreError> {
        let emails: BTreeSet<String> = people
            .take(PARTICIPANTS)
            .filter(|email| !email.is_empty())
            .map(str::to_lowercase)
            .collect();
        let mut insert = self
            .conn
            .prepare_cached("INSERT OR IGNORE INTO participant (ticket, email) VALUES (?1, ?2)")?;
        for email in emails {
            insert.execute((ticket, email))?;
        }
        Ok(())
    }

    fn tell(&self, n: usize, event: &str, item: i64, sinks: &[String]) -> Result<(), StoreError> {
        self.tell_in_lane(n, event, item, item, sinks)
    }

    fn tell_in_lane(
        &self,
        n: usize,
        event: &str,
        item: i64,
        lane: i64,
        sinks: &[String],
    ) -> Result<(), StoreError> {
        if sinks.is_empty() || !self.delivers {
            return Ok(());
        }
        let row = items::read(self.conn, item)?;
        let payload = compose::event(
            event,
            &row,
            self.origin.decision,
            &self.mail.mailbox,
            &self.facts.message_id,
            self.origin.now_ms,
        )?;
        for sink in sinks {
            self.add(n, OutboxKind::Sink, sink, Some(lane), payload.clone())?;
        }
        Ok(())
    }

    /// Queues a mail, and remembers its Message-ID so that an answer to it finds the ticket. The inner error is a refusal.
    fn send(
        &self,
        n: usize,
        outgoing: &OutgoingRoute,
        payload: &OutgoingMailPayload,
    ) -> Result<Result<(), Cow<'static, str>>, StoreError> {
        let tenant = self.origin.tenant;
        let sending = Sending {
            tenant,
            to: &payload.to,
            ticket: self.ticket,
            now_ms: self.origin.now_ms,
        };
        if let Some(reason) = sending.count(self.conn, &outgoing.automatic)? {
            return Ok(Err(reason.into()));
        }
        let lane = match self.ticket {
            Some(ticket) => {
                self.conn
                    .prepare_cached(
                        "INSERT OR REPLACE INTO sent (message_key, message_id, ticket) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((message_key(tenant, &payload.message_id), &payload.message_id, ticket))?;
                items::ticket_row(self.conn, tenant, ticket)?
            }
            None => None,
        };
        let json = serde_json::to_string(payload)?;
        self.add(n, OutboxKind::Mail, &outgoing.name, lane, json)?;
        Ok(Ok(()))
    }

    fn add(
        &self,
        n: usize,
        kind: OutboxKind,
        target: &str,
        lane: Option<i64>,
        payload: String,
    ) -> Result<(), StoreError> {
        let entry = NewEntry {
            kind,
            target,
            tenant: self.origin.tenant,
            decision: self.origin.decision,
            lane,
            idempotency_key: self.idempotency_key(n, target),
            payload,
        };
        outbox::add(self.conn, &entry, self.origin.now_ms)
    }
}
