//! A model test: whatever rules and mails do to each other, a speculative batch ends as if its mails had been decided one by one.
//!
//! Rules are faked. The code that speculates, rolls back and counts failures is the real code. `POSTROOM_SEED=N` runs one case.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_core::lookup::{Query, TicketSearch};
use postroom_core::{
    Action, Alert, AlertState, Decision, Note, Outcome, ParseLimits, StrikeLimits, Thread,
    ThreadMethod, Ticket, Trouble, TroubleKind, parse, ticket_numbers,
};
use postroom_store::{Conclusion, JournalId, KvRead, KvWrite, LookupRead, Mark, PendingMail};

use super::SpeculativeBatch;
use crate::decide::{Decided, Parsed};
use crate::{put_first, waves};
use postroom_config::OnFailure;
use postroom_rules::chain_run::{ChainOutcome, FALLBACK, RuleCost};
use postroom_rules::rulebook::{Chain, FailureWindow, LiveRule, sender_key};

const CASES: u64 = 1_000;
const LIMITS: StrikeLimits = StrikeLimits {
    failures: 3,
    mails: 8,
};
/// The number of ticket and key names that mails and rules use: small, so that they collide.
const NAMES: u64 = 6;

#[test]
fn a_speculative_batch_ends_as_if_decided_one_by_one() {
    let only: Option<u64> = std::env::var("POSTROOM_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let mut speculated = 0;
    for seed in only.map_or(0..CASES, |seed| seed..seed + 1) {
        let case = Case::new(seed);
        let one_by_one = case.run(one_by_one);
        let batch = case.run(in_batches);
        for (expected, found) in one_by_one.decided.iter().zip(&batch.decided) {
            assert_eq!(found, expected, "POSTROOM_SEED={seed}");
        }
        assert_eq!(batch.state(), one_by_one.state(), "POSTROOM_SEED={seed}");
        speculated += batch.together;
    }
    assert!(
        only.is_some() || speculated > CASES,
        "hardly any mails were decided together: {speculated}"
    );
}

/// xorshift64*: yields the same numbers for the same seed on every machine.
#[derive(Clone)]
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self(mix(seed, 0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

fn mix(one: u64, other: u64) -> u64 {
    let mixed = (one ^ other.rotate_left(31)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    mixed ^ (mixed >> 32)
}

/// How often rules do each thing, in percent. Some cases conflict all the time, others hardly ever.
struct Habits {
    reads: u64,
    writes: u64,
    looks: u64,
    fails: u64,
    tickets: u64,
    notes: u64,
    alerts: u64,
    names_ticket: u64,
    answers_mail: u64,
}

struct Case {
    seed: u64,
    habits: Habits,
    rules: Vec<(String, OnFailure, bool)>,
    batches: Vec<Vec<PendingMail>>,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut rate = || match random.below(4) {
            0 => 0,
            1 => 3,
            2 => 20,
            _ => 60,
        };
        let habits = Habits {
            reads: rate(),
            writes: rate(),
            looks: rate(),
            fails: rate(),
            tickets: rate(),
            notes: rate(),
            alerts: rate(),
            names_ticket: rate(),
            answers_mail: rate(),
        };
        let rules = (0..1 + random.below(3)).map(|number| {
            let on_failure = match random.below(3) {
                0 => OnFailure::Fallback,
                1 => OnFailure::Quarantine,
                _ => OnFailure::Pass,
            };
            (format!("rule-{number}"), on_failure, random.percent(30))
        });
        let rules = rules.collect();
        let mut number = 0;
        let batches = (0..1 + random.below(3)).map(|_| {
            let mails = (0..1 + random.below(40)).map(|_| {
                number += 1;
                mail(number, &habits, &mut random)
            });
            mails.collect()
        });
        Self {
            seed,
            batches: batches.collect(),
            habits,
            rules,
        }
    }

    fn run(&self, decide: fn(&mut World, Vec<Parsed>)) -> World<'_> {
        let rules = self.rules.iter().map(|(name, on_failure, stays)| {
            let strikes = match stays {
                true => FailureWindow::staying(LIMITS),
                false => FailureWindow::new(LIMITS),
            };
            Arc::new(LiveRule::fake(name, "2", strikes, *on_failure))
        });
        let mut world = World {
            case: self,
            chain: Chain {
                generation: 1,
                rules: rules.collect(),
            },
            kv: BTreeMap::new(),
            tickets: Vec::new(),
            mails: BTreeMap::new(),
            alerts: BTreeMap::new(),
            decided: Vec::new(),
            together: 0,
            order: Random::new(self.seed),
        };
        for batch in &self.batches {
            let parsed = batch.iter().map(|mail| {
                let message = parse(&mail.bytes, &ParseLimits::default(), &[]);
                Parsed::of(mail.clone(), message)
            });
            decide(&mut world, parsed.collect());
        }
        world
    }
}

fn mail(number: u64, habits: &Habits, random: &mut Random) -> PendingMail {
    let mut text = format!("From: x@sender-{}.example\r\n", random.below(NAMES));
    text += &format!("Message-ID: <{number}@mails.example>\r\n");
    if random.percent(habits.names_ticket) {
        text += &format!("Subject: Re: [T-{}] it\r\n", 1 + random.below(NAMES));
    }
    if random.percent(habits.answers_mail) {
        let answered = number.saturating_sub(random.below(8));
        text += &format!("In-Reply-To: <{answered}@mails.example>\r\n");
    }
    text += &format!("\r\n{}\r\n", random.next());
    PendingMail {
        released: false,
        repetition: 0,
        id: JournalId(number as i64),
        message_id: format!("{number}@mails.example"),
        received_ms: 0,
        attempts: 0,
        whole: true,
        size: text.len() as u64,
        bytes: Bytes::from(text),
    }
}

/// The writes and actions of a rule, or the kind of its failure.
type Run = Result<(Vec<KvWrite>, Vec<Action>), TroubleKind>;

/// The state that decisions read and change.
struct World<'c> {
    case: &'c Case,
    chain: Chain,
    kv: BTreeMap<(String, String), String>,
    /// The participants of each ticket; the first is T-1.
    tickets: Vec<BTreeSet<String>>,
    /// The ticket of each mail that has one, by Message-ID.
    mails: BTreeMap<String, usize>,
    alerts: BTreeMap<String, String>,
    /// Each mail's decision, as text.
    decided: Vec<String>,
    /// The number of mails that were decided together with others and kept.
    together: u64,
    /// Determines the order in which the mails of one wave are decided.
    order: Random,
}

/// Decides and commits mails one by one.
fn one_by_one(world: &mut World, mails: Vec<Parsed>) {
    for mail in mails {
        let answer = world.decide(&mail);
        world.commit(&[mail.decided(answer)]);
    }
}

/// Decides mails as [`super::super::Line::process_batch`] does.
fn in_batches(world: &mut World, mails: Vec<Parsed>) {
    let mut batch = SpeculativeBatch::default();
    let mut waves: VecDeque<Vec<Parsed>> = waves(mails, &Default::default());
    while let Some(mut wave) = waves.pop_front() {
        put_first(&mut waves, batch.cut(&mut wave));
        // Slow mails: time is up before all are handed out.
        let handed_out = match world.order.percent(10) {
            true => 1 + world.order.below(wave.len() as u64) as usize,
            false => wave.len(),
        };
        put_first(&mut waves, wave.split_off(handed_out.min(wave.len())));
        let mut decided = world.decide_together(wave);
        put_first(
            &mut waves,
            batch.roll_back_conflicts(&world.chain, &mut decided),
        );
        if decided.len() > 1 {
            world.together += decided.len() as u64;
        }
        world.commit(&decided);
    }
}

impl World<'_> {
    /// Decides mails against the same state, in any order.
    fn decide_together(&mut self, mails: Vec<Parsed>) -> Vec<Decided> {
        let mut todo: Vec<(usize, Parsed)> = mails.into_iter().enumerate().collect();
        let mut decided = Vec::new();
        while !todo.is_empty() {
            let next = self.order.below(todo.len() as u64) as usize;
            let (place, mail) = todo.swap_remove(next);
            let answer = self.decide(&mail);
            decided.push((place, mail.decided(answer)));
        }
        decided.sort_by_key(|(place, _)| *place);
        decided.into_iter().map(|(_, mail)| mail).collect()
    }

    /// Runs the rules in order, as the chain does, and changes nothing but their failure counts.
    fn decide(&self, parsed: &Parsed) -> ChainOutcome {
        let message = parsed.message().expect("each mail is readable");
        let thread = self.thread(parsed);
        let mut spent = Vec::new();
        let mut answer = Conclusion {
            decision: Decision {
                outcome: Outcome::Ticket,
                actions: Vec::new(),
                refused: Vec::new(),
                rule: FALLBACK.into(),
                rule_hash: String::new(),
                generation: 1,
                thread,
                classified: None,
                rules: Vec::new(),
                troubles: Vec::new(),
                repairs: Vec::new(),
                log: Vec::new(),
                elapsed_us: 0,
                decided_at: None,
                called_from: Vec::new(),
                provenance: Default::default(),
            },
            kv_reads: Vec::new(),
            kv_writes: Vec::new(),
            lookups: Vec::new(),
            reply: None,
        };
        for (number, rule) in self.chain.rules.iter().enumerate() {
            let run = match rule.strikes.is_out() {
                true => Err(TroubleKind::SentBack),
                false => {
                    let (run, is_its_fault) = self.ask(rule, parsed, &mut answer);
                    let mark = match (&run, is_its_fault) {
                        (Ok(_), _) => Some(Mark::Held),
                        (Err(_), true) => Some(Mark::Failed(sender_key(message))),
                        (Err(_), false) => None,
                    };
                    mark.into_iter().for_each(|mark| rule.strikes.count(mark));
                    spent.push(RuleCost {
                        rule: number,
                        elapsed: Duration::ZERO,
                        memory_bytes: 0,
                        mark,
                    });
                    run
                }
            };
            let actions = match run {
                Ok((writes, actions)) => {
                    answer.kv_writes.extend(writes);
                    actions
                }
                Err(kind) => {
                    answer.decision.troubles.push(Trouble {
                        rule: rule.name.clone(),
                        kind,
                        message: String::new(),
                        location: None,
                    });
                    match rule.on_failure {
                        OnFailure::Pass => Vec::new(),
                        OnFailure::Fallback => break,
                        OnFailure::Quarantine => vec![Action::Quarantine {
                            reason: kind.to_string(),
                        }],
                    }
                }
            };
            if !actions.is_empty() {
                answer.decision.actions = actions;
                answer.decision.rule = rule.name.clone();
                answer.decision.rule_hash = rule.hash.clone();
                return outcome(answer, spent);
            }
        }
        answer.decision.actions = vec![Action::Ticket(Ticket::default())];
        outcome(answer, spent)
    }

    /// Runs a fake rule, and returns whether a failure is its own fault. The result depends on the rule, its version, the mail
    /// and everything it read. A run without actions means pass.
    fn ask(&self, rule: &LiveRule, parsed: &Parsed, answer: &mut Conclusion) -> (Run, bool) {
        let habits = &self.case.habits;
        let seen = [&rule.name, &rule.hash].map(|text| text.bytes().map(u64::from).sum::<u64>());
        let mail = parsed.mail.id.0 as u64;
        let mut random = Random::new(mix(mix(self.case.seed, mail), mix(seen[0], seen[1])));
        let mut seen = random.next();
        if random.percent(habits.reads) {
            let key = format!("key-{}", random.below(NAMES));
            let value = self.kv.get(&(rule.name.clone(), key.clone())).cloned();
            seen = mix(seen, hash(&value));
            answer.kv_reads.push(KvRead {
                rule: rule.name.clone(),
                key,
                value,
            });
        }
        if random.percent(habits.looks) {
            let (question, found) = self.look(&mut random);
            seen = mix(seen, found);
            answer.lookups.push(LookupRead {
                rule: rule.name.clone(),
                found: question.nothing(),
                question,
            });
        }
        seen = mix(seen, hash(&answer.decision.thread));
        let mut random = Random::new(seen);
        if random.percent(habits.fails) {
            return (Err(TroubleKind::Trap), random.percent(80));
        }
        let write = random.percent(habits.writes).then(|| KvWrite {
            rule: rule.name.clone(),
            key: format!("key-{}", random.below(NAMES)),
            value: random.percent(80).then(|| seen.to_string()),
        });
        let mut actions = Vec::new();
        if random.percent(habits.alerts) {
            actions.push(alert(format!("alert-{}", random.below(NAMES)), seen));
        }
        if random.percent(habits.tickets) {
            actions.push(Action::Ticket(Ticket {
                title: Some(seen.to_string()),
                ..Ticket::default()
            }));
        } else if random.percent(habits.notes) {
            let thread = answer.decision.thread.as_ref();
            let named = match thread.filter(|_| random.percent(50)) {
                Some(thread) => thread.ticket.clone(),
                None => format!("T-{}", 1 + random.below(NAMES)),
            };
            if self.ticket(&named).is_none() {
                return (Err(TroubleKind::InvalidDecision), true);
            }
            actions.push(Action::Note(Note {
                ticket: Some(named),
                ..Note::default()
            }));
        }
        if actions.is_empty() && random.percent(30) {
            actions.push(Action::Ignore {
                reason: seen.to_string(),
            });
        }
        (Ok((write.into_iter().collect(), actions)), false)
    }

    fn look(&self, random: &mut Random) -> (Query, u64) {
        let number = random.below(NAMES);
        match random.below(4) {
            0 => {
                let ticket = format!("T-{}", 1 + number);
                let found = hash(&self.ticket(&ticket));
                (Query::Ticket(ticket), found)
            }
            1 => (
                Query::Tickets(TicketSearch::Subject(String::new())),
                hash(&self.tickets),
            ),
            2 => {
                let key = format!("alert-{number}");
                let found = hash(&self.alerts.get(&key));
                (Query::Alert(key), found)
            }
            _ => (Query::Alerts(String::new()), hash(&self.alerts)),
        }
    }

    fn ticket(&self, name: &str) -> Option<&BTreeSet<String>> {
        let number: usize = name.strip_prefix("T-")?.parse().ok()?;
        self.tickets.get(number.checked_sub(1)?)
    }

    /// Returns the ticket of the mail that this one answers, or the one named in the subject.
    fn thread(&self, parsed: &Parsed) -> Option<Thread> {
        let message = parsed.message()?;
        let answered = message.references.iter().find_map(|id| self.mails.get(id));
        let (ticket, method) = match answered {
            Some(number) => (format!("T-{}", number + 1), ThreadMethod::MessageId),
            None => {
                let mut named = ticket_numbers(&message.subject).into_iter();
                (
                    named.find(|name| self.ticket(name).is_some())?,
                    ThreadMethod::Subject,
                )
            }
        };
        let sender = message.from.as_ref()?;
        let participants = self.ticket(&ticket)?;
        Some(Thread {
            authorised: participants.contains(&sender.email),
            method,
            ticket,
        })
    }

    /// Carries out decisions in order, then replaces rules that failed too often with their previous version.
    fn commit(&mut self, decided: &[Decided]) {
        for mail in decided {
            let Ok(answer) = &mail.result else {
                continue;
            };
            for write in &answer.kv_writes {
                let key = (write.rule.clone(), write.key.clone());
                match &write.value {
                    Some(value) => self.kv.insert(key, value.clone()),
                    None => self.kv.remove(&key),
                };
            }
            let sender = mail.message().into_iter().flat_map(|message| &message.from);
            let sender = sender.map(|address| address.email.clone());
            for action in &answer.decision.actions {
                match action {
                    Action::Ticket(_) => {
                        self.tickets.push(sender.clone().collect());
                        let number = self.tickets.len() - 1;
                        self.mails.insert(mail.mail.message_id.clone(), number);
                    }
                    Action::Note(note) => {
                        let name = note.ticket.as_deref().unwrap_or_default();
                        let number = name[2..].parse::<usize>().expect("a ticket") - 1;
                        self.tickets[number].extend(sender.clone());
                        self.mails.insert(mail.mail.message_id.clone(), number);
                    }
                    Action::Alert(alert) => {
                        let summary = alert.summary.clone().unwrap_or_default();
                        self.alerts.insert(alert.key.clone(), summary);
                    }
                    _ => {}
                }
            }
            let decision = &answer.decision;
            self.decided.push(format!(
                "{:?} {} {} {:?} {:?} {:?} {:?}",
                mail.mail.id,
                decision.rule,
                decision.rule_hash,
                decision.actions,
                decision.thread,
                decision.troubles,
                answer.kv_writes,
            ));
        }
        self.send_back();
    }

    fn send_back(&mut self) {
        for rule in &mut self.chain.rules {
            if rule.strikes.is_out() {
                let strikes = FailureWindow::staying(LIMITS);
                let before = LiveRule::fake(&rule.name, "1", strikes, rule.on_failure);
                *rule = Arc::new(before);
            } else if !rule.strikes.must_tell() {
                continue;
            }
            rule.strikes.told();
            let told = format!("postroom: {}", rule.name);
            self.alerts.insert(told, rule.hash.clone());
        }
    }

    /// Returns everything that decisions left behind, except the decisions themselves.
    fn state(&self) -> String {
        let rules = self.chain.rules.iter();
        let rules: Vec<_> = rules
            .map(|rule| (&rule.name, &rule.hash, rule.strikes.failing()))
            .collect();
        format!(
            "{} decided, {rules:?} {:?} {:?} {:?} {:?}",
            self.decided.len(),
            self.kv,
            self.tickets,
            self.mails,
            self.alerts
        )
    }
}

fn outcome(conclusion: Conclusion, spent: Vec<RuleCost>) -> ChainOutcome {
    ChainOutcome {
        conclusion: Arc::new(conclusion),
        spent,
    }
}

fn alert(key: String, seen: u64) -> Action {
    Action::Alert(Alert {
        key,
        state: AlertState::Firing,
        severity: None,
        host: None,
        service: None,
        summary: Some(seen.to_string()),
        fields: BTreeMap::new(),
    })
}

/// Hashes the debug text of a value.
fn hash(seen: &impl std::fmt::Debug) -> u64 {
    let text = format!("{seen:?}");
    text.bytes()
        .fold(0, |hash, byte| mix(hash, u64::from(byte)))
}
