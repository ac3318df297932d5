//! The commit: a decision and all its effects become durable in one transaction, or none do.
//!
//! A function in core ([`postroom_core::effects`]) computes the effects. This module reads the facts that it needs and applies
//! its results.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use postroom_core::effects::{
    self, Committing, Dispatch, Effect, EffectInputs, Effects, Needs, Notices,
};
use postroom_core::{
    Action, Alert, AlertPolicy, ContentHash, Event, EventKind, MailFacts, MailIdentity,
    copy_decision, hides_copies, ticket_name,
};
use rusqlite::{Connection, OptionalExtension};

use super::SqliteStore;
use super::alerts::{self, Seen, StormPlace};
use super::expectations::{self, Period};
use super::ids::{message_key, outcome_number, rfc3339};
use super::installation::Installation;
use super::items::{self, Origin, TicketChange};
use super::outbox::{self, NewEntry};
use super::{acks, brakes, conversations, copies};
use crate::record::Record;
use crate::{
    Committed, Conclusion, DecisionId, JournalId, KvWrite, OutboxKind, StoreError, Verdict,
};

impl SqliteStore {
    /// Writes all verdicts in order, in one transaction. On an error, returns the first one and writes nothing.
    pub(crate) async fn write_verdicts(
        &self,
        verdicts: Vec<Verdict>,
    ) -> Result<Vec<Committed>, StoreError> {
        let weight = verdicts.iter().map(weight_bytes).sum();
        let (installation, now_ms) = (self.installation.clone(), self.clock.now_ms());
        self.writer
            .submit(weight, move |conn| {
                let write = |verdict| write(conn, &installation, verdict, now_ms);
                verdicts.into_iter().map(write).collect()
            })
            .await
    }
}

/// The identity of a journalled mail, inside the store and outside.
pub(crate) struct JournalledMail {
    pub tenant_row: i64,
    pub mailbox_row: i64,
    pub tenant: String,
    pub mailbox: String,
    pub message_id: String,
    content: ContentHash,
    received_ms: i64,
    old: bool,
    repetition: u32,
}

impl JournalledMail {
    pub(crate) fn read(conn: &Connection, journal: JournalId) -> Result<Self, StoreError> {
        conn.prepare_cached(
            "SELECT j.tenant, j.mailbox, t.name, m.name, j.message_id, j.content_hash, j.old, j.received_ms, j.repetition
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
                received_ms: row.get(7)?,
                repetition: row.get(8)?,
            })
        })
        .optional()?
        .ok_or(StoreError::UnknownMail { journal })
    }

    /// Returns the mail's identity.
    pub(crate) fn identity(&self) -> MailIdentity<'_> {
        MailIdentity {
            tenant: &self.tenant,
            mailbox: &self.mailbox,
            message_id: &self.message_id,
            content: &self.content,
            repetition: self.repetition,
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
    now_ms: i64,
) -> Result<Committed, StoreError> {
    let Verdict {
        journal,
        conclusion,
        mail: facts,
        outlets,
    } = verdict;
    let mail = undecided(conn, journal)?;
    let copied = copied(conn, &mail, &conclusion, &facts)?.map(Arc::new);
    let conclusion = copied.as_ref().unwrap_or(&conclusion);
    let decision = &conclusion.decision;
    let (tenant, mailbox_row) = (mail.tenant_row, mail.mailbox_row);
    let origin = Origin {
        tenant,
        decision: Some(DecisionId(journal.0)),
        now_ms,
        old: mail.old,
    };
    let committing = Committing {
        identity: mail.identity(),
        is_old: mail.old,
        received_ms: mail.received_ms,
        decision,
        mail: &facts,
        outlets: &outlets,
    };
    let known = read_facts(
        conn,
        installation,
        tenant,
        &committing.needs(),
        origin.now_ms,
    )?;
    let tickets = known.numbers.iter().copied().map(ticket_name).collect();
    let effects = effects::effects(committing, &installation.secret, known);

    conn.prepare_cached("DELETE FROM pending WHERE mailbox = ?1 AND journal = ?2")?
        .execute((mailbox_row, journal))?;
    conn.prepare_cached(
        "INSERT INTO decision (journal, outcome, ticket, decided_ms) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET outcome = excluded.outcome, ticket = excluded.ticket, decided_ms = excluded.decided_ms",
    )?
    .execute((
        journal,
        outcome_number(decision.outcome),
        effects.ticket,
        origin.now_ms,
    ))?;
    let provenance = &decision.provenance;
    let is_client = provenance.client.as_ref().is_some_and(|it| it.sure);
    let takes_part = decision.thread.as_ref().is_some_and(|it| it.authorised);
    let mut desk = Desk {
        knows_sender: is_client || provenance.staff || takes_part,
        conn,
        installation,
        journal,
        origin,
        mail: &mail,
        policy: &outlets.alerts,
        is_delivered: outlets.deliver_old || !mail.old,
        facts: &facts,
        ticket_rows: HashMap::new(),
    };
    desk.apply(&effects)?;
    for change in &conclusion.kv_writes {
        write_kv(conn, tenant, change)?;
    }
    let record = Record {
        from: facts.from.as_ref().map(Cow::Borrowed),
        subject: Cow::Borrowed(&facts.subject),
        decision: match effects.refused.is_empty() {
            true => Cow::Borrowed(decision),
            false => Cow::Owned(decision.held_back(effects.refused)),
        },
        kv_reads: Cow::Borrowed(&conclusion.kv_reads),
        lookups: Cow::Borrowed(&conclusion.lookups),
        reply: conclusion.reply.as_deref().map(Cow::Borrowed),
    };
    conn.prepare_cached(
        "INSERT INTO decision_record (journal, record) VALUES (?1, ?2)
         ON CONFLICT DO UPDATE SET record = excluded.record",
    )?
    .execute((journal, serde_json::to_string(&record)?))?;
    if mail.repetition > 0 {
        copies::forget(conn, tenant, journal, &facts.copy_marks)?;
    }
    if hides_copies(decision.outcome) && !mail.old {
        let (marks, confirmed) = (&facts.copy_marks, facts.confirmed);
        copies::remember(conn, tenant, journal, marks, confirmed, mail.received_ms)?;
    }
    acks::release(conn, journal, origin.now_ms)?;
    Ok(Committed {
        decision_id: DecisionId(journal.0),
        tickets,
        instead: copied,
    })
}

