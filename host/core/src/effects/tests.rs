//! Effects of decisions, without a database.

use super::*;
use crate::context::Thread;
use crate::outgoing::MailKind;
use crate::raw::ContentHash;

/// A decision about Ann's mail, with everything it is made of.
struct Case {
    content: ContentHash,
    is_old: bool,
    decision: Decision,
    mail: MailFacts,
    outlets: Outlets,
}

impl Case {
    fn committing(&self) -> Committing<'_> {
        Committing {
            identity: MailIdentity {
                tenant: "acme",
                mailbox: "support",
                message_id: &self.mail.message_id,
                content: &self.content,
                repetition: 0,
            },
            is_old: self.is_old,
            received_ms: 1_000_000,
            decision: &self.decision,
            mail: &self.mail,
            outlets: &self.outlets,
        }
    }

    /// Returns the effects if nothing is known but the ticket numbers, from 1.
    fn effects(&self) -> Effects<'_> {
        self.effects_with(BTreeMap::new(), SentLately::default())
    }

    fn effects_with(&self, requesters: BTreeMap<i64, String>, sent: SentLately) -> Effects<'_> {
        let numbers = self.committing().needs().numbers;
        let facts = EffectInputs {
            numbers: (1..).take(numbers).collect(),
            requesters,
            sent,
            is_answered: false,
        };
        effects(self.committing(), &InstallationSecret::new([7; 32]), facts)
    }
}

fn case(outcome: Outcome, actions: Vec<Action>) -> Case {
    let ann = Address {
        name: None,
        email: "Ann@acme.example".into(),
    };
    Case {
        content: ContentHash::of(b"mail"),
        is_old: false,
        decision: Decision {
            outcome,
            actions,
            refused: Vec::new(),
            rule: "r".into(),
            rule_hash: "h".into(),
            generation: 1,
            thread: None,
            classified: None,
            rules: Vec::new(),
            troubles: Vec::new(),
            repairs: Vec::new(),
            log: Vec::new(),
            elapsed_us: 1,
            decided_at: None,
            called_from: Vec::new(),
            provenance: Default::default(),
        },
        mail: MailFacts {
            message_id: "a@x".into(),
            references: vec!["newer@y".into(), "older@y".into()],
            from: Some(ann),
            subject: "About a".into(),
            participants: vec!["ann@acme.example".into(), "bob@partner.example".into()],
            ..MailFacts::default()
        },
        outlets: Outlets {
            routes: Routes {
                ticket: vec!["psa".into(), "chat".into()],
                note: vec!["psa".into()],
                alert: vec!["pager".into()],
            },
            deliver_old: false,
            outgoing: Some(OutgoingRoute {
                name: "out".into(),
                from_domain: "acme.example".into(),
                automatic: AutomaticLimits::default(),
            }),
            alerts: AlertPolicy::default(),
        },
    }
}

fn ticket() -> Action {
    Action::Ticket(Ticket {
        requester: Some("Carl <Carl@acme.example>".into()),
        ..Ticket::default()
    })
}

fn note(ticket: &str) -> Action {
    Action::Note(Note {
        ticket: Some(ticket.into()),
        ..Note::default()
    })
}

fn reply(text: &str) -> Action {
    Action::Reply(Reply {
        text: text.into(),
        html: None,
        once: false,
    })
}

fn forward(to: &[&str]) -> Action {
    Action::Forward {
        to: to.iter().map(|to| (*to).to_owned()).collect(),
    }
}

fn set(emails: &[&str]) -> BTreeSet<String> {
    emails.iter().map(|email| (*email).to_owned()).collect()
}

fn mails<'e, 'a>(effects: &'e Effects<'a>) -> Vec<&'e Dispatch<'a>> {
    let mails = effects.applied.iter().filter_map(|effect| match effect {
        Effect::Mail(dispatch) => Some(&**dispatch),
        _ => None,
    });
    mails.collect()
}

#[test]
fn a_ticket_is_joined_by_its_people_and_told_to_each_target_once() {
    let case = case(Outcome::Ticket, vec![ticket(), ticket()]);
    let effects = case.effects();
    assert_eq!(effects.ticket, Some(1));
    let mut keys = BTreeSet::new();
    for (effect, expected) in effects.applied.iter().zip([1, 2]) {
        let Effect::Ticket {
            number,
            participants,
            notices,
            ..
        } = effect
        else {
            panic!("{effect:?}");
        };
        assert_eq!(*number, expected);
        let people = [
            "ann@acme.example",
            "bob@partner.example",
            "carl@acme.example",
        ];
        assert_eq!(*participants, set(&people));
        assert_eq!(notices.kind, EventKind::TicketCreated);
        let targets: Vec<_> = notices.targets.iter().map(|(target, _)| *target).collect();
        assert_eq!(targets, ["psa", "chat"]);
        keys.extend(notices.targets.iter().map(|(_, key)| key.clone()));
    }
    assert_eq!(keys.len(), 4);
}

