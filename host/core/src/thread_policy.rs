//! The policy of tickets: who may add to them, and what happens to the mail of others. Pure, so that a replay applies the policy as
//! the line did.

use crate::complete::{Completed, DecisionLimits, own_ticket};
use crate::context::{Context, StepResult, ThreadMethod};
use crate::decision::{Action, Outcome};
use crate::message::Message;
use crate::thread::Threading;

/// The handling of mail that belongs to a ticket of the client and may not be added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ThreadPolicy {
    pub outsiders: OutsiderPolicy,
    pub unverified: UnverifiedPolicy,
}

/// The handling of a mail on a ticket whose sender may not write to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OutsiderPolicy {
    /// The rules decide it, and a ticket that they open names the other one.
    #[default]
    NewTicket,
    Quarantined,
}

/// The handling of a mail on a ticket whose sender is not proven: there is no `dmarc=pass` of a trusted boundary and no valid reply
/// token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnverifiedPolicy {
    /// It is treated as if the sender were proven, unless the boundary says dmarc=fail.
    #[default]
    Accepted,
    NewTicket,
    Quarantined,
}

impl ThreadPolicy {
    /// Withdraws the right to write to the thread if the sender is not proven enough.
    pub fn verify(&self, mail: &Message, mut threading: Threading) -> Threading {
        let Some(thread) = threading.thread.as_mut().filter(|it| it.authorised) else {
            return threading;
        };
        let says_who = matches!(
            thread.method,
            ThreadMethod::ReplyToken | ThreadMethod::Bounce
        );
        let is_proven = says_who || mail.authentication.confirms_sender();
        let is_enough = is_proven || self.unverified == UnverifiedPolicy::Accepted;
        if is_enough && !mail.authentication.disowns_sender() {
            return threading;
        }
        thread.authorised = false;
        let mut steps = threading.steps.iter_mut();
        if let Some(found) = steps.rfind(|it| it.result == StepResult::Found) {
            found.result = StepResult::Unverified;
        }
        threading
    }

    /// Returns the decision about a mail that is set aside because its sender may not write to its ticket; `None` if the rules decide
    /// it.
    pub fn refusal(&self, context: &Context) -> Option<Completed> {
        let thread = context.thread.as_ref().filter(|it| !it.authorised)?;
        let mut steps = context.steps.iter();
        let step = steps.find(|it| it.ticket.as_ref() == Some(&thread.ticket))?;
        let ticket = &thread.ticket;
        let reason = match step.result {
            StepResult::Outsider if self.outsiders == OutsiderPolicy::Quarantined => {
                format!("the sender may not write to {ticket}")
            }
            StepResult::Unverified if self.unverified == UnverifiedPolicy::Quarantined => {
                format!("it is not proven that the sender of this mail for {ticket} wrote it")
            }
            _ => return None,
        };
        Some(Completed {
            outcome: Outcome::Quarantined,
            actions: vec![Action::Quarantine { reason }],
            refused: Vec::new(),
            repairs: Vec::new(),
        })
    }

    /// Returns the decision as its thread permits: a note on a ticket that the mail may not be added to becomes a ticket of its own, and
    /// a new ticket names that one.
    pub fn apply(
        &self,
        mut completed: Completed,
        mail: &Message,
        context: &Context,
        limits: &DecisionLimits,
    ) -> Completed {
        let Some(thread) = context.thread.as_ref().filter(|it| !it.authorised) else {
            return completed;
        };
        for action in &mut completed.actions {
            match action {
                Action::Note(note) if note.ticket.as_ref() == Some(&thread.ticket) => {
                    let (mut ticket, repairs) =
                        own_ticket(std::mem::take(note), mail, context, limits);
                    ticket.related = Some(thread.ticket.clone());
                    *action = Action::Ticket(ticket);
                    completed.outcome = Outcome::Ticket;
                    completed.repairs.extend(repairs);
                    completed.repairs.push(format!(
                        "the note on {} became a ticket of its own, because the mail may not be added there",
                        thread.ticket
                    ));
                }
                Action::Ticket(ticket) => ticket.related = Some(thread.ticket.clone()),
                _ => {}
            }
        }
        completed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Thread, ThreadStep};
    use crate::decision::{Note, Ticket};
    use crate::message::AuthVerdict;
    use crate::parse::parse;

    fn mail() -> Message {
        let text = b"From: eve@evil.example\r\nSubject: [T-7] hi\r\n\r\nHello".as_slice();
        parse(&text.into(), &Default::default(), &[])
    }

