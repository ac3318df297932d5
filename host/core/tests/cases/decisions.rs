//! Completion of decisions: dispositions, filled-in fields, refusals, limits.

use bytes::Bytes;
use postroom_core::decision::Trouble;
use postroom_core::{
    Action, ActionKind, ActionKinds, Classification, Completed, Context, DecisionLimits,
    InvalidDecision, Message, Note, Outcome, ReplyPolicy, Thread, Ticket, complete, fallback,
};
use serde_json::{Value, json};

use crate::parse;

const OWN: &str = "support@acme.example";

fn mail(headers: &str) -> Message {
    parse(&Bytes::from(format!(
        "{headers}Subject: Printer\r\nMessage-ID: <1@b.example>\r\n\r\nIt jams.\r\n\r\n-- \r\nAnna\r\n"
    )))
}

fn from_anna() -> Message {
    mail("From: Anna <anna@b.example>\r\n")
}

fn context(thread: Option<&str>) -> Context {
    Context {
        tenant: "acme".to_owned(),
        mailbox: "acme-support".to_owned(),
        thread: thread.map(|ticket| Thread {
            ticket: ticket.to_owned(),
            method: postroom_core::ThreadMethod::Subject,
            authorised: true,
        }),
        now: "2024-03-04T09:15:00.000Z".to_owned(),
        ..Context::default()
    }
}

/// Returns actions as a rule would write them.
fn asked(json: Value) -> Vec<Action> {
    serde_json::from_value(json).expect("actions")
}

fn decide(
    actions: Value,
    mail: &Message,
    thread: Option<&str>,
) -> Result<Completed, InvalidDecision> {
    complete(
        asked(actions),
        mail,
        &context(thread),
        &ReplyPolicy {
            own_addresses: &[OWN.to_owned()],
            has_outgoing: true,
            granted: ActionKinds::ALL,
            limits: &DecisionLimits::default(),
        },
    )
}

#[test]
fn a_ticket_is_filled_in_from_the_mail() {
    let done = decide(
        json!([{"kind": "ticket", "title": " "}]),
        &from_anna(),
        None,
    )
    .expect("sense");
    assert_eq!(done.outcome, Outcome::Ticket);
    let expected = Ticket {
        title: Some("Printer".to_owned()),
        body: Some("It jams.".to_owned()),
        requester: Some("anna@b.example".to_owned()),
        ..Ticket::default()
    };
    assert_eq!(done.actions, [Action::Ticket(expected)]);

    let given = json!([{"kind": "ticket", "title": "T", "body": "", "requester": "x@y"}]);
    let done = decide(given.clone(), &from_anna(), None).expect("sense");
    assert_eq!(done.actions, asked(given));

    let bare = parse(&Bytes::from_static(b""));
    let done = decide(json!([{"kind": "ticket"}]), &bare, None).expect("sense");
    let Action::Ticket(ticket) = &done.actions[0] else {
        panic!("{:?}", done.actions);
    };
    assert_eq!(
        (ticket.title.as_deref(), ticket.requester.as_deref()),
        (Some("(no subject)"), None)
    );
}

#[test]
fn a_note_goes_to_the_named_ticket_or_the_thread() {
    for (note, thread, expected) in [
        (json!({"kind": "note"}), Some("T-12"), "T-12"),
        (
            json!({"kind": "note", "ticket": "T-3"}),
            Some("T-12"),
            "T-3",
        ),
        (json!({"kind": "note", "ticket": "T-3"}), None, "T-3"),
    ] {
        let done = decide(json!([note]), &from_anna(), thread).expect("sense");
        let expected = Note {
            ticket: Some(expected.to_owned()),
            body: Some("It jams.".to_owned()),
            ..Note::default()
        };
        assert_eq!(done.actions, [Action::Note(expected)]);
    }
}

