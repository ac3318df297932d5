//! Steps 2 and 4 of the line: a journalled mail is parsed and run through its mailbox's rule chain, with the store as capability
//! provider. The only I/O is reading the store.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use postroom_config::Duplicates;
use postroom_core::{
    Action, Client, ContentHash, Decision, Message, Outcome, OverLimit, Provenance, RawMessage,
    copy_decision, copy_marks, counted, message_id, new_words_knowing, parse, synthetic_message_id,
};
use postroom_sandbox::{Kv, KvError, Lookup};
use postroom_store::{Conclusion, DecisionId, Facts, NewMail, PendingMail, StoreError};
use tracing::Span;

use super::fair::Work;
use super::known::TenantKnown;
use super::slots::Slots;
use super::{Line, Mailbox};
use postroom_rules::chain_run::{self, CapabilityProvider, ChainOutcome, FALLBACK, Place};
use postroom_rules::crash;
use postroom_rules::directory::Directory;
use postroom_rules::rulebook::Chain;
use postroom_rules::senders::Sender;

/// When mails are slow, those decided so far are committed after this time, without waiting for the whole batch.
const COMMIT_AFTER: Duration = Duration::from_secs(1);

/// How much of an unparsed quarantined mail is searched for headers.
const HEADER_BYTES: usize = 64 * 1024;

/// A journalled mail and the result of parsing it.
pub struct Parsed {
    pub mail: PendingMail,
    content: Content,
    attributed: Option<Attributed>,
}

/// The client that the mail of a shared mailbox was attributed to; `None` if it fits none.
#[derive(Clone)]
struct Attributed(Option<Client>);

enum Content {
    Message(Arc<Message>),
    // The next two variants keep the headers where reading them is safe, for people who inspect the quarantine.
    /// Over the limits, or not delivered by the server: what arrived of it is kept, and never given to a rule.
    Unreadable(String, Option<Arc<Message>>),
    /// The line failed on it too often.
    GivenUp(String, Option<Arc<Message>>),
    /// Parsing panicked: this is a bug in Postroom, and the mail is not given up.
    Failed(String),
}

impl Parsed {
    pub fn message(&self) -> Option<&Arc<Message>> {
        match &self.content {
            Content::Message(message) => Some(message),
            _ => None,
        }
    }

    /// Returns the same as [`Parsed::message`]; for a mail that no rule is given, its headers where they can be read.
    pub fn headers(&self) -> Option<&Arc<Message>> {
        self.content.headers()
    }

    /// Returns the mail as that of a client.
    pub fn attributed_to(self, client: Option<Client>) -> Self {
        Self {
            attributed: Some(Attributed(client)),
            ..self
        }
    }
}

impl Content {
    fn headers(&self) -> Option<&Arc<Message>> {
        match self {
            Content::Message(message) => Some(message),
            Content::Unreadable(_, headers) | Content::GivenUp(_, headers) => headers.as_ref(),
            Content::Failed(_) => None,
        }
    }
}

/// A mail with its decision, ready to commit.
pub struct Decided {
    pub mail: PendingMail,
    pub result: Result<ChainOutcome, LineFailure>,
    /// The marks by which the mail's copies are recognised; empty if each copy is decided.
    pub copy_marks: Vec<ContentHash>,
    content: Content,
    attributed: Option<Attributed>,
}

impl Decided {
    /// Returns the parsed mail. For a mail that no rule was given, returns its headers where they can be read.
    pub fn message(&self) -> Option<&Arc<Message>> {
        self.content.headers()
    }

    /// Returns the mail without its decision.
    pub fn undecided(self) -> Parsed {
        Parsed {
            mail: self.mail,
            content: self.content,
            attributed: self.attributed,
        }
    }
}

#[cfg(test)]
impl Parsed {
    pub fn of(mail: PendingMail, message: Message) -> Self {
        Self {
            mail,
            content: Content::Message(Arc::new(message)),
            attributed: None,
        }
    }

