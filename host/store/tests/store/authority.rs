//! Replies, permissions and limits: old mail, brakes, participants.

use std::sync::Arc;

use postroom_core::{Action, AlertState, AutomaticLimits, Reply};
use postroom_store::{Filter, JournalId, NewMail, OutboxKind, RoundRobin, Store, Verdict};

use crate::kit::*;

async fn journal_old(store: &Arc<dyn Store>, name: &str) -> JournalId {
    let old = NewMail {
        old: true,
        ..mail(name)
    };
    store.journal(batch(vec![old])).await.unwrap()[0].id()
}

fn targets(store: &Arc<dyn Store>) -> Vec<String> {
    let rows = store.listings().outbox(&Filter::default()).unwrap();
    rows.map(|row| row.unwrap().target).collect()
}

#[tokio::test]
async fn old_mail_is_decided_and_listed_and_nothing_of_it_is_sent() {
    let (_dir, store) = store();
    let id = journal_old(&store, "old").await;
    let mut old = ticket(id, "old");
    conclusion(&mut old)
        .decision
        .actions
        .push(reply("We have it"));
    conclusion(&mut old).decision.actions.push(Action::Forward {
        to: vec!["boss@acme.example".into()],
    });
    let committed = store.commit(vec![old.clone()]).await.unwrap();
    assert_eq!(committed[0].tickets, ["T-1"]);
    assert!(targets(&store).is_empty());
    let row = store
        .listings()
        .decision(committed[0].decision_id)
        .unwrap()
        .unwrap();
    assert!(row.old);
    let reasons: Vec<_> = row.refused.iter().map(|it| it.reason.as_str()).collect();
    assert_eq!(reasons, ["old mail", "old mail"]);
    let items: Vec<_> = store
        .listings()
        .items(&Filter::default())
        .unwrap()
        .collect();
    assert!(items[0].as_ref().unwrap().old);

    // Its items go to the sinks if the mailbox asks for that, but it is never replied to.
    let mut delivered = Verdict {
        journal: journal_old(&store, "asked").await,
        ..old
    };
    outlets(&mut delivered).deliver_old = true;
    store.commit(vec![delivered]).await.unwrap();
    assert_eq!(targets(&store), ["psa", "chat"]);
}

#[tokio::test]
async fn an_alert_of_old_mail_does_not_change_one_of_today() {
    let (_dir, store) = store();
    let state = || {
        let mut items = store.listings().items(&Filter::default()).unwrap();
        let row = items.next().unwrap().unwrap();
        (row.state, row.count, row.old)
    };
    // Among themselves, old mails show how the alert ended.
    for (name, told) in [("o1", AlertState::Firing), ("o2", AlertState::Resolved)] {
        let id = journal_old(&store, name).await;
        store
            .commit(vec![alert(id, name, "disk", told)])
            .await
            .unwrap();
    }
    assert_eq!(state(), ("resolved".into(), Some(2), true));

    let id = journal_one(&store, "young").await;
    store
        .commit(vec![alert(id, "young", "disk", AlertState::Firing)])
        .await
        .unwrap();
    let id = journal_old(&store, "o3").await;
    let mut late = alert(id, "o3", "disk", AlertState::Resolved);
    outlets(&mut late).deliver_old = true;
    store.commit(vec![late]).await.unwrap();
    assert_eq!(state(), ("firing".into(), Some(4), false));
    assert_eq!(targets(&store), ["pager"]);
    let sink = store
        .due_outbox(
            OutboxKind::Sink,
            "pager",
            i64::MAX,
            9,
            RoundRobin::default(),
        )
        .await;
    assert!(sink.unwrap()[0].payload.contains("alert.firing"));
}

fn forward(to: &[&str]) -> Action {
    Action::Forward {
        to: to.iter().map(|to| to.to_string()).collect(),
    }
}

