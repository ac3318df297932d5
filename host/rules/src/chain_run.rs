//! The run of one mail along its mailbox's rule chain. It depends only on rules and a [`CapabilityProvider`], so that the
//! line with its store, a replay with its record, and a rule test with its case decide by the same code.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::{
    Action, ActionKinds, Classified, Completed, Context, Decision, DecisionLimits, MAILBOX_RULE,
    MailboxPolicy, Message, Outcome, Provenance, Refusal, ReplyPolicy, RuleOutcome, RuleStep,
    Threading, Trouble, TroubleKind, complete, fallback,
};
use postroom_sandbox::{Grants, Kv, Lookup, Run};
use postroom_store::{Conclusion, KvRead, KvWrite, LookupRead, Mark, StoreError};

use crate::rulebook::{Chain, LiveRule, sender_key};
use crate::senders::Sender;
use postroom_config::OnFailure;

/// The built-in rule at the end of every chain.
pub const FALLBACK: &str = "fallback";

/// Provides `kv`, `lookup` and tickets to a chain run. The run ends at the first failure: no decision is based on a failed
/// query.
pub trait CapabilityProvider {
    /// Returns the `kv` of a rule.
    fn kv(&self, rule: &str) -> Arc<dyn Kv>;

    /// Returns the lookups of a rule: the tenant's contacts, assets, open tickets and alerts.
    fn lookup(&self, rule: &str) -> Arc<dyn Lookup>;

    /// Returns why an earlier capability failed, if it did; checked after each rule.
    fn failure(&self) -> Option<StoreError>;

    /// Returns whether the mail's tenant has a ticket with that number.
    fn ticket_exists(&self, ticket: &str) -> Result<bool, StoreError>;

    /// Observes a rule's result before it is completed.
    fn observe(&self, _run: &Run) {}
}

/// The mailbox in which a mail is decided.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    pub chain: &'a Chain,
    /// The addresses that are never answered.
    pub own_addresses: &'a [String],
    /// Whether the mailbox has an outgoing.
    pub has_outgoing: bool,
    /// The senders and new tickets that the mailbox accepts.
    pub policy: &'a MailboxPolicy,
    /// Whether a person released the mail from quarantine: it becomes a plain ticket if it would be quarantined again.
    pub released: bool,
    pub capabilities: &'a dyn CapabilityProvider,
}

/// The result of a chain run.
pub struct ChainOutcome {
    /// Shared with the commit.
    pub conclusion: Arc<Conclusion>,
    /// The cost of each rule that ran, in order.
    pub spent: Vec<RuleCost>,
}

impl Deref for ChainOutcome {
    type Target = Conclusion;

    fn deref(&self) -> &Conclusion {
        &self.conclusion
    }
}

/// The cost of running one rule.
#[derive(Debug, Clone, Copy)]
pub struct RuleCost {
    /// The rule's position in the chain.
    pub rule: usize,
    pub elapsed: Duration,
    /// The peak memory of its instance.
    pub memory_bytes: usize,
    /// Its success or failure for the failure window; `None` if a failure was not its own.
    pub mark: Option<Mark>,
}

/// Returns the context of a mail for the rules of its mailbox. The time is that of journalling, in milliseconds since 1970 in UTC.
pub fn context(
    tenant: &str,
    mailbox: &str,
    sender: Sender,
    threading: Threading,
    received_ms: i64,
) -> Context {
    Context {
        tenant: tenant.to_owned(),
        mailbox: mailbox.to_owned(),
        client: sender.client,
        staff: sender.is_staff,
        requester: sender.requester,
        thread: threading.thread,
        steps: threading.steps,
        now: jiff::Timestamp::from_millisecond(received_ms)
            .map(|time| format!("{time:.3}"))
            .unwrap_or_default(),
    }
}

