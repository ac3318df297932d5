//! Steps 2 and 3 of the line: a journalled mail is parsed and walks its mailbox's rule chain. No I/O but the store's reads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use postroom_core::{
    Action, Client, Completed, ContentHash, Context, Decision, DecisionLimits, Manners, Message,
    Outcome, RawMessage, Trouble, complete, fallback, message_id, parse, synthetic_message_id,
};
use postroom_sandbox::{Kv, KvError};
use postroom_store::{KvRead, KvWrite, NewMail, PendingMail, Store, StoreError};

use super::{Line, Mailbox};
use crate::rulebook::{Chain, LiveRule};

/// The built-in rule at the end of every chain.
const FALLBACK: &str = "fallback";

/// A journalled mail with what parsing made of it.
pub struct Parsed {
    pub mail: PendingMail,
    content: Content,
}

enum Content {
    Message(Arc<Message>),
    /// Over the size limits, or not given by the server: what came of it is kept, and never given to a rule.
    Unreadable(String),
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
    } else if !mail.whole && mail.size <= limits.raw_bytes {
        Content::Unreadable(
            "the server listed this mail and did not give it: what is kept says what it answered"
                .into(),
        )
    } else if !mail.whole {
        Content::Unreadable(format!(
            "{} bytes, over limits.raw_bytes = {}: only its beginning is kept here, the mail itself stays on the server",
            mail.size, limits.raw_bytes
        ))
    } else if mail.size > limits.message_bytes {
        Content::Unreadable(format!(
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
        Content::Unreadable(reason) | Content::GivenUp(reason) => {
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
    let mut walk = Walk {
        line,
        mailbox,
        message,
        context: context(line, mailbox, mail, message)?,
        limits: DecisionLimits {
            // The sandbox counted them already, against the tenant's own limit.
            actions: usize::MAX,
            ..DecisionLimits::default()
        },
        troubles: Vec::new(),
        log: Vec::new(),
        kv_reads: Vec::new(),
        kv_writes: Vec::new(),
        origin: Vec::new(),
    };
    let mut by = (FALLBACK, env!("CARGO_PKG_VERSION"));
    let mut completed = None;
    for rule in &chain.rules {
        completed = walk.ask(rule)?;
        if completed.is_some() {
            by = (&rule.name, &rule.hash);
            break;
        }
    }
    let completed = completed.unwrap_or_else(|| fallback(message, &walk.troubles, &walk.limits));
    let mut origin = walk.origin.into_iter();
    Ok(Answer {
        decision: Decision {
            outcome: completed.outcome,
            actions: completed.actions,
            refused: completed.refused,
            rule: by.0.to_owned(),
            rule_hash: by.1.to_owned(),
            generation: chain.generation,
            thread: walk.context.thread,
            troubles: walk.troubles,
            repairs: [message.repairs.clone(), completed.repairs].concat(),
            log: walk.log,
            elapsed_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            decided_at: origin.next(),
            called_from: origin.collect(),
        },
        kv_reads: walk.kv_reads,
        kv_writes: walk.kv_writes,
    })
}

/// One mail on its way along the chain, with what the rules asked so far left behind.
struct Walk<'a> {
    line: &'a Line,
    mailbox: &'a Mailbox,
    message: &'a Arc<Message>,
    context: Context,
    limits: DecisionLimits,
    troubles: Vec<Trouble>,
    log: Vec<String>,
    kv_reads: Vec<KvRead>,
    kv_writes: Vec<KvWrite>,
    /// Where the rule that decided did so, innermost first.
    origin: Vec<String>,
}

impl Walk<'_> {
    /// Asks one rule. Answers nothing when it passes, and when it is in trouble, which is noted: then it has written nothing.
    fn ask(&mut self, asked: &LiveRule) -> Result<Option<Completed>, StoreError> {
        let rule = match &asked.rule {
            Ok(rule) => rule,
            Err(reason) => return Ok(self.trouble(asked, "not-loaded", reason, None)),
        };
        let memory = Arc::new(RuleMemory {
            store: self.line.store.clone(),
            tenant: self.mailbox.tenant.clone(),
            rule: asked.name.clone(),
            failure: OnceLock::new(),
        });
        let run = rule.decide(self.message, &self.context, memory.clone());
        if let Some(failure) = memory.failure.get() {
            return Err(failure.clone());
        }
        let name = &asked.name;
        self.log
            .extend(run.log.iter().map(|line| format!("{name}: {line}")));
        self.kv_reads
            .extend(run.kv_reads.into_iter().map(|(key, value)| KvRead {
                rule: name.clone(),
                key,
                value,
            }));
        let origin = run.decided_at.unwrap_or_default();
        let completed = match run.verdict {
            Err(error) => {
                let (kind, text) = (error.kind(), error.to_string());
                return Ok(self.trouble(asked, kind, &text, error.location()));
            }
            Ok(None) => None,
            Ok(Some(actions)) => match self.complete(actions)? {
                Ok(completed) => {
                    self.origin = origin;
                    Some(completed)
                }
                Err(reason) => {
                    let place = origin.first().map(String::as_str);
                    return Ok(self.trouble(asked, "nonsense", &reason, place));
                }
            },
        };
        self.kv_writes
            .extend(run.kv_writes.into_iter().map(|(key, value)| KvWrite {
                rule: name.clone(),
                key,
                value,
            }));
        Ok(completed)
    }

    /// Completes what a rule asked for; a text says why it makes no sense.
    fn complete(&self, actions: Vec<Action>) -> Result<Result<Completed, String>, StoreError> {
        let manners = Manners {
            own_addresses: &self.line.own_addresses,
            has_outgoing: self.mailbox.outgoing.is_some(),
            limits: &self.limits,
        };
        match complete(actions, self.message, &self.context, &manners) {
            Ok(completed) => on_known_tickets(self.line, self.mailbox, completed),
            Err(nonsense) => Ok(Err(nonsense.to_string())),
        }
    }

    fn trouble(
        &mut self,
        asked: &LiveRule,
        kind: &str,
        message: &str,
        location: Option<&str>,
    ) -> Option<Completed> {
        self.troubles.push(Trouble {
            rule: asked.name.clone(),
            kind: kind.to_owned(),
            message: message.to_owned(),
            location: location.map(str::to_owned),
        });
        None
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
            .map_err(|error| self.failed(error))
    }

    fn usage(&self) -> Result<(u64, u64), KvError> {
        self.store
            .kv_usage(&self.tenant, &self.rule)
            .map_err(|error| self.failed(error))
    }
}

impl RuleMemory {
    fn failed(&self, error: StoreError) -> KvError {
        KvError(self.failure.get_or_init(|| error).to_string())
    }
}

/// The line's own quarantine: no rule saw the mail.
fn set_aside(reason: String, generation: u64) -> Answer {
    Answer {
        decision: Decision {
            outcome: Outcome::Quarantined,
            actions: vec![Action::Quarantine { reason }],
            refused: Vec::new(),
            rule: FALLBACK.into(),
            rule_hash: env!("CARGO_PKG_VERSION").into(),
            generation,
            thread: None,
            troubles: Vec::new(),
            repairs: Vec::new(),
            log: Vec::new(),
            elapsed_us: 0,
            decided_at: None,
            called_from: Vec::new(),
        },
        kv_reads: Vec::new(),
        kv_writes: Vec::new(),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
