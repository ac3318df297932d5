//! From what a rule asked for to what will be done: one disposition, blanks filled in from the mail, manners kept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::context::Context;
use crate::decision::{
    Action, Note, Outcome, Refusal, Reply, Ticket, TicketClose, TicketStatus, TicketUpdate,
    Trouble, TroubleKind, Value,
};
use crate::effects::is_own_address;
use crate::grants::{ActionKind, ActionKinds, not_granted};
use crate::message::{Classification, Message};

/// The header that marks our own outgoing mail, so that two Postrooms do not reply to each other for ever.
pub const LOOP_HEADER: &str = "X-Postroom-Loop";
/// The tag of a ticket that `fallback` opened after a rule failed.
pub const FALLBACK_TAG: &str = "postroom-fallback";
/// The reason of an `ignore` that stands for side actions alone.
pub const HANDLED: &str = "handled";
/// Why a technician gets no reply.
pub(crate) const STAFF: &str = "the sender is staff: technicians are never answered";

/// Limits on the size and number of a decision's parts. Text over its limit is cut and noted as a repair; too many actions
/// or an overlong key make the decision invalid; too many recipients are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DecisionLimits {
    /// Actions of one decision.
    pub actions: usize,
    /// Characters of a ticket's title and an alert's summary.
    pub title_chars: usize,
    /// Bytes of a ticket's or note's body and of a reply.
    pub body_bytes: usize,
    /// Characters of queue, priority, requester, severity, host, service and of a reason.
    pub word_chars: usize,
    /// Tags of a ticket.
    pub tags: usize,
    /// Characters of one tag.
    pub tag_chars: usize,
    /// Fields of a ticket or an alert.
    pub fields: usize,
    /// Bytes of all names and values of the fields.
    pub field_bytes: usize,
    /// Characters of an alert's or expectation's key, and of a custom action's name.
    pub key_chars: usize,
    /// Recipients of all forwards of one decision.
    pub recipients: usize,
    /// Replies and forwards of one decision to one address.
    pub same_address: usize,
    /// Received headers of a mail that is replied to or forwarded: a mail with more is in a loop (RFC 5321 section 6.3).
    pub hops: usize,
}

impl Default for DecisionLimits {
    fn default() -> Self {
        Self {
            actions: 50,
            title_chars: 255,
            body_bytes: 1024 * 1024,
            word_chars: 320,
            tags: 50,
            tag_chars: 100,
            fields: 100,
            field_bytes: 64 * 1024,
            key_chars: 255,
            recipients: 20,
            same_address: 3,
            hops: 50,
        }
    }
}

/// Where replies and forwards may go, and how.
#[derive(Debug, Clone)]
pub struct ReplyPolicy<'a> {
    /// Every address this Postroom fetches or sends for, as [`crate::effects::person`] returns it: no mail is sent to them.
    pub own_addresses: &'a [String],
    /// Whether the mailbox has an outgoing configured.
    pub has_outgoing: bool,
    /// The actions granted to the tenant's rules.
    pub granted: ActionKinds,
    pub limits: &'a DecisionLimits,
}

