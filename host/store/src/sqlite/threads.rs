//! The search for a mail's ticket: by tokens, Message-IDs and numbers, each by an index, so that it takes the same time however many
//! mails are known.

use postroom_core::reply_token::ClaimedToken;
use postroom_core::{
    InstallationSecret, ReopenPolicy, StepResult, Thread, ThreadMethod, ThreadQuery, ThreadStep,
    Threading, ticket_name, ticket_number,
};
use rusqlite::{Connection, OptionalExtension, Row};

use super::SqliteReader;
use super::ids::{message_key, shared_key};
use super::questions::tenant_id;
use crate::StoreError;

/// The number of references considered, newest first.
const REFERENCES: usize = 50;
/// The most steps recorded of one search.
const STEPS: usize = 20;
/// The tickets with one foreign number that are considered, newest first.
const WITH_ONE_NUMBER: usize = 20;
/// The longest evidence in a step, in characters.
const EVIDENCE_CHARS: usize = 200;

impl SqliteReader {
    /// Returns the ticket of this tenant that a mail belongs to, and how it was searched for. A ticket that the sender may write to
    /// takes precedence over one that they may not.
    pub(crate) fn thread(
        &self,
        tenant: &str,
        query: &ThreadQuery,
        reopen: &ReopenPolicy,
        now_ms: i64,
    ) -> Result<Threading, StoreError> {
        if query.is_empty() {
            return Ok(Threading::default());
        }
        self.with(|conn| {
            let Some(tenant_row) = tenant_id(conn, tenant)? else {
                return Ok(Threading::default());
            };
            let mut search = Search {
                conn,
                query,
                tenant: Some(tenant_row),
                reopen: Some((reopen, now_ms)),
                steps: Vec::new(),
                barred: None,
            };
            let found = search.run(ThreadMethod::ALL)?;
            let barred = search.barred.take();
            let thread = found.map(|found| (found, true));
            let thread = thread.or(barred.map(|barred| (barred, false)));
            Ok(Threading {
                thread: thread.map(|(found, authorised)| Thread {
                    ticket: ticket_name(found.ticket.number),
                    method: found.method,
                    authorised,
                }),
                steps: search.steps,
            })
        })
    }

    /// Returns the tenant of the ticket that a mail belongs to, if its sender takes part in that ticket or is staff. `methods` are
    /// tried in order.
    pub(crate) fn ticket_tenant(
        &self,
        query: &ThreadQuery,
        methods: &[ThreadMethod],
    ) -> Result<Option<String>, StoreError> {
        if query.is_empty() {
            return Ok(None);
        }
        self.with(|conn| {
            let mut search = Search {
                conn,
                query,
                tenant: None,
                reopen: None,
                steps: Vec::new(),
                barred: None,
            };
            let Some(found) = search.run(methods)? else {
                return Ok(None);
            };
            Ok(conn
                .prepare_cached("SELECT name FROM tenant WHERE id = ?1")?
                .query_row([found.ticket.tenant], |row| row.get(0))
                .optional()?)
        })
    }
}

/// A ticket that some evidence names.
struct Ticket {
    number: i64,
    tenant: i64,
    is_open: bool,
    queue: Option<String>,
    updated_ms: i64,
}

struct Found {
    ticket: Ticket,
    method: ThreadMethod,
}

struct Search<'a> {
    conn: &'a Connection,
    query: &'a ThreadQuery,
    /// The tenant whose tickets are searched; `None` searches all.
    tenant: Option<i64>,
    /// Which closed tickets still take notes, and the time; `None` does not ask.
    reopen: Option<(&'a ReopenPolicy, i64)>,
    steps: Vec<ThreadStep>,
    /// The first ticket that the mail may not be added to.
    barred: Option<Found>,
}