    fn found(method: ThreadMethod, result: StepResult) -> Threading {
        Threading {
            thread: Some(Thread {
                ticket: "T-7".into(),
                method,
                authorised: result == StepResult::Found,
            }),
            steps: vec![ThreadStep {
                method,
                evidence: "a@x".into(),
                result,
                ticket: Some("T-7".into()),
            }],
        }
    }

    fn context(threading: Threading) -> Context {
        Context {
            thread: threading.thread,
            steps: threading.steps,
            ..Context::default()
        }
    }

    /// Pain 20 of mail intake: a spoofed From becomes the customer.
    #[test]
    fn pain_20_a_spoofed_sender_writes_to_no_ticket() {
        use AuthVerdict::*;
        use ThreadMethod::*;
        use UnverifiedPolicy::*;
        let cases = [
            (Accepted, None, MessageId, true),
            (Accepted, Pass, MessageId, true),
            (Accepted, Fail, MessageId, false),
            (Accepted, Fail, ReplyToken, false),
            (NewTicket, None, MessageId, false),
            (NewTicket, None, Subject, false),
            (NewTicket, Pass, Subject, true),
            (NewTicket, None, ReplyToken, true),
            (NewTicket, None, Bounce, true),
            (Quarantined, None, OwnMessageId, false),
            (Quarantined, Fail, ReplyToken, false),
        ];
        for (unverified, dmarc, method, expected) in cases {
            let policy = ThreadPolicy {
                unverified,
                ..ThreadPolicy::default()
            };
            let mut mail = mail();
            mail.authentication.dmarc = dmarc;
            let verified = policy.verify(&mail, found(method, StepResult::Found));
            let case = format!("{unverified:?} {dmarc:?} {method}");
            let authorised = verified.thread.as_ref().map(|it| it.authorised);
            assert_eq!(authorised, Some(expected), "{case}");
            let result = match expected {
                true => StepResult::Found,
                false => StepResult::Unverified,
            };
            assert_eq!(verified.steps[0].result, result, "{case}");
            let refusal = policy.refusal(&context(verified));
            assert_eq!(
                refusal.is_some(),
                !expected && unverified == Quarantined,
                "{case}"
            );
        }
    }

    #[test]
    fn an_outsiders_mail_is_set_aside_where_the_client_wants_it() {
        let context = context(found(ThreadMethod::Subject, StepResult::Outsider));
        assert!(ThreadPolicy::default().refusal(&context).is_none());
        let strict = ThreadPolicy {
            outsiders: OutsiderPolicy::Quarantined,
            ..ThreadPolicy::default()
        };
        let refusal = strict.refusal(&context).unwrap();
        assert_eq!(refusal.outcome, Outcome::Quarantined);
        let too_old = self::context(found(ThreadMethod::Subject, StepResult::TooOld));
        assert!(strict.refusal(&too_old).is_none());
    }

    /// Pain 15 of mail intake: customer B writes into A's ticket.
    #[test]
    fn pain_15_a_rules_note_for_an_outsider_becomes_a_ticket_that_names_the_other() {
        let note = |ticket: &str| {
            Action::Note(Note {
                ticket: Some(ticket.into()),
                body: Some("Give me the password".into()),
                ..Note::default()
            })
        };
        let completed = |action: Action, outcome| Completed {
            outcome,
            actions: vec![action],
            refused: Vec::new(),
            repairs: Vec::new(),
        };
        let limits = DecisionLimits::default();
        let apply = |completed, result| {
            let context = context(found(ThreadMethod::MessageId, result));
            ThreadPolicy::default().apply(completed, &mail(), &context, &limits)
        };
        let noted = apply(completed(note("T-7"), Outcome::Note), StepResult::Outsider);
        assert_eq!(noted.outcome, Outcome::Ticket);
        let expected = Ticket {
            title: Some("[T-7] hi".into()),
            body: Some("Give me the password".into()),
            requester: Some("eve@evil.example".into()),
            related: Some("T-7".into()),
            ..Ticket::default()
        };
        assert_eq!(noted.actions, [Action::Ticket(expected)]);
        assert_eq!(noted.repairs.len(), 1);
        // A note that the rule puts on another ticket for its own reasons stays one.
        let other = apply(completed(note("T-8"), Outcome::Note), StepResult::Outsider);
        assert_eq!(other.outcome, Outcome::Note);
        let ticket = Action::Ticket(Ticket::default());
        let opened = apply(completed(ticket, Outcome::Ticket), StepResult::TooOld);
        let [Action::Ticket(ticket)] = &opened.actions[..] else {
            panic!("{opened:?}");
        };
        assert_eq!(ticket.related.as_deref(), Some("T-7"));
        let permitted = apply(completed(note("T-7"), Outcome::Note), StepResult::Found);
        assert_eq!(permitted.outcome, Outcome::Note);
    }
}