impl ReplyPolicy<'_> {
    fn is_own(&self, email: &str) -> bool {
        is_own_address(self.own_addresses, email)
    }

    /// Returns why the sender gets no reply; `None` if a reply may be sent.
    pub(crate) fn against_reply(&self, mail: &Message) -> Option<String> {
        let Some(from) = &mail.from else {
            return Some("the mail has no readable sender".to_owned());
        };
        let classification = match mail.classification {
            Classification::Person => None,
            Classification::AutoReply => Some("an automatic reply"),
            Classification::Bounce => Some("a bounce"),
            Classification::List => Some("list or bulk mail"),
            Classification::Machine => Some("a machine's mail"),
            Classification::Calendar => Some("a calendar's mail"),
        };
        if let Some(what) = classification {
            Some(format!("{what} is never answered"))
        } else if mail.null_sender {
            Some("a mail with a null return path is never answered".to_owned())
        } else if mail
            .headers("Auto-Submitted")
            .any(|value| !value.trim().eq_ignore_ascii_case("no"))
        {
            Some("auto-submitted mail is never answered".to_owned())
        } else if mail.headers(LOOP_HEADER).next().is_some() {
            Some("a mail that passed through Postroom is never answered".to_owned())
        } else if self.is_own(&from.email) || mail.reply_to.iter().any(|to| self.is_own(&to.email))
        {
            Some("the answer would go to one of our own addresses".to_owned())
        } else {
            self.against_hops(mail).or_else(|| self.against_sending())
        }
    }

    fn against_forward(&self, mail: &Message, to: &[String]) -> Option<String> {
        if mail.headers(LOOP_HEADER).next().is_some() {
            Some("loop: a mail that passed through Postroom is never forwarded".to_owned())
        } else if to.is_empty() {
            Some("a forward needs a recipient".to_owned())
        } else if to.len() > self.limits.recipients {
            Some(too_many_recipients(self.limits))
        } else if let Some(odd) = to.iter().find(|to| !is_email(to)) {
            Some(format!("\"{}\" is not an address", shortened(odd, 80)))
        } else if to.iter().any(|to| self.is_own(to)) {
            Some("a forward to one of our own addresses would loop".to_owned())
        } else {
            self.against_hops(mail).or_else(|| self.against_sending())
        }
    }

    fn against_hops(&self, mail: &Message) -> Option<String> {
        let most = self.limits.hops;
        let hops = mail.headers("Received").count();
        (hops > most)
            .then(|| format!("loop: the mail has {hops} Received headers, more than {most}"))
    }

    fn against_sending(&self) -> Option<String> {
        (!self.has_outgoing).then(|| "the mailbox has no outgoing configured".to_owned())
    }
}

/// A completed decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Completed {
    pub outcome: Outcome,
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
    /// Notes on values that were cut to their limit, for the mail's repairs.
    pub repairs: Vec<String>,
}