    pub fn decided(self, outcome: ChainOutcome) -> Decided {
        Decided {
            mail: self.mail,
            result: Ok(outcome),
            copy_marks: Vec::new(),
            content: self.content,
            attributed: self.attributed,
        }
    }
}

/// Why there is no decision yet.
pub enum LineFailure {
    /// The store could not be read, which is not the mail's fault.
    Store(StoreError),
    /// A bug in Postroom that this mail triggered.
    Defect(String),
}

/// Identifies a fetched mail without parsing it completely.
pub fn identify(raw: RawMessage) -> NewMail {
    let content_hash = ContentHash::of(&raw.bytes);
    let message_id = message_id(&raw.bytes).unwrap_or_else(|| {
        // UIDVALIDITY and UID are not part of an IMAP mail's identity: otherwise a renumbered folder would bring all of its mail
        // again. Nor are the bytes: copies that servers deliver differ at least in Received.
        let file = postroom_mailbox::file_identity(&raw.position);
        synthetic_message_id(&content_hash, file.as_deref())
    });
    NewMail {
        whole: raw.is_whole(),
        size: raw.size,
        position: raw.position,
        message_id,
        content_hash,
        bytes: raw.bytes,
        old: raw.old,
    }
}

/// Parses a batch, preserving its order.
pub async fn parse_all(
    line: &Arc<Line>,
    mailbox: &Arc<Mailbox>,
    mails: Vec<PendingMail>,
) -> Vec<Parsed> {
    let (shared, of) = (line.clone(), mailbox.clone());
    let parse = move |mail| parse_one(&shared, &of, mail);
    let todo = Todo::new(mails, None);
    in_slices(&line.slots, &mailbox.tenant, Work::Parse, todo, parse)
        .await
        .0
}

/// Decides mails in order, all with the same generation and directory. Returns those decided within a second, so that they can be
/// committed, and the remaining ones.
pub async fn decide_some(
    line: &Arc<Line>,
    mailbox: &Arc<Mailbox>,
    chain: &Arc<Chain>,
    directory: &Arc<Directory>,
    mails: Vec<Parsed>,
) -> (Vec<Decided>, Vec<Parsed>) {
    let (shared, owner, chain) = (line.clone(), mailbox.clone(), chain.clone());
    let directory = directory.clone();
    let within = Span::current();
    let decide = move |parsed: Parsed| {
        // Parsing enters no span, because it logs nothing.
        let _span = mail_span(&within, &parsed.mail).entered();
        decide_one(&shared, &owner, &chain, &directory, parsed)
    };
    let todo = Todo::new(mails, Some(COMMIT_AFTER));
    in_slices(&line.slots, &mailbox.tenant, Work::Decide, todo, decide).await
}

/// Returns the span of one mail, nested in that of its mailbox, for the thread that works on it. The mail's id is the only thing
/// it holds from the mail.
fn mail_span(within: &Span, mail: &PendingMail) -> Span {
    tracing::info_span!(parent: within, "mail", mail = mail.id.0, message_id = %mail.message_id)
}

/// Mails that are handed out one at a time.
struct Todo<T> {
    items: std::iter::Enumerate<std::vec::IntoIter<T>>,
    /// No more mails are handed out once this much time has passed since the first.
    patience: Option<Duration>,
    began: Option<Instant>,
}

impl<T> Todo<T> {
    fn new(items: Vec<T>, patience: Option<Duration>) -> Self {
        Self {
            items: items.into_iter().enumerate(),
            patience,
            began: None,
        }
    }

    fn next(&mut self) -> Option<(usize, T)> {
        if self.is_over() {
            return None;
        }
        self.began.get_or_insert_with(Instant::now);
        self.items.next()
    }

    fn is_over(&self) -> bool {
        let late = match (self.began, self.patience) {
            (Some(began), Some(patience)) => began.elapsed() >= patience,
            _ => false,
        };
        late || self.items.len() == 0
    }
}

