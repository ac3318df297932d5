//! Limits on automatic mail, and forged senders, who gain nothing lasting.

use postroom_e2e::{Room, both, mail, mail_from};
use postroom_stand::Stand;

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

fn set_up(room: &Room<'_>, more: &str) {
    let acknowledge =
        "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it: {ticket}.\"\n";
    let more = format!("{acknowledge}{more}");
    room.write("postroom.toml", room.config(&["standard"], &more));
}

#[test]
fn a_responder_without_any_mark_is_answered_so_often_and_no_more() {
    let room = Room::bare(stand());
    set_up(&room, "\n[limits.automatic]\nper_address = 3\n");
    for n in 0..8 {
        room.deliver(mail_from(
            "bot@acme.example",
            &format!("away {n}"),
            "I am away.",
            "",
        ));
    }
    let once = room.postroom(&["run", "--once"]);
    assert!(once.status.success(), "{}", both(&once));
    let items = room.items();
    assert_eq!(items.iter().filter(|it| it["kind"] == "ticket").count(), 8);
    assert_eq!(room.sent().len(), 3);
    let refused: Vec<_> = room
        .decisions()
        .into_iter()
        .filter_map(|it| Some(it["refused"].get(0)?["reason"].as_str()?.to_owned()))
        .collect();
    let reason =
        "3 automatic mails left for bot@acme.example within an hour (limits.automatic.per_address)";
    assert_eq!(refused, vec![reason; 5]);
    let told = both(&once).matches("automatic mail is refused").count();
    assert_eq!(told, 1, "{}", both(&once));

    // The count outlives the process.
    room.deliver(mail_from(
        "bot@acme.example",
        "away again",
        "I am away.",
        "",
    ));
    room.once();
    assert_eq!(room.sent().len(), 3);
    room.assert_balanced(9);
}

#[test]
fn a_mail_that_comes_back_by_an_alias_is_forwarded_once() {
    let room = Room::new(stand(), &["rules/on.js"]);
    room.write(
        "rules/on.js",
        "export function decide(mail) {\n  return [ignore(\"passed on\"), forward({ to: [\"alias@elsewhere.example\"] })];\n}\n",
    );
    room.deliver(mail("Round and round", "…"));
    room.once();
    let sent = room.sent();
    assert_eq!(sent.len(), 1);
    room.deliver(&sent[0].data);
    room.once();
    assert_eq!(room.sent().len(), 1);
    let back = room.decision("Fwd: Round and round");
    assert_eq!(
        back["refused"][0]["reason"],
        "loop: a mail that passed through Postroom is never forwarded"
    );
    room.assert_balanced(2);
}

#[test]
fn a_mail_of_an_alias_of_our_own_is_not_answered() {
    let room = Room::bare(stand());
    set_up(&room, "");
    let config = room.config(
        &["standard"],
        "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it: {ticket}.\"\n",
    );
    let aliases = "rules = [\"standard\"]\naliases = [\"help@acme.example\"]";
    room.write(
        "postroom.toml",
        config.replacen("rules = [\"standard\"]", aliases, 1),
    );
    // Another program sends it, which does not keep the header that marks our own mail.
    let subjects = ["by the alias", "by a tag of it", "by somebody else"];
    let senders = [
        "help@acme.example",
        "Help+desk@acme.example",
        "helper@acme.example",
    ];
    for (from, subject) in senders.iter().zip(subjects) {
        room.deliver(mail_from(from, subject, "We have it.", ""));
    }
    room.once();
    let sent = room.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, ["helper@acme.example"]);
    for subject in &subjects[..2] {
        assert_eq!(
            room.decision(subject)["refused"][0]["reason"],
            "the answer would go to one of our own addresses"
        );
    }
    room.assert_balanced(3);
}

/// Delivers a mail that opens Dana's ticket, a mail with her From, a Cc and these headers, and a mail that Eve of the Cc
/// sends under her own name. Returns whether each of the last two is authorised.
fn forged(room: &Room<'_>, headers: &str) -> [bool; 2] {
    room.deliver(mail("The printer", "It jams."));
    room.once();
    let cc = format!("{headers}Cc: eve@evil.example\r\n");
    room.deliver(mail_from(
        "dana@acme.example",
        "[T-1] forged",
        "Please add Eve.",
        &cc,
    ));
    room.once();
    room.deliver(mail_from("eve@evil.example", "[T-1] by Eve", "Hello.", ""));
    room.once();
    ["[T-1] forged", "[T-1] by Eve"].map(|subject| {
        let thread = &room.decision(subject)["thread"];
        assert_eq!(thread["ticket"], "T-1");
        thread["authorised"] == true
    })
}

#[test]
fn a_forged_from_lets_nobody_join_a_ticket() {
    let room = Room::bare(stand());
    set_up(&room, "");
    assert_eq!(forged(&room, ""), [true, false]);
}

#[test]
fn a_sender_whom_the_trusted_boundary_disowns_is_not_authorised() {
    const TRUSTED: &str = "\n[authentication]\ntrusted = [\"mx.example\"]\n";
    let room = Room::bare(stand());
    set_up(&room, TRUSTED);
    let fail = "Authentication-Results: mx.example; dmarc=fail header.from=acme.example\r\n";
    let deeper = "Received: by evil.example; Mon, 16 Nov 2026 09:05:00 +0000\r\nAuthentication-Results: mx.example; dmarc=pass\r\n";
    assert_eq!(forged(&room, &format!("{fail}{deeper}")), [false, false]);
    assert_eq!(room.decision("[T-1] forged")["outcome"], "ticket");

    // The mailbox's own list replaces the common one.
    let room = Room::bare(stand());
    set_up(&room, TRUSTED);
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    let own = "[mailboxes.support]\nauthentication = { trusted = [\"(none)\"] }\n";
    room.write(
        "postroom.toml",
        config.replace("[mailboxes.support]\n", own),
    );
    let nameless = "Authentication-Results: spf=pass (sender IP is 192.0.2.1);\r\n dmarc=fail action=none header.from=acme.example\r\n";
    assert_eq!(
        forged(&room, &format!("{nameless}{deeper}")),
        [false, false]
    );

    // If the requester is proven, the addressees of the note join.
    let room = Room::bare(stand());
    set_up(&room, TRUSTED);
    let pass = "Authentication-Results: mx.example; dmarc=pass header.from=acme.example\r\n";
    assert_eq!(forged(&room, pass), [true, true]);
}