/// Why a rule's decision is invalid. The mail goes to the next rule.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidDecision {
    #[error("an empty list of actions: return pass to leave the mail to the next rule")]
    Empty,
    #[error("{found} actions, more than the {most} allowed")]
    TooMany { found: usize, most: usize },
    #[error("both {first} and {second}: a decision has one kind of disposition")]
    Mixed {
        first: &'static str,
        second: &'static str,
    },
    #[error("more than one {0}")]
    Twice(&'static str),
    #[error("a note without a ticket: the mail belongs to no thread and the note names none")]
    NoteWithoutTicket,
    #[error("{0} without a ticket: the mail belongs to no thread and the {0} names none")]
    WithoutTicket(&'static str),
    /// The mail may not change the ticket, and nothing else of the decision accounts for the mail.
    #[error("{kind} refused: {reason}")]
    Unauthorised { kind: &'static str, reason: String },
    #[error("{0} with an empty key")]
    EmptyKey(&'static str),
    #[error("{kind} with a key over {most} characters")]
    LongKey { kind: &'static str, most: usize },
    #[error("an expectation with 0 seconds")]
    ExpectAtOnce,
    /// Nothing is left of the decision that would account for the mail.
    #[error("{}", not_granted(kind, tenant))]
    NotGranted { kind: &'static str, tenant: String },
}

impl InvalidDecision {
    /// Returns the kind of trouble that this is.
    pub fn kind(&self) -> TroubleKind {
        match self {
            InvalidDecision::NotGranted { .. } => TroubleKind::NotGranted,
            _ => TroubleKind::InvalidDecision,
        }
    }
}

/// Completes a rule's decision.
///
/// It has one disposition (tickets, notes or alerts of one kind, or one ignore, or one quarantine) and any side actions. Side
/// actions alone are an ignore with the reason [`HANDLED`]. Missing fields are filled in: a ticket's title, body and requester
/// with the subject, the new text and the sender; a note's ticket with the thread's. Replies that the policy forbids are
/// refused, and so are actions that the tenant is not granted. If that removes the disposition, or everything from a decision
/// without one, the decision as a whole is refused: a mail is never lost to a missing grant.
pub fn complete(
    actions: Vec<Action>,
    mail: &Message,
    context: &Context,
    manners: &ReplyPolicy<'_>,
) -> Result<Completed, InvalidDecision> {
    let most = manners.limits.actions;
    if actions.is_empty() {
        return Err(InvalidDecision::Empty);
    }
    if actions.len() > most {
        return Err(InvalidDecision::TooMany {
            found: actions.len(),
            most,
        });
    }
    let outcome = disposition(&actions)?;
    check_granted(&actions, outcome.is_some(), context, manners.granted)?;
    let mut completed = Completed {
        outcome: outcome.unwrap_or(Outcome::Ignored),
        actions: Vec::with_capacity(actions.len() + 1),
        refused: Vec::new(),
        repairs: Vec::new(),
    };
    if outcome.is_none() {
        completed.actions.push(Action::Ignore {
            reason: HANDLED.to_owned(),
        });
    }
    let mut cutter = Cutter {
        limits: manners.limits,
        repairs: Vec::new(),
    };
    let mut recipients = Recipients::default();
    for mut action in actions {
        fill(&mut action, mail, context, &mut cutter)?;
        let kind = action.kind();
        let against = match &action {
            _ if !manners.granted.has(kind) => Some(not_granted(kind.as_str(), &context.tenant)),
            Action::Reply(reply) if reply.text.trim().is_empty() => {
                Some("a reply without text".to_owned())
            }
            Action::Reply(_) if context.staff => Some(STAFF.to_owned()),
            Action::Reply(_) => manners.against_reply(mail).or_else(|| {
                let from = mail.from.iter().map(|from| from.email.as_str());
                recipients.add(from, manners.limits)
            }),
            Action::Forward { to } => manners.against_forward(mail, to).or_else(|| {
                recipients.forwarded += to.len();
                if recipients.forwarded > manners.limits.recipients {
                    return Some(too_many_recipients(manners.limits));
                }
                recipients.add(to.iter().map(String::as_str), manners.limits)
            }),
            Action::Update(TicketUpdate { ticket, status, .. }) => {
                against_change(ticket.as_deref(), context)
                    .or_else(|| status.as_deref().and_then(against_status))
            }
            Action::Close(TicketClose { ticket, .. }) => against_change(ticket.as_deref(), context),
            _ => None,
        };
        match against {
            Some(reason) => completed.refused.push(Refusal {
                action,
                reason,
                held_at: None,
            }),
            None => completed.actions.push(action),
        }
    }
    completed.repairs = cutter.repairs;
    if outcome.is_none() {
        check_accounted(&completed)?;
    }
    Ok(completed)
}

/// Fails if a decision of side actions has none left because changes of tickets are refused: the mail would be lost.
fn check_accounted(completed: &Completed) -> Result<(), InvalidDecision> {
    let mut left = completed.actions.iter();
    if left.any(|action| !matches!(action, Action::Ignore { .. })) {
        return Ok(());
    }
    let changes = |kind: ActionKind| matches!(kind, ActionKind::Update | ActionKind::Close);
    let mut refused = completed.refused.iter();
    match refused.find(|it| changes(it.action.kind())) {
        Some(refusal) => Err(InvalidDecision::Unauthorised {
            kind: refusal.action.kind().as_str(),
            reason: refusal.reason.clone(),
        }),
        None => Ok(()),
    }
}

/// Returns why a mail may not change a ticket. A rule may name any ticket of its tenant, such as one that it looked up; the ticket of
/// the mail's own thread is changed only for a sender who may write to it.
fn against_change(ticket: Option<&str>, context: &Context) -> Option<String> {
    let thread = context.thread.as_ref().filter(|it| !it.authorised)?;
    (ticket == Some(&*thread.ticket))
        .then(|| format!("the sender has no authority over {}", thread.ticket))
}

fn against_status(status: &str) -> Option<String> {
    TicketStatus::from_name(status).is_none().then(|| {
        let known: Vec<_> = TicketStatus::ALL.iter().map(|it| it.name()).collect();
        format!(
            "\"{}\" is not a status: write one of {}",
            shortened(status, 80),
            known.join(", ")
        )
    })
}

/// Returns the decision of the built-in `fallback`: a plain ticket, so that no mail is lost. It is tagged
/// [`FALLBACK_TAG`] when a rule failed.
pub fn fallback(
    mail: &Message,
    context: &Context,
    troubles: &[Trouble],
    limits: &DecisionLimits,
) -> Completed {
    let mut cutter = Cutter {
        limits,
        repairs: Vec::new(),
    };
    let mut ticket = Ticket::default();
    if !troubles.is_empty() {
        ticket.tags.push(FALLBACK_TAG.to_owned());
    }
    fill_ticket(&mut ticket, mail, context, &mut cutter);
    Completed {
        outcome: Outcome::Ticket,
        actions: vec![Action::Ticket(ticket)],
        refused: Vec::new(),
        repairs: cutter.repairs,
    }
}

/// Returns the ticket that takes the place of a note, and the repairs.
pub(crate) fn own_ticket(
    note: Note,
    mail: &Message,
    context: &Context,
    limits: &DecisionLimits,
) -> (Ticket, Vec<String>) {
    let mut cutter = Cutter {
        limits,
        repairs: Vec::new(),
    };
    let mut ticket = Ticket {
        body: note.body,
        ..Ticket::default()
    };
    fill_ticket(&mut ticket, mail, context, &mut cutter);
    (ticket, cutter.repairs)
}

/// Returns the one disposition; `None` if there are only side actions.
fn disposition(actions: &[Action]) -> Result<Option<Outcome>, InvalidDecision> {
    let mut found: Option<(Outcome, &'static str)> = None;
    for action in actions {
        let this = match action {
            Action::Ticket(_) => (Outcome::Ticket, "ticket"),
            Action::Note(_) => (Outcome::Note, "note"),
            Action::Alert(_) => (Outcome::Alert, "alert"),
            Action::Ignore { .. } => (Outcome::Ignored, "ignore"),
            Action::Quarantine { .. } => (Outcome::Quarantined, "quarantine"),
            Action::Reply(_)
            | Action::Forward { .. }
            | Action::Expect(_)
            | Action::Update(_)
            | Action::Close(_)
            | Action::Custom { .. } => {
                continue;
            }
        };
        match found {
            None => found = Some(this),
            Some((outcome, name)) if outcome == this.0 => {
                if matches!(outcome, Outcome::Ignored | Outcome::Quarantined) {
                    return Err(InvalidDecision::Twice(name));
                }
            }
            Some((_, first)) => {
                return Err(InvalidDecision::Mixed {
                    first,
                    second: this.1,
                });
            }
        }
    }
    Ok(found.map(|(outcome, _)| outcome))
}

fn check_granted(
    actions: &[Action],
    has_disposition: bool,
    context: &Context,
    granted: ActionKinds,
) -> Result<(), InvalidDecision> {
    let mut accounting = actions
        .iter()
        .map(Action::kind)
        .filter(|kind| !has_disposition || kind.is_disposition());
    let first = accounting.clone().next();
    match first {
        Some(kind) if !accounting.any(|kind| granted.has(kind)) => {
            Err(InvalidDecision::NotGranted {
                kind: kind.as_str(),
                tenant: context.tenant.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn fill(
    action: &mut Action,
    mail: &Message,
    context: &Context,
    cutter: &mut Cutter<'_>,
) -> Result<(), InvalidDecision> {
    match action {
        Action::Ticket(ticket) => fill_ticket(ticket, mail, context, cutter),
        Action::Note(note) => {
            fill_number(&mut note.ticket, context).ok_or(InvalidDecision::NoteWithoutTicket)?;
            cutter.body(
                note.body.get_or_insert_with(|| mail.reply.clone()),
                "note's body",
            );
        }
        Action::Alert(alert) => {
            cutter.key(&mut alert.key, "an alert")?;
            let summary = alert.summary.get_or_insert_with(|| title_of(mail));
            cutter.title(summary, "summary");
            cutter.word(&mut alert.severity, "severity");
            cutter.word(&mut alert.host, "host");
            cutter.word(&mut alert.service, "service");
            cutter.fields(&mut alert.fields);
        }
        Action::Reply(Reply { text, html, .. }) => {
            cutter.body(text, "reply");
            if let Some(html) = html {
                cutter.body(html, "reply's HTML");
            }
        }
        Action::Ignore { reason } | Action::Quarantine { reason } => cutter.reason(reason),
        Action::Expect(expect) => {
            cutter.key(&mut expect.key, "an expectation")?;
            if expect.within_secs == 0 {
                return Err(InvalidDecision::ExpectAtOnce);
            }
        }
        Action::Update(update) => {
            fill_number(&mut update.ticket, context)
                .ok_or(InvalidDecision::WithoutTicket("update"))?;
            cutter.word(&mut update.queue, "queue");
            cutter.word(&mut update.priority, "priority");
            cutter.fields(&mut update.fields);
            if let Some(tags) = &mut update.tags {
                cutter.tags(tags);
            }
        }
        Action::Close(close) => {
            fill_number(&mut close.ticket, context)
                .ok_or(InvalidDecision::WithoutTicket("close"))?;
            if let Some(reason) = &mut close.reason {
                cutter.reason(reason);
            }
        }
        Action::Custom { name, .. } => cutter.key(name, "a custom action")?,
        Action::Forward { .. } => {}
    }
    Ok(())
}

/// Fills in the thread's ticket if none is named. Returns `None` if there is no thread either.
fn fill_number(ticket: &mut Option<String>, context: &Context) -> Option<()> {
    if ticket.as_deref().is_none_or(|it| it.trim().is_empty()) {
        *ticket = Some(context.thread.as_ref()?.ticket.clone());
    }
    Some(())
}

fn fill_ticket(ticket: &mut Ticket, mail: &Message, context: &Context, cutter: &mut Cutter<'_>) {
    let blank = |text: &Option<String>| text.as_deref().is_none_or(|text| text.trim().is_empty());
    if blank(&ticket.title) {
        ticket.title = Some(title_of(mail));
    }
    if ticket.body.is_none() {
        ticket.body = Some(mail.reply.clone());
    }
    if blank(&ticket.requester) {
        let requester = context.requester.as_ref().or(mail.from.as_ref());
        ticket.requester = requester.map(|it| it.email.clone());
    }
    // Only the thread says which ticket this one belongs to.
    ticket.related = None;
    if let Some(title) = &mut ticket.title {
        cutter.title(title, "title");
    }
    if let Some(body) = &mut ticket.body {
        cutter.body(body, "ticket's body");
    }
    cutter.word(&mut ticket.queue, "queue");
    cutter.word(&mut ticket.priority, "priority");
    cutter.word(&mut ticket.requester, "requester");
    cutter.fields(&mut ticket.fields);
    cutter.tags(&mut ticket.tags);
}

fn too_many_recipients(limits: &DecisionLimits) -> String {
    format!("more than {} recipients", limits.recipients)
}

fn title_of(mail: &Message) -> String {
    match mail.subject.trim() {
        "" => "(no subject)".to_owned(),
        subject => subject.to_owned(),
    }
}

/// Counts the recipients of the replies and forwards of one decision.
#[derive(Default)]
struct Recipients {
    by_address: BTreeMap<String, usize>,
    forwarded: usize,
}

impl Recipients {
    /// Adds the recipients of one mail. Returns the reason if they exceed a limit.
    fn add<'a>(
        &mut self,
        to: impl Iterator<Item = &'a str>,
        limits: &DecisionLimits,
    ) -> Option<String> {
        let most = limits.same_address;
        let mut against = None;
        for email in to {
            let email = email.trim().to_lowercase();
            let count = self.by_address.entry(email).or_default();
            *count += 1;
            if *count > most {
                against = Some(format!(
                    "more than {most} replies and forwards to one address"
                ));
            }
        }
        against
    }
}

/// Cuts overlong text, and notes each cut.
struct Cutter<'a> {
    limits: &'a DecisionLimits,
    repairs: Vec<String>,
}

impl Cutter<'_> {
    fn note(&mut self, what: String) {
        if !self.repairs.contains(&what) {
            self.repairs.push(what);
        }
    }

    fn chars(&mut self, text: &mut String, most: usize, what: &str) {
        if let Some((end, _)) = text.char_indices().nth(most) {
            text.truncate(end);
            self.note(format!("the {what} was cut to {most} characters"));
        }
    }

    /// Reduces a text to one line: line ends and other control characters become spaces.
    fn title(&mut self, text: &mut String, what: &str) {
        one_line(text);
        self.chars(text, self.limits.title_chars, what);
    }

    fn word(&mut self, text: &mut Option<String>, what: &str) {
        if let Some(text) = text {
            one_line(text);
            self.chars(text, self.limits.word_chars, what);
        }
    }

    fn reason(&mut self, text: &mut String) {
        one_line(text);
        self.chars(text, self.limits.word_chars, "reason");
    }

    fn body(&mut self, text: &mut String, what: &str) {
        let most = self.limits.body_bytes;
        if text.len() > most {
            text.truncate(text.floor_char_boundary(most));
            self.note(format!("the {what} was cut to {most} bytes"));
        }
    }

    /// Fails if a key is too long. A key is never cut, since two long keys could become equal.
    fn key(&mut self, key: &mut String, kind: &'static str) -> Result<(), InvalidDecision> {
        one_line(key);
        if key.is_empty() {
            return Err(InvalidDecision::EmptyKey(kind));
        }
        let most = self.limits.key_chars;
        if key.chars().nth(most).is_some() {
            return Err(InvalidDecision::LongKey { kind, most });
        }
        Ok(())
    }

    fn tags(&mut self, tags: &mut Vec<String>) {
        let most = self.limits.tags;
        tags.retain(|tag| !tag.trim().is_empty());
        if tags.len() > most {
            tags.truncate(most);
            self.note(format!("tags after the first {most} were left out"));
        }
        for tag in tags {
            one_line(tag);
            self.chars(tag, self.limits.tag_chars, "tag");
        }
    }

    fn fields(&mut self, fields: &mut BTreeMap<String, Value>) {
        let most = self.limits.fields;
        let mut left = self.limits.field_bytes;
        let mut kept = 0;
        let before = fields.len();
        fields.retain(|name, value| {
            let size = name.len() + size_of(value);
            let fits = kept < most && size <= left;
            if fits {
                kept += 1;
                left -= size;
            }
            fits
        });
        if fields.len() < before {
            self.note(format!(
                "{} fields over the limits were left out",
                before - fields.len()
            ));
        }
    }
}

/// Returns the approximate size of a value's JSON, in bytes.
fn size_of(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 4,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(_) | Value::Object(_) => value.to_string().len(),
    }
}

fn one_line(text: &mut String) {
    let trimmed = text.trim();
    if trimmed.contains(|c: char| c.is_control()) {
        *text = trimmed
            .split(|c: char| c.is_control())
            .filter(|piece| !piece.is_empty())
            .collect::<Vec<_>>()
            .join(" ");
    } else if trimmed.len() < text.len() {
        *text = trimmed.to_owned();
    }
}

pub(crate) fn shortened(text: &str, most: usize) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(most)
        .collect()
}

fn is_email(text: &str) -> bool {
    let odd =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | ';' | '"');
    text.rsplit_once('@')
        .is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty())
        && !text.contains(odd)
        && text.len() <= 320
}