impl Search<'_> {
    /// Tries the methods in order. Returns the first ticket that the mail may be added to.
    fn run(&mut self, methods: &[ThreadMethod]) -> Result<Option<Found>, StoreError> {
        for method in methods {
            let found = match method {
                ThreadMethod::ReplyToken => self.by_tokens()?,
                ThreadMethod::OwnMessageId => {
                    let references = &self.query.references;
                    self.by_ids(*method, references, Self::sent)?
                }
                ThreadMethod::Bounce => {
                    let bounced = self.query.bounced.as_slice();
                    self.by_ids(*method, bounced, Self::sent)?
                }
                ThreadMethod::MessageId => {
                    let references = &self.query.references;
                    self.by_ids(*method, references, Self::received)?
                }
                ThreadMethod::Subject => self.by_numbers()?,
                ThreadMethod::ForeignNumber => self.by_foreign_numbers()?,
            };
            if let Some(ticket) = found {
                return Ok(Some(Found {
                    ticket,
                    method: *method,
                }));
            }
        }
        Ok(None)
    }

    fn by_tokens(&mut self) -> Result<Option<Ticket>, StoreError> {
        let method = ThreadMethod::ReplyToken;
        if self.query.tokens.is_empty() {
            return Ok(None);
        }
        let secret = secret(self.conn)?;
        for token in &self.query.tokens {
            let evidence = ticket_name(token.ticket);
            let ticket = self.ticket(token.ticket)?;
            let is_signed = |ticket: &Ticket| match &secret {
                Some(secret) => is_signed(self.conn, secret, token, ticket.tenant),
                None => Ok(false),
            };
            match ticket {
                Some(ticket) if is_signed(&ticket)? => {
                    if let Some(ticket) = self.consider(method, &evidence, ticket)? {
                        return Ok(Some(ticket));
                    }
                }
                _ => self.note(method, evidence, StepResult::Forged, None),
            }
        }
        Ok(None)
    }

    fn by_ids(
        &mut self,
        method: ThreadMethod,
        ids: &[String],
        find: fn(&Self, &str) -> Result<Option<Ticket>, StoreError>,
    ) -> Result<Option<Ticket>, StoreError> {
        let mut is_known = false;
        for id in ids.iter().take(REFERENCES) {
            let Some(ticket) = find(self, id)? else {
                continue;
            };
            is_known = true;
            if let Some(ticket) = self.consider(method, id, ticket)? {
                return Ok(Some(ticket));
            }
        }
        if let (false, Some(first)) = (is_known, ids.first()) {
            let evidence = match ids.len() {
                1 => first.clone(),
                count => format!("{count} Message-IDs"),
            };
            self.note(method, evidence, StepResult::Unknown, None);
        }
        Ok(None)
    }

    fn by_numbers(&mut self) -> Result<Option<Ticket>, StoreError> {
        for name in &self.query.numbers {
            let ticket = match ticket_number(name) {
                Some(number) => self.ticket(number)?,
                None => None,
            };
            match ticket {
                Some(ticket) => {
                    let method = ThreadMethod::Subject;
                    if let Some(ticket) = self.consider(method, name, ticket)? {
                        return Ok(Some(ticket));
                    }
                }
                None => self.note(
                    ThreadMethod::Subject,
                    name.clone(),
                    StepResult::Unknown,
                    None,
                ),
            }
        }
        Ok(None)
    }

    fn by_foreign_numbers(&mut self) -> Result<Option<Ticket>, StoreError> {
        let method = ThreadMethod::ForeignNumber;
        for number in &self.query.foreign_numbers {
            let tickets = self.with_foreign_number(number)?;
            if tickets.is_empty() {
                self.note(method, number.clone(), StepResult::Unknown, None);
            }
            for ticket in tickets {
                if let Some(ticket) = self.consider(method, number, ticket)? {
                    return Ok(Some(ticket));
                }
            }
        }
        Ok(None)
    }

    /// Returns the ticket if the mail may be added to it, and records the step.
    fn consider(
        &mut self,
        method: ThreadMethod,
        evidence: &str,
        ticket: Ticket,
    ) -> Result<Option<Ticket>, StoreError> {
        let takes_notes = ticket.is_open
            || self.reopen.is_none_or(|(policy, now_ms)| {
                policy.takes_notes(ticket.queue.as_deref(), ticket.updated_ms, now_ms)
            });
        let result = if !self.may_write(method, ticket.number)? {
            StepResult::Outsider
        } else if !takes_notes {
            StepResult::TooOld
        } else {
            StepResult::Found
        };
        let name = ticket_name(ticket.number);
        self.note(method, evidence.to_owned(), result, Some(name));
        if result == StepResult::Found {
            return Ok(Some(ticket));
        }
        self.barred.get_or_insert(Found { ticket, method });
        Ok(None)
    }

    /// Returns whether the sender may write to a ticket: a technician, one of the client's own people, or a participant. A bounce has
    /// no sender, and names the Message-ID of a mail that only its recipients know.
    fn may_write(&self, method: ThreadMethod, ticket: i64) -> Result<bool, StoreError> {
        if method == ThreadMethod::Bounce || self.query.is_client || self.query.is_staff {
            return Ok(true);
        }
        let Some(sender) = &self.query.sender else {
            return Ok(false);
        };
        Ok(self
            .conn
            .prepare_cached("SELECT 1 FROM participant WHERE ticket = ?1 AND email = ?2")?
            .exists((ticket, sender.to_lowercase()))?)
    }

    fn note(
        &mut self,
        method: ThreadMethod,
        evidence: String,
        result: StepResult,
        ticket: Option<String>,
    ) {
        let step = ThreadStep {
            method,
            evidence: evidence.chars().take(EVIDENCE_CHARS).collect(),
            result,
            ticket,
        };
        if self.steps.len() < STEPS {
            self.steps.push(step);
        } else if result == StepResult::Found {
            // The step that decides is always recorded.
            self.steps[STEPS - 1] = step;
        }
    }

    fn ticket(&self, number: i64) -> Result<Option<Ticket>, StoreError> {
        Ok(self
            .conn
            .prepare_cached(TICKET)?
            .query_row((number, self.tenant), ticket_of)
            .optional()?)
    }

    /// Returns the ticket for which Postroom sent a mail with this Message-ID.
    fn sent(&self, message_id: &str) -> Result<Option<Ticket>, StoreError> {
        let found = match self.tenant {
            Some(tenant) => self
                .conn
                .prepare_cached(SENT)?
                .query_row(
                    (message_key(tenant, message_id), message_id, tenant),
                    ticket_of,
                )
                .optional()?,
            None => self
                .conn
                .prepare_cached(SENT_BY_ANY)?
                .query_row([message_id], ticket_of)
                .optional()?,
        };
        Ok(found)
    }

    /// Returns the ticket that a mail with this Message-ID opened or was added to.
    fn received(&self, message_id: &str) -> Result<Option<Ticket>, StoreError> {
        let found = match self.tenant {
            Some(tenant) => self
                .conn
                .prepare_cached(RECEIVED)?
                .query_row(
                    (message_key(tenant, message_id), message_id, tenant),
                    ticket_of,
                )
                .optional()?,
            None => self
                .conn
                .prepare_cached(RECEIVED_BY_ANY)?
                .query_row((shared_key(message_id), message_id), ticket_of)
                .optional()?,
        };
        Ok(found)
    }

    fn with_foreign_number(&self, number: &str) -> Result<Vec<Ticket>, StoreError> {
        // A number of another system means nothing across clients.
        let Some(tenant) = self.tenant else {
            return Ok(Vec::new());
        };
        let mut found = self.conn.prepare_cached(FOREIGN)?;
        let rows = found.query_map((tenant, number, WITH_ONE_NUMBER as i64), ticket_of)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn ticket_of(row: &Row<'_>) -> rusqlite::Result<Ticket> {
    Ok(Ticket {
        number: row.get(0)?,
        tenant: row.get(1)?,
        is_open: row.get(2)?,
        queue: row.get(3)?,
        updated_ms: row.get(4)?,
    })
}

fn secret(conn: &Connection) -> Result<Option<InstallationSecret>, StoreError> {
    let secret: Option<String> = conn
        .prepare_cached("SELECT secret FROM installation")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(secret.as_deref().and_then(InstallationSecret::decode))
}

fn is_signed(
    conn: &Connection,
    secret: &InstallationSecret,
    token: &ClaimedToken,
    tenant: i64,
) -> Result<bool, StoreError> {
    let name: String = conn
        .prepare_cached("SELECT name FROM tenant WHERE id = ?1")?
        .query_row([tenant], |row| row.get(0))?;
    Ok(token.is_signed(secret, &name))
}

/// The columns that [`ticket_of`] expects.
macro_rules! ticket_columns {
    () => {
        "SELECT i.ticket, i.tenant, i.state <> 'closed', i.queue, coalesce(i.closed_ms, i.updated_ms) "
    };
}

const TICKET: &str = concat!(
    ticket_columns!(),
    "FROM item i WHERE i.kind = 0 AND i.ticket = ?1 AND (?2 IS NULL OR i.tenant = ?2)"
);

/// Prefers the oldest ticket: anybody may send another mail with a known Message-ID. Only the first 200 mails with this Message-ID are considered: anybody may later send many
/// with the same Message-ID, and must not displace the first.
const RECEIVED: &str = concat!(
    ticket_columns!(),
    "FROM (SELECT id FROM journal WHERE message_key = ?1 AND message_id = ?2 AND tenant = ?3
           ORDER BY id LIMIT 200) j
          JOIN decision d ON d.journal = j.id
          JOIN item i ON i.kind = 0 AND i.ticket = d.ticket
     WHERE i.tenant = ?3 ORDER BY i.ticket LIMIT 1"
);

