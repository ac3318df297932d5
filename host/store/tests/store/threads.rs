//! The search for a mail's ticket: the evidence in order, who may write, closed tickets, and mail of shared mailboxes.

use std::collections::BTreeMap;
use std::sync::Arc;

use postroom_core::reply_token::{claimed_tokens, signed_text};
use postroom_core::{
    Client, ClientEvidence, OutgoingMail, ReopenPolicy, StepResult, ThreadMethod, ThreadQuery,
    ThreadStep, parse,
};
use postroom_store::{JournalBatch, OutboxKind, RoundRobin, Store};

use crate::kit::*;

const ANN: Option<&str> = Some("ann@acme.example");

fn within(default_ms: i64) -> ReopenPolicy {
    ReopenPolicy {
        default_ms,
        queues: BTreeMap::from([("billing".to_owned(), 5)]),
    }
}

/// Opens T-1 with a reply, and returns that mail.
async fn answered(store: &Arc<dyn Store>) -> OutgoingMail {
    let mut opened = ticket(journal_one(store, "a").await, "a");
    conclusion(&mut opened)
        .decision
        .actions
        .push(reply("We have it as {ticket}"));
    store.commit(vec![opened]).await.unwrap();
    let sent = store.due_outbox(OutboxKind::Mail, "out", i64::MAX, 1, RoundRobin::default());
    serde_json::from_str(&sent.await.unwrap().remove(0).payload).unwrap()
}

/// Returns the query of a mail with this text, as the line makes it.
fn query_of(mail: &str) -> ThreadQuery {
    let mail = bytes::Bytes::copy_from_slice(mail.as_bytes());
    let mail = parse(&mail, &Default::default(), &[]);
    ThreadQuery {
        tokens: claimed_tokens(&mail),
        ..query(&[], &mail.subject, ANN)
    }
}

fn steps(store: &Arc<dyn Store>, tenant: &str, query: &ThreadQuery) -> Vec<ThreadStep> {
    let found = store
        .listings()
        .thread(tenant, query, &within(i64::MAX), NOON_MS);
    found.unwrap().steps
}

#[tokio::test]
async fn a_signed_token_finds_the_ticket_without_any_reference() {
    let (_dir, store) = store();
    let sent = answered(&store).await;
    let token = sent.reply_token.as_deref().expect("a token");
    let text = signed_text(&sent.text, token).replace('\n', "\r\n> ");
    let quoted = format!("Subject: new\r\n\r\nStill\r\n> {text}");
    let found = thread_of(&store, "acme", &query_of(&quoted)).unwrap();
    assert_eq!(
        (found.ticket.as_str(), found.method),
        ("T-1", ThreadMethod::ReplyToken)
    );
    assert!(found.authorised);
    // It proves nothing about somebody who does not take part.
    let eve = ThreadQuery {
        sender: Some("eve@evil.example".into()),
        ..query_of(&quoted)
    };
    assert!(!thread_of(&store, "acme", &eve).unwrap().authorised);

    let forged = quoted.replace(token, "t-1-000000000000000000000000");
    let steps = steps(&store, "acme", &query_of(&forged));
    assert_eq!(steps[0].result, StepResult::Forged);
    assert_eq!(thread_of(&store, "acme", &query_of(&forged)), None);
    assert_eq!(thread_of(&store, "bolt", &query_of(&quoted)), None);
}