#[test]
fn nonsense_is_told_apart() {
    let cases = [
        (json!([]), InvalidDecision::Empty),
        (
            json!([{"kind": "note"}]),
            InvalidDecision::NoteWithoutTicket,
        ),
        (
            json!([{"kind": "ticket"}, {"kind": "note", "ticket": "T-1"}]),
            InvalidDecision::Mixed {
                first: "ticket",
                second: "note",
            },
        ),
        (
            json!([{"kind": "ignore", "reason": "a"}, {"kind": "quarantine", "reason": "b"}]),
            InvalidDecision::Mixed {
                first: "ignore",
                second: "quarantine",
            },
        ),
        (
            json!([{"kind": "ignore", "reason": "a"}, {"kind": "ignore", "reason": "b"}]),
            InvalidDecision::Twice("ignore"),
        ),
        (
            json!([{"kind": "alert", "key": " ", "state": "firing"}]),
            InvalidDecision::EmptyKey("an alert"),
        ),
        (
            json!([{"kind": "alert", "key": "k".repeat(256), "state": "firing"}]),
            InvalidDecision::LongKey {
                kind: "an alert",
                most: 255,
            },
        ),
        (
            json!([{"kind": "expect", "key": "", "within_secs": 5}]),
            InvalidDecision::EmptyKey("an expectation"),
        ),
        (
            json!([{"kind": "expect", "key": "k", "within_secs": 0}]),
            InvalidDecision::ExpectAtOnce,
        ),
        (
            Value::Array(vec![json!({"kind": "ticket"}); 51]),
            InvalidDecision::TooMany {
                found: 51,
                most: 50,
            },
        ),
    ];
    for (actions, expected) in cases {
        assert_eq!(
            decide(actions.clone(), &from_anna(), None),
            Err(expected),
            "{actions}"
        );
    }
}

#[test]
fn several_of_one_kind_and_side_actions_ride_along() {
    let alerts = json!([
        {"kind": "alert", "key": "a", "state": "firing", "summary": "x"},
        {"kind": "alert", "key": "b", "state": "resolved", "summary": "y"},
        {"kind": "expect", "key": "k", "within_secs": 86400},
        {"kind": "reply", "text": "thanks"},
        {"kind": "forward", "to": ["boss@b.example"]},
        {"kind": "custom", "name": "pager", "payload": {"a": 1}},
    ]);
    let done = decide(alerts.clone(), &from_anna(), None).expect("sense");
    assert_eq!(done.outcome, Outcome::Alert);
    assert_eq!(done.actions, asked(alerts));

    let done = decide(
        json!([{"kind": "expect", "key": "k", "within_secs": 1}]),
        &from_anna(),
        None,
    )
    .expect("sense");
    assert_eq!(done.outcome, Outcome::Ignored);
    assert_eq!(
        done.actions,
        asked(
            json!([{"kind": "ignore", "reason": "handled"}, {"kind": "expect", "key": "k", "within_secs": 1}])
        )
    );
}

