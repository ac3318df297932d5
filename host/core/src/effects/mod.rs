//! Effects of a decision: items, participants, events, mails and refusals, as a pure function of the decision, its mail
//! and the few [`EffectInputs`] that only the store knows. The store applies the effects and decides nothing.

mod automatic;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use automatic::{AutomaticLimits, Brake, SentLately, is_own_address, person};

use crate::alert_state::{self, AlertPolicy, seen_ms, sent_ms};
use crate::decision::{
    Action, Alert, AlertState, Decision, Expect, Note, Outcome, Reply, Ticket, TicketClose,
    TicketUpdate,
};
use crate::event::EventKind;
use crate::identity::{InstallationSecret, MailIdentity};
use crate::message::{Address, Message};
use crate::outgoing::{self, OutgoingMail, bare_address};
use crate::raw::ContentHash;
use crate::reply_token::reply_token;
use crate::thread::{ForeignNumbers, is_bare_thanks, ticket_name, ticket_number};

/// The most addresses of one mail that join a ticket.
const PARTICIPANTS: usize = 50;

/// The longest time that a mail is expected within; a longer one counts as this.
const LONGEST_EXPECTATION_MS: i64 = 10 * 366 * 24 * 60 * 60 * 1000;

const OLD_MAIL: &str = "old mail";
const NO_SENDER: &str = "the mail names no sender";
const NO_OUTGOING: &str = "the mailbox has no outgoing";
const ANSWERED: &str = "the sender already had this answer in this conversation";

/// The most mails that a mail refers to by which its conversation is recognised.
const CONVERSATION_IDS: usize = 20;

/// Facts about the mail that was decided.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MailFacts {
    /// Without angle brackets, as journalled.
    pub message_id: String,
    /// The newest first.
    pub references: Vec<String>,
    pub from: Option<Address>,
    pub subject: String,
    /// From, To and Cc without our own addresses: who may write to the ticket.
    pub participants: Vec<String>,
    /// Whether the trusted boundary confirms that the mail comes from the domain of its From. Anybody can write any From.
    pub confirmed: bool,
    /// When it was sent, as [`sent_ms`] returns it.
    pub sent_ms: Option<i64>,
    /// The marks that its copies have in common with it. Empty if copies are decided like other mail.
    pub copy_marks: Vec<ContentHash>,
    /// Numbers of other systems in the subject, by which later mails find the ticket.
    pub foreign_numbers: Vec<String>,
    /// Whether the mail says thanks and nothing else: a note of it reopens no ticket.
    pub thanks: bool,
}

/// The targets that receive each kind of item, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Routes {
    pub ticket: Vec<String>,
    pub note: Vec<String>,
    pub alert: Vec<String>,
}

/// The mailbox's outgoing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingRoute {
    pub name: String,
    /// The domain of its From address, for Message-IDs.
    pub from_domain: String,
    pub automatic: AutomaticLimits,
}

/// The targets of the effects of a mailbox's decisions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outlets {
    pub routes: Routes,
    /// Whether the items of old mail go to the targets like those of other mail. Old mail is never answered or forwarded.
    pub deliver_old: bool,
    /// `None` if the mailbox has no outgoing; replies and forwards are then refused.
    pub outgoing: Option<OutgoingRoute>,
    pub alerts: AlertPolicy,
}

/// A decision about to be committed.
#[derive(Debug, Clone, Copy)]
pub struct Committing<'a> {
    pub identity: MailIdentity<'a>,
    /// Whether the mail is older than its mailbox's first contact.
    pub is_old: bool,
    /// When the mail was journalled, in milliseconds since 1970 in UTC.
    pub received_ms: i64,
    pub decision: &'a Decision,
    pub mail: &'a MailFacts,
    pub outlets: &'a Outlets,
}

/// The facts that the effects depend on and that only the store knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    /// The number of tickets that are opened.
    pub numbers: usize,
    /// The tickets whose requester has to be known.
    pub requesters: Vec<i64>,
    /// The counts of automatic mail, if the decision sends mail.
    pub sent: Option<SentNeeds>,
    /// The conversation, if the decision sends an answer that its sender gets only once in it.
    pub conversation: Option<Conversation>,
}

/// A conversation with one person, recognised by any of its mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// As [`person`] returns it.
    pub person: String,
    /// Without angle brackets.
    pub message_ids: Vec<String>,
}