/// Runs the rules in order, then `fallback`: the first that does not pass decides. The mailbox's policy comes first where it
/// refuses the sender, and last where it opens no tickets.
pub fn run_chain(
    place: Place<'_>,
    message: &Arc<Message>,
    context: Context,
) -> Result<ChainOutcome, StoreError> {
    let started = Instant::now();
    let mut run = ChainRun {
        place,
        message,
        context,
        limits: DecisionLimits {
            // The sandbox counted them already, against the tenant's own limit.
            actions: usize::MAX,
            ..DecisionLimits::default()
        },
        troubles: Vec::new(),
        log: Vec::new(),
        kv_reads: Vec::new(),
        kv_writes: Vec::new(),
        lookups: Vec::new(),
        spent: Vec::with_capacity(place.chain.rules.len()),
        steps: Vec::with_capacity(place.chain.rules.len()),
        origin: Vec::new(),
    };
    let mut by = (FALLBACK, env!("CARGO_PKG_VERSION"));
    let by_mailbox = (MAILBOX_RULE, env!("CARGO_PKG_VERSION"));
    let (senders, threads) = (place.policy.senders.as_ref(), place.policy.threads);
    let mut completed = senders
        .and_then(|senders| senders.refusal(message))
        .or_else(|| threads.refusal(&run.context));
    let rules = match &completed {
        Some(_) => {
            by = by_mailbox;
            &[]
        }
        None => &place.chain.rules[..],
    };
    for (number, rule) in rules.iter().enumerate() {
        let troubles = run.troubles.len();
        completed = run.ask(number, rule)?;
        run.note_step(
            number,
            rule,
            completed.is_some(),
            run.troubles.len() > troubles,
        );
        if completed.is_none()
            && let Some(trouble) = run.troubles.get(troubles)
        {
            match rule.on_failure {
                OnFailure::Pass => continue,
                OnFailure::Fallback => break,
                OnFailure::Quarantine => completed = Some(kept_aside(trouble)),
            }
        }
        if completed.is_some() {
            by = (&rule.name, &rule.hash);
            break;
        }
    }
    let fallback = || fallback(message, &run.context, &run.troubles, &run.limits);
    let completed = completed.unwrap_or_else(fallback);
    let completed = threads.apply(completed, message, &run.context, &run.limits);
    let opens_ticket = completed.outcome == Outcome::Ticket;
    let completed = place.policy.new_tickets.apply(
        completed,
        message,
        &run.context,
        !run.troubles.is_empty(),
        &run.reply_policy(ActionKinds::ALL),
    );
    if opens_ticket && completed.outcome == Outcome::Quarantined {
        by = by_mailbox;
    }
    let completed = match completed.outcome {
        Outcome::Quarantined if place.released => {
            by = (FALLBACK, env!("CARGO_PKG_VERSION"));
            run.origin.clear();
            let plain = fallback();
            not_quarantined(completed, plain)
        }
        _ => completed,
    };
    let mut origin = run.origin.into_iter();
    let conclusion = Conclusion {
        decision: Decision {
            outcome: completed.outcome,
            actions: completed.actions,
            refused: completed.refused,
            rule: by.0.to_owned(),
            rule_hash: by.1.to_owned(),
            generation: place.chain.generation,
            provenance: Provenance::of(&run.context),
            thread: run.context.thread,
            classified: Some(Classified {
                kind: message.classification,
                reason: message.classification_reason.clone(),
            }),
            rules: run.steps,
            troubles: run.troubles,
            repairs: [message.repairs.clone(), completed.repairs].concat(),
            log: run.log,
            elapsed_us: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
            decided_at: origin.next(),
            called_from: origin.collect(),
        },
        kv_reads: run.kv_reads,
        kv_writes: run.kv_writes,
        lookups: run.lookups,
        reply: None,
    };
    Ok(ChainOutcome {
        conclusion: Arc::new(conclusion),
        spent: run.spent,
    })
}

/// Quarantines a mail on which a protective rule failed.
fn kept_aside(trouble: &Trouble) -> Completed {
    let Trouble {
        rule,
        kind,
        message,
        ..
    } = trouble;
    Completed {
        outcome: Outcome::Quarantined,
        actions: vec![Action::Quarantine {
            reason: format!("{rule} failed ({kind}): {message}"),
        }],
        refused: Vec::new(),
        repairs: Vec::new(),
    }
}

/// Returns a plain ticket in place of a quarantine that a person ended.
fn not_quarantined(mut quarantined: Completed, plain: Completed) -> Completed {
    let refused = quarantined.actions.drain(..).map(|action| Refusal {
        action,
        reason: "a person released the mail from quarantine".into(),
        held_at: None,
    });
    quarantined.refused.extend(refused);
    Completed {
        refused: quarantined.refused,
        ..plain
    }
}

/// One mail in its run along the chain, with the results of the rules so far.
struct ChainRun<'a> {
    place: Place<'a>,
    message: &'a Arc<Message>,
    context: Context,
    limits: DecisionLimits,
    troubles: Vec<Trouble>,
    log: Vec<String>,
    kv_reads: Vec<KvRead>,
    kv_writes: Vec<KvWrite>,
    lookups: Vec<LookupRead>,
    spent: Vec<RuleCost>,
    steps: Vec<RuleStep>,
    /// The position at which the deciding rule decided, innermost first.
    origin: Vec<String>,
}

