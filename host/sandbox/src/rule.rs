//! A loaded rule and its decisions, each in a fresh instance that is then discarded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::lookup::{Query, QueryResult};
use postroom_core::{Action, ContentHash, Context, Message};
use wasmtime::component::Resource;
use wasmtime::{Store, Trap};

use crate::answer;
use crate::bindings::{RulePre, types};
use crate::deadline::Deadline;
use crate::engine::{self, Engines};
use crate::error::{RuleTrouble, Stop};
use crate::host::{Host, Terms};
use crate::loaded::Share;
use crate::lookup::Lookup;
use crate::memory::Kv;
use crate::script::Calls;
use crate::source::Bundle;
use postroom_core::Grants;

/// The most bytes recorded of a failure's message.
const FAILURE_BYTES: usize = 4 << 10;

/// A rule ready to decide. Cheap to clone, shared by all threads; its engine lives as long as it does.
#[derive(Clone)]
pub struct Rule(Arc<Loaded>);

struct Loaded {
    engines: Arc<Engines>,
    pre: RulePre<Host>,
    terms: Arc<Terms>,
    // Dropped last: its share is released once everything it counts is released.
    made_of: MadeOf,
}

/// The parts of a loaded rule, and the log of its load.
pub(crate) struct MadeOf {
    pub(crate) hash: ContentHash,
    /// A script's files.
    pub(crate) bundle: Option<Bundle>,
    pub(crate) calls: Calls,
    pub(crate) init_log: Vec<String>,
    /// Its share of its tenant's limit; `None` for built-in rules.
    pub(crate) _share: Option<Share>,
}

impl MadeOf {
    pub(crate) fn component(bytes: &[u8], share: Option<Share>) -> Self {
        Self {
            hash: ContentHash::of(bytes),
            bundle: None,
            calls: Calls::default(),
            init_log: Vec::new(),
            _share: share,
        }
    }
}

/// The result of one decision.
#[derive(Debug, Clone)]
pub struct Run {
    /// The requested actions; `None` if the rule passed.
    pub verdict: Result<Option<Vec<Action>>, RuleTrouble>,
    /// `level: message`, oldest first.
    pub log: Vec<String>,
    /// The store's result for each key, in the order of the reads.
    pub kv_reads: Vec<(String, Option<String>)>,
    /// Writes to commit with the decision; `None` deletes. Empty if the rule failed.
    pub kv_writes: Vec<(String, Option<String>)>,
    /// The lookups with their results, in order, each query once.
    pub lookups: Vec<(Query, QueryResult)>,
    /// Where a script made the action that decided, or its `pass()`: `file:line:column` in its own files, then the calls
    /// that led there. Empty if the script hid it; `None` if it returned nothing, and for components.
    pub decided_at: Option<Vec<String>>,
    /// The time from the creation of the instance to its result, without the wait for a slot.
    pub elapsed: Duration,
    /// The peak of its memory.
    pub memory_bytes: usize,
}

impl Rule {
    pub(crate) fn new(
        made_of: MadeOf,
        engines: Arc<Engines>,
        pre: RulePre<Host>,
        terms: Arc<Terms>,
    ) -> Self {
        Self(Arc::new(Loaded {
            made_of,
            engines,
            pre,
            terms,
        }))
    }

    /// Returns the hash of the component's bytes or of all the script's files, see [`Bundle::hash`].
    pub fn hash(&self) -> ContentHash {
        self.0.made_of.hash
    }

    /// Returns the script's files, the rule itself first; `None` for a component.
    pub fn bundle(&self) -> Option<&Bundle> {
        self.0.made_of.bundle.as_ref()
    }

    pub fn name(&self) -> &str {
        &self.0.terms.name
    }

    /// Returns the grants it was loaded with.
    pub fn grants(&self) -> &Grants {
        &self.0.terms.grants
    }

    /// Returns the log lines of the script's top level.
    pub fn init_log(&self) -> &[String] {
        &self.0.made_of.init_log
    }