/// Runs `work` on blocking threads, in as many slots as the tenant's turn allows, slice by slice. Returns the results in order,
/// and the mails that were not handed out.
async fn in_slices<T, U, F>(
    slots: &Arc<Slots>,
    tenant: &str,
    kind: Work,
    todo: Todo<T>,
    work: F,
) -> (Vec<U>, Vec<T>)
where
    T: Send + 'static,
    U: Send + 'static,
    F: Fn(T) -> U + Clone + Send + Sync + 'static,
{
    let workers = slots.count().min(todo.items.len());
    let todo = Arc::new(Mutex::new(todo));
    let work_off = || async {
        let mut done = Vec::new();
        while !lock(&todo).is_over() {
            let mut slot = slots.slot(tenant, kind).await;
            let (todo, work) = (todo.clone(), work.clone());
            let slice = tokio::task::spawn_blocking(move || {
                let mut part = Vec::new();
                slot.work(|| {
                    let next = lock(&todo).next();
                    next.map(|(at, item)| part.push((at, work(item)))).is_some()
                });
                part
            });
            match slice.await {
                Ok(part) => done.extend(part),
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            }
        }
        done
    };
    let parts = join_all((0..workers).map(|_| work_off())).await;
    let mut done: Vec<(usize, U)> = parts.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(at, _)| *at);
    let rest = lock(&todo).items.by_ref().map(|(_, item)| item).collect();
    (done.into_iter().map(|(_, result)| result).collect(), rest)
}

fn lock<T>(todo: &Mutex<Todo<T>>) -> MutexGuard<'_, Todo<T>> {
    todo.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse_one(line: &Line, mailbox: &Mailbox, mail: PendingMail) -> Parsed {
    let settings = line.settings();
    let limits = &settings.limits;
    let (message_bytes, raw_bytes) = (mailbox.size.message_bytes, mailbox.size.raw_bytes);
    let content = if mail.attempts >= limits.attempts {
        // If a mail also ended the process while its headers were read, it is not examined again.
        let headers = (mail.attempts == limits.attempts).then(|| headers(line, mailbox, &mail));
        Content::GivenUp(
            format!(
                "the line failed on this mail in {}",
                counted(mail.attempts, "attempt")
            ),
            headers.flatten(),
        )
    } else if !mail.whole && mail.size <= raw_bytes {
        Content::Unreadable(
            "the server listed this mail but did not return it; its response is kept here".into(),
            None,
        )
    } else if !mail.whole {
        Content::Unreadable(
            format!(
                "{} bytes, over limits.raw_bytes = {raw_bytes}: only its beginning is kept here, the mail itself stays on the server",
                mail.size
            ),
            headers(line, mailbox, &mail),
        )
    } else if mail.size > message_bytes && !mail.released {
        Content::Unreadable(
            format!(
                "{} bytes, over limits.message_bytes = {message_bytes}",
                mail.size
            ),
            headers(line, mailbox, &mail),
        )
    } else {
        match catch_unwind(AssertUnwindSafe(|| {
            parse(&mail.bytes, &settings.parse_limits, &mailbox.trusted)
        })) {
            Ok(message) => match message.over_limit.filter(|_| !mail.released) {
                None => Content::Message(Arc::new(message)),
                Some(over) => Content::Unreadable(over_limit(over), Some(Arc::new(message))),
            },
            Err(panic) => Content::Failed(format!("parsing: {}", panic_text(&*panic))),
        }
    };
    Parsed {
        mail,
        content,
        attributed: None,
    }
}

/// Returns why a mail is quarantined when rules would not see all of its parts.
fn over_limit(over: OverLimit) -> String {
    match over {
        OverLimit::Parts { most } => {
            format!("more MIME parts than limits.parts = {most}: rules would not see all of them")
        }
        OverLimit::Depth { most } => format!(
            "MIME parts nested deeper than limits.mime_depth = {most}: rules would not see all of them"
        ),
    }
}

