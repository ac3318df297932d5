//! The policy of a mailbox: the senders whose mail its rules see, and whether that mail may open tickets. Pure functions, so that
//! a replay applies the policy as the line did.

use crate::complete::{Completed, ReplyPolicy, STAFF, shortened};
use crate::context::{Context, Thread};
use crate::decision::{Action, Note, Outcome, Refusal, Reply, Visibility};
use crate::effects::person;
use crate::message::Message;
use crate::thread_policy::ThreadPolicy;

/// The rule named by decisions that the mailbox made itself.
pub const MAILBOX_RULE: &str = "mailbox";
const NO_NEW_TICKETS: &str = "new requests are refused here";
const FORGED: &str = "the sender may be forged: dmarc=fail";
/// The most characters of an address or a subject in a reason or an answer.
const QUOTED_CHARS: usize = 200;

/// The senders and new tickets that a mailbox accepts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailboxPolicy {
    /// `None` if everybody may write.
    pub senders: Option<SenderPolicy>,
    pub new_tickets: NewTickets,
    pub threads: ThreadPolicy,
}

/// The handling of a mail that would open a ticket.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NewTickets {
    #[default]
    Opened,
    Refused {
        /// The text sent to a person whose request is refused; `None` sends nothing.
        answer: Option<String>,
    },
}

/// The senders that a mailbox accepts, by the From of their mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPolicy {
    /// If empty, everybody that `deny` does not match.
    pub allow: Vec<SenderPattern>,
    /// Takes precedence over `allow`.
    pub deny: Vec<SenderPattern>,
    pub refused: RefusedSender,
}

/// The handling of mail from a sender that is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefusedSender {
    #[default]
    Ignored,
    Quarantined,
}

/// One entry of a list of senders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderPattern {
    /// One person, as [`person`] returns it.
    Address(String),
    /// Every address of this domain, which is in its ASCII form in lower case.
    Domain(String),
    /// Every address of a domain below this one.
    Subdomains(String),
}

impl NewTickets {
    /// Returns the decision with its new tickets replaced, if the mailbox opens none: by a note if the mail belongs to a ticket that
    /// its sender may write to, otherwise by an ignore with the mailbox's answer. If a rule failed on the mail, it is quarantined
    /// instead, because it may not be a request.
    pub fn apply(
        &self,
        completed: Completed,
        mail: &Message,
        context: &Context,
        has_failed: bool,
        policy: &ReplyPolicy<'_>,
    ) -> Completed {
        let NewTickets::Refused { answer } = self else {
            return completed;
        };
        if completed.outcome != Outcome::Ticket {
            return completed;
        }
        let thread = context.thread.as_ref().filter(|thread| thread.authorised);
        if let Some(thread) = thread {
            return on_thread(completed, thread);
        }
        let (outcome, disposition) = match has_failed {
            true => {
                let reason = format!("{NO_NEW_TICKETS}, and a rule failed on this mail");
                (Outcome::Quarantined, Action::Quarantine { reason })
            }
            false => {
                let reason = NO_NEW_TICKETS.to_owned();
                (Outcome::Ignored, Action::Ignore { reason })
            }
        };
        let mut refused = completed.refused;
        let mut actions = vec![disposition];
        for action in completed.actions {
            match action {
                // The rule's own reply is about the ticket.
                Action::Ticket(_) | Action::Reply(_) => {
                    refused.push(refusal(action, NO_NEW_TICKETS))
                }
                action => actions.push(action),
            }
        }
        if let Some(answer) = answer.as_ref().filter(|_| !has_failed) {
            let answer = Action::Reply(Reply {
                text: filled(answer, mail),
                html: None,
                once: true,
            });
            let disowned = mail.authentication.disowns_sender();
            let forged = || disowned.then(|| FORGED.to_owned());
            let staff = context.staff.then(|| STAFF.to_owned());
            match staff.or_else(|| policy.against_reply(mail)).or_else(forged) {
                Some(reason) => refused.push(refusal(answer, &reason)),
                None => actions.push(answer),
            }
        }
        Completed {
            outcome,
            actions,
            refused,
            repairs: completed.repairs,
        }
    }
}

