//! The client and the ticket of a mail: shared mailboxes, technicians, outsiders, spoofed senders.

use postroom_e2e::{Room, mail_from};
use postroom_stand::Stand;
use serde_json::Value;

const CLIENTS: &str = r#"data_dir = "data"

[staff]
domains = ["msp.example"]

[tenants.triage]

[tenants.acme]
domains = ["acme.example", "both.example"]
contacts = "acme.csv"
rules = ["rules/acme.js"]
grants = ["kv"]
settings = { "rules/acme.js" = { queue = "acme-desk" } }

[tenants.globex]
domains = ["globex.example", "both.example"]
addresses = ["solo@gmail.com"]
rules = ["rules/globex.js"]
grants = ["kv"]

[mailboxes.support]
tenant = { by = "sender", otherwise = "triage" }
protocol = "spool"
path = "spool"
rules = ["rules/common.js", "tenant", "standard"]
"#;

/// Counts the mails of its client, and gives tickets that number.
const COMMON: &str = r#"export function decide(mail, ctx) {
  if (mail.subject === "spam") return ignore("spam");
}
"#;
const ACME: &str = r#"export function decide(mail, ctx) {
  const count = Number(ctx.kv.get("count") ?? "0") + 1;
  ctx.kv.set("count", String(count));
  if (ctx.thread?.authorised) return;
  return ticket({ title: `acme ${count}: ${mail.subject}`, queue: ctx.settings.queue });
}
"#;
const GLOBEX: &str = r#"export function decide(mail, ctx) {
  const count = Number(ctx.kv.get("count") ?? "0") + 1;
  ctx.kv.set("count", String(count));
  if (ctx.thread?.authorised) return;
  return ticket({ title: `globex ${count}: ${mail.subject}` });
}
"#;

/// Returns a room with one mailbox for all clients, and `more` configuration.
fn shared(more: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("postroom.toml", format!("{CLIENTS}{more}"));
    room.write(
        "acme.csv",
        "email,name,aliases\nann@home.example,Ann,annie@home.example\n",
    );
    room.write("rules/common.js", COMMON);
    room.write("rules/acme.js", ACME);
    room.write("rules/globex.js", GLOBEX);
    room
}

/// Puts mails into the spool in the order in which they are decided, and decides them.
fn decide(room: &Room, mails: &[String]) {
    static FILES: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1000);
    for mail in mails {
        let number = FILES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        room.write(&format!("spool/{number}.eml"), mail);
    }
    room.once();
}

fn plain(from: &str, subject: &str) -> String {
    mail_from(from, subject, "Hello", "")
}

fn text<'v>(row: &'v Value, key: &str) -> &'v str {
    row[key].as_str().unwrap_or_default()
}

#[test]
fn a_shared_mailbox_decides_each_mail_as_its_clients() {
    let room = shared("");
    let mails = [
        ("dana@acme.example", "a1", "acme", "domain"),
        ("hank@globex.example", "g1", "globex", "domain"),
        ("ann@home.example", "a2", "acme", "contact"),
        ("annie@home.example", "a3", "acme", "alias"),
        ("solo+shop@gmail.com", "g2", "globex", "alias"),
        ("dana@lab.acme.example", "a4", "acme", "subdomain"),
        ("other@gmail.com", "t1", "triage", ""),
        ("who@both.example", "t2", "triage", "domain"),
        ("dana@acme.example", "spam", "acme", "domain"),
    ];
    let written: Vec<String> = mails
        .iter()
        .map(|(from, subject, ..)| plain(from, subject))
        .collect();
    decide(&room, &written);
    for (from, subject, tenant, evidence) in mails {
        let decision = room.decision(subject);
        assert_eq!(text(&decision, "tenant"), tenant, "{from}: {decision:#}");
        assert_eq!(text(&decision["client"], "evidence"), evidence, "{from}");
    }
    let unsure = &room.decision("t2")["client"];
    assert_eq!(unsure["sure"], false);
    assert_eq!(unsure["candidates"], serde_json::json!(["acme", "globex"]));
    // Rules, settings and `kv` are the client's.
    let items = room.items();
    let titles: Vec<_> = items
        .iter()
        .map(|it| (text(it, "tenant"), text(it, "title"), text(it, "queue")))
        .collect();
    for expected in [
        ("acme", "acme 1: a1", "acme-desk"),
        ("acme", "acme 4: a4", "acme-desk"),
        ("globex", "globex 2: g2", ""),
        ("triage", "t1", ""),
    ] {
        assert!(titles.contains(&expected), "{expected:?} in {titles:?}");
    }
    room.assert_balanced(9);

    // The same mail again is recognised, whichever client it went to.
    let again = written[1].clone();
    decide(&room, &[again, written[6].clone()]);
    assert_eq!(room.decisions().len(), 9);
    room.assert_balanced(9);

    // Replayed with the same rules, every mail is decided as it was.
    let replay = room.postroom(&["replay"]);
    assert!(replay.status.success(), "{}", postroom_e2e::both(&replay));
    let said = String::from_utf8_lossy(&replay.stdout).into_owned();
    assert!(said.contains('9'), "{said}");
    let replay = room.postroom(&["replay", "--tenant", "globex", "--json"]);
    assert!(replay.status.success(), "{}", postroom_e2e::both(&replay));
}