#[test]
fn a_mail_of_many_addresses_makes_few_of_them_participants() {
    let mut case = case(Outcome::Ticket, vec![ticket()]);
    case.mail.participants = (0..1_000).map(|n| format!("{n}@x.example")).collect();
    let effects = case.effects();
    let [Effect::Ticket { participants, .. }] = &effects.applied[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(participants.len(), PARTICIPANTS);
    assert!(participants.contains("carl@acme.example"));
}

#[test]
fn a_reply_names_the_new_ticket_and_threads() {
    let actions = vec![
        ticket(),
        reply("This is {ticket}."),
        forward(&["Boss <Boss@acme.example>"]),
    ];
    let case = case(Outcome::Ticket, actions);
    let effects = case.effects();
    let mails = mails(&effects);
    let first = &mails[0].mail;
    assert_eq!((first.kind, mails[0].outgoing), (MailKind::Reply, "out"));
    assert_eq!(first.to[0].email, "Ann@acme.example");
    assert_eq!(first.subject, "Re: [T-1] About a");
    assert_eq!(first.text, "This is T-1.");
    assert_eq!(first.in_reply_to.as_deref(), Some("a@x"));
    assert_eq!(first.references, ["older@y", "newer@y", "a@x"]);
    let (local, domain) = first.message_id.split_once('@').unwrap();
    assert_eq!((local.len(), domain), (32, "acme.example"));
    assert_eq!(
        (mails[0].ticket, &mails[0].participants),
        (Some(1), &set(&[]))
    );

    let second = &mails[1].mail;
    assert_eq!(
        (second.kind, second.subject.as_str()),
        (MailKind::Forward, "Fwd: About a")
    );
    assert_ne!(second.message_id, first.message_id);
    assert_ne!(mails[0].idempotency_key, mails[1].idempotency_key);
    assert_eq!(mails[1].participants, set(&["boss@acme.example"]));
}

#[test]
fn a_forward_of_a_strangers_note_makes_nobody_a_participant() {
    for (authorised, expected) in [(true, set(&["tech@msp.example"])), (false, set(&[]))] {
        let actions = vec![note("T-9"), forward(&["tech@msp.example"])];
        let mut case = case(Outcome::Note, actions);
        case.decision.thread = Some(Thread {
            ticket: "T-9".into(),
            method: crate::ThreadMethod::MessageId,
            authorised,
        });
        let effects = case.effects();
        assert_eq!(effects.ticket, Some(9));
        assert_eq!(mails(&effects)[0].participants, expected);
    }
}

#[test]
fn a_note_is_joined_only_when_the_requester_is_proven_to_have_written_it() {
    let ann = || BTreeMap::from([(9, "ann@acme.example".to_owned())]);
    for (confirmed, requesters, joins) in [
        (true, ann(), true),
        (false, ann(), false),
        (true, BTreeMap::from([(9, "bob@x".to_owned())]), false),
        (true, BTreeMap::new(), false),
    ] {
        let mut case = case(Outcome::Note, vec![note("T-9")]);
        case.mail.confirmed = confirmed;
        let needs = case.committing().needs();
        assert_eq!(needs.requesters, if confirmed { vec![9] } else { vec![] });
        let effects = case.effects_with(requesters, SentLately::default());
        let [
            Effect::Note {
                number,
                participants,
                ..
            },
        ] = &effects.applied[..]
        else {
            panic!("{effects:?}");
        };
        assert_eq!((*number, !participants.is_empty()), (Some(9), joins));
    }
}

#[test]
fn old_mail_is_neither_told_nor_answered() {
    let actions = vec![ticket(), reply("Thanks"), forward(&["boss@acme.example"])];
    let mut case = case(Outcome::Ticket, actions);
    case.is_old = true;
    assert_eq!(case.committing().needs().sent, None);
    for deliver_old in [false, true] {
        case.outlets.deliver_old = deliver_old;
        let effects = case.effects();
        let [Effect::Ticket { notices, .. }] = &effects.applied[..] else {
            panic!("{effects:?}");
        };
        assert_eq!(!notices.targets.is_empty(), deliver_old);
        let refused = [(1, OLD_MAIL.to_owned()), (2, OLD_MAIL.to_owned())];
        assert_eq!(effects.refused, refused);
    }
}

#[test]
fn mail_that_cannot_leave_is_refused_and_the_rest_is_carried_out() {
    let mut case = case(Outcome::Ticket, vec![reply("Thanks"), ticket()]);
    case.mail.from = None;
    let refused = |case: &Case| {
        let effects = case.effects();
        assert_eq!(effects.applied.len(), 1, "{effects:?}");
        effects.refused
    };
    assert_eq!(refused(&case), [(0, NO_SENDER.to_owned())]);
    case.decision.actions[0] = forward(&["boss@acme.example"]);
    case.outlets.outgoing = None;
    assert_eq!(case.committing().needs().sent, None);
    assert_eq!(refused(&case), [(0, NO_OUTGOING.to_owned())]);
}

#[test]
fn a_brake_counts_the_mails_of_the_same_decision() {
    let to = ["bot+1@acme.example"];
    let mut case = case(
        Outcome::Ignored,
        vec![forward(&to), forward(&to), forward(&["boss@acme.example"])],
    );
    case.outlets
        .outgoing
        .as_mut()
        .unwrap()
        .automatic
        .per_address = 3;
    let needs = case.committing().needs().sent.unwrap();
    assert_eq!(
        needs.persons,
        set(&["boss@acme.example", "bot@acme.example"])
    );
    assert_eq!(needs.ticket, None);
    let sent = SentLately {
        persons: BTreeMap::from([("bot@acme.example".to_owned(), 2)]),
        ..SentLately::default()
    };
    let effects = case.effects_with(BTreeMap::new(), sent);
    assert_eq!(mails(&effects).len(), 2);
    let reason =
        "3 automatic mails left for bot@acme.example within an hour (limits.automatic.per_address)";
    assert_eq!(effects.refused, [(1, reason.to_owned())]);
    assert_eq!(effects.brakes[0].what, "bot@acme.example");
}

#[test]
fn what_was_sent_for_a_ticket_matters_where_it_is_noted_on() {
    let case = case(Outcome::Note, vec![note("T-9"), reply("Noted on {ticket}")]);
    assert_eq!(case.committing().needs().sent.unwrap().ticket, Some(9));
    let sent = SentLately {
        ticket: 20,
        ..SentLately::default()
    };
    let effects = case.effects_with(BTreeMap::new(), sent);
    assert_eq!(effects.brakes[0].what, "T-9");
}

#[test]
fn effects_are_a_function_of_the_mail_and_its_decision() {
    let actions = || vec![ticket(), reply("Thanks")];
    let (one, again) = (
        case(Outcome::Ticket, actions()),
        case(Outcome::Ticket, actions()),
    );
    assert_eq!(one.effects(), again.effects());
}

fn answer(mail: MailFacts, is_answered: bool) -> (Case, EffectInputs) {
    let once = Action::Reply(Reply {
        text: "No requests here.".into(),
        html: None,
        once: true,
    });
    let mut case = case(Outcome::Ignored, vec![once.clone(), once]);
    case.mail = mail;
    let facts = EffectInputs {
        is_answered,
        ..EffectInputs::default()
    };
    (case, facts)
}

#[test]
fn an_answer_that_is_sent_once_is_recognised_by_every_mail_of_its_conversation() {
    let secret = InstallationSecret::new([7; 32]);
    let (case, facts) = answer(case(Outcome::Ignored, Vec::new()).mail, false);
    let needs = case.committing().needs();
    let asked = needs.conversation.unwrap();
    assert_eq!(asked.person, "ann@acme.example");
    assert_eq!(asked.message_ids, ["newer@y", "older@y", "a@x"]);
    let effects = effects(case.committing(), &secret, facts);
    let [sent] = mails(&effects)[..] else {
        panic!("{effects:?}");
    };
    let own = sent.mail.message_id.clone();
    let kept = sent.conversation.clone().unwrap().message_ids;
    assert_eq!(kept, ["older@y", "a@x", own.as_str()]);
    // The second one of the same decision.
    assert_eq!(effects.refused, [(1, ANSWERED.to_owned())]);
}

#[test]
fn an_answered_person_gets_no_second_answer_and_a_long_conversation_is_known_by_its_first_mail() {
    let secret = InstallationSecret::new([7; 32]);
    let mut mail = case(Outcome::Ignored, Vec::new()).mail;
    mail.references = (0..1_000).map(|n| format!("{n}@y")).collect();
    let (case, facts) = answer(mail, true);
    let ids = case.committing().needs().conversation.unwrap().message_ids;
    assert_eq!(ids.len(), CONVERSATION_IDS + 2);
    assert!(ids.contains(&"0@y".to_owned()) && ids.contains(&"999@y".to_owned()));
    let effects = effects(case.committing(), &secret, facts);
    assert_eq!(mails(&effects).len(), 0);
    assert_eq!(effects.refused[0], (0, ANSWERED.to_owned()));
}