#[tokio::test]
async fn stronger_evidence_comes_first_and_each_step_is_recorded() {
    let (_dir, store) = store();
    let sent = answered(&store).await;
    assert_eq!(open_ticket(&store, "b").await, "T-2");
    let both = ThreadQuery {
        bounced: Some("unknown@x".into()),
        ..query(&["b@x", &sent.message_id], "[T-2]", ANN)
    };
    let found = thread_of(&store, "acme", &both).unwrap();
    assert_eq!(
        (found.ticket.as_str(), found.method),
        ("T-1", ThreadMethod::OwnMessageId)
    );

    let bounce = ThreadQuery {
        bounced: Some(sent.message_id.clone()),
        ..query(&[], "Undelivered", Some("mailer-daemon@mx.example"))
    };
    let found = thread_of(&store, "acme", &bounce).unwrap();
    assert_eq!(
        (found.ticket.as_str(), found.method),
        ("T-1", ThreadMethod::Bounce)
    );
    assert!(found.authorised);

    let weak = ThreadQuery {
        bounced: Some("unknown@x".into()),
        ..query(&["?@x", "!@x"], "[T-9] #2", ANN)
    };
    let told: Vec<_> = steps(&store, "acme", &weak)
        .into_iter()
        .map(|step| {
            (
                step.method.name(),
                step.evidence,
                step.result.name(),
                step.ticket,
            )
        })
        .collect();
    let step = |method, evidence: &str, result, ticket: Option<&str>| {
        (
            method,
            evidence.to_owned(),
            result,
            ticket.map(str::to_owned),
        )
    };
    assert_eq!(
        told,
        [
            step("own-message-id", "2 Message-IDs", "unknown", None),
            step("bounce", "unknown@x", "unknown", None),
            step("message-id", "2 Message-IDs", "unknown", None),
            step("subject", "T-9", "unknown", None),
            step("subject", "T-2", "found", Some("T-2")),
        ]
    );
}

/// Pain 15 of mail intake: customer B writes into A's ticket.
#[tokio::test]
async fn pain_15_no_evidence_lets_an_outsider_into_a_ticket() {
    let (_dir, store) = store();
    let sent = answered(&store).await;
    for sender in [Some("eve@evil.example"), Some("b@globex.example"), None] {
        for query in [
            query(&[&sent.message_id], "", sender),
            query(&["a@x"], "", sender),
            query(&[], "[T-1]", sender),
        ] {
            let found = thread_of(&store, "acme", &query).unwrap();
            assert!(!found.authorised, "{query:?}");
            let steps = steps(&store, "acme", &query);
            let outsider = steps.iter().find(|it| it.ticket.as_deref() == Some("T-1"));
            assert_eq!(outsider.map(|it| it.result), Some(StepResult::Outsider));
        }
    }
    // A ticket that the sender may write to is preferred to one that they guess.
    assert_eq!(open_ticket(&store, "b").await, "T-2");
    let mut other = ticket(journal_one(&store, "c").await, "c");
    other.mail.from = Some(address("eve@evil.example"));
    other.mail.participants = Vec::new();
    store.commit(vec![other]).await.unwrap();
    let found = query(&["a@x"], "[T-2] [T-3]", Some("eve@evil.example"));
    let found = thread_of(&store, "acme", &found).unwrap();
    assert_eq!((found.ticket.as_str(), found.authorised), ("T-3", true));
}

#[tokio::test]
async fn a_number_of_another_system_finds_the_ticket_that_it_came_with() {
    let (_dir, store) = store();
    let mut opened = ticket(journal_one(&store, "a").await, "a");
    opened.mail.foreign_numbers = vec!["INC0012345".into()];
    conclusion(&mut opened).decision.provenance.client = Some(Client {
        name: "acme".into(),
        sure: true,
        evidence: ClientEvidence::Domain,
        candidates: vec!["acme".into()],
    });
    store.commit(vec![opened]).await.unwrap();
    // A stranger's ticket with the same number is not found by it.
    let mut strangers = ticket(journal_one(&store, "eve").await, "eve");
    strangers.mail.foreign_numbers = vec!["INC0012345".into()];
    store.commit(vec![strangers]).await.unwrap();
    let of = |number: &str, sender| ThreadQuery {
        foreign_numbers: vec![number.to_owned()],
        ..query(&[], "", sender)
    };
    let found = thread_of(&store, "acme", &of("INC0012345", ANN)).unwrap();
    assert_eq!(
        (found.ticket.as_str(), found.method),
        ("T-1", ThreadMethod::ForeignNumber)
    );
    let eve = thread_of(&store, "acme", &of("INC0012345", Some("eve@evil.example")));
    assert!(!eve.unwrap().authorised);
    assert_eq!(thread_of(&store, "acme", &of("INC0099999", ANN)), None);
    assert_eq!(thread_of(&store, "bolt", &of("INC0012345", ANN)), None);
    // A note brings its number along.
    let mut noted = note(journal_one(&store, "b").await, "b", "T-1", true);
    noted.mail.foreign_numbers = vec!["CHG7".into()];
    store.commit(vec![noted]).await.unwrap();
    assert!(thread_of(&store, "acme", &of("CHG7", ANN)).is_some());
}