    /// Decides one mail. Blocks while all slots are taken, and then for up to the rule's time limit. Needs a thread with 2
    /// MiB of stack, not an async task.
    pub fn decide(
        &self,
        mail: &Arc<Message>,
        context: &Context,
        kv: Arc<dyn Kv>,
        lookup: Arc<dyn Lookup>,
    ) -> Run {
        let rule = &*self.0;
        let _turn = rule.engines.turn();
        let started = Instant::now();
        let host = Host::new(
            rule.terms.clone(),
            Some(mail.clone()),
            context.now.clone(),
            Deadline::after(rule.terms.limits.time),
            kv,
            lookup,
        );
        let mut store = engine::store(rule.pre.engine(), host);
        let verdict = call(&rule.pre, &mut store, context);
        let elapsed = started.elapsed();
        let mut host = store.into_data();
        if let Some(place) = host.decided_at.as_mut().and_then(|path| path.first_mut())
            && let Some(call) = rule.made_of.calls.around(place)
        {
            *place = call;
        }
        Run {
            log: host.log.take(),
            kv_reads: host.memory.reads,
            kv_writes: match verdict {
                Ok(_) => host.memory.writes,
                Err(_) => Vec::new(),
            },
            lookups: host.inquiry.answers,
            decided_at: host.decided_at.filter(|_| verdict.is_ok()),
            verdict,
            elapsed,
            memory_bytes: host.meter.used(),
        }
    }
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rule")
            .field("name", &self.name())
            .field("hash", &self.hash())
            .finish()
    }
}

/// Returns why wasm aborted, based on the type of the error and the host's records, never on its text.
pub(crate) fn trouble(error: &wasmtime::Error, host: &Host) -> RuleTrouble {
    let limits = &host.terms.limits;
    match error.downcast_ref::<Stop>() {
        Some(Stop::Deadline) => {
            return RuleTrouble::Deadline { limit: limits.time };
        }
        Some(Stop::Output(message)) => {
            return RuleTrouble::Output {
                message: message.clone(),
            };
        }
        Some(Stop::NotGranted(import)) => return RuleTrouble::NotGranted { import },
        Some(Stop::Kv(message)) => {
            return RuleTrouble::Kv {
                message: message.clone(),
            };
        }
        Some(Stop::Lookup(message)) => {
            return RuleTrouble::Lookup {
                message: message.clone(),
            };
        }
        Some(Stop::TopLevel(_)) | None => {}
    }
    if host.meter.refused {
        return RuleTrouble::Memory {
            limit: limits.memory_bytes,
        };
    }
    let message = format!("{:#}", error.root_cause());
    match error.downcast_ref::<Trap>() {
        Some(_) => RuleTrouble::Trap { message },
        // An error that is not a trap arose while the host read the guest's data.
        None => RuleTrouble::Output {
            message: format!(
                "over {} bytes in one call, or malformed ({message})",
                limits.output_bytes
            ),
        },
    }
}

fn call(
    pre: &RulePre<Host>,
    store: &mut Store<Host>,
    context: &Context,
) -> Result<Option<Vec<Action>>, RuleTrouble> {
    let context = lower(context);
    let answer = pre
        .instantiate(&mut *store)
        .and_then(|rule| rule.call_decide(&mut *store, Resource::new_borrow(0), &context));
    let host = store.data();
    match answer {
        Ok(Ok(decision)) => answer::actions(decision, &host.terms.limits),
        // An interpreter reports a refused growth as its own error.
        Ok(Err(_)) if host.meter.refused => Err(RuleTrouble::Memory {
            limit: host.terms.limits.memory_bytes,
        }),
        Ok(Err(failure)) => Err(RuleTrouble::Failure {
            message: cut(failure.message),
            location: failure.location.map(cut),
        }),
        Err(error) => Err(trouble(&error, host)),
    }
}

pub(crate) fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(FAILURE_BYTES));
    text
}

fn lower(context: &Context) -> types::Context {
    types::Context {
        tenant: context.tenant.clone(),
        mailbox: context.mailbox.clone(),
        client: context.client.as_ref().map(|client| types::Client {
            name: client.name.clone(),
            sure: client.sure,
            evidence: client.evidence.name().to_owned(),
            candidates: client.candidates.clone(),
        }),
        staff: context.staff,
        thread: context.thread.as_ref().map(|thread| types::Thread {
            ticket: thread.ticket.clone(),
            method: thread.method.name().to_owned(),
            authorised: thread.authorised,
        }),
        now: context.now.clone(),
    }
}