#[test]
fn mail_is_attributed_by_where_it_arrives() {
    let by = |by: &str| {
        let room = shared("");
        let config = CLIENTS
            .replace("by = \"sender\"", &format!("by = \"{by}\""))
            .replace(
                "protocol = \"spool\"",
                "protocol = \"spool\"\naddress = \"desk@msp.example\"",
            )
            .replace(
                "[tenants.acme]",
                "[tenants.acme]\nrecipients = [\"acme@msp.example\"]",
            );
        room.write("postroom.toml", config);
        room
    };
    let to = |to: &str, subject: &str| {
        let header = format!("To: {to}\r\n");
        plain("who@nowhere.example", subject).replace("To: support@acme.example\r\n", &header)
    };
    let room = by("recipient");
    decide(
        &room,
        &[to("acme@msp.example", "r1"), to("desk@msp.example", "r2")],
    );
    assert_eq!(text(&room.decision("r1"), "tenant"), "acme");
    assert_eq!(
        text(&room.decision("r1")["client"], "evidence"),
        "recipient"
    );
    assert_eq!(text(&room.decision("r2"), "tenant"), "triage");

    let room = by("plus-address");
    decide(
        &room,
        &[
            to("desk+globex@msp.example", "p1"),
            to("desk+nobody@msp.example", "p2"),
        ],
    );
    assert_eq!(text(&room.decision("p1"), "tenant"), "globex");
    assert_eq!(text(&room.decision("p2"), "tenant"), "triage");
}

/// Fault A13 of the first use: technicians are strangers.
#[test]
fn technicians_note_on_any_ticket_and_forward_for_clients() {
    let room = shared("");
    let first = mail_from(
        "dana@acme.example",
        "VPN",
        "No connection.",
        "Message-ID: <vpn@acme.example>\r\n",
    );
    let tom = mail_from(
        "tom@msp.example",
        "Re: VPN",
        "Restart it.",
        "In-Reply-To: <vpn@acme.example>\r\nCc: dana@acme.example\r\n",
    );
    // In one batch: the answer is attributed after the mail that it answers is committed.
    decide(&room, &[first, tom]);
    let noted = room.decision("Re: VPN");
    assert_eq!(text(&noted, "tenant"), "acme", "{noted:#}");
    assert_eq!(text(&noted, "outcome"), "note");
    assert_eq!(noted["staff"], true);
    assert_eq!(text(&noted["client"], "evidence"), "ticket");

    let inner = plain("hank@globex.example", "Printer");
    let forwarded = format!(
        "From: tom@msp.example\r\nTo: support@msp.example\r\nSubject: FW: Printer\r\nMessage-ID: <fw@msp.example>\r\n\
         MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n\
         --b\r\nContent-Type: text/plain\r\n\r\nFor you.\r\n--b\r\nContent-Type: message/rfc822\r\n\r\n{inner}\r\n--b--\r\n"
    );
    decide(&room, &[forwarded]);
    let decision = room.decision("FW: Printer");
    assert_eq!(text(&decision, "tenant"), "globex", "{decision:#}");
    assert_eq!(text(&decision["requester"], "email"), "hank@globex.example");
    let items = room.items();
    let ticket = items
        .iter()
        .find(|it| text(it, "title").contains("FW: Printer"))
        .expect("a ticket");
    assert_eq!(text(ticket, "requester"), "hank@globex.example");
    // A technician's mail about nothing known stays with nobody.
    decide(&room, &[plain("tom@msp.example", "Lunch")]);
    assert_eq!(text(&room.decision("Lunch"), "tenant"), "triage");
}