#[test]
fn answers_against_good_manners_are_refused() {
    let reply = json!([{"kind": "ticket"}, {"kind": "reply", "text": "We got it."}]);
    let refused = |mail: &Message| {
        let done = decide(reply.clone(), mail, None).expect("sense");
        assert_eq!(done.outcome, Outcome::Ticket);
        done.refused
            .into_iter()
            .next()
            .map(|refusal| refusal.reason)
    };
    assert_eq!(refused(&from_anna()), None);
    assert_eq!(
        refused(&mail("From: a@b.example\r\nAuto-Submitted: no\r\n")),
        None
    );
    for (headers, words) in [
        ("", "no readable sender"),
        (
            "From: a@b.example\r\nAuto-Submitted: auto-replied\r\n",
            "an automatic reply",
        ),
        (
            "From: a@b.example\r\nPrecedence: bulk\r\n",
            "list or bulk mail",
        ),
        ("From: a@b.example\r\nList-Id: <x>\r\n", "list or bulk mail"),
        ("From: no-reply@b.example\r\n", "a machine's mail"),
        ("From: mailer-daemon@b.example\r\n", "a bounce"),
        (
            "Return-Path: <>\r\nFrom: a@b.example\r\n",
            "an automatic reply",
        ),
        (
            "From: a@b.example\r\nX-Precedence: auto_reply\r\nSubject: verify#1\r\n",
            "an automatic reply",
        ),
        (
            "From: a@b.example\r\nX-Postroom-Loop: 1\r\n",
            "passed through Postroom",
        ),
        (
            "From: Support <SUPPORT@acme.example>\r\n",
            "our own addresses",
        ),
        (
            "From: a@b.example\r\nReply-To: support@ACME.example\r\n",
            "our own addresses",
        ),
    ] {
        let reason = refused(&mail(headers)).unwrap_or_else(|| panic!("{headers:?} was answered"));
        assert!(reason.contains(words), "{headers:?}: {reason}");
    }
    let calendar = Message {
        classification: Classification::Calendar,
        ..from_anna()
    };
    let reason = refused(&calendar).expect("a calendar's mail is not answered");
    assert!(reason.contains("a calendar's mail"), "{reason}");
    for (to, words) in [
        (json!([]), "needs a recipient"),
        (json!(["Support@acme.example"]), "our own addresses"),
        (
            json!(["boss@b.example", "not an address"]),
            "not an address",
        ),
        (
            json!(["a@b.example\r\nBcc: all@b.example"]),
            "not an address",
        ),
        (Value::Array(vec![json!("a@b.example"); 21]), "more than 20"),
    ] {
        let done =
            decide(json!([{"kind": "forward", "to": to}]), &from_anna(), None).expect("sense");
        assert!(
            done.refused[0].reason.contains(words),
            "{}",
            done.refused[0].reason
        );
    }
    let mute = ReplyPolicy {
        own_addresses: &[],
        has_outgoing: false,
        granted: ActionKinds::ALL,
        limits: &DecisionLimits::default(),
    };
    let done = complete(asked(reply), &from_anna(), &context(None), &mute).expect("sense");
    assert!(done.refused[0].reason.contains("no outgoing configured"));
}

#[test]
fn what_is_not_granted_is_refused_by_name_and_never_costs_the_mail() {
    let decide = |actions: Value, granted: &[ActionKind]| {
        complete(
            asked(actions),
            &from_anna(),
            &context(None),
            &ReplyPolicy {
                own_addresses: &[],
                has_outgoing: true,
                granted: granted.iter().copied().collect(),
                limits: &DecisionLimits::default(),
            },
        )
    };
    let both = json!([{"kind": "ticket"}, {"kind": "forward", "to": ["boss@b.example"]}]);
    let done = decide(both.clone(), &[ActionKind::Ticket]).expect("sense");
    assert_eq!((done.outcome, done.actions.len()), (Outcome::Ticket, 1));
    assert_eq!(
        done.refused[0].reason,
        "forward is not granted to tenant acme"
    );
    let all = decide(both.clone(), &ActionKind::ALL).expect("sense");
    assert_eq!((all.actions.len(), all.refused.len()), (2, 0));

    // Without its disposition nothing would account for the mail.
    for (actions, granted, kind) in [
        (both, ActionKind::Forward, "ticket"),
        (
            json!([{"kind": "forward", "to": ["boss@b.example"]}]),
            ActionKind::Ticket,
            "forward",
        ),
        (
            json!([{"kind": "ignore", "reason": "spam"}]),
            ActionKind::Ticket,
            "ignore",
        ),
    ] {
        let refused = decide(actions, &[granted]).expect_err("nothing is left");
        assert_eq!(refused.kind().name(), "not-granted");
        assert_eq!(
            refused.to_string(),
            format!("{kind} is not granted to tenant acme")
        );
    }
}