impl SenderPolicy {
    /// Returns the decision about a mail whose sender is not accepted; `None` if the rules decide it.
    pub fn refusal(&self, mail: &Message) -> Option<Completed> {
        let reason = self.against(mail)?;
        let (outcome, action) = match self.refused {
            RefusedSender::Ignored => (Outcome::Ignored, Action::Ignore { reason }),
            RefusedSender::Quarantined => (Outcome::Quarantined, Action::Quarantine { reason }),
        };
        Some(Completed {
            outcome,
            actions: vec![action],
            refused: Vec::new(),
            repairs: Vec::new(),
        })
    }

    fn against(&self, mail: &Message) -> Option<String> {
        let Some(from) = &mail.from else {
            let some_only = !self.allow.is_empty();
            return some_only
                .then(|| "the mail has no readable sender, and only some are allowed".to_owned());
        };
        let person = person(&from.email);
        let named = |list: &[SenderPattern]| list.iter().any(|it| it.matches(&person));
        let shown = shortened(&from.email, QUOTED_CHARS);
        if named(&self.deny) {
            Some(format!("{shown} is a denied sender"))
        } else if self.allow.is_empty() {
            None
        } else if !named(&self.allow) {
            Some(format!("{shown} is not an allowed sender"))
        } else {
            let disowned = mail.authentication.disowns_sender();
            disowned.then(|| format!("{shown} is an allowed sender, but dmarc=fail"))
        }
    }
}

impl SenderPattern {
    /// Parses `ann@acme.example`, `acme.example` or `*.acme.example`. `is_sound` checks a domain.
    pub fn parse(text: &str, is_sound: impl Fn(&str) -> bool) -> Option<Self> {
        if let Some((local, domain)) = text.rsplit_once('@') {
            let odd = |c: char| c.is_whitespace() || c.is_control() || "*<>,;".contains(c);
            let sound = !local.is_empty() && !local.contains(odd) && is_sound(domain);
            return sound.then(|| SenderPattern::Address(person(text)));
        }
        let (domain, of): (_, fn(String) -> Self) = match text.strip_prefix("*.") {
            Some(domain) => (domain, SenderPattern::Subdomains),
            None => (text, SenderPattern::Domain),
        };
        let ascii = idna::domain_to_ascii(domain).ok()?;
        is_sound(domain).then(|| of(ascii))
    }

    fn matches(&self, sender: &str) -> bool {
        let domain = || {
            let domain = sender.rsplit_once('@').map_or("", |(_, domain)| domain);
            domain.trim_end_matches('.')
        };
        match self {
            SenderPattern::Address(person) => {
                let (local, _) = sender.rsplit_once('@').unwrap_or_default();
                let (own, at) = person.rsplit_once('@').unwrap_or_default();
                own == local && at == domain()
            }
            SenderPattern::Domain(own) => own == domain(),
            SenderPattern::Subdomains(own) => domain()
                .strip_suffix(own.as_str())
                .is_some_and(|rest| rest.len() > 1 && rest.ends_with('.')),
        }
    }
}

/// Returns the decision with its first ticket as a note on the mail's own ticket.
fn on_thread(completed: Completed, thread: &Thread) -> Completed {
    let reason = format!("{NO_NEW_TICKETS}; the mail belongs to {}", thread.ticket);
    let mut refused = completed.refused;
    let mut actions = Vec::with_capacity(completed.actions.len());
    let mut is_noted = false;
    for action in completed.actions {
        let Action::Ticket(ticket) = &action else {
            actions.push(action);
            continue;
        };
        if !std::mem::replace(&mut is_noted, true) {
            actions.push(Action::Note(Note {
                ticket: Some(thread.ticket.clone()),
                body: ticket.body.clone(),
                visibility: Visibility::default(),
            }));
        }
        refused.push(refusal(action, &reason));
    }
    Completed {
        outcome: Outcome::Note,
        actions,
        refused,
        repairs: completed.repairs,
    }
}

