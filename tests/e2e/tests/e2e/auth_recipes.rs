//! Every recipe of `docs/recipes`: its configuration is a case, and runs with only the servers and the registration
//! changed.

use std::collections::BTreeSet;
use std::path::Path;

use postroom_e2e::grants::{ANSWERING, Person, sign_in};
use postroom_e2e::{Room, cases, mail_from, root};
use postroom_stand::{
    CLIENT_ID, CLIENT_SECRET, DELEGATED_CLIENT_ID, DELEGATED_CLIENT_SECRET, PASSWORD,
    PUBLIC_CLIENT_ID, Stand,
};
use toml::{Table, Value};

const MICROSOFT: &str = "https://login.microsoftonline.com";

fn name_of(path: &Path) -> String {
    path.file_stem()
        .expect("a name")
        .to_string_lossy()
        .into_owned()
}

fn recipe(name: &str) -> String {
    let file = root().join(format!("tests/cases/recipes/{name}/postroom.toml"));
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

#[test]
fn every_page_has_its_case_and_shows_it_as_it_is() {
    let pages: BTreeSet<String> = std::fs::read_dir(root().join("docs/recipes"))
        .expect("the recipes")
        .map(|entry| name_of(&entry.expect("an entry").path()))
        .collect();
    let cases: BTreeSet<String> = cases("tests/cases/recipes")
        .iter()
        .map(|case| name_of(case))
        .collect();
    assert_eq!(
        pages, cases,
        "a page without a case, or a case without a page"
    );
    for name in pages {
        let page = std::fs::read_to_string(root().join(format!("docs/recipes/{name}.md")));
        let page = page.expect("a page");
        let block = page
            .split_once("```toml\n")
            .and_then(|(_, rest)| rest.split_once("```"))
            .map(|(block, _)| block);
        assert_eq!(
            block,
            Some(recipe(&name).as_str()),
            "docs/recipes/{name}.md"
        );
    }
}

#[test]
fn kaseya_bms_carries_mail() {
    let (mut room, config) = swapped("kaseya-bms", PUBLIC_CLIENT_ID);
    room.set_env("SUPPORT_PASSWORD", PASSWORD);
    carries(&room, &config);
}

#[test]
fn webmethods_carries_mail_after_its_address_was_pasted() {
    let (mut room, config) = swapped("webmethods", DELEGATED_CLIENT_ID);
    room.set_env("WM_CLIENT_SECRET", DELEGATED_CLIENT_SECRET);
    let profile = &config["profiles"]["integration-server"];
    let redirect = profile["redirect_url"].as_str().expect("a redirect");
    let authority = room.stand.authority();
    authority
        .register_redirect(DELEGATED_CLIENT_ID, redirect)
        .expect("registering");
    sign_in(&room, "integration-server", Person::PastedUrl);
    carries(&room, &config);
}

#[test]
fn tririga_carries_mail() {
    let (mut room, config) = swapped("tririga", CLIENT_ID);
    room.set_env("TRIRIGA_SECRET", CLIENT_SECRET);
    carries(&room, &config);
}

#[test]
fn tririga_by_pop3_carries_mail() {
    let (mut room, config) = swapped("tririga-pop3", CLIENT_ID);
    room.set_env("TRIRIGA_SECRET", CLIENT_SECRET);
    carries(&room, &config);
}

#[test]
fn servicedesk_plus_carries_mail_and_one_mailbox_opens_no_tickets() {
    let (mut room, config) = swapped("servicedesk-plus", DELEGATED_CLIENT_ID);
    room.set_env("SDP_CLIENT_SECRET", DELEGATED_CLIENT_SECRET);
    let redirect = config["profiles"]["servicedesk"]["redirect_url"].as_str();
    let authority = room.stand.authority();
    authority
        .register_redirect(DELEGATED_CLIENT_ID, redirect.expect("a redirect"))
        .expect("registering");
    sign_in(&room, "servicedesk", Person::PastedUrl);
    let partners = config["mailboxes"]["partners"]["address"].as_str();
    let (partners, ews) = (partners.expect("an address"), room.stand.ews());
    ews.share(&room.user, partners);
    room.ok(&["mailbox", "test", "partners"]);
    for target in ["helpdesk-out", "partners-out"] {
        room.ok(&["target", "test", target]);
    }
    carries(&room, &config);

    let person = format!("dana.{}", room.user);
    let text = String::from_utf8_lossy(&room.sent()[0].data).into_owned();
    let line = text.lines().find(|line| line.starts_with("Message-ID: "));
    let reply = line
        .expect("a Message-ID")
        .replace("Message-ID", "In-Reply-To");
    let reply = mail_from(
        &person,
        "Re: from now on",
        "Still.",
        &format!("{reply}\r\n"),
    );
    ews.deliver(partners, reply.as_bytes());
    for subject in ["a new request", "another request"] {
        ews.deliver(partners, mail_from(&person, subject, "…", "").as_bytes());
    }
    room.once();
    assert_eq!(room.decision("Re: from now on")["outcome"], "note");
    for subject in ["a new request", "another request"] {
        assert_eq!(room.decision(subject)["outcome"], "ignored");
    }
    assert_eq!(ews.folder(partners, "Processed").len(), 3);
    let sent = ews.sent_from(partners);
    assert_eq!(sent.len(), 2, "{sent:#?}");
    let answer = String::from_utf8_lossy(&sent[0].mime).replace("=\r\n", "");
    assert!(
        answer.contains("we open no requests from this address"),
        "{answer}"
    );
    // The debug log of the other mailbox.
    let log = room.path().join("data/logs/helpdesk.log");
    assert!(log.exists(), "{}", log.display());
}

#[test]
fn pulseway_sends_notifications_by_graph() {
    let stand = Stand::shared().expect("the test stand");
    let mut room = Room::bare(stand);
    room.set_env("RMM_PASSWORD", PASSWORD);
    let mut config: Table = recipe("pulseway").parse().expect("a recipe");
    let ca = stand.ca_pem().display().to_string();
    config.insert(
        "tls".into(),
        Table::from_iter([("ca".into(), ca.into())]).into(),
    );
    for profile in tables(&mut config, "profiles") {
        let directory = profile["tenant"].as_str().expect("a directory").to_owned();
        profile.insert("client_id".into(), PUBLIC_CLIENT_ID.into());
        profile.insert("token_url".into(), stand.token_url(&directory).into());
    }
    for outgoing in tables(&mut config, "outgoing") {
        outgoing.insert("base_url".into(), stand.graph().base_url().into());
    }
    room.write("postroom.toml", toml::to_string(&config).expect("TOML"));
    room.ok(&["target", "test", "notifications"]);
    assert!(stand.graph().sent_from("rmm@acme.example").is_empty());
    room.write("report.csv", "disk,free\nC:,0\n");
    let subject = "Disk full on SRV-01";
    let to = ["--to", "ann@client.example", "--subject", subject];
    room.ok(&[&["send"][..], &to, &["--attach", "report.csv"]].concat());
    let sent = stand.graph().sent_from("rmm@acme.example");
    assert_eq!(sent.len(), 1);
    let text = String::from_utf8_lossy(&sent[0].mime).into_owned();
    for expected in [subject, "X-Postroom-Loop: 1", "report.csv"] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    // One permission is asked for, as in Pulseway.
    let scopes = room.token_requests();
    assert!(
        scopes
            .iter()
            .all(|it| !format!("{it:?}").contains("ReadWrite")),
        "{scopes:?}"
    );
}

/// Returns a room with the recipe's configuration on the stand's servers; its user is the recipe's mailbox.
fn swapped(name: &str, client_id: &str) -> (Room<'static>, Table) {
    let stand = Stand::shared().expect("the test stand");
    let mut room = Room::bare(stand);
    let mut config: Table = recipe(name).parse().expect("a recipe");
    let ports = stand.ports();
    let ca = stand.ca_pem().display().to_string();
    config.insert(
        "tls".into(),
        Table::from_iter([("ca".into(), ca.into())]).into(),
    );
    for profile in tables(&mut config, "profiles") {
        let directory = profile["tenant"].as_str().expect("a directory").to_owned();
        profile.insert("client_id".into(), client_id.into());
        let derived = format!("{MICROSOFT}/{directory}/oauth2/v2.0/token");
        profile.entry("token_url").or_insert(derived.into());
        for key in ["authorize_url", "token_url"] {
            if let Some(Value::String(url)) = profile.get_mut(key) {
                *url = url.replace(MICROSOFT, &stand.authority().issuer());
            }
        }
    }
    let serve = |table: &mut Table, port: u16, tls: &str| {
        table.insert("host".into(), "localhost".into());
        table.insert("port".into(), i64::from(port).into());
        table.insert("tls".into(), tls.into());
    };
    for mailbox in tables(&mut config, "mailboxes") {
        match mailbox["protocol"].as_str() {
            Some("ews") => {
                mailbox.insert("url".into(), stand.ews().url().into());
            }
            Some("pop3") => serve(mailbox, ports.pop3s, "implicit"),
            _ => serve(mailbox, ports.imaps, "implicit"),
        }
    }
    for outgoing in tables(&mut config, "outgoing") {
        if outgoing["protocol"].as_str() == Some("ews") {
            outgoing.insert("url".into(), stand.ews().url().into());
            continue;
        }
        serve(outgoing, ports.submission, "starttls");
        if let Some(alternate) = outgoing.get_mut("alternate_host") {
            *alternate = "127.0.0.1".into();
        }
    }
    let mailbox = tables(&mut config, "mailboxes").remove(0);
    room.user = mailbox["address"].as_str().expect("an address").into();
    let text = toml::to_string(&config).expect("TOML");
    room.write("postroom.toml", format!("{text}{ANSWERING}"));
    (room, config)
}

fn tables<'a>(config: &'a mut Table, section: &str) -> Vec<&'a mut Table> {
    let section = config.get_mut(section).and_then(Value::as_table_mut);
    let entries = section.expect("a section").iter_mut();
    entries.filter_map(|(_, it)| it.as_table_mut()).collect()
}