const RECEIVED_BY_ANY: &str = concat!(
    ticket_columns!(),
    "FROM (SELECT id, tenant FROM journal WHERE shared_key = ?1 AND message_id = ?2
           ORDER BY id LIMIT 200) j
          JOIN decision d ON d.journal = j.id
          JOIN item i ON i.kind = 0 AND i.ticket = d.ticket AND i.tenant = j.tenant
     ORDER BY i.ticket LIMIT 1"
);

const SENT: &str = concat!(
    ticket_columns!(),
    "FROM sent s JOIN item i ON i.kind = 0 AND i.ticket = s.ticket
     WHERE s.message_key = ?1 AND s.message_id = ?2 AND i.tenant = ?3"
);

const SENT_BY_ANY: &str = concat!(
    ticket_columns!(),
    "FROM sent s JOIN item i ON i.kind = 0 AND i.ticket = s.ticket
     WHERE s.message_id = ?1 ORDER BY i.ticket LIMIT 1"
);

/// The newest tickets first, which are the ones that a number is used for.
const FOREIGN: &str = concat!(
    ticket_columns!(),
    "FROM foreign_number f JOIN item i ON i.kind = 0 AND i.ticket = f.ticket AND i.tenant = f.tenant
     WHERE f.tenant = ?1 AND f.number = ?2 ORDER BY f.ticket DESC LIMIT ?3"
);

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that each search uses an index, so that it takes the same time for 1,000 known mails and for 1,000,000.
    #[test]
    fn every_search_goes_by_an_index() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::sqlite::SqliteStore::open(dir.path()).unwrap();
        for (sql, expected) in [
            (TICKET, "USING INDEX item_ticket (ticket=?)"),
            (RECEIVED, "USING INDEX journal_message (message_key=?)"),
            (RECEIVED_BY_ANY, "USING INDEX journal_shared (shared_key=?)"),
            (SENT, "USING PRIMARY KEY (message_key=? AND message_id=?)"),
            (SENT_BY_ANY, "USING INDEX sent_message (message_id=?)"),
            (FOREIGN, "USING PRIMARY KEY (tenant=? AND number=?)"),
        ] {
            let plan: Vec<String> = store
                .reader
                .with(|conn| {
                    let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                    let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
                    let rows =
                        plan.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))?;
                    Ok(rows.collect::<Result<_, _>>()?)
                })
                .unwrap();
            let plan = plan.join("\n");
            assert!(plan.contains(expected), "{sql}\n{plan}");
            assert!(
                !plan.contains("SCAN i") && !plan.contains("SCAN d"),
                "{plan}"
            );
        }
    }

    fn ticket(conn: &Connection, number: i64, queue: &str, closed_ms: Option<i64>) {
        conn.execute_batch(
            "INSERT OR IGNORE INTO tenant (id, name) VALUES (1, 'acme');
             INSERT OR IGNORE INTO mailbox (id, name) VALUES (1, 'support');",
        )
        .unwrap();
        let state = if closed_ms.is_some() {
            "closed"
        } else {
            "open"
        };
        conn.execute(
            "INSERT INTO item (kind, tenant, decision, ticket, state, created_ms, updated_ms, queue, detail)
             VALUES (0, 1, NULL, ?1, ?2, 0, ?3, ?4, '{}')",
            (number, state, closed_ms.unwrap_or(0), queue),
        )
        .unwrap();
    }

    #[test]
    fn a_closed_ticket_takes_notes_for_as_long_as_its_queue_says() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::sqlite::SqliteStore::open(dir.path()).unwrap();
        let conn = Connection::open(dir.path().join("postroom.sqlite")).unwrap();
        ticket(&conn, 1, "desk", Some(100));
        ticket(&conn, 2, "billing", Some(100));
        ticket(&conn, 3, "desk", None);
        let policy = ReopenPolicy {
            default_ms: 50,
            queues: [("billing".to_owned(), 5)].into(),
        };
        let result = |number: &str, now_ms| {
            let query = ThreadQuery {
                numbers: vec![number.to_owned()],
                is_client: true,
                ..ThreadQuery::default()
            };
            let found = store
                .reader
                .thread("acme", &query, &policy, now_ms)
                .unwrap();
            let authorised = found.thread.map(|it| it.authorised);
            (found.steps[0].result, authorised)
        };
        assert_eq!(result("T-1", 150), (StepResult::Found, Some(true)));
        assert_eq!(result("T-1", 151), (StepResult::TooOld, Some(false)));
        assert_eq!(result("T-2", 105), (StepResult::Found, Some(true)));
        assert_eq!(result("T-2", 106), (StepResult::TooOld, Some(false)));
        assert_eq!(result("T-3", i64::MAX), (StepResult::Found, Some(true)));
        // A note opens it again, unless it only says thanks.
        super::super::items::reopen(&conn, 1).unwrap();
        assert_eq!(result("T-1", i64::MAX), (StepResult::Found, Some(true)));
    }
}