#[test]
fn what_is_too_long_is_cut_and_noted() {
    let mut fields = serde_json::Map::new();
    for n in 0..120 {
        fields.insert(format!("f{n:03}"), json!(n));
    }
    let actions = json!([{
        "kind": "ticket", "title": "ä".repeat(300), "body": "ö".repeat(600_000), "queue": "q".repeat(400),
        "tags": vec!["t".repeat(101); 51], "fields": fields,
    }]);
    let done = decide(actions, &from_anna(), None).expect("sense");
    let Action::Ticket(ticket) = &done.actions[0] else {
        panic!("{:?}", done.actions);
    };
    assert_eq!(ticket.title.as_ref().map(|t| t.chars().count()), Some(255));
    assert_eq!(ticket.body.as_ref().map(String::len), Some(1024 * 1024));
    assert_eq!(ticket.queue.as_ref().map(String::len), Some(320));
    assert_eq!(
        (ticket.tags.len(), ticket.tags[0].len(), ticket.fields.len()),
        (50, 100, 100)
    );
    assert_eq!(done.repairs.len(), 6, "{:?}", done.repairs);

    let big = json!([{"kind": "alert", "key": "k", "state": "firing", "fields": {"a": "x".repeat(70_000), "b": [1]}}]);
    let done = decide(big, &from_anna(), None).expect("sense");
    assert_eq!(done.repairs, ["1 fields over the limits were left out"]);
    let lines = json!([{"kind": "ticket", "title": "one\r\ntwo"}]);
    let done = decide(lines, &from_anna(), None).expect("sense");
    assert!(matches!(&done.actions[0], Action::Ticket(t) if t.title.as_deref() == Some("one two")));
}

#[test]
fn fallback_makes_a_plain_ticket() {
    let limits = DecisionLimits::default();
    let plain = fallback(&from_anna(), &context(None), &[], &limits);
    assert_eq!(plain.outcome, Outcome::Ticket);
    assert!(
        matches!(&plain.actions[..], [Action::Ticket(t)] if t.tags.is_empty() && t.title.as_deref() == Some("Printer"))
    );
    let trouble = Trouble {
        rule: "acme.js".to_owned(),
        kind: postroom_core::TroubleKind::Trap,
        message: "unreachable".to_owned(),
        location: None,
    };
    let flagged = fallback(&from_anna(), &context(None), &[trouble], &limits);
    assert!(matches!(&flagged.actions[..], [Action::Ticket(t)] if t.tags == ["postroom-fallback"]));
}

#[test]
fn a_mail_that_goes_round_is_neither_answered_nor_forwarded() {
    let both = json!([
        {"kind": "ticket"}, {"kind": "reply", "text": "Thanks"}, {"kind": "forward", "to": ["boss@b.example"]},
    ]);
    let reasons = |headers: String| -> Vec<String> {
        let done = decide(both.clone(), &mail(&headers), None).expect("sense");
        done.refused.into_iter().map(|it| it.reason).collect()
    };
    let hops = |count: usize| {
        let received = "Received: from a.example by b.example; Mon, 4 Mar 2024 10:15:00 +0100\r\n";
        format!("{}From: a@b.example\r\n", received.repeat(count))
    };
    assert_eq!(reasons(hops(50)), [""; 0]);
    for reason in reasons(hops(51)) {
        assert_eq!(
            reason,
            "loop: the mail has 51 Received headers, more than 50"
        );
    }
    let looped = reasons("X-Postroom-Loop: 1\r\nFrom: a@b.example\r\n".to_owned());
    assert_eq!(looped.len(), 2, "{looped:?}");
    assert!(looped[0].contains("never answered") && looped[1].starts_with("loop: "));
}