/// Checks that old mail stays, and that new mail becomes a ticket and is answered.
fn carries(room: &Room, config: &Table) {
    let person = format!("dana.{}", room.user);
    room.ok(&["check"]);
    room.deliver(mail_from(&person, "from before", "…", ""));
    room.once();
    assert_eq!(room.decisions().len(), 0);
    room.deliver(mail_from(&person, "from now on", "…", ""));
    room.once();
    assert_eq!(room.decision("from now on")["outcome"], "ticket");
    let sent = room.sent();
    assert_eq!(sent.len(), 1, "{sent:#?}");
    assert_eq!(sent[0].to, [person]);
    let (_, mailbox) = config["mailboxes"]
        .as_table()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    let after = mailbox["after"]["done"].as_str().unwrap();
    if after == "delete" {
        let kept = room.folder("INBOX");
        assert_eq!(kept.len(), 1);
        let text = String::from_utf8_lossy(&kept[0].bytes);
        assert!(text.contains("Subject: from before"), "{text}");
        return;
    }
    let folder = after.strip_prefix("move:").unwrap_or("INBOX");
    let kept = room.folder(folder);
    let done = kept.iter().find(|mail| {
        let text = String::from_utf8_lossy(&mail.bytes);
        text.contains("Subject: from now on")
    });
    assert!(done.is_some(), "not in {folder}");
}