fn refusal(action: Action, reason: &str) -> Refusal {
    Refusal {
        action,
        reason: reason.to_owned(),
        held_at: None,
    }
}

/// Replaces `{subject}` and `{sender}`. Text of the mail is not searched for placeholders.
fn filled(template: &str, mail: &Message) -> String {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        let (value, taken) = if rest.starts_with(SUBJECT) {
            (mail.subject.as_str(), SUBJECT.len())
        } else if rest.starts_with(SENDER) {
            (mail.from.as_ref().map_or("", |it| &it.email), SENDER.len())
        } else {
            filled.push('{');
            rest = &rest[1..];
            continue;
        };
        filled.push_str(&shortened(value.trim(), QUOTED_CHARS));
        rest = &rest[taken..];
    }
    filled.push_str(rest);
    filled
}

const SUBJECT: &str = "{subject}";
const SENDER: &str = "{sender}";
/// The placeholders of [`NewTickets::Refused`]'s answer.
pub const ANSWER_PLACEHOLDERS: [&str; 2] = [SUBJECT, SENDER];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::complete::DecisionLimits;
    use crate::context::ThreadMethod;
    use crate::decision::Ticket;
    use crate::grants::ActionKinds;
    use crate::message::AuthVerdict;
    use crate::parse::parse;

    fn mail(headers: &str) -> Message {
        let text = format!("{headers}\r\n\r\nHello");
        parse(&text.into_bytes().into(), &Default::default(), &[])
    }

    fn ann() -> Message {
        mail("From: Ann <Ann@Acme.example>\r\nSubject: {sender} of\r\n a printer")
    }

    fn patterns(texts: &[&str]) -> Vec<SenderPattern> {
        let parse = |text: &&str| SenderPattern::parse(text, |_| true).expect("a pattern");
        texts.iter().map(parse).collect()
    }

    fn against(allow: &[&str], deny: &[&str], mail: &Message) -> Option<String> {
        let policy = SenderPolicy {
            allow: patterns(allow),
            deny: patterns(deny),
            refused: RefusedSender::Ignored,
        };
        policy.against(mail)
    }

    fn context(authorised: Option<bool>) -> Context {
        Context {
            tenant: "acme".into(),
            mailbox: "support".into(),
            thread: authorised.map(|authorised| Thread {
                ticket: "T-7".into(),
                method: ThreadMethod::MessageId,
                authorised,
            }),
            ..Context::default()
        }
    }

    /// Applies the switch to a decision of these actions.
    fn applied(
        actions: Vec<Action>,
        outcome: Outcome,
        mail: &Message,
        thread: Option<bool>,
        has_failed: bool,
    ) -> Completed {
        let limits = DecisionLimits::default();
        let policy = ReplyPolicy {
            own_addresses: &["own@acme.example".to_owned()],
            has_outgoing: true,
            granted: ActionKinds::ALL,
            limits: &limits,
        };
        let completed = Completed {
            outcome,
            actions,
            refused: Vec::new(),
            repairs: Vec::new(),
        };
        let refuse = NewTickets::Refused {
            answer: Some("{sender}: \"{subject}\" {other}".into()),
        };
        refuse.apply(completed, mail, &context(thread), has_failed, &policy)
    }

    fn ticket() -> Action {
        Action::Ticket(Ticket {
            body: Some("Hello".into()),
            ..Ticket::default()
        })
    }

    fn forward() -> Action {
        Action::Forward {
            to: vec!["boss@acme.example".into()],
        }
    }

    fn reply() -> Action {
        Action::Reply(Reply {
            text: "This is {ticket}.".into(),
            html: None,
            once: false,
        })
    }

    fn reasons(completed: &Completed) -> Vec<&str> {
        let reasons = completed.refused.iter().map(|it| it.reason.as_str());
        reasons.collect()
    }

    #[test]
    fn a_new_request_is_answered_and_opens_no_ticket() {
        let actions = vec![ticket(), reply(), forward()];
        let done = applied(actions, Outcome::Ticket, &ann(), None, false);
        assert_eq!(done.outcome, Outcome::Ignored);
        let [Action::Ignore { reason }, kept, Action::Reply(answer)] = &done.actions[..] else {
            panic!("{:?}", done.actions);
        };
        assert_eq!((reason.as_str(), kept), (NO_NEW_TICKETS, &forward()));
        // The subject contains a placeholder, which is left alone.
        assert_eq!(
            answer.text,
            "Ann@acme.example: \"{sender} of a printer\" {other}"
        );
        assert!(answer.once);
        assert_eq!(reasons(&done), [NO_NEW_TICKETS; 2]);
    }

    #[test]
    fn what_opens_no_ticket_is_left_as_it_is() {
        let alert = || {
            vec![Action::Ignore {
                reason: "noise".into(),
            }]
        };
        let done = applied(alert(), Outcome::Ignored, &ann(), None, false);
        assert_eq!((done.actions, done.refused.len()), (alert(), 0));
        let open = NewTickets::Opened;
        let limits = DecisionLimits::default();
        let policy = ReplyPolicy {
            own_addresses: &[],
            has_outgoing: true,
            granted: ActionKinds::ALL,
            limits: &limits,
        };
        let completed = Completed {
            outcome: Outcome::Ticket,
            actions: vec![ticket()],
            refused: Vec::new(),
            repairs: Vec::new(),
        };
        let done = open.apply(completed.clone(), &ann(), &context(None), false, &policy);
        assert_eq!(done, completed);
    }

    #[test]
    fn a_reply_joins_its_ticket_even_if_the_rule_opens_a_new_one() {
        let actions = vec![ticket(), reply()];
        let done = applied(actions, Outcome::Ticket, &ann(), Some(true), false);
        assert_eq!(done.outcome, Outcome::Note);
        let [Action::Note(note), kept] = &done.actions[..] else {
            panic!("{:?}", done.actions);
        };
        assert_eq!(note.ticket.as_deref(), Some("T-7"));
        assert_eq!((note.body.as_deref(), kept), (Some("Hello"), &reply()));
        assert_eq!(
            reasons(&done),
            ["new requests are refused here; the mail belongs to T-7"]
        );
        // A stranger who names a ticket gets no way in.
        let done = applied(vec![ticket()], Outcome::Ticket, &ann(), Some(false), false);
        assert_eq!(done.outcome, Outcome::Ignored);
    }

    #[test]
    fn after_a_failed_rule_the_mail_is_kept_for_a_person_and_not_answered() {
        let actions = vec![ticket()];
        let done = applied(actions, Outcome::Ticket, &ann(), None, true);
        assert_eq!(done.outcome, Outcome::Quarantined);
        assert!(matches!(&done.actions[..], [Action::Quarantine { .. }]));
    }

    #[test]
    fn automatic_mail_and_our_own_get_no_answer() {
        for (headers, reason) in [
            (
                "From: a@x.example\r\nAuto-Submitted: auto-replied",
                "an automatic reply is never answered",
            ),
            (
                "From: a@x.example\r\nX-Postroom-Loop: 1",
                "a mail that passed through Postroom is never answered",
            ),
            (
                "From: own+tag@acme.example",
                "the answer would go to one of our own addresses",
            ),
        ] {
            let done = applied(vec![ticket()], Outcome::Ticket, &mail(headers), None, false);
            assert_eq!(done.outcome, Outcome::Ignored, "{headers}");
            assert_eq!(reasons(&done), [NO_NEW_TICKETS, reason]);
        }
    }

    /// An answer to a forged sender would carry the forger's subject to a stranger.
    #[test]
    fn a_disowned_sender_gets_no_answer() {
        let mut forged = ann();
        forged.authentication.dmarc = AuthVerdict::Fail;
        let done = applied(vec![ticket()], Outcome::Ticket, &forged, None, false);
        assert_eq!(done.outcome, Outcome::Ignored);
        assert_eq!(reasons(&done), [NO_NEW_TICKETS, FORGED]);
    }

    #[test]
    fn senders_are_matched_by_address_domain_and_subdomain() {
        for (pattern, sender, matches) in [
            ("ann@acme.example", "ann@acme.example", true),
            ("ann@acme.example", "Ann+7@ACME.example", true),
            ("ann@acme.example", "ann@acme.example.", true),
            ("ann@acme.example", "joann@acme.example", false),
            ("acme.example", "bob@acme.example", true),
            ("acme.example", "bob@sub.acme.example", false),
            ("acme.example", "bob@notacme.example", false),
            ("acme.example", "acme.example@evil.example", false),
            ("*.acme.example", "bob@sub.acme.example", true),
            ("*.acme.example", "bob@deep.sub.acme.example", true),
            ("*.acme.example", "bob@acme.example", false),
            ("*.acme.example", "bob@.acme.example", false),
            ("*.acme.example", "bob@notacme.example", false),
            ("b\u{fc}cher.example", "x@xn--bcher-kva.example", true),
            ("xn--bcher-kva.example", "x@B\u{dc}CHER.example", true),
        ] {
            let parsed = &patterns(&[pattern])[0];
            assert_eq!(
                parsed.matches(&person(sender)),
                matches,
                "{pattern} {sender}"
            );
        }
        for text in ["", "*@acme.example", "@acme.example", "a b@acme.example"] {
            assert_eq!(
                SenderPattern::parse(text, |it| !it.is_empty()),
                None,
                "{text}"
            );
        }
    }

    #[test]
    fn denied_senders_come_first_then_only_the_allowed_are_accepted() {
        let ann = ann();
        let denied = Some("Ann@acme.example is a denied sender".to_owned());
        let not_allowed = Some("Ann@acme.example is not an allowed sender".to_owned());
        assert_eq!(against(&[], &["other.example"], &ann), None);
        assert_eq!(against(&["acme.example"], &[], &ann), None);
        assert_eq!(against(&[], &["acme.example"], &ann), denied);
        let both = against(&["acme.example"], &["ann@acme.example"], &ann);
        assert_eq!(both, denied);
        assert_eq!(against(&["other.example"], &[], &ann), not_allowed);
    }

    #[test]
    fn a_sender_that_cannot_be_read_or_is_disowned_is_not_allowed() {
        let nobody = mail("Subject: x");
        let reason = "the mail has no readable sender, and only some are allowed";
        assert_eq!(
            against(&["acme.example"], &[], &nobody),
            Some(reason.into())
        );
        assert_eq!(against(&[], &["acme.example"], &nobody), None);
        let mut forged = ann();
        forged.authentication.dmarc = AuthVerdict::Fail;
        assert_eq!(
            against(&["acme.example"], &[], &forged),
            Some("Ann@acme.example is an allowed sender, but dmarc=fail".into())
        );
        assert_eq!(against(&[], &["other.example"], &forged), None);
    }

    #[test]
    fn refused_senders_are_ignored_or_quarantined() {
        for (refused, outcome) in [
            (RefusedSender::Ignored, Outcome::Ignored),
            (RefusedSender::Quarantined, Outcome::Quarantined),
        ] {
            let policy = SenderPolicy {
                allow: Vec::new(),
                deny: patterns(&["*.example", "acme.example"]),
                refused,
            };
            let done = policy.refusal(&ann()).expect("a refusal");
            assert_eq!(done.outcome, outcome);
        }
    }
}
