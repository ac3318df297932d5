//! Recorded mail as a replay reads it: which mails, in which order, and which data is kept of each.

use postroom_core::Outcome;
use postroom_store::{DecisionId, JournalBatch, KvRead, Selection};

use crate::kit::*;

#[tokio::test]
async fn recorded_mail_comes_with_all_that_led_to_its_decision() {
    let (_dir, store) = store();
    let mut ids = Vec::new();
    for (n, mailbox) in ["support", "support", "sales", "support"]
        .iter()
        .enumerate()
    {
        let mails = JournalBatch {
            mailbox: (*mailbox).into(),
            received_ms: NOON_MS + n as i64,
            ..batch(vec![mail(&format!("m{n}"))])
        };
        ids.push(store.journal(mails).await.unwrap()[0].id());
    }
    // The last one is not decided yet.
    for (n, id) in ids[..3].iter().enumerate() {
        let mut verdict = ticket(*id, &format!("m{n}"));
        conclusion(&mut verdict).kv_reads = vec![KvRead {
            rule: "rules/acme.js".into(),
            key: "seen".into(),
            value: Some(n.to_string()),
        }];
        store.commit(vec![verdict]).await.unwrap();
    }
    let found = |selection: Selection| -> Vec<i64> {
        let mails = store.listings().recorded(&selection).unwrap();
        let told = mails.remaining().unwrap();
        let found: Vec<i64> = mails.map(|mail| mail.unwrap().id.0).collect();
        assert_eq!(told, found.len() as u64, "{selection:?}");
        found
    };
    let all = [ids[0].0, ids[1].0, ids[2].0];
    assert_eq!(found(Selection::default()), all);
    let limited = |limit| Selection {
        limit: Some(limit),
        ..Selection::default()
    };
    assert_eq!(found(limited(2)), all[1..]);
    assert_eq!(found(limited(9)), all);
    assert!(found(limited(0)).is_empty());
    let since = Selection {
        since_ms: Some(NOON_MS + 1),
        ..Selection::default()
    };
    assert_eq!(found(since), all[1..]);
    let of = |names: &[&str], limit| Selection {
        mailboxes: Some(names.iter().map(|name| (*name).to_owned()).collect()),
        limit,
        ..Selection::default()
    };
    assert_eq!(found(of(&["support"], None)), all[..2]);
    assert_eq!(found(of(&["support"], Some(1))), all[1..2]);
    let newest = store
        .listings()
        .recorded(&Selection::default())
        .unwrap()
        .upto();
    assert_eq!(newest.0, all[2]);
    let upto = |id: i64, limit| Selection {
        upto: Some(DecisionId(id)),
        limit,
        ..Selection::default()
    };
    assert_eq!(found(upto(all[1], None)), all[..2]);
    assert_eq!(found(upto(all[1], Some(1))), all[1..2]);
    // Undecided mail is not returned either.
    assert_eq!(found(upto(ids[3].0, None)), all);
    assert_eq!(found(of(&["support", "sales"], None)), all);
    assert!(found(of(&["nobody"], Some(3))).is_empty());
    assert!(found(of(&[], None)).is_empty());

    let mut mails = store.listings().recorded(&limited(2)).unwrap();
    let first = mails.next().unwrap().unwrap();
    assert_eq!(
        (first.mailbox.as_str(), first.tenant.as_str()),
        ("support", "acme")
    );
    assert_eq!((first.received_ms, first.whole), (NOON_MS + 1, true));
    let evidence = store.listings().evidence(first.id).unwrap().unwrap();
    assert_eq!(evidence.raw.as_deref(), Some(&mail("m1").bytes[..]));
    let recorded = evidence.read(first.outcome).unwrap();
    let decided = ticket(ids[1], "m1").conclusion.decision.clone();
    assert_eq!(recorded.decision, decided);
    assert_eq!(recorded.subject, "About m1");
    assert_eq!(recorded.kv_reads[0].value.as_deref(), Some("1"));

    store.purge(NOON_MS + 2).await.unwrap();
    // Its deliveries are still waiting, which keeps the bytes.
    assert!(
        store
            .listings()
            .evidence(first.id)
            .unwrap()
            .unwrap()
            .raw
            .is_some()
    );
    assert!(
        store
            .listings()
            .evidence(DecisionId(ids[3].0))
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn mails_decided_meanwhile_are_not_part_of_a_replay() {
    let (_dir, store) = store();
    let first = journal_one(&store, "a").await;
    store.commit(vec![ignored(first, "a")]).await.unwrap();
    let mails = store.listings().recorded(&Selection::default()).unwrap();
    let second = journal_one(&store, "b").await;
    store.commit(vec![ignored(second, "b")]).await.unwrap();
    assert_eq!(mails.count(), 1);
    // When its bytes are purged, the decision is still there.
    store.purge(NOON_MS + 1).await.unwrap();
    let evidence = store
        .listings()
        .evidence(DecisionId(first.0))
        .unwrap()
        .unwrap();
    assert!(evidence.raw.is_none() && evidence.read(Outcome::Ignored).is_ok());
}

#[tokio::test]
async fn a_ticket_gives_the_texts_of_its_mails_and_answers_bounded() {
    let (_dir, store) = store();
    let earlier =
        |tenant: &str, ticket: &str| store.listings().earlier_texts(tenant, ticket).unwrap();
    let number = open_ticket(&store, "a").await;
    let answered = journal_one(&store, "answered").await;
    let mut verdict = note(answered, "answered", &number, true);
    let actions = &mut conclusion(&mut verdict).decision.actions;
    actions.push(reply("We look into it."));
    store.commit(vec![verdict]).await.unwrap();
    assert_eq!(
        earlier("acme", &number),
        ["It burns", "Still", "We look into it."]
    );
    assert!(earlier("bolt", &number).is_empty());
    assert!(earlier("acme", "T-99").is_empty());
    assert!(earlier("acme", "nonsense").is_empty());

    // The newest eight notes count, each up to 32 Ki characters.
    for n in 0..9 {
        let name = format!("n{n}");
        let id = journal_one(&store, &name).await;
        let mut verdict = note(id, &name, &number, true);
        if let postroom_core::Action::Note(note) = &mut conclusion(&mut verdict).decision.actions[0]
        {
            note.body = Some(format!("{n}{}", "ß".repeat(40_000)));
        }
        store.commit(vec![verdict]).await.unwrap();
    }
    let texts = earlier("acme", &number);
    let firsts: Vec<_> = texts.iter().map(|text| &text[..1]).collect();
    assert_eq!(firsts, ["I", "8", "7", "6", "5", "4", "3", "2", "1"]);
    assert!(
        texts[1..]
            .iter()
            .all(|text| text.chars().count() == 32 * 1024)
    );
}

#[tokio::test]
async fn a_shortened_reply_is_recorded() {
    let (_dir, store) = store();
    for (name, reply) in [("a", Some("Yes.".to_owned())), ("b", None)] {
        let id = journal_one(&store, name).await;
        let mut verdict = ignored(id, name);
        conclusion(&mut verdict).reply.clone_from(&reply);
        store.commit(vec![verdict]).await.unwrap();
        let evidence = store.listings().evidence(DecisionId(id.0)).unwrap();
        assert_eq!(
            evidence.unwrap().read(Outcome::Ignored).unwrap().reply,
            reply
        );
    }
}