impl ChainRun<'_> {
    /// Runs one rule. Returns `None` if it passes or fails; a failure is recorded, and the rule has then written nothing.
    fn ask(&mut self, number: usize, asked: &LiveRule) -> Result<Option<Completed>, StoreError> {
        let rule = match &asked.rule {
            Ok(rule) => rule,
            Err(reason) => return Ok(self.trouble(asked, TroubleKind::NotLoaded, reason, None)),
        };
        if asked.strikes.is_out() {
            let reason = format!("it {}, and is rolled back", asked.strikes.in_words());
            return Ok(self.trouble(asked, TroubleKind::SentBack, &reason, None));
        }
        let kv = self.place.capabilities.kv(&asked.name);
        let lookup = self.place.capabilities.lookup(&asked.name);
        let run = rule.decide(self.message, &self.context, kv, lookup);
        if let Some(failure) = self.place.capabilities.failure() {
            return Err(failure);
        }
        self.place.capabilities.observe(&run);
        self.spent.push(RuleCost {
            rule: number,
            elapsed: run.elapsed,
            memory_bytes: run.memory_bytes,
            mark: None,
        });
        let name = &asked.name;
        self.log
            .extend(run.log.iter().map(|line| format!("{name}: {line}")));
        self.kv_reads
            .extend(run.kv_reads.into_iter().map(|(key, value)| KvRead {
                rule: name.clone(),
                key,
                value,
            }));
        self.lookups
            .extend(run.lookups.into_iter().map(|(question, found)| LookupRead {
                rule: name.clone(),
                question,
                found,
            }));
        let origin = run.decided_at.unwrap_or_default();
        let completed = match run.verdict {
            Err(error) => {
                let (kind, text) = (error.kind(), error.to_string());
                // Another version of it would have failed as well.
                if error.is_of_rule() {
                    self.count(asked, Mark::Failed(sender_key(self.message)));
                }
                return Ok(self.trouble(asked, kind, &text, error.location()));
            }
            Ok(None) => None,
            Ok(Some(actions)) => match self.complete(actions, rule.grants())? {
                Ok(completed) => {
                    self.origin = origin;
                    Some(completed)
                }
                Err((kind, reason)) => {
                    self.count(asked, Mark::Failed(sender_key(self.message)));
                    let place = origin.first().map(String::as_str);
                    return Ok(self.trouble(asked, kind, &reason, place));
                }
            },
        };
        self.count(asked, Mark::Held);
        self.kv_writes
            .extend(run.kv_writes.into_iter().map(|(key, value)| KvWrite {
                rule: name.clone(),
                key,
                value,
            }));
        Ok(completed)
    }

    /// Completes a rule's decision, or returns a kind of trouble and the reason.
    fn complete(
        &self,
        actions: Vec<Action>,
        grants: &Grants,
    ) -> Result<Result<Completed, (TroubleKind, String)>, StoreError> {
        let manners = self.reply_policy(grants.actions);
        match complete(actions, self.message, &self.context, &manners) {
            Ok(completed) => {
                let known = self.on_known_tickets(completed)?;
                Ok(known.map_err(|reason| (TroubleKind::InvalidDecision, reason)))
            }
            Err(nonsense) => Ok(Err((nonsense.kind(), nonsense.to_string()))),
        }
    }

    fn reply_policy(&self, granted: ActionKinds) -> ReplyPolicy<'_> {
        ReplyPolicy {
            own_addresses: self.place.own_addresses,
            has_outgoing: self.place.has_outgoing,
            granted,
            limits: &self.limits,
        }
    }

    /// Checks that notes and changes name open or closed tickets of their own tenant; another tenant's does not exist for it.
    fn on_known_tickets(
        &self,
        completed: Completed,
    ) -> Result<Result<Completed, String>, StoreError> {
        for action in &completed.actions {
            let (what, number) = match action {
                Action::Note(note) => ("a note on", &note.ticket),
                Action::Update(update) => ("an update of", &update.ticket),
                Action::Close(close) => ("a close of", &close.ticket),
                _ => continue,
            };
            let number = number.as_deref().unwrap_or_default();
            if !self.place.capabilities.ticket_exists(number)? {
                return Ok(Err(format!(
                    "{what} {number}, which is not a ticket of {}",
                    self.context.tenant
                )));
            }
        }
        Ok(Ok(completed))
    }

    /// Records the part of a rule that was asked, for the story of the mail.
    fn note_step(&mut self, number: usize, asked: &LiveRule, decided: bool, failed: bool) {
        let cost = self.spent.last().filter(|cost| cost.rule == number);
        let elapsed = cost.map(|cost| cost.elapsed.as_micros());
        self.steps.push(RuleStep {
            rule: asked.name.clone(),
            result: match (decided, failed) {
                (true, _) => RuleOutcome::Decided,
                (false, true) => RuleOutcome::Failed,
                (false, false) => RuleOutcome::Passed,
            },
            elapsed_us: elapsed.map_or(0, |it| u64::try_from(it).unwrap_or(u64::MAX)),
            memory_bytes: cost.map_or(0, |cost| cost.memory_bytes as u64),
        });
    }

    fn count(&mut self, asked: &LiveRule, mark: Mark) {
        asked.strikes.count(mark);
        if let Some(spent) = self.spent.last_mut() {
            spent.mark = Some(mark);
        }
    }

    fn trouble(
        &mut self,
        asked: &LiveRule,
        kind: TroubleKind,
        message: &str,
        location: Option<&str>,
    ) -> Option<Completed> {
        self.troubles.push(Trouble {
            rule: asked.name.clone(),
            kind,
            message: message.to_owned(),
            location: location.map(str::to_owned),
        });
        None
    }
}
