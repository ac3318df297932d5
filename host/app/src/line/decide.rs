//! Steps 2 and 3 of the line: a journalled mail is parsed and walks its mailbox's rule chain. No I/O but the store's reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use postroom_core::{
    Action, Client, Completed, ContentHash, Context, Decision, DecisionLimits, Manners, Message,
    Outcome, RawMessage, Trouble, complete, fallback, message_id, parse, synthetic_message_id,
};
use postroom_sandbox::{Kv, KvError, Run};
use postroom_store::{KvRead, KvWrite, NewMail, PendingMail, Store, StoreError};

use super::{Line, Mailbox};
use crate::rulebook::Chain;

/// A journalled mail with what parsing made of it.
pub struct Parsed {
    pub mail: PendingMail,
    content: Content,
}

enum Content {
    Message(Arc<Message>),
    /// Over the size limits: kept whole if it could be, and never given to a rule.
    TooLarge(String),
    /// The line failed on it too often.
    GivenUp(String),
    /// Parsing panicked: a defect of ours, and not the mail's end.
    Failed(String),
}

impl Parsed {
    pub fn message(&self) -> Option<&Arc<Message>> {
        match &self.content {
            Content::Message(message) => Some(message),
            _ => None,
        }
    }
}

/// A mail with its decision, ready to be committed.
pub struct Decided {
    pub mail: PendingMail,
    pub message: Option<Arc<Message>>,
    pub result: Result<Answer, Failure>,
}

/// Why there is no decision yet.
pub enum Failure {
    /// The store could not be asked, which is no fault of the mail's.
    Store(StoreError),
    /// A defect of ours that this mail brought out.
    Defect(String),
}

/// The decision and what commits with it.
pub struct Answer {
    pub decision: Decision,
    pub kv_reads: Vec<KvRead>,
    pub kv_writes: Vec<KvWrite>,
}

/// What a fetched mail is recognised by, found without parsing all of it.
pub fn recognise(raw: RawMessage) -> NewMail {
    let content_hash = ContentHash::of(&raw.bytes);
    let message_id = message_id(&raw.bytes).unwrap_or_else(|| synthetic_message_id(&content_hash));
    NewMail {
        whole: raw.is_whole(),
        size: raw.size,
        position: raw.position,
        message_id,
        content_hash,
        bytes: raw.bytes,
    }
}

/// Parses a batch on all cores, in order.
pub async fn parse_all(line: &Arc<Line>, mails: Vec<PendingMail>) -> Vec<Parsed> {
    let shared = line.clone();
    on_all_cores(line, mails, move |mail| parse_one(&shared, mail)).await
}

/// Decides mails on all cores, in order, all by the same generation.
pub async fn decide_all(
    line: &Arc<Line>,
    mailbox: &Arc<Mailbox>,
    chain: &Arc<Chain>,
    mails: Vec<Parsed>,
) -> Vec<Decided> {
    let (shared, owner, chain) = (line.clone(), mailbox.clone(), chain.clone());
    on_all_cores(line, mails, move |parsed| {
        decide_one(&shared, &owner, &chain, parsed)
    })
    .await
}