/// Parses the header section. Returns `None` if that panics.
fn headers(line: &Line, mailbox: &Mailbox, mail: &PendingMail) -> Option<Arc<Message>> {
    let beginning = &mail.bytes[..mail.bytes.len().min(HEADER_BYTES)];
    let end = beginning
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .or_else(|| beginning.windows(4).position(|four| four == b"\r\n\r\n"));
    let section = mail.bytes.slice(..end.unwrap_or(beginning.len()));
    let settings = line.settings();
    let parsed = AssertUnwindSafe(|| parse(&section, &settings.parse_limits, &mailbox.trusted));
    catch_unwind(parsed).ok().map(Arc::new)
}

fn decide_one(
    line: &Line,
    mailbox: &Mailbox,
    chain: &Chain,
    directory: &Arc<Directory>,
    parsed: Parsed,
) -> Decided {
    let Parsed {
        mail,
        content,
        attributed,
    } = parsed;
    let mut marks = Vec::new();
    let result = match &content {
        Content::Failed(reason) => Err(LineFailure::Defect(reason.clone())),
        Content::Unreadable(reason, _) | Content::GivenUp(reason, _) => {
            Ok(set_aside(reason.clone(), chain.generation))
        }
        Content::Message(message) => {
            let walked = catch_unwind(AssertUnwindSafe(|| {
                if mailbox.duplicates == Duplicates::One {
                    marks = copy_marks(message);
                }
                match first_copy(line, mailbox, &mail, message, &marks)? {
                    Some(first) => Ok(copy_of(first, chain.generation)),
                    None => {
                        let client = attributed.as_ref();
                        walk_chain(line, mailbox, chain, directory, (&mail, message, client))
                    }
                }
            }));
            match walked {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(error)) => Err(LineFailure::Store(error)),
                Err(panic) => Err(LineFailure::Defect(format!(
                    "deciding: {}",
                    panic_text(&*panic)
                ))),
            }
        }
    };
    Decided {
        mail,
        result,
        copy_marks: marks,
        content,
        attributed,
    }
}

/// Returns the mail that this one is a copy of, if that is decided.
fn first_copy(
    line: &Line,
    mailbox: &Mailbox,
    mail: &PendingMail,
    message: &Message,
    marks: &[ContentHash],
) -> Result<Option<DecisionId>, StoreError> {
    // A person who has a mail decided again wants it, whatever it is a copy of.
    if marks.is_empty() || mail.repetition > 0 {
        return Ok(None);
    }
    let confirmed = message.authentication.confirms_sender();
    line.facts
        .first_copy(&mailbox.tenant, marks, confirmed, mail.received_ms)
}

fn copy_of(first: DecisionId, generation: u64) -> ChainOutcome {
    let decision = copy_decision(first.0, env!("CARGO_PKG_VERSION"), generation);
    ChainOutcome {
        conclusion: Arc::new(Conclusion::of(decision)),
        spent: Vec::new(),
    }
}

/// Runs the chain. The store and the directory provide every capability.
fn walk_chain(
    line: &Line,
    mailbox: &Mailbox,
    chain: &Chain,
    directory: &Arc<Directory>,
    (mail, message, attributed): (&PendingMail, &Arc<Message>, Option<&Attributed>),
) -> Result<ChainOutcome, StoreError> {
    crash::mail(&mail.bytes);
    let settings = line.settings();
    let (senders, tenant) = (&settings.senders, &mailbox.tenant);
    let sender = match attributed {
        Some(Attributed(client)) => Sender {
            client: client.clone(),
            ..senders.without_client(message)
        },
        None => senders.of_tenant(tenant, message, &*line.directories),
    };
    let query = senders.thread_query(tenant, message, &sender, &*line.directories);
    let facts = &line.facts;
    let threading = facts.thread(tenant, &query, &senders.reopen, mail.received_ms)?;
    let threading = mailbox.policy.threads.verify(message, threading);
    // Only the rules see the shorter text: the record has it, so that a replay decides on the same.
    let shorter = match &threading.thread {
        Some(thread) => without_earlier(line, tenant, &thread.ticket, message)?,
        None => None,
    };
    let message = shorter.as_ref().unwrap_or(message);
    let context = chain_run::context(tenant, &mailbox.name, sender, threading, mail.received_ms);
    let place = Place {
        chain,
        own_addresses: &settings.own_addresses,
        has_outgoing: mailbox.outlets.outgoing.is_some(),
        policy: &mailbox.policy,
        released: mail.released,
        capabilities: &FromStore {
            facts: &line.facts,
            tenant: &mailbox.tenant,
            directory,
            failure: Arc::default(),
        },
    };
    let mut outcome = chain_run::run_chain(place, message, context)?;
    if let Some(shorter) = &shorter {
        Arc::make_mut(&mut outcome.conclusion).reply = Some(shorter.reply.clone());
    }
    Ok(outcome)
}