/// Returns the conclusion about a mail of which a copy was committed since it was decided, by another mailbox.
fn copied(
    conn: &Connection,
    mail: &JournalledMail,
    conclusion: &Conclusion,
    facts: &MailFacts,
) -> Result<Option<Conclusion>, StoreError> {
    if facts.copy_marks.is_empty() || mail.repetition > 0 {
        return Ok(None);
    }
    let first = copies::first(
        conn,
        mail.tenant_row,
        &facts.copy_marks,
        facts.confirmed,
        mail.received_ms,
    )?;
    Ok(first.map(|first| {
        let version = env!("CARGO_PKG_VERSION");
        let generation = conclusion.decision.generation;
        Conclusion::of(copy_decision(first.0, version, generation))
    }))
}

fn undecided(conn: &Connection, journal: JournalId) -> Result<JournalledMail, StoreError> {
    let mail = JournalledMail::read(conn, journal)?;
    let decided = conn
        .prepare_cached(
            "SELECT 1 FROM decision WHERE journal = ?1
                AND NOT EXISTS (SELECT 1 FROM pending WHERE mailbox = ?2 AND journal = ?1)",
        )?
        .exists((journal, mail.mailbox_row))?;
    match decided {
        true => Err(StoreError::AlreadyDecided { journal }),
        false => Ok(mail),
    }
}

fn read_facts(
    conn: &Connection,
    installation: &Installation,
    tenant: i64,
    needs: &Needs,
    now_ms: i64,
) -> Result<EffectInputs, StoreError> {
    let mut requesters = BTreeMap::new();
    for ticket in &needs.requesters {
        if let Some(requester) = items::requester(conn, *ticket)? {
            requesters.insert(*ticket, requester);
        }
    }
    let sent = match &needs.sent {
        Some(needs) => brakes::sent_lately(conn, tenant, needs, now_ms)?,
        None => effects::SentLately::default(),
    };
    Ok(EffectInputs {
        numbers: take_numbers(conn, installation, needs.numbers)?,
        requesters,
        sent,
        is_answered: match &needs.conversation {
            Some(of) => conversations::is_answered(conn, tenant, of)?,
            None => false,
        },
    })
}