/// Runs `work` over `items` on blocking threads, one chunk a core, keeping the order.
async fn on_all_cores<T, U, F>(line: &Arc<Line>, items: Vec<T>, work: F) -> Vec<U>
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(T) -> U + Clone + Send + 'static,
{
    let chunk = items.len().div_ceil(line.cores).max(1);
    let mut rest = items.into_iter();
    let mut chunks = Vec::with_capacity(line.cores);
    loop {
        let part: Vec<T> = rest.by_ref().take(chunk).collect();
        if part.is_empty() {
            break;
        }
        let work = work.clone();
        let permit = line.deciders.clone().acquire_owned().await;
        chunks.push(tokio::task::spawn_blocking(move || {
            let _permit = permit;
            part.into_iter().map(work).collect::<Vec<U>>()
        }));
    }
    let mut done = Vec::new();
    for chunk in chunks {
        match chunk.await {
            Ok(part) => done.extend(part),
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    done
}

fn parse_one(line: &Line, mail: PendingMail) -> Parsed {
    let limits = &line.limits;
    let content = if mail.attempts >= limits.attempts {
        Content::GivenUp(format!(
            "the line failed on this mail {} times",
            mail.attempts
        ))
    } else if !mail.whole {
        Content::TooLarge(format!(
            "{} bytes, over limits.raw_bytes = {}: only its beginning is kept here, the mail itself stays on the server",
            mail.size, limits.raw_bytes
        ))
    } else if mail.size > limits.message_bytes {
        Content::TooLarge(format!(
            "{} bytes, over limits.message_bytes = {}",
            mail.size, limits.message_bytes
        ))
    } else {
        match catch_unwind(AssertUnwindSafe(|| {
            parse(&mail.bytes, &line.parse_limits, &[])
        })) {
            Ok(message) => Content::Message(Arc::new(message)),
            Err(panic) => Content::Failed(format!("parsing: {}", panic_text(&*panic))),
        }
    };
    Parsed { mail, content }
}

fn decide_one(line: &Line, mailbox: &Mailbox, chain: &Chain, parsed: Parsed) -> Decided {
    let Parsed { mail, content } = parsed;
    let (message, result) = match content {
        Content::Failed(reason) => (None, Err(Failure::Defect(reason))),
        Content::TooLarge(reason) | Content::GivenUp(reason) => {
            (None, Ok(set_aside(reason, chain.generation)))
        }
        Content::Message(message) => {
            let walked = catch_unwind(AssertUnwindSafe(|| {
                walk_chain(line, mailbox, chain, &mail, &message)
            }));
            let result = match walked {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(Failure::Store(error)),
                Err(panic) => Err(Failure::Defect(format!(
                    "deciding: {}",
                    panic_text(&*panic)
                ))),
            };
            (Some(message), result)
        }
    };
    Decided {
        mail,
        message,
        result,
    }
}

/// The rules in their order, then `fallback`: the first that does not pass decides.
fn walk_chain(
    line: &Line,
    mailbox: &Mailbox,
    chain: &Chain,
    mail: &PendingMail,
    message: &Arc<Message>,
) -> Result<Answer, StoreError> {
    let started = Instant::now();
    let context = context(line, mailbox, mail, message)?;
    let decision_limits = DecisionLimits {
        // The sandbox counted them already, against the tenant's own limit.
        actions: usize::MAX,
        ..DecisionLimits::default()
    };
    let manners = Manners {
        own_addresses: &line.own_addresses,
        has_outgoing: mailbox.outgoing.is_some(),
        limits: &decision_limits,
    };
    let mut troubles = Vec::new();
    let mut log = Vec::new();
    let mut kv_reads = Vec::new();
    let mut kv_writes = Vec::new();

    for entry in &chain.rules {
        let rule = match &entry.rule {
            Ok(rule) => rule,
            Err(reason) => {
                troubles.push(trouble(&entry.name, "not-loaded", reason, None));
                continue;
            }
        };
        let memory = Arc::new(RuleMemory {
            store: line.store.clone(),
            tenant: mailbox.tenant.clone(),
            rule: entry.name.clone(),
            failure: OnceLock::new(),
        });
        let run = rule.decide(message, &context, memory.clone());
        if let Some(failure) = memory.failure.get() {
            return Err(failure.clone());
        }
        log.extend(run.log.iter().map(|line| format!("{}: {line}", entry.name)));
        kv_reads.extend(run.kv_reads.iter().map(|(key, value)| KvRead {
            rule: entry.name.clone(),
            key: key.clone(),
            value: value.clone(),
        }));
        let Some((actions, writes)) = verdict(&entry.name, run, &mut troubles) else {
            continue;
        };
        kv_writes.extend(writes);
        let Some(actions) = actions else { continue };
        let completed = match complete(actions, message, &context, &manners) {
            Ok(completed) => on_known_tickets(line, mailbox, completed)?,
            Err(nonsense) => Err(nonsense.to_string()),
        };
        match completed {
            Ok(completed) => {
                return Ok(Answer {
                    decision: Decision {
                        outcome: completed.outcome,
                        actions: completed.actions,
                        refused: completed.refused,
                        rule: entry.name.clone(),
                        rule_hash: entry.hash.clone(),
                        generation: chain.generation,
                        thread: context.thread,
                        troubles,
                        repairs: repairs(message, completed.repairs),
                        log,
                        elapsed_us: micros(started),
                    },
                    kv_reads,
                    kv_writes,
                });
            }
            Err(reason) => troubles.push(trouble(&entry.name, "nonsense", &reason, None)),
        }
    }

    let completed = fallback(message, &troubles, &decision_limits);
    Ok(Answer {
        decision: Decision {
            outcome: completed.outcome,
            actions: completed.actions,
            refused: Vec::new(),
            rule: "fallback".into(),
            rule_hash: env!("CARGO_PKG_VERSION").into(),
            generation: chain.generation,
            thread: context.thread,
            troubles,
            repairs: repairs(message, completed.repairs),
            log,
            elapsed_us: micros(started),
        },
        kv_reads,
        kv_writes,
    })
}

/// A rule's run as the chain goes on with it: `None` when it was in trouble, else its actions (none for pass) and its memory.
type Verdict = (Option<Vec<Action>>, Vec<KvWrite>);

fn verdict(rule: &str, run: Run, troubles: &mut Vec<Trouble>) -> Option<Verdict> {
    match run.verdict {
        Ok(actions) => {
            let writes = run
                .kv_writes
                .into_iter()
                .map(|(key, value)| KvWrite {
                    rule: rule.to_owned(),
                    key,
                    value,
                })
                .collect();
            Some((actions, writes))
        }
        Err(error) => {
            troubles.push(trouble(
                rule,
                error.kind(),
                &error.to_string(),
                error.location(),
            ));
            None
        }
    }
}

/// A note must name an open or closed ticket of its own tenant; another tenant's does not exist for it.
fn on_known_tickets(
    line: &Line,
    mailbox: &Mailbox,
    completed: Completed,
) -> Result<Result<Completed, String>, StoreError> {
    for action in &completed.actions {
        if let Action::Note(note) = action {
            let number = note.ticket.as_deref().unwrap_or_default();
            if !line.store.ticket_exists(&mailbox.tenant, number)? {
                return Ok(Err(format!(
                    "a note on {number}, which is not a ticket of {}",
                    mailbox.tenant
                )));
            }
        }
    }
    Ok(Ok(completed))
}

fn context(
    line: &Line,
    mailbox: &Mailbox,
    mail: &PendingMail,
    message: &Message,
) -> Result<Context, StoreError> {
    let client = message
        .from
        .as_ref()
        .filter(|from| mailbox.domains.iter().any(|d| d == from.domain()))
        .map(|_| Client {
            name: mailbox.tenant.clone(),
            sure: true,
        });
    let thread = line.store.thread_candidate(
        &mailbox.tenant,
        &message.references,
        &message.subject,
        message.from.as_ref(),
        &mailbox.domains,
    )?;
    let now = jiff::Timestamp::from_millisecond(mail.received_ms)
        .map(|time| format!("{time:.3}"))
        .unwrap_or_default();
    Ok(Context {
        tenant: mailbox.tenant.clone(),
        mailbox: mailbox.name.clone(),
        client,
        thread,
        now,
    })
}

/// What a rule remembers, read from the store and kept apart by tenant and rule.
struct RuleMemory {
    store: Store,
    tenant: String,
    rule: String,
    /// A rule never decides on a memory that could not be read.
    failure: OnceLock<StoreError>,
}

impl Kv for RuleMemory {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        self.store
            .kv(&self.tenant, &self.rule, key)
            .map_err(|error| KvError(self.failure.get_or_init(|| error).to_string()))
    }
}

/// The line's own quarantine: no rule saw the mail.
fn set_aside(reason: String, generation: u64) -> Answer {
    Answer {
        decision: Decision {
            outcome: Outcome::Quarantined,
            actions: vec![Action::Quarantine { reason }],
            refused: Vec::new(),
            rule: "fallback".into(),
            rule_hash: env!("CARGO_PKG_VERSION").into(),
            generation,
            thread: None,
            troubles: Vec::new(),
            repairs: Vec::new(),
            log: Vec::new(),
            elapsed_us: 0,
        },
        kv_reads: Vec::new(),
        kv_writes: Vec::new(),
    }
}

fn trouble(rule: &str, kind: &str, message: &str, location: Option<&str>) -> Trouble {
    Trouble {
        rule: rule.to_owned(),
        kind: kind.to_owned(),
        message: message.to_owned(),
        location: location.map(str::to_owned),
    }
}

/// What parsing repaired, then what the decision's completion cut.
fn repairs(message: &Message, mut cut: Vec<String>) -> Vec<String> {
    let mut all = message.repairs.clone();
    all.append(&mut cut);
    all
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