/// Returns the mail with a shorter reply, if its new text still holds what earlier mails of its ticket wrote.
fn without_earlier(
    line: &Line,
    tenant: &str,
    ticket: &str,
    message: &Message,
) -> Result<Option<Arc<Message>>, StoreError> {
    let texts = line.facts.earlier_texts(tenant, ticket)?;
    let earlier: Vec<&str> = texts.iter().map(String::as_str).collect();
    let reply = new_words_knowing(message, &earlier);
    let is_shorter = reply.len() < message.reply.len();
    Ok(is_shorter.then(|| {
        Arc::new(Message {
            reply,
            ..message.clone()
        })
    }))
}

/// Provides capabilities for one mail's tenant from the current state of the store.
struct FromStore<'a> {
    facts: &'a Arc<dyn Facts>,
    tenant: &'a str,
    directory: &'a Arc<Directory>,
    /// Set when something could not be read, so that no rule's decision is based on it.
    failure: Arc<OnceLock<StoreError>>,
}

impl CapabilityProvider for FromStore<'_> {
    fn kv(&self, rule: &str) -> Arc<dyn Kv> {
        Arc::new(RuleMemory {
            facts: self.facts.clone(),
            tenant: self.tenant.to_owned(),
            rule: rule.to_owned(),
            failure: self.failure.clone(),
        })
    }

    fn lookup(&self, _rule: &str) -> Arc<dyn Lookup> {
        Arc::new(TenantKnown {
            facts: self.facts.clone(),
            tenant: self.tenant.to_owned(),
            directory: self.directory.clone(),
            failure: self.failure.clone(),
        })
    }

    fn failure(&self) -> Option<StoreError> {
        self.failure.get().cloned()
    }

    fn ticket_exists(&self, ticket: &str) -> Result<bool, StoreError> {
        self.facts.ticket_exists(self.tenant, ticket)
    }
}

/// A rule's `kv` in the store, separate for each tenant and rule.
struct RuleMemory {
    facts: Arc<dyn Facts>,
    tenant: String,
    rule: String,
    failure: Arc<OnceLock<StoreError>>,
}

impl Kv for RuleMemory {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        self.facts
            .kv(&self.tenant, &self.rule, key)
            .map_err(|error| self.failed(error))
    }

    fn usage(&self) -> Result<(u64, u64), KvError> {
        self.facts
            .kv_usage(&self.tenant, &self.rule)
            .map_err(|error| self.failed(error))
    }
}

impl RuleMemory {
    fn failed(&self, error: StoreError) -> KvError {
        KvError(self.failure.get_or_init(|| error).to_string())
    }
}

/// Returns the line's own quarantine, for a mail that no rule saw.
fn set_aside(reason: String, generation: u64) -> ChainOutcome {
    let conclusion = Conclusion::of(Decision {
        outcome: Outcome::Quarantined,
        actions: vec![Action::Quarantine { reason }],
        refused: Vec::new(),
        rule: FALLBACK.into(),
        rule_hash: env!("CARGO_PKG_VERSION").into(),
        generation,
        thread: None,
        classified: None,
        rules: Vec::new(),
        troubles: Vec::new(),
        repairs: Vec::new(),
        log: Vec::new(),
        elapsed_us: 0,
        decided_at: None,
        called_from: Vec::new(),
        provenance: Provenance::default(),
    });
    ChainOutcome {
        conclusion: Arc::new(conclusion),
        spent: Vec::new(),
    }
}

pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without words".to_owned())
}