/// Opens a ticket with these side actions, under these limits. Returns the reasons of what was refused.
async fn opened(
    store: &Arc<dyn Store>,
    name: &str,
    from: &str,
    actions: Vec<Action>,
    automatic: AutomaticLimits,
) -> Vec<String> {
    let mut verdict = ticket(journal_one(store, name).await, name);
    verdict.mail.from = Some(address(from));
    conclusion(&mut verdict).decision.actions.extend(actions);
    outlets(&mut verdict).outgoing.as_mut().unwrap().automatic = automatic;
    let done = store.commit(vec![verdict]).await.unwrap().remove(0);
    assert_eq!(done.tickets.len(), 1, "the ticket is made all the same");
    let row = store
        .listings()
        .decision(done.decision_id)
        .unwrap()
        .unwrap();
    row.refused.into_iter().map(|it| it.reason).collect()
}

#[tokio::test]
async fn an_address_is_sent_so_many_automatic_mails_an_hour_and_no_more() {
    let (_dir, store) = store();
    let few = AutomaticLimits {
        per_address: 3,
        ..AutomaticLimits::default()
    };
    let mut refused = Vec::new();
    for n in 0..10 {
        let from = format!("Bot+{n}@acme.example");
        refused.extend(opened(&store, &format!("m{n}"), &from, vec![reply("Thanks")], few).await);
    }
    let reason =
        "3 automatic mails left for bot@acme.example within an hour (limits.automatic.per_address)";
    assert_eq!(refused, vec![reason; 7]);
    let mails = |store: &Arc<dyn Store>| {
        let all = targets(store);
        all.iter().filter(|target| *target == "out").count()
    };
    assert_eq!(mails(&store), 3);
    // A recipient that has reached the limit stops a forward to several; the others still receive mail as before.
    let both = forward(&["bot@acme.example", "boss@acme.example"]);
    assert_eq!(
        opened(&store, "f", "ann@acme.example", vec![both], few).await,
        [reason]
    );
    let ann = opened(&store, "a", "ann@acme.example", vec![reply("Thanks")], few).await;
    assert_eq!((ann.len(), mails(&store)), (0, 4));
}

#[tokio::test]
async fn a_ticket_and_a_tenant_are_sent_so_much_an_hour_and_no_more() {
    let (_dir, store) = store();
    let few = AutomaticLimits {
        per_ticket: 2,
        per_tenant: 5,
        ..AutomaticLimits::default()
    };
    let mut ends = Vec::new();
    for n in 0..3 {
        let forwards =
            (0..3).map(|to| forward(&[&format!("{n}.{to}@acme.example"), "all@acme.example"]));
        let name = format!("m{n}");
        ends.extend(opened(&store, &name, "ann@acme.example", forwards.collect(), few).await);
    }
    let reasons: Vec<_> = ends
        .iter()
        .map(|it| it.split(" left for ").last().unwrap())
        .collect();
    let ticket = |name: &str| format!("{name} within an hour (limits.automatic.per_ticket)");
    let tenant = "the tenant within an hour (limits.automatic.per_tenant)";
    assert_eq!(
        reasons,
        [ticket("T-1"), ticket("T-2"), tenant.into(), tenant.into()]
    );
    // Another tenant has its own limits.
    let other = postroom_store::JournalBatch {
        tenant: "bolt".into(),
        mailbox: "bolt".into(),
        ..batch(vec![mail("b")])
    };
    let id = store.journal(other).await.unwrap()[0].id();
    let mut verdict = ticket_with(id, reply("Thanks"));
    outlets(&mut verdict).outgoing.as_mut().unwrap().automatic = few;
    let done = store.commit(vec![verdict]).await.unwrap().remove(0);
    assert!(
        store
            .listings()
            .decision(done.decision_id)
            .unwrap()
            .unwrap()
            .refused
            .is_empty()
    );
}

fn ticket_with(id: JournalId, action: Action) -> Verdict {
    let mut verdict = ticket(id, "b");
    conclusion(&mut verdict).decision.actions.push(action);
    verdict
}