/// Journals the mails of a shared mailbox as the tenant's for whom nothing is known.
async fn shared(store: &Arc<dyn Store>, names: &[&str]) -> Vec<postroom_store::Journalled> {
    let mails = names.iter().map(|name| mail(name)).collect();
    let batch = JournalBatch {
        tenant: "triage".into(),
        mailbox: "shared".into(),
        shared: true,
        ..batch(mails)
    };
    store.journal(batch).await.unwrap()
}

#[tokio::test]
async fn a_mail_of_a_shared_mailbox_is_the_tenants_that_it_is_attributed_to() {
    let (_dir, store) = store();
    let journalled = shared(&store, &["a", "b"]).await;
    let ids: Vec<_> = journalled.iter().map(|it| it.id()).collect();
    let of = vec![(ids[0], "acme".to_owned()), (ids[1], "globex".to_owned())];
    store.attribute(of).await.unwrap();
    store
        .commit(vec![ticket(ids[0], "a"), ticket(ids[1], "b")])
        .await
        .unwrap();
    let listings = store.listings();
    let decisions = listings.decisions(&Default::default()).unwrap();
    let tenants: Vec<_> = decisions.map(|it| it.unwrap().tenant).collect();
    assert_eq!(tenants, ["acme", "globex"]);
    assert!(listings.ticket_exists("acme", "T-1").unwrap());
    assert!(!listings.ticket_exists("globex", "T-1").unwrap());
    // It is recognised when it is fetched again, and a decided mail moves to nobody else.
    assert!(!shared(&store, &["a"]).await[0].is_new());
    store
        .attribute(vec![(ids[0], "globex".to_owned())])
        .await
        .unwrap();
    let decided = listings
        .decision(postroom_store::DecisionId(ids[0].0))
        .unwrap();
    assert_eq!(decided.unwrap().tenant, "acme");
}

#[tokio::test]
async fn a_participant_finds_the_tenant_of_their_ticket_and_a_stranger_does_not() {
    let (_dir, store) = store();
    let id = shared(&store, &["a"]).await[0].id();
    store
        .attribute(vec![(id, "acme".to_owned())])
        .await
        .unwrap();
    let mut opened = ticket(id, "a");
    conclusion(&mut opened)
        .decision
        .actions
        .push(reply("We have it"));
    store.commit(vec![opened]).await.unwrap();
    let sent = store.due_outbox(OutboxKind::Mail, "out", i64::MAX, 1, RoundRobin::default());
    let sent: OutgoingMail = serde_json::from_str(&sent.await.unwrap().remove(0).payload).unwrap();
    let tenant = |query: &ThreadQuery| {
        let found = store.listings().ticket_tenant(query, ThreadMethod::ALL);
        found.unwrap()
    };
    let token = sent.reply_token.expect("a token");
    let quoted = query_of(&format!("Subject: x\r\n\r\n> [{token}]"));
    for sender in ["bob@partner.example", "tom@msp.example", "eve@evil.example"] {
        let is_staff = sender.starts_with("tom");
        let is_known = !sender.starts_with("eve");
        for found in [
            query(&["a@x"], "", None),
            query(&[&sent.message_id], "", None),
            query(&[], "[T-1]", None),
            quoted.clone(),
        ] {
            let found = ThreadQuery {
                sender: Some(sender.into()),
                is_staff,
                ..found
            };
            let expected = is_known.then(|| "acme".to_owned());
            assert_eq!(tenant(&found), expected, "{found:?}");
        }
    }
    let bounce = ThreadQuery {
        bounced: Some(sent.message_id),
        ..ThreadQuery::default()
    };
    assert_eq!(tenant(&bounce).as_deref(), Some("acme"));
}