/// Pain 15 of mail intake: customer B writes into A's ticket.
#[test]
fn pain_15_no_outsider_writes_into_a_clients_ticket() {
    let room = shared(
        "\n[mailboxes.acme]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"acme\"\nrules = [\"rules/careless.js\"]\n",
    );
    room.write(
        "rules/careless.js",
        "export function decide(mail, ctx) {\n  return ctx.thread ? note() : ticket();\n}\n",
    );
    let first = mail_from(
        "dana@acme.example",
        "VPN",
        "No connection.",
        "Message-ID: <vpn@acme.example>\r\n",
    );
    room.write("acme/1.eml", first);
    room.once();
    // Customer B, a stranger and a guess; the rule does not look whether the sender may write.
    let answer = "In-Reply-To: <vpn@acme.example>\r\n";
    for (number, (from, subject, headers)) in [
        ("hank@globex.example", "Re: VPN B", answer),
        ("eve@evil.example", "Re: VPN stranger", answer),
        ("eve@evil.example", "[T-1] guess", ""),
    ]
    .into_iter()
    .enumerate()
    {
        room.write(
            &format!("acme/{}.eml", number + 2),
            mail_from(from, subject, "Give me the password", headers),
        );
        room.once();
        let decision = room.decision(subject);
        assert_eq!(text(&decision, "outcome"), "ticket", "{decision:#}");
        assert_eq!(decision["actions"][0]["related"], "T-1", "{decision:#}");
        let steps = decision["steps"].as_array().expect("steps");
        assert!(
            steps.iter().any(|it| it["result"] == "outsider"),
            "{decision:#}"
        );
    }
    let items = room.items();
    assert!(items.iter().all(|it| it["kind"] == "ticket"), "{items:#?}");
    assert_eq!(items.iter().filter(|it| it["related"] == "T-1").count(), 3);
    // In the shared mailbox, customer B's mail is customer B's.
    decide(
        &room,
        &[mail_from(
            "hank@globex.example",
            "Re: VPN shared",
            "…",
            answer,
        )],
    );
    assert_eq!(text(&room.decision("Re: VPN shared"), "tenant"), "globex");
    // Somebody who takes part is on the ticket, from any address that it knows.
    room.write(
        "acme/9.eml",
        mail_from("dana@acme.example", "Re: VPN mine", "…", answer),
    );
    room.once();
    assert_eq!(text(&room.decision("Re: VPN mine"), "outcome"), "note");
}

/// Pain 16 of mail intake: notifications loop through a second mailbox.
#[test]
fn pain_16_our_own_mail_in_a_second_mailbox_is_never_answered() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let more = format!(
        "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it as {{ticket}}.\"\n\n[mailboxes.second]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"second\"\naddress = \"second.{}\"\naliases = [\"alias.{0}\"]\noutgoing = \"out\"\n",
        room.user
    );
    room.write("postroom.toml", room.config(&["standard"], &more));
    let person = format!("ines.{}", room.user);
    room.deliver(mail_from(&person, "Laptop", "Please", ""));
    room.once();
    let sent = room.sent();
    assert_eq!(sent.len(), 1, "one acknowledgement");
    // The acknowledgement arrives in the second mailbox; so do mails from each of our own addresses, one without our mark.
    room.write("second/1.eml", &sent[0].data);
    for (number, from) in [
        room.user.clone(),
        format!("second.{}", room.user),
        format!("ALIAS.{}", room.user),
    ]
    .iter()
    .enumerate()
    {
        room.write(
            &format!("second/{}.eml", number + 2),
            mail_from(from, &format!("own {number}"), "Hi", ""),
        );
    }
    room.once();
    assert_eq!(room.decisions().len(), 5);
    assert_eq!(room.sent().len(), 1, "nothing else was sent");
}