#[tokio::test]
async fn a_note_makes_nobody_a_participant_unless_the_requester_is_proven_to_have_written_it() {
    let (_dir, store) = store();
    assert_eq!(open_ticket(&store, "a").await, "T-1");
    let may = |email: &str| {
        let found = thread_of(&store, "acme", &query(&["a@x"], "", Some(email)));
        found.unwrap().authorised
    };
    // Everybody who was on the mail that opened it takes part.
    assert!(may("ann@acme.example") && may("bob@partner.example"));
    for (n, (from, confirmed, joins)) in [
        // A forged From cannot be told from a true one.
        ("Ann@acme.example", false, false),
        ("bob@partner.example", true, false),
        ("mallory@evil.example", true, false),
        ("Ann@acme.example", true, true),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("n{n}");
        let mut noted = note(journal_one(&store, &name).await, &name, "T-1", true);
        noted.mail.from = Some(address(from));
        noted.mail.participants = vec![from.into(), "eve@evil.example".into()];
        noted.mail.confirmed = confirmed;
        store.commit(vec![noted]).await.unwrap();
        assert_eq!(may("eve@evil.example"), joins, "{from} {confirmed}");
    }
}

#[tokio::test]
async fn whom_a_ticket_is_forwarded_to_takes_part_in_it() {
    let (_dir, store) = store();
    let none = AutomaticLimits::default();
    opened(
        &store,
        "a",
        "ann@acme.example",
        vec![forward(&["tech@msp.example"])],
        none,
    )
    .await;
    for (name, authorised, to) in [
        ("known", true, "second@msp.example"),
        ("stranger", false, "third@msp.example"),
    ] {
        let mut noted = note(journal_one(&store, name).await, name, "T-1", authorised);
        conclusion(&mut noted).decision.actions.push(forward(&[to]));
        store.commit(vec![noted]).await.unwrap();
    }
    let may = |email: &str| {
        let found = thread_of(&store, "acme", &query(&["a@x"], "", Some(email)));
        found.unwrap().authorised
    };
    assert!(may("tech@msp.example") && may("second@msp.example"));
    assert!(!may("third@msp.example"));
}

/// Commits a refused request with the answer that is sent once. Returns whether the answer is sent.
async fn declined(store: &Arc<dyn Store>, name: &str, from: &str, references: &[&str]) -> bool {
    let before = targets(store).len();
    let mut verdict = ignored(journal_one(store, name).await, name);
    verdict.mail.from = Some(address(from));
    verdict.mail.references = references.iter().map(|it| (*it).to_owned()).collect();
    let actions = &mut conclusion(&mut verdict).decision.actions;
    actions.push(Action::Reply(Reply {
        text: "No requests here.".into(),
        html: None,
        once: true,
    }));
    store.commit(vec![verdict]).await.unwrap();
    targets(store).len() > before
}

#[tokio::test]
async fn a_person_gets_an_answer_once_in_a_conversation() {
    let (_dir, store) = store();
    let (ann, bob) = ("ann@acme.example", "bob@acme.example");
    assert!(declined(&store, "first", ann, &[]).await);
    let sent = store
        .due_outbox(OutboxKind::Mail, "out", i64::MAX, 9, RoundRobin::default())
        .await
        .unwrap();
    let sent: postroom_core::OutgoingMail = serde_json::from_str(&sent[0].payload).unwrap();
    let first = "first@x".to_owned();
    // An answer to the answer, with and without the first mail, in other spellings of the person.
    assert!(!declined(&store, "again", ann, &[&sent.message_id]).await);
    assert!(!declined(&store, "once more", "Ann+x@Acme.example", &[&first]).await);
    assert!(
        !declined(
            &store,
            "later",
            ann,
            &["unknown@x", &sent.message_id, &first]
        )
        .await
    );
    // Another person, and another conversation.
    assert!(declined(&store, "bob", bob, &[&first]).await);
    assert!(declined(&store, "second", ann, &[]).await);
}