/// The persons and the ticket whose automatic mails of the last hour count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentNeeds {
    pub persons: BTreeSet<String>,
    /// The ticket, unless this decision opens it.
    pub ticket: Option<i64>,
}

/// The facts that [`Needs`] requests.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EffectInputs {
    /// The numbers of the new tickets, in the order of the actions.
    pub numbers: Vec<i64>,
    /// The bare addresses of the requesters in lower case, for tickets that have one.
    pub requesters: BTreeMap<i64, String>,
    pub sent: SentLately,
    /// Whether the person already had an answer of this kind in the conversation.
    pub is_answered: bool,
}

/// All that a commit writes besides the decision itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Effects<'a> {
    /// The new ticket, or the ticket that gets a note or is changed.
    pub ticket: Option<i64>,
    /// In the order of the actions.
    pub applied: Vec<Effect<'a>>,
    /// The actions that are not carried out, each by its position, with the reason.
    pub refused: Vec<(usize, String)>,
    /// The limits that held mail back.
    pub brakes: Vec<Brake>,
}

/// The effect of one action.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect<'a> {
    Ticket {
        number: i64,
        ticket: &'a Ticket,
        participants: BTreeSet<String>,
        notices: Notices<'a>,
    },
    Note {
        /// `None` if the note names no ticket.
        number: Option<i64>,
        note: &'a Note,
        title: &'a str,
        participants: BTreeSet<String>,
        notices: Notices<'a>,
    },
    Alert {
        alert: &'a Alert,
        /// The time that orders the mail among those of the alert.
        seen_ms: i64,
        /// The targets of a change; whether there is one depends on the alert's record.
        notices: Notices<'a>,
    },
    /// Change a ticket. The event is for a ticket that is not closed by it.
    Update {
        number: i64,
        update: &'a TicketUpdate,
        notices: Notices<'a>,
    },
    Close {
        number: i64,
        reason: Option<&'a str>,
        notices: Notices<'a>,
    },
    /// Expect a mail with this key again.
    Expect {
        key: &'a str,
        within_ms: i64,
        due_ms: i64,
        /// Resolves an alert that was raised because the mail did not come. `None` if the decision has an alert with this key.
        resolved: Option<(Alert, Notices<'a>)>,
    },
    Mail(Box<Dispatch<'a>>),
}

/// The event that targets receive about an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notices<'a> {
    pub kind: EventKind,
    /// Each target with the idempotency key.
    pub targets: Vec<(&'a str, String)>,
}

/// A mail to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Dispatch<'a> {
    pub outgoing: &'a str,
    pub idempotency_key: String,
    pub mail: OutgoingMail,
    /// The ticket that it is about.
    pub ticket: Option<i64>,
    /// The persons that its recipients are counted as.
    pub persons: Vec<String>,
    /// The recipients who join the ticket.
    pub participants: BTreeSet<String>,
    /// The conversation, this mail included, in which its recipient gets no other answer of this kind.
    pub conversation: Option<Conversation>,
}

impl MailFacts {
    /// Returns the facts of a mail; for a mail that could not be parsed, little more than its Message-ID.
    pub fn of(
        message_id: String,
        message: Option<&Message>,
        is_own: impl Fn(&str) -> bool,
        patterns: &ForeignNumbers,
    ) -> Self {
        let Some(message) = message else {
            return Self {
                message_id,
                ..Self::default()
            };
        };
        let people = message.from.iter().chain(&message.to).chain(&message.cc);
        Self {
            message_id,
            references: message.references.clone(),
            from: message.from.clone(),
            subject: message.subject.clone(),
            participants: people
                .filter(|address| !is_own(&address.email))
                .map(|address| address.email.clone())
                .collect(),
            confirmed: message.authentication.confirms_sender(),
            sent_ms: sent_ms(message),
            copy_marks: Vec::new(),
            foreign_numbers: patterns.of(&message.subject),
            thanks: is_bare_thanks(&message.reply),
        }
    }

    /// Returns the conversation with this sender that the mail belongs to: the mail, the conversation's first one, and as many of
    /// the latest.
    fn conversation(&self, from: &Address, latest: usize) -> Conversation {
        // The first mail of a conversation is the last reference.
        let first = self.references.iter().skip(latest).last();
        let others = self.references.iter().take(latest);
        let message_ids = others.chain(first).chain([&self.message_id]);
        Conversation {
            person: person(&from.email),
            message_ids: message_ids.cloned().collect(),
        }
    }
}