#[test]
fn one_decision_writes_to_an_address_a_few_times_and_to_few_addresses() {
    let reply = json!({"kind": "reply", "text": "Thanks"});
    let mut actions = vec![reply; 5];
    actions.push(json!({"kind": "forward", "to": ["Anna@b.example"]}));
    let done = decide(actions.into(), &from_anna(), None).expect("sense");
    assert_eq!((done.actions.len(), done.refused.len()), (1 + 3, 3));
    for refusal in &done.refused {
        assert_eq!(
            refusal.reason,
            "more than 3 replies and forwards to one address"
        );
    }

    let forward = |n: usize| json!({"kind": "forward", "to": [format!("a{n}@b.example")]});
    let done = decide((0..25).map(forward).collect(), &from_anna(), None).expect("sense");
    assert_eq!((done.actions.len(), done.refused.len()), (1 + 20, 5));
    assert_eq!(done.refused[0].reason, "more than 20 recipients");
}

#[test]
fn a_change_goes_to_the_named_ticket_or_the_thread() {
    let mail = from_anna();
    for (action, ticket) in [
        (json!({"kind": "update", "priority": "high"}), "T-7"),
        (json!({"kind": "update", "ticket": "T-9"}), "T-9"),
        (json!({"kind": "close", "reason": "done"}), "T-7"),
        (json!({"kind": "close", "ticket": "T-9"}), "T-9"),
    ] {
        let done = decide(json!([action]), &mail, Some("T-7")).expect("a decision");
        assert_eq!(done.outcome, Outcome::Ignored);
        let found = match &done.actions[..] {
            [Action::Ignore { reason }, Action::Update(it)] if reason == "handled" => &it.ticket,
            [Action::Ignore { reason }, Action::Close(it)] if reason == "handled" => &it.ticket,
            other => panic!("{other:?}"),
        };
        assert_eq!(found.as_deref(), Some(ticket));
    }
    for kind in ["update", "close"] {
        let nonsense = decide(json!([{ "kind": kind }]), &mail, None).expect_err("no ticket");
        assert_eq!(nonsense, InvalidDecision::WithoutTicket(kind));
    }
}

/// A sender without authority changes nothing, however the rule names the ticket, and the mail is not lost.
#[test]
fn a_stranger_changes_no_ticket() {
    let mail = from_anna();
    let mut context = context(Some("T-7"));
    if let Some(thread) = &mut context.thread {
        thread.authorised = false;
    }
    let decide = |actions: Value| {
        let policy = ReplyPolicy {
            own_addresses: &[],
            has_outgoing: true,
            granted: ActionKinds::ALL,
            limits: &DecisionLimits::default(),
        };
        complete(asked(actions), &mail, &context, &policy)
    };
    for action in [
        json!({"kind": "close"}),
        json!({"kind": "close", "ticket": "T-7"}),
        json!({"kind": "update", "ticket": "T-7", "status": "pending"}),
    ] {
        // Alone, it hands the mail to the next rule.
        let error = decide(json!([action])).expect_err("no authority");
        assert!(
            matches!(error, InvalidDecision::Unauthorised { .. }),
            "{error}"
        );
        // Beside a ticket, it is refused.
        let done = decide(json!([{"kind": "ticket"}, action])).expect("a ticket");
        assert_eq!((done.actions.len(), done.refused.len()), (1, 1));
        let reason = "the sender has no authority over T-7";
        assert_eq!(done.refused[0].reason, reason);
    }
    // A ticket that the rule looked up.
    let done = decide(json!([{"kind": "close", "ticket": "T-9"}])).expect("a decision");
    assert!(done.refused.is_empty());
}

#[test]
fn a_status_is_one_of_three() {
    let mail = from_anna();
    for status in ["open", "pending", "closed"] {
        let done = decide(
            json!([{"kind": "update", "status": status}]),
            &mail,
            Some("T-7"),
        );
        assert!(done.expect("a decision").refused.is_empty());
    }
    let odd = json!([{"kind": "note"}, {"kind": "update", "status": "solved\n"}]);
    let done = decide(odd, &mail, Some("T-7")).expect("a note");
    assert_eq!(
        done.refused[0].reason,
        "\"solved\" is not a status: write one of open, pending, closed"
    );
}