/// Takes one number for each new ticket, in order, from the single sequence.
fn take_numbers(
    conn: &Connection,
    installation: &Installation,
    wanted: usize,
) -> Result<Vec<i64>, StoreError> {
    if wanted == 0 {
        return Ok(Vec::new());
    }
    let wanted = wanted as i64;
    let last: i64 = conn
        .prepare_cached(
            "UPDATE sequence SET last = last + ?1 WHERE name = 'ticket' RETURNING last",
        )?
        .query_row([wanted], |row| row.get(0))?;
    installation.raise(last);
    Ok((last - wanted + 1..=last).collect())
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

/// Returns an item's current state as JSON, as it is sent to targets.
pub(crate) fn event(
    conn: &Connection,
    kind: EventKind,
    item: i64,
    mail: &JournalledMail,
    origin: Origin,
) -> Result<String, StoreError> {
    let event = Event {
        kind,
        timestamp: rfc3339(origin.now_ms),
        item: items::read(conn, item)?.announced_as(kind),
        decision: origin.decision.map(|it| it.0),
        mailbox: mail.mailbox.clone(),
        message_id: Some(mail.message_id.clone()),
    };
    Ok(serde_json::to_string(&event)?)
}

/// Applies the effects of one journalled mail.
struct Desk<'a> {
    conn: &'a Connection,
    installation: &'a Installation,
    journal: JournalId,
    origin: Origin,
    mail: &'a JournalledMail,
    policy: &'a AlertPolicy,
    /// Whether the items of this mail are delivered.
    is_delivered: bool,
    facts: &'a MailFacts,
    /// Whether the sender is the client's, staff, or takes part in the ticket.
    knows_sender: bool,
    /// The rows of the tickets that the mail opened or added a note to.
    ticket_rows: HashMap<i64, i64>,
}