impl<'a> Committing<'a> {
    /// Returns the facts that the store has to look up before [`effects`] is called.
    pub fn needs(&self) -> Needs {
        let actions = &self.decision.actions;
        let numbers = actions.iter().filter(|it| matches!(it, Action::Ticket(_)));
        let mut needs = Needs {
            numbers: numbers.count(),
            ..Needs::default()
        };
        if self.mail.confirmed && self.mail.from.is_some() {
            needs.requesters.extend(self.noted_tickets());
        }
        if self.is_old || self.outlets.outgoing.is_none() {
            return needs;
        }
        for action in actions {
            let persons: Vec<String> = match action {
                Action::Reply(reply) => {
                    let from = self.mail.from.iter();
                    if reply.once {
                        let of = from.clone().next();
                        needs.conversation =
                            of.map(|from| self.mail.conversation(from, CONVERSATION_IDS));
                    }
                    from.map(|from| person(&from.email)).collect()
                }
                Action::Forward { to } => to.iter().map(|to| person(bare_address(to))).collect(),
                _ => continue,
            };
            let sent = needs.sent.get_or_insert_with(|| SentNeeds {
                persons: BTreeSet::new(),
                ticket: self.named_tickets().next().filter(|_| needs.numbers == 0),
            });
            sent.persons.extend(persons);
        }
        needs
    }

    fn noted_tickets(&self) -> impl Iterator<Item = i64> {
        self.decision
            .actions
            .iter()
            .filter_map(|action| match action {
                Action::Note(note) => note_ticket(note),
                _ => None,
            })
    }

    /// Returns the tickets that the decision adds a note to, then those that it changes.
    fn named_tickets(&self) -> impl Iterator<Item = i64> {
        let changed = self.decision.actions.iter().filter_map(|action| {
            let ticket = match action {
                Action::Update(update) => update.ticket.as_deref(),
                Action::Close(close) => close.ticket.as_deref(),
                _ => None,
            };
            ticket.and_then(ticket_number)
        });
        self.noted_tickets().chain(changed)
    }

    /// Returns whether the recipients of the decision's mails may join its ticket. A stranger's note must not let anybody
    /// join.
    fn recipients_join(&self) -> bool {
        match self.decision.outcome {
            Outcome::Ticket => true,
            Outcome::Note => self.decision.thread.as_ref().is_some_and(|t| t.authorised),
            _ => false,
        }
    }
}

/// Returns the effects of a decision. `facts` answers [`Committing::needs`].
pub fn effects<'a>(
    of: Committing<'a>,
    secret: &InstallationSecret,
    facts: EffectInputs,
) -> Effects<'a> {
    let mut numbers = facts.numbers.into_iter().peekable();
    let mut builder = Builder {
        of,
        secret,
        requesters: facts.requesters,
        sent: facts.sent,
        is_answered: facts.is_answered,
        effects: Effects {
            ticket: numbers
                .peek()
                .copied()
                .or_else(|| of.named_tickets().next()),
            applied: Vec::with_capacity(of.decision.actions.len()),
            refused: Vec::new(),
            brakes: Vec::new(),
        },
    };
    for (n, action) in of.decision.actions.iter().enumerate() {
        let effect = match action {
            // The store allotted a number to each.
            Action::Ticket(ticket) => numbers.next().map(|it| builder.ticket(n, it, ticket)),
            Action::Note(note) => Some(builder.note(n, note)),
            Action::Alert(alert) => Some(builder.alert(n, alert)),
            Action::Reply(reply) => builder.reply(n, reply),
            Action::Forward { to } => builder.forward(n, to),
            // The decision itself is their record.
            Action::Ignore { .. } | Action::Quarantine { .. } | Action::Custom { .. } => None,
            Action::Expect(expect) => builder.expect(n, expect),
            Action::Update(update) => builder.update(n, update),
            Action::Close(close) => builder.close(n, close),
        };
        builder.effects.applied.extend(effect);
    }
    builder.effects
}

struct Builder<'a, 's> {
    of: Committing<'a>,
    secret: &'s InstallationSecret,
    requesters: BTreeMap<i64, String>,
    /// Counts the mails of this decision too.
    sent: SentLately,
    is_answered: bool,
    effects: Effects<'a>,
}