/// Pain 20 of mail intake: a spoofed From becomes the customer.
#[test]
fn pain_20_a_spoofed_sender_is_not_the_client() {
    let room = shared("");
    let config = CLIENTS
        .replace(
            "[staff]",
            "[authentication]\ntrusted = [\"mx.msp.example\"]\n\n[staff]",
        )
        .replace(
            "[tenants.acme]",
            "[tenants.acme]\nunverified = \"quarantine\"",
        )
        .replace(
            "[tenants.globex]",
            "[tenants.globex]\nunverified = \"new-ticket\"",
        );
    room.write("postroom.toml", config);
    let verdict = |dmarc: &str| {
        format!("Authentication-Results: mx.msp.example; spf=pass; dmarc={dmarc}\r\n")
    };
    let write =
        |from: &str, subject: &str, headers: &str| mail_from(from, subject, "Hello", headers);
    let pass = verdict("pass");
    decide(
        &room,
        &[
            write(
                "dana@acme.example",
                "VPN",
                &format!("{pass}Message-ID: <vpn@acme.example>\r\n"),
            ),
            write(
                "hank@globex.example",
                "Fax",
                &format!("{pass}Message-ID: <fax@globex.example>\r\n"),
            ),
        ],
    );
    let answer = "In-Reply-To: <vpn@acme.example>\r\n";
    let to_fax = "In-Reply-To: <fax@globex.example>\r\n";
    decide(
        &room,
        &[
            // A forged verdict of another server counts for nothing.
            write(
                "dana@acme.example",
                "unproven",
                &format!("Authentication-Results: mx.evil.example; dmarc=pass\r\n{answer}"),
            ),
            write(
                "dana@acme.example",
                "forged",
                &format!("{}{answer}", verdict("fail")),
            ),
            write("dana@acme.example", "proven", &format!("{pass}{answer}")),
            write(
                "tom@msp.example",
                "staff forged",
                &format!("{}{answer}", verdict("fail")),
            ),
            write("hank@globex.example", "unproven globex", to_fax),
            write("hank@globex.example", "new unproven", ""),
        ],
    );
    let outcome = |subject: &str| {
        let decision = room.decision(subject);
        (
            text(&decision, "tenant").to_owned(),
            text(&decision, "outcome").to_owned(),
        )
    };
    let is = |tenant: &str, outcome: &str| (tenant.to_owned(), outcome.to_owned());
    assert_eq!(outcome("unproven"), is("acme", "quarantined"));
    assert_eq!(outcome("forged"), is("triage", "ticket"));
    assert_eq!(room.decision("forged")["client"]["sure"], false);
    assert_eq!(outcome("proven"), is("acme", "note"));
    assert_eq!(outcome("staff forged"), is("triage", "ticket"));
    assert_eq!(room.decision("staff forged")["staff"], Value::Null);
    assert_eq!(outcome("unproven globex"), is("globex", "ticket"));
    assert_eq!(
        room.decision("unproven globex")["actions"][0]["related"],
        "T-2"
    );
    // What is new writes to no ticket.
    assert_eq!(outcome("new unproven"), is("globex", "ticket"));
}

#[test]
fn an_answer_finds_its_ticket_by_the_signed_address_and_by_the_text() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let more = "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it.\"\n";
    let config = room.config(&["standard"], more);
    room.write(
        "postroom.toml",
        config.replace("[outgoing.out]", "[outgoing.out]\ntag_replies = true"),
    );
    let person = format!("ines.{}", room.user);
    room.deliver(mail_from(&person, "Laptop", "Please", ""));
    room.once();
    let sent = room.sent();
    let sent = String::from_utf8_lossy(&sent[0].data).into_owned();
    let token = sent
        .split('[')
        .find(|it| it.starts_with("t-1-"))
        .and_then(|it| it.split(']').next());
    let token = token.unwrap_or_else(|| panic!("{sent}"));
    let (local, domain) = room.user.split_once('@').unwrap();
    let address = format!("{local}+{token}@{domain}");
    assert!(sent.replace("\r\n ", " ").contains(&address), "{sent}");
    // A mailer that drops every reference.
    let tagged =
        mail_from(&person, "by address", "More", "").replace("support@acme.example", &address);
    room.deliver(tagged);
    room.deliver(mail_from(
        &person,
        "by text",
        &format!("More\r\n\r\n> We have it.\r\n> \r\n> [{token}]"),
        "",
    ));
    let forged = format!(
        "More\r\n\r\n> [{}]",
        token.replace(['0', '1', '2', '3'], "4")
    );
    room.deliver(mail_from(
        &person,
        "forged",
        &forged.replace("t-4-", "t-1-"),
        "",
    ));
    room.deliver(mail_from(
        "eve@evil.example",
        "stolen",
        &format!("> [{token}]"),
        "",
    ));
    room.once();
    for subject in ["by address", "by text"] {
        let decision = room.decision(subject);
        assert_eq!(text(&decision, "outcome"), "note", "{decision:#}");
        assert_eq!(text(&decision["thread"], "method"), "reply-token");
    }
    let forged = room.decision("forged");
    assert_eq!(text(&forged, "outcome"), "ticket");
    assert_eq!(forged["steps"][0]["result"], "forged");
    let stolen = room.decision("stolen");
    assert_eq!(
        (text(&stolen, "outcome"), &stolen["actions"][0]["related"]),
        ("ticket", &Value::from("T-1"))
    );
}

#[test]
fn a_number_of_another_system_in_the_subject_finds_the_ticket() {
    let room = shared("\n[threading]\npatterns = [\"INC\\\\d{7}\"]\n");
    decide(
        &room,
        &[
            plain("hank@globex.example", "INC0012345 Fax"),
            plain("hank@globex.example", "Update on inc0012345 INC0012345"),
            plain("dana@acme.example", "INC0012345 of acme"),
        ],
    );
    let update = room.decision("Update on inc0012345 INC0012345");
    assert_eq!(text(&update, "outcome"), "note", "{update:#}");
    assert_eq!(text(&update["thread"], "method"), "foreign-number");
    assert_eq!(
        text(&room.decision("INC0012345 of acme"), "outcome"),
        "ticket"
    );
}