impl Desk<'_> {
    fn apply(&mut self, effects: &Effects<'_>) -> Result<(), StoreError> {
        for effect in &effects.applied {
            self.apply_one(effect)?;
        }
        for brake in &effects.brakes {
            brakes::report(self.conn, self.origin.tenant, brake, self.origin.now_ms)?;
        }
        Ok(())
    }

    fn apply_one(&mut self, effect: &Effect<'_>) -> Result<(), StoreError> {
        match effect {
            Effect::Ticket {
                number,
                ticket,
                participants,
                notices,
            } => {
                let item = items::add_ticket(self.conn, self.origin, *number, ticket)?;
                self.ticket_rows.insert(*number, item);
                self.join(*number, participants)?;
                self.note_foreign_numbers(*number)?;
                self.notify(notices, item, item)
            }
            Effect::Note {
                number,
                note,
                title,
                participants,
                notices,
            } => {
                let found = match number {
                    Some(number) => self.ticket_row(*number)?.map(|lane| (*number, lane)),
                    None => None,
                };
                let (number, lane) = found.ok_or_else(|| StoreError::NoSuchTicket {
                    journal: self.journal,
                    ticket: note.ticket.clone().unwrap_or_default(),
                })?;
                let item = items::add_note(self.conn, self.origin, number, title, note)?;
                self.join(number, participants)?;
                self.note_foreign_numbers(number)?;
                if !self.facts.thanks {
                    items::reopen(self.conn, number)?;
                }
                self.notify(notices, item, lane)
            }
            Effect::Alert {
                alert,
                seen_ms,
                notices,
            } => {
                self.report(alert, Seen::Sent(*seen_ms), notices)?;
                let (journal, received_ms) = (self.journal, self.mail.received_ms);
                expectations::came(self.conn, self.origin, journal, &alert.key, received_ms)
            }
            Effect::Update {
                number,
                update,
                notices,
            } => {
                let changed = items::update_ticket(self.conn, self.origin, *number, update)?;
                self.notify_change(*number, changed, notices)
            }
            Effect::Close {
                number,
                reason,
                notices,
            } => {
                let changed = items::close_ticket(self.conn, self.origin, *number, *reason)?;
                self.notify_change(*number, changed, notices)
            }
            Effect::Expect {
                key,
                within_ms,
                due_ms,
                resolved,
            } => {
                let period = Period {
                    within_ms: *within_ms,
                    due_ms: *due_ms,
                };
                let was_raised =
                    expectations::expect(self.conn, self.origin, self.journal, key, &period)?;
                match resolved {
                    Some((alert, notices)) if was_raised => {
                        self.report(alert, Seen::Now(self.mail.received_ms), notices)
                    }
                    _ => Ok(()),
                }
            }
            Effect::Mail(dispatch) => self.dispatch(dispatch),
        }
    }

    /// Applies a mail's report about an alert.
    fn report(&self, alert: &Alert, seen: Seen, notices: &Notices<'_>) -> Result<(), StoreError> {
        let report = alerts::Report {
            alert,
            seen,
            is_mail: true,
            is_delivered: self.is_delivered,
            policy: self.policy,
        };
        let reported = alerts::report(self.conn, self.origin, &report)?;
        if let Some(storm) = &reported.storm {
            let sinks: Vec<&str> = notices.targets.iter().map(|(target, _)| *target).collect();
            let place = StormPlace {
                tenant: &self.mail.tenant,
                mailbox: &self.mail.mailbox,
                sinks: &sinks,
                now_ms: self.origin.now_ms,
            };
            alerts::report_storm(self.conn, self.installation, storm, &place)?;
        }
        match reported.event {
            Some(kind) => self.notify_of(kind, notices, reported.item, reported.item),
            None => Ok(()),
        }
    }

    fn notify_change(
        &self,
        number: i64,
        changed: Option<(i64, TicketChange)>,
        notices: &Notices<'_>,
    ) -> Result<(), StoreError> {
        let (item, change) = changed.ok_or_else(|| StoreError::NoSuchTicket {
            journal: self.journal,
            ticket: ticket_name(number),
        })?;
        match change {
            TicketChange::Nothing => Ok(()),
            TicketChange::Updated => self.notify_of(EventKind::TicketUpdated, notices, item, item),
            TicketChange::Closed => self.notify_of(EventKind::TicketClosed, notices, item, item),
        }
    }

    fn ticket_row(&mut self, number: i64) -> Result<Option<i64>, StoreError> {
        if let Some(row) = self.ticket_rows.get(&number) {
            return Ok(Some(*row));
        }
        let row = items::ticket_row(self.conn, self.origin.tenant, number)?;
        if let Some(row) = row {
            self.ticket_rows.insert(number, row);
        }
        Ok(row)
    }

    fn note_foreign_numbers(&self, ticket: i64) -> Result<(), StoreError> {
        // A stranger's number would lead the client's next mail to the stranger's ticket.
        let numbers = match self.knows_sender {
            true => &self.facts.foreign_numbers[..],
            false => &[],
        };
        items::note_foreign_numbers(self.conn, self.origin.tenant, ticket, numbers)
    }

    /// Makes people participants of a ticket.
    fn join(&self, ticket: i64, emails: &BTreeSet<String>) -> Result<(), StoreError> {
        let mut insert = self
            .conn
            .prepare_cached("INSERT OR IGNORE INTO participant (ticket, email) VALUES (?1, ?2)")?;
        for email in emails {
            insert.execute((ticket, email))?;
        }
        Ok(())
    }

    fn notify(&self, notices: &Notices<'_>, item: i64, lane: i64) -> Result<(), StoreError> {
        self.notify_of(notices.kind, notices, item, lane)
    }

    fn notify_of(
        &self,
        kind: EventKind,
        notices: &Notices<'_>,
        item: i64,
        lane: i64,
    ) -> Result<(), StoreError> {
        if notices.targets.is_empty() {
            return Ok(());
        }
        let payload = event(self.conn, kind, item, self.mail, self.origin)?;
        for (target, idempotency_key) in &notices.targets {
            let entry = NewEntry {
                kind: OutboxKind::Sink,
                target,
                tenant: self.origin.tenant,
                decision: self.origin.decision,
                lane: Some(lane),
                idempotency_key,
                payload: &payload,
            };
            outbox::add(self.conn, &entry, self.origin.now_ms)?;
        }
        Ok(())
    }

    /// Queues a mail, and records its Message-ID so that a reply to it finds the ticket.
    fn dispatch(&mut self, dispatch: &Dispatch<'_>) -> Result<(), StoreError> {
        let (tenant, now_ms) = (self.origin.tenant, self.origin.now_ms);
        brakes::count(
            self.conn,
            tenant,
            &dispatch.persons,
            dispatch.ticket,
            now_ms,
        )?;
        if let Some(conversation) = &dispatch.conversation {
            conversations::record(self.conn, tenant, conversation, now_ms)?;
        }
        let lane = match dispatch.ticket {
            Some(ticket) => {
                let id = &dispatch.mail.message_id;
                self.conn
                    .prepare_cached(
                        "INSERT OR REPLACE INTO sent (message_key, message_id, ticket) VALUES (?1, ?2, ?3)",
                    )?
                    .execute((message_key(tenant, id), id, ticket))?;
                self.join(ticket, &dispatch.participants)?;
                self.ticket_row(ticket)?
            }
            None => None,
        };
        let entry = NewEntry {
            kind: OutboxKind::Mail,
            target: dispatch.outgoing,
            tenant,
            decision: self.origin.decision,
            lane,
            idempotency_key: &dispatch.idempotency_key,
            payload: &serde_json::to_string(&dispatch.mail)?,
        };
        outbox::add(self.conn, &entry, now_ms)
    }
}