impl<'a> Builder<'a, '_> {
    fn ticket(&self, n: usize, number: i64, ticket: &'a Ticket) -> Effect<'a> {
        let requester = ticket.requester.as_deref().map(bare_address);
        let from = self.of.mail.from.as_ref().map(|from| from.email.as_str());
        let people = requester.into_iter().chain(from).chain(self.people());
        Effect::Ticket {
            number,
            ticket,
            participants: joining(people),
            notices: self.notices(n, EventKind::TicketCreated, &self.of.outlets.routes.ticket),
        }
    }

    fn note(&self, n: usize, note: &'a Note) -> Effect<'a> {
        let number = note_ticket(note);
        Effect::Note {
            number,
            note,
            title: &self.of.mail.subject,
            participants: match self.is_confirmed_requester(number) {
                true => joining(self.people()),
                false => BTreeSet::new(),
            },
            notices: self.notices(n, EventKind::NoteCreated, &self.of.outlets.routes.note),
        }
    }

    fn alert(&self, n: usize, alert: &'a Alert) -> Effect<'a> {
        let kind = EventKind::of(alert.state);
        Effect::Alert {
            alert,
            seen_ms: self.seen_ms(),
            notices: self.notices(n, kind, &self.of.outlets.routes.alert),
        }
    }

    /// Returns the time that orders the mail among others.
    fn seen_ms(&self) -> i64 {
        seen_ms(self.of.mail.sent_ms, self.of.received_ms)
    }

    /// Expects the next mail, counted from the arrival of this one; counted from its sending if it is old. Old mail does not expect what
    /// would be overdue already.
    fn expect(&self, n: usize, expect: &'a Expect) -> Option<Effect<'a>> {
        let within_ms = i64::try_from(expect.within_secs).unwrap_or(i64::MAX);
        let within_ms = within_ms.saturating_mul(1000).min(LONGEST_EXPECTATION_MS);
        let from_ms = match self.of.is_old {
            true => self.seen_ms(),
            false => self.of.received_ms,
        };
        let due_ms = from_ms.saturating_add(within_ms);
        if self.of.is_old && due_ms <= self.of.received_ms {
            return None;
        }
        let mut actions = self.of.decision.actions.iter();
        let has_alert =
            actions.any(|it| matches!(it, Action::Alert(alert) if alert.key == expect.key));
        let resolved = (!has_alert).then(|| {
            let alert = alert_state::arrived(&expect.key);
            let targets = &self.of.outlets.routes.alert;
            (alert, self.notices(n, EventKind::AlertResolved, targets))
        });
        Some(Effect::Expect {
            key: &expect.key,
            within_ms,
            due_ms,
            resolved,
        })
    }

    fn update(&self, n: usize, update: &'a TicketUpdate) -> Option<Effect<'a>> {
        Some(Effect::Update {
            number: update.ticket.as_deref().and_then(ticket_number)?,
            update,
            notices: self.notices(n, EventKind::TicketUpdated, &self.of.outlets.routes.ticket),
        })
    }

    fn close(&self, n: usize, close: &'a TicketClose) -> Option<Effect<'a>> {
        Some(Effect::Close {
            number: close.ticket.as_deref().and_then(ticket_number)?,
            reason: close.reason.as_deref(),
            notices: self.notices(n, EventKind::TicketClosed, &self.of.outlets.routes.ticket),
        })
    }

    fn reply(&mut self, n: usize, reply: &Reply) -> Option<Effect<'a>> {
        let facts = self.of.mail;
        let to = facts.from.as_ref().ok_or(NO_SENDER);
        let (to, route) = match self.route().and_then(|route| Ok((to?, route?))) {
            Ok(found) => found,
            Err(reason) => return self.refuse(n, reason),
        };
        if reply.once && std::mem::replace(&mut self.is_answered, true) {
            return self.refuse(n, ANSWERED);
        }
        let ticket = self.effects.ticket.map(ticket_name);
        let id = self.message_id(n, route);
        let conversation = reply.once.then(|| {
            // A later mail refers to the first one or to the answer, so that the others need not be stored.
            let mut conversation = facts.conversation(to, 0);
            conversation.message_ids.push(id.clone());
            conversation
        });
        let tenant = self.of.identity.tenant;
        let token = ticket.as_deref();
        let token = token.and_then(|ticket| reply_token(self.secret, tenant, ticket));
        let mail = outgoing::reply(facts, to, reply, ticket.as_deref(), id, token);
        let mut dispatch = self.dispatch(n, route, mail, false)?;
        dispatch.conversation = conversation;
        Some(Effect::Mail(Box::new(dispatch)))
    }

    fn forward(&mut self, n: usize, to: &[String]) -> Option<Effect<'a>> {
        let route = match self.route().and_then(|route| route) {
            Ok(route) => route,
            Err(reason) => return self.refuse(n, reason),
        };
        let id = self.message_id(n, route);
        let mail = outgoing::forward(self.of.mail, to, id);
        let dispatch = self.dispatch(n, route, mail, self.of.recipients_join())?;
        Some(Effect::Mail(Box::new(dispatch)))
    }

    /// Returns the mailbox's outgoing. The outer error is about the mail, the inner one about the mailbox.
    fn route(&self) -> Result<Result<&'a OutgoingRoute, &'static str>, &'static str> {
        match self.of.is_old {
            true => Err(OLD_MAIL),
            false => Ok(self.of.outlets.outgoing.as_ref().ok_or(NO_OUTGOING)),
        }
    }

    fn dispatch(
        &mut self,
        n: usize,
        route: &'a OutgoingRoute,
        mail: OutgoingMail,
        join: bool,
    ) -> Option<Dispatch<'a>> {
        let ticket = self.effects.ticket;
        let persons: Vec<String> = mail.to.iter().map(|to| person(&to.email)).collect();
        if let Err(brake) = self.sent.count(&route.automatic, &persons, ticket) {
            self.refuse(n, brake.reason.clone());
            self.effects.brakes.push(brake);
            return None;
        }
        let recipients = mail.to.iter().map(|to| to.email.as_str());
        Some(Dispatch {
            outgoing: &route.name,
            idempotency_key: self.idempotency_key(n, &route.name),
            ticket,
            persons,
            participants: match join && ticket.is_some() {
                true => joining(recipients),
                false => BTreeSet::new(),
            },
            mail,
            conversation: None,
        })
    }

    fn refuse(&mut self, n: usize, reason: impl Into<String>) -> Option<Effect<'a>> {
        self.effects.refused.push((n, reason.into()));
        None
    }

    fn notices(&self, n: usize, kind: EventKind, targets: &'a [String]) -> Notices<'a> {
        let delivers = self.of.outlets.deliver_old || !self.of.is_old;
        let targets = targets.iter().filter(|_| delivers);
        Notices {
            kind,
            targets: targets
                .map(|target| (target.as_str(), self.idempotency_key(n, target)))
                .collect(),
        }
    }

    fn message_id(&self, n: usize, route: &OutgoingRoute) -> String {
        let identity = self.of.identity;
        identity.outgoing_message_id(self.secret, n, &route.from_domain)
    }

    fn idempotency_key(&self, n: usize, target: &str) -> String {
        self.of.identity.idempotency_key(self.secret, n, target)
    }

    fn people(&self) -> impl Iterator<Item = &'a str> {
        self.of.mail.participants.iter().map(String::as_str)
    }

    /// Returns whether the mail is proven to be the requester's. Only then do the addressees of a note join its ticket:
    /// anybody can forge a From, and a participant may write to the ticket for good.
    fn is_confirmed_requester(&self, ticket: Option<i64>) -> bool {
        let requester = ticket.and_then(|ticket| self.requesters.get(&ticket));
        let from = self
            .of
            .mail
            .from
            .as_ref()
            .filter(|_| self.of.mail.confirmed);
        match (from, requester) {
            (Some(from), Some(requester)) => *requester == from.email.to_lowercase(),
            _ => false,
        }
    }
}

impl EventKind {
    /// Returns the change that targets receive for an alert of this state.
    pub fn of(state: AlertState) -> Self {
        match state {
            AlertState::Firing => EventKind::AlertFiring,
            AlertState::Resolved => EventKind::AlertResolved,
        }
    }
}

fn note_ticket(note: &Note) -> Option<i64> {
    note.ticket.as_deref().and_then(ticket_number)
}

fn joining<'p>(people: impl Iterator<Item = &'p str>) -> BTreeSet<String> {
    people
        .take(PARTICIPANTS)
        .filter(|email| !email.is_empty())
        .map(str::to_lowercase)
        .collect()
}
